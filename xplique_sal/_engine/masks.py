"""Inputs that are changed, of which parts are hidden by masks, made when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import tensorflow as tf

from xplique_sal.errors import InvalidInputError, InvalidParameterError

#: What is changed in copies of samples.
_Change = TypeVar("_Change")


class Masks(Protocol):
    """Masks of one shape, which are made anew whenever they are asked for."""

    #: How many there are.
    count: int

    def __call__(self, first: int, count: int) -> tf.Tensor:
        """Return some masks, float32: 1 where the input is kept, 0 where hidden.

        They are (count, ...), or (count, N, ...) where each sample has its own.
        """


class MaskedScores(NamedTuple):
    """Some masks, and what they did.

    Attributes
    ----------
    masks
        (masks, ...), or (masks, N, ...): 1 where the inputs were kept, 0 where they were hidden.
    scores
        (masks, N), or (masks, N, K) of several outputs, in float64.
    of_each
        Whether each sample has masks of its own.
    """

    masks: tf.Tensor
    scores: np.ndarray
    of_each: bool = False

    def sum_over_hidden(self, weights: np.ndarray) -> tf.Tensor:
        """Return Σ w·(1 − m), (N, ...) or (N, K, ...), of weights in the shape of the scores."""
        return self._sum(weights, 1 - self.masks)

    def sum_over_kept(self, weights: np.ndarray) -> tf.Tensor:
        """Return Σ w·m, (N, ...) or (N, K, ...), of weights in the shape of the scores."""
        return self._sum(weights, self.masks)

    def total(self) -> tf.Tensor:
        """Return Σ m, in a shape that broadcasts to that of `sum_over_kept`."""
        total = tf.reduce_sum(self.masks, 0)
        return total[:, tf.newaxis] if self.of_each and self.scores.ndim > 2 else total

    def _sum(self, weights: np.ndarray, masks: tf.Tensor) -> tf.Tensor:
        outputs = "k" if weights.ndim > 2 else ""
        weights = tf.cast(weights, tf.float32)
        if not self.of_each:
            return tf.tensordot(weights, masks, [[0], [0]])
        return tf.einsum(f"mn{outputs},mn...->n{outputs}...", weights, masks)


class Filling:
    """What stands in hidden parts: a number, or numbers for each channel (feature, sensor).

    Parameters
    ----------
    value
        A number; an array (C,); or an array that can be broadcast to a sample.
    name
        What the parameter is called.

    Raises
    ------
    InvalidParameterError
        If it is none of these.
    """

    def __init__(self, value: Any, name: str) -> None:
        self._name = name
        self._value = np.asarray(value)
        if self._value.dtype.kind not in "buif" or not np.isfinite(self._value).all():
            raise self._wrong("a finite number, or an array of them", repr(value))

    def within(self, x: tf.Tensor, channel_axis: int) -> np.ndarray:
        """Return it so that it can be broadcast to the samples x, (N, ...).

        Raises
        ------
        InvalidParameterError
            If it does not fit them.
        """
        shape = x.shape[1:]
        value = self._value
        if value.ndim == 1 and shape.rank > 2 and channel_axis == 1:
            value = value.reshape(-1, *[1] * (shape.rank - 1))
        try:
            fits = np.broadcast_shapes(value.shape, tuple(shape)) == tuple(shape)
        except ValueError:
            fits = False
        if not fits:
            raise self._wrong(
                f"a number, or an array that fits samples of shape {tuple(shape)}",
                f"one of shape {self._value.shape}",
            )
        limits = (x.dtype.min, x.dtype.max) if x.dtype.is_integer else (0, 1)
        if (
            not x.dtype.is_floating
            and ((value != np.rint(value)) | (value < limits[0]) | (value > limits[1])).any()
        ):
            raise self._wrong(f"whole numbers that {x.dtype.name} inputs can hold", f"{value}")
        return value

    def _wrong(self, expected: str, actual: str) -> InvalidParameterError:
        return InvalidParameterError(
            f"`{self._name}`: {expected}", actual, "Pass one number, or one for each channel."
        )


class OneInput(NamedTuple):
    """One of the inputs of some samples, which is changed while the others stay as they are.

    Attributes
    ----------
    inputs
        The samples, one tensor for each input.
    position
        Which of the inputs is changed.
    score
        Returns the scores (copies · N,), or (copies · N, K), of copies of all inputs.
    """

    inputs: Sequence[tf.Tensor]
    position: int
    score: Callable[[list[Any]], np.ndarray]

    @property
    def samples(self) -> tf.Tensor:
        """What is changed, (N, ...)."""
        return self.inputs[self.position]

    def scores(
        self, count: int, at_once: int, changed: Callable[[int, int], tuple[_Change, Any]]
    ) -> Iterator[tuple[_Change, np.ndarray]]:
        """Yield what was changed in some copies, and their scores (copies, N, ...).

        Parameters
        ----------
        count
            How many changed copies of all samples there are.
        at_once
            How many of them exist at once.
        changed
            Says what is changed in some of them, and returns them, (copies · N, ...); from the
            number of the first and how many.
        """
        for first in range(0, count, at_once):
            copies = min(at_once, count - first)
            change, samples = changed(first, copies)
            rows = [tf.tile(x, [copies, *[1] * (x.shape.rank - 1)]) for x in self.inputs]
            rows[self.position] = samples
            scores = self.score(rows)
            yield change, scores.reshape(copies, -1, *scores.shape[1:])

    def scores_behind(
        self, masks: Masks, at_once: int, value: np.ndarray
    ) -> Iterator[MaskedScores]:
        """Yield the scores of masked copies, some masks at a time.

        Parameters
        ----------
        masks
            Of the input.
        at_once
            How many masked copies of the samples exist at once.
        value
            What stands in hidden parts.
        """
        rank = self.samples.shape.rank

        def changed(first: int, count: int) -> tuple[tf.Tensor, tf.Tensor]:
            some = masks(first, count)
            kept = some if some.shape.rank > rank else some[:, tf.newaxis]
            return some, masked(self.samples, kept, value)

        for some, scores in self.scores(masks.count, at_once, changed):
            yield MaskedScores(some, scores, some.shape.rank > rank)


def with_hidden(x: tf.Tensor, hidden: tf.Tensor, value: Any) -> tf.Tensor:
    """Return copies of samples with a value where they are hidden, (copies · N, ...).

    Parameters
    ----------
    x
        The samples, (N, ...).
    hidden
        Truth values (copies, N, ...) with axes that can be broadcast to those of x.
    value
        What stands in hidden parts: it can be broadcast to x.
    """
    changed = tf.where(hidden, tf.cast(value, x.dtype), x)
    return tf.reshape(changed, tf.concat([[-1], tf.shape(x)[1:]], 0))


def masked(x: tf.Tensor, masks: tf.Tensor, value: Any) -> tf.Tensor:
    """Return x·m + v·(1 − m) of masks (masks, N or 1, ...) of samples, (masks · N, ...)."""
    if not (x.dtype.is_floating or x.dtype.is_integer or x.dtype.is_bool):
        raise InvalidInputError(
            "inputs that are numbers", f"the dtype {x.dtype.name}", "Convert them to numbers."
        )
    exact = x if x.dtype.is_floating else tf.cast(x, tf.float64)
    kept = tf.cast(masks, exact.dtype)
    changed = exact * kept + tf.cast(value, exact.dtype) * (1 - kept)
    if changed.dtype != x.dtype:
        changed = tf.cast(tf.round(changed), x.dtype)
    return tf.reshape(changed, tf.concat([[-1], tf.shape(x)[1:]], 0))
