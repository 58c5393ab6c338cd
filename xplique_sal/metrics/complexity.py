"""Complexity: over how many positions a map is spread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from xplique_sal._parameters import number
from xplique_sal.metrics.base import MapMetric
from xplique_sal.metrics.reading import shares_of

#: Smaller than any share that is not 0, as far as a sum can tell.
_LEAST = np.float32(1e-37)


class Complexity(MapMetric):
    """The entropy of a map: −Σ p·ln p with p = |map| / Σ |map|, in nats.

    Between 0 (one position has everything) and ln n, where n is the number of positions (all are
    equal, as in a map of zeros); exp of it is how many positions a map is spread over. Lower is
    easier to read, which says nothing of whether it is right. Channels of images and volumes
    (N, H, W, C) are averaged first. The positions of several inputs are taken together.

    Parameters
    ----------
    epsilon
        Is added to Σ |map| and inside of the logarithm; 1e-8 gives Xplique's values, which are
        larger by up to n·ε.

    References
    ----------
    Bhatt, Weller and Moura, "Evaluating and Aggregating Feature-based Model Explanations", IJCAI
    2020, definition 4.

    Examples
    --------
    >>> nats = Complexity()(maps)  # doctest: +SKIP
    """

    better: ClassVar[str] = "lower"

    def __init__(self, *, epsilon: float = 0.0) -> None:
        self.epsilon = number("epsilon", epsilon)

    def _of_maps(self, maps: Sequence[np.ndarray]) -> np.ndarray:
        shares = shares_of(maps, self.epsilon)
        # Where a share is 0, so is its part of the sum.
        logarithms = np.log(np.maximum(shares + shares.dtype.type(self.epsilon), _LEAST))
        return -(shares * logarithms).sum(axis=1, dtype=np.float64)
