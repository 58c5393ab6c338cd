"""Loops inside the graph: over batches of small samples, over outputs, over points of samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from xplique_sal._data.structures import Layout

#: Samples of at most so many numbers are looped over inside the graph: for them, a call from Python
#: costs more than the gradient.
_SMALL = 4096


def is_small(layout: Layout) -> bool:
    """Tell whether samples are so small that their batches are looped over inside the graph.

    Texts are not: the batches of a loop must have maps of one size.
    """
    if any(spec.dtype == tf.string for spec in layout.input_specs):
        return False
    sizes = [spec.shape.num_elements() for spec in layout.specs]
    return None not in sizes and sum(sizes) <= _SMALL


def in_batches(
    explain: Callable[..., Any],
    arrays: Sequence[tf.Tensor],
    size: tf.Tensor,
    types: Sequence[tf.DType],
) -> tuple[list[tf.Tensor], Any]:
    """Return what `explain` returns of `arrays`, given at most `size` samples at once.

    Parameters
    ----------
    explain
        Called as ``explain(first, *arrays)`` with a batch and the position of its first sample;
        returns a flat list of tensors with samples on their first axis, and facts of the trace
        that are no tensors.
    arrays
        All samples.
    size
        How many samples at once.
    types
        The dtypes of what `explain` returns.
    """
    batches = -(-tf.shape(arrays[0])[0] // size)
    shapes: list[tf.TensorShape] = []
    facts: Any = None

    def step(index: tf.Tensor, done: list[tf.TensorArray]) -> Any:
        nonlocal shapes, facts
        first = index * size
        parts, facts = explain(first, *(array[first : first + size] for array in arrays))
        shapes = [tf.TensorShape([None, *part.shape[1:]]) for part in parts]
        return index + 1, [
            array.write(index, part) for array, part in zip(done, parts, strict=True)
        ]

    empty = [tf.TensorArray(dtype, size=batches, infer_shape=False) for dtype in types]
    _, done = tf.while_loop(
        lambda index, _: index < batches, step, (0, empty), parallel_iterations=1
    )
    parts = [
        tf.ensure_shape(array.concat(), shape) for array, shape in zip(done, shapes, strict=True)
    ]
    return parts, facts


def for_each(function: Callable[..., Any], elements: Any, types: Any) -> Any:
    """Return what `function` returns of each of `elements`, stacked, one after the other.

    Any number of outputs costs the trace and the memory of one backward pass.
    """
    return tf.map_fn(function, elements, fn_output_signature=types, parallel_iterations=1)


def over_points(
    step: Callable[[tf.Tensor, Any], Any],
    start: Any,
    first: tf.Tensor,
    last: tf.Tensor,
    at_once: tf.Tensor,
) -> Any:
    """Return what `step` made of `start` when it has been given all points.

    Parameters
    ----------
    step
        Called as ``step(numbers, state)`` with the numbers of at most `at_once` points; returns
        the next state. The shapes of its tensors may differ from those of `start`.
    start
        A structure of tensors.
    first, last
        The points are those from `first` up to, and not, `last`.
    at_once
        How many points at once.
    """

    def body(number: tf.Tensor, state: Any) -> Any:
        end = tf.minimum(number + at_once, last)
        return end, step(tf.range(number, end), state)

    any_shape = tf.nest.map_structure(lambda _: tf.TensorShape(None), start)
    _, state = tf.while_loop(
        lambda number, _: number < last,
        body,
        (first, start),
        shape_invariants=(tf.TensorShape([]), any_shape),
        parallel_iterations=1,
    )
    return state
