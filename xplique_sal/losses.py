"""The losses of keras-vis: what is visualised makes a weighted sum of them small."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xplique_sal._data.outputs import per_output
from xplique_sal._models.loss import LayerOutputs, Loss, WeightedSum
from xplique_sal._parameters import is_integer, number
from xplique_sal.errors import InvalidInputError, InvalidTargetError

__all__ = ["ActivationMaximization", "LPNorm", "Loss", "TotalVariation", "WeightedSum"]


class ActivationMaximization(Loss):
    """Minus the mean activation of filters or outputs: what makes it small activates them.

        loss = −mean over the filters k and the positions i of f_layer(x)[i, k]

    Parameters
    ----------
    layer
        The layer: its index, name or path, or the layer itself.
    filter_indices
        One index or several of the layer's channels, or of its units; ``None`` is all of them.

    Raises
    ------
    InvalidTargetError
        If the indices are not integers of at least 0, or (when it is called) the layer has fewer
        filters.
    """

    def __init__(self, layer: Any, filter_indices: int | Sequence[int] | None = None) -> None:
        self.layer = int(layer) if is_integer(layer) else layer
        self.filter_indices = checked_filters(filter_indices)

    def __call__(self, x: Any, f: Callable[[Any], Any]) -> Any:
        """Return minus the mean activation, (N,)."""
        axis = f.channel_axis(self.layer) if isinstance(f, LayerOutputs) else -1
        outputs = per_output(f(self.layer), axis)
        if self.filter_indices is None:
            return -tf.reduce_mean(outputs, axis=-1)
        count = outputs.shape[-1]
        if count is not None and max(self.filter_indices) >= count:
            raise InvalidTargetError(
                f"filters between 0 and {count - 1} of the layer {self.layer!r}",
                f"{max(self.filter_indices)}",
                "Filters are counted from 0.",
            )
        return -tf.reduce_mean(tf.gather(outputs, self.filter_indices, axis=-1), axis=-1)


class LPNorm(Loss):
    """The p-norm of an image over the number of its values.

        loss = (Σ |x|^p)^(1/p) / (H·W·C)

    A large p punishes the few brightest values, which keeps an image in range. The gradient of a
    black image is zero.

    Parameters
    ----------
    p
        At least 1; ``float("inf")`` is the largest absolute value.

    Raises
    ------
    InvalidParameterError
        If p < 1, where this is no norm.
    """

    def __init__(self, p: float = 6.0) -> None:
        self.p = number("p", p, "[]", low=1, remedy="Below 1 it is no norm.")

    def __call__(self, x: Any, f: Callable[[Any], Any]) -> Any:
        """Return the norms, (N,)."""
        x = _one_image(x, self)
        flat = tf.abs(tf.reshape(x, [tf.shape(x)[0], -1]))
        size = tf.cast(tf.shape(flat)[1], x.dtype)
        largest = tf.reduce_max(flat, axis=1)
        if math.isinf(self.p):
            return largest / size
        # Over the largest value no power overflows. As a constant it cancels out, also in the
        # gradient. The root of zero, whose slope is infinite, is never taken.
        scale = tf.stop_gradient(tf.where(largest > 0, largest, 1.0))
        sums = tf.reduce_sum((flat / scale[:, tf.newaxis]) ** self.p, axis=1)
        roots = tf.where(largest > 0, sums, 1.0) ** (1.0 / self.p)
        return tf.where(largest > 0, scale * roots, 0.0) / size


class TotalVariation(Loss):
    """How much an image differs from pixel to pixel, over the number of its values.

        loss = Σ (Σ_d (x[i + e_d] − x[i])²)^(β/2) / (H·W·C)

    with d the axes between samples and channels and e_d one step along d; i runs over the pixels
    that have a next one along every axis. A large weight makes images smooth. The gradient of a
    constant image is zero.

    Parameters
    ----------
    beta
        At least 1: 1 allows edges, 2 prefers slopes.

    Raises
    ------
    InvalidParameterError
        If β < 1 or β is infinite.
    InvalidInputError
        If it is called on tables (N, W), whose columns have no neighbours.

    References
    ----------
    Mahendran and Vedaldi, "Understanding Deep Image Representations by Inverting Them", 2015,
    section 2.
    """

    def __init__(self, beta: float = 2.0) -> None:
        self.beta = number("beta", beta, low=1, remedy="Pass 2, say.")

    def __call__(self, x: Any, f: Callable[[Any], Any]) -> Any:
        """Return the variations, (N,)."""
        x = _one_image(x, self)
        if x.shape.rank < 3:
            raise InvalidInputError(
                "images, volumes or series, whose values have neighbours, for TotalVariation",
                f"the shape {tuple(x.shape)}",
                "Leave TotalVariation out; a single series needs a channel axis, (N, T, 1).",
            )
        channels = f.channel_axis() if isinstance(f, LayerOutputs) else -1
        axes = [axis for axis in range(1, x.shape.rank) if axis != channels % x.shape.rank]
        squares = tf.add_n([tf.square(_step(x, axis, axes)) for axis in axes])
        if self.beta != 2:
            # The slope of a root at zero is infinite: there it is never taken.
            varies = squares > 0
            powers = tf.where(varies, squares, 1.0) ** (self.beta / 2)
            squares = tf.where(varies, powers, 0.0)
        size = tf.cast(tf.reduce_prod(tf.shape(x)[1:]), x.dtype)
        return tf.reduce_sum(squares, axis=list(range(1, x.shape.rank))) / size


def _step(x: tf.Tensor, along: int, axes: Sequence[int]) -> tf.Tensor:
    """Return x[i + e] − x[i] along one axis, at the i that have a next pixel along all `axes`."""
    first = [slice(None, -1) if axis in axes else slice(None) for axis in range(x.shape.rank)]
    second = list(first)
    second[along] = slice(1, None)
    return x[tuple(second)] - x[tuple(first)]


def checked_filters(filters: Any) -> tuple[int, ...] | None:
    """Return one filter index or several as a tuple.

    Raises
    ------
    InvalidTargetError
        If they are not integers of at least 0.
    """
    if filters is None:
        return None
    array = np.atleast_1d(np.asarray(filters))
    if array.ndim != 1 or not array.size or array.dtype.kind not in "iu" or array.min() < 0:
        raise InvalidTargetError(
            "`filter_indices` as an index of at least 0, or a list of them",
            repr(filters),
            "Filters and outputs are counted from 0; None is all of them.",
        )
    return tuple(array.tolist())


def _one_image(x: Any, loss: Loss) -> tf.Tensor:
    if isinstance(x, (list, tuple, dict)):
        raise InvalidInputError(
            f"a model of one input for {loss!r}",
            f"{len(x)} inputs",
            "Subclass it, and choose one of them in `__call__`.",
        )
    return tf.convert_to_tensor(x)
