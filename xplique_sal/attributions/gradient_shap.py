"""GradientSHAP: expected gradients on the ways from several baselines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xplique_sal._data.structures import GradientModifier, Layout, Operator, Skeleton, Structure
from xplique_sal._engine import noise as noises
from xplique_sal._engine.recipe import Points, PointsRecipe, Source
from xplique_sal._parameters import integer, number
from xplique_sal.attributions.baseline_base import Baselines, CompleteExplainer
from xplique_sal.attributions.gap_base import gap_details


class _Expected(PointsRecipe):
    """A random place on the way from a random baseline, for each point of each sample.

    Points below 0 are the sample itself, and then each of the baselines.
    """

    nb_details = 3
    changes_gradients = True
    elsewhere = ("on the ways from the baselines", "pass other `baselines`, or less `noise`.")

    def __init__(self, points: int, noise: float, seed: int, baselines: Baselines) -> None:
        self.points = points
        self._noise, self._seed, self._baselines = noise, seed, baselines

    @property
    def key(self) -> tuple[Any, ...]:
        """A hashable value, equal for recipes of which the same is traced."""
        return (*super().key, *self._baselines.key)

    def own_settings(self, skeleton: Skeleton, count: int) -> list[np.ndarray]:
        """Return the seed, the deviation of the noise and the baselines of each source."""
        seed, noise = np.asarray(self._seed, np.int64), np.asarray(self._noise, np.float32)
        return [seed, noise, *self._baselines.arrays(skeleton, count)]

    def scored_of(self, layout: Layout) -> tuple[int, ...]:
        """Return the numbers of the sample and of each baseline."""
        ranks = [spec.shape.rank for spec in layout.input_specs]
        if self._baselines.is_function:
            return (-1, *(-2 - k for k in range(self._baselines.number_of_each)))
        arrays = self._baselines.arrays(layout.for_user, len(ranks))
        if self._baselines.is_inner:  # as many as there may be: the first axis of the array
            return (-1, *(-2 - k for k in range(max(map(_length, arrays)))))
        return (-1, *(-2 - k for k in range(self._baselines.count(arrays, ranks))))

    def at(self, source: tf.Tensor, points: Points, place: Source) -> tf.Tensor:
        """Return r + α (x − r), with the noise on x."""
        x, baseline, alpha = self._way(source, points, place)
        return baseline + alpha * (x - baseline)

    def of_point(
        self, gradient: tf.Tensor, source: tf.Tensor, points: Points, place: Source
    ) -> tf.Tensor:
        """Return (x − r) times the gradient."""
        x, baseline, _ = self._way(source, points, place)
        return self._baselines.contributions(gradient, x, baseline)

    def prepared(
        self, own: Sequence[tf.Tensor], inputs: Sequence[tf.Tensor]
    ) -> Sequence[tf.Tensor]:
        """Return the baselines of a batch, also those that a function of inputs makes."""
        seed, deviation, *arrays = own
        return [seed, deviation, *self._baselines.prepared(arrays, inputs)]

    def added_up(self, attribution: tf.Tensor, source: tf.Tensor) -> tf.Tensor:
        """Return what the source contributes."""
        return self._baselines.added_up(attribution, source)

    def details(self, attributions: Sequence[tf.Tensor], scores: tf.Tensor) -> tf.Tensor:
        """Return the gap, Σ |attributions|, and the score minus the mean of the baselines'."""
        return gap_details(attributions, scores[:, 0] - tf.reduce_mean(scores[:, 1:], 1))

    def _way(
        self, source: tf.Tensor, points: Points, place: Source
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Return x with its noise, r and α at some points, all of which broadcast to `source`."""
        seed, deviation, *own = place.own
        counts = points.numbers >= 0
        drawn = noises.uniform(2, seed, points)
        # In each of as many parts of [0, 1] as there are points is one α: the mean over random
        # ones is the same, and varies less.
        number = points.per_row(tf.cast(points.numbers, tf.float32), source)
        part = tf.reshape(drawn[:, 0], tf.shape(number))
        alpha = (number + part) / tf.cast(points.total, tf.float32)
        alpha = tf.where(number >= 0, alpha, tf.cast(number == -1, tf.float32))
        noise = noises.normal(source, seed, points, place.position)
        x = source + noise * points.per_row(tf.where(counts, deviation, 0.0), source)
        numbers = tf.repeat(points.numbers, points.samples)
        chosen = tf.where(numbers >= 0, drawn[:, 1], tf.cast(1 + numbers, tf.float32))
        return x, self._baselines.chosen(source, place, own, chosen), alpha


def _length(array: np.ndarray) -> int:
    return len(array) if array.ndim else 1


class GradientShap(CompleteExplainer):
    """Expected gradients: the gradient at random places between a sample and random baselines.

    For a score g of an input x, and baselines r,

        map = E[(x − r)·∂g/∂x (r + α(x − r))]

    elementwise, signed, and for images the sum of it over the channels. The mean is taken over
    `nb_samples` pairs of a baseline, drawn from `baselines`, and a place α of [0, 1], of which one
    lies in each of `nb_samples` equal parts. The expectation adds up to g(x) minus the mean of
    g(r): it is the mean of integrated gradients over the baselines, and its Aumann–Shapley value.
    What is drawn varies: `explain_with_gaps` tells by how much a map does not add up, and more
    `nb_samples` make that smaller. With `wrt_layer`, x is the output of that layer.

    Parameters
    ----------
    baselines
        What x is compared with: an array (K, ...) of samples, such as some of the training data;
        one sample; a number, or an array that broadcasts to a sample; a list, tuple or dict of
        these, packed as several inputs, of which the k-th belong together; or a function from a
        batch of inputs (n, ...) to a baseline of each, (n, ...), or to several, (n, K, ...), such
        as `sequences.ShuffledReferences`.
    nb_samples
        How many gradients the mean is taken of, for each sample.
    noise
        The standard deviation of normal noise that is added to x for each gradient, in units of the
        input. With noise, a map explains the neighbourhood of x.
    seed
        Chooses what is drawn, an integer; ``None`` draws one, which the attribute `seed` tells.
        What is drawn for a sample is a function of the seed and of the sample's position in the
        data.

    References
    ----------
    Erion, Janizek, Sturmfels, Lundberg and Lee, "Improving performance of deep learning models with
    axiomatic attribution priors and expected gradients", 2021, section "Expected gradients".

    Examples
    --------
    >>> explainer = GradientShap(model, baselines=images[:4], logits=True)  # doctest: +SKIP
    >>> explanations = explainer.explain(images, labels)  # doctest: +SKIP
    """

    def __init__(
        self,
        model: Any,
        output_layer: int | str | None = None,
        batch_size: int | str | None = 64,
        operator: Operator | str | None = None,
        reducer: str | None = "sum",
        *,
        baselines: float | Structure | Callable[[tf.Tensor], tf.Tensor],
        nb_samples: int = 50,
        noise: float = 0.0,
        seed: int | None = None,
        hypothetical: bool = False,
        output: int | str | None = None,
        logits: bool = False,
        wrt_layer: int | str | Sequence[int | str] | None = None,
        grad_modifier: GradientModifier | str | None = None,
        backprop_modifier: Callable[..., tf.Tensor] | str | None = None,
        fold_batch_norm: bool = True,
        strategy: tf.distribute.Strategy | None = None,
        channel_axis: int | None = None,
    ) -> None:
        self.baselines = baselines
        self.nb_samples = integer("nb_samples", nb_samples)
        self.noise = number("noise", noise, remedy="Pass a standard deviation.")
        self.seed = noises.drawn_seed() if seed is None else integer("seed", seed, None)
        self._baseline = Baselines(
            "baselines", baselines, wrt_layer is not None, bool(hypothetical)
        )
        self._recipe = _Expected(self.nb_samples, self.noise, self.seed, self._baseline)
        super().__init__(
            model,
            output_layer,
            batch_size,
            operator,
            reducer,
            hypothetical=hypothetical,
            output=output,
            logits=logits,
            wrt_layer=wrt_layer,
            grad_modifier=grad_modifier,
            backprop_modifier=backprop_modifier,
            fold_batch_norm=fold_batch_norm,
            strategy=strategy,
            channel_axis=channel_axis,
        )
