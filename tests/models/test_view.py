"""Every kind of model gives the map that a plain tape gives."""

import numpy as np
import pytest
import tensorflow as tf
from reference import central_differences, class_score, gradient, saliency

from xplique_sal import Saliency
from xplique_sal.attributions import GradCAM
from xplique_sal.errors import InvalidModelError, InvalidParameterError, LayerNotFoundError

CLASSES = np.array([0, 2, 1, 2, 0])


def images(rng, *shape):
    return rng.normal(size=(5, *(shape or (8, 8, 3)))).astype("float32")


def small_cnn(keras, activation="softmax", name="cnn"):
    return keras.Sequential(
        [
            keras.layers.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3, activation="tanh", name="conv"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, name="scores"),
            keras.layers.Activation(activation, name="probabilities"),
        ],
        name=name,
    )


def assert_close(map_, expected, rtol=1e-5):
    map_ = np.asarray(map_)
    assert map_.dtype == np.float32
    assert map_.shape == expected.shape
    scale = np.abs(expected).max()
    assert scale > 0
    np.testing.assert_allclose(map_, expected, rtol=rtol, atol=rtol * scale)


def test_sequential_of_images(keras, rng):
    model, x = small_cnn(keras, "linear"), images(rng)
    assert_close(Saliency(model)(x, CLASSES), saliency(class_score(model, CLASSES), x))


def test_sequential_that_was_never_called(keras, rng):
    model = keras.Sequential([keras.layers.Dense(6, activation="tanh"), keras.layers.Dense(3)])
    x = images(rng, 4)
    assert not model.built
    maps = Saliency(model)(x, CLASSES)
    assert_close(maps, saliency(class_score(model, CLASSES), x))


def test_sequential_that_was_called_on_one_batch_size(keras, rng):
    model = keras.Sequential([keras.layers.Dense(6, activation="tanh"), keras.layers.Dense(3)])
    x = images(rng, 4)
    model(x[:2])
    maps = Saliency(model, batch_size=3)(x, CLASSES)
    assert_close(maps, saliency(class_score(model, CLASSES), x))


def test_output_layer_equals_a_model_cut_by_hand(keras, rng):
    model, x = small_cnn(keras), images(rng)
    cut = keras.Model(model.inputs, model.get_layer("scores").output)
    expected = saliency(class_score(cut, CLASSES), x)
    with pytest.warns(UserWarning, match="logits=True"):
        of_softmax = Saliency(model)(x, CLASSES)
    for layer in (-2, "scores"):
        assert_close(Saliency(model, output_layer=layer)(x, CLASSES), expected)
        assert_close(Saliency(model, layer)(x, CLASSES), expected)
    assert_close(Saliency(cut)(x, CLASSES), expected)
    assert not np.allclose(of_softmax, expected, rtol=0.1)
    assert_close(of_softmax, saliency(class_score(model, CLASSES), x))


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "log_softmax"])
def test_logits_of_a_fused_activation(keras, rng, activation):
    model = keras.Sequential(
        [
            keras.layers.Input((8, 8, 3)),
            keras.layers.Flatten(),
            keras.layers.Dense(3, activation=getattr(tf.nn, activation), name="fused"),
        ]
    )
    x = images(rng)
    kernel, bias = (w.numpy() for w in model.layers[-1].weights)
    linear = lambda x: tf.gather(  # noqa: E731
        tf.reshape(x, [5, -1]) @ kernel + bias, CLASSES, batch_dims=1
    )
    assert_close(Saliency(model, logits=True)(x, CLASSES), saliency(linear, x))
    _, scores = Saliency(model, logits=True).explain_with_scores(x, CLASSES)
    np.testing.assert_allclose(scores, linear(x), rtol=1e-4, atol=1e-5)


def test_logits_behind_layers_that_move_values(keras, rng):
    inputs = keras.layers.Input((4, 3))
    scores = keras.layers.Dense(3, activation="softmax")(inputs)
    moved = keras.layers.Permute((2, 1))(keras.layers.Reshape((4, 3))(scores))
    model = keras.Model(inputs, keras.layers.Flatten()(moved))
    x = images(rng, 4, 3)
    kernel, bias = (w.numpy() for w in model.layers[1].weights)

    def logits(x):
        return tf.reshape(tf.transpose(x @ kernel + bias, [0, 2, 1]), [5, 12])[:, 7]

    assert_close(Saliency(model, logits=True)(x, 7), saliency(logits, x))


