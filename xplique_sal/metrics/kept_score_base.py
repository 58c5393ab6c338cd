"""The base of average drop, increase and gain: the score of what a map keeps of a sample."""

from __future__ import annotations

import abc
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from xplique_sal.errors import InvalidInputError
from xplique_sal.metrics.base import ScoreMetric
from xplique_sal.metrics.measurement import Evaluation
from xplique_sal.metrics.reading import apart, side_by_side


class KeptScore(ScoreMetric):
    """Base of the metrics that multiply a sample by its map and look at the score again.

    With m = |map|, averaged over the channels of images and volumes, what is kept of a sample is

        x′ = x·(m − min m) / (max m − min m)

    A map that is the same everywhere keeps nothing; of several inputs, min and max are those of all
    together. The scores before and after are p = g(f, x, y) and q = g(f, x′, y): probabilities, so
    leave `logits` as it is.
    """

    @abc.abstractmethod
    def _of_scores(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Return the values (N,) of the scores (N,) before and after."""

    def _of_batch(self, evaluation: Evaluation) -> Sequence[np.ndarray]:
        before = evaluation.score.values
        numbers = range(len(evaluation.subjects))
        return [self._of_scores(before, _kept_scores(evaluation, number)) for number in numbers]


def _kept_scores(evaluation: Evaluation, subject: int) -> np.ndarray:
    """Return the scores of samples multiplied by the maps of a subject, (N,)."""
    inputs = evaluation.changed_inputs()
    for x in inputs:
        if not x.dtype.is_floating:
            raise InvalidInputError(
                "inputs of floating point, which can be kept in part",
                f"the dtype {x.dtype.name}",
                "Use `Deletion`, which hides a position or does not; a map of None leaves an input "
                "as it is.",
            )

    def scores() -> np.ndarray:
        maps = evaluation.maps(subject, absolute=True)
        kept = side_by_side(maps)
        kept = kept - kept.min(axis=1, keepdims=True)
        largest = kept.max(axis=1, keepdims=True)
        kept = np.divide(kept, largest, out=np.zeros_like(kept), where=largest > 0)
        shares = zip(inputs, apart(kept, [part.shape[1:] for part in maps]), strict=True)
        return evaluation.scores([x * tf.cast(share, x.dtype) for x, share in shares])[0]

    return evaluation.once(("kept", subject), scores)
