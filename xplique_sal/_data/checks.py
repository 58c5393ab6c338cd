"""What inputs must be, and what is said where they are not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xplique_sal._data.structures import InputSpec
from xplique_sal.errors import (
    InvalidInputError,
    InvalidTargetError,
    XpliqueSalError,
)

_SHAPES = "(N, W), (N, T, W), (N, H, W, C) or (N, D, H, W, C)"


def check_input(shape: Sequence[int | None], dtype: tf.DType, spec: InputSpec) -> tf.TensorSpec:
    """Check the shape (with its batch axis) and dtype of an input; return it without the axis.

    A dimension that the model leaves open stays open, so that it costs no second trace.

    Raises
    ------
    InvalidInputError
    """
    shape = tuple(shape)
    where = f" for the input {spec.name!r}" if spec.name else ""
    if not (dtype.is_floating or dtype.is_integer or dtype.is_bool) and spec.dtype != dtype:
        raise InvalidInputError(
            f"numbers{where}", f"the dtype {dtype.name}", "Convert them to a number type."
        )
    if spec.shape is None:
        if not 2 <= len(shape) <= 5:
            raise InvalidInputError(
                f"inputs of shape {_SHAPES}{where}",
                f"the shape {shape}",
                _rank_remedy(shape, (None, None)),
            )
        return tf.TensorSpec(shape[1:], dtype)
    if len(shape) != len(spec.shape):
        raise InvalidInputError(
            f"inputs of the model's shape {_shown(spec.shape)}{where}",
            f"the shape {shape}",
            _rank_remedy(shape, spec.shape),
        )
    wanted = spec.shape[1:]
    if not _agree(shape[1:], wanted):
        raise InvalidInputError(
            f"inputs of the model's shape {_shown(spec.shape)}{where}",
            f"the shape {_shown(shape)}",
            "Resize or reorder the inputs as the model was trained on.",
        )
    if spec.dtype is None:
        wanted = shape[1:]  # a subclassed model: only its rank is known
    return tf.TensorSpec(wanted, dtype)


def check_computed(inputs: Any) -> None:
    """Refuse inputs that have no numbers yet, and calls in which nothing would be computed.

    Raises
    ------
    InvalidInputError
    """
    wanted = "inputs with numbers in them: arrays, eager tensors or a dataset"
    if any(_is_of_keras(value) for value in tf.nest.flatten(inputs)):
        raise InvalidInputError(
            wanted,
            "a symbolic tensor of Keras, as `keras.Input` makes",
            "Build the model first, then explain it on samples.",
        )
    if not tf.executing_eagerly():
        raise InvalidInputError(
            wanted,
            "a call inside of `tf.function`, `Dataset.map`, a Keras layer or a `tf.Graph`, where "
            "nothing has been computed yet",
            "Call `explain` outside of it: on arrays, on a dataset as a whole, or in a loop over "
            "its batches. f(x) itself, `explainer.model`, can be called inside.",
        )


def _is_of_keras(value: Any) -> bool:
    return any(base.__name__ == "KerasTensor" for base in type(value).__mro__)


def lacks_last_axis(shape: Sequence[int | None], spec: InputSpec) -> bool:
    """Tell whether a last axis of length one is left out, which Keras takes as well.

    So are columns (N,) of a table, and grey images (N, H, W). `shape` has its batch axis.
    """
    wanted = spec.shape
    if wanted is None or spec.dtype is None or len(shape) + 1 != len(wanted) or wanted[-1] != 1:
        return False
    is_one_sample = len(shape) > 1 and _agree(shape, wanted[1:])
    return _agree(shape[1:], wanted[1:-1]) and not is_one_sample


def _agree(shape: Sequence[int | None], wanted: Sequence[int | None]) -> bool:
    return all(None in pair or pair[0] == pair[1] for pair in zip(shape, wanted, strict=True))


def check_finite(array: Any, start: int, spec: InputSpec) -> None:
    """Refuse NaN and infinite values, naming the sample.

    Raises
    ------
    InvalidInputError
    """
    if not tf.as_dtype(array.dtype).is_floating:
        return
    if isinstance(array, tf.Tensor):
        finite = tf.math.is_finite(array)
        if bool(tf.reduce_all(finite)):
            return
        finite = finite.numpy()
    else:
        finite = np.isfinite(array)
        if finite.all():
            return
    sample = int((~finite.reshape(len(finite), -1).all(axis=1)).argmax())
    where = f" in the input {spec.name!r}" if spec.name else ""
    raise InvalidInputError(
        f"finite values{where}",
        f"NaN or infinite values in sample {start + sample}",
        "Remove or fill them in before explaining.",
    )


def dtype_of(array: Any, error: type[XpliqueSalError] = InvalidInputError) -> tf.DType:
    """Return the dtype of an array for TensorFlow.

    Raises
    ------
    InvalidInputError, or `error`
        If TensorFlow has none like it.
    """
    try:
        dtype = tf.as_dtype(array.dtype)
    except TypeError:
        dtype = tf.variant
    if dtype.is_bool or dtype.is_integer or dtype.is_floating or dtype == tf.string:
        return dtype
    raise error("numbers", f"the dtype {array.dtype}", "Convert them to a number type.")


def as_array(value: Any, spec: InputSpec) -> Any:
    """Return an input as something that is sliced like an array, if it can be.

    Raises
    ------
    InvalidInputError
    """
    where = f" for the input {spec.name!r}" if spec.name else ""
    if value is None:
        raise InvalidInputError(f"an array{where}", "None", "Pass the samples to explain.")
    if isinstance(value, (tf.RaggedTensor, tf.SparseTensor)) or hasattr(value, "toarray"):
        raise InvalidInputError(
            f"a dense array{where}",
            f"a {type(value).__name__}",
            "Convert it: `to_tensor()` of a ragged tensor, `tf.sparse.to_dense` of a sparse one, "
            "`toarray()` of a matrix of SciPy.",
        )
    if isinstance(value, (tf.Tensor, tf.Variable)):
        if not hasattr(value, "numpy"):
            raise InvalidInputError(
                f"an array or an eager tensor{where}",
                "a symbolic tensor",
                "Call `explain` outside of `tf.function` and of a Keras model's definition.",
            )
        return np.asarray(value) if value.dtype != tf.string else value
    if is_array(value):
        return value
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"an array{where}", f"a {type(value).__name__} ({error})", "Convert it to an array."
        ) from error
    if array.dtype == object and not all(isinstance(part, (str, bytes)) for part in array.flat):
        raise InvalidInputError(
            f"an array of numbers, or of texts{where}",
            f"a {type(value).__name__} that NumPy reads as objects",
            "Give every sample the same shape, and numbers only. Columns of numbers and columns of "
            "texts are two inputs.",
        )
    return array


def is_array(value: Any) -> bool:
    """Tell arrays, tensors and what is sliced like them (an HDF5 dataset) from other objects."""
    sliced = hasattr(value, "shape") and hasattr(value, "dtype") and hasattr(value, "__getitem__")
    return sliced and not hasattr(value, "iloc")  # a pandas object is sliced by its index


def common_length(arrays: Sequence[Any]) -> int:
    """Return the number of samples of all inputs.

    Raises
    ------
    InvalidInputError
        If they differ, or there are none.
    """
    lengths = {int(array.shape[0]) for array in arrays}
    if len(lengths) > 1:
        raise InvalidInputError(
            "inputs of the same number of samples",
            f"{', '.join(str(int(array.shape[0])) for array in arrays)}",
            "Pass one row of each input for each sample.",
        )
    length = lengths.pop()
    if not length:
        raise no_samples()
    return length


def check_dense(spec: Any) -> None:
    """Refuse parts of a dataset that are not tensors of a known rank.

    Raises
    ------
    InvalidInputError
    """
    if not isinstance(spec, tf.TensorSpec) or spec.shape.rank is None:
        raise InvalidInputError(
            "a dataset of dense tensors of known rank",
            f"{spec}",
            "Map its elements to dense tensors, or give their shape by `tf.ensure_shape`.",
        )


def is_batched(
    inputs: Sequence[tf.TensorSpec], targets: Sequence[tf.TensorSpec], specs: Sequence[InputSpec]
) -> bool:
    """Tell by ranks whether a dataset's elements are batches.

    Raises
    ------
    InvalidInputError
        If they fit neither way, or both.
    """
    readings: set[bool] = set()
    for given, spec in zip(inputs, specs, strict=True):
        rank = given.shape.rank
        if spec.shape is None:
            possible = {batched for batched in (True, False) if 2 <= rank + (not batched) <= 5}
        else:
            possible = {
                batched for batched in (True, False) if rank + (not batched) == len(spec.shape)
            }
            if lacks_last_axis(given.shape, spec) and not _is_one(given.shape, spec):
                possible = {True}
            elif lacks_last_axis((None, *given.shape), spec):
                possible = {False}
        if not possible:
            wanted = _SHAPES if spec.shape is None else _shown(spec.shape)
            raise InvalidInputError(
                f"elements of shape {wanted}, or of one sample of that",
                f"the shape {tuple(given.shape)}",
                "Map the dataset to what the model takes.",
            )
        readings = readings & possible if readings else possible
        if not readings:
            raise InvalidInputError(
                "all inputs of a dataset batched, or none",
                "a mixture",
                "Batch the dataset after its inputs were put together.",
            )
    if any(target.shape.rank == 0 for target in targets):
        readings.discard(True)
    if len(readings) != 1:
        raise InvalidInputError(
            "a dataset of which it is clear whether it is batched",
            f"elements of shape {tuple(inputs[0].shape)}, and a model that does not tell its "
            "input's rank",
            "Call the model once on a batch, so that it knows, or pass arrays.",
        )
    return readings.pop()


def _is_one(shape: Sequence[int | None], spec: InputSpec) -> bool:
    """Tell whether an element is one sample of the model, all of it declared."""
    return None not in shape and spec.shape is not None and _agree(shape, spec.shape[1:])


def no_samples() -> InvalidInputError:
    """Return the error for inputs without samples."""
    return InvalidInputError("at least one sample", "none", "Check how the inputs were selected.")


def wrong_number(
    targets: int, inputs: str, shape: Sequence[int] | None = None
) -> InvalidTargetError:
    """Return the error for another number of targets than inputs."""
    return InvalidTargetError(
        f"as many targets as inputs, for {inputs}",
        f"{targets}" + (f" (the shape {tuple(shape)})" if shape else ""),
        "Pass one target for each sample; that of a single sample needs a batch axis too: "
        "targets[None].",
    )


def _rank_remedy(shape: Sequence[int | None], wanted: Sequence[int | None]) -> str:
    if len(shape) + 1 == len(wanted) and _agree(shape, wanted[1:]):
        return "A single sample needs a batch axis: inputs[None]."
    if len(shape) + 1 == len(wanted) and _agree(shape[1:], wanted[1:-1]):
        return "A last axis is missing: inputs[..., None] for one channel, or one feature."
    return "Reshape the inputs; the first axis counts samples."


def _shown(shape: Sequence[int | None]) -> str:
    return "(" + ", ".join("N" if not i else str(size) for i, size in enumerate(shape)) + ")"
