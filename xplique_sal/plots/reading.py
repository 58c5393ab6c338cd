"""What the user gives, as arrays that can be drawn; nothing of it is changed in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xplique_sal.errors import InvalidInputError, InvalidParameterError

#: More than this on the last axis of a single map are not channels, but an axis too many.
MOST_CHANNELS = 4
#: Brightness of red, green and blue (ITU-R BT.601).
LUMA = np.array([0.299, 0.587, 0.114])


def numbers(values: Any, what: str) -> np.ndarray:
    """Return finite numbers as a new array in float64."""
    try:
        array = np.asarray(values)
        if array.dtype.kind in "OSUcmM":
            raise TypeError(f"values of the type {array.dtype}")
        array = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"{what} as an array or a tensor of real numbers",
            f"{type(values).__name__} ({error})",
            "Pass arrays, tensors, or a list of them.",
        ) from error
    if not array.size:
        raise InvalidInputError(
            f"{what} with at least one value", f"the shape {array.shape}", "There is none to draw."
        )
    if not np.isfinite(array).all():
        raise InvalidInputError(
            f"finite {what}",
            f"{int(np.isnan(array).sum())} NaN and {int(np.isinf(array).sum())} infinite values",
            "Leave such samples out, or find out where the values come from.",
        )
    return array


def one_map(explanation: Any, absolute_value: bool, what: str = "a map") -> np.ndarray:
    """Return a map (H, W); of several channels the value that is largest in magnitude."""
    array = numbers(explanation, what)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] > MOST_CHANNELS):
        raise InvalidInputError(
            f"{what} of shape (H, W), (H, W, 1) or (H, W, C) with at most {MOST_CHANNELS} channels",
            f"the shape {array.shape}",
            "Take one map of a batch, `maps[0]`, or give the batch to `plot_attributions`; "
            "reduce many channels yourself (`reducer=` of the explainer).",
        )
    if array.ndim == 3:
        strongest = np.abs(array).argmax(axis=-1)[..., None]
        array = np.take_along_axis(array, strongest, axis=-1)[..., 0]
    return np.abs(array) if absolute_value else array


def many_maps(explanations: Any, absolute_value: bool) -> list[np.ndarray]:
    """Return each map of a batch, or of a list of maps of any sizes, as (H, W)."""
    if not isinstance(explanations, (list, tuple)):
        batch = numbers(explanations, "maps")
        if batch.ndim not in (3, 4) or (batch.ndim == 3 and batch.shape[-1] == 1):
            raise InvalidInputError(
                "maps of shape (N, H, W), (N, H, W, 1) or (N, H, W, C)",
                f"the shape {batch.shape}",
                "Give one map its batch axis, `map[None]`, or draw it with `plot_attribution`.",
            )
        explanations = list(batch)
    if not explanations:
        raise InvalidInputError("at least one map", "none", "There is nothing to draw.")
    return [
        one_map(explanation, absolute_value, f"a map (number {position})")
        for position, explanation in enumerate(explanations)
    ]


def images_of(images: Any, maps: Sequence[np.ndarray]) -> list[np.ndarray | None]:
    """Return each image as it is shown: (H, W) or (H, W, 3), of numbers in [0, 1]."""
    if images is None:
        return [None] * len(maps)
    try:
        count = len(images)
    except TypeError as error:
        raise InvalidInputError(
            "an array, a tensor or a list of images",
            type(images).__name__,
            "Pass one image for each map.",
        ) from error
    if count != len(maps):
        raise InvalidInputError(
            f"an image for each of {len(maps)} maps",
            f"{count} images",
            "Pass the images that were explained, with their batch axis.",
        )
    return [image_of(images[position], map_) for position, map_ in enumerate(maps)]


def image_of(image: Any, map_: np.ndarray) -> np.ndarray:
    """Return an image as it is shown, of the size of its map."""
    original = np.asarray(image)
    array = numbers(original, "an image")
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,)):
        raise InvalidInputError(
            "an image of shape (H, W), (H, W, 1) or (H, W, 3)",
            f"the shape {original.shape}",
            "Put the channels last, and choose one or three of them.",
        )
    if array.shape[:2] != map_.shape:
        raise InvalidInputError(
            f"an image of the size of its map, {map_.shape}",
            f"the shape {original.shape}",
            "Pass the image that was explained, or resize the map to it yourself.",
        )
    lowest, highest = array.min(), array.max()
    bytes_ = original.dtype.kind in "iu" and lowest >= 0 and 1 < highest <= 255
    if bytes_ or original.dtype == np.uint8:
        return array / 255
    if lowest >= 0 and highest <= 1:
        return array
    span = highest - lowest
    return (array - lowest) / span if span > 0 else np.full_like(array, 0.5)


def grey(image: np.ndarray) -> np.ndarray:
    """Return the brightness (H, W) of an image that is shown."""
    return image if image.ndim == 2 else image @ LUMA


def names_of(names: Sequence[str] | None, count: int, parameter: str) -> list[str]:
    """Return the names of features, their indices if there are none."""
    if names is None:
        return [f"feature {index}" for index in range(count)]
    if isinstance(names, str) or len(names) != count:
        raise InvalidParameterError(
            f"`{parameter}` with a name for each of {count} features",
            repr(names) if isinstance(names, str) else f"{len(names)} names",
            "Name all features, in the order of the last axis.",
        )
    return [str(name) for name in names]
