"""Maps of time series."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from xplique_sal._parameters import integer, number
from xplique_sal.errors import InvalidInputError
from xplique_sal.plots import canvas
from xplique_sal.plots.caption import captions
from xplique_sal.plots.reading import names_of, numbers
from xplique_sal.plots.scale import Choice, scales, warn_of_constants

#: More names than this on one axis cannot be read.
MOST_NAMES = 40


def plot_timeseries_attributions(
    explanations: Any,
    features: Sequence[str] | None = None,
    title: str | None = None,
    subtitles: Sequence[str] | None = None,
    filepath: Any = None,
    cmap: Any = None,
    colorbar: bool | str = False,
    clip_percentile: float | None = 0.1,
    absolute_value: bool = False,
    cols: int = 5,
    img_size: float = 3.0,
    *,
    axes: Any = None,
    series: Any = None,
    shared_scale: bool = False,
    predictions: Any = None,
    scores: Any = None,
    class_names: Any = None,
    normalize_value: bool = True,
    vmin: float | None = None,
    vmax: float | None = None,
    **plot_kwargs: Any,
) -> np.ndarray:
    """Draw maps of time series: a row for each feature, time from left to right.

    The scales are those of `plot_attribution`.

    Parameters
    ----------
    explanations
        Maps (N, T, W), or the map (T, W) of one series.
    features
        The names of the W features; their indices if ``None``.
    title
        The title of the figure.
    subtitles
        The first line of the title of each map.
    filepath
        A file to write the figure to; it is returned as well.
    cmap, clip_percentile, absolute_value, normalize_value, vmin, vmax
        As in `plot_attribution`.
    colorbar, cols, shared_scale, predictions, scores, class_names
        As in `plot_attributions`.
    img_size
        Width of each map in a new figure, in inches.
    axes
        Matplotlib axes, at least N in any shape; ``None`` makes a figure.
    series
        The series that were explained, of the shape of `explanations`: each feature is drawn as a
        line over its row, from its lowest value in that series (at the bottom of the row) to its
        highest.
    plot_kwargs
        Passed on to `Axes.imshow`.

    Returns
    -------
    axes
        The N matplotlib axes that were drawn on, in an array (N,).

    Raises
    ------
    InvalidInputError
        If a shape is none of these, `series` differ in shape, or values are NaN or infinite.
    InvalidParameterError
        If the number of names does not fit, or another parameter is out of range.
    ImportError
        If matplotlib is not installed.

    Warns
    -----
    UserWarning
        If maps have one value everywhere; it says which.
    """
    batch = _batch(explanations, "maps")
    maps = list(np.abs(batch) if absolute_value else batch)
    lines = None if series is None else _batch(series, "series")
    if lines is not None and lines.shape != batch.shape:
        raise InvalidInputError(
            f"series of the shape of their maps, {batch.shape}",
            f"the shape {lines.shape}",
            "Pass the series that were explained.",
        )
    count, _, width = batch.shape
    names = names_of(features, width, "features")
    texts = captions(count, subtitles, predictions, scores, class_names)
    of_maps = scales(maps, shared_scale, Choice(cmap, clip_percentile, normalize_value, vmin, vmax))
    canvas.color_map(of_maps[0].cmap)
    cols = integer("cols", cols)
    img_size = number("img_size", img_size, "()", remedy=canvas.IN_INCHES)
    warn_of_constants(maps, "a map", stacklevel=2)

    row = 0.45 if series is not None else 0.25
    height = min(max(row * width, 0.5), 8) + 0.8
    bar = canvas.COLOR_BAR if colorbar else 0.0
    wide, margin = (img_size, bar) if shared_scale else (img_size + bar, 0.0)
    panels = canvas.panels(count, axes, cols, wide + 0.4, height, margin)
    for position, (panel, map_, scale) in enumerate(zip(panels, maps, of_maps, strict=True)):
        canvas.draw_map(
            panel, map_.T, scale, **{"aspect": "auto", "interpolation": "nearest", **plot_kwargs}
        )
        if lines is not None:
            _draw_lines(panel, lines[position])
        shown = range(0, width, math.ceil(width / MOST_NAMES))
        panel.set_yticks(list(shown), [names[index] for index in shown])
        panel.set_xlabel("time step", fontsize=canvas.LABEL_SIZE)
        panel.tick_params(labelsize=canvas.LABEL_SIZE)
        panel.locator_params(axis="x", integer=True)
        canvas.draw_title(panel, texts[position])
    canvas.draw_color_bars(panels, maps, of_maps, shared_scale, colorbar, plot_kwargs.get("norm"))
    if title is not None:
        panels[0].get_figure().suptitle(title)
    if filepath is not None:
        canvas.save(panels[0], filepath)
    return canvas.as_array(panels)


def _batch(values: Any, what: str) -> np.ndarray:
    array = numbers(values, what)
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3:
        raise InvalidInputError(
            f"{what} of shape (N, T, W), or (T, W)",
            f"the shape {array.shape}",
            "T are the time steps and W the features.",
        )
    return array


def _draw_lines(axes: Any, series: np.ndarray) -> None:
    """Draw each feature of a series (T, W) over its row, from 0.4 below its middle to 0.4 above."""
    lowest, highest = series.min(axis=0), series.max(axis=0)
    span = np.where(highest > lowest, highest - lowest, 1.0)
    heights = np.where(highest > lowest, (series - lowest) / span, 0.5)
    halo = canvas.edge(2.4, "white")
    for row, values in enumerate(heights.T):
        axes.plot(row + 0.4 - 0.8 * values, color="black", linewidth=0.9, path_effects=halo)
    axes.set_xlim(-0.5, len(series) - 0.5)
