"""Grad-CAM: weights by hand, which layer is looked at, sizes."""

import warnings

import numpy as np
import pytest
import tensorflow as tf
from reference import built_once

from xplique_sal._tracing.programs import trace_count
from xplique_sal.attributions import GradCAM, GradCAMPP, LayerCAM, ScoreCAM
from xplique_sal.attributions.feature_map_base import _resized
from xplique_sal.errors import InvalidModelError, InvalidParameterError, LayerNotFoundError


def by_position(g, a):
    """The article's formula for the weights of Grad-CAM++, term by term."""
    total = a.sum((1, 2), keepdims=True)
    with np.errstate(invalid="ignore"):
        alpha = np.where(g == 0, 0, g**2 / (2 * g**2 + g**3 * total))
    return (alpha * np.maximum(g, 0)).sum((1, 2), keepdims=True)


#: What each method weighs the values of A by: of ∂g/∂A and A, (N, H, W, C).
WEIGHTS = {
    GradCAM: lambda g, a: g.mean((1, 2), keepdims=True),
    GradCAMPP: by_position,
    LayerCAM: lambda g, a: np.maximum(g, 0),
}
every_method = pytest.mark.parametrize("method", WEIGHTS)


@built_once
def network(keras, shape=(8, 10, 3)):
    return keras.Sequential(
        [
            keras.layers.Input(shape),
            keras.layers.Conv2D(4, 3, strides=2, activation="relu", name="first"),
            keras.layers.Conv2D(5, 2, activation="relu", name="second"),
            keras.layers.MaxPooling2D(name="pooling"),
            keras.layers.Flatten(name="flat"),
            keras.layers.Dense(6, activation="tanh"),
            keras.layers.Dense(3),
        ]
    )


def twin(method, model, start, x, output, size, way="bicubic"):
    """The map by hand: a tape from the features of layer number `start` on."""
    features = tf.constant(x)
    for layer in model.layers[: start + 1]:
        features = layer(features)
    with tf.GradientTape() as tape:
        tape.watch(features)
        result = features
        for layer in model.layers[start + 1 :]:
            result = layer(result)
        score = tf.reduce_sum(result[:, output])
    gradient, features = tape.gradient(score, features).numpy(), features.numpy()
    weighed = (WEIGHTS[method](gradient, features) * features).sum(-1, keepdims=True)
    return tf.image.resize(np.maximum(weighed, 0), size, way).numpy()


def assert_close(actual, expected, tolerance=1e-5):
    expected = np.asarray(expected)
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@every_method
@pytest.mark.parametrize("start, layer", [(0, "first"), (1, None), (1, 1), (2, "pooling")])
def test_the_map_is_that_made_by_hand(keras, rng, method, start, layer):
    model, x = network(keras), rng.normal(size=(5, 8, 10, 3)).astype("float32")
    expected = twin(method, model, start, x, 1, (8, 10))
    for batch_size in (2, 64):
        explainer = method(model, batch_size=batch_size, conv_layer=layer)
        assert_close(explainer.explain(x, 1), expected)
    assert_close(explainer.explain_outputs(x)[:, 1], expected)
    maps, scores = explainer.explain_with_scores(x, 1)
    assert_close(maps, expected)
    np.testing.assert_allclose(scores, model(x)[:, 1], rtol=1e-4, atol=1e-6)


@every_method
@pytest.mark.parametrize("way", ["bilinear", "nearest"])
def test_other_interpolations(keras, rng, method, way):
    model, x = network(keras), rng.normal(size=(3, 8, 10, 3)).astype("float32")
    maps = method(model, interpolation=way).explain(x, 1).numpy()
    assert_close(maps, twin(method, model, 1, x, 1, (8, 10), way))
    assert maps.min() >= 0


