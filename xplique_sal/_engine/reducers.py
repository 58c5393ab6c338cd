"""Reductions of image maps over their channel axis, which stays with length one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from xplique_sal._parameters import one_of

_BY_NAME: dict[str, Callable[..., tf.Tensor]] = {
    "max": tf.reduce_max,
    "mean": tf.reduce_mean,
    "min": tf.reduce_min,
    "sum": tf.reduce_sum,
}

#: The same, of two tensors: for the few channels of an image that is faster.
_OF_TWO = {"max": tf.maximum, "min": tf.minimum}
_FEW = 4


def check(reducer: Any) -> None:
    """Refuse a reducer that does not exist.

    Raises
    ------
    InvalidParameterError
        If `reducer` is neither a name nor ``None``.
    """
    one_of("reducer", reducer, [*_BY_NAME, None])


def reduce(gradients: tf.Tensor, reducer: str | None, channel_axis: int) -> tf.Tensor:
    """Reduce the channels of images and volumes; tables and time series have none.

    Parameters
    ----------
    gradients
        (N, H, W, C) or (N, D, H, W, C) are reduced, others are returned as they are.
    reducer
        ``"max"``, ``"mean"``, ``"min"``, ``"sum"``, or ``None`` for no reduction.
    channel_axis
        The axis of C.
    """
    if reducer is None or gradients.shape.rank < 4:
        return gradients
    channels = gradients.shape[channel_axis]
    if reducer in _OF_TWO and channels is not None and 0 < channels <= _FEW:
        return functools.reduce(_OF_TWO[reducer], tf.split(gradients, channels, channel_axis))
    return _BY_NAME[reducer](gradients, axis=channel_axis, keepdims=True)
