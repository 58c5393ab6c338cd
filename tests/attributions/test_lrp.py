"""Relevance of whole networks: against other implementations, closed forms, and conservation."""

import pathlib
import threading
import warnings

import numpy as np
import pytest
import tensorflow as tf
from reference import built_once

from xplique_sal._tracing.programs import trace_count
from xplique_sal.attributions import LRP, GradientInput
from xplique_sal.errors import (
    InvalidParameterError,
    LayerNotFoundError,
    NothingRewiredError,
)

# Reference values, computed with zennit 0.5.1 and captum 0.9 on this network: a rule on every
# linear layer, average pooling normalised; composites by their names; a box from -3 to 3.
with np.load(pathlib.Path(__file__).parents[1] / "models" / "propagation.npz") as stored:
    # Of two of the samples: the weights, which all share, are k1 to bo.
    REFERENCE = {k: stored[k] if k[0] in "kb" else stored[k][:2] for k in stored.files}
WEIGHTS = ("k1", "b1", "k2", "b2", "kd", "bd", "ko", "bo")
RULES = {
    "epsilon_1e-6": {"rule": "epsilon"},
    "epsilon_0.25": {"rule": "epsilon", "epsilon": 0.25},
    "zplus": {"rule": "zplus"},
    "gamma_0.25": {"rule": "gamma"},
    "alpha2_beta1": {"rule": "alpha2_beta1"},
    "wsquare": {"rule": "wsquare"},
    "flat": {"rule": "flat"},
    "epsilon_plus": {},
    "epsilon_plus_flat": {"rule": "epsilon_plus_flat"},
    "epsilon_alpha2_beta1": {"rule": "epsilon_alpha2_beta1"},
    "epsilon_gamma_box": {"rule": "epsilon_gamma_box", "input_range": (-3, 3)},
}


def parts(keras):
    layers = keras.layers
    return [
        layers.Conv2D(6, 3, activation="relu", name="first"),
        layers.MaxPooling2D(2),
        layers.Conv2D(8, 3, activation="relu"),
        layers.AveragePooling2D(2),
        layers.Flatten(),
        layers.Dense(12, activation="relu", name="hidden"),
        layers.Dense(5),
    ]


def flat(keras):
    return keras.Sequential([keras.layers.Input((18, 18, 3)), *parts(keras)])


def nested(keras):
    layers = parts(keras)
    inner = keras.Sequential([keras.layers.Input((18, 18, 3)), *layers[:4]], name="inner")
    inputs = keras.layers.Input((18, 18, 3))
    hidden = inner(inputs)
    for layer in layers[4:]:
        hidden = layer(hidden)
    return keras.Model(inputs, hidden)


def subclassed(keras):
    layers = parts(keras)

    class Network(keras.Model):
        def __init__(self):
            super().__init__()
            self.parts = layers

        def call(self, x):
            for layer in self.parts:
                x = layer(x)
            return x

    return Network()


@built_once
def network(keras, build):
    model = build(keras)
    model(REFERENCE["x"][:1])
    model.set_weights([REFERENCE[name] for name in WEIGHTS])
    return model


PAIRS = [(flat, name) for name in RULES]
PAIRS += [(build, name) for build in (nested, subclassed) for name in [*RULES][-3::2]]


@pytest.mark.parametrize("build, name", PAIRS)
def test_relevance_is_that_of_other_implementations(keras, build, name):
    explainer = LRP(network(keras, build), reducer=None, **RULES[name])
    found, scores = explainer.explain_with_scores(REFERENCE["x"], REFERENCE["c"])
    expected = REFERENCE[f"lrp_{name}"]
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    logits = REFERENCE["logits"][np.arange(2), REFERENCE["c"]]
    np.testing.assert_allclose(scores, logits, rtol=1e-4)


