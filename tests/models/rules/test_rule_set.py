"""Rules for any operation: propagation of relevance and rescaling, each beside a NumPy twin."""

import numpy as np
import pytest
import tensorflow as tf

from xplique_sal import Saliency
from xplique_sal._models.rules.rule_set import RuleSet
from xplique_sal._models.view import ModelView
from xplique_sal._tracing.programs import trace_count
from xplique_sal.errors import NothingRewiredError

EPSILON = 0.05
MOVES = {"Reshape", "Identity", "Cast"}


# A rule of relevance: R_in = x · ∂z/∂x (R / (z + ε·sgn z)), for whatever is linear in x.
def epsilon_rule(step):
    z, relevance = step.outputs[0], step.gradients[0]
    share = relevance / (z + EPSILON * tf.where(z < 0, -1.0, 1.0))
    return step.inputs[0] * step.plain(share)[0]


def relevance():
    rules = dict.fromkeys(("MatMul", "Conv2D", "BiasAdd", "AddV2"), epsilon_rule)
    return RuleSet({**rules, "Relu": lambda step: step.gradients[0]}, kept=MOVES)


# A rule of rescaling: of rows [x; baseline], Δy / Δx in place of the slope.
def rescale_rule(step):
    (x, r), (y, s) = (tf.split(tensor, 2) for tensor in (step.inputs[0], step.outputs[0]))
    plain = tf.split(step.plain(tf.ones_like(step.gradients[0]))[0], 2)[0]
    slope = tf.where(tf.abs(x - r) > 1e-6, tf.math.divide_no_nan(y - s, x - r), plain)
    return step.gradients[0] * tf.concat([slope, slope], 0)


def small(keras):
    return [
        keras.layers.Conv2D(2, 2, name="conv", bias_initializer="normal"),
        keras.layers.ReLU(),
        keras.layers.Flatten(),
        keras.layers.Dense(4, activation="relu", name="hidden", bias_initializer="normal"),
        keras.layers.Dense(3, name="scores", bias_initializer="normal"),
    ]


def flat(keras):
    layers = small(keras)
    return keras.Sequential([keras.layers.Input((4, 3, 1)), *layers]), layers


def nested(keras):
    layers = small(keras)
    inner = keras.Sequential([keras.layers.Input((4, 3, 1)), *layers[:3]])
    inputs = keras.layers.Input((4, 3, 1))
    hidden = inner(inputs)
    for layer in layers[3:]:
        hidden = layer(hidden)
    return keras.Model(inputs, hidden), layers


def subclassed(keras):
    layers = small(keras)

    class Network(keras.Model):
        def __init__(self):
            super().__init__()
            self.parts = layers

        def call(self, x):
            for layer in self.parts:
                x = layer(x)
            return x

    model = Network()
    model(np.zeros((1, 4, 3, 1), "float32"))
    return model, layers


def module(keras):
    """A module without layers, of which a part is compiled by itself."""
    model, layers = flat(keras)
    weights = [tf.Variable(weight) for weight in model.get_weights()]

    class Network(tf.Module):
        def __init__(self):
            super().__init__()
            self.weights = weights

        @tf.function
        def features(self, x):
            y = tf.nn.bias_add(tf.nn.conv2d(x, self.weights[0], 1, "VALID"), self.weights[1])
            return tf.nn.relu(y)

        def __call__(self, x):
            y = tf.reshape(self.features(x), [-1, 12])
            y = tf.nn.relu(tf.nn.bias_add(y @ self.weights[2], self.weights[3]))
            return tf.nn.bias_add(y @ self.weights[4], self.weights[5])

    return Network(), layers


KINDS = [flat, nested, subclassed, module]
every_kind = pytest.mark.parametrize("build", KINDS)


def matrices(layers):
    """The network as three matrices and biases; that of the convolution, pixel by pixel."""
    kernel, bias = layers[0].get_weights()
    matrix = np.zeros((4, 3, 3, 2, 2))
    for row, column in np.ndindex(3, 2):
        matrix[row : row + 2, column : column + 2, row, column] = kernel[:, :, 0]
    first = matrix.reshape(12, 12), np.tile(bias, 6)
    return [first, layers[3].get_weights(), layers[4].get_weights()]


def stabilised(z):
    return z + EPSILON * np.where(z < 0, -1, 1)


