"""Integrated gradients: closed forms, completeness, baselines."""

import warnings

import numpy as np
import pytest
import tensorflow as tf
from reference import built_once, class_score, gradient

from xplique_sal._tracing.programs import trace_count
from xplique_sal.attributions import GuidedBackprop, IntegratedGradients
from xplique_sal.errors import InvalidParameterError, NoGradientError


@built_once
def network(keras, shape=(5,), activation="tanh"):
    layers = [keras.layers.Input(shape)]
    if len(shape) == 3:
        layers.append(keras.layers.Conv2D(4, 2, activation=activation))
    layers += [keras.layers.Flatten(), keras.layers.Dense(8, activation=activation)]
    return keras.Sequential([*layers, keras.layers.Dense(3)])


def cubic(f, x, y):
    """Return Σ a x³ + b x² + c x with a, b, c = 1, 2, 3."""
    return tf.reduce_sum(x**3 + 2 * x**2 + 3 * x, 1) + 0 * f(x)[:, 0]


def polynomial(x):
    return x**3 + 2 * x**2 + 3 * x


def assert_close(actual, expected, tolerance=1e-5):
    expected = np.asarray(expected)
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("baseline", [0.0, 0.5, -1])
def test_a_polynomial_in_closed_form(keras, rng, baseline):
    """Of a sum of functions of one value each, each gets what its function changes by."""
    x = rng.normal(size=(6, 5)).astype("float32")
    explainer = IntegratedGradients(
        network(keras), operator=cubic, steps=400, baseline_value=baseline
    )
    assert_close(explainer.explain(x), polynomial(x) - polynomial(np.float32(baseline)), 1e-4)


def test_the_trapezoidal_rule_has_a_known_error(keras, rng):
    """Of a cubic it is (x − b)³ f‴/12 for each square of a step: that tells the rule and steps."""
    x = rng.normal(size=(6, 5)).astype("float32")
    for steps in (2, 3, 9):
        explainer = IntegratedGradients(network(keras), operator=cubic, steps=steps)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The attributions of some sample add up")
            found = explainer.explain(x)
        error = x**3 * 6 / 12 / (steps - 1) ** 2
        assert_close(found, polynomial(x) + error, 1e-5)


def test_gauss_legendre_is_exact_of_polynomials(keras, rng):
    """Two points are exact of the degree 3, of which the gradient has 2; of x⁸ four are."""
    x, model = rng.normal(size=(6, 5)).astype("float32"), network.anew(keras)

    def eighth(f, x, y):
        return tf.reduce_sum(x**8, 1) + 0 * f(x)[:, 0]

    for operator, steps, exact in ((cubic, 2, polynomial), (eighth, 4, lambda x: x**8)):
        before = trace_count()
        for quadrature in ("gauss_legendre", "trapezoidal"):
            explainer = IntegratedGradients(
                model, operator=operator, steps=steps, baseline_value=0.5, quadrature=quadrature
            )
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "The attributions of some sample add up")
                maps, gaps, changes = explainer.explain_with_gaps(x)
            change = exact(x) - exact(np.float32(0.5))
            assert_close(changes, change.sum(1), 1e-5)
            error = np.abs(maps - change).max() / np.abs(change).max()
            assert (error < 1e-5) == (quadrature == "gauss_legendre")
            assert_close(gaps + changes, maps.numpy().sum(1), 1e-5)
            scores = explainer.explain_with_scores(x)[1]
            assert_close(scores, exact(x).sum(1), 1e-5)
        assert trace_count() == before + 1  # where the points are is no other trace
    with pytest.raises(InvalidParameterError, match="quadrature"):
        IntegratedGradients(model, quadrature="simpson")


@pytest.mark.parametrize("shape", [(5,), (4, 4, 3)], ids=["table", "image"])
def test_the_map_is_that_of_a_slow_twin(keras, rng, shape):
    model, x = network(keras, shape), rng.normal(size=(5, *shape)).astype("float32")
    y, steps = rng.integers(0, 3, 5), 7
    baseline = rng.normal(size=shape).astype("float32")
    gradients = np.array(
        [
            gradient(class_score(model, y), (baseline + a * (x - baseline)).astype("float32"))
            for a in np.linspace(0, 1, steps)
        ]
    )
    expected = (x - baseline) * (gradients[:-1] + gradients[1:]).mean(0) / 2
    options = {"reducer": None, "steps": steps, "baseline_value": baseline}
    for batch_size in (1, 2, 5, 64, None):
        explainer = IntegratedGradients(model, batch_size=batch_size, **options)
        assert_close(explainer.explain(x, y), expected)
    outputs = IntegratedGradients(model, **options).explain_outputs(x)
    assert_close(outputs.numpy()[np.arange(5), y], expected)


