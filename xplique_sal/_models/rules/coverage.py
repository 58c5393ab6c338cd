"""Finding the rectifiers and the smooth activations on the way through a traced graph."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import NamedTuple

import tensorflow as tf

from xplique_sal._tracing import graphs

#: The rectifiers that TensorFlow runs as one op, with their slope for positive inputs.
SLOPES = {"Relu": 1.0, "Relu6": 1.0, "LeakyRelu": 1.0, "Elu": 1.0, "Selu": 1.0507009873554805}

_SMOOTH = {
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Erf": "gelu",
    "Erfc": "gelu",
}
_COMPARISONS = ("Greater", "GreaterEqual")


class Found(NamedTuple):
    """What lies between an input and an output.

    Attributes
    ----------
    rectifiers
        The name of the op of each rectifier, also inside loops, branches and functions.
    smooth
        The names of smooth activations, each once.
    composite
        A rectifier that is put together from several ops, if there is one.
    compiled
        A compiled function with a rectifier inside, if there is one.
    """

    rectifiers: list[str]
    smooth: tuple[str, ...]
    composite: str | None
    compiled: str | None


def between(
    sources: Sequence[tf.Tensor],
    scores: tf.Tensor,
    explained: tf.Tensor,
    model_ops: Set[tuple[int, str]],
) -> Found:
    """Return what lies between `sources` and `scores`, of the ops of a model.

    Parameters
    ----------
    sources, scores
        Tensors of one graph.
    explained
        The model's output, of which the own activation does not count as smooth.
    model_ops
        The graph's id and the name of each op that counts.
    """
    graph = scores.graph
    on_the_way = _on_the_way(sources, scores)
    ops = [op for op in on_the_way if (id(graph), op.name) in model_ops]
    known = graphs.library(graph, ops)
    rectifiers: list[str] = []
    smooth: dict[str, None] = {}
    composite = compiled = None
    for op in ops:
        if op.type in SLOPES:
            rectifiers.append(op.name)
        composite = composite or _composite(op)
        if op.type in _SMOOTH and op.outputs[0] is not explained:
            smooth[_smooth_name(op)] = None
        for name in graphs.functions_called(op.node_def):
            for node, function in graphs.nodes(known, name, op.type):
                if node.op in SLOPES:
                    rectifiers.append(node.name)
                    compiled = compiled or function
                elif node.op in _SMOOTH:
                    smooth[_SMOOTH[node.op]] = None
    return Found(rectifiers, tuple(smooth), composite, compiled)


def is_gate(op: tf.Operation) -> bool:
    """Tell whether a ReLU6 is the gate of a hard sigmoid or hard swish: relu6(x + 3) / 6."""
    if op.type != "Relu6" or op.inputs[0].op.type not in ("AddV2", "Add", "BiasAdd"):
        return False
    if not any(_constant(tensor) == 3.0 for tensor in op.inputs[0].op.inputs):
        return False
    scales = {"Mul": 1.0 / 6.0, "RealDiv": 6.0}
    consumers = op.outputs[0].consumers()
    return bool(consumers) and all(
        consumer.type in scales
        and any(
            value is not None and abs(value - scales[consumer.type]) < 1e-3
            for value in map(_constant, consumer.inputs)
        )
        for consumer in consumers
        if "grad" not in consumer.type.lower() and not consumer.name.startswith("gradient")
    )


def _on_the_way(sources: Sequence[tf.Tensor], output: tf.Tensor) -> list[tf.Operation]:
    """Return the ops through which a gradient flows from `output` to `sources`."""
    reaches = {tensor.op.name: True for tensor in sources}
    order: list[tf.Operation] = []
    stack: list[tuple[tf.Operation, bool]] = [(output.op, False)]
    while stack:
        op, done = stack.pop()
        if done:
            reaches[op.name] = any(reaches.get(tensor.op.name) for tensor in _data(op))
            if reaches[op.name]:
                order.append(op)
        elif op.name not in reaches:
            reaches[op.name] = False
            stack.append((op, True))
            stack += [(tensor.op, False) for tensor in _data(op)]
    return order


def _data(op: tf.Operation) -> list[tf.Tensor]:
    """Return the inputs of an op to which a gradient flows."""
    if op.type == "StopGradient":
        return []
    return [
        tensor for tensor in op.inputs if tensor.dtype.is_floating or tensor.dtype == tf.variant
    ]


def _composite(op: tf.Operation) -> str | None:
    """Return the name of a rectifier that several ops make, if `op` is the last but one of it."""
    if op.type == "Relu":
        if any(map(_is_limit, op.outputs[0].consumers())):
            return f"a ReLU with a maximum at {op.name!r}"
        if _is_negated(op.inputs[0].op):
            scaled = [c for c in op.outputs[0].consumers() if c.type in ("Mul", "Neg")]
            last = [c.type for op_ in scaled for c in op_.outputs[0].consumers()]
            if {"Add", "AddV2", "Sub"} & set(last):
                return f"a ReLU with a negative slope at {op.name!r}"
    if op.type == "Maximum" and any(_constant(tensor) == 0.0 for tensor in op.inputs):
        return f"a maximum with zero at {op.name!r}"
    if op.type in ("Mul", "SelectV2", "Select"):
        for tensor in op.inputs:
            test = tensor.op.inputs[0].op if tensor.op.type == "Cast" else tensor.op
            if test.type in _COMPARISONS and any(test.inputs[0] is other for other in op.inputs):
                return f"a ReLU with a threshold at {op.name!r}"
            if op.type != "Mul" and tensor.op.type == "Elu":
                return f"an ELU with a slope at {op.name!r}"
    return None


def _is_limit(op: tf.Operation) -> bool:
    limits = op.type in ("Minimum", "ClipByValue")
    return limits and any(_constant(tensor) is not None for tensor in op.inputs)


def _is_negated(op: tf.Operation) -> bool:
    if op.type in ("Add", "AddV2") and any(_constant(tensor) is not None for tensor in op.inputs):
        return any(tensor.op.type == "Neg" for tensor in op.inputs)
    return bool(op.type == "Neg")


def _constant(tensor: tf.Tensor) -> float | None:
    """Return the value of a scalar constant, also behind a cast; ``None`` for anything else."""
    while tensor.op.type in ("Cast", "Identity"):
        tensor = tensor.op.inputs[0]
    value = tf.get_static_value(tensor)
    return float(value) if value is not None and value.size == 1 else None


def _smooth_name(op: tf.Operation) -> str:
    if "gelu" in op.name.lower():
        return "gelu"
    if op.type == "Sigmoid":
        # swish is x·σ(x), or x·σ(βx)
        inner = {op.inputs[0].name, *(tensor.name for tensor in op.inputs[0].op.inputs)}
        for consumer in op.outputs[0].consumers():
            if consumer.type == "Mul" and any(other.name in inner for other in consumer.inputs):
                return "swish"
    return _SMOOTH[op.type]