def test_one_layer_in_closed_form(keras, rng):
    """A 1×1 convolution and a mean: the weights are those of the last layer, over Z."""
    model = keras.Sequential(
        [
            keras.layers.Input((4, 5, 2)),
            keras.layers.Conv2D(3, 1, name="conv"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2, use_bias=False),
        ]
    )
    x = rng.normal(size=(3, 4, 5, 2)).astype("float32")
    kernel, bias = model.layers[0].get_weights()
    features = x @ kernel[0, 0] + bias
    expected = np.maximum(features @ model.layers[-1].get_weights()[0][:, 1] / 20, 0)
    assert_close(GradCAM(model).explain(x, 1), expected[..., None])


@built_once
def nested(keras):
    inner = keras.Sequential(
        [
            keras.layers.Input((8, 10, 3)),
            keras.layers.Conv2D(4, 3, name="conv5"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.ReLU(name="relu"),
            keras.layers.MaxPooling2D(name="pool"),
        ],
        name="backbone",
    )
    inputs = keras.layers.Input((8, 10, 3))
    hidden = keras.layers.GlobalAveragePooling2D(name="mean")(inner(inputs))
    return keras.Model(inputs, keras.layers.Dense(3)(hidden))


def subclassed(keras):
    class Classifier(keras.Model):
        def __init__(self):
            super().__init__()
            self.convolution = keras.layers.Conv2D(4, 3, name="conv")
            self.activation = keras.layers.ReLU(name="relu")
            self.mean = keras.layers.GlobalAveragePooling2D(name="mean")
            self.scores = keras.layers.Dense(3, name="scores")

        def call(self, inputs):
            return self.scores(self.mean(self.activation(self.convolution(inputs))))

    return Classifier()


@built_once
def residual(keras):
    class Block(keras.layers.Layer):
        def __init__(self):
            super().__init__(name="block")
            self.convolution = keras.layers.Conv2D(3, 3, padding="same", name="conv")

        def call(self, inputs):
            return tf.nn.relu(inputs + self.convolution(inputs))

    layers = [keras.layers.Input((8, 10, 3)), Block(), keras.layers.GlobalMaxPooling2D(name="max")]
    return keras.Sequential([*layers, keras.layers.Dense(3)])


@built_once
def ends_in_one_position(keras):
    return keras.Sequential(
        [
            keras.layers.Input((8, 10, 3)),
            keras.layers.SeparableConv2D(4, 3, activation="relu", name="last"),
            keras.layers.GlobalAveragePooling2D(keepdims=True),
            keras.layers.Conv2D(3, 1, name="scores"),
            keras.layers.Flatten(),
        ]
    )


@built_once
def called_twice(keras):
    convolution = keras.layers.Conv2D(3, 3, padding="same", name="twice")
    inputs = keras.layers.Input((8, 10, 3))
    hidden = convolution(keras.layers.ReLU(name="between")(convolution(inputs)))
    hidden = keras.layers.GlobalAveragePooling2D()(hidden)
    return keras.Model(inputs, keras.layers.Dense(3)(hidden))


@built_once
def without_convolution(keras):
    layers = [keras.layers.Input((8, 10, 3)), keras.layers.Dense(4, activation="relu", name="mix")]
    layers += [keras.layers.Flatten(), keras.layers.Dense(3)]
    return keras.Sequential(layers)


def branches(keras):
    """A residual block in a Functional model, whose sum is a layer of one Keras only."""
    inputs = keras.layers.Input((8, 10, 3))
    stem = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="stem")(inputs)
    total = stem + keras.layers.Conv2D(4, 3, padding="same", name="branch")(stem)
    hidden = keras.layers.GlobalAveragePooling2D()(total)
    return keras.Model(inputs, keras.layers.Dense(3, name="scores")(hidden)), total


def test_the_last_feature_map_is_a_sum_and_not_its_branch(keras, rng):
    model, total = branches(keras)
    x = rng.normal(size=(3, 8, 10, 3)).astype("float32")
    features = keras.Model(model.inputs[0], total)(x).numpy()
    weights = model.get_layer("scores").get_weights()[0][:, 1] / 80
    expected = np.maximum((weights * features).sum(-1), 0)
    explainer = GradCAM(model)
    assert_close(explainer.explain(x, 1)[..., 0], expected)
    assert "add" in explainer.conv_layer
    named = GradCAM(model, conv_layer=explainer.conv_layer).explain(x, 1)[..., 0]
    assert_close(named, expected)


