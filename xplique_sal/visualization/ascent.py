"""Ascent: the steps of gradient ascent on images, as arrays and for any objective."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xplique_sal._parameters import integer, number
from xplique_sal.errors import InvalidParameterError


class Adam:
    """Adam (Kingma and Ba, 2015) upwards, with steps that shrink to zero along half a cosine."""

    def __init__(self, learning_rate: float, steps: int) -> None:
        self._rates = iter(
            learning_rate * (1 + math.cos(math.pi * step / steps)) / 2 for step in range(steps)
        )
        self._count = 0
        self._mean: Any = 0.0
        self._square: Any = 0.0

    def __call__(self, images: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Return the images after one step."""
        self._count += 1
        self._mean = 0.9 * self._mean + 0.1 * gradient
        self._square = 0.999 * self._square + 0.001 * np.square(gradient)
        mean = self._mean / (1 - 0.9**self._count)
        square = self._square / (1 - 0.999**self._count)
        step = next(self._rates) * mean / (np.sqrt(square) + 1e-7)
        return (images + step).astype(np.float32)


class KerasAscent:
    """A copy of an optimiser of either Keras, with each image as a variable of its own."""

    def __init__(self, optimizer: Any, start: np.ndarray) -> None:
        if not all(hasattr(optimizer, name) for name in ("apply_gradients", "get_config")):
            raise InvalidParameterError(
                "an `optimizer` of tf-keras or Keras 3",
                repr(optimizer),
                "Pass an object such as keras.optimizers.SGD(0.1), or None for the built-in one.",
            )
        if getattr(optimizer, "global_clipnorm", None) is not None:
            raise InvalidParameterError(
                "an `optimizer` that treats each image alone",
                "one with `global_clipnorm`, which mixes them",
                "Use `clipnorm`, which clips each image.",
            )
        self._optimizer = type(optimizer).from_config(copy.deepcopy(optimizer.get_config()))
        self._variables = [tf.Variable(image) for image in start]

    def __call__(self, images: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Return the images after one step."""
        for variable, image in zip(self._variables, images, strict=True):
            variable.assign(image)
        downwards = [tf.constant(-slope) for slope in gradient]
        self._optimizer.apply_gradients(list(zip(downwards, self._variables, strict=True)))
        return np.stack([variable.numpy() for variable in self._variables])


class Best:
    """For each class the image with the largest objective so far."""

    def __init__(self, start: np.ndarray) -> None:
        self.images = start.copy()
        self._objective = np.full(len(start), -np.inf)

    def see(self, images: np.ndarray, objective: np.ndarray) -> None:
        """Keep those of `images` that are better than what was seen so far."""
        better = objective >= self._objective  # what rounding makes equal is further on its way
        self.images[better] = images[better]
        self._objective[better] = objective[better]


def random_shifts(
    start: np.ndarray,
    classes: np.ndarray,
    steps: int,
    axes: list[int],
    jitter: int,
    seed: int | None,
) -> Iterator[list[np.ndarray]]:
    """Yield how far each image is moved at each step; the first and the last are not."""
    still = [np.zeros(start.ndim - 1, int)] * len(start)
    entropy: Any = np.random.SeedSequence(seed).entropy
    # A stream for each class, whichever other classes there are.
    streams = [np.random.default_rng([entropy, int(index)]) for index in classes]
    yield still
    for _ in range(1, steps):
        if not jitter:
            yield still
            continue
        shifts = np.zeros((len(start), start.ndim - 1), int)
        for shift, stream in zip(shifts, streams, strict=True):
            shift[axes] = stream.integers(-jitter, jitter, len(axes), endpoint=True)
        yield list(shifts)
    yield still


def moved(images: np.ndarray, shifts: Sequence[np.ndarray]) -> np.ndarray:
    """Return each image moved cyclically by its shift."""
    if not np.any(shifts):
        return images
    axes = tuple(range(images.ndim - 1))
    return np.stack(
        [np.roll(image, shift, axes) for image, shift in zip(images, shifts, strict=True)]
    )


def finite(images: np.ndarray) -> np.ndarray:
    """Return images, if they are finite.

    Raises
    ------
    InvalidParameterError
    """
    if not np.isfinite(images).all():
        raise InvalidParameterError(
            "steps that stay finite",
            "an image with NaN or infinite values",
            "Make the optimiser's learning rate or the regularisers' weights smaller.",
        )
    return images


def clipped(images: np.ndarray, value_range: tuple[float, float] | None) -> np.ndarray:
    """Return images with every value inside a range; ``None`` is no range."""
    return images if value_range is None else np.clip(images, *value_range).astype(np.float32)


def check_settings(l2: Any, steps: Any, learning_rate: Any, value_range: Any, jitter: Any) -> None:
    """Refuse numbers that say nothing.

    Raises
    ------
    InvalidParameterError
    """
    integer("steps", steps)
    integer("jitter", jitter, 0)
    number("l2", l2, remedy="It weighs ‖I‖².")
    number("learning_rate", learning_rate, "()", remedy="It is in units of the image.")
    if value_range is not None:
        ends = np.asarray(value_range)
        if ends.shape != (2,) or ends.dtype.kind not in "iuf" or not ends[0] < ends[1]:
            raise InvalidParameterError(
                "`value_range` as (low, high) with low < high",
                repr(value_range),
                "Pass the values between which the model's images lie, or None.",
            )
