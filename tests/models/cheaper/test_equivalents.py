"""Layers that are computed in a cheaper way give the same map."""

import numpy as np
import pytest
import tensorflow as tf

from tests import reference
from xplique_sal import Saliency
from xplique_sal._models.cheaper import equivalents

SHAPE = (9, 8, 4)


def network(keras, *hidden, dtype="float32", shape=SHAPE):
    """A network with a convolution, some layers, and three outputs."""
    layers = keras.layers
    settings = {"dtype": dtype}
    x = inputs = layers.Input(shape, dtype=dtype)
    x = layers.Conv2D(6, 3, **settings)(x)
    for layer in hidden:
        x = layer(x)
    return keras.Model(inputs, layers.Dense(3, **settings)(layers.Flatten(**settings)(x)))


def excitation(keras, **options):
    """Channels weighted by what they are on average, as in squeeze-and-excitation networks."""
    layers = keras.layers
    x = inputs = layers.Input((7, 6, 6))
    axes = (3, 1, 2) if options.get("data_format") == "channels_first" else None
    x = layers.GlobalAveragePooling2D(**options)(layers.Permute(axes)(x) if axes else x)
    x = layers.Reshape((1, 1, 6))(x)
    x = layers.Conv2D(6, 1, activation="sigmoid")(x)
    return keras.Model(inputs, layers.Multiply()([inputs, x]))


def ops_of_gradient(model):
    """The types of the ops of a gradient's graph, with how often there are."""

    @tf.function
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(model(x, training=False))
        return tape.gradient(y, x)

    spec = tf.TensorSpec([None, *model.inputs[0].shape[1:]], tf.float32)
    with equivalents.replacing_layers(model, fold_batch_norm=True, own_gradients=True):
        graph = gradient.get_concrete_function(spec).graph
    types = [op.type for op in graph.get_operations()]
    return {name: types.count(name) for name in types}


def assert_right(model, x, rtol=1e-4):
    maps, scores = Saliency(model, reducer=None, grad_modifier=None).explain_with_scores(x, 1)
    expected = reference.gradient(reference.class_score(model, [1] * len(x)), x)
    assert np.abs(expected).max() > 1e-4
    np.testing.assert_allclose(maps, expected, rtol=rtol, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(scores, model(x, training=False)[:, 1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("position", ["first", "in the middle"])
def test_swish(keras, rng, position):
    swish = keras.layers.Activation("swish")
    hidden = [swish, keras.layers.Conv2D(4, 3)] if position == "in the middle" else [swish]
    model = network(keras, *hidden)
    assert_right(model, rng.normal(size=(5, *SHAPE)).astype("float32"))
    found = ops_of_gradient(model)
    assert found["SigmoidGrad"] == 1 and "Sub" not in found


def test_swish_in_double_precision(keras, rng):
    model = network(keras, keras.layers.Activation("swish", dtype="float64"), dtype="float64")
    x = rng.normal(size=(5, *SHAPE))
    expected = reference.gradient(reference.class_score(model, [1] * 5), x)
    maps = Saliency(model, reducer=None, grad_modifier=None).explain(x, 1)
    np.testing.assert_allclose(maps, expected.astype("float32"), rtol=2e-7)


def test_swish_far_from_zero():
    x = np.array([-1e30, -200, -89, -20, -1, -1e-30, 0, 1e-30, 3, 20, 89, 1e30])
    z = tf.constant(x, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(z)
        y = equivalents.x_sigmoid_x(z)
    sigma = 1 / (1 + np.exp(-np.clip(x, -700, 700)))
    np.testing.assert_allclose(y, x * sigma, rtol=1e-6, atol=1e-35)
    exact = sigma + x * sigma * (1 - sigma)
    np.testing.assert_allclose(tape.gradient(y, z), exact, rtol=1e-5, atol=1e-35)


def test_functions_of_ones_own_are_left_alone(keras, rng):
    class Doubled(keras.layers.Activation):
        def call(self, inputs):
            return 2 * super().call(inputs)

    class Square(keras.layers.GlobalAveragePooling2D):
        def call(self, inputs):
            return super().call(inputs) ** 2

    def swish(x):
        return x * tf.sigmoid(3.0 * x)

    layers = keras.layers
    model = network(keras, layers.Activation(swish), Doubled("swish"), Square())
    assert_right(model, rng.normal(size=(5, *SHAPE)).astype("float32"))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_is_left_as_it_is(keras, rng, policy):
    options = {"dtype": policy}
    hidden = keras.layers.Activation("swish", **options)
    model = network(keras, hidden, keras.layers.GlobalAveragePooling2D(**options))
    found = ops_of_gradient(model)
    assert "SigmoidGrad" not in found and "Mean" in found
    x = rng.normal(size=(3, *SHAPE)).astype("float32")
    assert np.abs(Saliency(model).explain(x, 1)).max() > 1e-4


@pytest.mark.parametrize(
    "options",
    [{}, {"keepdims": True}, {"data_format": "channels_first"}],
    ids=str,
)
def test_global_average_pooling(keras, rng, options):
    model = network(keras, excitation(keras, **options))
    assert_right(model, rng.normal(size=(5, *SHAPE)).astype("float32"))
    found = ops_of_gradient(model)
    assert "Mean" not in found
    # Divided before it is as large as an image: what is, is only multiplied and added.
    assert found["BroadcastTo"] == 1


def test_global_average_pooling_of_images_of_any_size(keras, rng):
    layers = keras.layers
    inputs = layers.Input((None, None, 3))
    hidden = layers.Conv2D(4, 3, activation="tanh")(inputs)
    model = keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(hidden)))
    for size in (5, 8):
        assert_right(model, rng.normal(size=(3, size, size, 3)).astype("float32"))


def test_normalisation_of_images_has_the_gradient_of_a_product(keras, rng):
    model = network(keras, keras.layers.ReLU(), keras.layers.BatchNormalization())
    found = ops_of_gradient(model)
    assert found["FusedBatchNormV3"] == 1 and "FusedBatchNormGradV3" not in found


def test_gradients_of_gradients(keras, rng):
    """An operator may differentiate f by itself: the score is the slope of f at x."""
    layers = keras.layers
    model = network(
        keras,
        layers.Activation("swish"),
        excitation(keras),
        layers.Activation("tanh"),
        layers.BatchNormalization(),
    )

    def slope(f, x, y):
        with tf.GradientTape() as tape:
            tape.watch(x)
            score = f(x)[:, 1]
        return tf.reduce_sum(tape.gradient(score, x) ** 2, [1, 2, 3])

    x = rng.normal(size=(3, *SHAPE)).astype("float32")
    maps = Saliency(model, operator=slope, reducer=None, grad_modifier=None).explain(x, 1)
    expected = reference.gradient(lambda x: slope(model, x, None), x)
    assert np.abs(expected).max() > 1e-4
    np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("layer", ["swish", "average"])
def test_a_watched_layer_keeps_its_gradient(keras, rng, layer):
    layers = keras.layers
    model = network(
        keras,
        layers.Activation("swish", name="swish"),
        layers.GlobalAveragePooling2D(name="average"),
        layers.Dense(4, activation="tanh"),
    )
    x = rng.normal(size=(3, *SHAPE)).astype("float32")
    maps = Saliency(model, wrt_layer=layer, reducer=None, grad_modifier=None).explain(x, 1)
    expected = reference.gradient_to_layer(model, layer, x, 1)
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-6)
