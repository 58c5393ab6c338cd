"""Targets of the operators for object detection, from boxes in any of the usual formats.

A target has the form of the detector's own rows: x1, y1, x2, y2, objectness, one value for each
class. These functions work on arrays and know neither models nor explainers.

Formats in pixels:

- ``"xyxy"``: x1, y1, x2, y2, two opposite corners; x to the right and y downwards
- ``"yxyx"``: y1, x1, y2, x2
- ``"xywh"``: x1, y1, width, height: the corner with the smallest x and y, and the size
- ``"cxcywh"``: x, y, width, height: the centre, and the size

Relative ones, in shares of the image's width and height: ``"rel_xyxy"``, ``"rel_yxyx"``,
``"rel_xywh"`` and ``"rel_cxcywh"``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from xplique_sal._parameters import integer, one_of
from xplique_sal.errors import InvalidInputError, InvalidParameterError, InvalidTargetError

__all__ = ["box_targets", "convert_boxes"]

_LAYOUTS = ("xyxy", "yxyx", "xywh", "cxcywh")
FORMATS = _LAYOUTS + tuple(f"rel_{layout}" for layout in _LAYOUTS)
"""The formats of a box, in pixels and relative to the image."""

_ROUNDING = 1e-5
"""How far relative boxes may lie outside of the image: as far as float32 rounds."""


def box_targets(
    boxes: Any,
    classes: Any,
    scores: Any = None,
    *,
    num_classes: int | None = None,
    source: str = "xyxy",
    target: str | None = None,
    image_size: Any = None,
) -> np.ndarray:
    """Return the boxes to explain as targets of the operators for object detection.

    The operators compare them with the rows of f(x), so `target` must be what the model returns:
    pixels of its input or shares of it, with x or y first.

    Parameters
    ----------
    boxes
        A list with an array (boxes, 4) for each of N images, of which the numbers of boxes may
        differ; or one array (N, boxes, 4), in which rows of zeros are padding.
    classes
        For each image the class index of each box, (boxes,), or its class scores, (boxes,
        classes). What stands beside a row of padding is not read.
    scores
        For each image the objectness of each box, (boxes,); 1 by default. The operators take the
        objectness of the predicted boxes, not this one.
    num_classes
        The number of classes; needed with class indices.
    source
        The format of `boxes`, as in `convert_boxes`.
    target
        The format of the boxes in f(x): ``"xyxy"``, ``"rel_xyxy"``, ``"yxyx"`` or ``"rel_yxyx"``.
        By default x1, y1, x2, y2, in pixels if `source` is, else relative.
    image_size
        Height and width of the model's input; needed where only one of the formats is relative.

    Returns
    -------
    targets
        float32, (N, B, 4 + 1 + classes), B the largest number of boxes of an image; rows of zeros
        pad images with fewer.

    Raises
    ------
    InvalidInputError
        If boxes are malformed, as in `convert_boxes`, or have no area: such a box has no overlap
        with any other.
    InvalidTargetError
        If an image has no box, a class is out of range, all class scores of a box are zero, or
        numbers of boxes, classes and scores differ.
    InvalidParameterError
        If a format, `num_classes` or `image_size` is missing or wrong.
    """
    one_of("source", source, FORMATS)
    if target is None:
        target = "rel_xyxy" if source.startswith("rel_") else "xyxy"
    one_of("target", target, [name for name in FORMATS if name.endswith(("xyxy", "yxyx"))])
    boxes = _per_image("boxes", boxes, None)
    classes = _per_image("classes", classes, len(boxes))
    scores = [None] * len(boxes) if scores is None else _per_image("scores", scores, len(boxes))
    formats = _Formats(source, target, image_size)
    rows = []
    for image, of_image in enumerate(zip(boxes, classes, scores, strict=True)):
        try:
            rows.append(_rows(*of_image, num_classes, formats))
        except (InvalidInputError, InvalidTargetError) as error:
            actual = f"{error.actual} (image {image})"
            raise type(error)(error.expected, actual, error.remedy) from None
    widths = {row.shape[1] for row in rows}
    if len(widths) > 1:
        raise InvalidTargetError(
            "class scores of the same number of classes for each image",
            f"{sorted(width - 5 for width in widths)} of them",
            "Give each box one score for every class.",
        )
    targets = np.zeros((len(rows), max(map(len, rows)), *widths), np.float32)
    for padded, row in zip(targets, rows, strict=True):
        padded[: len(row)] = row
    return targets


class _Formats(NamedTuple):
    """The format in which boxes come, and that of the targets."""

    source: str
    target: str
    image_size: Any


def _rows(
    boxes: np.ndarray,
    classes: np.ndarray,
    scores: np.ndarray | None,
    num_classes: int | None,
    formats: _Formats,
) -> np.ndarray:
    """Return the rows (B, 4 + 1 + classes) of one image; padding stays where it is."""
    if not boxes.size:
        boxes = boxes.reshape(0, 4)
    if boxes.ndim != 2 or boxes.shape[-1] != 4:
        raise InvalidTargetError(
            "boxes of shape (boxes, 4) for each image",
            f"the shape {boxes.shape}",
            "Pass a list of such arrays, or (N, boxes, 4): of one image, boxes[None]; with one box "
            "for each image, boxes[:, None].",
        )
    scores = np.ones(len(boxes)) if scores is None else scores
    if classes.shape[:1] != (len(boxes),) or scores.shape != (len(boxes),):
        raise InvalidTargetError(
            f"a class and a score for each of {len(boxes)} boxes",
            f"classes of shape {classes.shape} and scores of shape {scores.shape}",
            "Pass one of each for every box, also for rows of padding.",
        )
    real = np.asarray(boxes.any(axis=1))
    if not real.any():
        raise InvalidTargetError(
            "a box to explain in each image", "none", "Leave that image out: nothing is explained."
        )
    corners = convert_boxes(boxes, formats.source, formats.target, image_size=formats.image_size)
    empty = real & ((corners[:, 2:] - corners[:, :2]) <= 0).any(axis=1)
    if empty.any():
        raise InvalidInputError(
            "boxes with an area",
            f"the box {_shown(boxes[empty.argmax()])}",
            f"It is read as '{formats.source}': check the format. A row of four zeros is padding.",
        )
    if not np.isfinite(scores[real]).all():
        raise InvalidTargetError("finite scores", f"{scores[real]}", "Check the detector's output.")
    weights = _class_weights(classes, real, num_classes)
    return np.where(real[:, None], np.hstack([corners, scores[:, None], weights]), 0)


def _class_weights(classes: np.ndarray, real: np.ndarray, num_classes: int | None) -> np.ndarray:
    """Return (B, classes), one-hot of class indices; zero beside padding."""
    if classes.ndim == 2:
        return _checked_scores(classes, real, num_classes)
    num_classes = integer(
        "num_classes",
        num_classes,
        remedy="Class indices do not tell it; class scores (boxes, classes) would.",
    )
    if classes.dtype.kind not in "iu":
        raise InvalidTargetError(
            "class indices to be integers",
            f"the dtype {classes.dtype}",
            "Pass indices (boxes,), or class scores (boxes, classes).",
        )
    wrong = real & ((classes < 0) | (classes >= num_classes))
    if wrong.any():
        raise InvalidTargetError(
            f"class indices from 0 to {num_classes - 1}",
            f"{classes[wrong.argmax()]}",
            "Classes are counted from 0, without a background.",
        )
    return (classes[:, None] == np.arange(num_classes)) & real[:, None]


def _checked_scores(classes: np.ndarray, real: np.ndarray, num_classes: int | None) -> np.ndarray:
    if num_classes not in (None, classes.shape[1]):
        raise InvalidTargetError(
            f"class scores for {num_classes} classes, as `num_classes` says",
            f"{classes.shape[1]} of them",
            "Leave `num_classes` out, or correct it.",
        )
    weights = np.where(real[:, None], classes, 0)
    if not np.isfinite(weights).all() or not weights[real].any(axis=1).all():
        raise InvalidTargetError(
            "finite class scores, not all of them zero",
            f"{weights[real]}",
            "A box of no class resembles no other; pass its class index or its scores.",
        )
    return weights


def _per_image(name: str, values: Any, count: int | None) -> list[np.ndarray]:
    """Return an array for each image."""
    try:
        arrays = [np.asarray(array) for array in values]  # a RaggedTensor can be walked too
    except TypeError:
        arrays = []
    if not arrays or count not in (None, len(arrays)):
        raise InvalidTargetError(
            f"`{name}` of {'at least one image' if count is None else f'{count} images'}",
            f"{len(arrays)} in {type(values).__name__!r}",
            "Pass a list with one array for each image.",
        )
    return arrays


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
            f"the box {_shown(boxes[wrong][0])}",
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
            f"the box {_shown(boxes[outside][0])}, read as '{source}'",
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


def _shown(box: np.ndarray) -> str:
    """Return a box as a message shows it."""
    return ", ".join(f"{value:g}" for value in box)
