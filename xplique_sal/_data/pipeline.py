"""What a dataset is made of, as far as TensorFlow shows it: its order, and how many samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tensorflow as tf

#: Steps of a dataset that keep the number of its elements.
_KEEPING = ("Map", "ParallelMap", "Prefetch", "Cache", "Options", "Shuffle")


def changes_at_each_pass(dataset: tf.data.Dataset) -> bool:
    """Tell whether a dataset is shuffled anew at each pass, as far as it can be seen.

    A shuffle before a `cache` is done once. What is inside the functions of `interleave` and
    `flat_map` counts. Where TensorFlow does not show what a dataset is made of, it is taken to keep
    its order.
    """
    try:
        if dataset.options().deterministic is False:
            return True
        return any(map(_shuffles, _sources(dataset)))
    except Exception:  # nothing of this is public but the options, and a warning is all it is for
        return False


def number_of_samples(dataset: tf.data.Dataset, is_batched: bool) -> int | None:
    """Return how many samples a dataset has, if it is known; batches of it can differ in size."""
    while is_batched:
        cardinality = int(dataset.cardinality())
        first = tf.nest.flatten(dataset.element_spec)[0]
        size = first.shape[0] if isinstance(first, tf.TensorSpec) and first.shape.rank else None
        if cardinality < 0 or size is not None:
            return cardinality * size if size is not None and cardinality >= 0 else None
        kind = _kind(dataset)
        sources: list[Any] = getattr(dataset, "_inputs", list)()
        if len(sources) != 1 or kind not in (*_KEEPING, "Batch", "ParallelBatch"):
            return None
        dataset, is_batched = sources[0], kind not in ("Batch", "ParallelBatch")
    cardinality = int(dataset.cardinality())
    return cardinality if cardinality >= 0 else None


def _kind(dataset: tf.data.Dataset) -> str:
    return type(dataset).__name__.strip("_").removesuffix("Dataset")


def _sources(dataset: tf.data.Dataset) -> Iterator[tf.data.Dataset]:
    """Yield a dataset and those that it is made of, up to those that are cached."""
    waiting = [dataset]
    while waiting:
        source = waiting.pop()
        if _kind(source) != "Cache":
            yield source
            waiting.extend(source._inputs())


def _shuffles(dataset: Any) -> bool:
    if getattr(dataset, "_deterministic", None) in (False, "false"):
        return True
    if getattr(dataset, "_reshuffle_each_iteration", None):
        return int(dataset._buffer_size) != 1
    return any(
        operation.type.startswith("ShuffleDataset")
        and operation.get_attr("reshuffle_each_iteration")
        for function in dataset._functions()
        for operation in function.function.graph.get_operations()
    )
