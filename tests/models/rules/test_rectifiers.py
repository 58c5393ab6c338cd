"""Each rule against a slower twin: the layers one by one, with custom gradients made by hand."""

import threading

import numpy as np
import pytest
import tensorflow as tf
from reference import class_score, gradient

from xplique_sal import Saliency
from xplique_sal._tracing.programs import trace_count
from xplique_sal.attributions import DeconvNet, GuidedBackprop
from xplique_sal.errors import InvalidParameterError, NothingRewiredError

# Guided maps of small random networks are often empty.
pytestmark = pytest.mark.filterwarnings("ignore:The gradient is zero everywhere")

SELU = 1.0507009873554805


def relu(x):
    return tf.maximum(x, 0.0) + 0.0


ACTIVATIONS = {
    # φ, φ′ for any x, slope for positive x
    "relu": (tf.nn.relu, lambda x: np.where(x > 0, 1.0, 0.0), 1.0),
    "relu6": (tf.nn.relu6, lambda x: np.where((x > 0) & (x < 6), 1.0, 0.0), 1.0),
    "leaky": (lambda x: tf.nn.leaky_relu(x, 0.3), lambda x: np.where(x > 0, 1.0, 0.3), 1.0),
    "elu": (tf.nn.elu, lambda x: np.where(x > 0, 1.0, np.exp(x)), 1.0),
    "selu": (
        tf.nn.selu,
        lambda x: np.where(x > 0, SELU, SELU * 1.6732632423543772 * np.exp(x)),
        SELU,
    ),
}


def own_rule(x, y, g):
    return 2.0 * g * tf.cast(x < 1.0, g.dtype) + 0.1 * y


def twin_of(rule, phi, derivative, slope):
    """φ with the rule as its gradient, written out in NumPy."""

    @tf.custom_gradient
    def rectifier(x):
        y = tf.constant(phi(x).numpy())

        def backward(g):
            values, upstream = x.numpy(), g.numpy()
            positive = np.maximum(upstream, 0)
            if rule == "guided":
                result = positive * (values > 0) * derivative(values)
            elif rule == "deconv":
                result = positive * slope
            else:
                result = 2.0 * upstream * (values < 1.0) + 0.1 * y.numpy()
            return tf.constant(result, g.dtype)

        return y, backward

    return rectifier


RULES = {"guided": "guided", "deconv": "deconv", "own": own_rule}
every_rule = pytest.mark.parametrize("rule", RULES)
GRADIENT = {"grad_modifier": None, "reducer": None}


def explain(model, x, target, rule, **options):
    return np.asarray(
        Saliency(model, backprop_modifier=RULES[rule], **GRADIENT, **options)(x, target)
    )


def assert_close(found, expected):
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def weights(keras, *sizes):
    return [
        keras.layers.Dense(
            size, kernel_initializer=keras.initializers.RandomNormal(0.3, 1.0, seed=i), name=f"d{i}"
        )
        for i, size in enumerate(sizes)
    ]


def rows(rng, width=5, count=6):
    return (2.0 * rng.normal(size=(count, width))).astype("float32")


@every_rule
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_rectifier_on_a_flat_model(keras, rng, rule, activation):
    phi, derivative, slope = ACTIVATIONS[activation]
    first, second, last = weights(keras, 8, 7, 3)
    inputs = keras.layers.Input((5,))
    layer = lambda: keras.layers.Activation(phi)  # noqa: E731
    model = keras.Model(inputs, last(layer()(second(layer()(first(inputs))))))
    twin = twin_of(rule, phi, derivative, slope)
    x = rows(rng)
    expected = gradient(lambda x: last(twin(second(twin(first(x)))))[:, 1], x)
    explainer = Saliency(model, backprop_modifier=RULES[rule], **GRADIENT)
    assert_close(explainer(x, 1), expected)
    assert explainer.rewiring.rectifiers == 2
    plain = gradient(lambda x: model(x)[:, 1], x)
    assert np.abs(expected - plain).max() > 1e-2


