"""Expected gradients: a slow twin with the same draws, expectations, gaps, baselines."""

import numpy as np
import pytest
import tensorflow as tf
from reference import built_once, class_score, gradient

from xplique_sal._tracing.programs import trace_count
from xplique_sal.attributions import GradientShap, IntegratedGradients
from xplique_sal.errors import InvalidParameterError


@built_once
def network(keras, activation="tanh"):
    return keras.Sequential(
        [
            keras.layers.Input((5,)),
            keras.layers.Dense(8, activation=activation),
            keras.layers.Dense(3),
        ]
    )


@pytest.fixture
def x(rng):
    return rng.normal(size=(6, 5)).astype("float32")


@pytest.fixture
def references(rng):
    return rng.normal(size=(4, 5)).astype("float32")


def assert_close(actual, expected, tolerance=1e-5):
    expected = np.asarray(expected)
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def drawn(seed, points, samples):
    """What the documentation says of the draws: the place and the baseline of each point."""
    parts = [
        tf.random.stateless_uniform((samples, 4), [seed, k - 2**32], alg="philox").numpy()
        for k in range(points)
    ]
    return [(part[:, :1], part[:, 1]) for part in parts]


def test_the_map_is_that_of_a_slow_twin(keras, x, references):
    model, points, noise = network(keras), 7, 0.3
    expected = 0
    for k, (place, which) in enumerate(drawn(3, points, 6)):
        r = references[(which * 4).astype(int)]
        moved = tf.random.stateless_normal((6, 8), [3, k], alg="philox").numpy()[:, :5]
        near = x + noise * moved
        alpha = (k + place) / points
        at = (r + alpha * (near - r)).astype("float32")
        expected = expected + (near - r) * gradient(class_score(model, [1] * 6), at) / points
    options = {"baselines": references, "nb_samples": points, "noise": noise, "seed": 3}
    for batch_size in (1, 4, None):
        assert_close(GradientShap(model, batch_size=batch_size, **options)(x, 1), expected)
    assert_close(GradientShap(model, **options).explain_outputs(x)[:, 1], expected)


def test_of_one_baseline_it_is_integrated_gradients(keras, x, references):
    model, one = network(keras), references[0]
    expected = IntegratedGradients(model, steps=500, baseline_value=one).explain(x, 1)
    found = GradientShap(model, baselines=one, nb_samples=2000, seed=0).explain(x, 1)
    assert_close(found, expected, 1e-2)


def test_of_several_it_is_their_mean(keras, x, references):
    """Of a linear model it is w·(x − mean of what was drawn), which are all alike."""
    model = network(keras, "linear")
    weights = np.linalg.multi_dot([layer.get_weights()[0] for layer in model.layers])[:, 1]
    expected = weights * (x - references.mean(0))
    found = GradientShap(model, baselines=references, nb_samples=4000, seed=0).explain(x, 1)
    assert_close(found, expected, 0.03)
    one = GradientShap(model, baselines=references[:1], nb_samples=2).explain(x, 1)
    assert_close(one, weights * (x - references[0]))


def test_gaps_are_to_the_mean_of_all_baselines(keras, x, references):
    model = network.anew(keras)
    scores = lambda z: model(z).numpy()[:, 1]  # noqa: E731
    change = scores(x) - scores(references).mean()
    before, traces = None, trace_count()
    for points in (10, 1000):
        explainer = GradientShap(model, baselines=references, nb_samples=points, seed=0)
        maps, gaps, changes = explainer.explain_with_gaps(x, 1)
        assert_close(explainer(x, 1), maps)
        np.testing.assert_allclose(changes, change, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(gaps, maps.numpy().sum(1) - change, rtol=0, atol=2e-5)
        worst = np.abs(gaps).max()
        assert before is None or worst < before / 3
        before = worst
    assert trace_count() == traces + 1
    _, with_scores = explainer.explain_with_scores(x, 1)
    np.testing.assert_allclose(with_scores, scores(x), rtol=1e-4, atol=1e-5)


def test_several_inputs_go_the_same_way(keras, x, references):
    """A product of two inputs adds up only where both are at the same place of the same way."""
    a, b = keras.layers.Input((5,)), keras.layers.Input((5,))
    model = keras.Model([a, b], keras.layers.Dot(1)([a, b]))
    inputs, baselines = [x, x[::-1] + 1], [references, references[::-1] - 1]
    explainer = GradientShap(model, baselines=baselines, nb_samples=500, seed=0)
    maps, gaps, changes = explainer.explain_with_gaps(inputs)
    expected = np.sum(inputs[0] * inputs[1], 1) - np.sum(baselines[0] * baselines[1], 1).mean()
    np.testing.assert_allclose(changes, expected, rtol=1e-3, atol=1e-3)
    assert np.abs(gaps).max() < 0.15 * np.abs(changes).max()
    assert maps[0].shape == maps[1].shape == (6, 5)
    with pytest.raises(InvalidParameterError, match="as many `baselines` for each input"):
        GradientShap(model, baselines=[references, references[:3]]).explain(inputs)


def test_a_function_and_an_inner_layer(keras, x):
    model = network(keras)
    halved = GradientShap(model, baselines=lambda z: z / 2, nb_samples=300, seed=0)
    expected = IntegratedGradients(model, baseline_value=lambda z: z / 2).explain(x, 1)
    maps, gaps, changes = halved.explain_with_gaps(x, 1)
    assert_close(maps, expected, 1e-2)
    assert np.abs(gaps).max() < 1e-2 * np.abs(changes).max()
    hidden, references = model.layers[0].name, np.stack([np.zeros(8), np.ones(8)])
    kernel = model.layers[1].get_weights()[0][:, 1]
    inner = GradientShap(model, baselines=references, wrt_layer=hidden, nb_samples=2000, seed=0)
    maps, gaps, changes = inner.explain_with_gaps(x, 1)
    features = np.asarray(model.layers[0](x))
    assert_close(maps, (features - 0.5) * kernel, 0.05)
    np.testing.assert_allclose(changes, (features - 0.5) @ kernel, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "baselines", [np.zeros((3, 4)), np.zeros((0, 5)), "black", np.nan], ids=str
)
def test_baselines_that_do_not_fit(keras, x, baselines):
    with pytest.raises(InvalidParameterError, match="baselines"):
        GradientShap(network(keras), baselines=baselines).explain(x, 1)


def test_baselines_have_to_be_chosen(keras):
    with pytest.raises(TypeError, match="baselines"):
        GradientShap(network(keras))
