"""Targets in any form, as arrays that are as long as the inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xplique_sal._data.checks import dtype_of, wrong_number
from xplique_sal._data.structures import Skeleton, Structure, leaves, skeleton_of
from xplique_sal.errors import InvalidTargetError


class Repeated:
    """One integer target, as long as any inputs."""

    def __init__(self, value: Any, count: int | None) -> None:
        self._value = np.asarray(value)
        self._count = np.iinfo(np.int64).max if count is None else count
        self.dtype = self._value.dtype
        self.shape = (self._count,)

    def __len__(self) -> int:
        return self._count

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.full(1, self._value, dtype or self.dtype)  # for checks: one stands for all

    def __getitem__(self, rows: slice) -> np.ndarray:
        return np.full(len(range(*rows.indices(self._count))), self._value)


def read_targets(targets: Structure, count: int | None) -> tuple[list[Any], Skeleton | None]:
    """Return the arrays in `targets`, and how to pack them.

    Raises
    ------
    InvalidTargetError
        If they are not as many as the inputs, or not numbers.
    """
    if targets is None:
        return [], None
    if isinstance(targets, tf.data.Dataset):
        raise InvalidTargetError(
            "targets as an array",
            "a dataset",
            "Zip inputs and targets into one dataset: tf.data.Dataset.zip((x, y)).",
        )
    # A list holds the samples' targets; a tuple too, unless it holds arrays of them.
    if isinstance(targets, list) or (
        isinstance(targets, tuple) and all(np.ndim(target) == 0 for target in targets)
    ):
        targets = _target_array(targets)
    arrays: list[Any] = []
    for part in leaves(targets):
        array = _target_array(part)
        if len(array.shape) == 0:
            arrays.append(Repeated(array, count))
            continue
        if count is not None and len(array) != count:
            raise wrong_number(len(array), f"{count} inputs", array.shape)
        arrays.append(array)
    return arrays, skeleton_of(targets)


def target_specs(targets: Sequence[Any]) -> list[tf.TensorSpec]:
    """Return the shape and dtype of each, without the batch axis."""
    return [tf.TensorSpec(t.shape[1:], dtype_of(t, InvalidTargetError)) for t in targets]


def _target_array(targets: Any) -> np.ndarray:
    try:
        array = np.asarray(targets)
    except (TypeError, ValueError) as error:
        raise _not_numbers(f"a {type(targets).__name__} ({error})") from error
    if array.dtype.kind in "OUSMm":
        raise _not_numbers(f"the dtype {array.dtype}")
    return array


def _not_numbers(actual: str) -> InvalidTargetError:
    return InvalidTargetError(
        "targets that are numbers",
        actual,
        "Pass class indices, or weights for each output, the same for each sample.",
    )
