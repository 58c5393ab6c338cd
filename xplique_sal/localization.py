"""Where the object is, from a saliency map alone: a box around the largest bright region.

It works on arrays and knows neither models nor explainers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xplique_sal._parameters import number, optional
from xplique_sal.errors import InvalidInputError


def bounding_boxes(maps: Any, threshold: float = 0.3, *, smoothing: float = 2.0) -> np.ndarray:
    """Return a box around the most salient region of each map.

    The map is smoothed; its pixels above a share of its maximum are the foreground; the box
    encloses the largest connected part of it (pixels that touch at a corner are connected).

    Parameters
    ----------
    maps
        Non-negative maps (N, H, W) or (N, H, W, 1), as an array or a tensor: absolute gradients.
    threshold
        The share of the (smoothed) map's maximum above which a pixel is foreground, in [0, 1).
    smoothing
        The standard deviation, in pixels, of a Gaussian that joins the scattered points of a
        gradient; 0 for none. Beyond the border the map is taken for zero.

    Returns
    -------
    boxes
        Integers (N, 4): x1, y1, x2, y2 in pixels, x to the right and y downwards; x2 and y2 are
        excluded, so that the region is ``map[y1:y2, x1:x2]``. A map that is zero everywhere has
        the empty box 0, 0, 0, 0. Of several largest parts it is the first from the top.

    Raises
    ------
    InvalidInputError
        If the maps have another shape, or negative or infinite values.
    InvalidParameterError
        If `threshold` or `smoothing` is out of range.
    ImportError
        If SciPy is not installed.

    References
    ----------
    Simonyan, Vedaldi and Zisserman, "Deep Inside Convolutional Networks: Visualising Image
    Classification Models and Saliency Maps", 2013, section 3.2, which segments with GraphCut where
    this takes a threshold.
    """
    threshold = number("threshold", threshold, high=1, remedy="It is a share of the map's maximum.")
    smoothing = number("smoothing", smoothing, remedy="It is in pixels; 0 leaves the map as it is.")
    ndimage = optional("scipy.ndimage", "Localisation needs", "localization")
    maps = _checked(maps)
    if smoothing:
        deviations = (0, smoothing, smoothing)
        maps = ndimage.gaussian_filter(maps, deviations, mode="constant")
    return np.stack([_box(map_ > threshold * map_.max(), ndimage) for map_ in maps])


def intersection_over_union(boxes: Any, others: Any) -> np.ndarray:
    """Return the area that two boxes share over the area that they cover together.

    Parameters
    ----------
    boxes, others
        (..., 4): x1, y1, x2, y2 with x2 and y2 excluded. Their other axes are broadcast:
        ``boxes[:, None]`` and ``others[None]`` give all pairs.

    Returns
    -------
    ratios
        (...), between 0 and 1; 0 where both boxes are empty.

    Raises
    ------
    InvalidInputError
        If the last axis is not of length 4, or the others cannot be broadcast.
    """
    boxes, others = (np.asarray(array, np.float64) for array in (boxes, others))
    try:
        pairs = np.broadcast(boxes, others)
    except ValueError:
        pairs = None
    if pairs is None or boxes.shape[-1:] != (4,) or others.shape[-1:] != (4,):
        raise InvalidInputError(
            "boxes of shapes (..., 4) that can be broadcast",
            f"the shapes {boxes.shape} and {others.shape}",
            "Pass x1, y1, x2, y2 on the last axis of both.",
        )
    corner = np.maximum(boxes[..., :2], others[..., :2])
    opposite = np.minimum(boxes[..., 2:], others[..., 2:])
    shared = _area(corner, opposite)
    covered = _area(boxes[..., :2], boxes[..., 2:]) + _area(others[..., :2], others[..., 2:])
    covered = covered - shared
    return np.divide(shared, covered, out=np.zeros_like(covered), where=covered > 0)


def _area(corner: np.ndarray, opposite: np.ndarray) -> np.ndarray:
    return np.prod(np.maximum(opposite - corner, 0), axis=-1)


def _box(foreground: np.ndarray, ndimage: Any) -> np.ndarray:
    """Return the box of the largest connected part of a mask."""
    parts, count = ndimage.label(foreground, structure=np.ones((3, 3)))
    if not count:
        return np.zeros(4, int)
    largest = np.bincount(parts.ravel())[1:].argmax()
    rows, columns = ndimage.find_objects(parts)[largest]
    return np.array([columns.start, rows.start, columns.stop, rows.stop])


def _checked(maps: Any) -> np.ndarray:
    maps = np.asarray(maps, np.float64)
    if maps.ndim == 4 and maps.shape[-1] == 1:
        maps = maps[..., 0]
    if maps.ndim != 3 or not maps.size:
        raise InvalidInputError(
            "maps of shape (N, H, W) or (N, H, W, 1)",
            f"the shape {maps.shape}",
            "Reduce the channels (`reducer=`), and give one map its batch axis: map[None].",
        )
    if not np.isfinite(maps).all() or maps.min() < 0:
        raise InvalidInputError(
            "finite maps without negative values",
            f"values from {maps.min()} to {maps.max()}",
            "Take absolute values, or leave out samples that are not explained.",
        )
    return maps
