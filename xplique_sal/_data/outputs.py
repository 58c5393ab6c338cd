"""Which output a target means, for the operators that explain outputs of a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from xplique_sal.errors import InvalidTargetError

#: Checks the targets of samples ``first, first + 1, …`` against the shape of f(x).
TargetCheck: TypeAlias = Callable[[Any, int, tf.TensorShape, int], None]

_FORMS = "Pass a class index for each sample, (N,), or weights for each output, (N, L)."


def weighted_score(output: tf.Tensor, targets: Any, channel_axis: int = -1) -> tf.Tensor:
    """Return Σ f(x)·y for each sample.

    Parameters
    ----------
    output
        f(x): (N, L), (N,), or with positions (N, ..., L).
    targets
        Weights (N, L), class indices (N,), weights of the shape of `output`, or ``None`` for the
        largest output of each sample.
    channel_axis
        The axis of L in an output with positions, over which it is averaged, unless `targets`
        have positions too.

    Returns
    -------
    scores
        (N,).
    """
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
    """Check class indices or weights on the host.

    Raises
    ------
    InvalidTargetError
        Naming the first sample that is wrong.
    """
    if targets is None:
        return
    _check_one_array(targets)
    outputs = number_of_outputs(shape, channel_axis)
    targets = np.asarray(targets)
    if targets.ndim == 1:
        _check_indices(targets, first, outputs)
        return
    if targets.ndim == 2 and targets.shape[1] != (outputs or targets.shape[1]):
        raise InvalidTargetError(
            f"targets of width {outputs}, the number of outputs",
            f"the shape {targets.shape}",
            _FORMS,
        )
    if targets.ndim != 2:
        _check_positions(targets, shape)
    check_weights(targets, first, shape, channel_axis)


def check_zone(targets: Any, first: int, shape: tf.TensorShape, channel_axis: int) -> None:
    """Check the zone of a segmentation: weights of the shape of f(x).

    Raises
    ------
    InvalidTargetError
        If there is none, it is empty, or has another shape.
    """
    _check_given(targets, "the zone and class to explain, an array of the shape of f(x)")
    _check_positions(np.asarray(targets), shape)
    check_weights(targets, first, shape, channel_axis)


def check_boxes(targets: Any, first: int, shape: tf.TensorShape, channel_axis: int) -> None:
    """Check reference boxes: (N, 4+1+classes) or (N, boxes, 4+1+classes).

    Raises
    ------
    InvalidTargetError
        If there are none, or their width is not the model's.
    """
    _check_given(targets, "the boxes to explain, of shape (N, boxes, 4 + 1 + classes)")
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
            "Pass the index of the output to explain; of a model with one output, pass None "
            "rather than its 0/1 labels.",
        )


def _check_given(targets: Any, expected: str) -> None:
    if targets is None:
        raise InvalidTargetError(expected, "None", "Pass them as `targets`.")
    _check_one_array(targets)


def _check_one_array(targets: Any) -> None:
    if isinstance(targets, (dict, list, tuple)):
        raise InvalidTargetError(
            "one array of targets",
            f"a {type(targets).__name__} of them",
            "Choose one output with `output=`, and pass the targets of that output.",
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
            remedy = "A model with one output is explained with targets=None, whatever the label."
        raise InvalidTargetError(
            f"class indices of at least 0{last}",
            f"{targets[sample]} for sample {first + sample}",
            remedy,
        )


def _check_positions(targets: np.ndarray, shape: tf.TensorShape) -> None:
    if not shape[1:].is_compatible_with(targets.shape[1:]):
        raise InvalidTargetError(
            f"targets of the shape of f(x), {tuple(shape)}",
            f"the shape {targets.shape}",
            _FORMS,
        )