def test_gaps_tell_how_far_the_map_is_from_complete(keras, rng):
    model, x = network(keras, (4, 4, 3)), rng.normal(size=(5, 4, 4, 3)).astype("float32")
    model_at = lambda z: model(z).numpy()[:, 1]  # noqa: E731
    expected = model_at(x) - model_at(np.full_like(x, 0.2))
    before = None
    for steps in (4, 16, 64):
        explainer = IntegratedGradients(
            model, reducer=None, steps=steps, baseline_value=0.2, batch_size=3
        )
        maps, gaps, changes = explainer.explain_with_gaps(x, 1)
        np.testing.assert_allclose(changes, expected, rtol=1e-4, atol=1e-5)
        total = maps.numpy().sum((1, 2, 3))
        np.testing.assert_allclose(gaps, total - expected, rtol=0, atol=2e-5)
        worst = np.abs(gaps).max()
        assert before is None or worst < before / 4
        before = worst
    # Also where the map itself is reduced and modified.
    reduced = IntegratedGradients(model, steps=64, baseline_value=0.2, grad_modifier="absolute")
    np.testing.assert_allclose(reduced.explain_with_gaps(x, 1)[1], gaps, rtol=0, atol=2e-5)


def test_a_large_gap_is_warned_of(keras, rng):
    model = network(keras)
    x = 3 + rng.random(size=(5, 5)).astype("float32")

    def steep(f, x, y):
        return tf.reduce_sum(tf.tanh(50 * x), 1) + 0 * f(x)[:, 0]

    explainer = IntegratedGradients(model, operator=steep, steps=4)
    with pytest.warns(UserWarning, match="explain_with_gaps"):
        maps = explainer.explain(x)
    assert np.abs(maps.numpy().sum(1) - 5).min() > 1
    explainer.explain(x)  # once for each explainer
    IntegratedGradients(model, operator=steep, steps=4000).explain(x)


def test_scores_are_those_of_the_samples(keras, rng):
    model, x = network.anew(keras), rng.normal(size=(5, 5)).astype("float32")
    before = trace_count()
    explainer = IntegratedGradients(model, batch_size=2)
    maps, scores = explainer.explain_with_scores(x, 1)
    np.testing.assert_allclose(scores, model(x)[:, 1], rtol=1e-5, atol=1e-6)
    assert_close(explainer.explain(x, 1), maps, 1e-6)
    IntegratedGradients(model, steps=9, baseline_value=0.3).explain(x, 1)
    explainer.explain_with_gaps(x, 1)
    assert trace_count() == before + 1


def test_without_a_target_it_is_the_samples_own_largest_output(keras, rng):
    model, x = network(keras), rng.normal(size=(20, 5)).astype("float32")
    largest = model(x).numpy().argmax(1)
    at_baseline = model(x * 0 + 1).numpy().argmax(1)
    assert (largest != at_baseline).any()  # or the test could not fail
    explainer = IntegratedGradients(model, baseline_value=1)
    assert_close(explainer.explain(x), explainer.explain(x, largest), 1e-6)


SAMPLE = np.arange(48).reshape(4, 4, 3) / 48
BASELINES = {
    "a number": (0.5, lambda x: 0.5),
    "a sample": (
        np.arange(48).reshape(4, 4, 3) / 48,
        lambda x: np.arange(48).reshape(4, 4, 3) / 48,
    ),
    "a value a channel": ([0.1, 0.2, 0.3], lambda x: np.array([0.1, 0.2, 0.3])),
    "a function": (
        lambda x: tf.reduce_mean(x, [1, 2], keepdims=True),
        lambda x: x.mean((1, 2), keepdims=True),
    ),
    "a function of one for all": (lambda x: tf.fill([1, 1, 1, 3], 0.3), lambda x: 0.3),
}


