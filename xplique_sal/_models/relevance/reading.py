"""What belongs to a linear step of a traced graph, and what is known of its input."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from xplique_sal._models.rules.operations import (
    BILINEAR,
    CONVOLUTIONS,
    MAXIMA,
    MEANS,
    MOVES,
    SOFTMAXES,
    SUMS,
)
from xplique_sal._models.rules.rule_set import Surroundings

_NOT_NEGATIVE = frozenset(
    {"Relu", "Relu6", "Sigmoid", "Softmax", "Exp", "Square", "Abs", "Softplus", "Sqrt", "Rsqrt"}
)


def active_inputs(op: tf.Operation, around: Surroundings) -> list[int]:
    """Return the positions of an operation's inputs that are activations."""
    return [number for number, tensor in enumerate(op.inputs) if around.depends(tensor)]


def is_linear(op: tf.Operation, around: Surroundings) -> bool:
    """Tell whether an operation is a product of an activation and a weight, summed."""
    if op.type not in BILINEAR or len(op.inputs) <= max(BILINEAR[op.type]):
        return False
    return len(active_inputs(op, around)) == 1


def kind(op: tf.Operation) -> str:
    """Return ``"convolution"`` or ``"dense"``."""
    return "convolution" if op.type in CONVOLUTIONS else "dense"


def is_first(op: tf.Operation, around: Surroundings, of_its_kind: bool = False) -> bool:
    """Tell whether there is no linear step, or none of its kind, between it and the sources.

    Of what runs in a loop, none is the first.
    """
    name = f"first {kind(op)}" if of_its_kind else "first"
    known: dict[str, bool] = around.kept.setdefault(name, {})
    if not known:
        behind: dict[str, bool] = {}
        for each in around.order:
            before = any(behind.get(tensor.op.name, False) for tensor in each.inputs)
            counts = is_linear(each, around) and (not of_its_kind or kind(each) == kind(op))
            known[each.name] = counts and not before
            behind[each.name] = before or counts
    return op.graph is around.order[-1].graph and known.get(op.name, False)


def is_not_negative(tensor: tf.Tensor, around: Surroundings) -> bool:
    """Tell whether it is known of a tensor that no value of it is negative."""
    known: dict[tuple[int, str], bool] = around.kept.setdefault("not negative", {})
    key = (id(tensor.graph), tensor.name)
    if key not in known:
        known[key] = False  # in a loop
        known[key] = _is_not_negative(tensor, around)
    return known[key]


def _is_not_negative(tensor: tf.Tensor, around: Surroundings) -> bool:
    op = tensor.op
    if op.type in _NOT_NEGATIVE:
        return True
    floats = [given for given in op.inputs if given.dtype.is_floating]
    if not floats:
        value = tf.get_static_value(tensor)
        return value is not None and value.dtype.kind == "f" and bool((value >= 0).all())
    each = (is_not_negative(given, around) for given in floats)
    if op.type == "Maximum":
        return any(each)
    is_monotone = op.type in MOVES | MEANS | MAXIMA | {"Add", "AddV2", "AddN", "BiasAdd"}
    return (is_monotone or op.type in ("Mul", "RealDiv")) and all(each)


def from_source(tensor: tf.Tensor, around: Surroundings) -> list[tf.Operation] | None:
    """Return what moves, scales and shifts a source to make a tensor; ``None`` if more is done."""
    chain: list[tf.Operation] = []
    names = around.kept.setdefault("names", {op.name for op in around.order})
    while tensor.op.name in names:
        op, active = tensor.op, active_inputs(tensor.op, around)
        if len(active) != 1 or op.type not in MOVES | SUMS | {"Mul", "RealDiv"}:
            return None
        chain.append(op)
        tensor = op.inputs[active[0]]
    return chain[::-1] if tensor.graph is around.order[-1].graph else None


def prepares_input(op: tf.Operation, around: Surroundings) -> bool:
    """Tell whether a constant, one for each channel at most, is added to what is only prepared."""
    if from_source(op.outputs[0], around) is None:
        return False
    constants = [tensor for tensor in op.inputs if not around.depends(tensor)]
    sizes = [size for tensor in constants for size in tensor.shape.as_list()]
    return sum(size != 1 for size in sizes) <= 1


def is_part_of_an_activation(op: tf.Operation, around: Surroundings) -> bool:
    """Tell whether what is added is one number for all values, as in a hard sigmoid."""
    constants = [tensor for tensor in op.inputs if not around.depends(tensor)]
    is_number = all(tensor.shape.num_elements() == 1 for tensor in constants)
    return is_number and not around.is_normalization(op)


def gate_rank(tensor: tf.Tensor, around: Surroundings) -> int:
    """Return how much a factor is a gate: 0 if it is none.

    What is bounded, up to constants, is a gate for what is not; a sigmoid is one for a tanh. What
    is divided by a standard deviation is multiplied by its inverse: a gate for anything.
    """
    limits = set()
    while True:
        op = tensor.op
        if op.type in ("Rsqrt", "Reciprocal"):
            return 3
        if op.type in {"Sigmoid", *SOFTMAXES}:
            return 2
        if op.type in ("Tanh", "Erf", "Erfc", "Softsign"):
            return 1
        active = active_inputs(op, around)
        if op.type in ("Relu6", "ClipByValue") and op.inputs[0].op.type in SUMS:
            return 2  # a hard sigmoid
        if op.type in ("Maximum", "Minimum"):
            limits.add(op.type)
        if len(limits) == 2:
            return 2
        passed = op.type in MOVES | SUMS | limits or op.type in ("Mul", "RealDiv", "Neg")
        if not passed or len(active) != 1:
            return 0
        tensor = op.inputs[active[0]]


def again(op: tf.Operation, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
    """Run an operation with other inputs, also of another precision."""
    attributes = {name: attr for name, attr in op.node_def.attr.items() if name[0] != "_"}
    given = iter(inputs)
    for argument in op.op_def.input_arg:
        count = op.get_attr(argument.number_attr) if argument.number_attr else 1
        tensors = [next(given) for _ in range(count)]
        if argument.type_attr and tensors:
            dtype = tensors[0].dtype.as_datatype_enum
            attributes[argument.type_attr] = tf.compat.v1.AttrValue(type=dtype)
    graph = tf.compat.v1.get_default_graph()
    return graph.create_op(op.type, list(inputs), attrs=attributes).outputs[0]


def replaced(op: tf.Operation, tensor: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """Run an operation with a value in the place of one of its inputs."""
    return again(op, [value if given is tensor else given for given in op.inputs])
