"""The score before a final activation, wherever that is, and what is said where there is none."""

import warnings

import numpy as np
import pytest
import tensorflow as tf

from tests import reference
from xplique_sal import Saliency
from xplique_sal.errors import InvalidParameterError

#: As many samples as steps: some versions of Keras 3 mistake one for the other.
X = np.random.default_rng(0).normal(size=(5, 5, 3)).astype("float32")


def at_step_two(f, x, y):
    return f(x)[:, 2, 1]


def steps(keras, length, activation):
    """A recurrent network with an activation at each step."""
    return keras.Sequential(
        [
            keras.layers.Input((length, 3)),
            keras.layers.LSTM(4, return_sequences=True),
            keras.layers.TimeDistributed(keras.layers.Dense(3, activation=activation)),
        ]
    )


@pytest.mark.parametrize("length", [5, None])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "log_softmax"])
def test_an_activation_at_each_step(keras, length, activation):
    if length is None and keras.__version__.startswith("3.0."):
        pytest.skip("Keras 3.0 cannot trace `TimeDistributed` over a number of steps that is open")
    model = steps(keras, length, activation)
    plain = steps(keras, length, None)
    plain.set_weights(model.get_weights())
    expected = np.abs(reference.gradient(lambda x: plain(x)[:, 2, 1], X))
    actual = Saliency(model, logits=True, operator=at_step_two).explain(X)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)


def heads(keras, kind, activation):
    """A network whose output is put together, or cut out, of activations."""
    inputs = keras.layers.Input((4,))
    dense = [keras.layers.Dense(3, activation=activation) for _ in range(2)]
    parts = [layer(inputs) for layer in dense]
    if kind == "joined":
        outputs = keras.layers.Concatenate()(parts)
    elif kind == "reshaped":
        outputs = keras.layers.Reshape((3, 1))(parts[0])
    else:
        outputs = keras.layers.Lambda(lambda x: x[:, 1:])(parts[0])
    return keras.Model(inputs, outputs)


@pytest.mark.parametrize("kind", ["joined", "reshaped", "cut"])
def test_an_activation_whose_values_are_moved(keras, rng, kind):
    model, plain = heads(keras, kind, "softmax"), heads(keras, kind, None)
    plain.set_weights(model.get_weights())
    x = rng.normal(size=(3, 4)).astype("float32")

    def first(f, x, y):
        return tf.reshape(f(x), [tf.shape(x)[0], -1])[:, 0]

    expected = np.abs(reference.gradient(lambda x: first(plain, x, None), x))
    actual = Saliency(model, logits=True, operator=first).explain(x)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)


def ensemble(keras):
    class Ensemble(keras.Model):
        def __init__(self):
            super().__init__()
            self.parts = [keras.layers.Dense(2, activation="softmax") for _ in range(3)]

        def call(self, inputs):
            return tf.reduce_mean(tf.stack([part(inputs) for part in self.parts]), 0)

    return Ensemble()


def test_the_remedy_for_a_mean_of_softmaxes_can_be_followed(keras, rng):
    model, x = ensemble(keras), rng.normal(size=(3, 4)).astype("float32")
    with pytest.raises(InvalidParameterError, match=r"tf\.math\.log\(f\(x\)\[:, 1\]\)") as caught:
        Saliency(model, logits=True).explain(x, 1)
    assert "output_layer" not in str(caught.value)
    actual = Saliency(model, operator=lambda f, x, y: tf.math.log(f(x)[:, 1])).explain(x)
    expected = np.abs(reference.gradient(lambda x: tf.math.log(model(x)[:, 1]), x))
    np.testing.assert_allclose(actual, expected, rtol=1e-4)


def test_a_saved_model_is_told_of_no_layers(keras, tmp_path):
    model = keras.Sequential(
        [keras.layers.Input((4,)), keras.layers.Dense(2, activation="softmax")]
    )
    tf.saved_model.save(model, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    with pytest.raises(InvalidParameterError, match="logarithm") as caught:
        Saliency(loaded, logits=True).explain(np.ones((1, 4), "float32"), 1)
    assert "output_layer" not in str(caught.value)


def warned(operator, model):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Saliency(model, operator=operator).explain(np.ones((2, 4), "float32"))
    return any("softmax" in str(warning.message) for warning in caught)


LOGARITHMS = {
    "of one class": lambda f, x, y: tf.math.log(f(x)[:, 1]),
    "of a sum": lambda f, x, y: tf.math.log(tf.reduce_sum(f(x)[:, :2], -1)),
    "a ratio": lambda f, x, y: tf.math.log(f(x)[:, 1]) - tf.math.log(f(x)[:, 0]),
    "compiled": tf.function(lambda f, x, y: tf.math.log(f(x)[:, 1])),
}
PROBABILITIES = {
    "itself": lambda f, x, y: f(x)[:, 1],
    "beside its logarithm": lambda f, x, y: f(x)[:, 1] + tf.math.log(f(x)[:, 0]),
    "its entropy": lambda f, x, y: tf.reduce_sum(f(x) * tf.math.log(f(x)), -1),
}


@pytest.mark.parametrize("name", [*LOGARITHMS, *PROBABILITIES])
def test_only_who_explains_a_softmax_is_warned(keras, name):
    model = keras.Sequential(
        [keras.layers.Input((4,)), keras.layers.Dense(3, activation="softmax")]
    )
    assert warned({**LOGARITHMS, **PROBABILITIES}[name], model) == (name in PROBABILITIES)
