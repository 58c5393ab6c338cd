"""Integrated gradients: the mean gradient on the way from a baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xplique_sal._data.structures import (
    GradientModifier,
    Operator,
    Skeleton,
    Structure,
    leaves,
)
from xplique_sal._engine.recipe import Points, PointsRecipe, Source
from xplique_sal._engine.request import Explained, Request
from xplique_sal._models.invoke import call_with_autograph
from xplique_sal._parameters import integer
from xplique_sal._tracing.held import HeldCallable, weakly_referable
from xplique_sal.attributions.base import WhiteBoxExplainer
from xplique_sal.errors import InvalidParameterError

#: In a batch of how many others a baseline function is tried.
_NEIGHBOURS = 8
#: What share of a map's mass may be missing before a warning.
_GAP = 0.05

#: How exact a difference of scores is, as a share of them.
_ROUNDING = 1e-5


class _Path(PointsRecipe):
    """Points on the straight line from the baseline to the sample, both included."""

    needs_source = True
    nb_details = 3
    elsewhere = (
        "on the way from the baseline, which is part of it",
        "pass another `baseline_value`. Where several inputs are compared with each other, the "
        "same baseline for all makes their distance zero.",
    )

    def __init__(self, points: int, baseline: Any, is_inner: bool) -> None:
        self.points = points
        self._is_inner = is_inner  # the source is no input, of which there might be a baseline each
        self.scored = (points - 1, 0)
        self._baseline = weakly_referable(baseline) if callable(baseline) else baseline

    @property
    def key(self) -> tuple[Any, ...]:
        """A hashable value, equal for recipes of which the same is traced."""
        baseline = HeldCallable(self._baseline) if callable(self._baseline) else None
        return (*super().key, baseline, self._is_inner)

    def own_settings(self, skeleton: Skeleton, count: int) -> list[np.ndarray]:
        """Return the baseline of each source, unless it is a function."""
        baseline = self._baseline
        if callable(baseline):
            return []
        if count == 1 or not isinstance(baseline, (list, tuple, dict)):
            return [_as_array(baseline)] * count
        given = leaves(baseline)
        if len(given) != count:
            raise InvalidParameterError(
                f"a `baseline_value` for each of {count} inputs",
                f"{len(given)}",
                "Pack them as the inputs, or pass one number for all.",
            )
        by_position = dict(zip(leaves(skeleton), given, strict=True))
        return [_as_array(by_position[position]) for position in range(count)]

    def at(self, source: tf.Tensor, points: Points, place: Source) -> tf.Tensor:
        """Return (1 − α) baseline + α source, which is exact at both ends."""
        last = tf.cast(points.total - 1, tf.float32)
        alpha = points.per_row(tf.cast(points.numbers, tf.float32) / last, source)
        baseline = self._of(source, place, times=tf.size(points.numbers))
        return (1 - alpha) * baseline + alpha * source

    def weights(self, points: Points) -> tf.Tensor:
        """Return those of the trapezoidal rule: the two ends count half."""
        is_end = (points.numbers == 0) | (points.numbers == points.total - 1)
        return tf.where(is_end, 0.5, 1.0) / tf.cast(points.total - 1, tf.float32)

    def combine(self, gradient: tf.Tensor, source: tf.Tensor, place: Source) -> tf.Tensor:
        """Return (source − baseline) times the mean gradient."""
        source = tf.cast(source, tf.float32)
        return gradient * (source - self._of(source, place))

    def details(self, attributions: Sequence[tf.Tensor], scores: tf.Tensor) -> tf.Tensor:
        """Return Σ attributions, Σ |attributions|, and how much the score changes on the way."""
        total = tf.add_n([_sum(part) for part in attributions])
        mass = tf.add_n([_sum(tf.abs(part)) for part in attributions])
        return tf.stack([total, mass, scores[:, 0] - scores[:, 1]], 1)

    def _of(self, source: tf.Tensor, place: Source, times: Any = 1) -> tf.Tensor:
        """Return the baseline in a shape that broadcasts to that of the source.

        The source holds each sample so many `times`, all samples before the first comes again.
        """
        if not callable(self._baseline):
            baseline = place.own[place.position]
            if self._is_inner or baseline.shape.rank != source.shape.rank:
                _check_shape(baseline.shape, source.shape[1:])
                return baseline
            _check_shape(baseline.shape[1:], source.shape[1:])
            rows = place.first + tf.range(tf.shape(source, tf.int64)[0] // tf.cast(times, tf.int64))
            # Rows that only fill a batch of fixed size have no baseline of their own.
            own = tf.gather(baseline, tf.minimum(rows, baseline.shape[0] - 1))
            return tf.tile(own, [times, *[1] * (source.shape.rank - 1)])
        baseline = tf.cast(call_with_autograph(self._baseline, source), tf.float32)
        _check_shape(
            baseline.shape[1:] if baseline.shape.rank else baseline.shape, source.shape[1:]
        )
        return baseline


class IntegratedGradients(WhiteBoxExplainer):
    """The change of a score from a baseline to the input, shared out among the input's values.

    For a score g of an input x and a baseline b,

        map = (x − b)·∫₀¹ ∂g/∂x (b + α(x − b)) dα

    elementwise, signed, and for images the mean of it over the channels. The integral is taken by
    the trapezoidal rule at `steps` points, both ends included. Attributions are complete: with
    ``reducer=None`` they add up to g(x) − g(b), but for the error of the rule, which
    `explain_with_gaps` tells. With `wrt_layer`, x is the output of that layer, and the path leads
    there from b: so the words of a text are explained by the output of their embedding.

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
        output: int | str | None = None,
        logits: bool = False,
        wrt_layer: int | str | Sequence[int | str] | None = None,
        grad_modifier: GradientModifier | str | None = None,
        backprop_modifier: Callable[..., tf.Tensor] | str | None = None,
        fold_batch_norm: bool = True,
        strategy: tf.distribute.Strategy | None = None,
        channel_axis: int | None = None,
    ) -> None:
        if not callable(baseline_value):
            for part in leaves(baseline_value):
                _as_array(part)
        self.steps = integer("steps", steps, 2, "The baseline and the sample are two of them.")
        self.baseline_value = baseline_value
        self._recipe = _Path(self.steps, baseline_value, wrt_layer is not None)
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

    def _request(
        self, inputs: Structure, targets: Structure | None, endless: bool = False
    ) -> Request:
        request = super()._request(inputs, targets, endless)
        samples = request.samples
        if self.wrt_layer is not None:
            return request
        if callable(self.baseline_value):
            for position, value in enumerate(samples.first()):
                _check_by_sample(self.baseline_value, self.model.cast(position, value))
            return request
        specs = samples.layout.input_specs
        baselines = self._recipe.own_settings(samples.layout.for_user, len(specs))
        for baseline, spec in zip(baselines, specs, strict=True):
            is_of_each = spec.shape.rank is not None and baseline.ndim == spec.shape.rank + 1
            if is_of_each and len(baseline) != samples.nb_expected:
                raise InvalidParameterError(
                    f"a `baseline_value` for each of {samples.nb_expected or 'a known number of'} "
                    "samples, or one for all",
                    f"the shape {baseline.shape}",
                    "Pass as many as samples, in their order; one of the shape of a sample; or a "
                    "function from samples to their baselines.",
                )
            if is_of_each and samples.changes_order:
                raise InvalidParameterError(
                    "a dataset in the order of a `baseline_value` for each sample",
                    "one that is shuffled anew at each pass",
                    "Shuffle once (reshuffle_each_iteration=False), or pass a function from "
                    "samples to their baselines.",
                )
        return request

    def explain_with_gaps(
        self, inputs: Structure, targets: Structure | None = None, *, verbose: int = 0
    ) -> tuple[Any, tf.Tensor, tf.Tensor]:
        """Return the explanations, and how far they are from complete.

        All come from the same run. The parameters and errors are those of `explain`.

        Returns
        -------
        explanations
            As of `explain`.
        gaps
            (N,), Σ attributions − (g(x) − g(b)) for each sample, before anything is modified or
            reduced: more `steps` make them smaller.
        changes
            (N,), g(x) − g(b), to compare them with.
        """
        request = self._request(inputs, targets)
        results = [*self._results(request, self._rows_at_once(request), verbose)]
        maps, _ = self._joined(request, results)
        details = np.concatenate([explained.details for _, explained in results])
        total, _, change = tf.unstack(tf.constant(details), axis=1)
        return maps, total - change, change

    def _warn(self, explained: Explained) -> None:
        super()._warn(explained)
        if explained.details is None or explained.rewiring is not None:
            return  # with a backprop modifier, they are no gradients that could be integrated
        total, mass, change = explained.details.reshape(-1, 3).T
        whole = np.maximum(mass, np.abs(change))
        share = np.divide(np.abs(total - change), whole, out=np.zeros_like(mass), where=whole > 0)
        # What a difference of two scores in float32 cannot tell is no gap.
        scores = np.asarray(explained.scores).reshape(-1)
        is_rounding = np.abs(total - change) <= _ROUNDING * (np.abs(scores) + np.abs(change))
        if (worst := np.where(is_rounding, 0, share)).max() > _GAP:
            sample = int(worst.argmax())
            self._warn_once(
                f"The attributions of some sample add up to {total[sample]:.4g}, but its score "
                f"changes by {change[sample]:.4g} from the baseline: {self.steps} points on the "
                "way do not tell how the score gets there. If it changes abruptly, pass more "
                "`steps`; if more do not help, the baseline is drawn anew at each point, or the "
                "model has steps that a gradient does not see. `explain_with_gaps` returns what is "
                "missing for each sample.",
                "gap",
            )


