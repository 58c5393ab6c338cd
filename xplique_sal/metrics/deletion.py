"""Deletion: how fast the score falls when what a map calls important is taken away."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import tensorflow as tf

from xplique_sal.metrics.fidelity_curve_base import FidelityCurve
from xplique_sal.metrics.measurement import Evaluation


class Deletion(FidelityCurve):
    """The area under the score while positions are deleted, the most important first.

    For a score g, a map's ranks r (0 is the largest) and a baseline b, the point of the curve at k
    deleted positions is g(x′) with x′ = b where r < k, and x elsewhere. Lower is better: a good map
    knows what the score needs. ``at`` of the curves is the share of positions that are deleted.

    It asks how the score falls on inputs such as the model may never have seen: half-deleted
    images. Where the model itself is led astray by them, the metric says less of the map. Another
    baseline gives other values, and the scale is that of the score: compare maps of the same model,
    inputs and baseline, and stand a random map beside them.

    References
    ----------
    Petsiuk, Das and Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models",
    BMVC 2018, section 4.3.

    Examples
    --------
    >>> area = Deletion(model, images, labels)(maps)  # doctest: +SKIP
    """

    better: ClassVar[str] = "lower"

    def _hidden(self, ranks: tf.Tensor, replaced: tf.Tensor) -> tf.Tensor:
        return ranks < replaced

    def _end(self, evaluation: Evaluation, replaced: int, positions: int) -> np.ndarray | None:
        if replaced == positions:
            return evaluation.scores_of(self._baseline)
        return evaluation.score.values if replaced == 0 else None
