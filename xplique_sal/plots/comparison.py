"""What metrics say of maps: values with their intervals, and curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xplique_sal._parameters import integer, number
from xplique_sal.errors import InvalidInputError
from xplique_sal.plots import canvas
from xplique_sal.plots.reading import numbers

#: Of explainers, and of the rows that stand beside them.
_COLOR, _REFERENCE = "#6a4c93", "#9a9a9a"
#: What is said of which values are better.
_BETTER = {"lower": "lower is better", "higher": "higher is better", "": ""}


def plot_comparison(
    comparison: Any,
    title: str | None = None,
    filepath: Any = None,
    cols: int = 3,
    img_size: float = 3.0,
    *,
    axes: Any = None,
) -> np.ndarray:
    """Draw a comparison: a panel for each metric, with a point and its interval for each row.

    The rows that only stand beside are grey, with a line through the first of them, the random map,
    from which a map should be apart.

    Parameters
    ----------
    comparison
        What `xplique_sal.metrics.compare` returns.
    title
        The title of the figure.
    filepath
        A file to write the figure to; it is returned as well.
    cols
        Panels in a row of a new figure.
    img_size
        Width of each panel of a new figure, in inches.
    axes
        Matplotlib axes, one for each metric; ``None`` makes a figure.

    Returns
    -------
    axes
        The matplotlib axes that were drawn on, in an array.

    Raises
    ------
    InvalidInputError
        If it is no comparison.
    InvalidParameterError
        If another parameter is out of range.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> plot_comparison(compare(explainers, images, labels))  # doctest: +SKIP
    """
    better = getattr(comparison, "better", None)
    if not better or not isinstance(comparison, list) or not comparison:
        raise InvalidInputError(
            "a comparison", type(comparison).__name__, "Pass what `metrics.compare` returns."
        )
    cols = integer("cols", cols)
    img_size = number("img_size", img_size, "()", remedy=canvas.IN_INCHES)
    height = 0.28 * len(comparison) + 0.9
    panels = canvas.panels(len(better), axes, cols, img_size + 0.8, height)
    for number_of_panel, (panel, metric) in enumerate(zip(panels, better, strict=True)):
        _draw_metric(panel, comparison, metric)
        if axes is None and number_of_panel % cols:
            panel.tick_params(labelleft=False)  # the names stand at the left of the row
        canvas.draw_title(panel, metric)
        panel.set_xlabel(_BETTER[better[metric]], fontsize=canvas.LABEL_SIZE)
    if title is not None:
        panels[0].get_figure().suptitle(title)
    if filepath is not None:
        canvas.save(panels[0], filepath)
    return canvas.as_array(panels)


def _draw_metric(panel: Any, rows: Sequence[Any], metric: str) -> None:
    """Draw the values of a metric, from the first row at the top."""
    line = None
    for place, row in enumerate(rows):
        if metric not in row.estimates:
            continue
        mean, low, high = row.estimates[metric]
        color = _REFERENCE if row.is_reference else _COLOR
        panel.plot([low, high], [place, place], color=color, linewidth=2, solid_capstyle="butt")
        panel.plot([mean], [place], "o", color=color, markersize=5)
        if row.is_reference and line is None:
            line = panel.axvline(mean, color=_REFERENCE, linewidth=0.8, linestyle="--", zorder=0)
    panel.set_yticks(range(len(rows)), [row.name for row in rows])
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.tick_params(labelsize=canvas.LABEL_SIZE)
    panel.spines[["top", "right"]].set_visible(False)


def plot_curves(
    curves: Mapping[str, Any],
    title: str | None = None,
    filepath: Any = None,
    *,
    at: Any = None,
    xlabel: str = "",
    ylabel: str = "score",
    ax: Any = None,
) -> Any:
    """Draw the mean curve of each of several maps, with a band of twice its standard error.

    Parameters
    ----------
    curves
        By name, what `detailed_evaluate` of a metric with curves returns, or arrays (N, points).
    title
        The title of the axes.
    filepath
        A file to write the figure to; the axes are returned as well.
    at
        Where the points are, (points,); ``None`` takes what the values say, and of arrays equal
        distances from 0 to 1.
    xlabel, ylabel
        What the axes are called.
    ax
        Matplotlib axes; ``None`` makes a figure.

    Returns
    -------
    ax
        The matplotlib axes.

    Raises
    ------
    InvalidInputError
        If there is no curve, or one with another number of points.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> plot_curves({"Saliency": deletion.detailed_evaluate(maps)})  # doctest: +SKIP
    """
    if not isinstance(curves, Mapping) or not curves:
        raise InvalidInputError(
            "curves by name", type(curves).__name__, "Pass {name: detailed_evaluate(maps)}."
        )
    read = {str(name): _curve(name, values, at) for name, values in curves.items()}
    (axes,) = canvas.panels(1, ax, 1, 4.5, 3.2)
    for name, (places, each) in read.items():
        mean = each.mean(axis=0)
        error = each.std(axis=0, ddof=1) / np.sqrt(len(each)) if len(each) > 1 else 0 * mean
        (line,) = axes.plot(places, mean, label=name, linewidth=1.5)
        axes.fill_between(
            places, mean - 2 * error, mean + 2 * error, color=line.get_color(), alpha=0.2, lw=0
        )
    axes.set_xlabel(xlabel, fontsize=canvas.LABEL_SIZE)
    axes.set_ylabel(ylabel, fontsize=canvas.LABEL_SIZE)
    axes.tick_params(labelsize=canvas.LABEL_SIZE)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=canvas.LABEL_SIZE, frameon=False)
    canvas.draw_title(axes, title or "")
    if filepath is not None:
        canvas.save(axes, filepath)
    return axes


def _curve(name: Any, values: Any, at: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return where the points of curves are, (points,), and the curves, (N, points)."""
    has_curves = hasattr(values, "curves")
    given = values.curves if has_curves else values
    if given is None:
        raise InvalidInputError(
            "values with curves", f"{name!r}, which has none", "Draw those of a metric of curves."
        )
    curves = np.atleast_2d(numbers(given, "curves"))
    if curves.ndim != 2:
        raise InvalidInputError(
            "curves (N, points)", f"the shape {curves.shape}", "Pass one curve for each sample."
        )
    if at is None:
        at = values.at if has_curves else np.linspace(0, 1, curves.shape[1])
    places = numbers(at, "places")
    if places.shape != curves.shape[1:]:
        raise InvalidInputError(
            f"places of {curves.shape[1]} points", f"the shape {places.shape}", "Pass one for each."
        )
    return places, curves