@pytest.mark.parametrize("kind", BASELINES)
def test_baselines(keras, rng, kind):
    """Of a linear model it is (x − b)·w for any number of steps."""
    given, expected = BASELINES[kind]
    model = keras.Sequential(
        [keras.layers.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    x = rng.normal(size=(5, 4, 4, 3)).astype("float32")
    kernel = model.layers[-1].get_weights()[0][:, 1].reshape(4, 4, 3)
    for batch_size in (2, 64):
        explainer = IntegratedGradients(
            model, reducer=None, steps=3, baseline_value=given, batch_size=batch_size
        )
        assert_close(explainer.explain(x, 1), (x - expected(x)) * kernel)


def test_baselines_of_several_inputs(keras, rng):
    left, right = keras.layers.Input((3,), name="left"), keras.layers.Input((4,), name="right")
    joined = keras.layers.Concatenate()([left, right])
    model = keras.Model({"left": left, "right": right}, keras.layers.Dense(2)(joined))
    kernel = model.layers[-1].get_weights()[0][:, 1]
    # A dict in another order than the model's.
    x = {
        "right": rng.normal(size=(5, 4)).astype("f4"),
        "left": rng.normal(size=(5, 3)).astype("f4"),
    }
    baseline = {"right": 2.0, "left": np.array([1.0, 2.0, 3.0])}
    maps = IntegratedGradients(model, steps=2, baseline_value=baseline).explain(x, 1)
    assert_close(maps["left"], (x["left"] - baseline["left"]) * kernel[:3])
    assert_close(maps["right"], (x["right"] - 2) * kernel[3:])
    for_all = IntegratedGradients(model, steps=2, baseline_value=1.0).explain(x, 1)
    assert_close(for_all["right"], (x["right"] - 1) * kernel[3:])
    with pytest.raises(InvalidParameterError, match="each of 2 inputs"):
        IntegratedGradients(model, baseline_value=[1, 2, 3]).explain(x, 1)


def test_the_way_to_a_layer(keras, rng):
    hidden, last = (
        keras.layers.Dense(6, activation="tanh"),
        keras.layers.Dense(3, activation="tanh"),
    )
    model = keras.Sequential([keras.layers.Input((5,)), hidden, last])
    tail = keras.Sequential([keras.layers.Input((6,)), keras.layers.Dense(3, activation="tanh")])
    tail.set_weights(last.get_weights())
    x = rng.normal(size=(4, 5)).astype("float32")
    explainer = IntegratedGradients(model, wrt_layer=hidden.name, baseline_value=0.1)
    maps, gaps, changes = explainer.explain_with_gaps(x, 1)
    features = np.asarray(hidden(x))
    assert_close(maps, IntegratedGradients(tail, baseline_value=0.1).explain(features, 1))
    assert np.abs(gaps).max() < 1e-3 * np.abs(changes).max()


def test_a_gradient_that_does_not_exist_at_the_baseline_is_an_error(keras):
    model, x = network(keras), np.full((3, 5), 2.0, "float32")

    def root(f, x, y):
        return tf.reduce_sum(tf.sqrt(x), 1) + 0 * f(x)[:, 0]

    with pytest.raises(NoGradientError, match="sqrt"):
        IntegratedGradients(model, operator=root).explain(x)
    maps = IntegratedGradients(model, operator=root, steps=500, baseline_value=0.1).explain(x)
    assert_close(maps, np.full((3, 5), np.sqrt(2) - np.sqrt(0.1)), 1e-3)


def test_with_a_backprop_modifier_completeness_is_not_asked_for(keras, rng):
    model = network.anew(keras, activation="relu")
    for layer in model.layers[1:]:
        layer.set_weights([np.abs(weights) for weights in layer.get_weights()])
    x = rng.normal(size=(4, 5)).astype("float32")
    options = {"backprop_modifier": "deconv", "steps": 2}
    maps = IntegratedGradients(model, **options).explain(x, 1)  # a warning would be an error
    assert np.abs(maps).max() > 0
    one = GuidedBackprop(model, backprop_modifier="deconv").explain(x, 1)
    assert_close(maps, x * one.numpy())


@pytest.mark.parametrize("steps", [1, 0, -3, 2.5, True, "many"])
def test_steps_that_make_no_path(keras, steps):
    with pytest.raises(InvalidParameterError, match="steps"):
        IntegratedGradients(network(keras), steps=steps)


@pytest.mark.parametrize("baseline", [np.nan, np.inf, "black", None], ids=str)
def test_baselines_that_are_no_numbers(keras, baseline):
    with pytest.raises(InvalidParameterError, match="baseline_value"):
        IntegratedGradients(network(keras), baseline_value=baseline)


@pytest.mark.parametrize(
    "baseline",
    [np.zeros(4), np.zeros((2, 4)), lambda x: tf.zeros([2, 4])],
    ids=["short", "one for each sample", "function"],
)
def test_baselines_of_another_shape(keras, rng, baseline):
    x = rng.normal(size=(2, 5)).astype("float32")
    with pytest.raises(InvalidParameterError, match="shape of a sample"):
        IntegratedGradients(network(keras), baseline_value=baseline).explain(x, 1)


@pytest.mark.parametrize(
    ("form", "batch_size"),
    [
        ("array", 1),
        ("array", 2),
        ("array", 64),
        ("dataset", 2),
        ("batches", 2),  # of three
        ("fixed batch", 2),
        ("fixed batch", 64),
    ],
)
def test_a_baseline_for_each_sample(keras, rng, form, batch_size):
    """Each goes with its own sample, in batches of any size, padded ones too."""
    static = 2 if form == "fixed batch" else None
    model = keras.Sequential(
        [keras.layers.Input(batch_shape=(static, 5)), keras.layers.Dense(8, activation="tanh")]
    )
    x, baselines = rng.normal(size=(2, 7, 5)).astype("float32")
    explainer = IntegratedGradients(
        model, steps=200, baseline_value=baselines, batch_size=batch_size
    )
    inputs = x
    if form in ("dataset", "batches"):
        inputs = tf.data.Dataset.from_tensor_slices(x)
        inputs = inputs.batch(3) if form == "batches" else inputs
    maps, gaps, _ = explainer.explain_with_gaps(inputs, 1)
    change = np.tanh(x @ model.weights[0].numpy()) - np.tanh(baselines @ model.weights[0].numpy())
    assert_close(tf.reduce_sum(maps, 1), change[:, 1], 1e-3)
    assert np.abs(gaps).max() < 1e-3
    by_sample = [
        IntegratedGradients(model, steps=200, baseline_value=baseline).explain(row[None], 1)[0]
        for row, baseline in zip(x, baselines, strict=True)
    ]
    assert_close(maps, by_sample)


@pytest.mark.parametrize("count", [2, 4])
def test_baselines_of_each_sample_are_as_many_as_samples(keras, rng, count):
    x = rng.normal(size=(3, 5)).astype("float32")
    explainer = IntegratedGradients(network(keras), baseline_value=np.zeros((count, 5)))
    with pytest.raises(InvalidParameterError, match="for each of 3 samples"):
        explainer.explain(x, 1)
    with pytest.raises(InvalidParameterError, match="a known number of samples"):
        explainer.explain(tf.data.Dataset.from_tensor_slices(x).filter(lambda _: True), 1)


def test_baselines_of_each_sample_want_a_dataset_that_keeps_its_order(keras, rng):
    model, x = (
        keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(2)]),
        rng.random((6, 4)),
    )
    explainer = IntegratedGradients(model, baseline_value=x / 2)
    dataset = tf.data.Dataset.from_tensor_slices(x).shuffle(6, reshuffle_each_iteration=True)
    with pytest.raises(InvalidParameterError, match="shuffled anew"):
        explainer.iter_explain(dataset.batch(2))


