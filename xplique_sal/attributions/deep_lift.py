"""DeepLIFT and DeepSHAP: the change of a score from baselines, carried back by multipliers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xplique_sal._data.structures import GradientModifier, Operator, Skeleton, Structure
from xplique_sal._engine.recipe import PairsRecipe, Source
from xplique_sal._parameters import one_of
from xplique_sal.attributions.baseline_base import Baselines, CompleteExplainer
from xplique_sal.attributions.gap_base import gap_details


class _Contributions(PairsRecipe):
    """Multipliers times the difference from the baseline, and what they do not add up to."""

    def __init__(self, baselines: Baselines) -> None:
        self._baselines = baselines

    @property
    def key(self) -> tuple[Any, ...]:
        """A hashable value, equal for recipes of which the same is traced."""
        return (type(self), *self._baselines.key)

    @property
    def is_shared(self) -> bool:  # type: ignore[override]
        """Whether the baselines are those of all samples, whatever else these hold."""
        return not self._baselines.is_function and not self._baselines.is_inner

    def own_settings(self, skeleton: Skeleton, count: int) -> list[np.ndarray]:
        """Return the baselines of each source, unless they are a function."""
        return self._baselines.arrays(skeleton, count)

    def count(self, sources: Sequence[tf.Tensor], own: Sequence[tf.Tensor]) -> int:
        """Return how many baselines there are of each sample."""
        return self._baselines.count_of(own, sources)

    def table(self, source: tf.Tensor, place: Source) -> tf.Tensor:
        """Return the baselines of all samples."""
        return tf.cast(self._baselines.table(source, place, place.own), source.dtype)

    def of_each(self, source: tf.Tensor, place: Source) -> tf.Tensor:
        """Return those of each sample."""
        return self._baselines.of_each(source, place, place.own)

    def contributions(
        self, multipliers: tf.Tensor, source: tf.Tensor, baseline: tf.Tensor
    ) -> tf.Tensor:
        """Return the multipliers times the difference, or what each letter would contribute."""
        return self._baselines.contributions(multipliers, source, baseline)

    def added_up(self, attribution: tf.Tensor, source: tf.Tensor) -> tf.Tensor:
        """Return what the source contributes."""
        return self._baselines.added_up(attribution, source)

    def details(self, attributions: Sequence[tf.Tensor], scores: tf.Tensor) -> tf.Tensor:
        """Return the gap, Σ |attributions|, and the score minus the mean of the baselines'."""
        return gap_details(attributions, scores[:, 0] - scores[:, 1])


class DeepLift(CompleteExplainer):
    """The change of a score from a baseline to the input, carried back step by step.

    The sample x and its baseline r go through the model together. From the score backwards, each
    step y = φ(x) passes a multiplier m on to its input, such that Σ m·Δ of what goes in and of what
    comes out are the same, where Δ is the difference between sample and baseline:

        linear steps:           m_x = Wᵀ m_y
        nonlinear steps:        m_x = m_y·Δy/Δx, and m_y·φ′(x) where Δx is no more than rounding
        products of u and v:    m_u = m_y·(v + r_v)/2, and the same of v

    (the rule Rescale), and map = m·(x − r), signed, and for images the sum of it over the
    channels. So the values add up to g(x) − g(r), as those of `IntegratedGradients` do, by one
    forward and one backward pass. A unit that is off at the sample has a part in the score if it is
    on at the baseline, which no gradient at the sample shows. Maxima go to where x and r have
    theirs; softmax and normalisation are taken as the exponentials, sums, squares and roots that
    they are made of. That holds for recurrent cells, attention and gates: what reaches no rule is
    an error.

    Of several baselines it is DeepSHAP: the mean of their maps, which adds up to g(x) minus the
    mean of g(r). With `wrt_layer`, x is the output of that layer.

    Parameters
    ----------
    baseline_value
        r, from which nothing is attributed: a number; one sample, or an array that broadcasts to
        it; an array (K, ...) of baselines, which all samples are compared with, one after the
        other; a list, tuple or dict of these, packed as several inputs, of which the k-th belong
        together; or a function from a batch of inputs (n, ...) to a baseline of each, (n, ...), or
        to several, (n, K, ...), such as `sequences.ShuffledReferences`.

    max_pooling
        ``"exact"`` shares the change of a maximum out among the places where x and r have theirs.
        ``"gradient"`` leads all to that of x, as captum 0.9 was seen to: maps then add up only
        where r has its maximum there too.

    Raises
    ------
    NothingRewiredError
        If there is no rule for a step of the model; the operation and its layer are named.

    Warns
    -----
    UserWarning
        Once for each explainer: if for some sample the attributions do not add up to the change of
        the score, by more than 5 % of Σ |attributions| and of that change. Steps without a
        derivative, which keep back a part of it, can be the cause, or an operator that returns one
        scalar for its batch and is not linear in f(x).

    References
    ----------
    Shrikumar, Greenside and Kundaje, "Learning Important Features Through Propagating Activation
    Differences", 2017, section 3.5.1; Lundberg and Lee, "A Unified Approach to Interpreting Model
    Predictions", 2017, section 4.2.
    """

    _cause = (
        "a step without a derivative (such as `tf.stop_gradient`), or one that mixes the samples "
        "of a batch, is not followed."
    )

    _follows_other_rules = False

    def __init__(
        self,
        model: Any,
        output_layer: int | str | None = None,
        batch_size: int | str | None = 64,
        operator: Operator | str | None = None,
        reducer: str | None = "sum",
        *,
        baseline_value: float | Structure | Callable[[tf.Tensor], tf.Tensor] = 0.0,
        max_pooling: str = "exact",
        hypothetical: bool = False,
        output: int | str | None = None,
        logits: bool = False,
        wrt_layer: int | str | Sequence[int | str] | None = None,
        grad_modifier: GradientModifier | str | None = None,
        fold_batch_norm: bool = True,
        strategy: tf.distribute.Strategy | None = None,
        channel_axis: int | None = None,
    ) -> None:
        from xplique_sal._models.rules.deeplift import POOLINGS, Rescale

        one_of("max_pooling", max_pooling, POOLINGS)
        self.baseline_value, self.max_pooling = baseline_value, max_pooling
        self._baseline = Baselines(
            "baseline_value", baseline_value, wrt_layer is not None, bool(hypothetical)
        )
        self._recipe = _Contributions(self._baseline)
        rules: Any = Rescale(max_pooling)
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
            backprop_modifier=rules,
            fold_batch_norm=fold_batch_norm,
            strategy=strategy,
            channel_axis=channel_axis,
        )
