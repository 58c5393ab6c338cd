"""What holds for any input, weight, batch size and structure."""

import functools
import importlib
import warnings

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from xplique_sal import Saliency, grad_modifiers
from xplique_sal._data.arrange import arrange
from xplique_sal._data.structures import InputSpec, ModelInputs, leaves, pack, skeleton_of
from xplique_sal._engine import reducers
from xplique_sal.attributions import IntegratedGradients, SmoothGrad
from xplique_sal.attributions.base import WhiteBoxExplainer

few = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
KERASES = pytest.mark.parametrize("name", ["tf_keras", "keras"], ids=["tf_keras", "keras3"])
WIDTH, OUTPUTS = 4, 3

numbers = st.floats(-8, 8, width=32).filter(lambda value: value == 0 or abs(value) > 1e-3)
samples = arrays(np.float32, st.tuples(st.integers(1, 9), st.just(WIDTH)), elements=numbers)
weights = arrays(np.float32, (WIDTH, OUTPUTS), elements=numbers)


@functools.cache
def linear(name):
    keras = importlib.import_module(name)
    inputs = keras.Input((WIDTH,))
    return keras.Model(inputs, keras.layers.Dense(OUTPUTS)(inputs))


@functools.cache
def curved(name):
    keras = importlib.import_module(name)
    keras.utils.set_random_seed(1)
    inputs = keras.Input((WIDTH,))
    features = keras.layers.Dense(6, activation="tanh")(inputs)
    return keras.Model(inputs, keras.layers.Dense(OUTPUTS)(features))


@functools.cache
def images(name):
    keras = importlib.import_module(name)
    keras.utils.set_random_seed(1)
    inputs = keras.Input((3, 4, 2))
    features = keras.layers.Conv2D(3, 2, activation="tanh")(inputs)
    return keras.Model(inputs, keras.layers.Dense(OUTPUTS)(keras.layers.Flatten()(features)))


def scaled(f, x, y):
    """Return the first output, times the target of each sample."""
    return f(x)[:, 0] * tf.cast(y, tf.float32)


def assert_close(actual, expected):
    scale = max(np.abs(expected).max(initial=0), 1e-6)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5 * scale)


@KERASES
@few
@given(data=st.data(), x=samples)
def test_the_order_of_samples_does_not_matter(name, data, x):
    order = np.array(data.draw(st.permutations(range(len(x)))))
    y = np.array(data.draw(st.lists(st.integers(0, OUTPUTS - 1), min_size=len(x), max_size=len(x))))
    explainer = Saliency(curved(name), batch_size=4)
    assert_close(explainer.explain(x[order], y[order]), explainer.explain(x, y).numpy()[order])


@KERASES
@few
@given(x=samples, batch_size=st.one_of(st.none(), st.integers(1, 12)), target=st.integers(0, 2))
def test_any_batch_size_gives_the_same_map(name, x, batch_size, target):
    model = curved(name)
    expected = Saliency(model, batch_size=1).explain(x, target).numpy()
    assert_close(Saliency(model, batch_size=batch_size).explain(x, target), expected)


@KERASES
@few
@given(x=samples, size=st.integers(1, 12), batch_size=st.one_of(st.none(), st.integers(1, 12)))
def test_a_dataset_of_any_batches_gives_the_same_map(name, x, size, batch_size):
    model = curved(name)
    expected = Saliency(model).explain(x, 1).numpy()
    dataset = tf.data.Dataset.from_tensor_slices(x).batch(size)
    assert_close(Saliency(model, batch_size=batch_size).explain(dataset, 1), expected)


@pytest.mark.filterwarnings("ignore:The gradient is zero")
@KERASES
@few
@given(x=samples, w=weights, targets=st.data())
def test_the_map_of_a_linear_model_is_its_weights(name, x, w, targets):
    y = targets.draw(arrays(np.float32, (len(x), OUTPUTS), elements=st.integers(1, 5)))
    model = linear(name)
    model.layers[-1].set_weights([w, np.ones(OUTPUTS)])
    explainer = WhiteBoxExplainer(model, operator="regression", batch_size=4)
    maps, scores = explainer.explain_with_scores(x, y)
    assert_close(maps, y @ w.T)
    assert_close(scores, ((x @ w + 1) * y).sum(1))