def test_two_scales_have_no_last_feature_map(keras, rng):
    inputs = keras.layers.Input((8, 10, 3))
    parts = [keras.layers.Conv2D(4, size)(inputs) for size in (2, 3)]
    parts = [keras.layers.GlobalAveragePooling2D()(part) for part in parts]
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Concatenate()(parts)))
    with pytest.raises(InvalidModelError, match="branches"):
        GradCAM(model).explain(rng.normal(size=(3, 8, 10, 3)).astype("float32"), 1)


FOUND = {
    network: "second",
    nested: "backbone/relu",
    subclassed: "relu",
    residual: "block",
    ends_in_one_position: "last",
    called_twice: "twice:1",
    without_convolution: "mix",
}


@every_method
@pytest.mark.parametrize("build", FOUND)
def test_the_last_feature_map_is_found(keras, rng, method, build):
    model, x = build(keras), rng.normal(size=(3, 8, 10, 3)).astype("float32")
    explainer = method(model)
    maps = explainer.explain(x, 1)
    assert explainer.conv_layer == FOUND[build]
    assert maps.shape == (3, 8, 10, 1)
    assert_close(maps, method(model, conv_layer=FOUND[build]).explain(x, 1), 1e-6)
    before = trace_count()
    assert_close(method(model).explain(x, 1), maps, 1e-6)
    assert trace_count() == before


def test_it_is_found_before_what_is_explained(keras, rng):
    model, x = network(keras), rng.normal(size=(3, 8, 10, 3)).astype("float32")
    head = keras.layers.Conv2D(2, 1, name="unrelated")(model.get_layer("second").output)
    both = keras.Model(model.inputs, [model.outputs[0], head])
    explainer = GradCAM(both, output=0)
    assert_close(explainer.explain(x, 1), GradCAM(model).explain(x, 1), 1e-6)
    assert explainer.conv_layer == "second"


def test_a_changed_structure_is_noticed(keras, rng):
    layers = [
        keras.layers.Input((8, 10, 3)),
        keras.layers.Conv2D(4, 3, name="old"),
    ]
    model = keras.Sequential(layers)
    model.add(keras.layers.Conv2D(2, 2, name="new"))
    model.add(keras.layers.GlobalAveragePooling2D())
    x = rng.normal(size=(3, 8, 10, 3)).astype("float32")
    explainer = GradCAM(model)
    explainer.explain(x, 1)
    assert explainer.conv_layer == "new"
    model.pop()
    model.pop()
    model.add(keras.layers.GlobalAveragePooling2D())
    expected = twin(GradCAM, model, 0, x, 1, (8, 10))
    assert_close(explainer.explain(x, 1), expected)
    assert explainer.conv_layer == "old"


def give_weights(model, other):
    """Give a model the numbers of another whose filters have axes of length one more or less."""
    pairs = zip(model.get_weights(), other.get_weights(), strict=True)
    other.set_weights([np.reshape(mine, theirs.shape) for mine, theirs in pairs])


@every_method
def test_series_and_volumes(keras, rng, method):
    x = rng.normal(size=(3, 9, 2)).astype("float32")
    model = keras.Sequential(
        [
            keras.layers.Input((9, 2)),
            keras.layers.Conv1D(4, 3, strides=2, activation="relu"),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(3),
        ]
    )
    wide = keras.Sequential(
        [
            keras.layers.Input((9, 1, 2)),
            keras.layers.Conv2D(4, (3, 1), strides=(2, 1), activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3),
        ]
    )
    give_weights(model, wide)
    expected = method(wide).explain(x[:, :, None], 1).numpy()[:, :, 0]
    assert expected.shape == (3, 9, 1)
    assert_close(method(model).explain(x, 1), expected)
    flat = keras.Sequential(
        [
            keras.layers.Input((1, 9, 1, 2)),
            keras.layers.Conv3D(4, (1, 3, 1), strides=(1, 2, 1), activation="relu"),
            keras.layers.GlobalAveragePooling3D(),
            keras.layers.Dense(3),
        ]
    )
    give_weights(model, flat)
    volumes = method(flat).explain(x[:, None, :, None], 1)
    assert volumes.shape == (3, 1, 9, 1, 1)
    assert_close(volumes[:, 0, :, 0], expected)


