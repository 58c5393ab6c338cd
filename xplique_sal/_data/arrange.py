"""From the inputs as a user gives them to the order and packing that the model wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xplique_sal._data.structures import (
    Arrangement,
    ModelInputs,
    Structure,
    leaves,
    like,
    skeleton_of,
)
from xplique_sal.errors import InvalidInputError


def arrange(inputs: Structure, model_inputs: ModelInputs | None) -> Arrangement:
    """Return the arrays (tensors, specs) of `inputs` in the model's order.

    Parameters
    ----------
    inputs
        One array, or a list, tuple or dict of them. For a model of one input, a list of samples
        is stacked into one array.
    model_inputs
        What the model says about its inputs; ``None`` takes `inputs` as they are.

    Raises
    ------
    InvalidInputError
        If their number or their names are not the model's.
    """
    if model_inputs is None or _is_free(model_inputs):
        inputs = _numbers_as_arrays(inputs)
        return Arrangement(leaves(inputs), skeleton_of(inputs), skeleton_of(inputs))
    names = [spec.name for spec in model_inputs.specs]
    if isinstance(inputs, Mapping):
        keys = _keys(model_inputs)
        if set(inputs) != set(keys):
            raise InvalidInputError(
                f"inputs named {', '.join(map(repr, keys))}",
                f"a dict with the keys {', '.join(map(repr, inputs)) or 'of no input'}",
                "Name each input of the model, and nothing else.",
            )
        flat = [_numbers_as_arrays(inputs[key]) for key in keys]
        by_key = {key: keys.index(key) for key in inputs}
        return Arrangement(flat, model_inputs.skeleton, by_key)
    if not isinstance(inputs, (list, tuple)):
        flat, for_user = [inputs], 0
    elif len(names) == 1 and not _is_packed(inputs, model_inputs):
        flat, for_user = [_stacked(inputs)], 0
    elif len(names) > 1 and isinstance(model_inputs.skeleton, dict):
        raise InvalidInputError(
            f"a dict with the inputs {', '.join(map(repr, _keys(model_inputs)))}",
            f"a {type(inputs).__name__}, whose order could be misread",
            "Pass a dict.",
        )
    else:
        parts = like(inputs, [_numbers_as_arrays(part) for part in inputs])
        flat, for_user = leaves(parts), skeleton_of(parts)
    if len(flat) != len(names):
        raise InvalidInputError(
            f"{len(names)} input{'s' if len(names) > 1 else ''} ({', '.join(map(repr, names))})",
            f"{len(flat)}",
            "Pass a list or a dict with one array for each input of the model.",
        )
    return Arrangement(flat, model_inputs.skeleton, for_user)


def with_batch_axis(array: Any, rank: int | None) -> Any:
    """Return samples with their batch axis, which is added to a single one.

    Parameters
    ----------
    array
        One sample, or samples.
    rank
        The rank of one sample. Where the model does not tell it (``None``), a first axis of length
        one is taken for the batch axis.

    Raises
    ------
    InvalidInputError
        If the rank is neither that of a sample nor of a batch.
    """
    given = len(array.shape)
    if rank is not None and given not in (rank, rank + 1):
        raise InvalidInputError(
            f"a sample of rank {rank}, or {rank + 1} with its batch axis",
            f"the shape {tuple(array.shape)}",
            "Pass one sample as the model takes it.",
        )
    has_axis = given == rank + 1 if rank is not None else given > 1 and array.shape[0] == 1
    return array if has_axis else array[np.newaxis]


def _is_free(model_inputs: ModelInputs) -> bool:
    """Tell whether a model takes several inputs as its `call` likes: it is subclassed."""
    return len(model_inputs.specs) > 1 and all(spec.dtype is None for spec in model_inputs.specs)


def _keys(model_inputs: ModelInputs) -> list[str]:
    """Return the name of each input in the model's order: its dict key, if it takes a dict."""
    if isinstance(model_inputs.skeleton, dict):
        return sorted(model_inputs.skeleton, key=model_inputs.skeleton.__getitem__)
    return [spec.name for spec in model_inputs.specs]


def _is_packed(inputs: Structure, model_inputs: ModelInputs) -> bool:
    """Tell whether a list holds the only input, rather than its samples."""
    shape = model_inputs.specs[0].shape
    given = getattr(inputs[0], "shape", None) if len(inputs) == 1 else None
    return given is not None and shape is not None and len(given) == len(shape)


def _stacked(samples: Sequence[Any]) -> np.ndarray:
    if not samples:
        raise InvalidInputError("at least one sample", "an empty list", "Pass some samples.")
    try:
        return np.stack([np.asarray(sample) for sample in samples])
    except ValueError as error:
        raise InvalidInputError(
            "samples of one shape, of numbers",
            f"a list that makes no array ({error})",
            "Give every sample the same shape.",
        ) from error


def _numbers_as_arrays(structure: Structure) -> Any:
    """Turn the (nested) lists of numbers in a structure into arrays."""
    if isinstance(structure, Mapping):
        return {key: _numbers_as_arrays(part) for key, part in structure.items()}
    if isinstance(structure, (list, tuple)) and structure:
        inner: Any = structure
        while isinstance(inner, (list, tuple)) and inner:
            inner = inner[0]
        if isinstance(inner, (bool, int, float, np.generic)):
            return _stacked(structure)
    return structure
