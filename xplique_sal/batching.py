"""Inputs and targets in any form, as checked batches, lazily; batches' results as one."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from xplique_sal.arrangement import arrange
from xplique_sal.errors import InvalidInputError, InvalidParameterError, InvalidTargetError
from xplique_sal.types import InputSpec, ModelInputs, Skeleton, Structure, leaves, skeleton_of

_SHAPES = "(N, W), (N, T, W), (N, H, W, C) or (N, D, H, W, C)"
#: Arrays are looked through for values that are not finite in pieces of this size.
_PIECE = 1 << 22


class Batch(NamedTuple):
    """Consecutive samples, in the model's order of inputs."""

    start: int
    inputs: list[Any]
    targets: list[Any]

    @property
    def size(self) -> int:
        """The number of samples."""
        return len(self.inputs[0])

    def split(self, size: int) -> Iterator[Batch]:
        """Yield it in pieces of at most `size` samples."""
        for start in range(0, self.size, size):
            yield Batch(
                self.start + start,
                [array[start : start + size] for array in self.inputs],
                [array[start : start + size] for array in self.targets],
            )


class Samples(abc.ABC):
    """Inputs and targets, read once.

    Attributes
    ----------
    for_model, for_user
        How the model and the user want the inputs packed.
    for_targets
        How the operator wants the targets packed; ``None`` if there are none.
    input_specs, target_specs
        Shape and dtype of each input and each target, without the batch axis.
    count
        The number of samples, if it is known.
    fixed_batch
        The only batch size that the model takes, if it takes no other.
    """

    for_model: Skeleton
    for_user: Skeleton
    for_targets: Skeleton | None
    input_specs: list[tf.TensorSpec]
    target_specs: list[tf.TensorSpec]
    count: int | None
    fixed_batch: int | None = None

    @abc.abstractmethod
    def first(self) -> list[Any]:
        """Return the inputs of the first sample, with their batch axis."""

    @abc.abstractmethod
    def batches(self, size: int | None) -> Iterator[Batch]:
        """Yield batches of at most `size` samples; ``None`` is all at once."""

    @abc.abstractmethod
    def check_targets(self, batch: Batch, check: Callable[[list[Any], int], None]) -> None:
        """Call ``check(targets, first)`` as early and as seldom as possible."""


class ArraySamples(Samples):
    """Samples in arrays, which are sliced when their batch is due."""

    def __init__(self, inputs: Structure, targets: Structure, model: ModelInputs | None) -> None:
        arrangement = arrange(inputs, model)
        self.for_model, self.for_user = arrangement.for_model, arrangement.for_user
        specs = _specs(model, len(arrangement.flat))
        self._inputs = [
            _as_array(array, spec) for array, spec in zip(arrangement.flat, specs, strict=True)
        ]
        self.input_specs = [
            check_input(array.shape, tf.as_dtype(array.dtype), spec)
            for array, spec in zip(self._inputs, specs, strict=True)
        ]
        self.count = _common_length(self._inputs)
        for array, spec in zip(self._inputs, specs, strict=True):
            if type(array) is np.ndarray:
                for start in range(0, len(array), step := _rows(array)):
                    check_finite(array[start : start + step], start, spec)
        self._specs = specs
        self._targets, self.for_targets = read_targets(targets, self.count)
        self.target_specs = [
            tf.TensorSpec(array.shape[1:], tf.as_dtype(array.dtype)) for array in self._targets
        ]
        self._targets_checked = False
        self.fixed_batch = model.fixed_batch if model is not None else None

    def first(self) -> list[Any]:
        """Return the inputs of the first sample, with their batch axis."""
        return [np.asarray(array[:1]) for array in self._inputs]

    def batches(self, size: int | None) -> Iterator[Batch]:
        """Yield slices."""
        assert self.count is not None
        size = size or self.count
        for start in range(0, self.count, size):
            inputs = [np.asarray(array[start : start + size]) for array in self._inputs]
            for array, source, spec in zip(inputs, self._inputs, self._specs, strict=True):
                if type(source) is not np.ndarray:
                    # On disk: looked at when it is read, not twice.
                    check_finite(array, start, spec)
            yield Batch(start, inputs, [array[start : start + size] for array in self._targets])

    def check_targets(self, batch: Batch, check: Callable[[list[Any], int], None]) -> None:
        """Check all targets before the first batch is computed."""
        if not self._targets_checked:
            check(self._targets, 0)
            self._targets_checked = True