UNITS = {
    "maximum": (
        lambda keras: keras.layers.ReLU(max_value=2.0),
        lambda x: np.where((x > 0) & (x < 2), 1.0, 0.0),
    ),
    "slope": (
        lambda keras: keras.layers.ReLU(negative_slope=0.2),
        lambda x: np.where(x > 0, 1.0, 0.2),
    ),
    "slope and maximum": (
        lambda keras: keras.layers.ReLU(max_value=2.0, negative_slope=0.2),
        lambda x: np.where(x >= 2, 0.0, np.where(x > 0, 1.0, 0.2)),
    ),
    "threshold": (
        lambda keras: keras.layers.ReLU(threshold=0.5),
        lambda x: np.where(x > 0.5, 1.0, 0.0),
    ),
    "slope and threshold": (
        lambda keras: keras.layers.ReLU(negative_slope=0.2, threshold=0.5),
        lambda x: np.where(x > 0.5, 1.0, 0.2),
    ),
    "prelu": (
        lambda keras: keras.layers.PReLU(alpha_initializer=keras.initializers.Constant(0.3)),
        lambda x: np.where(x > 0, 1.0, 0.3),
    ),
    "elu": (
        lambda keras: keras.layers.ELU(alpha=0.5),
        lambda x: np.where(x > 0, 1.0, 0.5 * np.exp(x)),
    ),
}


@every_rule
@pytest.mark.parametrize("unit", UNITS)
def test_rectifiers_of_several_ops_are_one_unit(keras, rng, rule, unit):
    make, derivative = UNITS[unit]
    first, last = weights(keras, 8, 3)
    layer = make(keras)
    inputs = keras.layers.Input((5,))
    model = keras.Model(inputs, last(layer(first(inputs))))
    # A custom gradient must not use variables, of which PReLU has one.
    phi = layer if unit != "prelu" else lambda x: tf.nn.leaky_relu(x, 0.3)
    twin = twin_of(rule, phi, derivative, 1.0)
    x = rows(rng)
    expected = gradient(lambda x: last(twin(first(x)))[:, 2], x)
    explainer = Saliency(model, backprop_modifier=RULES[rule], **GRADIENT)
    assert_close(explainer(x, 2), expected)
    assert explainer.rewiring.rectifiers == 1
    np.testing.assert_allclose(
        explainer.explain_with_scores(x, 2)[1], model(x)[:, 2], rtol=1e-5, atol=1e-5
    )


HAND_MADE = {
    "prelu": lambda x: tf.nn.relu(x) - 0.25 * tf.nn.relu(-x),
    "maximum": lambda x: tf.minimum(tf.nn.relu(x), 2.0),
    "clip": lambda x: tf.clip_by_value(tf.nn.relu(x), 0.0, 2.0),
    "threshold": lambda x: x * tf.cast(x > 0.5, x.dtype),
    "where": lambda x: tf.where(x > 0.5, x, tf.zeros_like(x)),
    "of maximum": lambda x: tf.maximum(x, 0.0),
}


@pytest.mark.parametrize("activation", HAND_MADE)
def test_rectifiers_made_by_hand_are_named(keras, rng, activation):
    first, last = weights(keras, 8, 3)
    inputs = keras.layers.Input((5,))
    hidden = keras.layers.Activation(HAND_MADE[activation])(first(inputs))
    model = keras.Model(inputs, last(keras.layers.ReLU()(hidden)))
    with pytest.raises(NothingRewiredError, match="layer `ReLU`"):
        GuidedBackprop(model)(rows(rng), 0)


def nested(keras):
    first, second, last = weights(keras, 8, 7, 3)
    inner = keras.Sequential(
        [keras.layers.Input((5,)), first, keras.layers.ReLU(), second], name="inner"
    )
    inputs = keras.layers.Input((5,))
    return keras.Model(inputs, last(keras.layers.Activation(tf.nn.relu)(inner(inputs)))), (
        first,
        second,
        last,
    )


def relu_twin(rule):
    return twin_of(rule, *ACTIVATIONS["relu"])


@every_rule
def test_nested_models(keras, rng, rule):
    model, (first, second, last) = nested(keras)
    twin, x = relu_twin(rule), rows(rng)
    expected = gradient(lambda x: last(twin(second(twin(first(x)))))[:, 0], x)
    assert_close(explain(model, x, 0, rule), expected)


