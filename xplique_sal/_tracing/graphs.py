"""Reading a traced graph: the activation that made a tensor, and the variables it writes to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from xplique_sal.errors import InvalidParameterError

_ACTIVATIONS = frozenset({"Softmax", "LogSoftmax", "Sigmoid"})
#: Ops that put values elsewhere or into another precision, with the position of their data input.
_MOVES = {
    **dict.fromkeys(
        ("Identity", "StopGradient", "Cast", "Reshape", "Transpose", "Squeeze", "ExpandDims"), 0
    ),
    "EnsureShape": 0,
}
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


def final_activation(output: tf.Tensor) -> str | None:
    """Return the type of the softmax, sigmoid or log-softmax that made `output`, if one did.

    Ops that only move values may stand between.
    """
    while output.op.type in _MOVES and output.op.inputs:
        output = output.op.inputs[_MOVES[output.op.type]]
    return output.op.type if output.op.type in _ACTIVATIONS else None


def before_final_activation(output: tf.Tensor) -> tf.Tensor:
    """Return the logits of `output`: its value as if the final activation had not been applied.

    The ops that moved values after the activation are applied to its input instead.

    Raises
    ------
    InvalidParameterError
        If there is no such activation and `output` is not the output of a linear op either.
    """
    moves = []
    tensor = output
    while tensor.op.type in _MOVES and tensor.op.inputs:
        moves.append(tensor.op)
        tensor = tensor.op.inputs[_MOVES[tensor.op.type]]
    if tensor.op.type not in _ACTIVATIONS:
        hidden = _nonlinear_origin(tensor)
        if hidden is None:
            return output
        raise InvalidParameterError(
            "a model whose output a softmax, a sigmoid or a log-softmax makes (logits=True)",
            f"one whose output the op {hidden!r} makes, in which none of them can be told",
            "Name the layer before the activation with `output_layer`, or explain the output "
            "itself with logits=False.",
        )
    tensor = tensor.op.inputs[0]
    for move in reversed(moves):
        tensor = _apply(move, tensor)
    return tensor


def _apply(move: tf.Operation, tensor: tf.Tensor) -> tf.Tensor:
    if move.type == "Cast":
        return tf.cast(tensor, move.outputs[0].dtype)
    if move.type in ("Identity", "StopGradient", "EnsureShape"):
        return tf.ensure_shape(tensor, move.outputs[0].shape)
    if move.type == "Reshape":
        moved = tf.reshape(tensor, move.inputs[1])
    elif move.type == "Transpose":
        moved = tf.transpose(tensor, move.inputs[1])
    elif move.type == "Squeeze":
        moved = tf.squeeze(tensor, move.get_attr("squeeze_dims") or None)
    else:
        moved = tf.expand_dims(tensor, move.inputs[1])
    return tf.ensure_shape(moved, move.outputs[0].shape)


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
            waiting.append(op.inputs[_MOVES[op.type]])
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