def test_channels_first(rng):
    """TensorFlow has no such convolution on a CPU: the channels are moved by hand around it."""
    import tf_keras as keras

    class ChannelsFirst(keras.layers.Layer):
        data_format = "channels_first"

        def build(self, shape):
            self.kernel = self.add_weight(name="kernel", shape=(shape[1], 4))

        def call(self, inputs):
            return tf.nn.relu(tf.einsum("nchw,cd->ndhw", inputs, self.kernel))

    x = rng.normal(size=(3, 2, 6, 7)).astype("float32")
    model = keras.Sequential(
        [
            keras.layers.Input((2, 6, 7)),
            ChannelsFirst(name="mix"),
            keras.layers.ReLU(name="relu"),
            keras.layers.GlobalAveragePooling2D(data_format="channels_first"),
            keras.layers.Dense(3),
        ]
    )
    last = keras.Sequential(
        [
            keras.layers.Input((6, 7, 2)),
            keras.layers.Dense(4, activation="relu", use_bias=False),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3),
        ]
    )
    last.set_weights(model.get_weights())
    expected = GradCAM(last).explain(np.moveaxis(x, 1, -1), 1).numpy()
    explainer = GradCAM(model)
    maps = explainer.explain(x, 1).numpy()
    assert explainer.conv_layer == "relu"
    assert maps.shape == (3, 1, 6, 7)
    assert_close(np.moveaxis(maps, 1, -1), expected)


def test_an_image_beside_other_inputs(keras, rng):
    image, row = keras.layers.Input((8, 10, 3)), keras.layers.Input((4,))
    hidden = keras.layers.Conv2D(5, 3, activation="relu", name="conv")(image)
    hidden = keras.layers.GlobalAveragePooling2D()(hidden)
    model = keras.Model(
        [image, row], keras.layers.Dense(3)(keras.layers.Concatenate()([hidden, row]))
    )
    x = [rng.normal(size=(3, 8, 10, 3)).astype("f4"), rng.normal(size=(3, 4)).astype("f4")]
    explainer = GradCAM(model)
    maps = explainer.explain(x, 1)
    assert maps.shape == (3, 8, 10, 1)
    alone = keras.Sequential(
        [
            keras.layers.Input((8, 10, 3)),
            keras.layers.Conv2D(5, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3),
        ]
    )
    kernel, bias = model.layers[-1].get_weights()
    alone.set_weights([*model.get_layer("conv").get_weights(), kernel[:5], bias])
    assert_close(maps, GradCAM(alone).explain(x[0], 1))


def test_two_images_make_one_map_of_neither(keras, rng):
    left, right = keras.layers.Input((8, 8, 3)), keras.layers.Input((8, 8, 3))
    hidden = keras.layers.Conv2D(5, 3)(keras.layers.Concatenate()([left, right]))
    hidden = keras.layers.GlobalAveragePooling2D()(hidden)
    model = keras.Model([left, right], keras.layers.Dense(3)(hidden))
    x = rng.normal(size=(3, 8, 8, 3)).astype("float32")
    with pytest.raises(InvalidModelError, match="2 inputs"):
        GradCAM(model).explain([x, x], 1)


def test_a_model_without_a_feature_map(keras, rng):
    x = rng.normal(size=(3, 5)).astype("float32")
    model = keras.Sequential(
        [keras.layers.Input((5,)), keras.layers.Dense(4), keras.layers.Dense(3)]
    )
    with pytest.raises(InvalidModelError, match="conv_layer"):
        GradCAM(model).explain(x, 1)
    with pytest.raises(InvalidModelError, match="positions"):
        GradCAM(model, conv_layer=0).explain(x, 1)


