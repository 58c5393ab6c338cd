"""What a method makes of gradients: at which points they are taken, and how they become a map.

A method describes itself by a `Recipe`. It is traced as part of the compiled gradient, so
that no gradient of full size leaves the graph.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import tensorflow as tf

from xplique_sal._data.structures import Layout, Skeleton
from xplique_sal._engine.statistics import Mean, Statistic


class Source(NamedTuple):
    """What a recipe is told of one source beside its tensor.

    Attributes
    ----------
    position
        The index of the source among the model's inputs, or among the layers of `wrt_layer`.
    inputs
        The samples that the model was given.
    channel_axis, input_channel_axis
        The axis of channels of the source, and that of the model's images.
    own
        What `Recipe.own_settings` returned, as tensors.
    first
        The index of the first sample in the whole data.
    is_of_frames
        Whether the source is the output of a layer that runs on each time step by itself, (N, T,
        ...).
    """

    position: int
    inputs: Sequence[tf.Tensor]
    channel_axis: int
    input_channel_axis: int
    own: Sequence[tf.Tensor]
    first: tf.Tensor
    is_of_frames: bool = False


class Recipe:
    """What a method makes of the gradient at each sample; this base class leaves it as it is.

    The tensor with respect to which the gradient is taken is called the source: an input, or the
    output of a layer that `wrt_layer` names.
    """

    #: Whether `combine` looks at the source.
    needs_source: ClassVar[bool] = False

    #: How many numbers `details` returns of each sample.
    nb_details: ClassVar[int] = 0

    @property
    def key(self) -> tuple[Any, ...]:
        """A hashable value, equal for recipes of which the same is traced."""
        return (type(self),)

    def own_settings(self, skeleton: Skeleton, count: int) -> list[np.ndarray]:
        """Return what is given to the compiled function beside the samples: it costs no trace.

        Parameters
        ----------
        skeleton
            How maps are packed for the user.
        count
            The number of sources.
        """
        return []

    def combine(self, gradient: tf.Tensor, source: tf.Tensor, place: Source) -> tf.Tensor:
        """Return the attributions of a source, before they are modified and reduced.

        Parameters
        ----------
        gradient
            ∂g/∂source in float32, or the statistic of it over several points.
        source
            The source as it is in the sample, in the model's precision; if `needs_source`.
        place
            Which source it is.
        """
        return gradient

    def added_up(self, attribution: tf.Tensor, source: tf.Tensor) -> tf.Tensor:
        """Return what of the attributions of a source adds up to the score, or to its change."""
        return attribution

    def details(self, attributions: Sequence[tf.Tensor], scores: tf.Tensor) -> tf.Tensor:
        """Return a few numbers about each sample, (n, `nb_details`).

        Parameters
        ----------
        attributions
            What `added_up` returned for each source that has a gradient.
        scores
            (n, S): the scores at the points that `PointsRecipe.scored` names.
        """
        return tf.zeros([tf.shape(scores)[0], 0])


class Points(NamedTuple):
    """Points of a batch that are evaluated at once: some of each sample, the same of all.

    Attributes
    ----------
    numbers
        Their numbers (P,), counted from 0.
    first
        The index of the batch's first sample in the whole data.
    total
        How many points of each sample there are in all.
    samples
        The number n of samples. Tensors hold P·n rows, point by point.
    nodes
        `PointsRecipe.nodes`.
    """

    numbers: tf.Tensor
    total: tf.Tensor
    first: tf.Tensor
    samples: tf.Tensor
    nodes: tf.Tensor

    def of_nodes(self, row: int) -> tf.Tensor:
        """Return what a row of the nodes says of each point (P,); anything of those below 0."""
        return tf.gather(self.nodes[row], tf.maximum(self.numbers, 0))

    def per_row(self, values: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
        """Return a value for each point (P,) in a shape that broadcasts to the rows of `like`."""
        rows = tf.repeat(values, self.samples)
        return tf.reshape(rows, [-1] + [1] * (like.shape.rank - 1))


class PointsRecipe(Recipe, abc.ABC):
    """What is made of the gradients at several points near each sample.

    Attributes
    ----------
    points
        How many points of each sample count.
    scored
        The numbers of the points whose scores are asked for; the first is the sample itself. Those
        below 0 are no points that count.
    statistic
        What is kept of the gradients.
    """

    #: Which points a method looks at beside the samples, and what to do if gradients are not
    #: finite there.
    elsewhere: ClassVar[tuple[str, str]] = ("at other points", "take a method without them.")

    #: Whether `details` are looked at in every call, for which all of `scored` are needed.
    judges_details: ClassVar[bool] = False
    #: Whether `of_point` does something.
    changes_gradients: ClassVar[bool] = False

    points: int
    scored: tuple[int, ...] = (-1,)
    statistic: Statistic = Mean()

    @property
    def nodes(self) -> np.ndarray:
        """Numbers of each point that are given to the compiled function, (2, points) or (2, 0)."""
        return np.zeros((2, 0))

    def scored_of(self, layout: Layout) -> tuple[int, ...]:
        """Return `scored` for samples of a layout."""
        return self.scored

    @abc.abstractmethod
    def at(self, source: tf.Tensor, points: Points, place: Source) -> tf.Tensor:
        """Return what takes the place of a source at some points.

        Parameters
        ----------
        source
            The source, once for each point: (P·n, ...), point by point. Of a floating type.
        points
            Which points; a number below 0 is one of `scored` that counts for nothing: −1 is the
            sample itself.
        place
            Which source it is.
        """

    def prepared(
        self, own: Sequence[tf.Tensor], inputs: Sequence[tf.Tensor]
    ) -> Sequence[tf.Tensor]:
        """Return `Source.own` of a batch: what is computed once, and not at each point.

        Parameters
        ----------
        own
            What `own_settings` returned, as tensors.
        inputs
            The batch, as the model takes it.
        """
        return own

    def of_point(
        self, gradient: tf.Tensor, source: tf.Tensor, points: Points, place: Source
    ) -> tf.Tensor:
        """Return what the statistic is taken of, if `changes_gradients`.

        Parameters
        ----------
        gradient
            ∂g/∂source at some points, (P·n, ...), in float32.
        source
            As in `at`.
        points
            Which points.
        place
            Which source it is.
        """
        return gradient

    def weights(self, points: Points) -> tf.Tensor:
        """Return the share of some points in the mean, (P,); of all points it adds up to 1."""
        return tf.fill(tf.shape(points.numbers), 1 / tf.cast(points.total, tf.float32))

    @property
    def key(self) -> tuple[Any, ...]:
        """A hashable value, equal for recipes of which the same is traced."""
        return (type(self), type(self.statistic))


class PairsRecipe(Recipe, abc.ABC):
    """What is made of the multipliers between each sample and its baselines."""

    nb_details: ClassVar[int] = 3

    #: Whether the baselines are those of all samples.
    is_shared: bool

    @abc.abstractmethod
    def count(self, sources: Sequence[tf.Tensor], own: Sequence[tf.Tensor]) -> int:
        """Return how many baselines each sample has."""

    @abc.abstractmethod
    def contributions(
        self, multipliers: tf.Tensor, source: tf.Tensor, baseline: tf.Tensor
    ) -> tf.Tensor:
        """Return what a source contributes by its multipliers, of tensors that broadcast."""

    @abc.abstractmethod
    def table(self, source: tf.Tensor, place: Source) -> tf.Tensor:
        """Return the baselines of all samples (K, ...), if they are shared."""

    @abc.abstractmethod
    def of_each(self, source: tf.Tensor, place: Source) -> tf.Tensor:
        """Return the baselines of each sample, (K, n, ...)."""
