"""Reductions of maps: of images over their channels, of texts over the vectors of their tokens.

The channel axis of images stays with length one; that of vectors goes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from xplique_sal._parameters import one_of
from xplique_sal.errors import InvalidParameterError

_BY_NAME: dict[str, Callable[..., tf.Tensor]] = {
    "max": tf.reduce_max,
    "mean": tf.reduce_mean,
    "min": tf.reduce_min,
    "sum": tf.reduce_sum,
}


def _norm(vectors: tf.Tensor, axis: int) -> tf.Tensor:
    """Return the Euclidean norm, whose squares neither overflow nor vanish."""
    vectors = tf.cast(vectors, tf.float64 if vectors.dtype == tf.float64 else tf.float32)
    largest = tf.reduce_max(tf.abs(vectors), axis, keepdims=True)
    shares = tf.math.divide_no_nan(vectors, largest)
    return tf.squeeze(largest, axis) * tf.sqrt(tf.reduce_sum(shares * shares, axis))


#: One number for each token, of its vector.
_OF_TOKENS: dict[str, Callable[..., tf.Tensor]] = {
    "token_sum": tf.reduce_sum,
    "token_norm": _norm,
}

#: The same as by name, of two tensors: for the few channels of an image that is faster.
_OF_TWO = {"max": tf.maximum, "min": tf.minimum}
_FEW = 4


def check(reducer: Any) -> None:
    """Refuse a reducer that does not exist.

    Raises
    ------
    InvalidParameterError
        If `reducer` is neither a name nor ``None``.
    """
    one_of("reducer", reducer, [*_BY_NAME, *_OF_TOKENS, None])


def reduce(gradients: tf.Tensor, reducer: str | None, channel_axis: int) -> tf.Tensor:
    """Reduce the channels of images and volumes, or the vectors of tokens.

    Parameters
    ----------
    gradients
        (N, H, W, C) or (N, D, H, W, C) are reduced by ``"max"`` and its like, which return others
        as they are: tables and time series have no channels. (N, T, E) by those of tokens.
    reducer
        ``"max"``, ``"mean"``, ``"min"``, ``"sum"``, ``"token_sum"``, ``"token_norm"``, or ``None``
        for no reduction.
    channel_axis
        The axis of C.

    Raises
    ------
    InvalidParameterError
        If it is a reducer of tokens, and there are none.
    """
    if reducer in _OF_TOKENS:
        if gradients.shape.rank != 3:
            shape = ", ".join("?" if n is None else str(n) for n in gradients.shape[1:])
            raise InvalidParameterError(
                f"tokens as vectors, (N, T, E), for `reducer={reducer!r}`",
                f"(N, {shape})",
                "Name the embedding by `wrt_layer`; the channels of images are reduced by "
                '"max", "mean", "min" or "sum".',
            )
        return _OF_TOKENS[reducer](gradients, axis=2)
    if reducer is None or gradients.shape.rank < 4:
        return gradients
    channels = gradients.shape[channel_axis]
    if reducer in _OF_TWO and channels is not None and 0 < channels <= _FEW:
        return functools.reduce(_OF_TWO[reducer], tf.split(gradients, channels, channel_axis))
    return _BY_NAME[reducer](gradients, axis=channel_axis, keepdims=True)
