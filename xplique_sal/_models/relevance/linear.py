"""A linear operation of a model, with the bias and the batch normalisation that belong to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xplique_sal._models.relevance.reading import (
    active_inputs,
    again,
    is_linear,
    is_not_negative,
    replaced,
)
from xplique_sal._models.rules.operations import BILINEAR, MOVES
from xplique_sal._models.rules.rule_set import Step, Surroundings

#: What may stand between a product and its bias, of which the derivative is the inverse.
_REVERSIBLE = frozenset(
    {"Reshape", "Squeeze", "ExpandDims", "Transpose", "Identity", "Cast", "BatchToSpaceND"}
)
_ADDS = frozenset({"BiasAdd", "Add", "AddV2", "Sub"})
#: Those of them that leave the last axis the last.
_KEEP_LAST = frozenset({"Identity", "Cast", "BatchToSpaceND"})


class Linear:
    """z = a·w + b at one operation, with everything in the frame of its output.

    The bias and a batch normalisation after it are part of it, and so is one right before it: its
    scale and offset are made part of w and b, as canonisation does it.

    Attributes
    ----------
    a
        The activations, in float32 at least, without what a normalisation before it adds.
    w
        The weights, times what a normalisation after it multiplies with.
    z
        The outputs, with the bias.
    relevance
        What came in for z.
    is_closed
        Whether only a rectifier uses z.
    not_negative
        Whether it is known that no value of a is negative.
    """

    def __init__(self, step: Step) -> None:
        op, around = step.op, step.around
        self._op, self._step = op, step
        self.position = active_inputs(op, around)[0]
        (self._other,) = {*BILINEAR[op.type]} - {self.position}
        self._tail = tail_of(op, around)
        self._head = head_of(op, around)
        given = step.inputs[self.position]
        self._dtype = given.dtype
        full = tf.float32 if given.dtype.size < 4 else given.dtype
        self._full = full
        offset = self._head.offset()
        self.offset = None if offset is None else tf.cast(offset, full)
        self.a = tf.cast(given, full)
        if self.offset is not None:
            self.a -= self.offset
        self.plain_w = tf.cast(step.inputs[self._other], full)
        self.w = self.plain_w
        for factor in self._tail.scales():
            self.w *= tf.cast(factor, full)
        self.z = tf.cast(self._tail.back(self._tail.end), full)
        self.relevance = tf.cast(step.gradients[0], full)
        self.is_closed = self._tail.is_closed
        self.not_negative = self.offset is None and is_not_negative(given, around)

    def bias(self) -> tf.Tensor | None:
        """Return b, in a shape that broadcasts to that of z; ``None`` is zero."""
        found = self._tail.bias()
        bias = None if found is None else tf.cast(found, self._full)
        if self.offset is not None:
            moved = self.run(self.offset, self.w)
            bias = moved if bias is None else bias + moved
        return bias

    def scale(self) -> tf.Tensor | None:
        """Return what a normalisation before it multiplies with, in the shape of a."""
        found = self._head.scale()
        return None if found is None else tf.cast(found, self._full)

    def in_frame(self, value: tf.Tensor) -> tf.Tensor:
        """Return a value of the operation's input in the shape of a, without the offset."""
        value = tf.broadcast_to(tf.cast(value, self._full), tf.shape(self.a))
        return value if self.offset is None else value - self.offset

    def run(self, a: tf.Tensor, w: tf.Tensor) -> tf.Tensor:
        """Return a·w, without a bias."""
        return again(self._op, self._inputs(a, w))

    def back(self, share: tf.Tensor, w: tf.Tensor) -> tf.Tensor:
        """Return Σ_k w_jk share_k, in the shape of a."""
        if w is self.plain_w and self._full == self._dtype:
            return self._step.plain(share)[self.position]
        # The value of the product is not used, so that TensorFlow does not compute it.
        output = self.run(tf.zeros_like(self.a), w)
        return self._step.around.derivative(output.op, share)[self.position]

    def finished(self, relevance: tf.Tensor) -> list[Any]:
        """Return what goes on to each input."""
        gradients: list[Any] = [None] * len(self._op.inputs)
        gradients[self.position] = tf.cast(relevance, self._dtype)
        return gradients

    def _inputs(self, a: tf.Tensor, w: tf.Tensor) -> list[tf.Tensor]:
        inputs = list(self._step.inputs)
        inputs[self.position], inputs[self._other] = a, w
        return inputs