def test_guided_backprop_and_deconvnet_of_a_nested_model(keras, rng):
    model, (first, second, last) = nested(keras)
    x = rows(rng)
    plain = gradient(lambda x: model(x)[:, 0], x)
    for method, rule in ((GuidedBackprop, "guided"), (DeconvNet, "deconv")):
        twin = relu_twin(rule)
        expected = gradient(lambda x, t=twin: last(t(second(t(first(x)))))[:, 0], x)
        assert_close(method(model)(x, 0), expected)
        assert np.abs(expected - plain).max() > 1e-2


@every_rule
def test_subclassed_models_shared_layers_and_bare_functions(keras, rng, rule):
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.shared, self.last = weights(keras, 6, 6, 3)
            self.rectifier = keras.layers.ReLU()

        def call(self, inputs):
            hidden = self.rectifier(self.first(inputs))
            hidden = self.rectifier(self.shared(hidden))
            return self.last(tf.nn.relu(self.shared(hidden)))

    model, twin, x = Subclassed(), relu_twin(rule), rows(rng)
    model(x)

    def score(x):
        hidden = twin(model.first(x))
        hidden = twin(model.shared(hidden))
        return model.last(twin(model.shared(hidden)))[:, 1]

    explainer = Saliency(model, backprop_modifier=RULES[rule], **GRADIENT)
    assert_close(explainer(x, 1), gradient(score, x))
    assert explainer.rewiring.rectifiers == 3