def test_the_channels_of_images_are_added(keras):
    explainer = LRP(network(keras, flat))
    expected = REFERENCE["lrp_epsilon_plus"].sum(-1, keepdims=True)
    found = explainer.explain(REFERENCE["x"], REFERENCE["c"])
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    "rule",
    [
        {"first": "flat", None: "epsilon_plus"},
        lambda step: (
            "flat"
            if step.path.endswith("first")
            else ("epsilon", 1e-6)
            if step.kind == "dense"
            else "zplus"
        ),
    ],
    ids=["mapping", "function"],
)
def test_rules_by_layer(keras, rule):
    explainer = LRP(network(keras, flat), reducer=None, rule=rule)
    found = explainer.explain(REFERENCE["x"], REFERENCE["c"])
    np.testing.assert_allclose(found, REFERENCE["lrp_epsilon_plus_flat"], atol=1e-5)


def drawn(model, rng, biases=True):
    """Draw the weights and statistics of a model."""
    for variable in model.variables:
        name = getattr(variable, "path", variable.name)
        values = rng.normal(size=variable.shape)
        if len(variable.shape) > 1:
            values *= np.prod(variable.shape[:-1]) ** -0.5
        elif "var" in name or "gamma" in name:
            values = np.abs(values) + 0.5
        else:
            values *= 0.3 * biases
        variable.assign(values)
    return model