class DatasetSamples(Samples):
    """Samples in a `tf.data.Dataset` of x, (x, y) or (x, y, w), which is streamed."""

    def __init__(
        self, dataset: tf.data.Dataset, targets: Structure, model: ModelInputs | None
    ) -> None:
        spec = dataset.element_spec
        parts = spec if isinstance(spec, tuple) else (spec,)
        if not 1 <= len(parts) <= 3:
            raise InvalidInputError(
                "a dataset of x, (x, y) or (x, y, w)",
                f"one of tuples of {len(parts)}",
                "Several inputs go together: ((a, b), y), or ((a, b),) without targets.",
            )
        has_targets = len(parts) > 1
        if has_targets and targets is not None:
            raise InvalidTargetError(
                "no `targets` beside a dataset that has its own",
                "both",
                "Leave `targets` out, or map the dataset to its inputs: "
                "dataset.map(lambda x, y: x).",
            )
        self._dataset = dataset
        self._model = model
        arrangement = arrange(parts[0], model)
        self.for_model, self.for_user = arrangement.for_model, arrangement.for_user
        self._specs = _specs(model, len(arrangement.flat))
        target_specs = leaves(parts[1]) if has_targets else []
        self.for_targets = skeleton_of(parts[1]) if has_targets else None
        for part in (*arrangement.flat, *target_specs):
            _check_dense(part)
        self._is_batched = _is_batched(arrangement.flat, target_specs, self._specs)
        if not self._is_batched:
            arrangement.flat[:] = [_batched(part) for part in arrangement.flat]
            target_specs = [_batched(part) for part in target_specs]
        self.input_specs = [
            check_input(part.shape, part.dtype, spec)
            for part, spec in zip(arrangement.flat, self._specs, strict=True)
        ]
        self.target_specs = [tf.TensorSpec(part.shape[1:], part.dtype) for part in target_specs]
        cardinality = int(dataset.cardinality())
        self.is_endless = cardinality == tf.data.INFINITE_CARDINALITY
        self.count = cardinality if cardinality >= 0 and not self._is_batched else None
        self.fixed_batch = model.fixed_batch if model is not None else None
        self._beside: list[Any] | None = None
        if targets is not None:
            self._beside, self.for_targets = read_targets(targets, self.count)
            self.target_specs = [
                tf.TensorSpec(array.shape[1:], tf.as_dtype(array.dtype)) for array in self._beside
            ]

    def first(self) -> list[Any]:
        """Return the inputs of the first sample, with their batch axis."""
        for element in self._dataset.take(1):
            inputs = arrange(self._read_one(element)[0], self._model).flat
            return [part[:1] if self._is_batched else part[tf.newaxis] for part in inputs]
        raise _no_samples()

    def _read_one(self, element: Any) -> tuple[Structure, Structure | None]:
        if not isinstance(element, tuple):
            return element, None
        return element[0], element[1] if len(element) > 1 else None

    def batches(self, size: int | None) -> Iterator[Batch]:
        """Yield the dataset's batches, split where they are larger than `size`."""
        dataset = self._dataset
        if not self._is_batched:
            # All at once is as many as there are: one batch that no dataset exceeds.
            dataset = dataset.batch(size or np.iinfo(np.int64).max)
        start = 0
        for element in dataset.prefetch(tf.data.AUTOTUNE):
            inputs, targets = self._read_one(element)
            arrays = arrange(inputs, self._model).flat
            count = _common_length(arrays)
            for array, spec in zip(arrays, self._specs, strict=True):
                check_finite(array, start, spec)
            batch = Batch(start, arrays, self._targets_of(start, count, targets))
            yield from batch.split(size or count)
            start += count
        if not start:
            raise _no_samples()
        self._check_all_used(start)

    def _targets_of(self, start: int, count: int, targets: Structure | None) -> list[Any]:
        if self._beside is None:
            return [] if targets is None else leaves(targets)
        if any(start + count > len(array) for array in self._beside):
            self._check_all_used(start + count)
        return [array[start : start + count] for array in self._beside]

    def _check_all_used(self, count: int) -> None:
        for array in self._beside or ():
            if not isinstance(array, _Repeated) and len(array) != count:
                raise _wrong_number(len(array), f"{count} inputs or more")

    def check_targets(self, batch: Batch, check: Callable[[list[Any], int], None]) -> None:
        """Check the targets of each batch as it comes."""
        check(batch.targets, batch.start)


