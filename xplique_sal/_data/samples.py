"""Inputs and targets in any form, as checked batches, lazily; batches' results as one."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from xplique_sal._data.arrange import arrange
from xplique_sal._data.checks import (
    as_array,
    check_dense,
    check_finite,
    check_input,
    common_length,
    dtype_of,
    is_batched,
    lacks_last_axis,
    no_samples,
    wrong_number,
)
from xplique_sal._data.pipeline import changes_at_each_pass, number_of_samples
from xplique_sal._data.streams import as_dataset
from xplique_sal._data.structures import (
    InputSpec,
    Labels,
    Layout,
    ModelInputs,
    Skeleton,
    Structure,
    leaves,
    skeleton_of,
)
from xplique_sal._data.targets import LabelsOfOutput, read_targets, target_specs
from xplique_sal.errors import InvalidInputError, InvalidParameterError, InvalidTargetError

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

    def part(self, first: int, last: int) -> Batch:
        """Return the samples from `first` up to `last`, without a copy if these are all."""
        if first == 0 and last >= self.size:
            return self
        return Batch(
            self.start + first,
            [array[first:last] for array in self.inputs],
            [array[first:last] for array in self.targets],
        )

    def split(self, size: int) -> Iterator[Batch]:
        """Yield it in pieces of at most `size` samples."""
        for first in range(0, self.size, size):
            yield self.part(first, first + size)


class Samples(abc.ABC):
    """Inputs and targets, read once and left as they are.

    Attributes
    ----------
    for_model, for_user
        How the model and the user want the inputs packed.
    for_targets
        How the operator wants the targets packed; ``None`` if there are none. Within `Labels`, if
        they are those of a dataset and the operator chooses outputs by them.
    input_specs, target_specs
        Shape and dtype of each input and each target, without the batch axis.
    count
        The number of samples, if it is known.
    nb_expected
        The same, where it is told by how a dataset was made; for a progress bar.
    changes_order
        Whether another pass would give them in another order.
    declared_batch
        The only batch size that the model says it takes, if it takes no other.
    """

    for_model: Skeleton
    for_user: Skeleton
    for_targets: Skeleton | None
    input_specs: list[tf.TensorSpec]
    target_specs: list[tf.TensorSpec]
    count: int | None
    nb_expected: int | None
    changes_order: bool = False
    declared_batch: int | None = None

    @property
    def layout(self) -> Layout:
        """How they are packed, and of which shapes and dtypes they are."""
        return Layout(self.for_user, self.input_specs, self.for_targets, self.target_specs)

    @abc.abstractmethod
    def first(self) -> list[Any]:
        """Return the inputs of the first sample, with their batch axis."""

    def check_one_each(self, name: str, shape: Sequence[int], instead: str) -> None:
        """Refuse an array with one part for each sample that is not that of these samples.

        Parameters
        ----------
        name
            Of the parameter that gives it.
        shape
            Of the array.
        instead
            What else can be done, as the end of a sentence.

        Raises
        ------
        InvalidParameterError
            If there are more or fewer, or nobody knows to which sample a part belongs.
        """
        count = self.nb_expected
        if shape[0] != count:
            raise InvalidParameterError(
                f"`{name}` for each of {count or 'a known number of'} samples, or one for all",
                f"the shape {tuple(shape)}",
                f"Pass as many as samples, in their order, or {instead}.",
            )
        if self.changes_order:
            raise InvalidParameterError(
                f"a dataset in the order of the `{name}` of each sample",
                "one that is shuffled anew at each pass",
                f"Shuffle once (reshuffle_each_iteration=False), or {instead}.",
            )

    @abc.abstractmethod
    def batches(self, size: int | None, merge: bool = False) -> Iterator[Batch]:
        """Yield batches of at most `size` samples; ``None`` is all at once.

        With `merge`, smaller batches of a dataset are put together.
        """

    @abc.abstractmethod
    def check_targets(self, batch: Batch, check: Callable[[list[Any], int], None]) -> None:
        """Call ``check(targets, first)`` as early and as seldom as possible."""


class ArraySamples(Samples):
    """Samples in arrays, which are sliced when their batch is due."""

    def __init__(
        self,
        inputs: Structure,
        targets: Structure,
        model: ModelInputs | None,
        labels: LabelsOfOutput | None,
    ) -> None:
        arrangement = arrange(inputs, model)
        self.for_model, self.for_user = arrangement.for_model, arrangement.for_user
        specs = _specs(model, len(arrangement.flat))
        self._inputs = [
            _with_last_axis(as_array(array, spec), spec)
            for array, spec in zip(arrangement.flat, specs, strict=True)
        ]
        self.input_specs = [
            check_input(array.shape, dtype_of(array), spec)
            for array, spec in zip(self._inputs, specs, strict=True)
        ]
        self.count = self.nb_expected = common_length(self._inputs)
        for array, spec in zip(self._inputs, specs, strict=True):
            if type(array) is np.ndarray:
                for start in range(0, len(array), step := _rows(array)):
                    check_finite(array[start : start + step], start, spec)
        self._specs = specs
        if labels is not None and isinstance(targets, Mapping):
            targets = labels.of(targets)
        self._targets, self.for_targets = read_targets(targets, self.count)
        self.target_specs = target_specs(self._targets)
        self._targets_checked = False
        self.declared_batch = model.fixed_batch if model is not None else None

    def first(self) -> list[Any]:
        """Return the inputs of the first sample, with their batch axis."""
        return [np.asarray(array[:1]) for array in self._inputs]

    def batches(self, size: int | None, merge: bool = False) -> Iterator[Batch]:
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
        self,
        dataset: tf.data.Dataset,
        targets: Structure,
        model: ModelInputs | None,
        labels: LabelsOfOutput | None,
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
        self._model, self._labels = model, labels
        arrangement = arrange(parts[0], model)
        self.for_model, self.for_user = arrangement.for_model, arrangement.for_user
        self._specs = _specs(model, len(arrangement.flat))
        given = self._chosen(parts[1]) if has_targets else None
        specs = leaves(given) if has_targets else []
        self.for_targets = skeleton_of(given) if has_targets else None
        for part in (*arrangement.flat, *specs):
            check_dense(part)
        self._is_batched = is_batched(arrangement.flat, specs, self._specs)
        if not self._is_batched:
            arrangement.flat[:] = [_batched(part) for part in arrangement.flat]
            specs = [_batched(part) for part in specs]
        self.input_specs = [
            check_input(_full_shape(part.shape, spec), part.dtype, spec)
            for part, spec in zip(arrangement.flat, self._specs, strict=True)
        ]
        self.target_specs = [tf.TensorSpec(part.shape[1:], part.dtype) for part in specs]
        self.nb_expected = number_of_samples(dataset, self._is_batched)
        self.changes_order = changes_at_each_pass(dataset)
        cardinality = int(dataset.cardinality())
        self.is_endless = cardinality == tf.data.INFINITE_CARDINALITY
        self.count = cardinality if cardinality >= 0 and not self._is_batched else None
        self.declared_batch = model.fixed_batch if model is not None else None
        self._beside: list[Any] | None = None
        if targets is not None:
            if labels is not None and isinstance(targets, Mapping):
                targets = labels.of(targets)
            self._beside, self.for_targets = read_targets(targets, self.count)
            self.target_specs = target_specs(self._beside)

    def first(self) -> list[Any]:
        """Return the inputs of the first sample, with their batch axis."""
        for element in self._dataset.take(1):
            inputs = arrange(self._read_one(element)[0], self._model).flat
            rows = [part[:1] if self._is_batched else part[tf.newaxis] for part in inputs]
            return [_with_last_axis(*pair) for pair in zip(rows, self._specs, strict=True)]
        raise no_samples()

    def _chosen(self, targets: Structure) -> Structure:
        """Return what the operator gets of a dataset's own targets."""
        return targets if self._labels is None else Labels(self._labels.of(targets))

    def _read_one(self, element: Any) -> tuple[Structure, Structure | None]:
        if not isinstance(element, tuple):
            return element, None
        return element[0], self._chosen(element[1]) if len(element) > 1 else None

    def batches(self, size: int | None, merge: bool = False) -> Iterator[Batch]:
        """Yield the dataset's batches, split where they are larger than `size`."""
        dataset = self._dataset
        specs = (*self.input_specs, *self.target_specs)
        merge = merge and all(spec.shape.is_fully_defined() for spec in specs)
        if self._is_batched and merge:
            dataset = dataset.unbatch().batch(size)
        elif not self._is_batched:
            # All at once is as many as there are: one batch that no dataset exceeds.
            dataset = dataset.batch(size or np.iinfo(np.int64).max)
        start = 0
        # One batch is read while another is explained: how far ahead is memory, not speed.
        for element in dataset.prefetch(1):
            inputs, targets = self._read_one(element)
            arrays = [
                _with_last_axis(array, spec)
                for array, spec in zip(arrange(inputs, self._model).flat, self._specs, strict=True)
            ]
            count = common_length(arrays)
            for array, spec in zip(arrays, self._specs, strict=True):
                check_finite(array, start, spec)
            batch = Batch(start, arrays, self._targets_of(start, count, targets))
            yield from batch.split(size or count)
            start += count
        if not start:
            raise no_samples()
        self._check_all_used(start)

    def _targets_of(self, start: int, count: int, targets: Structure | None) -> list[Any]:
        if self._beside is None:
            return [] if targets is None else leaves(targets)
        if any(array.ndim and start + count > len(array) for array in self._beside):
            self._check_all_used(start + count)
        return [
            array[start : start + count] if array.ndim else np.full(count, array)
            for array in self._beside
        ]

    def _check_all_used(self, count: int) -> None:
        for array in self._beside or ():
            if array.ndim and len(array) != count:
                raise wrong_number(len(array), f"{count} inputs or more")

    def check_targets(self, batch: Batch, check: Callable[[list[Any], int], None]) -> None:
        """Check the targets of each batch as it comes."""
        check(batch.targets, batch.start)


