"""Pictures of canvases above their maps, as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xplique_sal.demo.digits import require


def new_figure(width: float, height: float) -> Any:
    """Return a figure of that size in inches, which knows no window and no backend.

    Raises
    ------
    SystemExit
        If matplotlib is not installed.
    """
    figure_type = require("matplotlib.figure").Figure
    return figure_type(figsize=(width, height), layout="constrained")


def save(figure: Any, path: str | Path) -> Path:
    """Write a figure and return its path; missing folders are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)  # a bare Figure draws with Agg, whatever backend is configured
    return path


def save_canvases(
    path: str | Path,
    images: np.ndarray,
    maps: Any,
    titles: Sequence[str],
    frames: Mapping[str, np.ndarray],
) -> Path:
    """Write one picture with canvases above their maps, with frames around places in both.

    Parameters
    ----------
    path : str or pathlib.Path
        The file to write; missing folders are made.
    images : numpy.ndarray
        The explained canvases, (N, 40, 40, 1), of which as many are shown as there are titles.
    maps : array_like
        Their maps, (N, 40, 40, 1), each scaled by its own 99th percentile.
    titles : sequence of str
        What stands above each canvas.
    frames : mapping
        By their colours, boxes (N, 4): ``top, left, bottom, right`` in pixels.

    Returns
    -------
    pathlib.Path
        The file that was written.
    """
    rectangle_type = require("matplotlib.patches").Rectangle
    maps = np.asarray(maps)[..., 0]
    figure = new_figure(1.5 * len(titles), 3.3)
    for column, (upper, lower) in enumerate(figure.subplots(2, len(titles), squeeze=False).T):
        upper.imshow(images[column, ..., 0], cmap="gray", vmin=-0.4, vmax=1.2)
        upper.set_title(titles[column])
        lower.imshow(maps[column], cmap="inferno", vmax=np.percentile(maps[column], 99))
        for axes in (upper, lower):
            axes.set_axis_off()
            for color, boxes in frames.items():
                top, left, bottom, right = boxes[column]
                size = (right - left, bottom - top)
                corner = (left - 0.5, top - 0.5)
                axes.add_patch(rectangle_type(corner, *size, fill=False, color=color, lw=1.5))
    return save(figure, path)
