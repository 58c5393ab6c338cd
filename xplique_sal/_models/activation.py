"""The softmax or sigmoid at the end of a model: which it is, and the logits before it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from xplique_sal._tracing.graphs import nodes_called
from xplique_sal.errors import InvalidParameterError

_ACTIVATIONS = frozenset({"Softmax", "LogSoftmax", "Sigmoid"})
#: Ops that put values elsewhere or into another precision, with the name of their data input.
_MOVES = {
    **dict.fromkeys(("Identity", "StopGradient", "EnsureShape", "Squeeze", "ExpandDims"), "input"),
    **dict.fromkeys(("StridedSlice", "Slice"), "input"),
    **dict.fromkeys(("Cast", "Transpose"), "x"),
    "Reshape": "tensor",
    "GatherV2": "params",
}
#: Ops that put tensors together, with the name of their data inputs.
_JOINS = {"Pack": "values", "ConcatV2": "values"}
#: Ops whose output is an affine or pooling function of all their data inputs.
_LINEAR = frozenset(
    {"MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum", "Conv2D", "Conv3D"}
    | {"DepthwiseConv2dNative", "Conv2DBackpropInput", "Conv3DBackpropInputV2"}
)
_PASSED = frozenset(
    {"BiasAdd", "Add", "AddV2", "AddN", "Sub", "Neg", "Mul", "RealDiv", "ConcatV2", "Pack"}
    | {"Mean", "Sum", "Max", "AvgPool", "MaxPool", "Pad", "PadV2", "StridedSlice", "Slice"}
    | {"GatherV2", "Split", "SplitV", "Unpack", "FusedBatchNormV3", "FusedBatchNorm"}
    | {"ResizeBilinear", "ResizeNearestNeighbor", "SpaceToBatchND", "BatchToSpaceND"}
)
_SOURCES = frozenset({"Const", "ReadVariableOp", "Placeholder", "VarHandleOp"})
_LOGARITHMS = frozenset({"Log", "Log1p", "Xlogy"})


def final_activation(output: tf.Tensor) -> str | None:
    """Return the type of the softmax, sigmoid or log-softmax that made `output`, if one did.

    Ops that only move values may stand between, also such as put the steps of a sequence together.
    """
    if output.op.type in _ACTIVATIONS:
        return str(output.op.type)
    kinds = set(map(final_activation, _moved(output.op)))
    return kinds.pop() if len(kinds) == 1 else None


def before_final_activation(output: tf.Tensor, has_layers: bool = True) -> tf.Tensor:
    """Return the logits of `output`: its value as if the final activation had not been applied.

    The ops that moved values after the activation are applied to its input instead.

    Parameters
    ----------
    output
        What a model returns.
    has_layers
        Whether the model has layers that a user can name.

    Raises
    ------
    InvalidParameterError
        If there is no such activation and `output` is not the output of a linear op either.
    """
    if final_activation(output) is not None:
        return _without_activation(output)
    hidden = _nonlinear_origin(output)
    if hidden is None:
        return output
    logarithm = (
        "explain the logarithm of the output, which does not saturate at small probabilities: "
        "logits=False and, for class 1, operator=lambda f, x, y: tf.math.log(f(x)[:, 1])."
    )
    if hidden in _ACTIVATIONS:
        actual = f"one that computes its output from that of the op {hidden!r}, as a mean does"
        remedy = f"There is no score before several of them: {logarithm}"
    else:
        actual = f"one whose output the op {hidden!r} makes, in which none of them can be told"
        remedy = f"E{logarithm[1:]}"
        if has_layers:
            remedy = f"Name the layer before the activation with `output_layer`, or {logarithm}"
    raise InvalidParameterError(
        "a model whose output a softmax, a sigmoid or a log-softmax makes (logits=True)",
        actual,
        remedy,
    )


def is_seen_by(score: tf.Tensor, output: tf.Tensor) -> bool:
    """Tell whether a score depends on an activation's `output` itself, not on its logarithm only.

    The logarithm of a softmax does not saturate where the softmax is small.
    """
    waiting, seen = [score.op], {score.op}
    while waiting:
        op = waiting.pop()
        if op is output.op:
            return True
        if op.type in _LOGARITHMS or any(node.op in _LOGARITHMS for node in nodes_called(op)):
            continue
        sources = {tensor.op for tensor in op.inputs if tensor.dtype.is_floating} - seen
        seen |= sources
        waiting += sources
    return False


def _moved(op: tf.Operation) -> list[tf.Tensor]:
    """Return the data inputs of an op that only moves values; of another op none."""
    if op.type in _MOVES and op.inputs:
        return [op.inputs[0]]
    return list(op.inputs)[: op.get_attr("N")] if op.type in _JOINS else []


def _without_activation(output: tf.Tensor) -> tf.Tensor:
    op = output.op
    if op.type in _ACTIVATIONS:
        return op.inputs[0]
    logits = [_without_activation(tensor) for tensor in _moved(op)]
    if op.type in ("Identity", "StopGradient", "EnsureShape"):
        moved = logits[0]
    elif op.type in _JOINS:
        moved = _again(op, _JOINS[op.type], logits)
    else:
        moved = _again(op, _MOVES[op.type], logits[0])
    return tf.ensure_shape(moved, output.shape)


def _again(op: tf.Operation, name: str, data: Any) -> tf.Tensor:
    """Return what an op makes of other data, with its other inputs and attributes as they are."""
    function: Callable[..., Any] = getattr(tf.raw_ops, op.type)
    inputs = iter(list(op.inputs)[len(tf.nest.flatten(data)) :])
    given = {name: data}
    for wanted in inspect.signature(function).parameters:
        attribute = "squeeze_dims" if (op.type, wanted) == ("Squeeze", "axis") else wanted
        if wanted not in (name, "name"):
            known = attribute in op.node_def.attr
            given[wanted] = op.get_attr(attribute) if known else next(inputs)
    return function(**given)


def _nonlinear_origin(output: tf.Tensor) -> str | None:
    """Return the type of an op that bends the way from a linear layer to `output`, if any."""
    waiting = [output]
    seen = set()
    while waiting:
        op = waiting.pop().op
        if op.name in seen:
            continue
        seen.add(op.name)
        if op.type in _MOVES and op.inputs:
            waiting.append(op.inputs[0])
        elif op.type in _PASSED:
            data = [tensor for tensor in op.inputs if tensor.dtype.is_floating]
            if op.type in ("Mul", "RealDiv") and not any(map(_is_constant, data)):
                return str(op.type)
            waiting += data
        elif op.type not in _LINEAR and op.type not in _SOURCES:
            return str(op.type)
    return None


def _is_constant(tensor: tf.Tensor) -> bool:
    """Tell whether a tensor depends on constants and variables only."""
    waiting, seen = [tensor.op], set()
    while waiting:
        op = waiting.pop()
        if op.name in seen:
            continue
        seen.add(op.name)
        if op.type == "Placeholder" and op.outputs[0].dtype != tf.resource:
            return False
        waiting += [source.op for source in op.inputs]
    return True
