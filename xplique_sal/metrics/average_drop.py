"""Average drop: how much of the score is lost with what a map does not keep."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from xplique_sal.errors import InvalidModelError
from xplique_sal.metrics.kept_score_base import KeptScore


class AverageDrop(KeptScore):
    """The share of the score that is lost with what a map does not keep: max(p − q, 0) / p.

    Between 0 and 1 for scores that are positive; lower is better. A map that keeps everything loses
    nothing: look at `AverageGain` and `Complexity` beside it.

    Raises
    ------
    InvalidModelError
        If a score p is not positive: the share would mean nothing.

    References
    ----------
    Chattopadhay, Sarkar, Howlader and Balasubramanian, "Grad-CAM++: Improved Visual Explanations
    for Deep Convolutional Networks", WACV 2018, section 4.1.

    Examples
    --------
    >>> share = AverageDrop(model, images, labels)(maps)  # doctest: +SKIP
    """

    better: ClassVar[str] = "lower"

    def _of_scores(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        if not (before > 0).all():
            raise InvalidModelError(
                "positive scores, such as probabilities, of which a share can be lost",
                f"the score {before.min():g}",
                "Score probabilities: leave `logits` as it is, or pass a model that ends in a "
                "softmax or sigmoid.",
            )
        return np.maximum(before - after, 0) / before
