"""Batch normalisation inside the convolution before it is the same function."""

import numpy as np
import pytest
import tensorflow as tf

from tests import reference
from xplique_sal import Saliency
from xplique_sal._models.cheaper import equivalents

SHAPE = (13, 12, 4)


def randomised(model, rng):
    """Give every batch normalisation statistics that are not the first ones."""
    for layer in model._flatten_layers(include_self=False):
        if type(layer).__name__ == "BatchNormalization":
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.weights])
    return model


def chain(keras, *layers, shape=SHAPE):
    inputs = keras.layers.Input(shape)
    hidden = inputs
    for layer in layers:
        hidden = layer(hidden)
    hidden = keras.layers.Activation("tanh")(hidden)
    outputs = keras.layers.Dense(3)(keras.layers.Flatten()(hidden))
    return keras.Model(inputs, outputs)


def convolution(**options):
    settings = {"filters": 6, "kernel_size": 3, "bias_initializer": "normal", **options}
    return lambda keras, norm: (keras.layers.Conv2D(**settings), norm)


def depthwise(**options):
    settings = {"kernel_size": 3, "depth_multiplier": 2, "bias_initializer": "normal", **options}
    return lambda keras, norm: (keras.layers.DepthwiseConv2D(**settings), norm)


def padded(sides, convolved):
    return lambda keras, norm: (keras.layers.ZeroPadding2D(sides), *convolved(keras, norm))


FOLDED = {
    "convolution": convolution(),
    "without bias": convolution(use_bias=False),
    "same padding": convolution(padding="same", strides=2),
    "pointwise": convolution(kernel_size=1),
    "depthwise": depthwise(),
    "depthwise without bias": depthwise(use_bias=False, padding="same", strides=2),
    "padded": padded(((3, 3), (2, 3)), convolution(kernel_size=7, strides=2)),
    "padded as by same": padded(((1, 1), (0, 1)), convolution(strides=2)),
    "depthwise padded as by same": padded(((1, 1), (0, 1)), depthwise(strides=2)),
    "depthwise padded": padded(2, depthwise(strides=2)),
    "padded for nothing": padded(1, convolution(padding="same")),
}
AFFINE = {
    "dilated": convolution(dilation_rate=2, padding="same"),  # TensorFlow puts its output together
    "first": lambda keras, norm: (norm,),
    "after an activation": lambda keras, norm: (
        keras.layers.Conv2D(6, 3, activation="sigmoid"),
        norm,
    ),
    "after a pooling": lambda keras, norm: (keras.layers.AveragePooling2D(2), norm),
    "after a dense layer": lambda keras, norm: (keras.layers.Dense(5), norm),
    "after a series": lambda keras, norm: (
        keras.layers.Reshape((12, -1)),
        keras.layers.Conv1D(5, 3),
        norm,
    ),
    "after a volume": lambda keras, norm: (
        keras.layers.Reshape((*SHAPE, 1)),
        keras.layers.Conv3D(5, 2),
        norm,
    ),
    "after a transposed convolution": lambda keras, norm: (
        keras.layers.Conv2DTranspose(5, 3),
        norm,
    ),
}
EVERY = {**FOLDED, **AFFINE}


def maps(model, x, y, **options):
    explainer = Saliency(model, reducer=None, grad_modifier=None, **options)
    explanations, scores = explainer.explain_with_scores(x, y)
    return explanations.numpy(), scores.numpy()


def assert_same(model, x, y, **options):
    """The folded map and score are those of the unfolded explainer."""
    folded, score = maps(model, x, y, **options)
    unfolded, unfolded_score = maps(model, x, y, fold_batch_norm=False, **options)
    assert np.abs(unfolded).max() > 1e-3
    np.testing.assert_allclose(folded, unfolded, rtol=1e-4, atol=1e-5 * np.abs(unfolded).max())
    np.testing.assert_allclose(score, unfolded_score, rtol=1e-4, atol=1e-5)
    return folded


def folded_graph(model):
    spec = tf.TensorSpec([None, *model.inputs[0].shape[1:]], model.inputs[0].dtype)
    with equivalents.replacing_layers(model, fold_batch_norm=True, own_gradients=True):
        return tf.function(lambda x: model(x, training=False)).get_concrete_function(spec).graph


