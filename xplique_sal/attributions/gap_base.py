"""What methods share whose maps add up to something: how far they are from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xplique_sal._data.structures import Structure
from xplique_sal.attributions.base import WhiteBoxExplainer


class GapExplainer(WhiteBoxExplainer):
    """Base of the explainers whose maps add up to the score, or to its change, but for a gap.

    `_recipe.details` are what `gap_details` returns.
    """

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
            (N,), Σ attributions − whole for each sample, before anything is modified or reduced.
        wholes
            (N,), what the attributions of a sample should add up to: where there is a baseline b,
            how much the score g changes from there, g(x) − g(b), of several baselines the mean;
            elsewhere the score g(x) itself.
        """
        request = self._request(inputs, targets)
        request.with_gaps = True
        results = [*self._results(request, self._rows_at_once(request), verbose)]
        maps, _ = self._joined(request, results)
        details = np.concatenate([explained.details for _, explained in results])
        gap, _, whole = tf.unstack(tf.constant(details), axis=1)
        return maps, gap, whole


def gap_details(attributions: Sequence[tf.Tensor], whole: tf.Tensor) -> tf.Tensor:
    """Return (gap, Σ |attributions|, whole) of each sample, (n, 3), summed in full precision."""
    total = tf.add_n([_sum(part) for part in attributions])
    mass = tf.add_n([_sum(tf.abs(part)) for part in attributions])
    whole = tf.cast(whole, total.dtype)
    return tf.cast(tf.stack([total - whole, mass, whole], 1), tf.float32)


def _sum(part: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(part, list(range(1, part.shape.rank)))
