"""What the methods share that look at the gradients around a sample, where noise is added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from xplique_sal._data.structures import GradientModifier, Operator, Skeleton
from xplique_sal._engine import noise as noises
from xplique_sal._engine.recipe import Points, PointsRecipe, Source
from xplique_sal._engine.statistics import Mean, Statistic
from xplique_sal._parameters import integer, number
from xplique_sal.attributions.base import WhiteBoxExplainer


class _Noise(PointsRecipe):
    """Points at a normal distribution around each sample."""

    elsewhere = ("at the noisy points", "pass less `noise`, so that they stay where it is defined.")

    def __init__(
        self, statistic: Statistic, points: int, noise: float, seed: int, relative: bool
    ) -> None:
        self.statistic = statistic
        self.points = points
        self._noise = noise
        self._seed = seed
        self._relative = relative

    @property
    def key(self) -> tuple[Any, ...]:
        """A hashable value, equal for recipes of which the same is traced."""
        return (*super().key, self._relative)

    def own_settings(self, skeleton: Skeleton, count: int) -> list[np.ndarray]:
        """Return the seed and the deviation."""
        return [np.asarray(self._seed, np.int64), np.asarray(self._noise, np.float32)]

    def at(self, source: tf.Tensor, points: Points, place: Source) -> tf.Tensor:
        """Return the source plus noise."""
        seed, noise = place.own
        drawn = noises.normal(source, seed, points, place.position)
        deviation = points.per_row(tf.where(points.numbers < 0, 0.0, noise), source)
        if self._relative:
            deviation *= noises.spread(source)
        return source + drawn * deviation


class NoiseExplainer(WhiteBoxExplainer):
    """Base of the explainers that take a statistic of the gradients around a sample.

    The gradients are those at the points x + ε_k with normal noise ε_k, k = 1 … `nb_samples`.

    Parameters
    ----------
    nb_samples
        How many noisy points there are around each sample.
    noise
        The standard deviation of the noise, in units of the input.
    seed
        Chooses the noise, an integer; ``None`` draws one, which the attribute `seed` tells. The
        noise of a sample is a function of the seed and of the sample's position in the data, for
        any batch size, and in an array or a dataset. The random generators of TensorFlow and NumPy
        are not used.
    relative_noise
        Whether `noise` is a share of each sample's range, max − min.
    """

    #: What is kept of the gradients.
    _statistic: ClassVar[Statistic] = Mean()
    _least: ClassVar[int] = 1

    def __init__(
        self,
        model: Any,
        output_layer: int | str | None = None,
        batch_size: int | str | None = 64,
        operator: Operator | str | None = None,
        reducer: str | None = "mean",
        nb_samples: int = 50,
        noise: float = 0.2,
        *,
        seed: int | None = None,
        relative_noise: bool = False,
        output: int | str | None = None,
        logits: bool = False,
        wrt_layer: int | str | Sequence[int | str] | None = None,
        grad_modifier: GradientModifier | str | None = None,
        backprop_modifier: Callable[..., tf.Tensor] | str | None = None,
        fold_batch_norm: bool = True,
        strategy: tf.distribute.Strategy | None = None,
        channel_axis: int | None = None,
    ) -> None:
        self.nb_samples = integer("nb_samples", nb_samples, self._least)
        self.noise = number("noise", noise, remedy="Pass a standard deviation.")
        self.seed = noises.drawn_seed() if seed is None else integer("seed", seed, None)
        self.relative_noise = bool(relative_noise)
        self._recipe = _Noise(
            self._statistic, self.nb_samples, self.noise, self.seed, self.relative_noise
        )
        super().__init__(
            model,
            output_layer,
            batch_size,
            operator,
            reducer,
            output=output,
            logits=logits,
            wrt_layer=wrt_layer,
            grad_modifier=grad_modifier,
            backprop_modifier=backprop_modifier,
            fold_batch_norm=fold_batch_norm,
            strategy=strategy,
            channel_axis=channel_axis,
        )
