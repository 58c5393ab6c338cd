"""What every explainer must do. A new one falls under it by being exported."""

import functools
import inspect
import itertools
import re
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from reference import built_once

from xplique_sal import attributions
from xplique_sal._tracing import programs
from xplique_sal._tracing.programs import trace_count
from xplique_sal.attributions import Saliency, SmoothGrad
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
    if "baselines" in inspect.signature(explainer).parameters:
        options["baselines"] = 0.25
    return explainer(*args, **options)


@built_once
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


def samples(kind, count=7):
    rng = np.random.default_rng(0)
    return (
        rng.normal(size=(count, *SHAPES[kind])).astype("float32"),
        rng.integers(0, 4, count),
    )


@pytest.fixture(autouse=True, scope="module")
def all_programs_are_kept():
    """What all methods trace of the shared models is more than a model keeps."""
    with mock.patch.object(programs, "MOST_PROGRAMS", 10_000):
        yield


@functools.cache
def maps_of_arrays(keras, explainer, kind):
    maps = np.asarray(build(explainer, network(keras, kind), batch_size=3).explain(*samples(kind)))
    maps.flags.writeable = False
    return maps


def assert_same(maps, expected):
    maps, expected = np.asarray(maps), np.asarray(expected)
    assert maps.shape == expected.shape
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@every_explainer
@every_kind
def test_maps_have_the_shape_that_is_documented(keras, explainer, kind):
    if needs_positions(explainer) and kind == "table":
        with pytest.raises(InvalidModelError, match="positions"):
            maps_of_arrays(keras, explainer, kind)
        return
    maps = maps_of_arrays(keras, explainer, kind)
    shape = MAP_SHAPES[kind]
    assert maps.shape == (7, *((*shape[:-1], 1) if needs_positions(explainer) else shape))
    assert maps.dtype == np.float32
    assert np.isfinite(maps).all()
    assert np.abs(maps).max() > 0


def one_hot(y):
    return np.eye(4, dtype="float32")[y]


def dataset(x, y):
    return tf.data.Dataset.from_tensor_slices((x, y))


WAYS = {
    "call": lambda method, x, y: method(x, y),
    "tensors": lambda method, x, y: method(tf.constant(x), tf.constant(y)),
    "one-hot targets": lambda method, x, y: method(x, one_hot(y)),
    "dataset": lambda method, x, y: method(dataset(x, y)),
    "batches": lambda method, x, y: method(dataset(x, y).batch(4)),
    "one-hot batches": lambda method, x, y: method(
        dataset(x, y).batch(2).map(lambda x, y: (x, tf.one_hot(y, 4)))
    ),
    "iter_explain": lambda method, x, y: np.concatenate(list(method.iter_explain(x, y))),
    "explain_with_scores": lambda method, x, y: method.explain_with_scores(x, y)[0],
    "one by one": lambda method, x, y: np.concatenate(
        [method.explain(x[i : i + 1], y[i : i + 1]) for i in range(7)]
    ),
}


def ways_of_all():
    """All ways of all kinds for `Saliency`; for the others, those of images.

    How samples are read does not depend on the method, and what a method makes of each kind is in
    the test of shapes. Whether targets are classes and whether samples come in batches are
    independent, too.
    """
    for explainer in EXPLAINERS:
        for kind, way in itertools.product(SHAPES, WAYS):
            if explainer is Saliency or (kind == "image" and way != "one-hot batches"):
                yield pytest.param(explainer, kind, way, id=f"{explainer.__name__}-{kind}-{way}")


@pytest.mark.parametrize(("explainer", "kind", "way"), list(ways_of_all()))
def test_every_way_of_passing_samples_gives_the_same(keras, explainer, kind, way):
    if way == "one by one" and is_randomised(explainer):
        pytest.skip("what is drawn depends on the position")
    method = build(explainer, network(keras, kind), batch_size=3)
    maps = WAYS[way](method, *samples(kind))
    assert_same(maps, maps_of_arrays(keras, explainer, kind))


@every_explainer
@every_kind
def test_scores_are_the_models(keras, explainer, kind):
    if needs_positions(explainer) and kind == "table":
        pytest.skip("a table has no positions")
    model, (x, y) = network(keras, kind), samples(kind)
    _, scores = build(explainer, model, batch_size=3).explain_with_scores(x, y)
    np.testing.assert_allclose(scores, model(x).numpy()[np.arange(7), y], rtol=1e-4, atol=1e-5)


@every_explainer
@pytest.mark.parametrize("batch_size", [1, 2, 7, 64, None])
def test_any_batch_size_gives_the_same(keras, explainer, batch_size):
    model, (x, y) = network(keras, "image"), samples("image")
    expected = maps_of_arrays(keras, explainer, "image")
    assert_same(build(explainer, model, batch_size=batch_size)(x, y), expected)


@every_explainer
def test_the_order_of_samples_does_not_matter(keras, rng, explainer):
    if is_randomised(explainer):
        pytest.skip("what is drawn depends on the position")
    model, (x, y) = network(keras, "image"), samples("image")
    order = rng.permutation(7)
    method = build(explainer, model, batch_size=3)
    assert_same(method(x[order], y[order]), np.asarray(method(x, y))[order])


@every_explainer
def test_each_class_has_its_own_map(keras, explainer):
    model, (x, _) = network(keras, "image"), samples("image")
    method = build(explainer, model)
    maps = np.stack([method(x, label) for label in range(4)], axis=1)
    assert_same(method.explain_outputs(x), maps)
    assert_same(method.explain_outputs(x, [2, 0]), maps[:, [2, 0]])
    assert all(np.abs(maps[:, 0] - maps[:, label]).max() > 1e-3 for label in range(1, 4))
    largest = model(x).numpy().argmax(1)
    assert_same(method(x), maps[np.arange(7), largest])


@every_white_box
def test_output_layer_equals_a_model_cut_by_hand(keras, explainer):
    """The model of the same weights without the softmax is the other network."""
    model, (x, y) = network(keras, "image", "softmax"), samples("image")
    for one, other in zip(model.get_weights(), network(keras, "image").get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    expected = maps_of_arrays(keras, explainer, "image")
    assert_same(build(explainer, model, "scores")(x, y), expected)
    assert_same(build(explainer, model, -2)(x, y), expected)
    assert_same(build(explainer, model, logits=True)(x, y), expected)
    if explainer in (Saliency, SmoothGrad):  # that it matters
        with pytest.warns(UserWarning, match="logits=True"):
            of_softmax = build(explainer, model)(x, y)
        assert np.abs(np.asarray(of_softmax) - expected).max() > 1e-3


def failing(f, x, y):
    f(x)
    raise ArithmeticError("on purpose")


@every_explainer
@pytest.mark.parametrize("fails", [False, True], ids=["success", "exception"])
def test_the_model_is_as_it_was(keras, explainer, fails):
    model, (x, y) = network.anew(keras, "image"), samples("image")
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
def test_a_second_explainer_traces_nothing(keras, explainer):
    model, (x, y) = network(keras, "image"), samples("image")
    build(explainer, model)(x, y)
    before = trace_count()
    build(explainer, model, batch_size=2)(x, y)
    assert trace_count() == before


def scalar(f, x, y):
    return tf.reduce_sum(f(x) * tf.one_hot(y, 4)) ** 1


@every_explainer
def test_an_operator_that_returns_one_scalar(keras, explainer):
    kind = "series" if needs_positions(explainer) else "table"
    model, (x, y) = network(keras, kind), samples(kind)
    expected = maps_of_arrays(keras, explainer, kind)
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