@KERASES
@few
@given(x=samples, w=weights, target=st.integers(0, OUTPUTS - 1))
def test_saliency_of_a_linear_model_is_the_size_of_its_weights(name, x, w, target):
    w = np.where(w == 0, np.float32(0.5), w)  # a gradient of zero is warned of
    model = linear(name)
    model.layers[-1].set_weights([w, np.zeros(OUTPUTS)])
    maps = Saliency(model).explain(x, target).numpy()
    np.testing.assert_allclose(maps, np.tile(np.abs(w[:, target]), (len(x), 1)), rtol=1e-6)


@KERASES
@few
@given(x=samples, factor=st.floats(-100, 100, width=32).filter(lambda factor: abs(factor) > 1e-2))
def test_a_scaled_score_scales_the_map(name, x, factor):
    explainer = Saliency(curved(name), operator=scaled)
    ones = np.ones(len(x), np.float32)
    assert_close(
        explainer.explain(x, factor * ones), abs(factor) * explainer.explain(x, ones).numpy()
    )


@KERASES
@few
@given(x=samples)
def test_maps_of_all_outputs_are_the_maps_of_each(name, x):
    explainer = Saliency(curved(name), batch_size=4)
    together = explainer.explain_outputs(x).numpy()
    for output in range(OUTPUTS):
        assert_close(together[:, output], explainer.explain(x, output).numpy())