def is_in_graph(model, name):
    """Whether the folded model's output depends on an op of that type."""
    graph = folded_graph(model)
    waiting, seen = [tensor.op for tensor in graph.outputs], set()
    while waiting:
        op = waiting.pop()
        if op.name not in seen:
            seen.add(op.name)
            waiting += [tensor.op for tensor in op.inputs]
    types = [graph.get_operation_by_name(op).type for op in seen]
    return name in types


@pytest.mark.parametrize("kind", EVERY)
def test_map_is_the_same(keras, rng, kind):
    norm = keras.layers.BatchNormalization()
    model = randomised(chain(keras, *EVERY[kind](keras, norm)), rng)
    x = rng.normal(size=(5, *SHAPE)).astype("float32")
    y = [0, 1, 2, 1, 0]
    score = reference.class_score(model, y)
    folded, scores = maps(model, x, y)
    np.testing.assert_allclose(scores, score(tf.constant(x)), rtol=1e-4, atol=1e-5)
    expected = reference.gradient(score, x)
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(folded, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("kind", EVERY)
def test_what_is_folded(keras, rng, kind):
    norm = keras.layers.BatchNormalization()
    model = randomised(chain(keras, *EVERY[kind](keras, norm)), rng)
    # s·x has no op of its own where it is folded: that of s·filter has no batch axis.
    scaled = [
        op.type
        for op in folded_graph(model).get_operations()
        if op.type in ("Mul", "FusedBatchNormV3") and op.outputs[0].shape.rank
        if op.outputs[0].shape[0] is None
    ]
    if kind in FOLDED:
        assert not scaled
    else:
        of_images = kind not in ("after a series", "after a volume")
        assert scaled == ["FusedBatchNormV3" if of_images else "Mul"]


@pytest.mark.parametrize(
    "kind", ["padded", "padded as by same", "depthwise padded as by same", "depthwise padded"]
)
def test_zeros_around_the_image_are_left_to_the_convolution(keras, rng, kind):
    model = chain(keras, *EVERY[kind](keras, keras.layers.BatchNormalization()))
    pads = is_in_graph(model, "Pad") or is_in_graph(model, "PadV2")
    assert pads == (kind == "depthwise padded")


def test_unknown_image_size(keras, rng):
    layers = keras.layers
    inputs = layers.Input((None, None, 3))
    hidden = layers.ZeroPadding2D(((0, 1), (0, 1)))(inputs)
    hidden = layers.DepthwiseConv2D(3, strides=2)(hidden)
    hidden = layers.ReLU()(layers.BatchNormalization()(hidden))
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(hidden)))
    randomised(model, rng)
    for size in (9, 10):
        assert_same(model, rng.normal(size=(3, size, size, 3)).astype("float32"), 1)


@pytest.mark.parametrize(
    "options",
    [
        {"scale": False},
        {"center": False},
        {"scale": False, "center": False},
        {"epsilon": 1e-7},
        {"epsilon": 0.5},
    ],
    ids=str,
)
def test_settings(keras, rng, options):
    norm = keras.layers.BatchNormalization(**options)
    model = randomised(chain(keras, keras.layers.Conv2D(6, 3), norm), rng)
    norm.moving_variance.assign(rng.uniform(1e-6, 1e-3, 6))  # epsilon matters
    assert_same(model, rng.normal(size=(3, *SHAPE)).astype("float32"), 1)


def test_another_axis_than_the_channels(keras, rng):
    norm = keras.layers.BatchNormalization(axis=2)
    model = randomised(chain(keras, keras.layers.Conv2D(6, 3), norm), rng)
    assert_same(model, rng.normal(size=(3, *SHAPE)).astype("float32"), 1)