def read(inputs: Structure, targets: Structure, model: ModelInputs | None) -> Samples:
    """Return the samples that `inputs` and `targets` hold, checked against the model.

    Parameters
    ----------
    inputs
        An array or tensor, a list, tuple or dict of them, or a `tf.data.Dataset`.
    targets
        As an operator takes them: arrays as long as the inputs, one integer for all, or ``None``.
    model
        What the model says about its inputs.

    Raises
    ------
    InvalidInputError, InvalidTargetError
    """
    if isinstance(inputs, tf.data.Dataset):
        return DatasetSamples(inputs, targets, model)
    return ArraySamples(inputs, targets, model)


class _Repeated:
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
    if isinstance(targets, list):
        targets = np.asarray(targets)
    parts = leaves(targets)
    arrays: list[Any] = []
    for part in parts:
        array = part if _is_array(part) else np.asarray(part)
        if array.dtype == object or array.dtype == tf.string:
            raise InvalidTargetError(
                "targets that are numbers",
                f"the dtype {array.dtype}",
                "Pass class indices, or weights for each output.",
            )
        if len(array.shape) == 0:
            arrays.append(_Repeated(array, count))
            continue
        if count is not None and len(array) != count:
            raise _wrong_number(len(array), f"{count} inputs", array.shape)
        arrays.append(np.asarray(array) if isinstance(array, tf.Tensor) else array)
    return arrays, skeleton_of(targets)


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
                f"inputs of shape {_SHAPES}{where}", f"the shape {shape}", _rank_remedy(shape, 2)
            )
        return tf.TensorSpec(shape[1:], dtype)
    if len(shape) != len(spec.shape):
        raise InvalidInputError(
            f"inputs of the model's shape {_shown(spec.shape)}{where}",
            f"the shape {shape}",
            _rank_remedy(shape, len(spec.shape)),
        )
    wanted = spec.shape[1:]
    if any(None not in pair and pair[0] != pair[1] for pair in zip(shape[1:], wanted, strict=True)):
        raise InvalidInputError(
            f"inputs of the model's shape {_shown(spec.shape)}{where}",
            f"the shape {_shown(shape)}",
            "Resize or reorder the inputs as the model was trained on.",
        )
    if spec.dtype is None:
        wanted = shape[1:]  # a subclassed model: only its rank is known
    return tf.TensorSpec(wanted, dtype)


def check_finite(array: Any, start: int, spec: InputSpec) -> None:
    """Refuse NaN and infinite values, naming the sample.

    Raises
    ------
    InvalidInputError
    """
    dtype = tf.as_dtype(array.dtype)
    if not dtype.is_floating:
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


def check_batch_size(batch_size: Any) -> None:
    """Refuse a batch size that is neither a positive integer nor ``None``.

    Raises
    ------
    InvalidParameterError
    """
    is_integer = isinstance(batch_size, (int, np.integer)) and not isinstance(batch_size, bool)
    if batch_size is not None and not (is_integer and batch_size > 0):
        raise InvalidParameterError(
            "a `batch_size` of at least 1, or None for all samples at once",
            repr(batch_size),
            "Pass the number of samples that the model may be given at once.",
        )


def concatenate(parts: Sequence[Sequence[tf.Tensor | None]]) -> list[tf.Tensor | None]:
    """Join the results of batches: each a flat list of tensors, or of ``None`` throughout."""
    return [
        None if column[0] is None else column[0] if len(column) == 1 else tf.concat(column, 0)
        for column in zip(*parts, strict=True)
    ]


