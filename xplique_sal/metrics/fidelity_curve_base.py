"""The base of deletion and insertion: the score while positions are replaced, in their order."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xplique_sal._data.structures import Operator, Structure
from xplique_sal._parameters import integer, number
from xplique_sal.metrics.base import ScoreMetric
from xplique_sal.metrics.measurement import Baseline, Evaluation
from xplique_sal.metrics.result import SampleValues


class FidelityCurve(ScoreMetric):
    """Base of the metrics that replace positions by a baseline, the largest of a map first.

    Positions are ranked by the value of the map, signed, those of several inputs together: of
    images and volumes by the mean over channels, and all channels of a pixel are replaced at once.
    Positions of equal value are
    replaced in an order that is drawn from `seed`: the same for every map of a size and for all
    metrics. A curve has ``steps + 1`` points at equal distances, and its value is the area under
    it by the trapezoidal rule, of unit width: the mean score along the way.

    Parameters
    ----------
    baseline_mode
        What stands for a replaced position: a number, one for each channel (feature, sensor), an
        array of the shape of a sample, or a function from samples (N, ...) to as many. Of several
        inputs it is one for all of them, or a list or dict of one for each, packed as they are; a
        function takes and returns what is packed so.
    steps
        The number of steps; -1 replaces one position at a time.
    max_percentage_perturbed
        The share of positions at the end of the curve, more than 0 and at most 1.
    seed
        Of the order of positions with equal values.
    """

    def __init__(
        self,
        model: Any,
        inputs: Structure,
        targets: Structure | None = None,
        batch_size: int | str | None = 64,
        baseline_mode: Any = 0.0,
        steps: int = 10,
        max_percentage_perturbed: float = 1.0,
        operator: Operator | str | None = None,
        *,
        seed: int = 0,
        output_layer: int | str | None = None,
        output: int | str | None = None,
        logits: bool = False,
    ) -> None:
        super().__init__(
            model,
            inputs,
            targets,
            batch_size,
            operator,
            output_layer=output_layer,
            output=output,
            logits=logits,
        )
        self.baseline_mode = baseline_mode
        self.steps = steps if steps == -1 else integer("steps", steps)
        self.max_percentage_perturbed = number(
            "max_percentage_perturbed", max_percentage_perturbed, "(]", high=1
        )
        self.seed = integer("seed", seed, 0)
        self._baseline = Baseline(baseline_mode)
        self._at: np.ndarray | None = None

    @abc.abstractmethod
    def _hidden(self, ranks: tf.Tensor, replaced: tf.Tensor) -> tf.Tensor:
        """Return which positions show the baseline where so many were replaced."""

    @abc.abstractmethod
    def _end(self, evaluation: Evaluation, replaced: int, positions: int) -> np.ndarray | None:
        """Return the scores (N,) of an end of the curve that all maps share, if it is one."""

    def _of_batch(self, evaluation: Evaluation) -> Sequence[np.ndarray]:
        return [self._curves(evaluation, number) for number in range(len(evaluation.subjects))]

    def _curves(self, evaluation: Evaluation, subject: int) -> np.ndarray:
        """Return the curves of a subject's maps, (N, points)."""
        ranks = [*map(tf.constant, evaluation.ranks(subject, self.seed))]
        positions = sum(int(np.prod(part.shape[1:])) for part in ranks)
        most = int(np.floor(positions * self.max_percentage_perturbed))
        steps = max(most, 1) if self.steps == -1 else self.steps
        replaced = np.linspace(0, most, steps + 1).astype(np.int32)
        self._at = replaced / positions
        found = {
            int(count): scores
            for count in (replaced[0], replaced[-1])
            if (scores := self._end(evaluation, int(count), positions)) is not None
        }
        between = np.setdiff1d(replaced, [*found]).astype(np.int32)

        def hidden(some: slice) -> list[tf.Tensor]:
            counts = tf.constant(between[some])
            shapes = [[-1, *[1] * part.shape.rank] for part in ranks]
            return [
                self._hidden(part, tf.reshape(counts, shape))
                for part, shape in zip(ranks, shapes, strict=True)
            ]

        scores = evaluation.scores_where(hidden, len(between), self._baseline)
        found.update(zip(between.tolist(), scores, strict=True))
        return np.stack([found[int(count)] for count in replaced], axis=1)

    def _result(self, found: np.ndarray) -> SampleValues:
        return SampleValues((found[:, 1:] + found[:, :-1]).mean(axis=1) / 2, found, self._at)