def test_what_has_positions_itself_needs_a_layer(keras, rng):
    model = keras.Sequential(
        [
            keras.layers.Input((6, 6, 3)),
            keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="features"),
            keras.layers.Conv2D(2, 1, name="segments"),
        ]
    )
    x, zone = rng.normal(size=(2, 6, 6, 3)).astype("float32"), np.zeros((2, 6, 6, 2), "float32")
    zone[:, :3, :3, 1] = 1
    options = {"operator": "semantic segmentation"}
    with pytest.raises(InvalidModelError, match="conv_layer"):
        GradCAM(model, **options).explain(x, zone)
    maps = GradCAM(model, conv_layer="features", **options).explain(x, zone)
    weights = model.layers[-1].get_weights()[0][0, 0, :, 1] / 36
    expected = np.maximum(np.asarray(model.layers[0](x)) @ weights, 0)[..., None]
    assert_close(maps, expected)


def test_parameters_that_do_not_exist(keras):
    model = network(keras)
    with pytest.raises(InvalidParameterError, match="interpolation"):
        GradCAM(model, interpolation="cubic")
    with pytest.raises(InvalidParameterError, match="conv_layer"):
        GradCAM(model, conv_layer={"a": "first"})(np.zeros((1, 8, 10, 3), "float32"), 0)
    with pytest.raises(LayerNotFoundError, match="second"):
        GradCAM(model, conv_layer="secnd")


@pytest.mark.parametrize("way", ["bicubic", "bilinear", "nearest"])
def test_axes_are_resized_two_at_a_time(rng, way):
    images = rng.normal(size=(2, 3, 4)).astype("float32")
    expected = tf.image.resize(images[..., None], (7, 9), way)[..., 0]
    np.testing.assert_allclose(_resized(tf.constant(images), (7, 9), way), expected, atol=1e-6)
    volumes = rng.normal(size=(2, 3, 4, 5)).astype("float32")
    np.testing.assert_allclose(_resized(tf.constant(volumes), (3, 4, 5), way), volumes, atol=1e-6)
    deeper = _resized(tf.constant(volumes), (6, 4, 5), way)
    columns = tf.image.resize(volumes.reshape(2, 3, 20, 1), (6, 20), way)
    np.testing.assert_allclose(deeper, np.reshape(columns, (2, 6, 4, 5)), atol=1e-6)
    np.testing.assert_allclose(
        _resized(tf.constant(volumes[:, :, 0, 0]), (6,), way),
        tf.image.resize(volumes[:, :, :1, :1], (6, 1), way)[:, :, 0, 0],
        atol=1e-6,
    )