def tail_of(op: tf.Operation, around: Surroundings) -> Tail:
    """Return what comes after a linear operation and belongs to it."""
    known: dict[tuple[int, str], Tail] = around.kept.setdefault("tails", {})
    return known.setdefault((id(op.graph), op.name), Tail(op, around))


def head_of(op: tf.Operation, around: Surroundings) -> Head:
    """Return what comes before a linear operation and belongs to it."""
    known: dict[tuple[int, str], Head] = around.kept.setdefault("heads", {})
    return known.setdefault((id(op.graph), op.name), Head(op, around))


def belongs_to_a_linear_step(op: tf.Operation, around: Surroundings) -> bool:
    """Tell whether an addition of a constant is the bias of a linear step, or canonised."""
    before = op
    while len(active := active_inputs(before, around)) == 1:
        before = before.inputs[active[0]].op
        if is_linear(before, around):
            if any(op is each for each in tail_of(before, around).ops):
                return True
            break
        if before.type not in _REVERSIBLE | _ADDS | {"Mul"}:
            break
    after = op
    while len(users := around.users(after.outputs[0])) == 1:
        (after,) = users
        if is_linear(after, around):
            return any(op is each for each in head_of(after, around).chain)
        if after.type not in MOVES | _ADDS | {"Mul"}:
            break
    return False


class Tail:
    """What comes after a product and belongs to it: moves, biases, a normalisation.

    Attributes
    ----------
    ops
        Its operations, in their order.
    end
        The last tensor of it.
    is_closed
        Whether only a rectifier uses the end.
    """

    def __init__(self, op: tf.Operation, around: Surroundings) -> None:
        self._op, self._around = op, around
        self._weights = op.inputs[BILINEAR[op.type][1]]
        self._weight_is_second = active_inputs(op, around) == [BILINEAR[op.type][0]]
        self.ops: list[tf.Operation] = []
        self._factors: list[tuple[tf.Tensor, list[int]]] = []
        self._read()
        end = self.ops[-1] if self.ops else op
        self.end = end.outputs[0]
        users = around.users(self.end)
        self.is_closed = len(users) == 1 and users[0].type in ("Relu", "Relu6")

    def scales(self) -> list[tf.Tensor]:
        """Return what w is multiplied by, in a shape that broadcasts to it."""
        return [tf.reshape(factor, shape) for factor, shape in self._factors]

    def _read(self) -> None:
        tensor, ops = self._op.outputs[0], list[tf.Operation]()
        factors = list[tuple[tf.Tensor, list[int]]]()
        while len(users := self._around.users(tensor)) == 1:
            (op,) = users
            if op.type in _REVERSIBLE and op.inputs[0] is tensor:
                ops.append(op)
            elif self._is_affine(op, tensor) and op.type in _ADDS:
                ops.append(op)
                self.ops, self._factors = list(ops), list(factors)
            elif self._is_affine(op, tensor) and op.type == "Mul":
                factor = op.inputs[1] if op.inputs[0] is tensor else op.inputs[0]
                shape = self._shape_as_weights(factor, tensor, ops)
                if shape is None:
                    return
                factors.append((factor, shape))
                ops.append(op)
                self.ops, self._factors = list(ops), list(factors)
            else:
                return
            tensor = op.outputs[0]

    def _is_affine(self, op: tf.Operation, tensor: tf.Tensor) -> bool:
        """Tell whether an op with a constant is the layer's own bias, or of a normalisation.

        More that a layer does to its output is an activation.
        """
        around = self._around
        belongs = around.is_normalization(op)
        if not belongs and op.type in _ADDS and around.layer(op) is around.layer(self._op):
            numbers = [given for given in op.inputs if given.shape.rank == 0]
            belongs = not numbers and not any(each.type in _ADDS for each in self.ops)
        is_turned = op.type == "Sub" and op.inputs[0] is not tensor
        same_shape = op.outputs[0].shape.is_compatible_with(tensor.shape)
        return belongs and same_shape and not is_turned and len(active_inputs(op, around)) == 1

    def _shape_as_weights(
        self, factor: tf.Tensor, tensor: tf.Tensor, before: Sequence[tf.Operation]
    ) -> list[int] | None:
        """Return the shape that a factor has beside the weights; ``None`` if it has none.

        It must have one value, or one for each channel of the output.
        """
        axes = _channels_of_weights(self._op) if self._weight_is_second else None
        weights, rank = self._weights.shape, tensor.shape.rank
        if axes is None or rank is None or not factor.shape.is_fully_defined():
            return None
        wanted = [size if axis in axes else 1 for axis, size in enumerate(weights.as_list())]
        channels = int(np.prod([size or 0 for size in wanted]))
        shape = [1] * (rank - factor.shape.rank) + factor.shape.as_list()
        if all(size == 1 for size in shape):
            return [1] * len(wanted)
        axis = 1 if _is_channels_first(self._op) else rank - 1
        shape[axis] -= channels - 1
        if any(size != 1 for size in shape):
            return None
        if _is_channels_first(self._op):
            stays = all(op.type in _ADDS | {"Identity", "Cast", "Mul"} for op in before)
        else:
            stays = all(self._keeps_last(op, channels) for op in before)
        return wanted if stays else None

    def _keeps_last(self, op: tf.Operation, channels: int) -> bool:
        if op.type in _KEEP_LAST | _ADDS | {"Mul"}:
            return True
        last = op.outputs[0].shape[-1:] == [channels] and op.inputs[0].shape[-1:] == [channels]
        return last and op.type in ("Reshape", "Squeeze", "ExpandDims")

    def back(self, tensor: tf.Tensor) -> tf.Tensor:
        """Return a tensor of the shape of the end in that of the product."""
        for op in reversed(self.ops):
            if op.type in _REVERSIBLE:
                tensor = self._around.derivative(op, tensor)[0]
        return tensor

    def bias(self) -> tf.Tensor | None:
        """Return what the end is where the product is zero; ``None`` if nothing is added."""
        if not any(op.type in _ADDS for op in self.ops):
            return None
        (value, *others) = self.ops
        if not others and value.type == "BiasAdd" and not _is_channels_first(value):
            return value.inputs[1]
        tensor = self._op.outputs[0]
        result = tf.zeros_like(tensor)
        for op in self.ops:
            result, tensor = replaced(op, tensor, result), op.outputs[0]
        return self.back(result)