def read_samples(
    inputs: Structure,
    targets: Structure,
    model: ModelInputs | None,
    labels: LabelsOfOutput | None = None,
) -> Samples:
    """Return the samples that `inputs` and `targets` hold, checked against the model.

    Parameters
    ----------
    inputs
        An array or tensor, a list, tuple or dict of them, a `tf.data.Dataset`, or what yields
        batches: Keras's `PyDataset` and `Sequence`, a generator.
    targets
        As an operator takes them: arrays as long as the inputs, one integer for all, or ``None``.
    model
        What the model says about its inputs.
    labels
        Which of a dataset's labels are read, as `Labels`; ``None`` leaves its targets as they are.

    Raises
    ------
    InvalidInputError, InvalidTargetError
    """
    inputs = as_dataset(inputs)
    if isinstance(inputs, tf.data.Dataset):
        return DatasetSamples(inputs, targets, model, labels)
    return ArraySamples(inputs, targets, model, labels)


def concatenate(parts: Sequence[Sequence[tf.Tensor | None]]) -> list[tf.Tensor | None]:
    """Join the results of batches: each a flat list of tensors, or of ``None`` throughout."""
    return [
        None if column[0] is None else column[0] if len(column) == 1 else _joined(column)
        for column in zip(*parts, strict=True)
    ]


