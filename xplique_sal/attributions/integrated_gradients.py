"""Integrated gradients: the mean gradient on the way from a baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xplique_sal._data.structures import GradientModifier, Operator, Skeleton, Structure
from xplique_sal._engine.recipe import Points, PointsRecipe, Source
from xplique_sal._parameters import integer, one_of
from xplique_sal.attributions.baseline_base import Baseline, CompleteExplainer
from xplique_sal.attributions.gap_base import gap_details

#: The number of the point that is the sample, and of that which is the baseline, where neither is
#: one of those that count.
_SAMPLE, _BASELINE = -1, -2


def _trapezoidal(points: int) -> np.ndarray:
    """Return equally far points of [0, 1], and their weights: both ends are in, and count half."""
    weights = np.full(points, 1 / (points - 1))
    weights[[0, -1]] /= 2
    return np.stack([np.linspace(0, 1, points), weights])


def _gauss_legendre(points: int) -> np.ndarray:
    """Return the points of [0, 1] and the weights that are exact of the highest degree."""
    nodes, weights = np.polynomial.legendre.leggauss(points)
    return np.stack([(1 + nodes) / 2, weights / 2])


_QUADRATURES = {"trapezoidal": _trapezoidal, "gauss_legendre": _gauss_legendre}


class _Path(PointsRecipe):
    """Points on the straight line from the baseline to the sample."""

    needs_source = True
    nb_details = 3
    judges_details = True
    elsewhere = (
        "on the way from the baseline, which is part of it",
        "pass another `baseline_value`. Where several inputs are compared with each other, the "
        "same baseline for all makes their distance zero.",
    )

    def __init__(self, points: int, quadrature: str, baseline: Baseline) -> None:
        self.points = points
        self._quadrature, self._baseline = quadrature, baseline
        has_ends = quadrature == "trapezoidal"
        self.scored = (points - 1, 0) if has_ends else (_SAMPLE, _BASELINE)

    @property
    def key(self) -> tuple[Any, ...]:
        """A hashable value, equal for recipes of which the same is traced."""
        return (*super().key, *self._baseline.key)

    @property
    def nodes(self) -> np.ndarray:
        """The place α of each point on the line, and its weight."""
        return _QUADRATURES[self._quadrature](self.points)

    def own_settings(self, skeleton: Skeleton, count: int) -> list[np.ndarray]:
        """Return the baseline of each source, unless it is a function."""
        return self._baseline.arrays(skeleton, count)

    def prepared(
        self, own: Sequence[tf.Tensor], inputs: Sequence[tf.Tensor]
    ) -> Sequence[tf.Tensor]:
        """Return the baselines of a batch, also those that a function of inputs makes."""
        return self._baseline.prepared(own, inputs)

    def at(self, source: tf.Tensor, points: Points, place: Source) -> tf.Tensor:
        """Return (1 − α) baseline + α source, which is exact at both ends."""
        end = tf.where(points.numbers == _BASELINE, 0.0, 1.0)
        alpha = tf.where(points.numbers < 0, end, points.of_nodes(0))
        alpha = points.per_row(alpha, source)
        baseline = self._baseline.of(source, place, place.own, times=tf.size(points.numbers))
        return (1 - alpha) * baseline + alpha * source

    def weights(self, points: Points) -> tf.Tensor:
        """Return those of the quadrature."""
        return points.of_nodes(1)

    def combine(self, gradient: tf.Tensor, source: tf.Tensor, place: Source) -> tf.Tensor:
        """Return (source − baseline) times the mean gradient."""
        source = tf.cast(source, tf.float32)
        baseline = self._baseline.of(source, place, place.own)
        return self._baseline.contributions(gradient, source, baseline)

    def added_up(self, attribution: tf.Tensor, source: tf.Tensor) -> tf.Tensor:
        """Return what the source contributes."""
        return self._baseline.added_up(attribution, source)

    def details(self, attributions: Sequence[tf.Tensor], scores: tf.Tensor) -> tf.Tensor:
        """Return the gap, Σ |attributions|, and how much the score changes on the way."""
        return gap_details(attributions, scores[:, 0] - scores[:, 1])


class IntegratedGradients(CompleteExplainer):
    """The change of a score from a baseline to the input, shared out among the input's values.

    For a score g of an input x and a baseline b,

        map = (x − b)·∫₀¹ ∂g/∂x (b + α(x − b)) dα

    elementwise, signed, and for images the mean of it over the channels. The integral is taken at
    `steps` points. Attributions are complete: with ``reducer=None`` they add up to g(x) − g(b), but
    for the error of the `quadrature`, which `explain_with_gaps` tells. With `wrt_layer`, x is the
    output of that layer, and the path leads there from b: so the words of a text are explained by
    the output of their embedding.

    Parameters
    ----------
    steps
        How many points there are on the path, at least 2.
    baseline_value
        b, from which nothing is attributed: a number; an array of the shape of a sample, or one
        that broadcasts to it, such as one value for each channel; an array (N, ...) of one for
        each of the samples of a call, in their order; a list, tuple or dict of these, packed as
        several inputs (or in the order of `wrt_layer`, where there is no baseline for each sample);
        or a function from a batch of inputs (each of several in turn) to their baselines, each made
        of its own sample alone.
    quadrature
        Where the points are, and how much each counts: ``"trapezoidal"``, equally far from each
        other, both ends included; or ``"gauss_legendre"``, exact of polynomials up to the degree
        2·steps − 1, so that a smooth score (GELU, swish, tanh) needs far fewer `steps`. A network
        of ReLUs has a gradient that jumps on the way: there neither rule is better. The score at
        both ends is then computed beside the points.

    Warns
    -----
    UserWarning
        Once for each explainer: if for some sample the gap is more than 5 % of Σ |attributions| and
        of |g(x) − g(b)|, and more than rounding.

    References
    ----------
    Sundararajan, Taly and Yan, "Axiomatic Recipe for Deep Networks", 2017, sections 3 and 5.
    """

    def __init__(
        self,
        model: Any,
        output_layer: int | str | None = None,
        batch_size: int | str | None = 64,
        operator: Operator | str | None = None,
        reducer: str | None = "mean",
        steps: int = 50,
        baseline_value: float | Structure | Callable[[tf.Tensor], tf.Tensor] = 0.0,
        *,
        quadrature: str = "trapezoidal",
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
        one_of("quadrature", quadrature, _QUADRATURES)
        self.steps = integer("steps", steps, 2, "The baseline and the sample are two of them.")
        self.baseline_value, self.quadrature = baseline_value, quadrature
        self._baseline = Baseline(
            "baseline_value", baseline_value, wrt_layer is not None, bool(hypothetical)
        )
        self._cause = (
            f"{self.steps} points on the way do not tell how the score gets there. If it changes "
            "abruptly, pass more `steps`; if more do not help, the baseline is drawn anew at each "
            "point, or the model has steps that a gradient does not see."
        )
        self._recipe = _Path(self.steps, quadrature, self._baseline)
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