@built_once
def residual(keras, biases):
    """A network of residual sums, strides, concatenations and normalisations in all places."""
    layers = keras.layers
    x = inputs = layers.Input((12, 12, 2))
    x = layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False)(x)
    x = skip = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.ZeroPadding2D()(x)
    x = layers.DepthwiseConv2D(3, use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(layers.Add()([x, skip]))
    y = layers.Conv2D(3, 1)(layers.ReLU()(layers.BatchNormalization()(x)))
    x = layers.Concatenate()([x, y[..., :2]])
    x = layers.BatchNormalization()(x)
    x = layers.MaxPooling2D(2)(layers.ReLU()(x))
    x = layers.GlobalAveragePooling2D()(x)
    return drawn(keras.Model(inputs, layers.Dense(3)(x)), np.random.default_rng(1), biases)


def image(rng, count=3):
    return rng.normal(size=(count, 12, 12, 2)).astype("float32")


@pytest.mark.filterwarnings("ignore:The attributions of some sample add up")
@pytest.mark.parametrize("fold", [True, False], ids=["folded", "not folded"])
def test_relevance_without_epsilon_is_gradient_times_input(keras, rng, fold):
    """With rectifiers: also with biases, and with batch normalisation wherever it is."""
    model, x = residual(keras, True), image(rng)
    found = LRP(model, reducer=None, rule="zero", fold_batch_norm=fold)(x, 1).numpy()
    expected = GradientInput(model, reducer=None)(x, 1).numpy()
    # Sums keep 1e-6 away from zero, as zennit does, which is felt where they nearly vanish.
    assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()


@built_once
def without_biases(keras):
    model = flat(keras)
    weights = [REFERENCE[name] for name in WEIGHTS]
    model.set_weights([weight * (weight.ndim > 1) for weight in weights])
    return model


@pytest.mark.parametrize("rule", ["zero", "epsilon", "gamma", "zplus", "alpha2_beta1"])
def test_the_score_is_conserved_without_biases(keras, rng, rule):
    has_signs = rule in ("zplus", "alpha2_beta1")  # no share where nothing has the sign
    model = without_biases(keras) if has_signs else residual(keras, False)
    x = REFERENCE["x"] if has_signs else image(rng, 2)
    _, gaps, scores = LRP(model, rule=rule, epsilon=1e-9).explain_with_gaps(x, [1, 2])
    expected = np.asarray(model(x))[np.arange(2), [1, 2]]
    np.testing.assert_allclose(scores, expected, rtol=1e-4)
    assert np.abs(gaps).max() < 1e-5 * max(1, np.abs(expected).max())


def test_what_is_missing_is_told_and_warned_of(keras, rng):
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(2)])
    model.set_weights([np.ones((4, 2)), np.array([0.0, 30.0])])
    x = np.ones((1, 4), "float32")
    explainer = LRP(model, rule="epsilon")
    maps, gaps, scores = explainer.explain_with_gaps(x, 0)
    np.testing.assert_allclose(maps, np.ones((1, 4)), rtol=1e-5)
    with pytest.warns(UserWarning, match="add up to 4, but its score is 34.*Biases"):
        maps, gaps, scores = explainer.explain_with_gaps(x, 1)
    np.testing.assert_allclose([gaps[0], scores[0]], [-30, 34], rtol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explainer.explain(x, 1)


def test_a_gate_passes_nothing_on(keras, rng):
    """As in a block that squeezes and excites, and in a swish."""
    layers = keras.layers
    inputs = layers.Input((4,))
    signal = layers.Dense(3, use_bias=False)(inputs)
    gate = layers.Dense(3, activation="sigmoid")(layers.Dense(3)(inputs))
    gated = layers.Multiply()([gate, signal])
    outputs = layers.Dense(2, use_bias=False)(layers.Activation("swish")(gated))
    model = drawn(keras.Model(inputs, outputs), rng)
    x = rng.normal(size=(3, 4)).astype("float32")
    found = LRP(model, rule="epsilon", epsilon=0).explain(x, 1).numpy()
    kernels = {layer.name: layer.get_weights() for layer in model.layers if layer.get_weights()}
    (matrix,) = kernels[signal_layer(model)]
    value = np.asarray(keras.Model(inputs, gated)(x))
    gates = 1 / (1 + np.exp(-value))
    share = value * gates * model.layers[-1].get_weights()[0][:, 1]
    expected = x * ((share / (x @ matrix)) @ matrix.T)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def signal_layer(model):
    (name,) = [
        layer.name
        for layer in model.layers
        if [weight.shape for weight in layer.get_weights()] == [(4, 3)]
    ]
    return name


@pytest.mark.filterwarnings("ignore:The attributions of some sample add up")
@pytest.mark.parametrize("activation", ["hard_sigmoid", "tanh", "softplus"])
def test_activations_pass_relevance(keras, rng, activation):
    layers = keras.layers
    model = keras.Sequential([layers.Input((4,)), layers.Dense(3, activation=activation)])
    drawn(model, rng)
    x, (kernel, bias) = rng.normal(size=(2, 4)).astype("float32"), model.get_weights()
    share = np.asarray(model(x)) / (x @ kernel + bias)
    found = LRP(model, rule="zero").explain(x, np.ones((2, 3), "float32"))
    np.testing.assert_allclose(found, x * (share @ kernel.T), rtol=1e-3, atol=1e-4)


def test_a_product_of_two_activations_is_named(keras, rng):
    layers = keras.layers
    inputs = layers.Input((4,))
    product = layers.Multiply(name="both")([layers.Dense(3)(inputs), layers.Dense(3)(inputs)])
    model = keras.Model(inputs, layers.Dense(1)(product))
    x = rng.normal(size=(2, 4)).astype("float32")
    with pytest.raises(NothingRewiredError, match="'Mul' in the layer 'both'"):
        LRP(model).explain(x)
    _, gaps, scores = LRP(model, rule="attention", epsilon=1e-9).explain_with_gaps(x)
    np.testing.assert_allclose(gaps, 0 * scores, atol=1e-4)


def test_a_step_without_a_rule_is_named(keras, rng):
    model = keras.Sequential([keras.layers.Input((6,)), keras.layers.Dense(3)])
    model.add(keras.layers.Lambda(lambda x: tf.math.cumsum(x, axis=1), name="running"))
    with pytest.raises(NothingRewiredError, match="'Cumsum' in the layer 'running'"):
        LRP(model).explain(rng.normal(size=(2, 6)).astype("float32"), 1)


def test_a_box_is_that_of_the_models_own_input(keras, rng):
    """Scaled inside of the model, the same picture has the same relevance."""
    model = network(keras, flat)
    layers = keras.layers
    scaled = keras.Sequential([layers.Input((18, 18, 3)), layers.Rescaling(0.5, 1.0), model])
    x = (REFERENCE["x"] - 1) * 2
    explainer = LRP(scaled, reducer=None, rule="epsilon_gamma_box", input_range=(-8, 4))
    found = explainer.explain(x, REFERENCE["c"])
    np.testing.assert_allclose(found, REFERENCE["lrp_epsilon_gamma_box"], atol=1e-5)


@pytest.mark.parametrize("shared", [True, False], ids=["an inner layer", "a layer called twice"])
def test_relevance_of_inner_layers_and_of_layers_that_are_used_twice(keras, rng, shared):
    layers = keras.layers
    inputs = layers.Input((4,))
    twice = layers.Dense(4, activation="relu", use_bias=False)
    hidden = twice(twice(inputs))
    model = keras.Model(inputs, layers.Dense(2, use_bias=False)(hidden))
    x = np.abs(rng.normal(size=(3, 4))).astype("float32")
    drawn(model, rng)
    wrt = f"{twice.name}:0" if shared else None
    found = LRP(model, rule="epsilon", epsilon=0, wrt_layer=wrt)(x, 1).numpy()
    expected = GradientInput(model, wrt_layer=wrt)(x, 1).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.sum(1), np.asarray(model(x))[:, 1], rtol=1e-4, atol=1e-6)


