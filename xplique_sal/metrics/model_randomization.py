"""Model randomisation: whether maps change with the weights of the model that they explain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from xplique_sal._data.structures import Operator, Structure
from xplique_sal._parameters import integer, one_of
from xplique_sal._tracing.substitutes import substituted
from xplique_sal.metrics.base import ScoreMetric, checked_explainer, detailed
from xplique_sal.metrics.measurement import Evaluation
from xplique_sal.metrics.randomized import RandomLayer, randomized
from xplique_sal.metrics.result import SampleValues
from xplique_sal.metrics.similarity import SIMILARITIES, similarity_of_inputs


class ModelRandomization(ScoreMetric):
    """The similarity of maps to those of the model with random weights, from the output down.

    The weights of the layers are drawn anew one layer after the other, beginning at the output, and
    stay so while further ones follow: at the end nothing that was learnt is left. With
    ``order="independent"`` each layer is random by itself, and the others are as they were learnt.
    The curve is the similarity to the map of the model as it is, ``at`` the share of the layers
    that are, or have been, random, and the value is the mean of its points but the first, which is
    1. Lower is better: a map that stays as it was explains the picture, not the model.

    A layer is one that has weights, in nested models too; they are taken in the reverse of the
    order in which the model reads them. Each weight is drawn by the initialiser that its layer has
    for it. Where there is none that Keras has made, as in a layer of one's own or a graph that was
    saved, the entries of the weight change places, all of them, so that its distribution stays.
    Running statistics of a normalisation are left as they are. The random weights stand beside the
    model's own
    and are handed to the compiled explanation in their place, for this thread alone: **no weight of
    the model is written**, nothing is traced again, and an interruption leaves nothing behind.

    What is explained stays the same: without targets, the largest output of the model as it is. A
    method that draws random numbers needs a `seed`, or its maps differ by chance as well.

    Parameters
    ----------
    similarity
        ``"spearman"``, the correlation of ranks, of maps of any kind; or ``"ssim"``, the structural
        similarity of maps of images, each scaled to [0, 1]. Of several inputs it is the correlation
        over all positions, or the mean similarity.
    order
        ``"cascading"`` or ``"independent"``, see above.
    steps
        The most points of the curve after the first; where there are more layers, several are
        randomised from one to the next. ``None`` takes every layer.
    seed
        Of the random weights.

    Raises
    ------
    InvalidModelError
        If the model has no variables that TensorFlow reads: a black box.

    References
    ----------
    Adebayo, Gilmer, Muelly, Goodfellow, Hardt and Kim, "Sanity Checks for Saliency Maps", NeurIPS
    2018, sections 3.1 (cascading randomization) and 3.2 (independent randomization).

    Examples
    --------
    >>> similarity = ModelRandomization(model, images, labels)(explainer)  # doctest: +SKIP
    """

    better: ClassVar[str] = "lower"
    asks_explainer: ClassVar[bool] = True

    def __init__(
        self,
        model: Any,
        inputs: Structure,
        targets: Structure | None = None,
        batch_size: int | str | None = 64,
        operator: Operator | str | None = None,
        *,
        similarity: str = "spearman",
        order: str = "cascading",
        steps: int | None = 10,
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
        one_of("similarity", similarity, SIMILARITIES)
        one_of("order", order, ("cascading", "independent"))
        self.similarity = similarity
        self.order = order
        self.steps = None if steps is None else integer("steps", steps)
        self.seed = integer("seed", seed, 0)
        self._layers: list[RandomLayer] = []

    def detailed_evaluate(self, explainer: Any) -> SampleValues:
        """Return the mean similarity of each sample's maps, with the curve.

        Parameters
        ----------
        explainer
            An explainer of the model, or a function from inputs and targets to maps.

        Raises
        ------
        InvalidParameterError
            If it is neither.
        InvalidModelError
            If it explains another model, or reads none of the layers that are replaced at a point.
        """
        return detailed([self], [checked_explainer(explainer)])[0][0]

    def layers(self) -> list[str]:
        """Return the paths of the layers that the last evaluation randomised, in their order."""
        return [layer.path for layer in self._layers]

    def _of_batch(self, evaluation: Evaluation) -> Sequence[np.ndarray]:
        if evaluation.start == 0:
            self._layers = randomized(self.model, evaluation.score.variables, self.seed)
        return [self._curve(evaluation, explainer) for explainer in evaluation.subjects]

    def _counts(self) -> np.ndarray:
        """Return how many layers are, or have been, random at each point after the first."""
        count = len(self._layers)
        points = count if self.steps is None else min(self.steps, count)
        return np.ceil(np.arange(1, points + 1) * count / points).astype(int)

    def _curve(self, evaluation: Evaluation, explainer: Any) -> np.ndarray:
        """Return the similarities of an explainer's maps, (N, points)."""
        own = evaluation.explained(explainer, evaluation.inputs)
        curve, first = [np.ones(evaluation.size)], 0
        for count in self._counts():
            pairs = [pair for layer in self._layers[first:count] for pair in layer.pairs]
            with substituted(pairs):
                maps = evaluation.explained(explainer, evaluation.inputs)
            curve.append(similarity_of_inputs(self.similarity, own, maps))
            first = 0 if self.order == "cascading" else count
        return np.stack(curve, axis=1)

    def _result(self, found: np.ndarray) -> SampleValues:
        at = np.concatenate([[0], self._counts()]) / len(self._layers)
        return SampleValues(found[:, 1:].mean(axis=1), found, at)
