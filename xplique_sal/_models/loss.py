"""A loss of an image and of what a model's layers make of it, and weighted sums of losses."""

from __future__ import annotations

import abc
import copy
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xplique_sal._data.structures import Structure, leaves
from xplique_sal._models.invoke import call_with_autograph
from xplique_sal._tracing import keras_compat, layer_paths
from xplique_sal.errors import InvalidOperatorError, InvalidParameterError

_SUMS = "_weighted_sums"
_MOST_SUMS = 8
#: The modules of the losses that refer to nothing but their attributes.
_OWN = ("xplique_sal.losses",)
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
        shown = ", ".join(f"{k}={v!r}" for k, v in vars(self).items() if k != _SUMS)
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
        self._key = _Snapshot([(type(loss), _value(loss), weight) for loss, weight in self._terms])

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
        return isinstance(other, WeightedSum) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def is_plain(self) -> bool:
        """Whether it holds numbers and names alone, and so cannot keep a model alive."""
        own = all(type(loss).__module__ in _OWN for loss, _ in self._terms)
        return own and not any(isinstance(part, _Same) for part in leaves(self._key.parts))


def weighted_sum(losses: Sequence[tuple[Loss, float]]) -> WeightedSum:
    """Return the sum of (loss, weight) pairs, the same object for equal losses and weights.

    Compiled functions hold operators weakly. So that a sum made anew for each image finds its
    function again, a plain one is remembered here; another one by its first loss, so that it
    lives for as long as that, and no model for longer than its owner wants.
    """
    new = WeightedSum(losses)
    if new.is_plain:
        return _remembered(new)
    known: list[WeightedSum] = vars(losses[0][0]).setdefault(_SUMS, [])
    if new not in known:
        known[:] = [*known, new][-_MOST_SUMS:]
    return known[known.index(new)]


@functools.lru_cache(maxsize=128)
def _remembered(plain: WeightedSum) -> WeightedSum:
    return plain


class _Snapshot:
    """What losses were at one moment. With slots, so that nobody need look into it."""

    __slots__ = ("__weakref__", "parts")

    def __init__(self, parts: Sequence[Any]) -> None:
        self.parts = tuple(parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Snapshot) and self.parts == other.parts

    def __hash__(self) -> int:
        return hash(self.parts)


class _Same:
    """A value that equals nothing but itself."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self._value is other._value

    def __hash__(self) -> int:
        return id(self._value)


def _value(loss: Loss) -> Any:
    return tuple((k, _comparable(v)) for k, v in sorted(vars(loss).items()) if k != _SUMS)


def _comparable(value: Any) -> Any:
    """Return something that is hashable and equal for equal numbers, names and arrays."""
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, (list, tuple)):
        return (type(value).__name__, *map(_comparable, value))
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