def relevance_twin(layers, x, output):
    values, steps = x.reshape(len(x), -1).astype(float), []
    for number, (matrix, bias) in enumerate(matrices(layers)):
        product = values @ matrix
        steps.append((values, matrix, product, product + bias))
        values = product + bias if number == 2 else np.maximum(product + bias, 0)
    carried = np.eye(3)[output] * np.ones((len(x), 1))
    for values, matrix, product, z in reversed(steps):
        carried = product * carried / stabilised(z)
        carried = values * ((carried / stabilised(product)) @ matrix.T)
    return carried.reshape(x.shape)


def multipliers_twin(layers, x, baseline, output):
    parts = matrices(layers)
    rows, values = [], [a.reshape(len(a), -1).astype(float) for a in (x, baseline)]
    for matrix, bias in parts[:2]:
        before = [value @ matrix + bias for value in values]
        values = [np.maximum(z, 0) for z in before]
        rows.append((values[0] - values[1]) / (before[0] - before[1]))
    carried = np.tile(parts[2][0][:, output], (len(x), 1))
    for (matrix, _), slope in zip(parts[1::-1], rows[::-1], strict=True):
        carried = (carried * slope) @ matrix.T
    return carried.reshape(x.shape)


def pixels(rng):
    return rng.normal(size=(5, 4, 3, 1)).astype("float32")


def relevance_of(model, x, output, rules=None):
    explainer = Saliency(
        model, grad_modifier=None, reducer=None, backprop_modifier=rules or relevance()
    )
    return explainer.explain(x, output).numpy()


@every_kind
def test_relevance_is_propagated(keras, rng, build):
    model, layers = build(keras)
    x = pixels(rng)
    expected = relevance_twin(layers, x, 1)
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(relevance_of(model, x, 1), expected, rtol=1e-3, atol=1e-5)