def wrapped(keras, run):
    """A model that runs a rectifier between two dense layers as `run` says."""

    class Wrapped(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.last = weights(keras, 6, 3)

        def call(self, inputs):
            return self.last(run(self.first(inputs)))

    model = Wrapped()
    model(np.zeros((1, 5), "float32"))
    return model


compiled_relu = tf.function(lambda x: tf.nn.relu(x) * 1.0)

PLACES = {
    "function": compiled_relu,
    "cond": lambda x: tf.cond(
        tf.reduce_sum(x) > -1e6, lambda: tf.nn.relu(x), lambda: tf.nn.relu(-x)
    ),
    "while": lambda x: tf.while_loop(
        lambda i, x: i < 2, lambda i, x: (i + 1, tf.nn.relu(x)), [0, x]
    )[1],
    "map": lambda x: tf.map_fn(tf.nn.relu, x),
    "recompute": lambda x: tf.recompute_grad(lambda x: tf.nn.relu(x) * 1.0)(x),
}


@every_rule
@pytest.mark.parametrize("place", PLACES)
def test_rectifiers_inside_other_graphs(keras, rng, rule, place):
    model, x = wrapped(keras, PLACES[place]), rows(rng)
    twin = relu_twin(rule)
    times = 2 if place == "while" else 1

    def score(x):
        hidden = model.first(x)
        for _ in range(times):
            hidden = twin(hidden)
        return model.last(hidden)[:, 1]

    assert_close(explain(model, x, 1, rule), gradient(score, x))
    # The rule stays with this gradient: what others differentiate is plain, before and after.
    plain = gradient(lambda x: model.last(tf.nn.relu(model.first(x)))[:, 1], x)
    assert_close(gradient(lambda x: model(x)[:, 1], x), plain)
    assert_close(Saliency(model, **GRADIENT)(x, 1), plain)


def test_a_function_that_was_differentiated_before_follows_the_rule(keras, rng):
    function = tf.function(lambda x: tf.nn.relu(x) * 1.0)
    model, x = wrapped(keras, function), rows(rng)
    plain = gradient(lambda x: model(x)[:, 1], x)
    twin = relu_twin("guided")
    expected = gradient(lambda x: model.last(twin(model.first(x)))[:, 1], x)
    assert_close(explain(model, x, 1, "guided"), expected)
    assert_close(gradient(lambda x: model(x)[:, 1], x), plain)


def test_a_function_that_branches_on_a_tensor_keeps_doing_so(keras, rng):
    @tf.function
    def branching(x):
        if tf.reduce_sum(x) > -1e6:
            return tf.nn.relu(x)
        return -x

    model, x = wrapped(keras, branching), rows(rng)
    twin = relu_twin("guided")
    expected = gradient(lambda x: model.last(twin(model.first(x)))[:, 1], x)
    assert_close(explain(model, x, 1, "guided"), expected)


def test_a_concrete_function_is_named(keras, rng):
    concrete = tf.function(lambda x: tf.nn.relu(x)).get_concrete_function(
        tf.TensorSpec([None, 6], tf.float32)
    )
    model, x = wrapped(keras, lambda x: concrete(x)), rows(rng)
    with pytest.raises(NothingRewiredError, match="compiled function"):
        GuidedBackprop(model)(x, 1)
    plain = gradient(lambda x: model.last(tf.nn.relu(model.first(x)))[:, 1], x)
    assert_close(gradient(lambda x: model(x)[:, 1], x), plain)


def test_a_custom_gradient_that_hides_a_rectifier_is_named(keras, rng):
    @tf.custom_gradient
    def hiding(x):
        return tf.nn.relu(x), lambda g: g

    model = wrapped(keras, lambda x: tf.nn.relu(hiding(x)))
    with pytest.raises(NothingRewiredError, match="custom gradient"):
        GuidedBackprop(model)(rows(rng), 1)


@every_rule
def test_recurrent_cells(keras, rng, rule):
    cell = keras.layers.SimpleRNN(4, activation="relu", return_sequences=True)
    last = weights(keras, 3)[0]
    inputs = keras.layers.Input((4, 2))
    model = keras.Model(inputs, last(keras.layers.Flatten()(cell(inputs))))
    x = rng.normal(size=(5, 4, 2)).astype("float32")
    kernel, recurrent, bias = (np.array(weight) for weight in cell.weights)
    twin = relu_twin(rule)

    def score(x):
        state, states = tf.zeros([5, 4]), []
        for step in range(4):
            state = twin(x[:, step] @ kernel + bias + state @ recurrent)
            states.append(state)
        return last(tf.concat(states, 1))[:, 2]

    assert_close(explain(model, x, 2, rule), gradient(score, x))


@pytest.mark.parametrize("way", ["saved", "exported"])
def test_saved_models_are_refused(keras, rng, tmp_path, way):
    model, _ = nested(keras)
    x = rows(rng)
    if way == "exported":
        model.export(str(tmp_path))
    else:
        tf.saved_model.save(model, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    if not callable(loaded) and "serving_default" not in loaded.signatures:
        pytest.skip("this Keras saves nothing that can be called")
    expected = gradient(lambda x: model(x)[:, 1], x)
    with pytest.raises(NothingRewiredError, match="compiled function"):
        GuidedBackprop(loaded)(x, 1)
    # Its own gradient was not changed by the attempt.
    assert_close(Saliency(loaded, **GRADIENT)(x, 1), expected)


def test_a_reloaded_keras_model(keras, rng, tmp_path):
    first, second, last = weights(keras, 8, 7, 3)
    layers = [first, keras.layers.ReLU(), second, keras.layers.Activation("relu"), last]
    keras.Sequential([keras.layers.Input((5,)), *layers]).save(str(tmp_path / "model.keras"))
    loaded = keras.models.load_model(str(tmp_path / "model.keras"), compile=False)
    x, twin = rows(rng), relu_twin("guided")
    expected = gradient(lambda x: last(twin(second(twin(first(x)))))[:, 1], x)
    assert_close(explain(loaded, x, 1, "guided"), expected)


def test_a_tanh_only_model_is_an_error(keras, rng):
    first, last = weights(keras, 6, 3)
    model = keras.Sequential(
        [keras.layers.Input((5,)), first, keras.layers.Activation("tanh"), last]
    )
    with pytest.raises(NothingRewiredError, match="tanh"):
        GuidedBackprop(model)(rows(rng), 1)


@pytest.mark.parametrize("smooth", ["swish", "gelu", "tanh", "softplus"])
def test_smooth_activations_are_left_and_named(keras, rng, smooth):
    first, second, last = weights(keras, 6, 6, 3)
    inputs = keras.layers.Input((5,))
    hidden = keras.layers.Activation("relu")(first(inputs))
    model = keras.Model(inputs, last(keras.layers.Activation(smooth)(second(hidden))))
    x, twin = rows(rng), relu_twin("guided")
    phi = keras.layers.Activation(smooth)
    expected = gradient(lambda x: last(phi(second(twin(first(x)))))[:, 1], x)
    explainer = GuidedBackprop(model)
    with pytest.warns(UserWarning, match=smooth):
        assert_close(explainer(x, 1), expected)
    assert explainer.rewiring.smooth == (smooth,)
    explainer(x, 1)  # says it once


def test_the_sigmoid_that_is_explained_is_not_said_to_be_left(keras, rng):
    first, last = weights(keras, 6, 3)
    model = keras.Sequential(
        [
            keras.layers.Input((5,)),
            first,
            keras.layers.ReLU(),
            last,
            keras.layers.Activation("sigmoid"),
        ]
    )
    explainer = GuidedBackprop(model)
    explainer(rows(rng), 1)
    assert explainer.rewiring.smooth == ()


@pytest.mark.networks
def test_gates_of_mobilenet_v3(keras, rng):
    model = keras.applications.MobileNetV3Small(
        input_shape=(32, 32, 3), weights=None, classes=5, classifier_activation=None
    )
    x = rng.uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    explainer = GuidedBackprop(model)
    with pytest.warns(UserWarning, match="gates"):
        maps = explainer(x, 1)
    assert np.isfinite(maps).all()
    relus = sum(
        isinstance(layer, (keras.layers.ReLU, keras.layers.Activation))
        and getattr(layer, "max_value", None) is None
        and getattr(getattr(layer, "activation", None), "__name__", "relu") == "relu"
        for layer in model.layers
    )
    assert explainer.rewiring.rectifiers == relus
    assert explainer.rewiring.gates > 10


def test_hard_swish_keeps_its_own_gradient(keras, rng):
    first, second, last = weights(keras, 6, 6, 3)
    hard_swish = lambda x: x * (tf.nn.relu6(x + 3.0) * (1.0 / 6.0))  # noqa: E731
    inputs = keras.layers.Input((5,))
    hidden = keras.layers.Activation(hard_swish)(first(inputs))
    model = keras.Model(inputs, last(keras.layers.ReLU()(second(hidden))))
    x, twin = rows(rng), relu_twin("guided")
    expected = gradient(lambda x: last(twin(second(hard_swish(first(x)))))[:, 1], x)
    explainer = GuidedBackprop(model)
    with pytest.warns(UserWarning, match="1 gates"):
        assert_close(explainer(x, 1), expected)
    assert explainer.rewiring.rectifiers == 1


def test_convolutional_network(keras, rng):
    convolution = keras.layers.Conv2D(4, 3, name="conv")
    last = weights(keras, 3)[0]
    model = keras.Sequential(
        [
            keras.layers.Input((8, 8, 3)),
            convolution,
            keras.layers.ReLU(),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            last,
        ]
    )
    x = rng.normal(size=(5, 8, 8, 3)).astype("float32")
    twin = relu_twin("guided")

    def score(x):
        pooled = tf.nn.max_pool2d(twin(convolution(x)), 2, 2, "VALID")
        return last(tf.reshape(pooled, [5, -1]))[:, 1]

    expected = gradient(score, x)
    assert_close(GuidedBackprop(model, reducer=None)(x, 1), expected)
    assert_close(GuidedBackprop(model)(x, 1), expected.mean(-1, keepdims=True))
    assert_close(GuidedBackprop(model, reducer=None).explain_outputs(x, [0, 1])[:, 1], expected)


def test_only_what_lies_behind_wrt_layer_counts(keras, rng):
    first, second, last = weights(keras, 6, 6, 3)
    inputs = keras.layers.Input((5,))
    hidden = keras.layers.ReLU()(first(inputs))
    model = keras.Model(inputs, last(keras.layers.Activation("tanh")(second(hidden))))
    with pytest.raises(NothingRewiredError, match="tanh"):
        GuidedBackprop(model, wrt_layer="d1")(rows(rng), 1)
    with pytest.warns(UserWarning, match="tanh"):
        GuidedBackprop(model)(rows(rng), 1)


def test_rectifiers_of_the_operator_are_its_own(keras, rng):
    model, (first, second, last) = nested(keras)
    x, twin = rows(rng), relu_twin("guided")

    def hinge(f, x, y):
        return tf.nn.relu(4.0 - f(x)[:, 0])

    expected = gradient(lambda x: tf.nn.relu(4.0 - last(twin(second(twin(first(x)))))[:, 0]), x)
    explainer = GuidedBackprop(model, operator=hinge)
    assert_close(explainer(x), expected)
    assert explainer.rewiring.rectifiers == 2


def test_a_tape_around_f_sees_the_rule(keras, rng):
    model, (first, second, last) = nested(keras)
    x, twin = rows(rng), relu_twin("guided")
    expected = gradient(lambda x: last(twin(second(twin(first(x)))))[:, 1], x)
    explainer = GuidedBackprop(model)
    assert_close(gradient(lambda x: explainer.model(x)[:, 1], x), expected)
    np.testing.assert_allclose(explainer.model(x), model(x), rtol=1e-5, atol=1e-5)


def test_two_rules_on_one_model(keras, rng):
    model, _ = nested(keras)
    x = rows(rng)
    rules = ["guided", "deconv", "own"] * 2
    expected = {rule: explain(model, x, 1, rule) for rule in RULES}
    fresh, _ = nested(keras)
    fresh.set_weights(model.get_weights())
    found, errors = {}, []

    def run(number):
        try:
            found[number] = explain(fresh, x, 1, rules[number])
        except BaseException as error:
            errors.append(error)

    before = trace_count()
    threads = [threading.Thread(target=run, args=[number]) for number in range(len(rules))]
    for thread in threads:
        thread.start()
    plain = gradient(lambda x: fresh(x)[:, 1], x)
    for thread in threads:
        thread.join()
    assert not errors
    for number, rule in enumerate(rules):
        assert_close(found[number], expected[rule])
    assert trace_count() == before + 3
    assert_close(plain, gradient(lambda x: model(x)[:, 1], x))


def test_tensorflow_is_as_it_was(keras, rng):
    from tensorflow.python.framework import ops

    registry = ops.gradient_registry._registry
    before = {name: entry["type"] for name, entry in registry.items()}
    call = type(compiled_relu).__call__
    model, _ = nested(keras)
    GuidedBackprop(model)(rows(rng), 1)
    with pytest.raises(ZeroDivisionError):
        Saliency(model, backprop_modifier=lambda x, y, g: 1 / 0)(rows(rng), 1)
    assert all(registry[name]["type"] is function for name, function in before.items())
    assert type(compiled_relu).__call__ is call
    x = rows(rng)
    last = model.layers[-1]
    assert_close(Saliency(model, **GRADIENT)(x, 1), gradient(lambda x: model(x)[:, 1], x))
    assert last is model.layers[-1]


@pytest.mark.parametrize("modifier", ["guide", 3, lambda x, y: x])
def test_what_is_not_a_rule_is_refused(keras, modifier):
    model, _ = nested(keras)
    with pytest.raises(InvalidParameterError, match="backprop_modifier"):
        Saliency(model, backprop_modifier=modifier)


def test_a_rule_of_a_wrong_shape_is_refused(keras, rng):
    model, _ = nested(keras)
    with pytest.raises(InvalidParameterError, match="element by element"):
        Saliency(model, backprop_modifier=lambda x, y, g: g[:, :2])(rows(rng), 1)


def test_aliases(keras, rng):
    model, _ = nested(keras)
    x = rows(rng)
    expected = explain(model, x, 0, "deconv")
    for name in ("relu", "rectified"):
        maps = Saliency(model, backprop_modifier=name, **GRADIENT)(x, 0)
        np.testing.assert_array_equal(maps, expected)


def test_plain_saliency_is_not_changed_by_rules(keras, rng):
    model, _ = nested(keras)
    x = rows(rng)
    classes = np.zeros(6, int)
    plain = np.abs(gradient(class_score(model, classes), x))
    assert_close(Saliency(model)(x, classes), plain)
    GuidedBackprop(model)(x, classes)
    assert_close(Saliency(model)(x, classes), plain)
