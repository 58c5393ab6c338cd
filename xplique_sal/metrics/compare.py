"""Several explainers and metrics, on the same samples, from scores that they share."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from xplique_sal._data.structures import Structure
from xplique_sal._engine.passes import counted
from xplique_sal._models.view import ModelView
from xplique_sal._parameters import integer, number
from xplique_sal._tracing.substitutes import substituted
from xplique_sal.attributions.base import BlackBoxExplainer
from xplique_sal.errors import InvalidParameterError
from xplique_sal.metrics.average_drop import AverageDrop
from xplique_sal.metrics.average_gain import AverageGain
from xplique_sal.metrics.average_increase import AverageIncrease
from xplique_sal.metrics.average_stability import AverageStability
from xplique_sal.metrics.base import MapMetric, Metric, ScoreMetric
from xplique_sal.metrics.comparison import Comparison, Cost, Row, estimated
from xplique_sal.metrics.complexity import Complexity
from xplique_sal.metrics.deletion import Deletion
from xplique_sal.metrics.insertion import Insertion
from xplique_sal.metrics.measurement import Evaluation, Measurement, check_count
from xplique_sal.metrics.model_randomization import ModelRandomization
from xplique_sal.metrics.mu_fidelity import MuFidelity
from xplique_sal.metrics.randomized import randomized
from xplique_sal.metrics.reading import Maps, apart, read_maps, side_by_side
from xplique_sal.metrics.result import SampleValues
from xplique_sal.metrics.sparseness import Sparseness

#: The metrics that can be named: all that need nothing but what `compare` is given.
_NAMED: dict[str, type[Metric]] = {
    cls.__name__: cls
    for cls in (
        *(AverageDrop, AverageGain, AverageIncrease, AverageStability, Complexity, Deletion),
        *(Insertion, ModelRandomization, MuFidelity, Sparseness),
    )
}
#: What the rows to stand beside are called.
RANDOM, UNTRAINED = "random map", "random weights"


def compare(
    explainers: Mapping[str, Any],
    inputs: Structure,
    targets: Structure | None = None,
    metrics: Sequence[Any] | Mapping[str, Any] = ("Deletion", "Insertion", "MuFidelity"),
    *,
    model: Any = None,
    batch_size: int | str | None = 64,
    references: bool = True,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    **settings: Any,
) -> Comparison:
    """Return a table of explainers and metrics, each with a confidence interval and its cost.

    Every sample is read once, and its score computed once, for all explainers and metrics; what
    metrics and maps can share is computed once, too. Without targets, every explainer is asked for
    the largest output of the model. Explainers are asked batch by batch: what one draws from a seed
    for the first sample of a batch is what it draws for the first of any.

    Parameters
    ----------
    explainers
        By name, explainers, or maps of all inputs, (N, ...), packed as these are.
    inputs, targets
        As `explain` takes them.
    metrics
        Names of metrics, their classes, what makes one (``functools.partial(Deletion, steps=20)``),
        or metrics that look at maps alone (``Localization(boxes)``); or a mapping of names to such.
    model
        What is scored; ``None`` is the model of the explainers. Beside explainers of several models
        it has to be said: all of their maps are judged by what this one computes, and
        `ModelRandomization` refuses those of others.
    batch_size
        The most samples that the model is given at once.
    references
        Whether there are rows to stand beside: a random map, and the maps of the first explainer
        for the model with random weights (left out for a black box). A metric on which an explainer
        is not apart from them says nothing for it.
    confidence
        Of the intervals, which are percentiles of a bootstrap over samples.
    resamples
        How often samples are drawn anew for them.
    seed
        Of all that is drawn.
    **settings
        `operator`, `output_layer`, `output` and `logits`: what is scored, as metrics take them.
        `operator`, `output_layer` and `output` are those of the explainers unless they are given.

    Returns
    -------
    comparison
        A list of rows, in the order of `explainers`; ``str`` makes a table of it in Markdown.

    Raises
    ------
    InvalidParameterError
        If there is no model, there are several, or a metric is not known.
    InvalidInputError, InvalidTargetError, InvalidModelError
        As explainers and metrics do.

    Examples
    --------
    >>> explainers = {"Saliency": Saliency(model), "GradCAM": GradCAM(model)}  # doctest: +SKIP
    >>> print(compare(explainers, images, labels))  # doctest: +SKIP
    """
    confidence = number("confidence", confidence, "()", high=1)
    resamples, seed = integer("resamples", resamples), integer("seed", seed, 0)
    model, settings = _scored(explainers, model, settings)
    given = {"batch_size": batch_size, **settings}
    made = _made(metrics, model, inputs, targets, given)
    judged = _Judged(explainers, made, model, seed if references else None)
    start = time.perf_counter()
    with counted() as passes:
        measurement = Measurement(
            model, batch_size, settings.pop("operator", None), judged.of_batch, **settings
        )
        found = iter(measurement.found(inputs, targets))
        values = judged.values(found)
    cost = Cost(time.perf_counter() - start, passes.rows)
    rows = [
        Row(
            name,
            {
                metric: estimated(of_rows[name].values, confidence, resamples, seed)
                for metric, of_rows in values.items()
                if name in of_rows
            },
            judged.costs.get(name),
            name in judged.references,
        )
        for name in judged.names
    ]
    table = Comparison(rows, {name: metric.better for name, metric in made.items()})
    table.values, table.cost = values, cost
    table.costs = {name: judged.costs[name, "metric"] for name in made}
    count = len(next(iter(next(iter(values.values())).values())))
    table.note = (
        f"{count} samples, {confidence:.0%} intervals by bootstrap; ↓ lower is better, ↑ higher. "
        "A pass is one sample, or one changed copy of it, that the model was given."
    )
    return table


def _scored(
    explainers: Mapping[str, Any], model: Any, settings: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Return the model that is scored, and how."""
    known = [each for each in explainers.values() if isinstance(each, BlackBoxExplainer)]
    if not explainers or (model is None and not known):
        raise InvalidParameterError(
            "explainers, or maps and a `model`", "none", "Pass {name: explainer}, or model=."
        )
    if model is None:
        models = {id(explainer._given_model): explainer._given_model for explainer in known}
        if len(models) > 1:
            raise InvalidParameterError(
                "explainers of one model", f"{len(models)} models", "Pass model=, which is scored."
            )
        (model,) = models.values()
    for name in ("operator", "output_layer", "output"):
        own = [getattr(explainer, name) for explainer in known]
        if name not in settings and own:
            if any(other is not own[0] and other != own[0] for other in own):
                raise InvalidParameterError(
                    f"explainers with one `{name}`", f"{own}", f"Pass {name}= of what is scored."
                )
            settings = {**settings, name: own[0]}
    return model, settings


