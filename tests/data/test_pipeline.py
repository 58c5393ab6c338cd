"""How a dataset was made tells its order and its number of samples."""

import numpy as np
import pytest
import tensorflow as tf

from xplique_sal._data.pipeline import changes_at_each_pass, number_of_samples

Dataset = tf.data.Dataset


def numbers():
    return Dataset.range(12)


def not_deterministic():
    options = tf.data.Options()
    options.deterministic = False
    return numbers().with_options(options)


SHUFFLED = {
    "shuffle": lambda: numbers().shuffle(12),
    "seed": lambda: numbers().shuffle(12, seed=1),
    "before batches": lambda: numbers().shuffle(12).batch(4).map(lambda x: x).prefetch(1),
    "one of two": lambda: Dataset.zip((numbers(), numbers().shuffle(3))),
    "after a cache": lambda: numbers().cache().shuffle(12),
    "concatenated": lambda: numbers().concatenate(numbers().shuffle(4)),
    "inside a flat map": lambda: numbers().flat_map(lambda i: Dataset.range(5).shuffle(5)),
    "inside an interleave": lambda: numbers().interleave(lambda i: Dataset.range(5).shuffle(5)),
    "options": not_deterministic,
    "a map in any order": lambda: numbers().map(
        lambda x: x, num_parallel_calls=2, deterministic=False
    ),
}
ORDERED = {
    "range": numbers,
    "batch": lambda: numbers().batch(5),
    "shuffled once": lambda: numbers().shuffle(12, reshuffle_each_iteration=False),
    "before a cache": lambda: numbers().shuffle(12).cache().batch(3),
    "of one": lambda: numbers().shuffle(1),
    "interleave": lambda: numbers().interleave(lambda i: Dataset.range(5)),
}


@pytest.mark.parametrize("kind", SHUFFLED)
def test_shuffles_are_seen(kind):
    assert changes_at_each_pass(SHUFFLED[kind]())


@pytest.mark.parametrize("kind", ORDERED)
def test_other_steps_are_no_shuffles(kind):
    dataset = ORDERED[kind]()
    assert not changes_at_each_pass(dataset)
    first, second = ([x.tolist() for x in dataset.as_numpy_iterator()] for _ in range(2))
    assert first == second


def test_what_tensorflow_does_not_show_is_no_shuffle():
    class Opaque:
        def options(self):
            return tf.data.Options()

    assert not changes_at_each_pass(Opaque())


COUNTED = {
    "samples": (numbers, False, 12),
    "batches": (lambda: numbers().batch(5), True, 12),
    "whole batches": (lambda: numbers().batch(5, drop_remainder=True), True, 10),
    "steps after": (lambda: numbers().batch(5).map(lambda x: x).cache().prefetch(2), True, 12),
    "steps before": (lambda: numbers().take(7).shuffle(3).batch(5), True, 7),
    "parallel": (lambda: numbers().batch(5, num_parallel_calls=2), True, 12),
    "filtered": (lambda: numbers().filter(lambda x: x > 3).batch(5), True, None),
    "endless": (lambda: numbers().repeat().batch(5), True, None),
    "one batch": (lambda: Dataset.from_tensors(np.zeros(6)), True, 6),
    "first batches": (lambda: numbers().batch(5).take(1), True, None),
}


@pytest.mark.parametrize("kind", COUNTED)
def test_samples_are_counted(kind):
    make, is_batched, count = COUNTED[kind]
    assert number_of_samples(make(), is_batched) == count
