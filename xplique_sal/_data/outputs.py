"""Which output a target means, for the operators that explain outputs of a model."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import tensorflow as tf

from xplique_sal._data.structures import Labels
from xplique_sal.errors import InvalidTargetError

#: Checks the targets of samples ``first, first + 1, …`` against the shape of f(x).
TargetCheck: TypeAlias = Callable[[Any, int, tf.TensorShape, int], None]

_FORMS = "Pass a class index for each sample, (N,), or weights for each output, (N, L)."
_ZONE = "the zone and class to explain, an array of the shape of f(x), or a label mask"
_BESIDE_LABELS = (
    "Labels say which output to explain as class indices or one-hot rows. To choose another way, "
    "leave them out, dataset.map(lambda x, y: x), and pass `targets`: the index of an output, or "
    "weights."
)


class _Kind(enum.Enum):
    """What targets are, told by their shape and dtype beside those of f(x)."""

    NOTHING = "labels of a model with one output, which choose nothing"
    CLASSES = "the index of an output for each sample, (N,)"
    MASK = "the index of an output at each position, without an axis for outputs"
    WEIGHTS = "a number for each output, (N, L)"
    ZONE = "a number for each output at each position, of the shape of f(x)"


class _Reading(NamedTuple):
    kind: _Kind
    #: The axis of length one that is to be dropped before, if there is one.
    spare_axis: int | None = None


def _reading(targets: Any, is_label: bool, output: tf.TensorShape, channel_axis: int) -> _Reading:
    """Tell what targets are; where they are nothing that fits f(x), what they are nearest to."""
    shape = list(targets.shape)
    rank = max(output.rank, 2)
    outputs = number_of_outputs(output, channel_axis)
    is_index = is_label or tf.as_dtype(targets.dtype).is_integer
    if is_label and outputs == 1 and (rank == 2 or shape[1:] in ([], [1])):
        return _Reading(_Kind.NOTHING)
    if len(shape) == 1:
        return _Reading(_Kind.CLASSES)
    if len(shape) == 2 and shape[1] == 1 and outputs != 1 and is_index:
        return _Reading(_Kind.CLASSES, 1)
    if rank > 2 and is_index:
        channel = channel_axis % rank
        if len(shape) == rank and shape[channel] == 1 and outputs != 1:
            return _Reading(_Kind.MASK, channel)
        # (N, L) are weights where they could be, but labels are none.
        if len(shape) == rank - 1 and (len(shape) > 2 or is_label or shape[1] != outputs):
            return _Reading(_Kind.MASK)
    return _Reading(_Kind.WEIGHTS if len(shape) == 2 else _Kind.ZONE)


def chosen_outputs_of(targets: Any, output: tf.Tensor, channel_axis: int) -> tf.Tensor | None:
    """Return targets, or the labels of a dataset, as weights or class indices.

    Parameters
    ----------
    targets
        As an operator gets them: a tensor, `Labels`, or ``None``.
    output
        f(x).
    channel_axis
        The axis of L in an output with positions.

    Returns
    -------
    targets
        Class indices (N,), weights (N, L), a number for each position and output, or ``None``
        where there is nothing to choose.
    """
    is_label = isinstance(targets, Labels)
    if is_label:
        targets = targets.values
    if targets is None or (is_label and _is_one_output(output.shape, channel_axis)):
        return None
    _check_one_array(targets)
    kind, spare = _reading(targets, is_label, output.shape, channel_axis)
    if kind is _Kind.NOTHING:
        return None
    if spare is not None:
        targets = tf.squeeze(targets, spare)
    outputs = number_of_outputs(output.shape, channel_axis)
    if kind is _Kind.MASK:
        if outputs == 1:
            return tf.expand_dims(targets, channel_axis)
        return _one_hot(targets, output, channel_axis)
    if not is_label:
        return targets
    if kind is _Kind.CLASSES:
        targets = tf.cast(targets, tf.int64)
        if outputs is None:  # a single one is what the labels of a model with one output mean
            targets = tf.where(tf.shape(output)[channel_axis] == 1, tf.zeros_like(targets), targets)
    elif kind is _Kind.WEIGHTS and targets.shape[1] is None:
        targets = tf.cond(
            tf.shape(targets)[1] == 1,
            lambda: _one_hot(targets[:, 0], output, channel_axis),
            lambda: tf.cast(targets, output.dtype),
        )
    return targets


def _one_hot(indices: tf.Tensor, output: tf.Tensor, channel_axis: int) -> tf.Tensor:
    axis = channel_axis if indices.shape.rank > 1 else -1
    depth = tf.shape(output)[channel_axis]
    return tf.one_hot(tf.cast(indices, tf.int64), depth, axis=axis, dtype=output.dtype)


def _is_one_output(output: tf.TensorShape, channel_axis: int) -> bool:
    return output.rank <= 2 and number_of_outputs(output, channel_axis) == 1


def weighted_score(output: tf.Tensor, targets: Any, channel_axis: int = -1) -> tf.Tensor:
    """Return Σ f(x)·y for each sample.

    Parameters
    ----------
    output
        f(x): (N, L), (N,), or with positions (N, ..., L).
    targets
        Weights (N, L), class indices (N,) or (N, 1), weights of the shape of `output`, the index
        of an output at each position, or ``None`` for the largest output of each sample; or the
        `Labels` of a dataset.
    channel_axis
        The axis of L in an output with positions, over which it is averaged, unless `targets`
        have positions too.

    Returns
    -------
    scores
        (N,).
    """
    targets = chosen_outputs_of(targets, output, channel_axis)
    if targets is not None and targets.shape.rank == output.shape.rank and output.shape.rank > 2:
        axes = list(range(1, output.shape.rank))
        return tf.reduce_sum(output * tf.cast(targets, output.dtype), axes)
    outputs = per_output(output, channel_axis)
    if targets is None:
        if output.shape.rank > 2 and outputs.shape[-1] != 1:
            raise InvalidTargetError(
                f"a target, because f(x) has positions (its shape is {tuple(output.shape)})",
                "None",
                "Pass the index of a filter, or the zone to explain as an array of that shape.",
            )
        weights = tf.one_hot(tf.argmax(outputs, -1), tf.shape(outputs)[-1], dtype=outputs.dtype)
    elif targets.shape.rank == 1:
        indices = tf.cast(targets, tf.int64)
        weights = tf.one_hot(indices, tf.shape(outputs)[-1], dtype=outputs.dtype)
    else:
        weights = tf.cast(targets, outputs.dtype)
    # Two steps, because the gradient of a sum that drops its axis has to find out which it was.
    return tf.squeeze(tf.reduce_sum(outputs * weights, -1, keepdims=True), -1)


def per_output(output: tf.Tensor, channel_axis: int = -1) -> tf.Tensor:
    """Return f(x) as (N, L): averaged over its positions, if it has any."""
    rank = output.shape.rank
    if rank == 1:
        return output[:, tf.newaxis]
    positions = [axis for axis in range(1, rank) if axis != channel_axis % rank]
    return tf.reduce_mean(output, positions) if positions else output


def number_of_outputs(shape: tf.TensorShape, channel_axis: int = -1) -> int | None:
    """Return L of an output of that shape; ``None`` if it is not known."""
    return 1 if shape.rank == 1 else shape[channel_axis]


def check_classes(targets: Any, first: int, shape: tf.TensorShape, channel_axis: int) -> None:
    """Check class indices, weights or labels on the host.

    Raises
    ------
    InvalidTargetError
        Naming the first sample that is wrong.
    """
    if targets is not None:
        _check(targets, first, shape, channel_axis)


def chooses_the_only_output(targets: Any, shape: tf.TensorShape, channel_axis: int) -> bool:
    """Tell whether targets are indices (N,) of an output where there is but one to choose."""
    if targets is None or isinstance(targets, (Labels, dict, list, tuple)):
        return False
    outputs = number_of_outputs(shape, channel_axis)
    return outputs == 1 and _reading(targets, False, shape, channel_axis).kind is _Kind.CLASSES


def check_labels_of_layer(
    targets: Any, output: tf.TensorShape, channel_axis: int, whole: Any
) -> None:
    """Refuse the labels of a dataset for an inner layer that has not the model's outputs.

    Parameters
    ----------
    targets
        As an operator gets them; only `Labels` are looked at.
    output, channel_axis
        The shape of what is explained, and where its channels are.
    whole
        What the model itself returns.

    Raises
    ------
    InvalidTargetError
        If a label, which is about the model, would be taken for a unit or filter of the layer.
    """
    if not isinstance(targets, Labels) or output.rank is None:
        return
    shape = getattr(whole, "shape", None)
    if isinstance(shape, tf.TensorShape) and shape.rank:
        own, models = (
            number_of_outputs(output, channel_axis),
            number_of_outputs(shape, channel_axis),
        )
        if shape.rank == output.rank and own == models:
            return
        said = f"for one of shape {output}, in a model that returns {shape}"
    else:
        said = f"for one of shape {output}, in a model with several outputs"
    raise InvalidTargetError(
        "labels of a dataset that say which output of `output_layer` to explain",
        f"them {said}",
        "Labels are about the model's outputs. Leave them out, dataset.map(lambda x, y: x), and "
        "pass `targets`: the index of a unit or filter of that layer, or weights.",
    )


def check_zone(targets: Any, first: int, shape: tf.TensorShape, channel_axis: int) -> None:
    """Check the zone of a segmentation: weights of the shape of f(x), or a label mask.

    Raises
    ------
    InvalidTargetError
        If there is none, it is empty, or has another shape.
    """
    if targets is None:
        raise InvalidTargetError(_ZONE, "None", "Pass them as `targets`.")
    _check(targets, first, shape, channel_axis, of_zone=True)


def _check(
    targets: Any, first: int, shape: tf.TensorShape, channel_axis: int, of_zone: bool = False
) -> None:
    is_label = isinstance(targets, Labels)
    if is_label:
        targets = targets.values
        if not of_zone and _is_one_output(shape, channel_axis):
            return
    _check_one_array(targets)
    targets = np.asarray(targets)
    kind, spare = _reading(targets, is_label, shape, channel_axis)
    if of_zone and kind not in (_Kind.MASK, _Kind.ZONE):
        raise InvalidTargetError(
            _ZONE,
            f"{'labels' if is_label else 'targets'} of shape {targets.shape}",
            f"f(x) has the shape {tuple(shape)}: pass the index of the class at each position, or "
            "weights of that shape. `xplique_sal.segmentation` makes them of predictions.",
        )
    if kind is _Kind.NOTHING:
        return
    targets = targets if spare is None else targets.squeeze(spare)
    outputs = number_of_outputs(shape, channel_axis)
    if is_label:
        _check_labels(targets, kind, first, outputs)
        targets = targets.astype(np.int64) if kind is _Kind.CLASSES else targets
    if kind is _Kind.CLASSES:
        _check_indices(targets, first, outputs)
    elif kind is _Kind.MASK:
        _check_mask(targets, first, shape, channel_axis)
    else:
        if kind is _Kind.ZONE:
            _check_positions(targets, shape)
        elif targets.shape[1] != (outputs or targets.shape[1]):
            raise InvalidTargetError(
                f"targets of width {outputs}, the number of outputs",
                f"the shape {targets.shape}",
                _FORMS,
            )
        check_weights(targets, first, shape, channel_axis)


def check_boxes(targets: Any, first: int, shape: tf.TensorShape, channel_axis: int) -> None:
    """Check reference boxes: (N, 4+1+classes) or (N, boxes, 4+1+classes).

    Raises
    ------
    InvalidTargetError
        If there are none, or their width is not the model's.
    """
    if targets is None:
        raise InvalidTargetError(
            "the boxes to explain, of shape (N, boxes, 4 + 1 + classes)",
            "None",
            "Pass them as `targets`.",
        )
    _check_one_array(targets)
    width = shape[-1] if shape.rank else None
    given = np.shape(targets)
    if len(given) not in (2, 3) or given[-1] != (width or given[-1]) or given[-1] < 6:
        raise InvalidTargetError(
            f"boxes of shape (N, {width}) or (N, boxes, {width})",
            f"the shape {given}",
            "Give each box as x1, y1, x2, y2, objectness and one value for each class.",
        )
    check_weights(targets, first, shape, channel_axis)


def check_weights(targets: Any, first: int, shape: tf.TensorShape, channel_axis: int) -> None:
    """Refuse weights that are not finite numbers, or that are all zero for a sample."""
    del shape, channel_axis  # a `TargetCheck`, though it needs neither
    targets = np.asarray(targets)
    rows = targets.reshape(len(targets), -1)
    if targets.dtype != bool:
        wrong = ~np.isfinite(rows.astype(np.float64, copy=False)).all(axis=1)
        if wrong.any():
            raise InvalidTargetError(
                "finite targets",
                f"a NaN or infinite value for sample {first + int(wrong.argmax())}",
                _FORMS,
            )
    empty = ~rows.any(axis=1)
    if empty.any():
        raise InvalidTargetError(
            "targets that choose something for each sample",
            f"only zeros for sample {first + int(empty.argmax())}, which explain nothing",
            "Pass the index of the output to explain. 0/1 labels of a model with one output are "
            "not its targets: pass None for the class 1, or a weight of -1 for the class 0.",
        )


def _check_one_array(targets: Any) -> None:
    if isinstance(targets, (dict, list, tuple)):
        raise InvalidTargetError(
            "one array of targets",
            f"a {type(targets).__name__} of them",
            "Choose one output with `output=`, and pass the targets of that output.",
        )


def _check_labels(labels: np.ndarray, kind: _Kind, first: int, outputs: int | None) -> None:
    """Refuse labels of a dataset that are neither whole numbers nor 0/1 for each output."""
    if labels.dtype.kind not in "buif" and labels.dtype != tf.bfloat16.as_numpy_dtype:
        raise InvalidTargetError(
            "labels that are numbers",
            f"the dtype {'string' if labels.dtype.kind in 'OSU' else labels.dtype}",
            "Map them to class indices, by a `StringLookup` layer, say. " + _BESIDE_LABELS,
        )
    rows = labels.reshape(len(labels), -1)
    are_indices = kind in (_Kind.CLASSES, _Kind.MASK) and outputs != 1
    if are_indices and labels.dtype.kind in "bui":
        return
    wrong = rows != np.rint(rows) if are_indices else (rows != 0) & (rows != 1)
    if wrong.any():
        number = int(wrong.any(axis=1).argmax())
        expected = "class indices, or 0 and 1 for each output" if outputs != 1 else "0 and 1"
        raise InvalidTargetError(
            f"labels that are {expected}",
            f"{rows[number][wrong[number]][0]:g} for sample {first + number}, a value to predict",
            _BESIDE_LABELS,
        )


def _check_indices(targets: np.ndarray, first: int, outputs: int | None) -> None:
    if not np.issubdtype(targets.dtype, np.integer):
        raise InvalidTargetError(
            "class indices (N,) to be integers",
            f"the dtype {targets.dtype}",
            f"{_FORMS} A single sample needs its batch axis: targets[None].",
        )
    wrong = (targets < 0) | (targets >= (outputs or np.inf))
    if wrong.any():
        sample = int(wrong.argmax())
        last = "" if outputs is None else f" and at most {outputs - 1}"
        remedy = "Check the labels: classes are counted from 0."
        if outputs == 1:
            remedy = (
                "A model with one output is explained with targets=None, whatever the label; the "
                "other of two classes by a weight of -1: targets of shape (N, 1)."
            )
        raise InvalidTargetError(
            f"class indices of at least 0{last}",
            f"{targets[sample]} for sample {first + sample}",
            remedy,
        )


def _check_mask(targets: np.ndarray, first: int, shape: tf.TensorShape, channel_axis: int) -> None:
    channel = channel_axis % shape.rank
    positions = [*shape[:channel], *shape[channel + 1 :]]
    outputs = number_of_outputs(shape, channel_axis)
    if not tf.TensorShape(positions[1:]).is_compatible_with(targets.shape[1:]):
        raise InvalidTargetError(
            f"a label mask with the positions of f(x), whose shape is {tuple(shape)}",
            f"the shape {targets.shape}",
            "Resize it to the output by nearest neighbours.",
        )
    if outputs == 1:
        check_weights(targets, first, shape, channel_axis)
        return
    rows = targets.reshape(len(targets), -1)
    wrong = (rows < 0) | (rows >= (outputs or np.inf))
    if wrong.any():
        number = int(wrong.any(axis=1).argmax())
        last = "" if outputs is None else f" and at most {outputs - 1}"
        raise InvalidTargetError(
            f"a label mask of class indices of at least 0{last}",
            f"{rows[number][wrong[number]][0]} for sample {first + number}",
            "Where a value marks positions that belong to no class, pass one-hot weights of the "
            "shape of f(x), with zeros there.",
        )


def _check_positions(targets: np.ndarray, shape: tf.TensorShape) -> None:
    if not shape[1:].is_compatible_with(targets.shape[1:]):
        raise InvalidTargetError(
            f"targets of the shape of f(x), {tuple(shape)}",
            f"the shape {targets.shape}",
            _FORMS,
        )