@pytest.mark.filterwarnings(
    "ignore:The gradient is zero", "ignore:The attributions of some sample add up"
)
@KERASES
@few
@given(x=samples, baseline=numbers, output=st.integers(0, OUTPUTS - 1), steps=st.integers(2, 300))
def test_integrated_gradients_are_complete_but_for_their_gap(name, x, baseline, output, steps):
    model = curved(name)
    explainer = IntegratedGradients(model, steps=steps, baseline_value=baseline, batch_size=4)
    maps, gaps, changes = explainer.explain_with_gaps(x, output)
    start = np.full_like(x, baseline)
    expected = model(x).numpy()[:, output] - model(start).numpy()[:, output]
    np.testing.assert_allclose(changes, expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(maps.numpy().sum(1) - gaps, expected, rtol=0, atol=1e-3)
    # The error of the trapezoidal rule: of the way's length, its second derivative and the steps.
    length = np.abs(x - start).sum(1)
    assert (np.abs(gaps) <= 1e-3 + 10 * (length / (steps - 1)) ** 2 * np.maximum(length, 1)).all()


@pytest.mark.filterwarnings("ignore:The gradient is zero")
@KERASES
@few
@given(
    x=samples, w=weights, target=st.integers(0, OUTPUTS - 1), seed=st.integers(-(2**63), 2**63 - 1)
)
def test_smoothgrad_of_a_linear_model_is_its_weights(name, x, w, target, seed):
    model = linear(name)
    model.layers[-1].set_weights([w, np.zeros(OUTPUTS)])
    maps = SmoothGrad(model, nb_samples=3, seed=seed, batch_size=4).explain(x, target)
    assert_close(maps, np.tile(w[:, target], (len(x), 1)))


@KERASES
@few
@given(data=st.data(), x=samples)
def test_integrated_gradients_do_not_depend_on_the_order(name, data, x):
    order = np.array(data.draw(st.permutations(range(len(x)))))
    explainer = IntegratedGradients(curved(name), batch_size=4, steps=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        maps = explainer.explain(x, 1).numpy()
        assert_close(explainer.explain(x[order], 1), maps[order])


REDUCERS = {"max": np.max, "mean": np.mean, "min": np.min, "sum": np.sum}


@few
@given(
    gradients=arrays(
        np.float32, st.tuples(*[st.integers(1, 3)] * 4), elements=st.floats(-9, 9, width=32)
    ),
    reducer=st.sampled_from(sorted(REDUCERS)),
    axis=st.sampled_from([1, -1]),
)
def test_reducers_are_numpys(gradients, reducer, axis):
    reduced = reducers.reduce(tf.constant(gradients), reducer, axis)
    assert_close(reduced, REDUCERS[reducer](gradients, axis=axis, keepdims=True))


@few
@given(gradients=arrays(np.float32, st.integers(1, 3).map(lambda rank: (2,) * rank)))
def test_tables_and_series_are_not_reduced(gradients):
    tensor = tf.constant(gradients)
    for reducer in (None, *REDUCERS):
        assert reducers.reduce(tensor, reducer, -1) is tensor


MODIFIERS = {
    "absolute": np.abs,
    "relu": lambda g: np.maximum(g, 0),
    "negate": np.negative,
    "invert": lambda g: 1 / (g + np.float32(1e-7)),
    "small_values": lambda g: np.abs(1 / (g + np.float32(1e-7))),
}


@few
@given(
    gradients=arrays(np.float32, (2, 3), elements=st.floats(-9, 9, width=32)),
    modifier=st.sampled_from(sorted(MODIFIERS)),
)
def test_modifiers_are_numpys(gradients, modifier):
    modified = grad_modifiers.resolve(modifier)(tf.constant(gradients)).numpy()
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(modified, MODIFIERS[modifier](gradients), rtol=1e-5)


@few
@given(
    gradients=arrays(np.float32, (2, 3), elements=numbers),
    names=st.lists(st.sampled_from(["absolute", "relu", "negate"]), max_size=4),
)
def test_composed_modifiers_apply_from_left_to_right(gradients, names):
    expected = gradients
    for name in names:
        expected = MODIFIERS[name](expected)
    composed = grad_modifiers.compose(*names)(tf.constant(gradients))
    np.testing.assert_array_equal(composed, expected)


@pytest.mark.filterwarnings("ignore:The gradient is zero")
@KERASES
@settings(few, max_examples=10)
@given(
    x=arrays(
        np.float32,
        st.tuples(st.integers(1, 3), st.just(3), st.just(4), st.just(2)),
        elements=numbers,
    ),
    modifier=st.sampled_from([None, "absolute", "relu", "negate"]),
    reducer=st.sampled_from([None, *REDUCERS]),
)
def test_an_image_map_is_the_gradient_modified_then_reduced(name, x, modifier, reducer):
    model = images(name)
    with tf.GradientTape() as tape:
        tensor = tf.constant(x)
        tape.watch(tensor)
        score = tf.reduce_sum(model(tensor)[:, 1])
    expected = tape.gradient(score, tensor).numpy()
    if modifier is not None:
        expected = MODIFIERS[modifier](expected)
    if reducer is not None:
        expected = REDUCERS[reducer](expected, axis=-1, keepdims=True)
    explainer = WhiteBoxExplainer(model, grad_modifier=modifier, reducer=reducer)
    assert_close(explainer.explain(x, 1), expected)


structures = st.recursive(
    st.integers(),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=2), inner, max_size=3),
    ),
    max_leaves=8,
)


@few
@given(structure=structures)
def test_packing_the_leaves_gives_the_structure(structure):
    packed = pack(skeleton_of(structure), leaves(structure))
    assert packed == structure
    assert repr(packed) == repr(structure)  # types and the order of keys too


@few
@given(structure=structures)
def test_a_skeleton_counts_the_leaves(structure):
    assert sorted(leaves(skeleton_of(structure))) == list(range(len(leaves(structure))))
    assert leaves(skeleton_of(structure)) == list(range(len(leaves(structure))))


@few
@given(
    names=st.lists(st.text("abcdef", min_size=1), min_size=1, max_size=5, unique=True), d=st.data()
)
def test_named_inputs_are_arranged_and_given_back(names, d):
    given_order = d.draw(st.permutations(names))
    specs = tuple(InputSpec(name, (None, 1), tf.float32) for name in names)
    model = ModelInputs(specs, {name: position for position, name in enumerate(names)}, None)
    inputs = {name: np.full((1, 1), float(names.index(name))) for name in given_order}
    arrangement = arrange(inputs, model)
    assert [array.item() for array in arrangement.flat] == list(range(len(names)))
    assert pack(arrangement.for_model, arrangement.flat) == inputs
    back = pack(arrangement.for_user, arrangement.flat)
    assert list(back) == list(given_order)
    assert all(back[name] is inputs[name] for name in names)
