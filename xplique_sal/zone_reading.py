"""What the makers of segmentation targets are given, checked and brought into one form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xplique_sal._parameters import is_integer, one_of, optional
from xplique_sal.errors import InvalidInputError, InvalidTargetError

_CONNECTED = {4: np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]]), 8: np.ones((3, 3), int)}


def read_scores(
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


def read_masks(
    zone: Any, channel_axis: int
) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Return zones as booleans (N, H, W, L), and the function of `read_scores`."""
    values, restored = read_scores(zone, channel_axis)
    if not ((values == 0) | (values == 1)).all():
        raise InvalidTargetError(
            "a zone of zeros and ones",
            f"values from {values.min()} to {values.max()}",
            "Make it by `class_zone` or `connected_zone`.",
        )
    return values.astype(bool), restored


def predicted_masks(scores: np.ndarray, classes: Any, threshold: float | None) -> np.ndarray:
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


def in_channel(masks: np.ndarray, classes: np.ndarray, nb_classes: int) -> np.ndarray:
    """Return masks (N, H, W) as (N, H, W, L), each in the channel of its class."""
    channels = np.arange(nb_classes) == classes[:, None, None, None]
    return (masks[..., None] & channels).astype(np.float32)


def read_pixels(
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


def check_class(class_idx: Any, nb_classes: int) -> None:
    """Refuse what is no index of a class."""
    if not is_integer(class_idx) or not 0 <= class_idx < nb_classes:
        raise InvalidTargetError(
            f"a class index from 0 to {nb_classes - 1}",
            repr(class_idx),
            "Classes are counted from 0, along the last axis of the model's output.",
        )


def neighbours(connectivity: Any) -> np.ndarray:
    """Return which pixels of 3×3 are connected to the one in the middle."""
    one_of(
        "connectivity",
        connectivity,
        (4, 8),
        "With 8, pixels that touch at a corner are connected; with 4, they are not.",
    )
    return _CONNECTED[connectivity]


def load_ndimage() -> Any:
    """Import what labels connected parts and dilates masks."""
    return optional("scipy.ndimage", "Connected zones and borders need", "segmentation")
