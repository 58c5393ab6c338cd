"""Targets of the operator for segmentation: which positions of which class are explained.

A target has the shape of the model's output: it is non-zero at the positions to explain, in the
channel of their class. These functions make one from what the model predicts. They work on arrays
and know neither models nor explainers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xplique_sal._parameters import integer, is_integer, one_of, optional
from xplique_sal.errors import InvalidInputError, InvalidTargetError

__all__ = ["class_zone", "common_border", "connected_zone", "separate_zones", "zone_border"]

_CONNECTED = {4: np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]]), 8: np.ones((3, 3), int)}


def class_zone(
    predictions: Any, class_idx: int, *, threshold: float | None = None, channel_axis: int = -1
) -> np.ndarray:
    """Return the positions at which a class is predicted: 1 there, in its channel.

    Parameters
    ----------
    predictions
        The model's output for one image, (H, W, L), or for several, (N, H, W, L); probabilities
        or logits.
    class_idx
        The class, counted from 0.
    threshold
        ``None``: a class is predicted where its score is the largest (the first of equal ones).
        A number: where its score is above it, whatever the other classes' scores are. That is for
        models with one output at each position, and for classes that do not exclude each other;
        0.5 fits sigmoids, 0 their logits.
    channel_axis
        The axis of L: −1, or −3 where the model's output has its channels first.

    Returns
    -------
    zone
        float32, of the shape of `predictions`; zero in the channels of all other classes.

    Raises
    ------
    InvalidInputError
        If `predictions` have another shape, are not finite, or have one channel and there is no
        `threshold`.
    InvalidTargetError
        If there is no such class, or it is predicted nowhere in one of the images.
    """
    scores, restored = _read_scores(predictions, channel_axis)
    _check_class(class_idx, scores.shape[-1])
    mask = _predicted_masks(scores, class_idx, threshold)
    absent = ~mask.any((1, 2))
    if absent.any():
        raise InvalidTargetError(
            f"class {class_idx} to be predicted somewhere in each image",
            f"none of it in image {int(absent.argmax())}",
            "Leave that image out, or choose a class that is there.",
        )
    return restored(_in_channel(mask, np.full(len(mask), class_idx), scores.shape[-1]))


def connected_zone(
    predictions: Any,
    position: Any,
    class_idx: int | None = None,
    *,
    connectivity: int = 8,
    threshold: float | None = None,
    channel_axis: int = -1,
) -> np.ndarray:
    """Return the connected part of a class's zone that holds a pixel: one object of several.

    Parameters
    ----------
    predictions
        As for `class_zone`.
    position
        The pixel: row and column, counted from 0; one for all images, or (N, 2).
    class_idx
        The class; by default the one with the largest score at the pixel.
    connectivity
        8: pixels that touch at an edge or a corner are connected. 4: at an edge only.
    threshold, channel_axis
        As for `class_zone`.

    Returns
    -------
    zone
        float32, of the shape of `predictions`: 1 in the connected part, in its class's channel.

    Raises
    ------
    InvalidInputError
        If `predictions` are wrong, as for `class_zone`.
    InvalidTargetError
        If the pixel is outside of the image, or not of the class.
    InvalidParameterError
        If `connectivity` is neither 4 nor 8.
    ImportError
        If SciPy is not installed.
    """
    structure = _neighbours(connectivity)
    ndimage = _load_ndimage()
    scores, restored = _read_scores(predictions, channel_axis)
    rows, columns = _read_pixels(position, *scores.shape[:3])
    images = np.arange(len(scores))
    if class_idx is None:
        classes = scores[images, rows, columns].argmax(-1)
    else:
        _check_class(class_idx, scores.shape[-1])
        classes = np.full(len(scores), class_idx)
    mask = _predicted_masks(scores, classes, threshold)
    outside = ~mask[images, rows, columns]
    if outside.any():
        image = int(outside.argmax())
        raise InvalidTargetError(
            "a pixel at which the class is predicted",
            f"row {rows[image]}, column {columns[image]} of image {image}, which is not of class "
            f"{classes[image]}",
            "Pass a pixel of its `class_zone`, or leave `class_idx` out.",
        )
    for image, (row, column) in enumerate(zip(rows, columns, strict=True)):
        parts, _ = ndimage.label(mask[image], structure)
        mask[image] = parts == parts[row, column]
    return restored(_in_channel(mask, classes, scores.shape[-1]))


def separate_zones(
    predictions: Any,
    class_idx: int,
    *,
    min_size: int = 1,
    connectivity: int = 8,
    threshold: float | None = None,
    channel_axis: int = -1,
) -> np.ndarray:
    """Return every connected part of a class's zone in one image, each as a zone of its own.

    Parameters
    ----------
    predictions
        The model's output for one image, (H, W, L).
    class_idx
        The class.
    min_size
        Parts of fewer pixels are left out.
    connectivity, threshold, channel_axis
        As for `connected_zone`.

    Returns
    -------
    zones
        float32, (K, H, W, L): the K parts, ordered by their first pixel from the top.

    Raises
    ------
    InvalidInputError, InvalidTargetError, InvalidParameterError, ImportError
        As for `connected_zone`; also if no part has `min_size` pixels.
    """
    structure = _neighbours(connectivity)
    ndimage = _load_ndimage()
    if np.ndim(predictions) != 3:
        raise InvalidInputError(
            "the model's output for one image, of shape (H, W, L)",
            f"the shape {np.shape(predictions)}",
            "Call it for one image after the other: their numbers of parts may differ.",
        )
    zone = class_zone(predictions, class_idx, threshold=threshold, channel_axis=channel_axis)
    parts, _ = ndimage.label(np.moveaxis(zone, channel_axis, -1)[..., class_idx], structure)
    sizes = np.bincount(parts.ravel())[1:]
    kept = 1 + np.flatnonzero(sizes >= min_size)
    if not len(kept):
        raise InvalidTargetError(
            f"a connected part of class {class_idx} with at least {min_size} pixels",
            f"parts of at most {sizes.max()}",
            "Lower `min_size`.",
        )
    masks = parts == kept[:, None, None]
    zones = _in_channel(masks, np.full(len(kept), class_idx), zone.shape[channel_axis])
    return np.moveaxis(zones, -1, channel_axis)


def zone_border(
    zone: Any, width: int = 1, *, part: str = "both", channel_axis: int = -1
) -> np.ndarray:
    """Return the border of a zone: 1 on its inside, −1 on its outside, in the zone's channel.

    Its score is how far the class stands out against what is around the zone.

    Parameters
    ----------
    zone
        Zeros and ones, (H, W, L) or (N, H, W, L), as `class_zone` and `connected_zone` return them.
    width
        How many pixels wide each side is: inside are the zone's pixels that others can be reached
        from in `width` steps to one of eight _neighbours, outside the pixels from which the zone
        can. The edge of the image is no border.
    part
        ``"both"``, ``"inner"`` or ``"outer"``; "both" is the sum of the others.
    channel_axis
        As for `class_zone`.

    Returns
    -------
    border
        float32, of the shape of `zone`: 1, −1 and 0.

    Raises
    ------
    InvalidTargetError
        If the zone has other values than zeros and ones, is empty, or fills the image.
    InvalidInputError, InvalidParameterError, ImportError
        If its shape, `width` or `part` is wrong, or SciPy is not installed.
    """
    one_of("part", part, ("both", "inner", "outer"))
    width = integer("width", width, remedy="It is in pixels.")
    masks, restored = _read_masks(zone, channel_axis)
    border = _borders(masks, width)
    without = ~border.any((1, 2, 3))
    if without.any():
        image = int(without.argmax())
        raise InvalidTargetError(
            "a zone with a border",
            f"one that {'fills' if masks[image].any() else 'has no pixel of'} image {image}",
            "Choose a class that some but not all pixels of the image belong to.",
        )
    if part == "inner":
        border = np.maximum(border, 0)
    elif part == "outer":
        border = np.minimum(border, 0)
    return restored(border)


def common_border(zone: Any, other: Any, width: int = 1, *, channel_axis: int = -1) -> np.ndarray:
    """Return what the borders of two classes' zones have in common, with the values of both.

    A pixel of one zone that lies beside the other has 1 in its own class's channel and −1 in the
    other's: the score is by how much the model tells the two classes apart there. A pixel of a
    third class beside both is outside of both: −1 in both channels.

    Parameters
    ----------
    zone, other
        Two zones of different classes without a common pixel, in the form of `zone_border`'s.
    width
        The width of their borders, as for `zone_border`; at 1, the zones must meet (or be one
        pixel apart).
    channel_axis
        As for `class_zone`.

    Returns
    -------
    border
        float32, of the shape of the zones: 1, −1 and 0, in the two classes' channels.

    Raises
    ------
    InvalidTargetError
        If the zones are of the same class, share pixels, have other values than zeros and ones,
        or no common border.
    InvalidInputError, InvalidParameterError, ImportError
        If their shapes or `width` are wrong, or SciPy is not installed.
    """
    width = integer("width", width, remedy="It is in pixels.")
    (masks, restored), (others, _) = (_read_masks(array, channel_axis) for array in (zone, other))
    if masks.shape != others.shape:
        raise InvalidInputError(
            "two zones of one shape",
            f"the shapes {np.shape(zone)} and {np.shape(other)}",
            "Make both from the same predictions.",
        )
    if (masks.any((1, 2)) & others.any((1, 2))).any():
        raise InvalidTargetError(
            "zones of two different classes",
            "two that share a class, in whose channel their values would cancel out",
            "Objects of one class have no such border: explain the `zone_border` of one of them.",
        )
    if (masks.any(-1) & others.any(-1)).any():
        raise InvalidTargetError(
            "zones without a common pixel",
            "two that overlap",
            "Make them without a `threshold`, so that each pixel has one class.",
        )
    borders = _borders(masks, width), _borders(others, width)
    shared = borders[0].any(-1, keepdims=True) & borders[1].any(-1, keepdims=True)
    apart = ~np.any(shared, axis=(1, 2, 3))
    if apart.any():
        raise InvalidTargetError(
            "zones that meet",
            f"two whose borders have no common pixel in image {int(apart.argmax())}",
            "Choose zones that touch each other, or a larger `width`.",
        )
    return restored((borders[0] + borders[1]) * shared)


def _borders(masks: np.ndarray, width: int) -> np.ndarray:
    """Return 1 and −1 on both sides of the borders of masks (N, H, W, L), channel by channel."""
    dilation = _load_ndimage().binary_dilation
    near = np.ones((1, 3, 3, 1), bool)
    inner = masks & dilation(~masks, near, iterations=int(width))
    outer = ~masks & dilation(masks, near, iterations=int(width))
    return inner.astype(np.float32) - outer.astype(np.float32)


def _read_scores(
    predictions: Any, channel_axis: int
) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Return predictions as (N, H, W, L), and a function that gives such an array their shape."""
    one_of(
        "channel_axis",
        channel_axis,
        (-1, -3),
        "It is -3 where the model's output has its channels first, (N, L, H, W).",
    )
    scores = np.asarray(predictions)
    if scores.dtype.name == "bfloat16":  # of which NumPy does not know that it is a number
        scores = scores.astype(np.float32)
    if scores.ndim not in (3, 4) or not scores.size:
        raise InvalidInputError(
            "an array of shape (H, W, L) or (N, H, W, L)",
            f"the shape {scores.shape}",
            "Pass the model's output, with a score for each class at each position.",
        )
    if scores.dtype.kind not in "biuf" or not np.isfinite(scores).all():
        raise InvalidInputError(
            "finite numbers", f"others, in an array of {scores.dtype}", "Check the model's output."
        )
    single = scores.ndim == 3
    scores = np.moveaxis(scores[None] if single else scores, channel_axis, -1)

    def restored(array: np.ndarray) -> np.ndarray:
        array = np.ascontiguousarray(np.moveaxis(array, -1, channel_axis), np.float32)
        return array[0] if single else array

    return scores, restored


