"""Targets in any form, as arrays that are as long as the inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from xplique_sal._data.checks import dtype_of, wrong_number
from xplique_sal._data.structures import Skeleton, Structure, leaves, skeleton_of
from xplique_sal.errors import InvalidTargetError


class LabelsOfOutput(NamedTuple):
    """How the labels of a dataset are read for an operator that chooses outputs.

    Attributes
    ----------
    output
        Which of several outputs is explained, by index, name or dict key; ``None`` the only one.
    names
        The names of the model's outputs in order, as far as it has any.
    """

    output: int | str | None = None
    names: Sequence[str] = ()

    def of(self, labels: Structure) -> Structure:
        """Return the part of labels that is about the output.

        Raises
        ------
        InvalidTargetError
            If they are named, or numbered, and none is of that output.
        """
        if not isinstance(labels, (Mapping, list, tuple)):
            return labels
        parts = list(labels.values()) if isinstance(labels, Mapping) else list(labels)
        if len(parts) == 1:
            return parts[0]
        if self.output is None:
            return labels
        key: Any = self._key(labels)
        if key is None:
            named = list(labels) if isinstance(labels, Mapping) else len(parts)
            raise InvalidTargetError(
                f"labels for the output {self.output!r}",
                f"a {type(labels).__name__} with {named}",
                "Map the dataset to the labels of that output: "
                "dataset.map(lambda x, y: (x, y[...])).",
            )
        return labels[key]

    def _key(self, labels: Structure) -> int | str | None:
        names, output = list(self.names), self.output
        if isinstance(labels, Mapping):
            by_index = names[output : output + 1] if isinstance(output, int) else []
            return next((key for key in [output, *by_index] if key in labels), None)
        if isinstance(output, str):
            output = names.index(output) if output in names else len(labels)
        assert output is not None
        return output if -len(labels) <= output < len(labels) else None


def read_targets(targets: Structure, count: int | None) -> tuple[list[Any], Skeleton | None]:
    """Return the arrays in `targets`, and how to pack them.

    One integer for all stands beside each of `count` samples; where that is not known it stays one,
    of rank 0.

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
            arrays.append(array if count is None else np.broadcast_to(array, count))
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
