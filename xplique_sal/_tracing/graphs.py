"""Reading a traced graph: the functions that it calls, and the variables that it writes to."""

from __future__ import annotations

from collections.abc import Iterable
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