def test_logits_of_a_linear_output_changes_nothing(keras, rng):
    model, x = small_cnn(keras, "linear"), images(rng)
    assert_close(Saliency(model, logits=True)(x, CLASSES), saliency(class_score(model, CLASSES), x))


@pytest.mark.parametrize(
    "activation",
    [
        lambda x: tf.exp(x) / tf.reduce_sum(tf.exp(x), -1, keepdims=True),
        lambda x: 0.5 * tf.tanh(0.5 * x) + 0.5,
        tf.function(tf.nn.softmax),
        tf.tanh,
    ],
    ids=["by_hand", "by_tanh", "hidden_in_a_function", "tanh"],
)
def test_logits_that_cannot_be_found(keras, rng, activation):
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3, activation)])
    with pytest.raises(InvalidParameterError, match="output_layer"):
        Saliency(model, logits=True)(images(rng, 4), CLASSES)


def slashed(keras):
    """A name as Keras 2 gave them to the layers of its applications; Keras 3 refuses slashes."""
    return "conv1/conv" if keras.__name__ == "tf_keras" else "conv1_conv"


def nested(keras):
    backbone = keras.Sequential(
        [
            keras.layers.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3, activation="tanh", name="conv"),
            keras.layers.Conv2D(4, 3, activation="tanh", name=slashed(keras)),
        ],
        name="backbone",
    )
    inputs = keras.layers.Input((8, 8, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(backbone(inputs))
    return keras.Model(inputs, keras.layers.Dense(3, name="scores")(pooled)), backbone


def test_nested_model(keras, rng):
    model, _ = nested(keras)
    x = images(rng)
    assert_close(Saliency(model)(x, CLASSES), saliency(class_score(model, CLASSES), x))


def test_filter_of_a_layer_inside_a_nested_model(keras, rng):
    model, backbone = nested(keras)
    x = images(rng)
    for name in ("conv", slashed(keras)):
        cut = keras.Model(backbone.inputs, backbone.get_layer(name).output)
        expected = saliency(lambda x, cut=cut: tf.reduce_mean(cut(x)[..., 2], [1, 2]), x)
        assert_close(Saliency(model, f"backbone/{name}")(x, 2), expected)
    several = Saliency(model, f"backbone/{name}").explain_outputs(x, [0, 2])
    assert several.shape == (5, 2, 8, 8, 1)
    assert_close(several[:, 1], expected)


def test_layer_that_does_not_exist_names_the_nearest(keras):
    model, _ = nested(keras)
    with pytest.raises(LayerNotFoundError, match="'backbone/conv'"):
        Saliency(model, "conv")
    with pytest.raises(LayerNotFoundError, match="'scores'"):
        Saliency(model, "score")
    with pytest.raises(LayerNotFoundError, match="layers"):
        Saliency(model, 17)


def subclassed(keras):
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.blocks = [keras.layers.Dense(6, activation="tanh"), keras.layers.Dense(5)]
            self.scores = keras.layers.Dense(3, name="scores")
            self.dropout = keras.layers.Dropout(0.5)

        def call(self, inputs, training=None):
            for block in self.blocks:
                inputs = self.dropout(block(inputs), training=training)
            return keras.activations.softmax(self.scores(inputs))

    return Subclassed()


def test_subclassed_model(keras, rng):
    model, x = subclassed(keras), images(rng, 4)
    with pytest.warns(UserWarning, match="softmax"):
        maps = Saliency(model)(x, CLASSES)
    assert_close(maps, saliency(class_score(model, CLASSES), x))

    def logits(x):
        for block in model.blocks:
            x = block(x)
        return tf.gather(model.scores(x), CLASSES, batch_dims=1)

    expected = saliency(logits, x)
    assert_close(Saliency(model, logits=True)(x, CLASSES), expected)
    assert_close(Saliency(model, "scores")(x, CLASSES), expected)


def test_subclassed_tf_keras_model_that_branches_on_a_tensor(rng):
    import tf_keras

    class Branching(tf_keras.Model):
        def __init__(self):
            super().__init__()
            self.scores = tf_keras.layers.Dense(3)

        def call(self, inputs):
            if tf.reduce_sum(inputs) > 0:
                inputs = 2.0 * inputs
            return self.scores(inputs)

    model, x = Branching(), np.abs(images(rng, 4))
    maps = Saliency(model)(x, 1)
    np.testing.assert_allclose(maps, np.tile(2 * np.abs(model.scores.kernel[:, 1]), (5, 1)))


def two_inputs(keras):
    left = keras.layers.Input((8, 8, 3), name="left")
    right = keras.layers.Input((4,), name="aside")
    seen = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(left))
    joined = keras.layers.Concatenate()([seen, right])
    return keras.Model([left, right], keras.layers.Dense(3)(joined))


def two_input_maps(model, left, right):
    left, right = tf.constant(left), tf.constant(right)
    return (
        saliency(lambda x: model([x, right], training=False)[:, 1], left),
        saliency(lambda x: model([left, x], training=False)[:, 1], right),
    )


def test_two_inputs_as_list_tuple_and_dict(keras, rng):
    model = two_inputs(keras)
    left, right = images(rng), images(rng, 4)
    expected = two_input_maps(model, left, right)
    for maps in (
        Saliency(model)([left, right], 1),
        Saliency(model, batch_size=2)([left, right], 1),
        Saliency(model)(tf.data.Dataset.from_tensor_slices(((left, right),)), 1),
    ):
        assert isinstance(maps, (list, tuple))
        assert_close(maps[0], expected[0])
        assert_close(maps[1], expected[1])
    maps = Saliency(model)({"aside": right, "left": left}, 1)
    assert set(maps) == {"left", "aside"}
    assert_close(maps["left"], expected[0])
    assert_close(maps["aside"], expected[1])


def test_inputs_that_the_model_takes_as_a_dict(keras, rng):
    left = keras.layers.Input((4,), name="z")
    right = keras.layers.Input((4,), name="a")
    model = keras.Model(
        {"z": left, "a": right},
        keras.layers.Dense(3)(keras.layers.Concatenate()([left, keras.activations.tanh(right)]))
        if keras.__name__ == "tf_keras"
        else keras.layers.Dense(3)(keras.layers.Concatenate()([left, keras.ops.tanh(right)])),
    )
    z, a = tf.constant(images(rng, 4)), tf.constant(images(rng, 4))
    maps = Saliency(model)({"z": z, "a": a}, 1)
    assert_close(maps["z"], saliency(lambda x: model({"z": x, "a": a})[:, 1], z))
    assert_close(maps["a"], saliency(lambda x: model({"z": z, "a": x})[:, 1], a))


def test_integer_input_beside_a_float_has_no_map(keras, rng):
    numbers = keras.layers.Input((4,), name="numbers")
    kinds = keras.layers.Input((2,), dtype="int32", name="kinds")
    embedded = keras.layers.Flatten()(keras.layers.Embedding(7, 3)(kinds))
    model = keras.Model(
        [numbers, kinds], keras.layers.Dense(3)(keras.layers.Concatenate()([numbers, embedded]))
    )
    x = images(rng, 4)
    maps = Saliency(model)([x, np.ones((5, 2), "int64")], 2)
    assert maps[1] is None
    np.testing.assert_allclose(
        maps[0], np.tile(np.abs(model.layers[-1].kernel[:4, 2]), (5, 1)), rtol=1e-5
    )


def two_outputs(keras, as_dict=False):
    inputs = keras.layers.Input((4,))
    hidden = keras.layers.Dense(5, activation="tanh")(inputs)
    first = keras.layers.Dense(3, name="first")(hidden)
    second = keras.layers.Dense(2, name="second")(hidden)
    return keras.Model(inputs, {"a": first, "b": second} if as_dict else [first, second])


def test_two_outputs(keras, rng):
    model, x = two_outputs(keras), images(rng, 4)
    expected = saliency(lambda x: model(x)[1][:, 1], x)
    for output in (1, -1, "second"):
        assert_close(Saliency(model, output=output)(x, 1), expected)
    with pytest.raises(InvalidModelError, match="output="):
        Saliency(model)(x, 1)
    with pytest.raises(InvalidParameterError, match="'second'"):
        Saliency(model, output="third")(x, 1)


def test_two_outputs_in_a_dict(keras, rng):
    model, x = two_outputs(keras, as_dict=True), images(rng, 4)
    expected = saliency(lambda x: model(x)["b"][:, 1], x)
    assert_close(Saliency(model, output="b")(x, 1), expected)
    with pytest.raises(InvalidModelError, match="'a', 'b'"):
        Saliency(model)(x, 1)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN", "Conv1D", "Attention"])
def test_time_series(keras, rng, kind):
    inputs = keras.layers.Input((4, 2))
    if kind == "Conv1D":
        hidden = keras.layers.GlobalMaxPooling1D()(keras.layers.Conv1D(4, 3)(inputs))
    elif kind == "Attention":
        attended = keras.layers.MultiHeadAttention(2, 3)(inputs, inputs)
        hidden = keras.layers.GlobalAveragePooling1D()(attended)
    else:
        hidden = getattr(keras.layers, kind)(4)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3)(hidden))
    x = images(rng, 4, 2)
    assert_close(Saliency(model)(x, CLASSES), saliency(class_score(model, CLASSES), x))
    several = Saliency(model).explain_outputs(x)
    for output in range(3):
        assert_close(several[:, output], saliency(lambda x, o=output: model(x)[:, o], x))


