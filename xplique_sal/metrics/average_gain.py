"""Average gain: how much of what a score lacks is gained by what a map keeps."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from xplique_sal.errors import InvalidModelError
from xplique_sal.metrics.kept_score_base import KeptScore


class AverageGain(KeptScore):
    """The share of what the score lacks to 1 that is gained: max(q − p, 0) / (1 − p).

    The counterpart of `AverageDrop`, for probabilities; between 0 and 1, higher is better. Where p
    is 1 there is nothing to be gained, and the value is 0.

    Raises
    ------
    InvalidModelError
        If a score is larger than 1.

    References
    ----------
    Zhang, Torres, Sicre, Avrithis and Ayache, "Opti-CAM: Optimizing saliency maps for
    interpretability", Computer Vision and Image Understanding 2024, section 4.1.

    Examples
    --------
    >>> share = AverageGain(model, images, labels)(maps)  # doctest: +SKIP
    """

    better: ClassVar[str] = "higher"

    def _of_scores(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        largest = max(before.max(), after.max())
        if largest > 1 + 1e-6:
            raise InvalidModelError(
                "scores of at most 1, such as probabilities",
                f"the score {largest:g}",
                "Score probabilities: leave `logits` as it is, or pass a model that ends in a "
                "softmax or sigmoid.",
            )
        lacking = 1 - before
        gained = np.maximum(after - before, 0)
        return np.divide(gained, lacking, out=np.zeros_like(gained), where=lacking > 0)
