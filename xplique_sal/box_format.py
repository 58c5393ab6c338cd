"""Formats of boxes, and how one is turned into another.

Formats in pixels:

- ``"xyxy"``: x1, y1, x2, y2, two opposite corners; x to the right and y downwards
- ``"yxyx"``: y1, x1, y2, x2
- ``"xywh"``: x1, y1, width, height: the corner with the smallest x and y, and the size
- ``"cxcywh"``: x, y, width, height: the centre, and the size

Relative ones, in shares of the image's width and height: ``"rel_xyxy"``, ``"rel_yxyx"``,
``"rel_xywh"`` and ``"rel_cxcywh"``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xplique_sal._parameters import one_of
from xplique_sal.errors import InvalidInputError, InvalidParameterError

LAYOUTS = ("xyxy", "yxyx", "xywh", "cxcywh")
FORMATS = LAYOUTS + tuple(f"rel_{layout}" for layout in LAYOUTS)
"""The formats of a box, in pixels and relative to the image."""

_ROUNDING = 1e-5
"""How far relative boxes may lie outside of the image: as far as float32 rounds."""


def convert_boxes(
    boxes: Any, source: str, target: str = "xyxy", *, image_size: Any = None
) -> np.ndarray:
    """Return boxes in another format.

    Parameters
    ----------
    boxes
        (..., 4) numbers. Rows of zeros, which pad images with fewer boxes, stay rows of zeros.
    source, target
        Their format, and the one that is wanted: ``"xyxy"`` (x1, y1, x2, y2: corners), ``"yxyx"``,
        ``"xywh"`` (x1, y1, width, height), ``"cxcywh"`` (x and y of the centre, width, height), in
        pixels; or ``"rel_xyxy"``, …, in shares of the image's width and height.
    image_size
        Height and width of the images in pixels; needed where one format is in pixels and the
        other relative.

    Returns
    -------
    boxes
        float64, of the same shape.

    Raises
    ------
    InvalidInputError
        If the boxes have another shape, are not finite, end before they begin (x2 < x1, or a
        negative width), or are relative and reach out of the image.
    InvalidParameterError
        If there is no such format, or `image_size` is missing or wrong.
    """
    for name, value in (("source", source), ("target", target)):
        one_of(name, value, FORMATS)
    boxes = np.asarray(boxes)
    if boxes.dtype.name == "bfloat16":  # of which NumPy does not know that it is a number
        boxes = boxes.astype(np.float32)
    if boxes.shape[-1:] != (4,) or boxes.dtype.kind not in "iuf":
        raise InvalidInputError(
            "boxes of shape (..., 4)",
            f"the shape {boxes.shape} and the dtype {boxes.dtype}",
            "Pass four numbers for each box on the last axis.",
        )
    corners = _corners(boxes.astype(np.float64), source)
    if source.startswith("rel_"):
        _check_inside(corners, boxes, source)
    if source.startswith("rel_") != target.startswith("rel_"):
        scale = _scale(image_size, source, target)
        corners = corners / scale if target.startswith("rel_") else corners * scale
        if target.startswith("rel_"):
            _check_inside(corners, boxes, source)
    return _from_corners(corners, target)


def _corners(boxes: np.ndarray, source: str) -> np.ndarray:
    """Return x1, y1, x2, y2 in the unit of the source."""
    layout = source.removeprefix("rel_")
    start, end = boxes[..., :2], boxes[..., 2:]
    wrong = ~np.isfinite(boxes).all(-1)
    wrong |= ((end < start) if layout in ("xyxy", "yxyx") else (end < 0)).any(-1)
    if wrong.any():
        rule = "x2 >= x1 and y2 >= y1" if layout in ("xyxy", "yxyx") else "sizes of at least 0"
        raise InvalidInputError(
            f"finite boxes with {rule}",
            f"the box {shown(boxes[wrong][0])}",
            f"It is read as '{source}': check the format.",
        )
    if layout == "yxyx":
        return boxes[..., [1, 0, 3, 2]]
    if layout == "cxcywh":
        start = start - end / 2
    return boxes.copy() if layout == "xyxy" else np.concatenate([start, start + end], -1)


def _from_corners(corners: np.ndarray, target: str) -> np.ndarray:
    layout = target.removeprefix("rel_")
    if layout in ("xyxy", "yxyx"):
        return corners if layout == "xyxy" else corners[..., [1, 0, 3, 2]]
    start, end = corners[..., :2], corners[..., 2:]
    first = start if layout == "xywh" else (start + end) / 2
    return np.concatenate([first, end - start], -1)


def _check_inside(corners: np.ndarray, boxes: np.ndarray, source: str) -> None:
    """Refuse relative corners outside of the image."""
    outside = ((corners < -_ROUNDING) | (corners > 1 + _ROUNDING)).any(-1)
    if outside.any():
        raise InvalidInputError(
            "relative boxes within the image, between 0 and 1",
            f"the box {shown(boxes[outside][0])}, read as '{source}'",
            "Boxes in pixels have a format without 'rel_'. Clip what reaches out of the image.",
        )


def _scale(image_size: Any, source: str, target: str) -> np.ndarray:
    """Return width, height, width, height of the image."""
    size = np.asarray(0 if image_size is None else image_size)
    if size.shape != (2,) or size.dtype.kind not in "iuf" or not (size > 0).all():
        raise InvalidParameterError(
            f"`image_size`, which '{source}' needs to become '{target}'",
            repr(image_size),
            "Pass height and width in pixels, as in images.shape[1:3].",
        )
    return np.tile(size[::-1].astype(np.float64), 2)


def shown(box: np.ndarray) -> str:
    """Return a box as a message shows it."""
    return ", ".join(f"{value:g}" for value in box)