def _made(
    metrics: Sequence[Any] | Mapping[str, Any],
    model: Any,
    inputs: Structure,
    targets: Structure | None,
    given: dict[str, Any],
) -> dict[str, Metric]:
    """Return the metrics by name."""
    named = metrics.items() if isinstance(metrics, Mapping) else [(None, m) for m in metrics]
    made: dict[str, Metric] = {}
    for name, wanted in named:
        if isinstance(wanted, str):
            if wanted not in _NAMED:
                raise InvalidParameterError(
                    f"a metric among {', '.join(_NAMED)}", repr(wanted), "Or pass its class."
                )
            wanted = _NAMED[wanted]
        kind = wanted.func if isinstance(wanted, functools.partial) else wanted
        if inspect.isclass(kind) and issubclass(kind, MapMetric):
            wanted = wanted()
        elif callable(wanted) and not isinstance(wanted, Metric) and _makes_metrics(kind):
            wanted = wanted(model, inputs, targets, **given)
            _check_score(wanted, model, given)
        elif not isinstance(wanted, MapMetric):
            raise InvalidParameterError(
                "metrics: names, classes, what makes one, or metrics of maps alone",
                repr(wanted),
                "Pass functools.partial(Deletion, steps=20), not the metric that it makes.",
            )
        made[name or type(wanted).__name__] = wanted
    if not made:
        raise InvalidParameterError("at least one metric", "none", 'Pass metrics=["Deletion"].')
    return made


def _makes_metrics(kind: Any) -> bool:
    """Tell whether something that is called may return a metric: a class of one, or a function."""
    return not inspect.isclass(kind) or issubclass(kind, Metric)


def _check_score(metric: Any, model: Any, given: dict[str, Any]) -> None:
    """Refuse what is no metric, or one of another score than the others."""
    if not isinstance(metric, ScoreMetric):
        raise InvalidParameterError(
            "what makes a metric of a model, inputs and targets", repr(metric), "Pass its class."
        )
    wanted = {"operator": None, "output_layer": None, "output": None, "logits": False, **given}
    for name, value in {**wanted, "model": model}.items():
        if getattr(metric, name) is not value and getattr(metric, name) != value:
            raise InvalidParameterError(
                f"metrics of one `{name}`",
                f"{getattr(metric, name)!r} beside {value!r}",
                "Compare by one score at a time.",
            )