class Head:
    """A batch normalisation right before a linear operation, with moves in between.

    Attributes
    ----------
    chain
        Its operations, in their order; none if there is no normalisation.
    """

    def __init__(self, op: tf.Operation, around: Surroundings) -> None:
        self._around = around
        self.chain: list[tf.Operation] = []
        chain: list[tf.Operation] = []
        tensor = op.inputs[active_inputs(op, around)[0]]
        while len(around.users(tensor)) == 1 and len(active_inputs(tensor.op, around)) == 1:
            op = tensor.op
            is_affine = op.type in _ADDS | {"Mul"} and around.is_normalization(op)
            if not is_affine and op.type not in MOVES:
                break
            chain.append(op)
            if is_affine:
                self.chain = list(chain)
            tensor = op.inputs[active_inputs(op, around)[0]]
        self.chain.reverse()

    def offset(self) -> tf.Tensor | None:
        """Return what the operation is given where the normalisation's input is zero."""
        return self._at(tf.zeros_like) if self.chain else None

    def scale(self) -> tf.Tensor | None:
        """Return the factor of each value."""
        return self._at(tf.ones_like) - self._at(tf.zeros_like) if self.chain else None

    def _at(self, make: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
        first = self.chain[0]
        tensor = first.inputs[active_inputs(first, self._around)[0]]
        value = make(tensor)
        for op in self.chain:
            value, tensor = replaced(op, tensor, value), op.outputs[0]
        return value


def _channels_of_weights(op: tf.Operation) -> list[int] | None:
    """Return the axes of the weights along which the channels of the output are."""
    if op.type == "MatMul":
        return [0 if op.get_attr("transpose_b") else 1]
    if op.type in ("Conv2D", "Conv3D"):
        return [op.inputs[1].shape.rank - 1]
    if op.type == "DepthwiseConv2dNative":
        return [2, 3]
    return None


def _is_channels_first(op: tf.Operation) -> bool:
    try:
        return bool(op.get_attr("data_format").decode().startswith("NC"))
    except ValueError:
        return False