@pytest.mark.parametrize("method", [GradCAM, GradCAMPP])
def test_a_map_that_is_zero_everywhere_is_warned_of(keras, method):
    model = keras.Sequential(
        [
            keras.layers.Input((6, 6, 2)),
            keras.layers.Conv2D(3, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2),
        ]
    )
    weights = np.abs(np.random.default_rng(0).normal(size=(3, 2))).astype("float32")
    model.layers[-1].set_weights([weights * [1, -1], np.zeros(2, "float32")])
    x = np.random.default_rng(1).normal(size=(2, 6, 6, 2)).astype("float32")
    features = model.layers[0](x).numpy()
    with pytest.warns(UserWarning, match="relu=False"):
        assert not np.any(method(model).explain(x, 1))
    with pytest.warns(UserWarning, match="relu=False"):
        method(model).explain_outputs(x, [1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.any(method(model).explain(x, 0))
        assert np.any(method(model).explain_outputs(x))  # not of each output
        signed = GradCAM(model, relu=False, interpolation="nearest").explain(x, 1)
    expected = -(features * weights[:, 1]).sum(-1, keepdims=True) / 16
    expected = tf.image.resize(expected, (6, 6), "nearest")
    np.testing.assert_allclose(signed, expected, rtol=1e-5, atol=1e-7)


def two_images(keras, shared):
    """A model of two images by name, and the features and weights of each of them."""
    left, right = keras.Input((8, 8, 3), name="left"), keras.Input((8, 8, 3), name="right")
    inner = keras.Input((8, 8, 3))
    conv = keras.layers.Conv2D(4, 3, activation="tanh", name="conv")
    backbone = keras.Model(inner, conv(inner), name="backbone")
    own = [keras.layers.Conv2D(4, 3, activation="tanh", name=name) for name in ("a", "b")]
    ways = [backbone, backbone] if shared else own
    maps = [way(image) for way, image in zip(ways, (left, right), strict=True)]
    pooled = [keras.layers.GlobalAveragePooling2D()(map_) for map_ in maps]
    score = keras.layers.Dense(2, name="score")
    model = keras.Model({"left": left, "right": right}, score(keras.layers.Concatenate()(pooled)))
    weights = np.split(score.get_weights()[0][:, 1] / 36, 2)
    return model, list(zip(ways, weights, strict=True))


@pytest.mark.parametrize("shared", [False, True])
def test_two_images_have_a_map_each(keras, rng, shared):
    model, ways = two_images(keras, shared)
    x = {name: rng.normal(size=(2, 8, 8, 3)).astype("float32") for name in ("left", "right")}
    names = ("backbone/conv:0", "backbone/conv:1") if shared else ("a", "b")
    settings = {"relu": False, "interpolation": "nearest"}
    explainer = GradCAM(model, conv_layer=dict(zip(x, names, strict=True)), **settings)
    swapped = GradCAM(model, conv_layer=dict(zip(x, names[::-1], strict=True)), **settings)
    try:
        maps = explainer(x, 1)
    except InvalidModelError:  # the calls are made in another order
        assert shared
        explainer, swapped = swapped, explainer
        maps = explainer(x, 1)
    for (way, weights), (name, image) in zip(ways, x.items(), strict=True):
        expected = (way(image).numpy() * weights).sum(-1, keepdims=True)
        expected = tf.image.resize(expected, (8, 8), "nearest")
        np.testing.assert_allclose(maps[name], expected, rtol=1e-4, atol=1e-6)
        with pytest.raises(InvalidModelError, match="for each input"):
            GradCAM(model, conv_layer=explainer.conv_layer[name])(x, 1)
    with pytest.raises(InvalidModelError, match="for each input"):
        swapped(x, 1)
    with pytest.raises(InvalidModelError, match="for each input"):
        GradCAM(model)(x, 1)


@pytest.mark.parametrize("shape", [(40,), (6, 8)])
def test_an_input_to_which_the_model_adds_channels(keras, rng, shape):
    kind = f"{len(shape)}D"
    layers = keras.layers
    conv = getattr(layers, f"Conv{kind}")(4, 3, padding="same", activation="tanh", name="conv")
    pooling = getattr(layers, f"GlobalAveragePooling{kind}")()
    reshape, start = layers.Reshape((*shape, 1)), layers.Input(shape)
    model = keras.Sequential([start, reshape, conv, pooling, layers.Dense(3)])
    x = rng.normal(size=(2, *shape)).astype("float32")
    weights = model.layers[-1].get_weights()[0] / np.prod(shape)
    expected = conv(x[..., np.newaxis]).numpy() @ weights
    for layer in (None, "conv"):
        found = GradCAM(model, conv_layer=layer, relu=False)(x, 1)
        np.testing.assert_allclose(found, expected[..., 1], rtol=1e-4, atol=1e-6)
    every = GradCAM(model, relu=False).explain_outputs(x)
    np.testing.assert_allclose(every, np.moveaxis(expected, -1, 1), rtol=1e-4, atol=1e-6)
    turned = layers.Reshape((*shape[::-1], 1) if len(shape) > 1 else (20, 2))
    turned = keras.Sequential(
        [
            layers.Input(shape),
            turned,
            conv if len(shape) > 1 else layers.Conv1D(4, 3, name="other"),
            pooling,
            layers.Dense(3),
        ]
    )
    with pytest.raises(InvalidModelError, match="as many axes"):
        GradCAM(turned)(x, 1)


@pytest.mark.parametrize("steps", [3, None])
def test_frames_of_a_time_distributed_network(keras, rng, steps):
    layers = keras.layers
    conv = layers.Conv2D(4, 3, activation="tanh", name="conv")
    cnn = keras.Sequential(
        [layers.Input((6, 6, 2)), conv, layers.GlobalAveragePooling2D()], name="cnn"
    )
    frames = layers.TimeDistributed(cnn, name="frames")
    rest = keras.Sequential([layers.LSTM(3), layers.Dense(2)])
    model = keras.Sequential([layers.Input((steps, 6, 6, 2)), frames, rest])
    x = rng.normal(size=(2, 3, 6, 6, 2)).astype("float32")
    features = tf.reshape(conv(x.reshape(6, 6, 6, 2)), (2, 3, 4, 4, 4))
    with tf.GradientTape() as tape:
        tape.watch(features)
        scores = rest(tf.reduce_mean(features, [2, 3]))[:, 1]
    # Channels are weighed in each frame by itself.
    weights = tf.reduce_mean(tape.gradient(scores, features), [2, 3], keepdims=True)
    small = tf.nn.relu(tf.reduce_sum(weights * features, -1, keepdims=True))
    wanted = tf.reshape(tf.image.resize(tf.reshape(small, (6, 4, 4, 1)), (6, 6)), (2, 3, 6, 6, 1))
    explainer = GradCAM(model, interpolation="bilinear")
    np.testing.assert_allclose(explainer(x, 1), wanted, rtol=1e-4, atol=1e-6)
    assert explainer.conv_layer == "frames/cnn/conv"
    named = GradCAM(model, conv_layer="frames/cnn/conv", interpolation="bilinear")(x, 1)
    np.testing.assert_array_equal(named, explainer(x, 1))
    with pytest.raises(InvalidModelError, match="positions of the input"):
        GradCAM(model, conv_layer="frames")(x, 1)


def test_layers_inside_a_compiled_call_are_found(keras, rng):
    class Compiled(keras.Model):
        def __init__(self):
            super().__init__()
            self.conv = keras.layers.Conv2D(4, 3, activation="tanh", name="conv")
            self.out = keras.layers.Dense(2)

        @tf.function
        def call(self, x):
            return self.out(tf.reduce_mean(self.conv(x), [1, 2]))

    model, x = Compiled(), rng.normal(size=(2, 6, 6, 3)).astype("float32")
    model(x)
    found, named = (GradCAM(model, conv_layer=layer)(x, 1) for layer in (None, "conv"))
    np.testing.assert_array_equal(found, named)


def test_a_saved_model_as_a_layer_hides_its_layers(keras, tmp_path):
    holder = tf.Module()
    holder.kernel = tf.Variable(tf.ones([3, 3, 3, 4]))
    spec = tf.TensorSpec([None, 6, 6, 3])
    call = tf.function(lambda x: tf.nn.conv2d(x, holder.kernel, 1, "SAME"), input_signature=[spec])
    holder.call = call
    tf.saved_model.save(holder, tmp_path)
    loaded = tf.saved_model.load(tmp_path)
    function = keras.layers.Lambda(
        lambda x: tf.reduce_mean(loaded.call(x), [1, 2]), output_shape=(4,)
    )
    model = keras.Sequential([keras.layers.Input((6, 6, 3)), function, keras.layers.Dense(2)])
    with pytest.raises(InvalidModelError, match="inside a SavedModel"):
        GradCAM(model)(np.ones((2, 6, 6, 3), "float32"), 1)


def scored(model, x, output, channels=None, way="bicubic", layer=1):
    """Score-CAM, one channel of one sample at a time."""
    maps = []
    for image in x:
        features = image[np.newaxis]
        for part in model.layers[: layer + 1]:
            features = part(features)
        each = np.moveaxis(np.asarray(features[0]), -1, 0)[..., np.newaxis].astype("float64")
        if channels is not None:
            each = each[np.argsort([-feature.var() for feature in each])[:channels]]
        gains = []
        for feature in each:
            mask = tf.image.resize(feature, image.shape[:2], way).numpy().astype("float64")
            spread = mask.max() - mask.min()
            mask = (mask - mask.min()) / spread if spread else 0 * mask
            both = np.stack([image * mask, 0 * image]).astype("float32")
            of_masked, of_nothing = np.asarray(model(both), "float64")[:, output]
            gains.append(of_masked - of_nothing)
        weights = np.exp(gains) / np.exp(gains).sum()
        weighed = sum(w * feature for w, feature in zip(weights, each, strict=True))
        maps.append(tf.image.resize(np.maximum(weighed, 0), image.shape[:2], way))
    return np.stack(maps)


@pytest.mark.parametrize("channels, way", [(None, "bicubic"), (2, "nearest"), (99, "bilinear")])
def test_channels_weigh_as_much_as_the_score_of_what_they_show(keras, rng, channels, way):
    model, x = network(keras), 3 * rng.normal(size=(3, 8, 10, 3)).astype("float32")
    expected = np.stack([scored(model, x, output, channels, way) for output in range(3)], 1)
    for batch_size in (2, 64):
        explainer = ScoreCAM(model, batch_size=batch_size, nb_channels=channels, interpolation=way)
        assert_close(explainer.explain(x, [0, 1, 2]), expected[range(3), range(3)], 1e-4)
    assert explainer.conv_layer == network(keras).layers[1].name
    assert_close(explainer.explain_outputs(x, [2, 0]), expected[:, [2, 0]], 1e-4)


def test_a_channel_that_is_the_same_everywhere_hides_all(keras):
    model = keras.Sequential(
        [
            keras.layers.Input((4, 4, 1)),
            keras.layers.Conv2D(2, 1, name="conv"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(1),
        ]
    )
    kernel = np.array([1.0, 0.0]).reshape(1, 1, 1, 2)
    model.set_weights([kernel, np.array([0.0, 2.0]), np.ones((2, 1)), np.zeros(1)])
    x = np.arange(16, dtype="float32").reshape(1, 4, 4, 1) / 15
    kept = np.exp((x**2).mean() + 2), np.exp(2.0)  # the mean of x·m, beside that of the second
    expected = (kept[0] * x + kept[1] * 2) / sum(kept)
    assert_close(ScoreCAM(model, conv_layer="conv").explain(x), expected)
    with pytest.raises(InvalidParameterError, match="nb_channels"):
        ScoreCAM(model, nb_channels=0)
    with pytest.raises(InvalidParameterError, match="takes no gradient"):
        ScoreCAM(model, backprop_modifier="guided")


@pytest.mark.parametrize("method", [GradCAM, ScoreCAM])
def test_several_layers_have_the_mean_of_their_maps(keras, rng, method):
    model, x = network(keras), rng.normal(size=(3, 8, 10, 3)).astype("float32")
    each = [method(model, conv_layer=layer).explain(x, 1) for layer in ("first", "pooling")]
    explainer = method(model, conv_layer=["first", "pooling"])
    assert_close(explainer.explain(x, 1), (each[0] + each[1]) / 2)
    assert_close(explainer.explain_outputs(x)[:, 1], (each[0] + each[1]) / 2)


def test_score_cam_of_two_images_masks_one_at_a_time(keras, rng):
    model, ways = two_images(keras, False)
    x = {name: rng.normal(size=(2, 8, 8, 3)).astype("float32") for name in ("left", "right")}
    maps = ScoreCAM(model, conv_layer={"left": "a", "right": "b"}).explain(x, 1)
    for (way, _), name in zip(ways, x, strict=True):
        features = np.asarray(way(x[name]))
        gains = []
        for channel in range(4):
            mask = tf.image.resize(features[..., channel : channel + 1], (8, 8), "bicubic").numpy()
            low, high = mask.min((1, 2, 3), keepdims=True), mask.max((1, 2, 3), keepdims=True)
            changed = {**x, name: x[name] * (mask - low) / (high - low)}
            gains.append(np.asarray(model(changed))[:, 1])
        weights = (np.exp(gains) / np.exp(gains).sum(0)).T[:, np.newaxis, np.newaxis]
        weighed = np.maximum((features * weights).sum(-1, keepdims=True), 0)
        assert_close(maps[name], tf.image.resize(weighed, (8, 8), "bicubic"), 1e-4)
