"""Insertion: how fast the score rises when what a map calls important is shown."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import tensorflow as tf

from xplique_sal.metrics.fidelity_curve_base import FidelityCurve
from xplique_sal.metrics.measurement import Evaluation


class Insertion(FidelityCurve):
    """The area under the score while positions are shown, the most important first.

    The mirror of `Deletion`: for a score g, a map's ranks r (0 is the largest) and a baseline b,
    the point of the curve at k shown positions is g(x′) with x′ = x where r < k, and b elsewhere.
    Higher is better. ``at`` of the curves is the share of positions that are shown.

    What is said of `Deletion` holds here, too. A blurred baseline,
    ``baseline_mode=lambda x: blur(x)``, has no edges of its own that a model could take for an
    object.

    References
    ----------
    Petsiuk, Das and Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models",
    BMVC 2018, section 4.3.

    Examples
    --------
    >>> area = Insertion(model, images, labels)(maps)  # doctest: +SKIP
    """

    better: ClassVar[str] = "higher"

    def _hidden(self, ranks: tf.Tensor, replaced: tf.Tensor) -> tf.Tensor:
        return ranks >= replaced

    def _end(self, evaluation: Evaluation, replaced: int, positions: int) -> np.ndarray | None:
        if replaced == positions:
            return evaluation.score.values
        return evaluation.scores_of(self._baseline) if replaced == 0 else None
