"""Batches that Python makes (Keras's own datasets, generators, iterators) as datasets."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from xplique_sal._data.checks import no_samples
from xplique_sal._data.structures import Structure, leaves, pack, skeleton_of
from xplique_sal.errors import InvalidInputError


def as_dataset(inputs: Structure) -> Structure:
    """Return a `tf.data.Dataset` of what yields elements; anything else as it is.

    That is `keras.utils.PyDataset` and `Sequence`, of either Keras, a generator, or any other
    iterator. Elements are x, (x, y) or (x, y, w), batched or not. An iterator is used up.

    Raises
    ------
    InvalidInputError
        If there are no elements, or they are no arrays of one structure.
    """
    if _is_sequence_of_batches(inputs):
        number = len(inputs)
        return _streamed(lambda: (inputs[index] for index in range(number)), number)
    if isinstance(inputs, Iterator):
        first = list(itertools.islice(inputs, 1))
        # The first element is looked at, and given again, as often as it is asked for.
        return _streamed(lambda: itertools.chain(first, inputs), None)
    return inputs


def _is_sequence_of_batches(inputs: Any) -> bool:
    """Tell whether inputs are a dataset of Keras's own, which is told when an epoch ends."""
    names = {kind.__name__ for kind in type(inputs).__mro__}
    return bool(names & {"PyDataset", "Sequence"}) and hasattr(inputs, "on_epoch_end")


def _streamed(elements: Callable[[], Iterator[Any]], number: int | None) -> tf.data.Dataset:
    first = next(iter(elements()), None)
    if first is None:
        raise no_samples()
    first = _element(first)
    skeleton = skeleton_of(first)
    specs = tuple(map(_spec, leaves(first)))

    def rows() -> Iterator[Any]:
        for element in map(_element, elements()):
            if skeleton_of(element) != skeleton:
                raise InvalidInputError(
                    "elements of one structure, x, (x, y) or (x, y, w)",
                    f"{skeleton_of(element)} after {skeleton}",
                    "Yield the same inputs and targets each time.",
                )
            yield tuple(map(np.asarray, leaves(element)))

    @tf.autograph.experimental.do_not_convert
    def packed(*flat: tf.Tensor) -> Structure:
        return pack(skeleton, flat)

    dataset = tf.data.Dataset.from_generator(rows, output_signature=specs)
    if number is not None:
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(number))
    return dataset.map(packed)


def _element(element: Structure) -> Structure:
    """Return an element as a dataset has it: without ``None``, and with tuples for lists."""
    if isinstance(element, list):
        return (tuple(element),)
    if isinstance(element, tuple):
        given = [part for part in element if part is not None]
        return tuple(tuple(part) if isinstance(part, list) else part for part in given)
    return element


def _spec(part: Any) -> tf.TensorSpec:
    try:
        tensor = tf.convert_to_tensor(part)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            "arrays, as x, (x, y) or (x, y, w)",
            f"a {type(part).__name__} ({error})",
            "Yield arrays of one shape and of numbers.",
        ) from error
    return tf.TensorSpec([None] * tensor.shape.rank, tensor.dtype)
