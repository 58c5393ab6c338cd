"""Maps as metrics read them: checked, with one number for each position, ranked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xplique_sal._data.structures import Skeleton, Structure, leaves
from xplique_sal.errors import InvalidInputError

#: The maps of samples: one array (N, ...) for each input; ``None`` for one that is not explained.
Maps = list[np.ndarray | None]


def in_order_of(skeleton: Skeleton, given: Structure, what: str) -> list[Any]:
    """Return what is given for each of several inputs, in the order of ``leaves(skeleton)``.

    Raises
    ------
    InvalidInputError
        If it is not packed as the inputs are.
    """
    if isinstance(skeleton, Mapping):
        fits = isinstance(given, Mapping) and set(given) == set(skeleton)
        pairs = [(skeleton[key], given[key]) for key in sorted(skeleton)] if fits else []
    elif isinstance(skeleton, (list, tuple)):
        fits = isinstance(given, (list, tuple)) and len(given) == len(skeleton)
        pairs = [*zip(skeleton, given, strict=True)] if fits else []
    else:
        return [given]
    if not fits:
        raise InvalidInputError(
            f"{what} for each of {len(leaves(skeleton))} inputs, packed as they are",
            f"a {type(given).__name__}",
            "Pass a list or a dict of the same structure as the inputs.",
        )
    return [found for part, own in pairs for found in in_order_of(part, own, what)]


def read_maps(explanations: Any, skeleton: Skeleton = 0) -> Maps:
    """Return the maps of each input of a model, in the order of ``leaves(skeleton)``.

    Parameters
    ----------
    explanations
        Maps, as an array or a tensor; of several inputs packed as these are, with ``None`` for an
        input that is not explained.
    skeleton
        How the inputs are packed.

    Raises
    ------
    InvalidInputError
        If they are no such maps, or not all of them finite.
    """
    is_packed = isinstance(skeleton, (Mapping, list, tuple))
    if is_packed and len(leaves(skeleton)) == 1 and hasattr(explanations, "shape"):
        return [finite_maps(explanations)]
    given = in_order_of(skeleton, explanations, "maps")
    if len(given) == 1:
        return [finite_maps(given[0])]
    maps = [None if part is None else finite_maps(part) for part in given]
    if all(part is None for part in maps):
        raise InvalidInputError("maps of an input at least", "none", "Explain one of the inputs.")
    return maps


def maps_alone(explanations: Any) -> list[np.ndarray]:
    """Return maps beside which there are no inputs: of one, or of several by name.

    Raises
    ------
    InvalidInputError
        If they are no maps, or arrays in a list, which could be samples or inputs.
    """
    if isinstance(explanations, Mapping):
        return [part for part in read_maps(explanations, explanations) if part is not None]
    if isinstance(explanations, (list, tuple)) and any(np.ndim(p) > 1 for p in explanations):
        raise InvalidInputError(
            "maps as one array, or a dict of those of several inputs",
            f"a {type(explanations).__name__} of arrays, which could be samples or inputs",
            "Stack the maps of samples by np.stack, and name those of inputs in a dict.",
        )
    return [finite_maps(explanations)]


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
            "Pass what `explain` returns.",
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


def side_by_side(maps: Sequence[np.ndarray | None]) -> np.ndarray:
    """Return the maps of all inputs, one after the other, (N, positions)."""
    return np.concatenate(
        [part.reshape(len(part), -1) for part in maps if part is not None], axis=1
    )


def apart(flat: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """Return what stands side by side, (N, positions), by inputs: (N, ...) of these shapes each."""
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    pieces = np.split(flat, ends[:-1], axis=1)
    return [part.reshape(-1, *shape) for part, shape in zip(pieces, shapes, strict=True)]


def shares_of(maps: Sequence[np.ndarray], epsilon: float = 0.0) -> np.ndarray:
    """Return each position's share of the sum of |map|, (N, positions).

    Channels, on the last axis of maps of rank 4 and more, are averaged; `epsilon` is added to the
    sum. A map of zeros is one that is equal everywhere.
    """
    sizes = side_by_side([without_channels(np.abs(part), -1) for part in maps])
    total = sizes.sum(axis=1, keepdims=True, dtype=np.float64)
    equal = np.full_like(sizes, 1 / sizes.shape[1])
    total = total.astype(sizes.dtype)
    return np.divide(sizes, total + sizes.dtype.type(epsilon), out=equal, where=total > 0)
