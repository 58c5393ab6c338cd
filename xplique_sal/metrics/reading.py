"""Maps as metrics read them: checked, with one number for each position, ranked."""

from __future__ import annotations

from typing import Any

import numpy as np

from xplique_sal.errors import InvalidInputError


def finite_maps(explanations: Any) -> np.ndarray:
    """Return maps as an array (N, ...), in float32 if they are, else in float64.

    Raises
    ------
    InvalidInputError
        If they are no maps, or not all of them finite.
    """
    try:
        maps = np.asarray(explanations)
        if maps.dtype.kind not in "biuf":
            raise TypeError(f"values of the type {maps.dtype}")
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            "maps as one array or tensor of numbers, (N, ...)",
            f"{type(explanations).__name__} ({error})",
            "Pass what `explain` returns; of several inputs, the maps of one.",
        ) from error
    if maps.ndim < 2 or not maps.size:
        raise InvalidInputError(
            "maps of shape (N, ...)", f"the shape {maps.shape}", "Keep the axis of the samples."
        )
    maps = maps if maps.dtype == np.float32 else maps.astype(np.float64)
    finite = np.isfinite(maps)
    if not finite.all():
        first = int(np.argwhere(~finite)[0, 0])
        raise InvalidInputError(
            "finite maps",
            f"NaN or infinite values in the map of sample {first}",
            "Leave such samples out, or find out where the values come from.",
        )
    return maps


def by_position(maps: np.ndarray, shape: tuple[int, ...], channel_axis: int) -> np.ndarray:
    """Return maps with an axis for each of their samples', of length 1 where they say nothing.

    Parameters
    ----------
    maps
        (N, ...): one number for each value of a sample; for images and volumes also one for each
        pixel, with an axis of length 1 or none for the channels; for time series also one for each
        time, likewise.
    shape
        Of the samples, without their axis.
    channel_axis
        Of the samples, -1 or 1.

    Raises
    ------
    InvalidInputError
        If the maps are not of such samples.
    """
    axis = channel_axis % (len(shape) + 1) if len(shape) > 2 else len(shape)
    reduced = (*shape[: axis - 1], 1, *shape[axis:])
    own = maps.shape[1:]
    if len(shape) > 1 and own == (*reduced[: axis - 1], *reduced[axis:]):
        return np.expand_dims(maps, axis)
    if own == shape or (len(shape) > 1 and own == reduced):
        return maps
    raise InvalidInputError(
        f"maps of samples of shape {shape}" + (f", or {reduced}" if len(shape) > 1 else ""),
        f"the shape {own}",
        "Pass the maps of these inputs, one for each sample.",
    )


def without_channels(maps: np.ndarray, channel_axis: int) -> np.ndarray:
    """Return maps of images and volumes with the mean over channels, and others as they are."""
    if maps.ndim < 4 or maps.shape[channel_axis] == 1:
        return maps
    return maps.mean(axis=channel_axis, keepdims=True)


def ranks_of(maps: np.ndarray, seed: int) -> np.ndarray:
    """Return the rank of each position in its map: 0 is the largest value.

    Positions with equal values have ranks in an order that is drawn from the seed: the same for
    all maps of a size, whoever asks.

    Parameters
    ----------
    maps
        (N, positions).
    seed
        Of the order of equal values.
    """
    order = np.random.default_rng(seed).permutation(maps.shape[1])
    places = order[np.argsort(-maps[:, order], axis=1, kind="stable")]
    ranks = np.empty(maps.shape, np.int32)
    np.put_along_axis(ranks, places, np.arange(maps.shape[1], dtype=np.int32)[np.newaxis], axis=1)
    return ranks


def shares_of(maps: np.ndarray, epsilon: float = 0.0) -> np.ndarray:
    """Return each position's share of the sum of |map|, (N, positions).

    Channels, on the last axis of maps of rank 4 and more, are averaged; `epsilon` is added to the
    sum. A map of zeros is one that is equal everywhere.
    """
    sizes = without_channels(np.abs(maps), -1).reshape(len(maps), -1)
    total = sizes.sum(axis=1, keepdims=True, dtype=np.float64)
    equal = np.full_like(sizes, 1 / sizes.shape[1])
    total = total.astype(sizes.dtype)
    return np.divide(sizes, total + sizes.dtype.type(epsilon), out=equal, where=total > 0)
