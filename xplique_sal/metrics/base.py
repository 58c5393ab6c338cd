"""The metrics' base: what all of them share."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, ClassVar, final

import numpy as np

from xplique_sal._data.structures import Operator, Structure
from xplique_sal.attributions.signatures import with_inherited_sections
from xplique_sal.errors import InvalidParameterError
from xplique_sal.metrics.measurement import Evaluation, Measurement, in_turn
from xplique_sal.metrics.reading import maps_alone
from xplique_sal.metrics.result import SampleValues


class Metric(abc.ABC):
    """Base of all metrics: a number for each sample, and their mean.

    Attributes
    ----------
    better
        ``"lower"`` or ``"higher"``: which values are the better ones; ``""`` where neither is.
    """

    better: ClassVar[str] = ""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.__doc__ = with_inherited_sections(cls)

    @abc.abstractmethod
    def detailed_evaluate(self, explanations: Any) -> SampleValues:
        """Return the value of each sample, with its curve where the metric has one."""

    @final
    def evaluate(self, explanations: Any) -> float:
        """Return the mean over samples of what `detailed_evaluate` returns."""
        return float(self.detailed_evaluate(explanations).values.mean())

    __call__ = evaluate


class MapMetric(Metric):
    """Base of the metrics that look at nothing but maps."""

    def detailed_evaluate(self, explanations: Any) -> SampleValues:
        """Return the value of each map.

        Parameters
        ----------
        explanations
            Maps (N, ...), as an array or a tensor; a dict of those of several inputs.

        Raises
        ------
        InvalidInputError
            If they are no maps.
        """
        return SampleValues(self._of_maps(maps_alone(explanations)))

    @abc.abstractmethod
    def _of_maps(self, maps: Sequence[np.ndarray]) -> np.ndarray:
        """Return the value of each sample, (N,), of the finite maps (N, ...) of each input."""


class ScoreMetric(Metric):
    """Base of the metrics that ask for scores of changed samples.

    Of several inputs everything is asked of all together: a position of one input stands beside
    those of the others, so that their maps have to be in one unit, as gradient × input is. An input
    whose map is ``None`` is left as it is.

    Parameters
    ----------
    model
        What was explained: anything that `BlackBoxExplainer` takes. It is never changed.
    inputs
        The samples that were explained, as `explain` takes them.
    targets
        What was explained of each, as `explain` takes them.
    batch_size
        The most samples that the model is given at once.
    operator
        The score; ``None`` is Σ f(x)·y over outputs.
    output_layer
        The layer whose output is scored, as explainers take it.
    output
        Of a model with several outputs, the one to score, by index, name or dict key.
    logits
        Score what is before a final softmax, sigmoid or log-softmax.

    Raises
    ------
    InvalidModelError
        If `model` is of no kind that can be scored.
    InvalidParameterError
        If a parameter has a value that does not exist.
    InvalidOperatorError
        If `operator` is no operator.

    Attributes
    ----------
    asks_explainer
        Whether what is judged is an explainer, which is asked for further maps.
    """

    asks_explainer: ClassVar[bool] = False

    def __init__(
        self,
        model: Any,
        inputs: Structure,
        targets: Structure | None = None,
        batch_size: int | str | None = 64,
        operator: Operator | str | None = None,
        *,
        output_layer: int | str | None = None,
        output: int | str | None = None,
        logits: bool = False,
    ) -> None:
        self.model = model
        self.inputs = inputs
        self.targets = targets
        self.batch_size = batch_size
        self.operator = operator
        self.output_layer = output_layer
        self.output = output
        self.logits = bool(logits)
        self._measurement()  # refuses now what can not be scored

    def _measurement(self, *asked: Any) -> Measurement:
        return Measurement(
            self.model,
            self.batch_size,
            self.operator,
            *asked,
            output_layer=self.output_layer,
            output=self.output,
            logits=self.logits,
        )

    def detailed_evaluate(self, explanations: Any) -> SampleValues:
        """Return the value of each sample, with its curve where the metric has one.

        Parameters
        ----------
        explanations
            The maps of the inputs, (N, ...), as an array or a tensor, of several inputs packed as
            these are; or the explainer that makes them.

        Raises
        ------
        InvalidInputError, InvalidTargetError
            If there is not one map for each sample, and as `explain` does.
        InvalidModelError
            If a score is not finite, or not one that the metric is made for.
        """
        if hasattr(explanations, "explain"):
            explanations = explanations.explain(self.inputs, self.targets)
        return detailed([self], [explanations])[0][0]

    @abc.abstractmethod
    def _of_batch(self, evaluation: Evaluation) -> Sequence[np.ndarray]:
        """Return what is found of a batch, for each subject: (N,) or (N, columns)."""

    def _result(self, found: np.ndarray) -> SampleValues:
        """Return what the columns found of all samples, (N, columns), say."""
        return SampleValues(found[:, 0])


def detailed(metrics: Sequence[ScoreMetric], subjects: Sequence[Any]) -> list[list[SampleValues]]:
    """Return the values of each metric, for each subject, from scores that all of them share.

    Parameters
    ----------
    metrics
        Metrics of the same samples and scores.
    subjects
        Maps of the samples, or explainers.
    """
    first = metrics[0]
    asked = in_turn([metric._of_batch for metric in metrics])
    found = iter(first._measurement(asked, subjects).found(first.inputs, first.targets))
    return [[metric._result(next(found)) for _ in subjects] for metric in metrics]


def checked_explainer(explainer: Any) -> Any:
    """Return an explainer, or a function from inputs and targets to maps.

    Raises
    ------
    InvalidParameterError
        If it is neither.
    """
    if not callable(explainer):
        raise InvalidParameterError(
            "an explainer, which is asked for further maps",
            type(explainer).__name__,
            "Pass the explainer itself, not its maps.",
        )
    return explainer