@every_kind
def test_rows_with_their_baselines_are_rescaled(keras, rng, build):
    model, layers = build(keras)
    x, baseline = pixels(rng), pixels(rng)
    rows = tf.constant(np.concatenate([x, baseline]))
    f = ModelView(model, backprop_modifier=RuleSet({"Relu": rescale_rule}))
    with tf.GradientTape() as tape:
        tape.watch(rows)
        score = tf.reduce_sum(f(rows)[:, 1])
    found = tape.gradient(score, rows).numpy()[: len(x)]
    expected = multipliers_twin(layers, x, baseline, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    change = np.asarray(model(x))[:, 1] - np.asarray(model(baseline))[:, 1]
    sums = (found * (x - baseline)).sum((1, 2, 3))
    np.testing.assert_allclose(sums, change, rtol=1e-3, atol=1e-5)


def test_an_operation_without_a_rule_is_named(keras, rng):
    model, _ = flat(keras)
    model.add(keras.layers.Activation("tanh"))
    with pytest.raises(NothingRewiredError, match="Tanh"):
        relevance_of(model, pixels(rng), 1)


def test_a_rule_inside_a_saved_model_is_out_of_reach(keras, rng, tmp_path):
    model, _ = flat(keras)
    tf.saved_model.save(model, str(tmp_path))
    rules = RuleSet({"MatMul": epsilon_rule})
    with pytest.raises(NothingRewiredError, match="compiled function"):
        relevance_of(tf.saved_model.load(str(tmp_path)), pixels(rng), 1, rules)


def scaling(factor):
    return RuleSet({"Relu": lambda step: factor[0] * step.plain(*step.gradients)[0]})


def test_what_a_rule_closes_over_belongs_to_it(keras, rng):
    model, _ = flat(keras)
    x, factor = pixels(rng), [1.0]
    rules = scaling(factor)
    plain = Saliency(model, grad_modifier=None, reducer=None).explain(x, 1).numpy()
    explainer = Saliency(model, grad_modifier=None, reducer=None, backprop_modifier=rules)
    np.testing.assert_allclose(explainer.explain(x, 1), plain, rtol=1e-5)
    before = trace_count()
    relevance_of(model, x, 1, rules)
    assert trace_count() == before
    factor[0] = 3.0  # two rectifiers lie on the way of each pixel
    np.testing.assert_allclose(explainer.explain(x, 1), 9 * plain, rtol=1e-4, atol=1e-6)
    assert trace_count() == before + 1


def test_batch_normalisation_in_half_of_its_ways(keras, rng):
    """Folded or not, the rules find TensorFlow's own operations: none has a gradient of its own."""
    layers = [
        keras.layers.Input((8, 8, 3)),
        keras.layers.Conv2D(4, 3, strides=2, use_bias=False),
        keras.layers.BatchNormalization(),
        keras.layers.ReLU(),
        keras.layers.BatchNormalization(),
        keras.layers.Flatten(),
        keras.layers.Dense(3),
    ]
    model = keras.Sequential(layers)
    x = rng.normal(size=(3, 8, 8, 3)).astype("float32")
    seen = []

    def note(step):
        seen.append(step.op.type)
        return step.plain(*step.gradients)

    rules = RuleSet(dict.fromkeys(("Conv2D", "MatMul", "Mul", "BiasAdd", "Relu"), note))
    plain = Saliency(model, grad_modifier=None, reducer=None).explain(x, 1).numpy()
    np.testing.assert_allclose(relevance_of(model, x, 1, rules), plain, rtol=1e-4, atol=1e-6)
    assert {"Conv2D", "MatMul", "Mul", "Relu"} <= set(seen)


def test_a_model_with_a_tape_of_its_own(keras, rng):
    """What it differentiates itself, while it runs, keeps the plain derivative."""

    class Sloped(keras.layers.Layer):
        def call(self, x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = tf.nn.relu(x + 1)
            return tf.stop_gradient(tape.gradient(y, x)) * tf.nn.relu(x)

    model = keras.Sequential([keras.layers.Input((3,)), Sloped(), keras.layers.Dense(2)])
    x = rng.normal(size=(4, 3)).astype("float32")
    doubled = RuleSet({"Relu": lambda s: 2 * s.plain(*s.gradients)[0]})
    expected = 2 * (x > 0) * model.layers[-1].get_weights()[0][:, 1]
    np.testing.assert_allclose(relevance_of(model, x, 1, doubled), expected, rtol=1e-5)


def test_nothing_is_left_in_tensorflow(keras, rng):
    from tensorflow.python.eager import execute
    from tensorflow.python.framework import ops

    registry = ops.gradient_registry._registry
    before, record = dict(registry), execute.record_gradient
    relevance_of(flat(keras)[0], pixels(rng), 1)
    with pytest.raises(NothingRewiredError):
        relevance_of(flat(keras)[0], pixels(rng), 1, RuleSet({"Tanh": epsilon_rule}))
    assert execute.record_gradient is record
    assert set(registry) == set(before)
    assert all(registry[name]["type"] is before[name]["type"] for name in ("Relu", "MatMul"))


def test_an_error_names_the_layer(keras, rng):
    model, _ = nested(keras)
    inner = model.layers[1]
    rules = {name: rule for name, rule in relevance().rules.items() if name != "Conv2D"}
    with pytest.raises(NothingRewiredError, match=f"'Conv2D' in the layer '{inner.name}/conv'"):
        relevance_of(model, pixels(rng), 1, RuleSet(rules, kept=MOVES))


def test_a_step_knows_its_weights_and_its_layer(keras, rng):
    model, layers = subclassed(keras)
    seen = {}

    def note(step):
        seen[step.around.layer(step.op)] = (step.active, step.around.path(step.op))
        return step.plain(*step.gradients)

    relevance_of(model, pixels(rng), 1, RuleSet({"MatMul": note}))
    assert {layer: active for layer, (active, _) in seen.items()} == {
        layers[3]: (True, False),
        layers[4]: (True, False),
    }
    assert all(path.endswith(layer.name) for layer, (_, path) in seen.items())


def test_what_a_rule_cuts_off_needs_no_rule(keras, rng):
    """A gate that nothing goes on to: the operations that make it are not asked."""
    layers = keras.layers
    inputs = layers.Input((4,))
    gate = layers.Dense(4, activation="sigmoid")(inputs)
    model = keras.Model(inputs, layers.Dense(1)(layers.Multiply()([inputs, gate])))
    x = rng.normal(size=(3, 4)).astype("float32")

    def signal(step):
        return [step.gradients[0], None]

    rules = RuleSet({"Mul": signal, "Sigmoid": lambda step: step.plain(*step.gradients)})
    found = relevance_of(model, x, None, rules)
    np.testing.assert_allclose(
        found, np.tile(model.layers[-1].get_weights()[0].T, (3, 1)), rtol=1e-5
    )


def test_a_function_with_a_gradient_of_its_own_is_the_operations_inside(keras, rng):
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Activation(tf.nn.silu)])
    model.add(keras.layers.Dense(1, use_bias=False))
    x = rng.normal(size=(3, 4)).astype("float32")
    rules = RuleSet(
        {"Sigmoid": lambda step: None, "Mul": lambda step: step.plain(step.gradients[0])}
    )
    kernel = model.layers[-1].get_weights()[0][:, 0]
    expected = kernel / (1 + np.exp(-x))  # without the slope of the sigmoid
    np.testing.assert_allclose(relevance_of(model, x, None, rules), expected, rtol=1e-5)
