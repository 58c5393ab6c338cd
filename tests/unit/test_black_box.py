"""A method that needs only a model's outputs gets everything else from the base."""

import numpy as np
import pytest
import tensorflow as tf
from reference import central_differences

from xplique_sal.attributions.base import BlackBoxExplainer
from xplique_sal.errors import InvalidModelError
from xplique_sal.types import Explained, pack


class CentralDifferences(BlackBoxExplainer):
    """The gradient by differences: the smallest method there is."""

    def _explain_batch(self, samples, batch):
        targets = None
        if samples.for_targets is not None:
            targets = tf.constant(pack(samples.for_targets, batch.targets))

        def score(x):
            return self._operator.function(self.model, tf.constant(x, tf.float32), targets).numpy()

        (x,) = (np.asarray(array, np.float64) for array in batch.inputs)
        maps = central_differences(score, x, step=1e-2).astype("float32")
        return Explained([tf.constant(maps)], tf.constant(score(x)))


def network(keras):
    return keras.Sequential(
        [
            keras.layers.Input((4,)),
            keras.layers.Dense(5, activation="tanh"),
            keras.layers.Dense(3),
        ]
    )


def rows(rng):
    return rng.normal(size=(7, 4)).astype("float32"), rng.integers(0, 3, 7)


def assert_close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=2e-3)


def test_a_method_for_keras_models(keras, rng):
    model, (x, y) = network(keras), rows(rng)
    explainer = CentralDifferences(model, 3)
    with tf.GradientTape() as tape:
        tensor = tf.constant(x)
        tape.watch(tensor)
        score = tf.gather(model(tensor), y, batch_dims=1)
    expected = tape.gradient(score, tensor)
    assert_close(explainer(x, y), expected)
    assert_close(explainer(tf.data.Dataset.from_tensor_slices((x, y)).batch(2)), expected)
    assert_close(np.concatenate(list(explainer.iter_explain(x, y))), expected)
    np.testing.assert_allclose(explainer.explain_with_scores(x, y)[1], score, rtol=1e-4, atol=1e-5)


def test_several_outputs(keras, rng):
    model, (x, _) = network(keras), rows(rng)
    explainer = CentralDifferences(model, 3)
    maps = explainer.explain_outputs(x)
    assert maps.shape == (7, 3, 4)
    for output in range(3):
        assert_close(maps[:, output], explainer(x, output))
    assert_close(explainer.explain_outputs(x, [2, 0]), np.stack([maps[:, 2], maps[:, 0]], 1))


def test_any_callable_is_a_model(rng):
    x, y = rows(rng)
    weights = rng.normal(size=(4, 3)).astype("float32")
    explainer = CentralDifferences(lambda x: np.asarray(x) @ weights)
    assert_close(explainer(x, y), weights.T[y])


def test_what_cannot_be_called_is_no_model():
    with pytest.raises(InvalidModelError, match="callable"):
        CentralDifferences(3)
