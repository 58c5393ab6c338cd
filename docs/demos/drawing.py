"""Pictures of images and their maps in rows, with outlines of what is explained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xplique_sal.demo.drawing import new_figure, save, save_canvases

__all__ = ["Row", "new_figure", "save", "save_canvases", "save_rows"]


class Row(NamedTuple):
    """A row of a picture.

    Attributes
    ----------
    label : str
        What stands beside it.
    images : numpy.ndarray
        What it shows, (K, H, H).
    style : dict
        Arguments of matplotlib's ``imshow``; without a ``vmax``, that of each image is its own
        99.5th percentile.
    outlines : numpy.ndarray or None
        Masks (K, H, H) to outline in cyan.
    captions : list of str or None
        What stands below each image.
    """

    label: str
    images: np.ndarray
    style: dict[str, Any]
    outlines: np.ndarray | None = None
    captions: list[str] | None = None


def save_rows(path: str | Path, rows: Sequence[Row]) -> Path:
    """Write one picture with rows of images.

    Parameters
    ----------
    path : str or pathlib.Path
        The file to write; missing folders are made.
    rows : sequence of Row
        The rows, from the top.

    Returns
    -------
    pathlib.Path
        The file that was written.
    """
    columns = len(rows[0].images)
    figure = new_figure(1.5 * columns + 1.2, 1.5 * len(rows))
    for row, of_row in zip(rows, figure.subplots(len(rows), columns), strict=True):
        of_row[0].set_ylabel(row.label, rotation=0, ha="right", va="center", fontsize=10)
        for column, axes in enumerate(of_row):
            image = row.images[column]
            axes.imshow(image, **({"vmax": np.percentile(image, 99.5)} | row.style))
            if row.outlines is not None:
                # Padded, so that the outline is closed also at the edge of the image.
                outline = np.pad(row.outlines[column].astype(float), 1)
                size = len(image)
                places = np.arange(-1, size + 1)
                axes.contour(places, places, outline, [0.5], colors="cyan", linewidths=1.2)
                axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5))
            axes.set(xticks=[], yticks=[])
            if row.captions is not None:
                axes.set_xlabel(row.captions[column], fontsize=10, labelpad=3)
            axes.spines[:].set_visible(False)
    return save(figure, path)