def _joined(parts: Sequence[tf.Tensor]) -> tf.Tensor:
    """Put maps behind each other; those of shorter texts or series are padded by zeros."""
    shapes = list(dict.fromkeys(tuple(part.shape[1:]) for part in parts))
    if len(shapes) > 1:
        longest = max(shape[0] for shape in shapes)
        if len(shapes[0]) > 2 or len({shape[1:] for shape in shapes}) > 1:
            raise InvalidInputError(
                "maps of one size, which make one tensor",
                f"batches with maps of the sizes {', '.join(map(str, shapes[:5]))}",
                "Take them batch by batch, by `iter_explain`, or give all samples one size.",
            )
        parts = [
            tf.pad(part, [[0, 0], [0, longest - part.shape[1]], *[[0, 0]] * (len(part.shape) - 2)])
            for part in parts
        ]
    return tf.concat(parts, 0)


def padded(array: Any, size: int) -> np.ndarray:
    """Return an array with the last row standing in for those that are missing."""
    array = np.asarray(array)
    return np.concatenate([array, np.repeat(array[-1:], size - len(array), axis=0)])


def _specs(model: ModelInputs | None, count: int) -> Sequence[InputSpec]:
    if model is not None and len(model.specs) == count:
        return model.specs
    return [InputSpec("", None, None)] * count


def _full_shape(shape: Sequence[int | None], spec: InputSpec) -> tuple[int | None, ...]:
    return (*shape, 1) if lacks_last_axis(shape, spec) else tuple(shape)


def _with_last_axis(array: Any, spec: InputSpec) -> Any:
    return array[..., np.newaxis] if lacks_last_axis(array.shape, spec) else array


def _rows(array: np.ndarray) -> int:
    return max(1, _PIECE * len(array) // max(array.size, 1))


def _batched(spec: tf.TensorSpec) -> tf.TensorSpec:
    return tf.TensorSpec([None, *spec.shape], spec.dtype)