def test_time_series_of_any_length_share_a_trace(keras, rng):
    from xplique_sal._tracing.programs import trace_count

    inputs = keras.layers.Input((None, 2))
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.LSTM(4)(inputs)))
    explainer = Saliency(model)
    explainer(images(rng, 6, 2), CLASSES)
    before = trace_count()
    x = images(rng, 9, 2)
    assert_close(explainer(x, CLASSES), saliency(class_score(model, CLASSES), x))
    assert trace_count() == before


def test_embedding_with_wrt_layer(keras, rng):
    model = keras.Sequential(
        [
            keras.layers.Input((6,), dtype="int32"),
            keras.layers.Embedding(10, 4, name="embedding"),
            keras.layers.LSTM(5),
            keras.layers.Dense(3),
        ]
    )
    tokens = rng.integers(0, 10, (5, 6))
    embedded = model.layers[0](tokens)

    def score(x):
        return tf.gather(model.layers[2](model.layers[1](x)), CLASSES, batch_dims=1)

    maps = Saliency(model, wrt_layer="embedding")(tokens, CLASSES)
    assert_close(maps, saliency(score, embedded))


def test_inner_features_with_wrt_layer(keras, rng):
    model, backbone = nested(keras)
    x = images(rng)
    inner = keras.Model(backbone.inputs, backbone.get_layer("conv").output)
    last = backbone.get_layer(slashed(keras))

    def score(features):
        pooled = tf.reduce_mean(last(features), [1, 2])
        return tf.gather(model.get_layer("scores")(pooled), CLASSES, batch_dims=1)

    expected = saliency(score, inner(tf.constant(x)))
    assert_close(Saliency(model, wrt_layer="backbone/conv")(x, CLASSES), expected)
    both = Saliency(model, wrt_layer=["backbone/conv", "backbone"])(x, CLASSES)
    assert_close(both[0], expected)
    assert both[1].shape == (5, 4, 4, 1)


