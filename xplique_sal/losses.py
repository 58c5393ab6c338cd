"""The losses of keras-vis: what is visualised makes a weighted sum of them small."""

from __future__ import annotations

import abc
import copy
import functools
import math
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xplique_sal._data.outputs import per_output
from xplique_sal._data.structures import Structure, leaves
from xplique_sal._models.invoke import call_with_autograph
from xplique_sal._parameters import is_integer, number
from xplique_sal._tracing import keras_compat, layer_paths
from xplique_sal.errors import (
    InvalidInputError,
    InvalidOperatorError,
    InvalidParameterError,
    InvalidTargetError,
)

__all__ = ["ActivationMaximization", "LPNorm", "Loss", "TotalVariation", "WeightedSum"]

_PLAIN = (bool, int, float, str, bytes, type(None))


class Loss(abc.ABC):
    """A number for each image of a batch; a subclass says which.

    Two losses are equal if they are of one class and have equal attributes, so that a loss that is
    made anew finds the function that was compiled for the last one.

    Examples
    --------
    >>> class Distance(Loss):
    ...     def __init__(self, level):
    ...         self.level = level
    ...
    ...     def __call__(self, x, f):
    ...         return tf.reduce_mean(tf.square(x - self.level), axis=[1, 2, 3])
    """

    @abc.abstractmethod
    def __call__(self, x: Any, f: Callable[[Any], Any]) -> Any:
        """Return the loss of each image.

        Parameters
        ----------
        x
            The images (N, ...), as the model takes them.
        f
            A function from a layer of the model (its index, name or path, or the layer itself) to
            the layer's output for x.

        Returns
        -------
        losses
            (N,).
        """

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and _value(self) == _value(other)

    def __hash__(self) -> int:
        return hash(type(self))  # attributes may change

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({shown})"


class LayerOutputs:
    """What a loss gets as f: a layer's output, of a model that runs once for all of them.

    Parameters
    ----------
    f
        The model while it is traced.
    x
        The images.
    """

    def __init__(self, f: Any, x: Structure) -> None:
        self._model_function = f
        self._outputs = f.layers(x)

    @tf.autograph.experimental.do_not_convert
    def __call__(self, layer: Any) -> tf.Tensor:
        """Return the output of a layer: given by index, name or path, or itself."""
        return self._outputs(layer)

    @tf.autograph.experimental.do_not_convert
    def channel_axis(self, layer: Any = None) -> int:
        """Return the channel axis of a layer's output; of the images for ``None``."""
        if layer is None:
            return self._model_function.channel_axis
        found = layer_paths.find(self._model_function.view.model, layer)
        return keras_compat.channel_axis(found.layer)


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


class WeightedSum:
    """The operator g(f, x, y) = Σ weight·loss(x, f's layers) of losses; y is not used.

    It is a value: two sums are equal if their weights are and their losses were when they were
    made. Later changes of a loss do not reach it.

    Parameters
    ----------
    losses
        Pairs (loss, weight).

    Raises
    ------
    InvalidParameterError
        If there are none, or not pairs of a `Loss` and a finite number.
    """

    def __init__(self, losses: Sequence[tuple[Loss, float]]) -> None:
        self._terms = tuple((copy.copy(loss), weight) for loss, weight in _checked(losses))
        #: What a compiled function is found again by: the sum itself may be gone by then.
        self.trace_key = _Snapshot(
            [(type(loss), _value(loss), weight) for loss, weight in self._terms]
        )

    @tf.autograph.experimental.do_not_convert
    def __call__(self, f: Any, x: Structure, y: Structure = None) -> tf.Tensor:
        """Return the weighted sum for each image, (N,)."""
        outputs = LayerOutputs(f, x)
        return tf.add_n(
            [
                weight * _per_sample(loss, call_with_autograph(loss, x, outputs))
                for loss, weight in self._terms
            ]
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WeightedSum) and self.trace_key == other.trace_key

    def __hash__(self) -> int:
        return hash(self.trace_key)

    @property
    def traced_parts(self) -> list[Any]:
        """What a trace reads and the key does not tell: the losses' code, and held objects."""
        code = [type(loss).__call__ for loss, _ in self._terms]
        return [*code, *(part.value for part in self.trace_key.held if part.lives)]


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


class _Snapshot:
    """What losses were at one moment: numbers, names and arrays by value, all else held weakly."""

    __slots__ = ("__weakref__", "parts")

    def __init__(self, parts: Sequence[Any]) -> None:
        self.parts = tuple(parts)

    @property
    def lives(self) -> bool:
        """Whether everything that is held weakly is still there."""
        return all(part.lives for part in self.held)

    @property
    def held(self) -> list[_Same]:
        """What is compared by identity."""
        return [part for part in leaves(self.parts) if isinstance(part, _Same)]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Snapshot) and self.parts == other.parts

    def __hash__(self) -> int:
        return hash(self.parts)


class _Same:
    """A value that equals nothing but itself, held weakly where that can be."""

    def __init__(self, value: Any) -> None:
        self._identity = id(value)
        try:
            self._reference: Callable[[], Any] = weakref.ref(value)
        except TypeError:
            self._reference = functools.partial(_itself, value)

    @property
    def value(self) -> Any:
        """The value; ``None`` if it is gone."""
        return self._reference()

    @property
    def lives(self) -> bool:
        """Whether the value is still there."""
        return self.value is not None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.lives and self.value is other.value

    def __hash__(self) -> int:
        return self._identity


def _itself(value: Any) -> Any:
    return value


def _value(loss: Loss) -> Any:
    return tuple((name, _comparable(value)) for name, value in sorted(vars(loss).items()))


def _comparable(value: Any) -> Any:
    """Return something that is hashable and equal for equal numbers, names and arrays."""
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, (list, tuple)):
        return (type(value).__name__, *map(_comparable, value))
    if isinstance(value, dict):
        return ("dict", *((name, _comparable(part)) for name, part in value.items()))
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype != object:
        return (value.shape, value.dtype.str, value.tobytes())
    return _Same(value)


def _checked(losses: Any) -> list[tuple[Loss, float]]:
    try:
        pairs = [(loss, float(weight)) for loss, weight in losses]
    except (TypeError, ValueError):
        pairs = []
    if not pairs or not all(isinstance(loss, Loss) for loss, _ in pairs):
        raise InvalidParameterError(
            "losses as a list of pairs (loss, weight)",
            repr(losses),
            "Pass at least one, such as [(LPNorm(), 10.0)]; a loss of your own is a subclass of "
            "`Loss`.",
        )
    if not all(math.isfinite(weight) for _, weight in pairs):
        raise InvalidParameterError("finite weights of losses", repr(losses), "Correct them.")
    return pairs


def _per_sample(loss: Loss, values: Any) -> tf.Tensor:
    values = tf.convert_to_tensor(values)
    if values.shape.rank != 1:
        raise InvalidOperatorError(
            f"a loss for each image, (N,), from {loss!r}",
            f"the shape {tuple(values.shape)}" if values.shape.rank is not None else "no rank",
            "Reduce over all axes but the first.",
        )
    return tf.cast(values, tf.float32)