class _Judged:
    """What is asked of each batch: the maps of every row, and every metric of them.

    Attributes
    ----------
    names, references
        Of all rows, and of those to stand beside.
    costs
        What the maps of each row cost, and (under (name, "metric")) each metric for all rows.
    """

    def __init__(
        self,
        explainers: Mapping[str, Any],
        metrics: Mapping[str, Metric],
        model: Any,
        seed: int | None,
    ) -> None:
        self._rows: dict[str, Any] = dict(explainers)
        self._metrics = metrics
        self._model = model
        self._seed = seed
        self._untrained = next((e for e in self._rows.values() if _is_traced(e, model)), None)
        self.references: list[str] = []
        if seed is not None:
            self.references = [RANDOM, *([UNTRAINED] if self._untrained is not None else [])]
        self.names = [*explainers, *self.references]
        self.costs: dict[Any, Cost] = {}
        self._pairs: list[Any] = []
        self._shapes: dict[str, list[tuple[int, ...]]] = {}

    @property
    def _explained(self) -> list[str]:
        """The names of the rows that have an explainer."""
        return [name for name, each in self._rows.items() if callable(each)]

    def of_batch(self, evaluation: Evaluation) -> list[np.ndarray]:
        """Return what metrics find of the maps of each row, and the maps."""
        if evaluation.start == 0:
            for name, each in self._rows.items():
                if not callable(each):
                    self._rows[name] = read_maps(each, evaluation.skeleton)
        maps = {n: self._maps_at_cost(n, evaluation) for n in self.names if n != RANDOM}
        if RANDOM in self.names:
            shown = evaluation.of([*maps.values()]).explained_inputs
            maps[RANDOM] = self._random(evaluation, shown)
        maps = {name: maps[name] for name in self.names}
        of_maps = evaluation.of([*maps.values()])
        of_explainers = evaluation.of([self._rows[name] for name in self._explained])
        found: list[np.ndarray] = []
        for name, metric in self._metrics.items():
            if isinstance(metric, ScoreMetric):
                judged = of_explainers if metric.asks_explainer else of_maps
                found += self._at_cost((name, "metric"), metric._of_batch, judged)
        self._shapes = {
            name: [part.shape[1:] for part in parts if part is not None]
            for name, parts in maps.items()
        }
        return [*found, *map(side_by_side, maps.values())]

    def _at_cost(self, key: Any, function: Callable[..., Any], *arguments: Any) -> Any:
        start = time.perf_counter()
        with counted() as passes:
            result = [*function(*arguments)]
        seconds, rows = self.costs.get(key, Cost(0.0, 0))
        self.costs[key] = Cost(seconds + time.perf_counter() - start, rows + passes.rows)
        return result

    def _maps_at_cost(self, name: str, evaluation: Evaluation) -> Maps:
        if name in self._rows and not callable(self._rows[name]):
            return self._maps(name, evaluation)  # nobody has made them here
        return self._at_cost(name, lambda: self._maps(name, evaluation))

    def _maps(self, name: str, evaluation: Evaluation) -> Maps:
        """Return the maps of a row, for the samples of a batch."""
        start = evaluation.start
        if name in self._rows:
            each = self._rows[name]
            if callable(each):
                return evaluation.explained(each, evaluation.inputs)
            some = slice(start, start + evaluation.size)
            return [None if part is None else part[some] for part in each]
        if start == 0:
            layers = randomized(self._model, evaluation.score.variables, self._seed or 0)
            self._pairs = [pair for layer in layers for pair in layer.pairs]
        with substituted(self._pairs):
            return evaluation.explained(self._untrained, evaluation.inputs)

    def _random(self, evaluation: Evaluation, shown: Sequence[int]) -> Maps:
        """Return random maps of the inputs that some row explains."""
        streams = [
            np.random.default_rng([self._seed or 0, evaluation.start + i])
            for i in range(evaluation.size)
        ]
        return [
            np.stack([stream.normal(size=x.shape[1:]) for stream in streams])
            if number in shown
            else None
            for number, x in enumerate(evaluation.inputs)
        ]

    def values(self, found: Any) -> dict[str, dict[str, SampleValues]]:
        """Return the values of each metric and row, by name."""
        values: dict[str, dict[str, SampleValues]] = {}
        for name, metric in self._metrics.items():
            if isinstance(metric, ScoreMetric):
                rows = self._explained if metric.asks_explainer else self.names
                values[name] = {row: metric._result(next(found)) for row in rows}
        maps = {row: apart(next(found), self._shapes[row]) for row in self.names}
        for row, each in self._rows.items():
            if not callable(each):
                check_count(each, len(maps[row][0]), f" of {row!r}")
        for name, metric in self._metrics.items():
            if isinstance(metric, MapMetric):
                of_rows = self._at_cost((name, "metric"), map, metric._of_maps, maps.values())
                values[name] = {
                    row: SampleValues(own) for row, own in zip(maps, of_rows, strict=True)
                }
        return {name: values[name] for name in self._metrics}


def _is_traced(explainer: Any, model: Any) -> bool:
    """Tell whether an explainer is of a model, whose variables can be replaced."""
    return (
        isinstance(explainer, BlackBoxExplainer)
        and isinstance(explainer.model, ModelView)
        and explainer._given_model is model
    )