def _specs(model: ModelInputs | None, count: int) -> Sequence[InputSpec]:
    return model.specs if model is not None else [InputSpec("", None, None)] * count


def _is_array(value: Any) -> bool:
    """Tell arrays, tensors and what is sliced like them (an HDF5 dataset) from other objects."""
    sliced = hasattr(value, "shape") and hasattr(value, "dtype") and hasattr(value, "__getitem__")
    return sliced and not hasattr(value, "iloc")  # a pandas object is sliced by its index


def _as_array(value: Any, spec: InputSpec) -> Any:
    where = f" for the input {spec.name!r}" if spec.name else ""
    if isinstance(value, (tf.RaggedTensor, tf.SparseTensor)) or value is None:
        raise InvalidInputError(
            f"a dense array{where}",
            f"a {type(value).__name__}",
            "Convert it: `to_tensor()` of a ragged tensor, `tf.sparse.to_dense` of a sparse one.",
        )
    if isinstance(value, tf.Tensor):
        if not hasattr(value, "numpy"):
            raise InvalidInputError(
                f"an array or an eager tensor{where}",
                "a symbolic tensor",
                "Call `explain` outside of `tf.function` and of a Keras model's definition.",
            )
        return np.asarray(value) if value.dtype != tf.string else value
    if _is_array(value):
        return value
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"an array{where}", f"a {type(value).__name__} ({error})", "Convert it to an array."
        ) from error
    if array.dtype == object:
        raise InvalidInputError(
            f"an array of numbers{where}",
            f"a {type(value).__name__} that NumPy reads as objects",
            "Give every sample the same shape, and numbers only.",
        )
    return array


def _rows(array: np.ndarray) -> int:
    return max(1, _PIECE * len(array) // max(array.size, 1))


def _common_length(arrays: Sequence[Any]) -> int:
    lengths = {int(array.shape[0]) for array in arrays}
    if len(lengths) > 1:
        raise InvalidInputError(
            "inputs of the same number of samples",
            f"{', '.join(str(int(array.shape[0])) for array in arrays)}",
            "Pass one row of each input for each sample.",
        )
    length = lengths.pop()
    if not length:
        raise _no_samples()
    return length


def _no_samples() -> InvalidInputError:
    return InvalidInputError("at least one sample", "none", "Check how the inputs were selected.")


def _wrong_number(
    targets: int, inputs: str, shape: Sequence[int] | None = None
) -> InvalidTargetError:
    return InvalidTargetError(
        f"as many targets as inputs, for {inputs}",
        f"{targets}" + (f" (the shape {tuple(shape)})" if shape else ""),
        "Pass one target for each sample; that of a single sample needs a batch axis too: "
        "targets[None].",
    )


def _rank_remedy(shape: Sequence[int | None], wanted: int) -> str:
    if len(shape) + 1 == wanted:
        return "A single sample needs a batch axis: inputs[None]."
    return "Reshape the inputs; the first axis counts samples."


def _shown(shape: Sequence[int | None]) -> str:
    return "(" + ", ".join("N" if not i else str(size) for i, size in enumerate(shape)) + ")"


def _check_dense(spec: Any) -> None:
    if not isinstance(spec, tf.TensorSpec) or spec.shape.rank is None:
        raise InvalidInputError(
            "a dataset of dense tensors of known rank",
            f"{spec}",
            "Map its elements to dense tensors, or give their shape by `tf.ensure_shape`.",
        )


def _batched(spec: tf.TensorSpec) -> tf.TensorSpec:
    return tf.TensorSpec([None, *spec.shape], spec.dtype)


def _is_batched(
    inputs: Sequence[tf.TensorSpec], targets: Sequence[tf.TensorSpec], specs: Sequence[InputSpec]
) -> bool:
    """Tell by ranks whether a dataset's elements are batches."""
    readings: set[bool] = set()
    for given, spec in zip(inputs, specs, strict=True):
        rank = given.shape.rank
        if spec.shape is None:
            possible = {batched for batched in (True, False) if 2 <= rank + (not batched) <= 5}
        else:
            possible = {
                batched for batched in (True, False) if rank + (not batched) == len(spec.shape)
            }
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
