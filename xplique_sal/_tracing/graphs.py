"""Reading a traced graph: the functions that it calls, and the variables that it writes to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from typing import Any

import tensorflow as tf

#: Ops that call a function which stays one, rather than being a part of the graph around it.
CALLS = ("PartitionedCall", "StatefulPartitionedCall")


def functions_called(node: Any) -> list[str]:
    """Return the functions that an op, or a node of a function, runs and differentiates."""
    return [
        function.name
        for name, attribute in node.attr.items()
        if name != "cond"
        for function in (attribute.func, *attribute.list.func)
        if function.name
    ]


def library(graph: Any, ops: Iterable[tf.Operation]) -> dict[str, Any]:
    """Return the functions of a graph by their names, if one of `ops` calls any."""
    if not any(functions_called(op.node_def) for op in ops):
        return {}  # it is not worth writing out
    functions = graph.as_graph_def().library.function
    return {function.signature.name: function for function in functions}


def nodes(
    known: dict[str, Any], name: str, caller: str, compiled: str | None = None
) -> Iterable[tuple[Any, str | None]]:
    """Yield the nodes of a function and of those that it calls.

    With each comes the name of the compiled function that it is in. Loops and branches are traced
    with the graph around them, and are none.

    Parameters
    ----------
    known
        The functions of the graph.
    name
        Which of them.
    caller
        The type of the op that calls it.
    compiled
        The compiled function that the caller is in.
    """
    if name not in known:
        return
    if caller in CALLS:
        compiled = compiled or name
    for node in known[name].node_def:
        yield node, compiled
        for function in functions_called(node):
            yield from nodes(known, function, node.op, compiled)


def nodes_called(op: tf.Operation) -> list[Any]:
    """Return the nodes of the functions that an op calls, and of those that they call."""
    known = library(op.graph, [op])
    called = functions_called(op.node_def)
    return [node for name in called for node, _ in nodes(known, name, op.type)]


def on_the_way(
    sources: Sequence[tf.Tensor], output: tf.Tensor, cut: Set[tuple[str, int]] = frozenset()
) -> list[tf.Operation]:
    """Return the ops through which a gradient flows from `output` to `sources`.

    None goes on to the inputs in `cut`, each an op's name and a position.
    """

    def followed(op: tf.Operation) -> list[tf.Tensor]:
        flowing = {id(tensor) for tensor in gradient_inputs(op)}
        inputs = enumerate(op.inputs)
        return [t for n, t in inputs if id(t) in flowing and (op.name, n) not in cut]

    reaches = {tensor.op.name: True for tensor in sources}
    order: list[tf.Operation] = []
    stack: list[tuple[tf.Operation, bool]] = [(output.op, False)]
    while stack:
        op, done = stack.pop()
        if done:
            reaches[op.name] = any(reaches.get(tensor.op.name) for tensor in followed(op))
            if reaches[op.name]:
                order.append(op)
        elif op.name not in reaches:
            reaches[op.name] = False
            stack.append((op, True))
            stack += [(tensor.op, False) for tensor in followed(op)]
    return order


def cuts(source: tf.Tensor, output: tf.Tensor) -> set[tf.Operation]:
    """Return the ops that every way of a gradient from `output` to `source` goes through.

    In an order in which each op comes after those that it needs, these are the ops that no
    connection between two others passes over.
    """
    order = on_the_way([source], output)
    position = {op: number for number, op in enumerate(order)}
    found = set()
    furthest = max((position[user] for user in source.consumers() if user in position), default=-1)
    for number, op in enumerate(order):
        if furthest <= number:
            found.add(op)
        users = [user for tensor in op.outputs for user in tensor.consumers()]
        furthest = max([furthest, *(position[user] for user in users if user in position)])
    return found


def gradient_inputs(op: tf.Operation) -> list[tf.Tensor]:
    """Return the inputs of an op to which a gradient flows."""
    if op.type in ("StopGradient", "ZerosLike", "OnesLike"):
        return []
    return [
        tensor for tensor in op.inputs if tensor.dtype.is_floating or tensor.dtype == tf.variant
    ]


#: Ops that read a resource without changing it.
_READERS = frozenset(
    {"ReadVariableOp", "ResourceGather", "ResourceGatherNd", "VariableShape", "VarIsInitializedOp"}
    | {"LookupTableFindV2", "LookupTableSizeV2", "Identity", "Placeholder"}
)


def written_resources(graph: Any) -> list[tf.Tensor]:
    """Return the captured resources (variables, tables) that a traced graph may change.

    Every op that takes a resource and is not known to only read it counts as changing it, also
    inside the functions that the graph calls.
    """
    captures = {
        inner.op.name: outer for outer, inner in graph.captures if inner.dtype == tf.resource
    }
    if not captures:
        return []
    definition = graph.as_graph_def()
    library = {function.signature.name: function for function in definition.library.function}
    names = list(captures)
    written = _written_arguments(definition.node, names, library, {})
    return [captures[names[position]] for position in sorted(written)]


def _written_arguments(
    nodes: Iterable[Any], arguments: list[str], library: dict[str, Any], known: dict[str, set[int]]
) -> set[int]:
    position = {name: index for index, name in enumerate(arguments)}
    written = set()
    for node in nodes:
        sources = [name.split(":")[0] for name in node.input if not name.startswith("^")]
        if node.op == "Identity" and sources and sources[0] in position:
            position[node.name] = position[sources[0]]
        touched = {index: position[name] for index, name in enumerate(sources) if name in position}
        if not touched:
            continue
        called = [
            function.name
            for attribute in node.attr.values()
            for function in (attribute.func, *attribute.list.func)
            if function.name in library
        ]
        if node.op in library:
            called.append(node.op)
        # The first input of a conditional is its predicate, not an argument of its branches.
        offset = 1 if node.op in ("If", "StatelessIf", "Case", "StatelessCase") else 0
        for name in called:
            if name not in known:
                known[name] = set()
                function = library[name]
                inner = [argument.name for argument in function.signature.input_arg]
                known[name] = _written_arguments(function.node_def, inner, library, known)
            written |= {
                touched[index + offset] for index in known[name] if index + offset in touched
            }
        if not called and node.op not in _READERS:
            written |= set(touched.values())
    return written


def resources_behind(graph: Any) -> list[tf.Tensor]:
    """Return the captured resources (variables, tables) that the outputs of a graph depend on.

    One that is read for what nobody uses, as the seed of a dropout that is off, is none of them.
    """
    captures = {
        inner.op.name: outer for outer, inner in graph.captures if inner.dtype == tf.resource
    }
    definition = graph.as_graph_def()
    library = {function.signature.name: function for function in definition.library.function}
    names = list(captures)
    wanted = [output.name for output in graph.outputs if output is not None]
    behind = _arguments_behind(wanted, definition.node, names, library)
    return [captures[names[position]] for position in sorted(behind)]


def _arguments_behind(
    wanted: Iterable[str], nodes: Iterable[Any], arguments: list[str], library: dict[str, Any]
) -> set[int]:
    """Return the positions of the arguments that some tensors of a function depend on."""
    position = {name: index for index, name in enumerate(arguments)}
    by_name = {node.name: node for node in nodes}
    found: set[int] = set()
    seen: set[str] = set()
    waiting = list(wanted)
    while waiting:
        tensor = waiting.pop()
        name = tensor.partition(":")[0]
        if tensor in seen:
            continue
        seen.add(tensor)
        if name in position:
            found.add(position[name])
            continue
        node = by_name[name]
        inputs = [source for source in node.input if not source.startswith("^")]
        number = tensor.rpartition(":")[2]
        output = int(number) if number.isdigit() else 0
        waiting += [inputs[place] for place in _inputs_behind(node, len(inputs), output, library)]
    return found


def _inputs_behind(node: Any, count: int, output: int, library: dict[str, Any]) -> set[int]:
    """Return the positions of the inputs of an op that one of its outputs depends on."""

    def behind(attribute: str, outputs: set[int]) -> set[int]:
        function = library[node.attr[attribute].func.name]
        wanted = [function.ret[function.signature.output_arg[place].name] for place in outputs]
        arguments = [argument.name for argument in function.signature.input_arg]
        return _arguments_behind(wanted, function.node_def, arguments, library)

    if node.op in CALLS:
        return behind("f", {output})
    if node.op in ("If", "StatelessIf"):
        branches = behind("then_branch", {output}) | behind("else_branch", {output})
        return {0} | {place + 1 for place in branches}
    if node.op in ("While", "StatelessWhile"):
        needed, before = behind("cond", {0}) | {output}, set[int]()
        while needed != before:
            before = needed
            needed = needed | behind("body", needed)
        return needed
    return set(range(count))


def bytes_per_sample() -> int:
    """Return the size of all tensors of the graph that is being traced, for one sample.

    Of what a sample needs that is a bound, because not all of them are there at the same time.
    Tensors inside the loops and branches of the graph are not counted.
    """
    total = 0
    for op in tf.compat.v1.get_default_graph().get_operations():
        for tensor in op.outputs:
            shape = tensor.shape
            if shape.rank and shape[0] is None:
                numbers = 1
                for size in shape[1:]:
                    numbers *= size or 1
                total += numbers * tensor.dtype.size
    return total