def _read_masks(
    zone: Any, channel_axis: int
) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Return zones as booleans (N, H, W, L), and the function of `_read_scores`."""
    values, restored = _read_scores(zone, channel_axis)
    if not ((values == 0) | (values == 1)).all():
        raise InvalidTargetError(
            "a zone of zeros and ones",
            f"values from {values.min()} to {values.max()}",
            "Make it by `class_zone` or `connected_zone`.",
        )
    return values.astype(bool), restored


def _predicted_masks(scores: np.ndarray, classes: Any, threshold: float | None) -> np.ndarray:
    """Return the masks (N, H, W) of one class, or of one class for each image.

    See `segmentation.class_zone` for what a threshold does.
    """
    classes = np.broadcast_to(np.asarray(classes), len(scores))
    if threshold is not None:
        return scores[np.arange(len(scores)), ..., classes] > threshold
    if scores.shape[-1] == 1:
        raise InvalidInputError(
            "the scores of several classes",
            "one score at each position, which is always the largest",
            "Pass a `threshold`: 0.5 for a sigmoid, 0 for its logit.",
        )
    return scores.argmax(-1) == classes[:, None, None]


def _in_channel(masks: np.ndarray, classes: np.ndarray, nb_classes: int) -> np.ndarray:
    """Return masks (N, H, W) as (N, H, W, L), each in the channel of its class."""
    channels = np.arange(nb_classes) == classes[:, None, None, None]
    return (masks[..., None] & channels).astype(np.float32)


def _read_pixels(
    position: Any, count: int, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the row and the column of one pixel for each of some images, (N,) and (N,)."""
    pixels = np.asarray(position)
    if pixels.shape not in ((2,), (count, 2)) or pixels.dtype.kind not in "iu":
        raise InvalidTargetError(
            "a pixel as two integers, row and column, or one for each image, (N, 2)",
            f"an array of shape {pixels.shape} and dtype {pixels.dtype}",
            "Pass for instance position=(12, 30), or one such pair for each of the N images.",
        )
    pixels = np.broadcast_to(pixels, (count, 2))
    outside = ((pixels < 0) | (pixels >= [height, width])).any(-1)
    if outside.any():
        row, column = pixels[outside.argmax()]
        raise InvalidTargetError(
            f"a pixel of an output of {height} rows and {width} columns",
            f"row {row}, column {column}",
            "Rows and columns are counted from 0, in the model's output, not in its input.",
        )
    return pixels[:, 0], pixels[:, 1]


def _check_class(class_idx: Any, nb_classes: int) -> None:
    """Refuse what is no index of a class."""
    if not is_integer(class_idx) or not 0 <= class_idx < nb_classes:
        raise InvalidTargetError(
            f"a class index from 0 to {nb_classes - 1}",
            repr(class_idx),
            "Classes are counted from 0, along the last axis of the model's output.",
        )


def _neighbours(connectivity: Any) -> np.ndarray:
    """Return which pixels of 3×3 are connected to the one in the middle."""
    one_of(
        "connectivity",
        connectivity,
        (4, 8),
        "With 8, pixels that touch at a corner are connected; with 4, they are not.",
    )
    return _CONNECTED[connectivity]


def _load_ndimage() -> Any:
    """Import what labels connected parts and dilates masks."""
    return optional("scipy.ndimage", "Connected zones and borders need", "segmentation")
