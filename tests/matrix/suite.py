"""Every mechanism once, by value, on both Kerases: what each combination of versions must pass.

It needs the package's own dependencies and pytest, and imports nothing of the package that is not
public, so that it says of a version of TensorFlow or Keras whether it works, and of nothing else.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import threading

import numpy as np
import pytest
import tensorflow as tf
from reference import class_score, gradient, saliency

from xplique_sal import Saliency, attributions, errors
from xplique_sal.losses import ActivationMaximization
from xplique_sal.visualization import (
    visualize_class,
    visualize_saliency,
    visualize_saliency_with_losses,
)

CLASSES = np.array([0, 2, 1, 2, 0])
PLAIN = {"grad_modifier": None, "reducer": None}


def drawn(rng, *shape):
    return rng.normal(size=(5, *shape)).astype("float32")


def assert_close(found, expected, tolerance=1e-4):
    expected = np.asarray(expected)
    scale = np.abs(expected).max()
    assert scale > 0
    assert np.shape(found) == expected.shape
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * scale)


def convolutional(keras, activation=None, name="convolutional"):
    return keras.Sequential(
        [
            keras.layers.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3, activation="tanh", name="conv"),
            keras.layers.GlobalAveragePooling2D(name="mean"),
            keras.layers.Dense(3, activation=activation, name="scores"),
        ],
        name=name,
    )


def rectified(keras):
    """Two layers with a ReLU between them."""
    return keras.Sequential(
        [
            keras.layers.Input((4,)),
            keras.layers.Dense(8, activation="relu", name="hidden"),
            keras.layers.Dense(3, name="scores"),
        ]
    )


def functional(keras):
    x = keras.layers.Input((8, 8, 3))
    branches = [keras.layers.Conv2D(2, 3, activation="tanh")(x) for _ in range(2)]
    features = keras.layers.Flatten()(keras.layers.Concatenate()(branches))
    return keras.Model(x, keras.layers.Dense(3)(keras.layers.Dropout(0.5)(features)))


def deferred(keras):
    return keras.Sequential(
        [keras.layers.Flatten(), keras.layers.Dense(6, "tanh"), keras.layers.Dense(3)]
    )


def subclassed(keras):
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.blocks = [keras.layers.Conv2D(2, 3, activation="tanh") for _ in range(2)]
            self.scores = keras.layers.Dense(3, name="scores")

        def call(self, x, training=None):
            for block in self.blocks:
                x = block(x)
            self.features = x
            return self.scores(tf.reduce_mean(x, [1, 2]))

    return Subclassed()


def nested(keras):
    backbone = keras.Sequential(
        [keras.layers.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, activation="tanh", name="conv")],
        name="backbone",
    )
    x = keras.layers.Input((8, 8, 3))
    return keras.Model(x, keras.layers.Dense(3)(keras.layers.Flatten()(backbone(x))))


MODELS = [convolutional, functional, deferred, subclassed, nested]


# ── models of every kind ──


@pytest.mark.parametrize("make", MODELS)
def test_a_keras_model(keras, rng, make):
    model, x = make(keras), drawn(rng, 8, 8, 3)
    explainer = Saliency(model)
    maps = explainer(x, CLASSES)
    assert_close(maps, saliency(class_score(model, CLASSES), x))
    weights = model.get_weights()
    # Trained, and explained anew: no number of the training is missing, none is in the way.
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, CLASSES, epochs=2, verbose=0)
    assert any(np.any(a != b) for a, b in zip(weights, model.get_weights(), strict=True))
    assert_close(explainer(x, CLASSES), saliency(class_score(model, CLASSES), x))


def test_several_inputs_and_outputs(keras, rng):
    a, b = keras.layers.Input((4,), name="a"), keras.layers.Input((3,), name="b")
    hidden = keras.layers.Dense(6, activation="tanh")(keras.layers.Concatenate()([a, b]))
    outputs = [keras.layers.Dense(3, name="first")(hidden), keras.layers.Dense(2)(hidden)]
    model, x, y = keras.Model([a, b], outputs), drawn(rng, 4), drawn(rng, 3)
    with pytest.raises(errors.InvalidModelError):
        Saliency(model)([x, y], CLASSES)
    for output in (0, "first"):
        maps = Saliency(model, output=output)([x, y], CLASSES)

        def score(x, y):
            scores = model([tf.convert_to_tensor(x), tf.convert_to_tensor(y)])[0]
            return tf.gather(scores, CLASSES, batch_dims=1)

        assert_close(maps[0], np.abs(gradient(lambda x: score(x, y), x)))
        assert_close(maps[1], np.abs(gradient(lambda y: score(x, y), y)))
    of_a_dict = keras.Model({"a": a, "b": b}, outputs[0])
    assert_close(Saliency(of_a_dict)({"a": x, "b": y}, CLASSES)["b"], maps[1])


def test_sequences(keras, rng):
    tokens = rng.integers(0, 9, (5, 6))
    model = keras.Sequential(
        [
            keras.layers.Input((6,), dtype="int32"),
            keras.layers.Embedding(9, 4, mask_zero=True, name="embedding"),
            keras.layers.LSTM(5),
            keras.layers.Dense(3),
        ]
    )
    with pytest.raises(errors.NoGradientError, match="wrt_layer"):
        Saliency(model)(tokens, CLASSES)
    maps = Saliency(model, wrt_layer="embedding", **PLAIN)(tokens, CLASSES)
    vectors = model.get_layer("embedding")(tokens).numpy()
    mask, rest = tokens != 0, model.layers[-2:]

    def score(vectors):
        return tf.gather(rest[1](rest[0](vectors, mask=mask)), CLASSES, batch_dims=1)

    assert_close(maps, gradient(score, vectors))


def test_convolutions_and_recurrences_over_time(keras, rng):
    x = keras.layers.Input((7, 2))
    features = keras.layers.Conv1D(4, 3, padding="same", activation="tanh")(x)
    features = keras.layers.Bidirectional(keras.layers.GRU(3, return_sequences=True))(features)
    features = keras.layers.TimeDistributed(keras.layers.Dense(3))(features)
    model = keras.Model(x, keras.layers.Dense(3)(keras.layers.Flatten()(features)))
    x = drawn(rng, 7, 2)
    assert_close(Saliency(model)(x, CLASSES), saliency(class_score(model, CLASSES), x))


def test_attention_and_layer_normalisation(keras, rng):
    x = keras.layers.Input((6, 4))
    attended = keras.layers.MultiHeadAttention(2, 3)(x, x)
    normal = keras.layers.LayerNormalization()(keras.layers.Add()([x, attended]))
    model = keras.Model(x, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling1D()(normal)))
    x = drawn(rng, 6, 4)
    assert_close(Saliency(model)(x, CLASSES), saliency(class_score(model, CLASSES), x))


def test_modules_and_saved_models(keras, rng, tmp_path):
    x = drawn(rng, 4)

    class Module(tf.Module):
        def __init__(self):
            super().__init__()
            self.w = tf.Variable(rng.normal(size=(4, 3)).astype("float32"))

        @tf.function(input_signature=[tf.TensorSpec((None, 4))])
        def __call__(self, x):
            return tf.tanh(x @ self.w)

    module = Module()
    score = lambda x: tf.gather(module(x), CLASSES, batch_dims=1)  # noqa: E731
    assert_close(Saliency(module)(x, CLASSES), saliency(score, x))
    tf.saved_model.save(module, str(tmp_path / "module"))
    loaded = tf.saved_model.load(str(tmp_path / "module"))
    assert_close(Saliency(loaded)(x, CLASSES), saliency(score, x))
    model = rectified(keras)
    model.export(str(tmp_path / "exported"))
    loaded = tf.saved_model.load(str(tmp_path / "exported"))
    assert_close(Saliency(loaded)(x, CLASSES), saliency(class_score(model, CLASSES), x))


@pytest.mark.parametrize(
    "make, ending", [(convolutional, "h5"), (functional, "keras"), (nested, "keras")]
)
def test_a_model_that_was_saved_and_loaded(keras, rng, tmp_path, make, ending):
    model, x, path = make(keras), drawn(rng, 8, 8, 3), tmp_path / f"model.{ending}"
    expected = Saliency(model)(x, CLASSES)
    model.save(str(path))
    loaded = keras.models.load_model(str(path))
    assert_close(Saliency(loaded)(x, CLASSES), expected)
    assert_close(Saliency(loaded, -2, reducer=None)(x, 1), Saliency(model, -2, reducer=None)(x, 1))


@pytest.mark.parametrize("policy", ["mixed_float16", "float64"])
def test_other_precisions(keras, rng, policy):
    layers = [keras.layers.Dense(8, "tanh", dtype=policy), keras.layers.Dense(3, dtype=policy)]
    model, x = keras.Sequential([keras.layers.Input((4,), dtype="float32"), *layers]), drawn(rng, 4)
    maps = Saliency(model)(x, CLASSES)
    assert maps.dtype == tf.float32
    plain = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(8, "tanh")])
    plain.add(keras.layers.Dense(3))
    plain.set_weights(model.get_weights())
    expected = saliency(class_score(plain, CLASSES), x)
    assert_close(maps, expected, 0.02 if policy == "mixed_float16" else 1e-4)


def test_a_network_as_it_comes(keras, rng):
    model = keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, weights=None, classes=4)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            beta, mean = rng.normal(0, 0.3, beta.shape), rng.normal(0, 0.1, mean.shape)
            layer.set_weights([gamma, beta, mean, rng.uniform(0.02, 0.1, variance.shape)])
    x = drawn(rng, 32, 32, 3)[:2]
    cut = keras.Model(model.input, model.layers[-2].output)
    dense = model.layers[-1]
    kernel, bias = dense.get_weights()
    expected = saliency(lambda x: (cut(x, training=False) @ kernel + bias)[:, 1], x)
    assert_close(Saliency(model, logits=True)(x, 1), expected, 1e-3)


# ── what is explained, and with respect to what ──


def test_an_output_layer_equals_a_model_cut_by_hand(keras, rng):
    for make, layer in ((convolutional, "conv"), (nested, "backbone/conv")):
        model, x = make(keras), drawn(rng, 8, 8, 3)
        conv = (model.get_layer("backbone") if make is nested else model).get_layer("conv")
        maps = Saliency(model, layer)(x, 2)
        assert_close(maps, saliency(lambda x, c=conv: tf.reduce_mean(c(x)[..., 2], [1, 2]), x))
    with pytest.raises(errors.LayerNotFoundError, match="conv"):
        Saliency(convolutional(keras), "cnov")


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "log_softmax"])
def test_logits(keras, rng, activation):
    model, x = convolutional(keras, activation), drawn(rng, 8, 8, 3)
    linear = convolutional(keras)
    linear.set_weights(model.get_weights())
    maps = Saliency(model, logits=True)(x, CLASSES)
    assert_close(maps, saliency(class_score(linear, CLASSES), x))
    if activation == "softmax":
        with pytest.warns(UserWarning, match="logits=True"):
            of_softmax = Saliency(model)(x, CLASSES)
        assert_close(of_softmax, saliency(class_score(model, CLASSES), x))
        assert not np.allclose(of_softmax, maps, rtol=0.1)


def test_with_respect_to_a_layer(keras, rng):
    model, x = convolutional(keras), drawn(rng, 8, 8, 3)
    maps = Saliency(model, wrt_layer="conv", **PLAIN)(x, 1)
    conv, mean, scores = model.layers[-3:]
    assert_close(maps, gradient(lambda features: scores(mean(features))[:, 1], conv(x).numpy()))


def test_operators_targets_and_modifiers(keras, rng):
    model, x = rectified(keras), drawn(rng, 4)
    weights = rng.normal(size=(5, 3)).astype("float32")
    expected = gradient(lambda x: tf.reduce_sum(model(x) * weights, 1), x)
    assert_close(Saliency(model, **PLAIN)(x, weights), expected)
    assert_close(Saliency(model, grad_modifier="relu")(x, weights), np.maximum(expected, 0))
    squares = Saliency(model, operator=lambda f, x, y: tf.reduce_sum(f(x) ** 2, 1))
    assert_close(squares(x), saliency(lambda x: tf.reduce_sum(model(x) ** 2, 1), x))
    best = np.argmax(model(x), -1)
    assert_close(Saliency(model)(x), saliency(class_score(model, best), x))
    maps, scores = Saliency(model).explain_with_scores(x, CLASSES)
    assert_close(maps, Saliency(model)(x, CLASSES))
    assert_close(scores, class_score(model, CLASSES)(x))
    assert_close(Saliency(model).explain_outputs(x)[:, 2], Saliency(model)(x, 2))
    for wrong in (3, -1):
        with pytest.raises(errors.InvalidTargetError):
            Saliency(model)(x, wrong)


def test_inputs_of_every_form(keras, rng, capsys):
    model, x = convolutional(keras), drawn(rng, 8, 8, 3)
    expected = Saliency(model)(x, CLASSES)
    dataset = tf.data.Dataset.from_tensor_slices((x, CLASSES))
    for data in (dataset, dataset.batch(2), dataset.batch(3).prefetch(1).cache()):
        assert_close(Saliency(model, batch_size=2)(data), expected)
        assert_close(np.concatenate(list(Saliency(model).iter_explain(data))), expected)
    assert_close(Saliency(model, batch_size=2)(tf.constant(x), CLASSES, verbose=1), expected)
    assert "5/5" in capsys.readouterr().out


# ── other backward passes ──


def rule_twin(rule):
    """ReLU with another gradient."""

    @tf.custom_gradient
    def relu(x):
        def backward(g):
            positive = tf.maximum(g, 0.0)
            return {"guided": positive * tf.cast(x > 0, g.dtype), "deconv": positive}.get(rule, g)

        return tf.nn.relu(x), backward

    return relu


@pytest.mark.parametrize(
    "kind, rule",
    [
        *[("flat", rule) for rule in ("guided", "deconv", "own")],
        *[("layer", "deconv"), ("nested", "guided"), ("subclassed", "guided")],
    ],
)
def test_rules_of_rectifiers(keras, rng, kind, rule):
    first, last = keras.layers.Dense(8), keras.layers.Dense(3)
    relu = keras.layers.ReLU() if kind == "layer" else keras.layers.Activation("relu")
    layers = [keras.layers.Input((4,)), first, relu]
    model = keras.Sequential([*layers, last])
    if kind == "nested":
        x = keras.layers.Input((4,))
        model = keras.Model(x, last(keras.Sequential(layers)(x)))
    if kind == "subclassed":

        class Subclassed(keras.Model):
            def __init__(self):
                super().__init__()
                self.first, self.last = first, last

            def call(self, x):
                return self.last(tf.nn.relu(self.first(x)))

        model = Subclassed()
    x = drawn(rng, 4)
    modifier = (lambda x, y, g: g) if rule == "own" else rule
    maps = Saliency(model, backprop_modifier=modifier, **PLAIN)(x, 1)
    assert_close(maps, gradient(lambda x: last(rule_twin(rule)(first(x)))[:, 1], x))
    assert_close(Saliency(model)(x, 1), saliency(lambda x: model(x)[:, 1], x))


def test_a_rule_that_reaches_nothing_is_an_error(keras, rng):
    with pytest.raises(errors.NothingRewiredError):
        attributions.GuidedBackprop(convolutional(keras))(drawn(rng, 8, 8, 3), 1)


def test_a_rule_inside_a_recurrence(keras, rng):
    cell, last = keras.layers.SimpleRNN(4, activation="relu"), keras.layers.Dense(3)
    model, x = keras.Sequential([keras.layers.Input((3, 2)), cell, last]), drawn(rng, 3, 2)
    maps = attributions.GuidedBackprop(model)(x, 2)
    kernel, recurrent, bias = (np.array(weight) for weight in cell.weights)

    def score(x):
        state = tf.zeros([5, 4])
        for step in range(3):
            state = rule_twin("guided")(x[:, step] @ kernel + bias + state @ recurrent)
        return last(state)[:, 2]

    assert_close(maps, gradient(score, x))


# ── the same function, cheaper ──


@pytest.mark.parametrize("kind", ["Conv2D", "DepthwiseConv2D", "Dense"])
def test_folded_batch_normalisation(keras, rng, kind):
    size = {} if kind == "DepthwiseConv2D" else {"filters" if kind == "Conv2D" else "units": 4}
    window = {} if kind == "Dense" else {"kernel_size": 3}
    normal = keras.layers.BatchNormalization()
    model = keras.Sequential(
        [
            keras.layers.Input((8, 8, 3)),
            getattr(keras.layers, kind)(**size, **window),
            normal,
            keras.layers.Activation("swish"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3),
        ]
    )
    normal.set_weights([rng.uniform(0.5, 2, w.shape) for w in normal.get_weights()])
    x = drawn(rng, 8, 8, 3)
    expected = saliency(class_score(model, CLASSES), x)
    assert_close(Saliency(model)(x, CLASSES), expected)
    assert_close(Saliency(model, fold_batch_norm=False)(x, CLASSES), expected)


# ── compiled once, never stale, nothing touched ──


def counting(keras):
    """A model, and a function that tells how often it was run by Python.

    A list of the calls would be compared like all that code closes over: it must not change.
    """
    calls = itertools.count()

    class Counting(keras.layers.Layer):
        def call(self, x):
            next(calls)
            return x

    x = keras.layers.Input((4,))
    hidden = keras.layers.Dense(6, activation="relu", name="hidden")(Counting()(x))
    model = keras.Model(x, keras.layers.Dense(3, name="scores")(hidden))
    return model, lambda: int(repr(calls)[len("count(") : -1])


def test_one_trace_for_every_call(keras, rng):
    model, calls = counting(keras)
    x = drawn(rng, 4)
    before = calls()
    maps = [Saliency(model)(samples, 1).numpy() for samples in (x, x[:3], x[:1])]
    assert calls() == before + 1
    for samples in maps:
        assert_close(samples, saliency(lambda x: model(x)[:, 1], x[: len(samples)]))
    model.compile("sgd", "mse")
    model.fit(x, np.zeros((5, 3)), verbose=0)
    model.predict(x, verbose=0)
    Saliency(model)(x, 1)  # what `compile` sets on a model is seen once, at most
    model.fit(x, np.zeros((5, 3)), verbose=0)
    model.set_weights([2 * weight for weight in model.get_weights()])
    before = calls()
    maps = Saliency(model)(x, 1)
    assert calls() == before
    assert_close(maps, saliency(lambda x: model(x)[:, 1], x))


def test_a_changed_structure_is_seen(keras, rng):
    model, x = rectified(keras), drawn(rng, 4)
    explainer = Saliency(model)
    explainer(x, 1)
    for layer, activation in (("hidden", tf.tanh), ("scores", tf.sigmoid)):
        model.get_layer(layer).activation = activation
        expected = saliency(lambda x: model(x)[:, 1], x)
        assert_close(explainer(x, 1), expected)
        assert_close(Saliency(model)(x, 1), expected)


def test_the_model_is_as_it_was(keras, rng):
    model = keras.Sequential(
        [
            keras.layers.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3, activity_regularizer="l2"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5, seed=1),
            keras.layers.GaussianNoise(0.5, seed=2),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    x = drawn(rng, 8, 8, 3)
    model(x, training=True)
    before = [np.array(variable) for variable in model.variables]
    losses = [float(loss) for loss in model.losses]
    attributes = [set(vars(layer)) for layer in model.layers]

    def failing(f, x, y):
        f(x)
        raise ArithmeticError("on purpose")

    Saliency(model)(x, 1)
    with pytest.raises(ArithmeticError):
        Saliency(model, operator=failing)(x, 1)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(np.array(variable), value)
    assert [float(loss) for loss in model.losses] == losses
    assert all("call" not in vars(layer) for layer in model.layers)
    for layer, names in zip(model.layers, attributes, strict=True):
        assert set(vars(layer)) == names


def test_threads(keras, rng):
    model, x = convolutional(keras), drawn(rng, 8, 8, 3)
    fresh = convolutional(keras)
    fresh.set_weights(model.get_weights())
    questions = [{}, {"output_layer": "conv"}, {"wrt_layer": "conv"}, {"batch_size": 2}]
    expected = [Saliency(model, **question)(x, 1).numpy() for question in questions]
    done = threading.Event()

    def at_inference():
        while not done.is_set():
            np.testing.assert_allclose(fresh(x), model(x), rtol=1e-4, atol=1e-5)

    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        other = pool.submit(at_inference)
        maps = [pool.submit(lambda q=q: Saliency(fresh, **q)(x, 1).numpy()) for q in questions]
        for found, right in zip(maps, expected, strict=True):
            assert_close(found.result(60), right)
        done.set()
        other.result(60)


# ── methods ──


def linear(keras, rng):
    dense = keras.layers.Dense(3, use_bias=False)
    model = keras.Sequential([keras.layers.Input((4,)), dense])
    dense.set_weights([rng.normal(size=(4, 3))])
    return model, dense.get_weights()[0]


def test_methods_of_gradients_on_a_linear_model(keras, rng):
    (model, w), x = linear(keras, rng), drawn(rng, 4)
    of_class = w.T[CLASSES]
    methods = {
        "Saliency": np.abs(of_class),
        "GradientInput": of_class * x,
        "SmoothGrad": of_class,
        "SquareGrad": of_class**2,
        "IntegratedGradients": of_class * x,
    }
    for name, expected in methods.items():
        assert_close(getattr(attributions, name)(model)(x, CLASSES), expected)


def test_integrated_gradients_are_complete(keras, rng):
    model, x = convolutional(keras), drawn(rng, 8, 8, 3)
    explainer = attributions.IntegratedGradients(model, steps=60, reducer=None)
    sums = np.sum(explainer(x, CLASSES), (1, 2, 3))
    score = class_score(model, CLASSES)
    assert_close(sums, score(x) - score(0 * x), 1e-2)


def test_noise_is_that_of_its_seed(keras, rng):
    model, x = convolutional(keras), drawn(rng, 8, 8, 3)
    for method in (attributions.SmoothGrad, attributions.VarGrad):
        options = {"nb_samples": 6, "noise": 0.3, "seed": 4}
        maps = method(model, **options)(x, CLASSES)
        assert_close(method(model, batch_size=2, **options)(x, CLASSES), maps)
        assert not np.allclose(method(model, **{**options, "seed": 5})(x, CLASSES), maps)


@pytest.mark.parametrize("name", ["GradCAM", "GradCAMPP"])
def test_feature_maps(keras, rng, name):
    model = keras.Sequential(
        [
            keras.layers.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="conv"),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    x = drawn(rng, 8, 8, 3)
    a = model.get_layer("conv")(x).numpy()
    g = gradient(lambda a: model.layers[-1](model.layers[-2](a))[:, 1], a)
    if name == "GradCAM":
        weights = g.mean((1, 2), keepdims=True)
    else:
        below = 2 * g**2 + g**3 * a.sum((1, 2), keepdims=True)
        alpha = np.divide(g**2, below, out=np.zeros_like(g), where=g != 0)
        weights = (alpha * np.maximum(g, 0)).sum((1, 2), keepdims=True)
    expected = np.maximum((weights * a).sum(-1, keepdims=True), 0)
    assert_close(getattr(attributions, name)(model)(x, 1), expected, 1e-3)


def test_methods_of_masks(keras, rng):
    model, x = convolutional(keras), drawn(rng, 8, 8, 3)
    function = lambda x: model.predict(x, verbose=0)  # noqa: E731
    for method, options in (
        (attributions.Occlusion, {"patch_size": 4, "patch_stride": 4}),
        (attributions.Rise, {"nb_samples": 30, "grid_size": 3, "seed": 1}),
    ):
        maps = method(model, **options)(x, CLASSES)
        assert_close(method(function, 7, **options)(x, CLASSES), maps, 1e-3)
    score = class_score(model, CLASSES)
    expected = np.zeros((5, 8, 8, 1), "float32")
    for row, column in itertools.product((0, 4), (0, 4)):
        hidden = x.copy()
        hidden[:, row : row + 4, column : column + 4] = 0
        change = np.reshape(score(x) - score(hidden), (5, 1, 1, 1))
        expected[:, row : row + 4, column : column + 4] = change
    maps = attributions.Occlusion(model, patch_size=4, patch_stride=4)(x, CLASSES)
    assert_close(maps, expected, 1e-3)


@pytest.mark.filterwarnings("ignore")  # tf.lite says that it moves to a package of its own
def test_tflite(rng):
    if not hasattr(tf, "lite"):
        pytest.skip("this TensorFlow has no TFLite")
    w = rng.normal(size=(6, 3)).astype("float32")
    function = tf.function(lambda x: tf.tanh(x @ w), input_signature=[tf.TensorSpec((None, 6))])
    concrete = function.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module())
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    x = drawn(rng, 6)
    options = {"patch_size": 1, "patch_stride": 1}
    maps = attributions.Occlusion(interpreter, **options)(x, CLASSES)
    assert_close(maps, attributions.Occlusion(lambda x: np.tanh(x @ w), **options)(x, CLASSES))


def test_entry_points_of_keras_vis(keras, rng):
    model, x = convolutional(keras), drawn(rng, 8, 8, 3)
    expected = saliency(lambda x: model(x)[:, 2], x)[0, ..., 0]
    expected = (expected - expected.min()) / np.ptp(expected)
    assert_close(visualize_saliency(model, -1, 2, x[0]), expected)
    losses = [(ActivationMaximization("scores", 2), -1)]
    assert_close(visualize_saliency_with_losses(model, losses, x[0]), expected)
    image = visualize_class(model, 1, seed=0, steps=5)
    assert np.all(np.isfinite(image))


def test_a_callback_of_fit(keras, rng, tmp_path):
    pytest.importorskip("matplotlib")
    from xplique_sal.callbacks import SaliencyCallback

    x, y = drawn(rng, 8, 8, 3), CLASSES
    trained = []
    for watched in (False, True):
        keras.utils.set_random_seed(0)
        model = convolutional(keras)
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        callbacks = [SaliencyCallback(x[:2], y[:2], directory=tmp_path)] if watched else []
        model.fit(x, y, epochs=2, verbose=0, callbacks=callbacks)
        trained.append(model.get_weights())
    for alone, beside in zip(*trained, strict=True):
        np.testing.assert_allclose(alone, beside, rtol=1e-5, atol=1e-6)
    assert list(tmp_path.rglob("*.png"))