def test_two_threads_with_different_rules(keras):
    model = network.anew(keras, flat)
    found = {}

    def explain(name):
        explainer = LRP(model, reducer=None, **RULES[name])
        found[name] = explainer.explain(REFERENCE["x"], REFERENCE["c"]).numpy()

    names = ["zplus", "flat"]
    threads = [threading.Thread(target=explain, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in names:
        np.testing.assert_allclose(found[name], REFERENCE[f"lrp_{name}"], atol=1e-4)
    before = trace_count()
    for name in names:
        explain(name)
    assert trace_count() == before


@pytest.mark.parametrize(
    "options, message",
    [
        ({"rule": "alpha3_beta2"}, "'epsilon_plus_flat'"),
        ({"rule": ("flat", 3)}, "epsilon"),
        ({"rule": {"first": "nothing"}}, "'nothing'"),
        ({"rule": lambda step: "nothing"}, "'nothing'"),
        ({"rule": "zbox"}, "input_range"),
        ({"rule": "zbox", "input_range": (1, 0)}, "the lower first"),
        ({"rule": "epsilon", "epsilon": -1.0}, "epsilon"),
        ({"gamma": "much"}, "gamma"),
    ],
)
def test_parameters_that_do_not_exist(options, message):
    import tf_keras as keras

    with pytest.raises(InvalidParameterError, match=message):
        LRP(network(keras, flat), **options).explain(REFERENCE["x"], 0)
    with pytest.raises(LayerNotFoundError, match="hidden"):
        LRP(network(keras, flat), rule={"hiden": "flat"})


@pytest.mark.parametrize(
    "weight, bias, cause",
    [(1e-7, 0.0, "ε = 1e-06 is not small"), (1.0, -0.99, "nearly cancels a sum")],
)
def test_the_warning_names_what_takes_the_score(keras, weight, bias, cause):
    model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)])
    model.set_weights([np.array([[weight]]), np.array([bias])])
    with pytest.warns(UserWarning, match=cause):
        LRP(model, rule="epsilon").explain(np.ones((1, 1), "float32"))


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_only_what_normalisations_add_is_missing_of_inverted_residuals(keras, rng, shift):
    layers = keras.layers
    options = {"use_bias": False, "padding": "same"}
    x = image = keras.Input((6, 6, 3))
    x = block = layers.Conv2D(4, 3, **options)(x)
    for layer in (layers.Conv2D(8, 1, **options), layers.DepthwiseConv2D(3, **options)):
        x = layers.ReLU(6.0)(layers.BatchNormalization()(layer(x)))
    x = layers.BatchNormalization()(layers.Conv2D(4, 1, **options)(x))
    x = layers.GlobalAveragePooling2D()(layers.Add()([x, block]))
    model = keras.Model(image, layers.Dense(3, use_bias=False)(x))
    for layer in model.layers:
        if hasattr(layer, "moving_variance"):
            layer.moving_variance.assign(rng.uniform(0.5, 2, layer.moving_variance.shape))
            layer.beta.assign(shift * rng.normal(size=layer.beta.shape))
    x = rng.normal(size=(4, 6, 6, 3)).astype("float32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        _, gaps, scores = LRP(model, rule="epsilon", epsilon=1e-12).explain_with_gaps(x, 1)
    missing = np.abs(gaps / scores)
    assert missing.max() < 1e-3 if not shift else missing.min() > 1e-2
