"""What every explainer must do. A new one falls under it by being exported."""

import inspect
import re

import numpy as np
import pytest
import tensorflow as tf

from xplique_sal import attributions
from xplique_sal._tracing.programs import trace_count
from xplique_sal.attributions.base import BlackBoxExplainer, WhiteBoxExplainer
from xplique_sal.errors import InvalidModelError

EXPLAINERS = [getattr(attributions, name) for name in attributions.__all__]
EXPLAINERS = [thing for thing in EXPLAINERS if issubclass(thing, BlackBoxExplainer)]
WHITE_BOXES = [thing for thing in EXPLAINERS if issubclass(thing, WhiteBoxExplainer)]

every_explainer = pytest.mark.parametrize("explainer", EXPLAINERS)
every_white_box = pytest.mark.parametrize("explainer", WHITE_BOXES)

SHAPES = {"table": (6,), "series": (5, 3), "image": (6, 6, 3), "volume": (4, 4, 4, 2)}
every_kind = pytest.mark.parametrize("kind", SHAPES)

MAP_SHAPES = {"table": (6,), "series": (5, 3), "image": (6, 6, 1), "volume": (4, 4, 4, 1)}


def is_randomised(explainer):
    return "seed" in inspect.signature(explainer).parameters


def needs_positions(explainer):
    """A method of feature maps: it has none for tables, and one value for each time step."""
    return "conv_layer" in inspect.signature(explainer).parameters


def build(explainer, *args, **options):
    """An explainer; a randomised one with a seed, and with few of what it draws."""
    if is_randomised(explainer):
        options["seed"] = 0
    if "nb_samples" in inspect.signature(explainer).parameters:
        options["nb_samples"] = 40
    return explainer(*args, **options)


def network(keras, kind, activation="linear"):
    # Mostly positive weights, so that a rule that lets only positive gradients pass finds some.
    draw = keras.initializers.RandomNormal
    layers = [keras.layers.Input(SHAPES[kind])]
    if kind == "series":
        layers.append(keras.layers.Conv1D(4, 2, activation="relu"))
    elif kind == "image":
        layers.append(keras.layers.Conv2D(4, 3, activation="relu"))
    elif kind == "volume":
        layers.append(keras.layers.Conv3D(4, 2, activation="relu"))
    layers += [
        keras.layers.Flatten(),
        keras.layers.Dense(8, activation="relu", kernel_initializer=draw(0.1, 0.3, seed=1)),
        keras.layers.Dense(4, name="scores", kernel_initializer=draw(0.3, 0.5, seed=2)),
        keras.layers.Activation(activation, name="probabilities"),
    ]
    return keras.Sequential(layers)


def samples(rng, kind, count=7):
    return (
        rng.normal(size=(count, *SHAPES[kind])).astype("float32"),
        rng.integers(0, 4, count),
    )


def assert_same(maps, expected):
    maps, expected = np.asarray(maps), np.asarray(expected)
    assert maps.shape == expected.shape
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@every_explainer
@every_kind
def test_every_way_of_passing_samples_gives_the_same(keras, rng, explainer, kind):
    model, (x, y) = network(keras, kind), samples(rng, kind)
    method = build(explainer, model, batch_size=3)
    shape = MAP_SHAPES[kind]
    if needs_positions(explainer):
        if kind == "table":
            with pytest.raises(InvalidModelError, match="positions"):
                method.explain(x, y)
            return
        shape = (*shape[:-1], 1)
    expected = np.asarray(method.explain(x, y))
    assert expected.shape == (7, *shape)
    assert expected.dtype == np.float32
    assert np.isfinite(expected).all()
    assert np.abs(expected).max() > 0
    dataset = tf.data.Dataset.from_tensor_slices((x, y))
    one_hot = np.eye(4, dtype="float32")[y]
    assert_same(method(x, y), expected)
    assert_same(method(tf.constant(x), tf.constant(y)), expected)
    assert_same(method(x, one_hot), expected)
    assert_same(method(dataset), expected)
    assert_same(method(dataset.batch(4)), expected)
    assert_same(method(dataset.batch(2).map(lambda x, y: (x, tf.one_hot(y, 4)))), expected)
    assert_same(np.concatenate(list(method.iter_explain(x, y))), expected)
    maps, scores = method.explain_with_scores(x, y)
    assert_same(maps, expected)
    np.testing.assert_allclose(scores, model(x).numpy()[np.arange(7), y], rtol=1e-4, atol=1e-5)
    one_by_one = [method.explain(x[i : i + 1], y[i : i + 1]) for i in range(7)]
    if not is_randomised(explainer):
        assert_same(np.concatenate(one_by_one), expected)


