"""Inputs without numbers, and calls in which nothing is computed, are errors of the package."""

import pickle

import numpy as np
import pytest
import tensorflow as tf
from reference import saliency

from xplique_sal import Saliency
from xplique_sal.attributions import Occlusion
from xplique_sal.errors import InvalidInputError, XpliqueSalError


def plain(keras):
    return keras.Sequential([keras.layers.Input((6,)), keras.layers.Dense(3)])


def compiled(explainer, x):
    @tf.function
    def inside(a):
        return explainer(a, 1)

    return inside(tf.constant(x))


def concrete(explainer, x):
    return tf.function(lambda a: explainer(a, 1), autograph=False)(x)


def mapped(explainer, x):
    def explained(a):
        return explainer(a, 1)

    return list(tf.data.Dataset.from_tensor_slices(x).batch(5).map(explained))


def in_graph(explainer, x):
    with tf.Graph().as_default():
        return explainer(x, 1)


@pytest.mark.parametrize("call", [compiled, concrete, mapped, in_graph])
@pytest.mark.parametrize("method", [Saliency, Occlusion])
def test_a_call_inside_of_a_graph(keras, rng, call, method):
    options = {} if method is Saliency else {"patch_size": 1, "patch_stride": 1}
    explainer, x = method(plain(keras), **options), rng.normal(size=(5, 6)).astype("float32")
    with pytest.raises(InvalidInputError, match=r"Dataset\.map.*Call `explain` outside"):
        call(explainer, x)


def test_f_can_be_called_inside_of_a_graph(keras, rng):
    """The remedy of the error works."""
    model, x = plain(keras), rng.normal(size=(5, 6)).astype("float32")
    f = Saliency(model, output_layer=-1).model

    @tf.function
    def gradient(a):
        with tf.GradientTape() as tape:
            tape.watch(a)
            score = tf.reduce_sum(f(a)[:, 1])
        return tf.abs(tape.gradient(score, a))

    expected = saliency(lambda x: model(x)[:, 1], x)
    np.testing.assert_allclose(gradient(tf.constant(x)), expected, rtol=1e-5)


@pytest.mark.parametrize("several", [False, True])
def test_a_tensor_of_keras(keras, several):
    inputs = keras.Input((6,))
    with pytest.raises(InvalidInputError, match=r"keras\.Input.*explain it on samples"):
        Saliency(plain(keras))([inputs] if several else inputs, 1)


def test_an_error_keeps_its_type_inside_of_a_layer(keras, rng):
    explainer, x = Saliency(plain(keras)), rng.normal(size=(5, 6)).astype("float32")

    class Explaining(keras.layers.Layer):
        def call(self, a):
            return explainer(a, 1)

    model = keras.Sequential([keras.layers.Input((6,))])
    # Keras 3.0 makes an error of its own of any in a `call`, with the text.
    is_kept = not keras.__version__.startswith("3.0.")
    with pytest.raises(InvalidInputError if is_kept else RuntimeError, match="Call `explain` out"):
        model.add(Explaining())
    with pytest.raises(InvalidInputError, match="Call `explain` outside"):
        tf.function(lambda a: Explaining()(a))(x)


def test_errors_survive_pickling_and_being_made_anew():
    error = InvalidInputError("numbers", "words", "Convert them.")
    again = pickle.loads(pickle.dumps(error))
    for each in (error, again):
        assert isinstance(each, XpliqueSalError) and isinstance(each, ValueError)
        assert (each.expected, each.actual, each.remedy) == ("numbers", "words", "Convert them.")
        assert str(each) == "Expected numbers, but got words. Convert them."
    assert str(InvalidInputError(str(error))) == str(error)


def test_any_batch_size_is_a_bound(keras, rng):
    model, x = plain(keras), rng.normal(size=(5, 6)).astype("float32")
    found = Saliency(model, batch_size=2**70)(x, 1)
    np.testing.assert_array_equal(found, Saliency(model)(x, 1))
