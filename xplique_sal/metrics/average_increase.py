"""Average increase: how often the score rises when only what a map keeps is shown."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from xplique_sal.metrics.kept_score_base import KeptScore


class AverageIncrease(KeptScore):
    """Whether the score rises when only what a map keeps is shown: 1 if q > p, else 0.

    The mean is the share of samples that look more like their class without the rest; higher is
    better.

    References
    ----------
    Chattopadhay, Sarkar, Howlader and Balasubramanian, "Grad-CAM++: Improved Visual Explanations
    for Deep Convolutional Networks", WACV 2018, section 4.1.

    Examples
    --------
    >>> share = AverageIncrease(model, images, labels)(maps)  # doctest: +SKIP
    """

    better: ClassVar[str] = "higher"

    def _of_scores(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        return (after > before).astype(np.float64)