@every_explainer
@pytest.mark.parametrize("batch_size", [1, 2, 7, 64, None])
def test_any_batch_size_gives_the_same(keras, rng, explainer, batch_size):
    model, (x, y) = network(keras, "image"), samples(rng, "image")
    expected = build(explainer, model, batch_size=4)(x, y)
    assert_same(build(explainer, model, batch_size=batch_size)(x, y), expected)


@every_explainer
def test_the_order_of_samples_does_not_matter(keras, rng, explainer):
    if is_randomised(explainer):
        pytest.skip("what is drawn depends on the position")
    model, (x, y) = network(keras, "image"), samples(rng, "image")
    order = rng.permutation(7)
    method = build(explainer, model, batch_size=3)
    assert_same(method(x[order], y[order]), np.asarray(method(x, y))[order])


@every_explainer
def test_each_class_has_its_own_map(keras, rng, explainer):
    model, (x, _) = network(keras, "image"), samples(rng, "image")
    method = build(explainer, model)
    maps = np.stack([method(x, label) for label in range(4)], axis=1)
    assert_same(method.explain_outputs(x), maps)
    assert_same(method.explain_outputs(x, [2, 0]), maps[:, [2, 0]])
    assert all(np.abs(maps[:, 0] - maps[:, label]).max() > 1e-3 for label in range(1, 4))
    largest = model(x).numpy().argmax(1)
    assert_same(method(x), maps[np.arange(7), largest])


@every_white_box
def test_output_layer_equals_a_model_cut_by_hand(keras, rng, explainer):
    model, (x, y) = network(keras, "image", "softmax"), samples(rng, "image")
    cut = keras.Model(model.inputs, model.get_layer("scores").output)
    expected = build(explainer, cut)(x, y)
    assert_same(build(explainer, model, "scores")(x, y), expected)
    assert_same(build(explainer, model, -2)(x, y), expected)
    assert_same(build(explainer, model, logits=True)(x, y), expected)
    with pytest.warns(UserWarning, match="logits=True"):
        of_softmax = build(explainer, model)(x, y)
    assert np.abs(np.asarray(of_softmax) - expected).max() > 1e-3


def failing(f, x, y):
    f(x)
    raise ArithmeticError("on purpose")


@every_explainer
@pytest.mark.parametrize("fails", [False, True], ids=["success", "exception"])
def test_the_model_is_as_it_was(keras, rng, explainer, fails):
    model, (x, y) = network(keras, "image"), samples(rng, "image")
    model(x)
    weights = [np.array(variable) for variable in model.variables]
    attributes = [dict(vars(layer)) for layer in (model, *model.layers)]
    calls = [layer.call for layer in model.layers]
    eager = tf.config.functions_run_eagerly()
    if fails:
        with pytest.raises(ArithmeticError):
            build(explainer, model, operator=failing)(x, y)
    else:
        build(explainer, model)(x, y)
    for before, after in zip(weights, model.variables, strict=True):
        np.testing.assert_array_equal(before, np.array(after))
    for before, layer in zip(attributes, (model, *model.layers), strict=True):
        assert vars(layer).keys() == before.keys()
        assert all(vars(layer)[name] is value for name, value in before.items())
    assert calls == [layer.call for layer in model.layers]
    assert tf.config.functions_run_eagerly() == eager


@every_white_box
def test_a_second_explainer_traces_nothing(keras, rng, explainer):
    model, (x, y) = network(keras, "image"), samples(rng, "image")
    build(explainer, model)(x, y)
    before = trace_count()
    build(explainer, model, batch_size=2)(x, y)
    assert trace_count() == before


@every_explainer
def test_an_operator_that_returns_one_scalar(keras, rng, explainer):
    kind = "series" if needs_positions(explainer) else "table"
    model, (x, y) = network(keras, kind), samples(rng, kind)
    expected = build(explainer, model)(x, y)

    def scalar(f, x, y):
        return tf.reduce_sum(f(x) * tf.one_hot(y, 4)) ** 1

    for batch_size in (1, 3, None):
        with pytest.warns(UserWarning, match="one score for each sample"):
            maps = build(explainer, model, batch_size=batch_size, operator=scalar)(x, y)
        assert_same(maps, expected)


@every_explainer
def test_documentation_is_whole(explainer):
    assert explainer.__doc__
    for section in ("Parameters", "References"):
        assert f"{section}\n{'-' * len(section)}" in inspect.getdoc(explainer)
    for name, parameter in inspect.signature(explainer).parameters.items():
        assert re.search(rf"^{name}( : .+)?\n    ", explainer.__doc__, re.M), f"{name} is missing"
        assert parameter.kind is not parameter.VAR_KEYWORD
    for name in ("explain", "iter_explain", "explain_with_scores", "explain_outputs"):
        documented = inspect.getdoc(getattr(explainer, name))
        assert "Parameters" in documented or "`explain`" in documented
    assert explainer.__call__.__doc__ == explainer.explain.__doc__