@pytest.mark.parametrize("batch_size", [1, 2, 64])
@pytest.mark.parametrize("kind", ["mean of the batch", "reversed batch", "NumPy noise"])
def test_a_baseline_that_depends_on_the_batch_or_on_chance_is_refused(keras, rng, kind, batch_size):
    baseline = {
        "mean of the batch": lambda x: tf.reduce_mean(x, 0, keepdims=True) + 0 * x,
        "reversed batch": lambda x: x[::-1],
        "NumPy noise": lambda x: x + np.random.default_rng().normal(size=3).astype("f4"),
    }[kind]
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)])
    x = rng.normal(size=(5, 3)).astype("f4")
    explainer = IntegratedGradients(model, baseline_value=baseline, batch_size=batch_size)
    with pytest.raises(InvalidParameterError, match="depends on the batch, or on chance"):
        explainer.explain(x, 1)


@pytest.mark.parametrize(
    ("kind", "batch_size"),
    [
        ("of each sample", 1),
        ("of each sample", 2),
        ("of each sample", 64),
        ("one for all", 2),
        ("a number", 2),
        ("stateless noise", 1),
        ("stateless noise", 2),
    ],
)
def test_maps_of_baseline_functions_do_not_depend_on_the_batch(keras, rng, kind, batch_size):
    baseline = {
        "of each sample": lambda x: tf.reduce_mean(x, 1, keepdims=True),
        "one for all": lambda x: tf.constant([1.0, 2.0, 3.0]),
        "a number": lambda x: tf.constant(0.5),
        "stateless noise": lambda x: 0 * x + tf.random.stateless_normal([1, 3], (0, 1)),
    }[kind]
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)])
    x = rng.normal(size=(5, 3)).astype("f4")
    explainer = IntegratedGradients(model, baseline_value=baseline, batch_size=batch_size)
    kernel = model.layers[-1].get_weights()[0][:, 1]
    assert_close(explainer.explain(x, 1), (x - np.asarray(baseline(tf.constant(x)))) * kernel)