def test_float64_to_the_last_digits(keras, rng):
    options = {"dtype": "float64"}
    inputs = keras.layers.Input(SHAPE, dtype="float64")
    hidden = keras.layers.Conv2D(6, 3, **options)(inputs)
    hidden = keras.layers.BatchNormalization(**options)(hidden)
    hidden = keras.layers.Flatten(**options)(keras.layers.Activation("tanh", **options)(hidden))
    model = randomised(keras.Model(inputs, keras.layers.Dense(3, **options)(hidden)), rng)
    x = rng.normal(size=(3, *SHAPE))
    folded = maps(model, x, 1)[0]
    # The map is returned in float32; what it is computed from has twice the digits.
    expected = reference.gradient(reference.class_score(model, [1] * 3), x).astype("float32")
    np.testing.assert_allclose(folded, expected, rtol=2e-7)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_is_left_as_it_is(keras, rng, policy):
    norm = keras.layers.BatchNormalization(dtype=policy)
    model = chain(keras, keras.layers.Conv2D(6, 3, dtype=policy), norm)
    randomised(model, rng)
    x = rng.normal(size=(3, *SHAPE)).astype("float32")
    np.testing.assert_array_equal(maps(model, x, 1)[0], maps(model, x, 1, fold_batch_norm=False)[0])


def test_batch_statistics_that_a_model_insists_on(keras, rng):
    class Instance(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.norm = keras.layers.BatchNormalization(trainable=True)

        def call(self, x):
            return self.norm(x, training=True)

    model = chain(keras, keras.layers.Conv2D(6, 3), Instance())
    x = rng.normal(loc=3.0, size=(5, *SHAPE)).astype("float32")
    expected = reference.gradient(lambda x: model(x)[:, 1], x)
    folded = maps(model, x, 1, batch_size=None)[0]
    np.testing.assert_allclose(folded, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


def test_a_normalisation_of_ones_own(keras, rng):
    class Doubled(keras.layers.BatchNormalization):
        def call(self, inputs, training=None, mask=None):
            return 2 * super().call(inputs, training=training)

    model = chain(keras, keras.layers.Conv2D(6, 3), Doubled())
    x = rng.normal(size=(3, *SHAPE)).astype("float32")
    expected = reference.gradient(lambda x: model(x, training=False)[:, 1], x)
    np.testing.assert_allclose(maps(model, x, 1)[0], expected, rtol=1e-4, atol=1e-5)


def test_a_call_replaced_on_the_instance(keras, rng):
    norm = keras.layers.BatchNormalization()
    model = chain(keras, keras.layers.Conv2D(6, 3), norm)
    x = rng.normal(size=(3, *SHAPE)).astype("float32")
    before = maps(model, x, 1)[0]
    object.__setattr__(norm, "call", lambda inputs, training=None, mask=None: 3.0 * inputs)
    expected = reference.gradient(lambda x: model(x, training=False)[:, 1], x)
    after = maps(model, x, 1)[0]
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(after, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("watched", ["conv", "norm", "pad"])
def test_a_watched_layer_keeps_its_gradient(keras, rng, watched):
    layers = keras.layers
    model = chain(
        keras,
        layers.ZeroPadding2D(1, name="pad"),
        layers.Conv2D(6, 3, name="conv"),
        layers.BatchNormalization(name="norm"),
    )
    randomised(model, rng)
    x = rng.normal(size=(3, *SHAPE)).astype("float32")
    folded = assert_same(model, x, 1, wrt_layer=watched)
    expected = reference.gradient_to_layer(model, watched, x, 1)
    np.testing.assert_allclose(folded, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("explained", ["conv", "norm"])
def test_an_inner_layer_is_explained(keras, rng, explained):
    layers = keras.layers
    model = chain(keras, layers.Conv2D(6, 3, name="conv"), layers.BatchNormalization(name="norm"))
    randomised(model, rng)
    assert_same(model, rng.normal(size=(3, *SHAPE)).astype("float32"), 1, output_layer=explained)


def test_a_convolution_that_others_use_is_not_run_twice(keras, rng):
    layers = keras.layers
    inputs = layers.Input(SHAPE)
    hidden = layers.Conv2D(6, 3)(inputs)
    other = layers.Activation("tanh")(hidden)
    hidden = layers.Add()([other, layers.BatchNormalization()(hidden)])
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(hidden)))
    randomised(model, rng)
    assert_same(model, rng.normal(size=(3, *SHAPE)).astype("float32"), 1)


def test_shared_and_nested_normalisation(keras, rng):
    layers = keras.layers
    norm = layers.BatchNormalization()
    inner = keras.Sequential(
        [layers.Input((None, None, 6)), layers.Conv2D(6, 3, padding="same"), norm]
    )
    inputs = layers.Input(SHAPE)
    hidden = norm(layers.Conv2D(6, 3)(inputs))
    hidden = layers.Activation("tanh")(inner(layers.Activation("tanh")(hidden)))
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(hidden)))
    randomised(model, rng)
    assert_same(model, rng.normal(size=(3, *SHAPE)).astype("float32"), 1)


