"""Sparseness: how unequally a map is shared among positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from xplique_sal.metrics.base import MapMetric
from xplique_sal.metrics.reading import shares_of


class Sparseness(MapMetric):
    """The Gini index of |map|: how unequally it is shared among positions.

    With the n values of |map| in ascending order, a₁ ≤ … ≤ aₙ,

        G = Σᵢ (2i − n − 1)·aᵢ / (n·Σᵢ aᵢ)

    Between 0 (all are equal, as in a map of zeros) and 1 − 1/n (one position has everything).
    Higher is easier to read, which says nothing of whether it is right. Channels of images and
    volumes (N, H, W, C) are averaged first. The positions of several inputs are taken together.

    References
    ----------
    Chalasani, Chen, Chowdhury, Jha and Wu, "Concise Explanations of Neural Networks using
    Adversarial Training", ICML 2020, section 5.

    Examples
    --------
    >>> gini = Sparseness()(maps)  # doctest: +SKIP
    """

    better: ClassVar[str] = "higher"

    def _of_maps(self, maps: Sequence[np.ndarray]) -> np.ndarray:
        shares = np.sort(shares_of(maps), axis=1)
        count = shares.shape[1]
        weights = 2.0 * np.arange(1, count + 1) - count - 1
        return (shares * weights).sum(axis=1) / count
