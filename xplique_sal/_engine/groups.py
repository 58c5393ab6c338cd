"""Groups of positions, such as segments, words or letters, that are hidden together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xplique_sal._data.samples import Samples
from xplique_sal._data.structures import Structure, leaves
from xplique_sal.errors import InvalidParameterError

_HOW = (
    "Pass an integer for each position, the same for those of a group, and -1 where nothing is to "
    "be hidden."
)


class Groups:
    """What a user says of groups: an integer for each position, for all samples or for each.

    Parameters
    ----------
    given
        An array, or of several inputs as many, packed as these, with ``None`` where there are no
        groups.

    Raises
    ------
    InvalidParameterError
        If it holds anything but integers.
    """

    def __init__(self, given: Structure) -> None:
        several = isinstance(given, dict) or (
            isinstance(given, (list, tuple))
            and any(np.ndim(part) or part is None for part in given)
        )
        parts = leaves(given) if several and not _is_array(given) else [given]
        self._parts = [None if part is None else _integers(part) for part in parts]
        self._ranked: dict[tuple[int, tuple[int, ...]], tuple[np.ndarray, int]] = {}

    def check(self, samples: Samples) -> None:
        """Refuse groups of each sample that are not those of the samples."""
        specs = samples.layout.input_specs
        if len(specs) != len(self._parts):
            raise InvalidParameterError(
                f"`groups` for each of {len(specs)} inputs",
                f"{len(self._parts)}",
                "Pack them as the inputs, with None where there are none.",
            )
        for position, part in zip(leaves(samples.layout.for_user), self._parts, strict=True):
            is_of_each = part is not None and part.ndim == (specs[position].shape.rank or 0) + 1
            if part is not None and is_of_each and len(part) > 1:
                samples.check_one_each("groups", part.shape, "pass one array for all")

    def of(
        self, position: int, shape: tuple[int, ...], axes: Sequence[int], first: int, count: int
    ) -> tuple[np.ndarray, int] | None:
        """Return the group of each position of some samples, and how many groups there are.

        Parameters
        ----------
        position
            Which input it is.
        shape, axes
            As in `MaskingExplainer._masks`.
        first, count
            The samples.

        Returns
        -------
        numbers
            (count, *shape), or (1, *shape) where samples share them: counted from 0 in each sample,
            in the order of the user's integers; −1 for positions in no group.
        number_of_groups
            Of the sample with the most.
        """
        part = self._parts[position]
        if part is None:
            return None
        key = (position, tuple(shape))
        if key not in self._ranked:
            self._ranked[key] = _ranked(part, tuple(shape), axes)
        numbers, most = self._ranked[key]
        if len(numbers) == 1:
            return numbers, most
        if len(numbers) < first + count:
            raise InvalidParameterError(
                f"`groups` for each sample, here {first + count} at least",
                f"{len(numbers)}",
                "Pass as many as samples, in their order, or one array for all.",
            )
        return numbers[first : first + count], most


class GroupMasks:
    """Masks that each hide one group."""

    def __init__(self, numbers: np.ndarray, count: int) -> None:
        self.count = count
        self._numbers = numbers

    def __call__(self, first: int, count: int) -> tf.Tensor:
        wanted = np.arange(first, first + count).reshape(-1, *[1] * self._numbers.ndim)
        return _as_masks(self._numbers != wanted)


class RandomGroupMasks:
    """Masks that keep each group with a probability: each is drawn from the seed and its number."""

    def __init__(
        self, numbers: np.ndarray, groups: int, count: int, probability: float, seed: int
    ) -> None:
        self.count = count
        self._numbers = numbers
        self._groups = groups
        self._probability = probability
        self._seed = seed

    def __call__(self, first: int, count: int) -> tf.Tensor:
        kept = np.ones([count, self._groups + 1], bool)  # the last is that of no group
        for row in range(count):
            random = np.random.default_rng([self._seed, first + row])
            kept[row, :-1] = random.random(self._groups, np.float32) < self._probability
        return _as_masks(kept[:, self._numbers])


def _as_masks(kept: np.ndarray) -> tf.Tensor:
    """Return truth values (masks, n, ...) as masks, without the axis of samples that share them."""
    kept = kept[:, 0] if kept.shape[1] == 1 else kept
    return tf.constant(kept.astype(np.float32))


def _is_array(given: Any) -> bool:
    """Tell whether nested lists of numbers are one array, as of a table's features."""
    try:
        return np.asarray(given).dtype.kind in "iu" and not hasattr(given[0], "shape")
    except (TypeError, ValueError, KeyError, IndexError):
        return False


def _integers(part: Any) -> np.ndarray:
    try:
        array = np.asarray(part)
    except (TypeError, ValueError):
        array = np.zeros(0)
    if array.dtype.kind not in "iu" or not array.ndim or not array.size:
        raise InvalidParameterError(
            "`groups` as an array of integers", f"{type(part).__name__} of {array.dtype}", _HOW
        )
    if not (array >= 0).any():
        raise InvalidParameterError(
            "`groups` with one group at least", "negative numbers only", _HOW
        )
    return array.astype(np.int64)


def _ranked(
    array: np.ndarray, shape: tuple[int, ...], axes: Sequence[int]
) -> tuple[np.ndarray, int]:
    """Return groups numbered from 0 in each sample, (1 or N, *shape), and the most of one."""
    positions = tuple(shape[axis] for axis in axes)
    shared = array[np.newaxis]
    forms = [(shape, shared), (positions, shared), (shape, array), (positions, array)]
    for form, candidate in forms:
        if candidate.ndim == len(form) + 1 and all(
            mine in (1, theirs) for mine, theirs in zip(candidate.shape[1:], form, strict=True)
        ):
            full = np.broadcast_to(candidate, (len(candidate), *form)).reshape(-1, *shape)
            break
    else:
        raise InvalidParameterError(
            f"`groups` of the shape of a sample without channels, {positions}, or of one for each "
            f"sample, (N, {', '.join(map(str, positions))})",
            f"the shape {array.shape}",
            _HOW,
        )
    numbers, most = np.empty(full.shape, np.int64), 0
    for row, sample in enumerate(full):
        known = np.unique(sample[sample >= 0])
        numbers[row] = np.where(sample >= 0, np.searchsorted(known, sample), -1)
        most = max(most, len(known))
    return numbers, most
