"""What methods share whose maps add up to something: how far they are from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from xplique_sal._data.structures import Structure
from xplique_sal._engine.request import Explained
from xplique_sal.attributions.base import WhiteBoxExplainer

#: How exact a sum of scores is, as a share of them.
_ROUNDING = 1e-5


class GapExplainer(WhiteBoxExplainer):
    """Base of the explainers whose maps add up to the score, or to its change, but for a gap.

    `_recipe.details` are what `gap_details` returns.
    """

    #: What share of what a map should add up to may be missing before a warning.
    _limit: ClassVar[float]
    #: What it should add up to, as the warning says it.
    _whole: ClassVar[str]
    #: What a gap comes from, as the warning says it; ``None`` where there is no warning.
    _cause: str | None = None

    def _compared(self, mass: np.ndarray, whole: np.ndarray) -> np.ndarray:
        """Return what a gap is a share of: of Σ |attributions|, and of what they should be."""
        return np.abs(whole)

    def _cause_of(self, total: float, whole: float) -> str | None:
        """Return the cause of a gap, of a map that adds up to `total` in place of `whole`."""
        return self._cause

    def _warn(self, explained: Explained) -> None:
        super()._warn(explained)
        if self._cause is None or explained.details is None:
            return
        gap, mass, whole = np.asarray(explained.details).reshape(-1, 3).T
        compared = self._compared(mass, whole)
        share = np.divide(np.abs(gap), compared, out=np.zeros_like(gap), where=compared > 0)
        # What a difference of two scores in float32 cannot tell is no gap.
        scores = np.asarray(explained.scores).reshape(-1)
        is_rounding = np.abs(gap) <= _ROUNDING * (np.abs(scores) + np.abs(whole))
        worst = np.where(is_rounding, 0, share)
        if worst.max(initial=0) > self._limit:
            sample = int(worst.argmax())
            total = float(gap[sample] + whole[sample])
            self._warn_once(
                f"The attributions of some sample add up to {total:.4g}, but "
                f"{self._whole} {whole[sample]:.4g}: "
                f"{self._cause_of(total, float(whole[sample]))} "
                "`explain_with_gaps` returns what is missing for each sample.",
                "gap",
            )

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