def test_volumes(keras, rng):
    model = keras.Sequential(
        [
            keras.layers.Input((4, 5, 6, 2)),
            keras.layers.Conv3D(3, 2, activation="tanh"),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    x = images(rng, 4, 5, 6, 2)
    assert_close(Saliency(model)(x, CLASSES), saliency(class_score(model, CLASSES), x))


def test_reducers_of_channels(keras, rng):
    model, x = small_cnn(keras, "linear"), images(rng)
    plain = gradient(class_score(model, CLASSES), x)
    for reducer in ("max", "mean", "min", "sum"):
        expected = getattr(np, reducer)(plain, axis=-1, keepdims=True)
        maps = Saliency(model, reducer=reducer, grad_modifier=None)(x, CLASSES)
        assert_close(maps, expected, rtol=1e-4)
    assert_close(Saliency(model, reducer=None)(x, CLASSES), np.abs(plain))


def test_channels_first(rng):
    import keras

    model = keras.Sequential(
        [
            keras.layers.Input((3, 8, 8)),
            keras.layers.Conv2D(4, 3, activation="tanh", data_format="channels_first"),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    x = images(rng, 3, 8, 8)
    expected = np.abs(gradient(class_score(model, CLASSES), x)).max(1, keepdims=True)
    assert_close(Saliency(model)(x, CLASSES), expected)
    first_filter = Saliency(model, 0)(x, 1)
    score = lambda x: tf.reduce_mean(model.layers[0](x)[:, 1], [1, 2])  # noqa: E731
    assert_close(first_filter, np.abs(gradient(score, x)).max(1, keepdims=True))


def test_channels_first_behind_a_permute(keras, rng):
    layers = [
        keras.layers.Permute((2, 3, 1)),
        keras.layers.Conv2D(4, 3, activation="tanh", name="conv"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(3),
    ]
    model = keras.Sequential([keras.layers.Input((3, 6, 8)), *layers])
    last = keras.Sequential([keras.layers.Input((6, 8, 3)), *layers[1:]])
    x = images(rng, 3, 6, 8)
    expected = np.abs(gradient(class_score(model, CLASSES), x)).max(1, keepdims=True)
    assert_close(Saliency(model, channel_axis=1)(x, CLASSES), expected)
    of_layer = Saliency(last, wrt_layer="conv")(np.moveaxis(x, 1, -1), CLASSES)
    assert_close(Saliency(model, wrt_layer="conv", channel_axis=1)(x, CLASSES), of_layer)
    cam = GradCAM(last, relu=False)(np.moveaxis(x, 1, -1), CLASSES)
    assert_close(GradCAM(model, relu=False, channel_axis=1)(x, CLASSES), np.moveaxis(cam, -1, 1))
    with pytest.raises(InvalidParameterError, match="channel_axis"):
        Saliency(model, channel_axis=2)


def test_uint8_images(keras, rng):
    model = small_cnn(keras, "linear")
    x = rng.integers(0, 255, (5, 8, 8, 3), dtype=np.uint8)
    expected = saliency(class_score(model, CLASSES), x.astype("float32"))
    assert_close(Saliency(model)(x, CLASSES), expected)


def test_float64_model_against_central_differences(keras, rng):
    model = keras.Sequential(
        [
            keras.layers.Input((4,), dtype="float64"),
            keras.layers.Dense(6, activation="tanh", dtype="float64"),
            keras.layers.Dense(3, dtype="float64"),
        ]
    )
    x = rng.normal(size=(5, 4))
    expected = central_differences(lambda x: model(x).numpy()[np.arange(5), CLASSES], x)
    assert_close(Saliency(model, grad_modifier=None)(x, CLASSES), expected, rtol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(keras, rng, policy):
    def build(policy):
        return keras.Sequential(
            [
                keras.layers.Input((8,)),
                keras.layers.Dense(16, activation="tanh", dtype=policy),
                keras.layers.Dense(3, dtype="float32"),
            ]
        )

    mixed, exact = build(policy), build("float32")
    exact.set_weights(mixed.get_weights())
    x = images(rng, 8)
    expected = saliency(class_score(exact, CLASSES), x)
    error = np.abs(Saliency(mixed)(x, CLASSES) - expected).max() / expected.max()
    assert error < {"mixed_bfloat16": 0.03, "mixed_float16": 0.004}[policy]


def test_small_gradients_in_float16_do_not_underflow(keras, rng):
    model = keras.Sequential(
        [keras.layers.Input((8,)), keras.layers.Dense(1, dtype="mixed_float16")]
    )
    model.set_weights([np.full((8, 1), 2.0**-10, "float32"), np.zeros(1, "float32")])

    def tiny(f, x, y):
        return f(x)[:, 0] * 2.0**-16

    maps = Saliency(model, operator=tiny)(images(rng, 8))
    np.testing.assert_allclose(maps, 2.0**-26, rtol=1e-6)


def test_large_gradients_in_float16_do_not_overflow(keras, rng):
    model = keras.Sequential(
        [keras.layers.Input((8,)), keras.layers.Dense(1, dtype="mixed_float16")]
    )
    model.set_weights([np.full((8, 1), 100.0, "float32"), np.zeros(1, "float32")])
    np.testing.assert_allclose(Saliency(model)(images(rng, 8)), 100.0)


def test_shared_layer_needs_a_choice(keras, rng):
    shared = keras.layers.Dense(4, name="shared")
    inputs = keras.layers.Input((4,))
    hidden = shared(inputs)
    hidden = keras.layers.Activation("tanh")(hidden)
    model = keras.Model(inputs, keras.layers.Dense(3)(shared(hidden)))
    x = images(rng, 4)
    with pytest.raises(InvalidModelError, match="'shared:1'"):
        Saliency(model, "shared")(x, 0)
    first = saliency(lambda x: shared(x)[:, 1], x)
    second = saliency(lambda x: shared(tf.tanh(shared(x)))[:, 1], x)
    assert_close(Saliency(model, "shared:0")(x, 1), first)
    assert_close(Saliency(model, "shared:1")(x, 1), second)
    with pytest.raises(LayerNotFoundError, match="'shared:0'"):
        Saliency(model, "shared:2")(x, 1)


def test_layer_called_in_a_loop_is_an_error(keras, rng):
    class Cell(keras.layers.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.inner = keras.layers.Dense(3, name="inner")
            self.state_size = 3
            self.output_size = 3

        def build(self, shape):
            self.inner.build(shape)
            self.built = True

        def call(self, inputs, states, training=None):
            output = self.inner(inputs)
            return output, [output]

    inputs = keras.layers.Input((4, 2))
    model = keras.Model(inputs, keras.layers.RNN(Cell(name="cell"), name="rnn")(inputs))
    with pytest.raises(InvalidModelError, match="loop"):
        Saliency(model, "rnn/cell/inner")(images(rng, 4, 2), 0)


def test_tf_module(rng):
    class Module(tf.Module):
        def __init__(self):
            super().__init__()
            self.weight = tf.Variable(rng.normal(size=(4, 3)), dtype=tf.float32)

        def __call__(self, x):
            return tf.tanh(x @ self.weight)

    module, x = Module(), images(rng, 4)
    expected = saliency(lambda x: tf.gather(module(x), CLASSES, batch_dims=1), x)
    assert_close(Saliency(module)(x, CLASSES), expected)


def test_saved_models(keras, rng, tmp_path):
    model, x = small_cnn(keras, "linear"), images(rng)
    expected = saliency(class_score(model, CLASSES), x)
    model.export(str(tmp_path / "exported"))
    assert_close(Saliency(tf.saved_model.load(str(tmp_path / "exported")))(x, CLASSES), expected)
    if keras.__name__ == "tf_keras":
        tf.saved_model.save(model, str(tmp_path / "saved"))
        assert_close(Saliency(tf.saved_model.load(str(tmp_path / "saved")))(x, CLASSES), expected)


def test_outputs_of_an_exported_model_keep_their_order(keras, rng, tmp_path):
    inputs = keras.layers.Input((4,))
    hidden = keras.layers.Dense(8, activation="tanh")(inputs)
    model = keras.Model(inputs, [keras.layers.Dense(3)(hidden) for _ in range(11)])
    model.export(str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    x = rng.normal(size=(3, 4)).astype("float32")
    for output in (0, 1, 2, 10):
        expected = Saliency(model, output=output).explain(x, 1)
        assert_close(Saliency(loaded, output=output).explain(x, 1), expected)


def test_model_that_needs_a_static_batch_size(keras, rng):
    class Static(keras.Model):
        def __init__(self):
            super().__init__()
            self.scores = keras.layers.Dense(3)

        def call(self, inputs):
            seen.append(inputs.shape[0])
            return self.scores(tf.reshape(inputs, [int(inputs.shape[0]), 4]))

    seen = []
    model, x = Static(), images(rng, 2, 2)
    expected = np.abs(gradient(lambda x: model(x)[:, 1], x))
    model(x)
    seen.clear()
    assert_close(Saliency(model, batch_size=2)(x, 1), expected)
    assert set(seen) == {None, 2}


def test_functional_model_with_a_fixed_batch_size(keras, rng):
    inputs = keras.layers.Input(batch_shape=(3, 4))
    model = keras.Model(inputs, keras.layers.Dense(3, activation="tanh")(inputs))
    x = images(rng, 4)
    padded = np.concatenate([x, x[-1:]])
    expected = np.concatenate(
        [
            saliency(lambda x: model(x)[:, 1], padded[:3]),
            saliency(lambda x: model(x)[:, 1], padded[3:]),
        ]
    )[:5]
    assert_close(Saliency(model)(x, 1), expected)
    _, scores = Saliency(model).explain_with_scores(x, 1)
    np.testing.assert_allclose(
        scores, np.r_[model(padded[:3])[:, 1], model(padded[3:])[:, 1]][:5], rtol=1e-5
    )


def test_f_is_what_is_explained_and_differentiable(keras, rng):
    model, x = small_cnn(keras), images(rng)
    explainer = Saliency(model, logits=True)
    cut = keras.Model(model.inputs, model.get_layer("scores").output)
    np.testing.assert_allclose(explainer.model(x), cut(tf.constant(x)), rtol=1e-5, atol=1e-6)
    expected = gradient(class_score(cut, CLASSES), x)
    assert_close(
        gradient(lambda x: tf.gather(explainer.model(x), CLASSES, batch_dims=1), x), expected
    )


@pytest.mark.parametrize("thing", [None, 3, "model", dict, tf.Module(), np.ones(3)])
def test_what_is_not_a_model_is_refused(thing):
    with pytest.raises(InvalidModelError, match="Keras"):
        Saliency(thing)


def test_estimators_of_other_libraries_are_refused():
    linear_model = pytest.importorskip("sklearn.linear_model")
    with pytest.raises(InvalidModelError, match="black-box"):
        Saliency(linear_model.LogisticRegression())


def test_a_layer_inside_time_distributed_has_the_time_steps(keras, rng):
    inner = keras.layers.Dense(3, name="inner")
    inputs = keras.layers.Input((4, 5))
    hidden = keras.layers.TimeDistributed(inner, name="steps")(inputs)
    model = keras.Model(inputs, keras.layers.Flatten()(hidden))
    x = images(rng, 4, 5)
    for explained in ({"output_layer": "steps"}, {"wrt_layer": "steps"}):
        within = {name: "steps/inner" for name in explained}
        assert_close(Saliency(model, **within)(x, 1), Saliency(model, **explained)(x, 1))
    assert_close(
        Saliency(model, "steps")(x, 1), saliency(lambda x: tf.reduce_mean(inner(x)[..., 1], 1), x)
    )


def test_layers_of_one_name_are_told_apart(keras, rng):
    def branch():
        return keras.Sequential(
            [keras.layers.Input((4,)), keras.layers.Dense(3, name="dense")], name="branch"
        )

    first, second = branch(), branch()
    joined = keras.layers.Concatenate()
    inputs = keras.layers.Input((4,))
    left = keras.Model(inputs, first(inputs), name="left")
    right = keras.Model(inputs, second(inputs), name="right")
    model = keras.Model(inputs, joined([left(inputs), right(inputs)]))
    x = images(rng, 4)
    for layer in (first.layers[0], second.layers[0]):
        expected = saliency(lambda x, layer=layer: layer(x)[:, 1], x)
        assert_close(Saliency(model, layer)(x, 1), expected)


def test_f_of_a_model_that_needs_a_static_batch_size(keras, rng):
    class Static(keras.Model):
        def __init__(self):
            super().__init__()
            self.scores = keras.layers.Dense(3)

        def call(self, inputs):
            return self.scores(tf.reshape(inputs, [int(inputs.shape[0]), 4]))

    model, x = Static(), images(rng, 2, 2)
    np.testing.assert_allclose(Saliency(model).model(x), model(x), rtol=1e-5, atol=1e-6)