def _sum(part: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(part, list(range(1, part.shape.rank)))


def _as_array(value: Any) -> np.ndarray:
    try:
        array = np.asarray(value, np.float32)
    except (TypeError, ValueError):
        array = np.full(1, np.nan, np.float32)
    if not np.isfinite(array).all():
        raise InvalidParameterError(
            "a `baseline_value` of finite numbers", repr(value), "Pass a number or an array."
        )
    return array


def _check_by_sample(baseline: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor) -> None:
    """Refuse a function that gives a sample another baseline in another batch, or a second time.

    A function that cannot be called outside of a trace is left to it.
    """
    if not x.dtype.is_floating:
        return
    others = [x + tf.cast(number, x.dtype) for number in range(1, _NEIGHBOURS)]
    try:
        alone, again, beside = (
            np.asarray(baseline(batch), np.float32) for batch in (x, x, tf.concat([x, *others], 0))
        )
        np.broadcast_to(alone, x.shape)
    except Exception:
        return
    found = [again, beside[:1] if beside.ndim == x.shape.rank else beside]
    error = 1e-5 * np.abs(alone).max(initial=0)
    if any(
        part.shape != alone.shape or not np.allclose(part, alone, 1e-4, error) for part in found
    ):
        raise InvalidParameterError(
            "a `baseline_value` function that makes the baseline of a sample of this sample alone, "
            "the same each time",
            "one whose result depends on the batch, or on chance",
            "Compute what it needs of all samples before, and pass it as an array, such as "
            "x.mean(axis=0); draw noise by `tf.random.stateless_normal` with a seed.",
        )


def _check_shape(baseline: tf.TensorShape, sample: tf.TensorShape) -> None:
    fits = baseline.rank is not None and baseline.rank <= sample.rank
    if fits:
        pairs = zip(reversed(baseline.as_list()), reversed(sample.as_list()), strict=False)
        fits = all(mine in (1, None) or theirs in (mine, None) for mine, theirs in pairs)
    if not fits:
        raise InvalidParameterError(
            f"a `baseline_value` that broadcasts to the shape of a sample, {tuple(sample)}",
            f"the shape {tuple(baseline)}",
            "Pass a number, or an array of that shape.",
        )
