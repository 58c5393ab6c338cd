"""What is kept of gradients that come in parts is the statistic of all of them."""

import numpy as np
import pytest
import tensorflow as tf

from xplique_sal._engine.statistics import Mean, MeanSquare, Variance

TWINS = {
    Mean: lambda g: g.mean(0),
    MeanSquare: lambda g: (g**2).mean(0),
    Variance: lambda g: g.var(0, ddof=1),
}


def in_parts(statistic, gradients, sizes):
    points = len(gradients)
    state = [tf.zeros([])] * statistic.nb_tensors
    done = 0
    for size in sizes:
        part = tf.constant(gradients[done : done + size], tf.float32)
        weights = tf.fill([size], np.float32(1 / points))
        state = statistic.update(state, part, weights, tf.constant(np.float32(done / points)))
        done += size
    assert done == points
    return statistic.finished(state, tf.constant(points))[0].numpy()


@pytest.mark.parametrize("kind", TWINS)
@pytest.mark.parametrize("sizes", [[12], [1] * 12, [5, 5, 2], [2, 10]], ids=str)
def test_parts_of_any_size_give_the_statistic_of_all(rng, kind, sizes):
    gradients = rng.normal(size=(12, 3, 4)) + 5
    np.testing.assert_allclose(in_parts(kind(), gradients, sizes), TWINS[kind](gradients), 2e-5)


@pytest.mark.parametrize("sizes", [[12], [1] * 12, [5, 5, 2]], ids=str)
def test_a_variance_is_not_lost_beside_a_large_mean(rng, sizes):
    # In float32, the mean of squares minus the squared mean has no correct digit here.
    gradients = (rng.normal(size=(12, 3)) * 1e-2 + 100).astype("float32").astype("float64")
    variance = in_parts(Variance(), gradients, sizes)
    np.testing.assert_allclose(variance, gradients.var(0, ddof=1), rtol=1e-2)


def test_the_variance_also_tells_the_mean():
    """A gradient that is the same everywhere has no variance, and is no gradient of zero."""
    state = Variance().update(
        [tf.zeros([])] * 2, tf.fill([4, 2], 3.0), tf.fill([4], 0.25), tf.constant(0.0)
    )
    variance, mean = Variance().finished(state, tf.constant(4))
    np.testing.assert_array_equal(variance, [0, 0])
    np.testing.assert_array_equal(mean, [3, 3])


def test_a_point_without_weight_counts_for_nothing(rng):
    gradients = rng.normal(size=(5, 3))
    for kind in TWINS:
        statistic = kind()
        weights = tf.constant([0, 0.25, 0.25, 0.25, 0.25], tf.float32)
        state = statistic.update(
            [tf.zeros([])] * statistic.nb_tensors,
            tf.constant(gradients, tf.float32),
            weights,
            tf.constant(0.0),
        )
        result = statistic.finished(state, tf.constant(4))[0]
        np.testing.assert_allclose(result, TWINS[kind](gradients[1:]), rtol=1e-5)
        # Alone in its part, it changes nothing either.
        again = statistic.update(
            state, tf.constant(gradients[:1], tf.float32), tf.zeros([1]), tf.constant(0.0)
        )
        np.testing.assert_allclose(again[0], state[0], rtol=1e-6)