@pytest.mark.parametrize("rule", ["guided", "deconv"])
def test_backprop_modifiers_act_as_without_folding(keras, rng, rule):
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input(SHAPE),
            layers.Conv2D(6, 3),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )
    randomised(model, rng)
    x = rng.normal(size=(3, *SHAPE)).astype("float32")
    assert_same(model, x, 1, backprop_modifier=rule)


def test_new_statistics_need_no_new_trace(keras, rng):
    norm = keras.layers.BatchNormalization()
    model = randomised(chain(keras, keras.layers.Conv2D(6, 3), norm), rng)
    x = rng.normal(size=(3, *SHAPE)).astype("float32")
    before = maps(model, x, 1)[0]
    norm.moving_variance.assign(norm.moving_variance * 4.0)
    after = assert_same(model, x, 1)
    assert np.abs(after - before).max() > 1e-3


@pytest.mark.networks
@pytest.mark.parametrize(
    "name, left",
    [
        ("MobileNetV2", 0),
        ("ResNet50", 0),
        ("EfficientNetB0", 0),
        ("DenseNet121", 62),  # of joined outputs of convolutions, before the next
    ],
)
def test_normalisation_that_is_left_of_whole_networks(keras, name, left):
    # Of the size of one convolution each: only the graph is made, nothing is run.
    model = getattr(keras.applications, name)(weights=None, input_shape=(64, 64, 3))
    norms = sum(type(layer).__name__ == "BatchNormalization" for layer in model.layers)
    graph = folded_graph(model)
    assert norms > max(20, left)
    types = [op.type for op in graph.get_operations()]
    assert types.count("FusedBatchNormV3") == left
    assert graph.structured_outputs.shape == (None, 1000)


def grouped(keras, sides, rank, multiplier):
    """A convolution in groups, behind zeros, in the middle of a network with rectifiers."""
    layers = keras.layers
    settings = {"strides": 2, "use_bias": False, "name": "grouped"}
    if multiplier:
        kind = layers.DepthwiseConv2D if rank == 2 else layers.DepthwiseConv1D
        middle = kind(3, depth_multiplier=multiplier, **settings)
    else:
        middle = getattr(layers, f"Conv{rank}D")(8, 3, groups=2, **settings)
    around = getattr(layers, f"ZeroPadding{rank}D")(sides)
    first, norm = getattr(layers, f"Conv{rank}D")(4, 1), layers.BatchNormalization()
    shape = (7, 8, 9)[:rank]
    return chain(keras, first, layers.ReLU(), around, middle, norm, shape=(*shape, 3))


def passing(x, y, g):
    """The rule of a rectifier that is its derivative."""
    return tf.where(x > 0, g, tf.zeros_like(g))


@pytest.mark.filterwarnings("ignore:The backprop modifier acted")
@pytest.mark.parametrize(
    ("sides", "multiplier"),
    [(1, 0), (1, 1), (((1, 0), (1, 0)), 0), (((1, 0), (1, 0)), 2), (((0, 1), (1, 1)), 1)],
    ids=str,
)
def test_a_padded_grouped_convolution_under_a_rule(keras, rng, sides, multiplier):
    assert_rule_and_plain_agree(randomised(grouped(keras, sides, 2, multiplier), rng), rng)


@pytest.mark.filterwarnings("ignore:The backprop modifier acted")
@pytest.mark.parametrize("rank, multiplier", [(1, 0), (1, 2), (3, 0)])
def test_grouped_convolutions_of_series_and_volumes_under_a_rule(keras, rng, rank, multiplier):
    assert_rule_and_plain_agree(randomised(grouped(keras, 1, rank, multiplier), rng), rng)


def assert_rule_and_plain_agree(model, rng):
    x = rng.normal(size=(3, *model.inputs[0].shape[1:])).astype("float32")
    expected = reference.gradient(reference.class_score(model, [1, 1, 1]), x)
    rule = {"backprop_modifier": passing}
    for options in ({}, rule, {"fold_batch_norm": False, **rule}):
        actual, _ = maps(model, x, 1, **options)
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
