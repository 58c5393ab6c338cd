"""A compiled program on any number of rows: how many it is given at once, padded and cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from xplique_sal._data.samples import padded
from xplique_sal._engine.complaints import folded_axes
from xplique_sal._engine.request import Request
from xplique_sal._tracing.programs import Program
from xplique_sal.errors import InvalidModelError, InvalidOperatorError

#: How many numbers small samples are given to the graph at once, to be looped over there.
_CHUNK = 1 << 21


class Rows(NamedTuple):
    """Consecutive rows that a program is given at once.

    Attributes
    ----------
    first
        The position of the first among all rows.
    size
        How many there are; the arrays may be padded to more.
    arrays
        One for each input and target.
    """

    first: int
    size: int
    arrays: list[Any]

    @property
    def given(self) -> int:
        """How many rows the program is given, with those that only fill its batch."""
        return len(self.arrays[0])

    def own(self, result: Any) -> Any:
        """Return what the program gave for the rows themselves, without the padding."""
        return result if self.size == self.given else result[: self.size]


def rows_at_once(request: Request, batch_size: int | None) -> int | None:
    """Return how many rows are best handed over at once: whole batches; ``None`` is all."""
    if batch_size is None or not request.is_small or request.needed_batch:
        return batch_size
    numbers = sum(spec.shape.num_elements() for spec in request.layout.input_specs)
    return batch_size * max(1, _CHUNK // (batch_size * numbers))


def rows_of_model(request: Request, program: Program, batch_size: int) -> int:
    """Return how many rows the model is given at once.

    Raises
    ------
    InvalidOperatorError
        If the operator takes one row and the model another number.
    """
    if not program.facts.is_scalar:
        return request.needed_batch or batch_size
    if request.needed_batch not in (None, 1):
        raise InvalidOperatorError(
            "a score for each sample, (N,), of a model with a fixed batch size",
            "one scalar for the whole batch",
            "Reduce over all axes but the first.",
        )
    return 1


def rows_of_program(request: Request, program: Program, size: int, count: int) -> int:
    """Return how many of `count` rows a program is given whose model is given `size`.

    A program that loops over batches by itself is given all.
    """
    loops = request.is_small and not program.has_state
    return count if loops and not request.needed_batch else size


def split(arrays: Sequence[Any], size: int, needed: int | None) -> Iterator[Rows]:
    """Yield rows, at most `size` at once, padded to the batch size that is needed, if one is."""
    count = len(arrays[0])
    for first in range(0, count, size):
        part = arrays if size >= count else [array[first : first + size] for array in arrays]
        rows = len(part[0])
        if needed is not None and rows < needed:
            part = [padded(array, needed) for array in part]
        yield Rows(first, rows, [tf.convert_to_tensor(array) for array in part])


def run(program: Program, rows: Rows, settings: Sequence[tf.Tensor], is_inner: bool) -> Any:
    """Return what a program gives for rows; `is_inner` where it is of a layer inside the model.

    Raises
    ------
    InvalidModelError
        If it fails for them together, but for none of them alone; or if an inner layer has not
        one row for each.
    """
    try:
        return program(*rows.arrays, *settings)
    except tf.errors.InvalidArgumentError as error:
        if is_inner:
            raise folded_axes(error) from error
        if rows.given > 1 and _runs_one_by_one(program, rows, settings):
            raise InvalidModelError(
                "a model that takes any number of samples",
                f"one that TensorFlow can not run on {rows.given} at once, but on each by itself, "
                "as a graph that was saved for one sample",
                "Pass batch_size=1.",
            ) from error
        raise


def _runs_one_by_one(program: Program, rows: Rows, settings: Sequence[tf.Tensor]) -> bool:
    """Tell whether a program runs on each row alone: then none of them is what it fails for."""
    try:
        for row in split(rows.arrays, 1, None):
            program(*row.arrays, *settings)
    except tf.errors.OpError:
        return False
    return True
