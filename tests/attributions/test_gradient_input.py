"""Gradient times input."""

import numpy as np
import tensorflow as tf
from reference import class_score, gradient

from xplique_sal.attributions import GradientInput


def test_it_is_the_product(keras, rng):
    model = keras.Sequential(
        [
            keras.layers.Input((4, 4, 3)),
            keras.layers.Conv2D(4, 2, activation="tanh"),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    x, y = rng.normal(size=(5, 4, 4, 3)).astype("float32"), rng.integers(0, 3, 5)
    expected = x * gradient(class_score(model, y), x)
    maps = GradientInput(model, reducer=None, batch_size=2).explain(x, y)
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-6)
    reduced = GradientInput(model).explain(x, y)
    np.testing.assert_allclose(reduced, expected.mean(-1, keepdims=True), rtol=1e-4, atol=1e-6)
    all_outputs = GradientInput(model, reducer=None).explain_outputs(x)
    chosen = all_outputs.numpy()[np.arange(5), y]
    np.testing.assert_allclose(chosen, expected, rtol=1e-4, atol=1e-6)


def test_of_a_network_of_relus_without_biases_it_adds_up_to_the_score(keras, rng):
    model = keras.Sequential(
        [
            keras.layers.Input((6,)),
            keras.layers.Dense(9, activation="relu", use_bias=False),
            keras.layers.Dense(7, activation="relu", use_bias=False),
            keras.layers.Dense(3, use_bias=False),
        ]
    )
    x = rng.normal(size=(8, 6)).astype("float32") + 1
    maps, scores = GradientInput(model).explain_with_scores(x, 2)
    assert np.abs(scores).max() > 0.01
    np.testing.assert_allclose(maps.numpy().sum(1), scores, rtol=1e-4, atol=1e-6)


def test_several_inputs_and_integers_as_images(keras, rng):
    image, row = keras.layers.Input((3, 3, 1)), keras.layers.Input((4,))
    joined = keras.layers.Concatenate()([keras.layers.Flatten()(image), row])
    model = keras.Model([image, row], keras.layers.Dense(2)(joined))
    kernel = model.layers[-1].get_weights()[0][:, 1]
    x = rng.integers(0, 255, (5, 3, 3, 1)).astype("uint8"), rng.normal(size=(5, 4)).astype("f4")
    maps = GradientInput(model).explain(list(x), 1)
    np.testing.assert_allclose(maps[0], x[0] * kernel[:9].reshape(1, 3, 3, 1), rtol=1e-5)
    np.testing.assert_allclose(maps[1], x[1] * kernel[9:], rtol=1e-5)


def test_with_respect_to_a_layer_it_is_that_layers_output(keras, rng):
    hidden = keras.layers.Dense(6, activation="tanh")
    last = keras.layers.Dense(3)
    model = keras.Sequential([keras.layers.Input((5,)), hidden, last])
    x = rng.normal(size=(4, 5)).astype("float32")
    maps = GradientInput(model, wrt_layer=hidden.name).explain(x, 1)
    expected = np.asarray(hidden(x)) * last.get_weights()[0][:, 1]
    np.testing.assert_allclose(maps, expected, rtol=1e-5)


def test_half_precision(keras, rng):
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = keras.Sequential([keras.layers.Input((5,)), keras.layers.Dense(2)])
    finally:
        keras.mixed_precision.set_global_policy("float32")
    x = rng.normal(size=(4, 5)).astype("float32")
    maps = GradientInput(model).explain(x, 1)
    assert maps.dtype == tf.float32
    expected = x * model.layers[-1].get_weights()[0][:, 1]
    np.testing.assert_allclose(maps, expected, rtol=1e-2, atol=1e-3)
