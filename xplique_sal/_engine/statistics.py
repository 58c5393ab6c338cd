"""What is kept of gradients that come a few at a time: sums in float32, never the gradients."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import ClassVar

import tensorflow as tf


class Statistic(abc.ABC):
    """A statistic over points.

    Its state is some tensors, which are zero at first, and of any shape that broadcasts to that
    of a gradient.
    """

    #: How many tensors its state is.
    nb_tensors: ClassVar[int] = 1

    @abc.abstractmethod
    def update(
        self, state: Sequence[tf.Tensor], gradients: tf.Tensor, weights: tf.Tensor, done: tf.Tensor
    ) -> list[tf.Tensor]:
        """Return the state after some more points.

        Parameters
        ----------
        state
            The state so far.
        gradients
            (P, n, ...), in float32.
        weights
            The share of each point in all, (P,); zero for one that does not count.
        done
            The share of the points before.
        """

    def finished(self, state: Sequence[tf.Tensor], points: tf.Tensor) -> list[tf.Tensor]:
        """Return the statistic of all points.

        Tensors after it only tell a gradient that is zero from one that varies around zero.
        """
        return [*state]


class Mean(Statistic):
    """Σ w_k g_k, the weighted mean."""

    def update(
        self, state: Sequence[tf.Tensor], gradients: tf.Tensor, weights: tf.Tensor, done: tf.Tensor
    ) -> list[tf.Tensor]:
        """Add the weighted sum of some more gradients."""
        return [state[0] + _weighted_sum(gradients, weights)]


class MeanSquare(Statistic):
    """Σ w_k g_k², the weighted mean of squares."""

    def update(
        self, state: Sequence[tf.Tensor], gradients: tf.Tensor, weights: tf.Tensor, done: tf.Tensor
    ) -> list[tf.Tensor]:
        """Add the weighted sum of the squares of some more gradients."""
        return [state[0] + _weighted_sum(tf.square(gradients), weights)]


class Variance(Statistic):
    """Σ (g_k − ḡ)² / (points − 1), the unbiased variance of points of equal weight.

    Sums of squares minus the square of a sum would cancel where the mean is large. Here a batch of
    points is merged with those before it: the squared deviations add up, with what the distance
    of the two means adds to them (Chan, Golub and LeVeque, 1983).
    """

    nb_tensors = 2

    def update(
        self, state: Sequence[tf.Tensor], gradients: tf.Tensor, weights: tf.Tensor, done: tf.Tensor
    ) -> list[tf.Tensor]:
        """Merge the mean and the squared deviations of some more gradients."""
        mean, squares = state
        share = tf.reduce_sum(weights)
        mean_now = tf.math.divide_no_nan(_weighted_sum(gradients, weights), share)
        squares_now = _weighted_sum(tf.square(gradients - mean_now), weights)
        distance = mean_now - mean
        moved = tf.math.divide_no_nan(share, done + share)
        return [
            mean + distance * moved,
            squares + squares_now + tf.square(distance) * (done * moved),
        ]

    def finished(self, state: Sequence[tf.Tensor], points: tf.Tensor) -> list[tf.Tensor]:
        """Return the variance, and the mean: where that is not zero, neither is the gradient."""
        mean, squares = state
        return [squares * tf.cast(points / (points - 1), tf.float32), mean]


def _weighted_sum(gradients: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    rank = gradients.shape.rank
    return tf.reduce_sum(gradients * tf.reshape(weights, [-1] + [1] * (rank - 1)), 0)
