"""A table of explainers and metrics, with what each value is sure of, and what it cost."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from xplique_sal.metrics.result import SampleValues

#: What is shown beside the name of a metric.
_ARROWS = {"lower": " ↓", "higher": " ↑", "": ""}


class Estimate(NamedTuple):
    """The mean over samples, and the ends of its bootstrap confidence interval."""

    mean: float
    low: float
    high: float


class Cost(NamedTuple):
    """Seconds, and how many samples or changed copies of samples models were given."""

    seconds: float
    passes: int


@dataclasses.dataclass(frozen=True)
class Row:
    """What was found of one explainer.

    Attributes
    ----------
    name
        What it was called.
    estimates
        By the name of the metric; without those that can not be asked of it.
    cost
        Of its maps; ``None`` where the maps were given.
    is_reference
        Whether it is a row to stand beside: a random map, or the model with random weights.
    """

    name: str
    estimates: dict[str, Estimate]
    cost: Cost | None
    is_reference: bool = False


class Comparison(list[Row]):
    """A list of rows, one for each explainer; ``str`` makes a table of it in Markdown.

    Parameters
    ----------
    rows
        The rows.
    better
        By the name of each metric, which values are better.

    Attributes
    ----------
    better
        The same.
    values
        For each metric and each row, by their names, the values of all samples.
    costs
        By the name of each metric, what its scores cost for all rows together.
    cost
        Of everything.
    """

    def __init__(self, rows: list[Row], better: dict[str, str]) -> None:
        super().__init__(rows)
        self.better = better
        self.values: dict[str, dict[str, SampleValues]] = {}
        self.costs: dict[str, Cost] = {}
        self.cost = Cost(0.0, 0)
        self.note = ""

    def __str__(self) -> str:
        """Return the table, with a line below that says how it was made."""
        heads = ["map", *(name + _ARROWS[better] for name, better in self.better.items())]
        cells = [[*heads, "seconds", "passes"]]
        for row in self:
            shown = [_shown(row.estimates.get(name)) for name in self.better]
            cost = (
                ["", ""] if row.cost is None else [f"{row.cost.seconds:.2f}", f"{row.cost.passes}"]
            )
            cells.append([row.name, *shown, *cost])
        if self.costs:
            seconds = [f"{self.costs[name].seconds:.2f} s" for name in self.better]
            total = [f"{self.cost.seconds:.2f}", f"{self.cost.passes}"]
            cells.append(["all of it", *seconds, *total])
        return "\n".join([_table(cells), "", self.note])


def _shown(estimate: Estimate | None) -> str:
    return "–" if estimate is None else "{:.3f} [{:.3f}, {:.3f}]".format(*estimate)


def _table(cells: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        first, *rest = (cell.ljust(w) for cell, w in zip(row, widths, strict=True))
        rest = [cell.strip().rjust(w) for cell, w in zip(rest, widths[1:], strict=True)]
        lines.append(f"| {' | '.join([first, *rest])} |")
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines.insert(1, f"| {' | '.join(rule)} |")
    return "\n".join(lines)


def estimated(values: np.ndarray, confidence: float, resamples: int, seed: int) -> Estimate:
    """Return the mean of values (N,), with its bootstrap interval over samples.

    The same samples are drawn for all values of one number.
    """
    random, means = np.random.default_rng(seed), np.empty(resamples)
    for number in range(resamples):
        means[number] = values[random.integers(0, len(values), len(values))].mean()
    rest = (1 - confidence) / 2
    low, high = np.quantile(means, [rest, 1 - rest])
    return Estimate(float(values.mean()), float(low), float(high))
