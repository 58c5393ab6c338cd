"""A variable that is changed for what nobody uses makes a model no less repeatable."""

import importlib

import numpy as np
import pytest
import tensorflow as tf
from reference import saliency

from xplique_sal import Saliency
from xplique_sal.attributions import IntegratedGradients
from xplique_sal.errors import InvalidModelError


def recurrent(keras, **options):
    return keras.Sequential(
        [keras.layers.Input((6, 2)), keras.layers.LSTM(4, **options), keras.layers.Dense(2)]
    )


@pytest.mark.parametrize("kind", ["dropout", "recurrent_dropout"])
def test_dropout_that_is_off_is_no_state(keras, rng, kind):
    model = keras.Sequential([keras.layers.Input((6, 2)), recurrent(keras, **{kind: 0.5})])
    x = rng.normal(size=(3, 6, 2)).astype("float32")

    def f(x):
        return model(x, training=False)[:, 1]

    changes, gradient = f(x) - f(0 * x), saliency(f, x)
    before = [np.array(variable) for variable in model.variables]
    sums = IntegratedGradients(model, steps=200).explain(x, 1).numpy().sum((1, 2))
    np.testing.assert_allclose(sums, changes, atol=2e-3)
    np.testing.assert_allclose(Saliency(model)(x, 1), gradient, rtol=1e-4, atol=1e-6)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(np.array(variable), value)


def test_a_state_that_is_used_is_one(keras, rng):
    model = keras.Sequential(
        [
            keras.layers.Input(batch_shape=(3, 6, 2))
            if keras.__name__ == "keras"
            else keras.layers.Input((6, 2), batch_size=3),
            keras.layers.LSTM(4, stateful=True),
            keras.layers.Dense(2),
        ]
    )
    x = rng.normal(size=(3, 6, 2)).astype("float32")
    with pytest.raises(InvalidModelError, match="stateful=False"):
        IntegratedGradients(model)(x, 1)


def test_a_counter_of_calls_is_no_state(rng):
    keras = importlib.import_module("tf_keras")

    class Counting(keras.Model):
        def __init__(self, used):
            super().__init__()
            self.scores = keras.layers.Dense(2)
            self.calls = tf.Variable(0.0, trainable=False)
            self.used = used

        def call(self, x):
            self.calls.assign_add(1.0)
            return self.scores(x) * (self.calls if self.used else 1.0)

    x = rng.normal(size=(3, 4)).astype("float32")
    model = Counting(used=False)
    model(x)
    sums = IntegratedGradients(model)(x, 1).numpy().sum(1)
    np.testing.assert_allclose(sums, model(x)[:, 1] - model(0 * x)[:, 1], rtol=1e-4, atol=1e-6)
    assert model.calls.numpy() == 3.0  # of those calls that are the test's own
    used = Counting(used=True)
    used(x)
    with pytest.raises(InvalidModelError, match="changes no variable"):
        IntegratedGradients(used)(x, 1)
