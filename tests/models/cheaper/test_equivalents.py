"""Layers that are computed in a cheaper way give the same map."""

import numpy as np
import pytest
import tensorflow as tf

from tests import reference
from xplique_sal import Saliency
from xplique_sal._models.cheaper import equivalents, layer_norm

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


@pytest.mark.parametrize("kind", ["Activation", "Dense", "Conv2D"])
def test_gelu(keras, rng, kind):
    layers = keras.layers
    layer = {
        "Activation": layers.Activation("gelu"),
        "Dense": layers.Dense(5, activation="gelu"),
        "Conv2D": layers.Conv2D(4, 3, activation="gelu"),
    }[kind]
    model = network(keras, layer, layers.Conv2D(4, 3, activation="swish"))
    given = layer.activation
    assert_right(model, rng.normal(size=(5, *SHAPE)).astype("float32"))
    assert layer.activation is given
    found = ops_of_gradient(model)
    assert found["Exp"] == 1 and found["SigmoidGrad"] == 1


def test_gelu_is_as_accurate_as_tensorflows():
    x = np.linspace(-9, 9, 4001).astype("float32")
    x = np.concatenate([x, np.array([-1e30, -200, -1e-30, 0, 1e-30, 200, 1e30], "float32")])
    theirs = lambda z: tf.nn.gelu(z, approximate=False)  # noqa: E731

    def value_and_slope(function, dtype):
        z = tf.constant(x, dtype)
        with tf.GradientTape() as tape:
            tape.watch(z)
            y = function(z)
        return np.stack([y.numpy(), tape.gradient(y, z).numpy()])

    exact = value_and_slope(theirs, tf.float64)
    ours = value_and_slope(equivalents.gelu, tf.float32)
    error = np.abs(ours - exact)[:, :-7].max(1)
    usual = np.abs(value_and_slope(theirs, tf.float32) - exact)[:, :-7].max(1)
    assert (error <= 1.5 * usual + 1e-9).all()
    np.testing.assert_allclose(ours[:, -7:], exact[:, -7:], rtol=1e-6, atol=1e-12)


def test_a_gelu_with_settings_is_left_alone(keras, rng):
    approximate = lambda x: keras.activations.gelu(x, approximate=True)  # noqa: E731
    model = network(keras, keras.layers.Dense(5, activation=approximate))
    assert_right(model, rng.normal(size=(5, *SHAPE)).astype("float32"))
    assert "Tanh" in ops_of_gradient(model)


NORMALISATIONS = {
    "usual": {},
    "small epsilon": {"epsilon": 1e-6},
    "without scale": {"scale": False},
    "without center": {"center": False},
    "neither": {"scale": False, "center": False},
}


@pytest.mark.parametrize("options", NORMALISATIONS.values(), ids=NORMALISATIONS)
def test_layer_normalisation(keras, rng, options):
    layer = keras.layers.LayerNormalization(**options)
    model = network(keras, layer, keras.layers.Activation("tanh"))
    for variable in layer.variables:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    x = rng.normal(size=(5, *SHAPE)).astype("float32")
    assert_right(model, x)
    assert_right(model, 1e-3 * x)  # of a variance as small as ε
    found = ops_of_gradient(model)
    assert found["Rsqrt"] == 1 and "RsqrtGrad" not in found and "FusedBatchNormV3" not in found


@pytest.mark.parametrize(
    "options", [{"axis": 1}, {"axis": [1, 2, 3]}, {"dtype": "mixed_bfloat16"}], ids=str
)
def test_other_layer_normalisations_are_left_alone(keras, rng, options):
    model = network(keras, keras.layers.LayerNormalization(**options))
    x = rng.normal(size=(5, *SHAPE)).astype("float32")
    if "dtype" not in options:
        assert_right(model, x, rtol=1e-3)
    with equivalents.replacing_layers(model, fold_batch_norm=True, own_gradients=True):
        replaced = model(x)
    np.testing.assert_array_equal(replaced, model(x))


@pytest.mark.parametrize("epsilon", [1e-3, 1e-6, 1e-12])
def test_layer_normalisation_is_as_accurate_as_by_parts(rng, epsilon):
    x = rng.normal(size=(200, 64)) * np.logspace(-2, 3, 200)[:, None]
    x = (x + rng.normal(size=(200, 1))).astype("float32")
    gamma, g = rng.uniform(0.5, 1.5, 64).astype("float32"), rng.normal(size=x.shape)

    def by_parts(x, gamma):
        mean = tf.reduce_mean(x, -1, keepdims=True)
        variance = tf.reduce_mean((x - mean) ** 2, -1, keepdims=True)
        return (x - mean) / tf.sqrt(variance + epsilon) * gamma

    def found(function, dtype):
        z, scale = tf.constant(x, dtype), tf.constant(gamma, dtype)
        with tf.GradientTape() as tape:
            tape.watch([z, scale])
            y = function(z, scale)
        return [y, *tape.gradient(y, [z, scale], tf.constant(g, dtype))]

    def errors(some, exact):
        rows = np.reshape(some - exact, (len(exact), -1))
        return np.sqrt((rows**2).sum(1)) / np.abs(exact).max()

    own = tf.function(lambda x, gamma: layer_norm.normalised(x, gamma, epsilon))
    each = [found(own, tf.float32), found(by_parts, tf.float32), found(by_parts, tf.float64)]
    for ours, theirs, exact in zip(*[[part.numpy() for part in one] for one in each], strict=True):
        assert np.median(errors(ours, exact)) <= 3 * np.median(errors(theirs, exact))
        assert errors(ours, exact).max() <= 3e-4


def test_gradients_of_gradients_of_transformers(keras, rng):
    """Beside differences of slopes: TensorFlow's own are wrong, for `moments` stops a gradient."""

    def transformer(dtype):
        layers = [
            keras.layers.LayerNormalization(dtype=dtype),
            keras.layers.Dense(5, activation="gelu", dtype=dtype),
            keras.layers.LayerNormalization(epsilon=1e-6, dtype=dtype),
        ]
        return network(keras, *layers, dtype=dtype)

    def slope(f, x, y):
        with tf.GradientTape() as tape:
            tape.watch(x)
            score = f(x)[:, 1]
        return tf.reduce_sum(tape.gradient(score, x) ** 2, [1, 2, 3])

    model, exact = transformer("float32"), transformer("float64")
    exact.set_weights(model.get_weights())
    x = rng.normal(size=(3, *SHAPE)).astype("float32")
    maps = Saliency(model, operator=slope, reducer=None, grad_modifier=None).explain(x, 1).numpy()
    for _ in range(5):
        step = 1e-5 * rng.normal(size=x.shape)
        after, before = (slope(exact, tf.constant(x + sign * step), None) for sign in (1, -1))
        expected = (after - before).numpy() / 2e-5
        found = (maps * step / 1e-5).sum((1, 2, 3))
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(maps).max())
