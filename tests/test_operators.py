"""Each operator's score and gradient against a slow NumPy twin, and every way to name one."""

import dataclasses
import functools
import importlib

import numpy as np
import pytest
import tensorflow as tf
from reference import built_once, central_differences

from xplique_sal import Saliency, Tasks, operators
from xplique_sal._tracing import programs
from xplique_sal.attributions.base import WhiteBoxExplainer
from xplique_sal.errors import InvalidOperatorError, InvalidTargetError

COUNT = 4
NAMES = {
    "classification",
    "regression",
    "filter activation",
    "semantic segmentation",
    "object detection",
    "object detection box position",
    "object detection box proba",
    "object detection box class",
}


@built_once
def identity_model(keras, *shape, dtype=None):
    """Return f(x) = x, so that the gradient is the operator's own."""
    inputs = keras.Input(shape, dtype=dtype)
    return keras.Model(inputs, keras.layers.Activation("linear", dtype=dtype)(inputs))


def gradients_and_scores(model, operator, x, y):
    explainer = WhiteBoxExplainer(model, operator=operator, reducer=None)
    maps, scores = explainer.explain_with_scores(x, y)
    return maps.numpy(), scores.numpy()


def assert_like_twin(model, operator, x, y, twin, f=lambda x: x):
    """Compare scores with those of `twin(f(x), y)`, and the map with its central differences."""
    maps, scores = gradients_and_scores(model, operator, x, y)
    expected = twin(f(x.astype(np.float64)), y)
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)
    slopes = central_differences(lambda x: twin(f(x), y), x)
    assert np.abs(slopes).max() > 0
    np.testing.assert_allclose(maps, slopes, rtol=1e-4, atol=1e-4 * np.abs(slopes).max())


# --- classification and regression ---------------------------------------------------------------


def slow_classification(outputs, targets):
    scores = []
    for row, target in zip(outputs, targets, strict=True):
        if np.ndim(target) == 0:
            scores.append(row[target])
        else:
            scores.append(sum(value * weight for value, weight in zip(row, target, strict=True)))
    return np.array(scores)


TABLE_TARGETS = {
    "indices": np.array([2, 0, 1, 2]),
    "one-hot": np.eye(3)[[2, 0, 1, 2]],
    "multi-hot": np.array([[1, 1, 0], [0, 1, 1], [1, 1, 1], [0, 0, 1]]),
    "weights": np.array([[0.5, -1, 2], [0, 0, -3], [1e-3, 0, 0], [7, 7, -7]]),
    "bool": np.array([[True, True, False]] * 3 + [[False, False, True]]),
}


@pytest.mark.parametrize("kind", TABLE_TARGETS)
@pytest.mark.parametrize("operator", [None, "classification", "regression"])
def test_outputs_of_a_table(keras, rng, operator, kind):
    weights = rng.normal(size=(5, 3)).astype("float32")
    inputs = keras.Input((5,))
    dense = keras.layers.Dense(3, activation="tanh", use_bias=False)
    model = keras.Model(inputs, dense(inputs))
    dense.set_weights([weights])
    x = rng.normal(size=(COUNT, 5)).astype("float32")
    targets = TABLE_TARGETS[kind]
    assert_like_twin(
        model, operator, x, targets, slow_classification, lambda x: np.tanh(x @ weights)
    )


@pytest.mark.parametrize("operator", [None, "classification", "regression"])
def test_a_linear_model_in_closed_form(keras, rng, operator):
    weights = rng.normal(size=(5, 3)).astype("float32")
    inputs = keras.Input((5,))
    dense = keras.layers.Dense(3)
    model = keras.Model(inputs, dense(inputs))
    dense.set_weights([weights, np.array([1.0, 2.0, 3.0])])
    x = rng.normal(size=(COUNT, 5)).astype("float32")
    y = rng.normal(size=(COUNT, 3))
    maps, scores = gradients_and_scores(model, operator, x, y)
    np.testing.assert_allclose(maps, y @ weights.T, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(scores, ((x @ weights + [1, 2, 3]) * y).sum(1), rtol=1e-5, atol=1e-5)


def test_without_a_target_the_largest_output_is_explained(keras):
    x = np.array([[1.0, 5.0, 2.0], [7.0, 0.0, 6.0]], np.float32)
    maps, scores = gradients_and_scores(identity_model(keras, 3), None, x, None)
    np.testing.assert_array_equal(maps, [[0, 1, 0], [1, 0, 0]])
    np.testing.assert_array_equal(scores, [5, 7])


def test_an_output_without_an_axis_is_one_output():
    class Total(tf.Module):
        def __call__(self, x):
            return tf.reduce_sum(x * [1.0, 2.0, 3.0], -1)

    x = np.ones((2, 3), np.float32)
    for targets in (None, 0, np.array([0, 0])):
        maps, scores = gradients_and_scores(Total(), None, x, targets)
        np.testing.assert_array_equal(maps, [[1, 2, 3]] * 2)
        np.testing.assert_array_equal(scores, [6, 6])


# --- filters -------------------------------------------------------------------------------------


def slow_filters(outputs, targets, axis=-1):
    """Average one filter of each sample over its positions, one position at a time."""
    outputs = np.moveaxis(outputs, axis, -1)
    scores = []
    for sample, target in zip(outputs, targets, strict=True):
        total = 0.0
        positions = list(np.ndindex(sample.shape[:-1]))
        for position in positions:
            weights = np.eye(sample.shape[-1])[target] if np.ndim(target) == 0 else target
            total += (sample[position] * weights).sum()
        scores.append(total / len(positions))
    return np.array(scores)


@pytest.mark.parametrize("kind", TABLE_TARGETS)
@pytest.mark.parametrize("operator", [None, "filter activation"])
@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 3), (2, 2, 2, 3)], ids=["1-D", "2-D", "3-D"])
def test_filters_on_the_identity(keras, rng, shape, operator, kind):
    x = rng.normal(size=(COUNT, *shape)).astype("float32")
    model = identity_model(keras, *shape)
    assert_like_twin(model, operator, x, TABLE_TARGETS[kind], slow_filters)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_filters_of_a_convolution(keras, rng, dimensions):
    """The map of a filter of a convolution of size one is its weight over the positions."""
    convolution = getattr(keras.layers, f"Conv{dimensions}D")(3, 1, name="conv")
    shape = (*(3, 4, 2)[:dimensions], 2)
    model = keras.Sequential(
        [keras.layers.Input(shape), convolution, keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    weights = rng.normal(size=(2, 3)).astype("float32")
    convolution.set_weights([weights.reshape((1,) * dimensions + (2, 3)), np.zeros(3)])
    x = rng.normal(size=(COUNT, *shape)).astype("float32")
    filters = np.array([2, 0, 1, 2])
    explainer = WhiteBoxExplainer(model, output_layer="conv", reducer=None)
    maps, scores = explainer.explain_with_scores(x, filters)
    positions = np.prod(shape[:-1])
    expected = np.broadcast_to(
        (weights.T[filters] / positions).reshape(COUNT, *(1,) * dimensions, 2), x.shape
    )
    np.testing.assert_allclose(maps, expected, rtol=1e-5)
    np.testing.assert_allclose(scores, slow_filters(x @ weights, filters), rtol=1e-4, atol=1e-5)


def test_all_filters_of_a_convolution(keras, rng):
    convolution = keras.layers.Conv2D(3, 2, name="conv", activation="tanh")
    model = keras.Sequential([keras.layers.Input((4, 5, 2)), convolution, keras.layers.Flatten()])
    x = rng.normal(size=(COUNT, 4, 5, 2)).astype("float32")
    explainer = Saliency(model, output_layer="conv")
    together = explainer.explain_outputs(x)
    assert together.shape == (COUNT, 3, 4, 5, 1)
    for index in range(3):
        np.testing.assert_allclose(together[:, index], explainer.explain(x, index), rtol=1e-5)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_filters_of_a_convolution_with_channels_first(rng, dimensions):
    keras = importlib.import_module("keras")  # tf-keras has no such convolution on a CPU
    convolution = getattr(keras.layers, f"Conv{dimensions}D")(
        3, 1, name="conv", data_format="channels_first"
    )
    shape = (2, *(3, 4, 5)[:dimensions])
    inputs = keras.Input(shape)
    model = keras.Model(inputs, convolution(inputs))
    weights = rng.normal(size=(2, 3)).astype("float32")
    convolution.set_weights([weights.reshape((1,) * dimensions + (2, 3)), np.zeros(3)])
    x = rng.normal(size=(COUNT, *shape)).astype("float32")
    filters = np.array([2, 0, 1, 2])
    maps, scores = gradients_and_scores(model, "filter activation", x, filters)
    positions = np.prod(shape[1:])
    expected = (weights.T[filters] / positions).reshape(COUNT, 2, *(1,) * dimensions)
    np.testing.assert_allclose(maps, np.broadcast_to(expected, x.shape), rtol=1e-5)
    outputs = np.moveaxis(np.moveaxis(x, 1, -1) @ weights, -1, 1)
    np.testing.assert_allclose(scores, slow_filters(outputs, filters, 1), rtol=1e-4, atol=1e-5)


def test_images_with_channels_first_are_reduced_over_their_channels(rng):
    keras = importlib.import_module("keras")
    inputs = keras.Input((3, 4, 5))
    convolution = keras.layers.Conv2D(2, 1, data_format="channels_first")
    model = keras.Model(inputs, convolution(inputs))
    weights = rng.normal(size=(1, 1, 3, 2)).astype("float32")
    convolution.set_weights([weights, np.zeros(2)])
    x = rng.normal(size=(COUNT, 3, 4, 5)).astype("float32")
    maps = Saliency(model).explain(x, 1)
    assert maps.shape == (COUNT, 1, 4, 5)
    np.testing.assert_allclose(maps, np.full(maps.shape, np.abs(weights[..., 1]).max() / 20), 1e-5)
    with pytest.raises(InvalidTargetError, match="at most 1"):
        Saliency(model).explain(x, 2)


# --- segmentation --------------------------------------------------------------------------------


def slow_segmentation(outputs, zones):
    scores = []
    for sample, zone in zip(outputs, zones, strict=True):
        total, count = 0.0, 0
        for index in np.ndindex(sample.shape):
            total += sample[index] * zone[index]
            count += zone[index] != 0
        scores.append(total / count)
    return np.array(scores)


@pytest.mark.parametrize("operator", ["semantic segmentation", Tasks.SEMANTIC_SEGMENTATION])
@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_segmentation(keras, rng, operator, dtype):
    x = rng.normal(size=(COUNT, 3, 4, 2)).astype("float32")
    zones = (rng.random(x.shape) < 0.3).astype(dtype)
    zones[:, 0, 0, 0] = True
    assert_like_twin(identity_model(keras, 3, 4, 2), operator, x, zones, slow_segmentation)


def test_segmentation_with_weights(keras, rng):
    x = rng.normal(size=(COUNT, 3, 4, 2)).astype("float32")
    zones = rng.normal(size=x.shape) * (rng.random(x.shape) < 0.4)
    assert_like_twin(
        identity_model(keras, 3, 4, 2), "semantic segmentation", x, zones, slow_segmentation
    )


def test_the_default_operator_adds_up_a_zone(keras, rng):
    x = rng.normal(size=(COUNT, 3, 4, 2)).astype("float32")
    zones = (rng.random(x.shape) < 0.5).astype("float32")
    zones[:, 0, 0, 0] = 1
    maps, scores = gradients_and_scores(identity_model(keras, 3, 4, 2), None, x, zones)
    np.testing.assert_array_equal(maps, zones)
    np.testing.assert_allclose(scores, (x * zones).sum((1, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize(
    ("zone", "message"),
    [
        (None, "Pass them as `targets`"),
        (np.zeros((COUNT, 3, 4, 2)), "only zeros for sample 0"),
        (np.ones((COUNT, 3, 4)), "the shape of f"),
        (np.ones((COUNT, 3, 4, 3)), "the shape of f"),
        (np.full((COUNT, 3, 4, 2), np.nan), "finite"),
        (1, "the shape of f"),
    ],
    ids=["none", "empty", "no class", "another width", "NaN", "index"],
)
def test_zones_that_cannot_be_explained(keras, zone, message):
    explainer = Saliency(identity_model(keras, 3, 4, 2), operator="semantic segmentation")
    with pytest.raises(InvalidTargetError, match=message):
        explainer.explain(np.ones((COUNT, 3, 4, 2), np.float32), zone)


# --- object detection ----------------------------------------------------------------------------


def slow_overlap(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area = max(a[2] - a[0], 0) * max(a[3] - a[1], 0) + max(b[2] - b[0], 0) * max(b[3] - b[1], 0)
    return width * height / (area - width * height) if width * height else 0.0


def slow_cosine(a, b):
    norms = np.sqrt((a**2).sum()) * np.sqrt((b**2).sum())
    return (a * b).sum() / norms if norms else 0.0


def slow_detection(predicted, reference, objectness=True, classes=True):
    """Return D-RISE's score, box by box."""
    if reference.ndim == 2:
        reference = reference[:, None]
    scores = []
    for boxes, targets in zip(predicted, reference.astype(np.float64), strict=True):
        best = []
        for target in targets:
            if not target.any():
                continue
            matches = []
            for box in boxes:
                match = slow_overlap(target, box)
                match *= box[4] if objectness else 1
                match *= slow_cosine(target[5:], box[5:]) if classes else 1
                matches.append(match)
            best.append(max(matches))
        scores.append(sum(best) / len(best))
    return np.array(scores)


DETECTION = {
    "object detection": {},
    "object detection box position": {"objectness": False, "classes": False},
    "object detection box proba": {"classes": False},
    "object detection box class": {"objectness": False},
}


def boxes(rng, *counts, classes=3):
    corner = rng.uniform(0, 0.5, size=(*counts, 2))
    size = rng.uniform(0.2, 0.5, size=(*counts, 2))
    rest = rng.uniform(0.1, 1, size=(*counts, 1 + classes))
    return np.concatenate([corner, corner + size, rest], -1).astype("float32")


@pytest.mark.parametrize("per_sample", [(), (1,), (3,)], ids=["(N, width)", "(N, 1, width)", "3"])
@pytest.mark.parametrize("operator", DETECTION)
def test_detection(keras, rng, operator, per_sample):
    predicted, reference = boxes(rng, COUNT, 5), boxes(rng, COUNT, *per_sample)
    twin = functools.partial(slow_detection, **DETECTION[operator])
    assert_like_twin(identity_model(keras, 5, 8), operator, predicted, reference, twin)


@pytest.mark.parametrize("operator", DETECTION)
def test_detection_variants_as_tasks(keras, rng, operator):
    task = Tasks[operator.upper().replace(" ", "_")]
    model, x, y = identity_model(keras, 5, 8), boxes(rng, COUNT, 5), boxes(rng, COUNT, 2)
    by_name, by_task = (gradients_and_scores(model, way, x, y) for way in (operator, task))
    np.testing.assert_array_equal(by_task[0], by_name[0])
    np.testing.assert_allclose(by_task[1], slow_detection(x, y, **DETECTION[operator]), rtol=1e-5)


@pytest.mark.parametrize("operator", DETECTION)
def test_rows_of_zeros_are_padding(keras, rng, operator):
    model, x, y = identity_model(keras, 5, 8), boxes(rng, COUNT, 5), boxes(rng, COUNT, 2)
    padded = np.concatenate([y, np.zeros((COUNT, 3, 8), np.float32)], 1)
    maps, scores = gradients_and_scores(model, operator, x, y)
    padded_maps, padded_scores = gradients_and_scores(model, operator, x, padded)
    np.testing.assert_allclose(padded_scores, scores, rtol=1e-6)
    np.testing.assert_allclose(padded_maps, maps, rtol=1e-6)


def test_samples_may_have_different_numbers_of_boxes(keras, rng):
    x, y = boxes(rng, COUNT, 5), boxes(rng, COUNT, 3)
    y[0, 1:] = y[2, 2:] = 0
    assert_like_twin(identity_model(keras, 5, 8), "object detection", x, y, slow_detection)


@pytest.mark.parametrize("operator", DETECTION)
def test_a_perfect_match_scores_its_objectness(keras, operator):
    box = np.array([[0.1, 0.2, 0.6, 0.7, 0.5, 0.0, 1.0]], np.float32)
    others = np.array([[0.7, 0.8, 0.9, 0.9, 0.9, 1.0, 0.0]], np.float32)
    predicted = np.stack([others, box], 1)
    _, scores = gradients_and_scores(identity_model(keras, 2, 7), operator, predicted, box)
    weighted = DETECTION[operator].get("objectness", True)
    np.testing.assert_allclose(scores, [0.5 if weighted else 1.0], rtol=1e-5)


@pytest.mark.filterwarnings("ignore:The gradient is zero")
@pytest.mark.parametrize("operator", DETECTION)
def test_boxes_without_overlap_score_nothing(keras, operator):
    far = np.array([[[0.0, 0.0, 0.1, 0.1, 1.0, 1.0, 0.5]]], np.float32)
    reference = np.array([[0.5, 0.5, 0.9, 0.9, 1.0, 1.0, 0.5]], np.float32)
    maps, scores = gradients_and_scores(identity_model(keras, 1, 7), operator, far, reference)
    np.testing.assert_array_equal(scores, [0])
    np.testing.assert_array_equal(maps, np.zeros((1, 1, 7)))


@pytest.mark.filterwarnings("ignore:The gradient is zero")
@pytest.mark.parametrize("operator", DETECTION)
def test_an_empty_box_has_a_finite_gradient(keras, operator):
    """Corners in the wrong order and boxes of no area are what an untrained detector gives."""
    predicted = np.array(
        [[[0.6, 0.6, 0.2, 0.2, 1.0, 1.0, 0.5], [0.3, 0.3, 0.3, 0.3, 1.0, 1.0, 0.5]]], np.float32
    )
    reference = np.array([[0.1, 0.1, 0.9, 0.9, 1.0, 1.0, 0.5]], np.float32)
    maps, scores = gradients_and_scores(identity_model(keras, 2, 7), operator, predicted, reference)
    np.testing.assert_array_equal(scores, [0])
    assert np.isfinite(maps).all()


@pytest.mark.parametrize("operator", ["object detection", "object detection box class"])
def test_a_predicted_box_without_class_scores(keras, rng, operator):
    x, y = boxes(rng, COUNT, 4), boxes(rng, COUNT, 2)
    x[:, 1, 5:] = 0
    maps, scores = gradients_and_scores(identity_model(keras, 4, 8), operator, x, y)
    np.testing.assert_allclose(scores, slow_detection(x, y, **DETECTION[operator]), rtol=1e-5)
    assert np.isfinite(maps).all()


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (None, "Pass them as `targets`"),
        (np.zeros((COUNT, 2, 8)), "only zeros for sample 0"),
        (np.ones((COUNT, 7)), "width|8"),
        (np.ones((COUNT, 2, 9)), "8"),
        (np.ones((COUNT, 1, 2, 8)), "boxes"),
        (np.full((COUNT, 8), np.inf), "finite"),
        (0, "x1, y1, x2, y2"),
    ],
    ids=["none", "zeros", "narrow", "wide", "rank", "infinite", "index"],
)
@pytest.mark.parametrize("operator", DETECTION)
def test_reference_boxes_that_cannot_be_explained(keras, rng, operator, reference, message):
    explainer = Saliency(identity_model(keras, 5, 8), operator=operator)
    with pytest.raises(InvalidTargetError, match=message):
        explainer.explain(boxes(rng, COUNT, 5), reference)


# --- names ---------------------------------------------------------------------------------------


def test_tasks_are_the_names_of_the_operators():
    assert {task.value for task in Tasks} == NAMES
    for task in Tasks:
        assert task.name == task.value.upper().replace(" ", "_")


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_name_a_task_and_a_function_are_one_operator(name):
    by_name = operators.resolve(name)
    by_task = operators.resolve(Tasks[name.upper().replace(" ", "_")])
    by_function = operators.resolve(getattr(operators, name.replace(" ", "_")))
    assert by_name == by_task == by_function
    assert by_name.check_targets is not None


def test_no_operator_is_classification():
    assert operators.resolve(None) == operators.resolve("classification")


@pytest.fixture
def registry(monkeypatch):
    """Leave the registry as it was after the test."""
    monkeypatch.setattr(operators, "_registry", dict(operators._registry))


@pytest.mark.usefixtures("registry")
def test_a_registered_operator_is_known_by_its_name(keras):
    @operators.register("largest square")
    def largest_square(f, x, y):
        return tf.reduce_max(f(x), -1) ** 2

    x = np.array([[1.0, 3.0]], np.float32)
    maps, scores = gradients_and_scores(identity_model(keras, 2), "largest square", x, None)
    np.testing.assert_array_equal(maps, [[0, 6]])
    np.testing.assert_array_equal(scores, [9])
    with pytest.raises(InvalidOperatorError, match="'largest square'"):
        operators.resolve("largest squares")


@pytest.mark.usefixtures("registry")
def test_a_registered_operator_checks_its_targets_before_it_runs(keras):
    seen = []

    def check(targets, first, shape, channel_axis):
        seen.append((np.asarray(targets).tolist(), first, tuple(shape), channel_axis))
        raise InvalidTargetError("another target", "this", "Pass another.")

    @operators.register("checked", check)
    def checked(f, x, y):
        return f(x)[:, 0]

    with pytest.raises(InvalidTargetError, match="Pass another"):
        explainer = Saliency(identity_model(keras, 2), operator="checked", batch_size=1)
        explainer.explain(np.ones((2, 2), np.float32), np.array([5, 6]))
    assert seen == [([5, 6], 0, (None, 2), -1)]


@pytest.mark.usefixtures("registry")
def test_a_registered_function_stays_a_plain_function():
    def plain(f, x, y):
        """Return one output."""
        return f(x)[:, 0]

    assert operators.register("plain")(plain) is plain


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("function", [None, 3, lambda f, x: None])
def test_what_is_no_operator_is_not_registered(function):
    with pytest.raises(InvalidOperatorError):
        operators.register("new")(function)
    with pytest.raises(InvalidOperatorError, match="'new'"):
        operators.resolve("new")


@pytest.mark.usefixtures("registry")
def test_a_name_is_not_taken_twice():
    with pytest.raises(InvalidOperatorError, match="another name"):
        operators.register("classification")(lambda f, x, y: None)
    assert operators.resolve("classification").function is operators.classification


# --- callables -----------------------------------------------------------------------------------


def first_squared(f, x, y):
    return f(x)[:, 0] ** 2


class Callable:
    def __call__(self, f, x, y):
        return f(x)[:, 0] ** 2

    def score(self, f, x, y):
        return f(x)[:, 0] ** 2

    @classmethod
    def of_class(cls, f, x, y):
        return f(x)[:, 0] ** 2

    @staticmethod
    def of_nothing(f, x, y):
        return f(x)[:, 0] ** 2


class Slotted:
    __slots__ = ("power",)

    def __init__(self):
        self.power = 2

    def __call__(self, f, x, y):
        return f(x)[:, 0] ** self.power

    def score(self, f, x, y):
        return f(x)[:, 0] ** self.power


@dataclasses.dataclass
class Unhashable:
    power: int = 2

    def __call__(self, f, x, y):
        return f(x)[:, 0] ** self.power

    def score(self, f, x, y):
        return f(x)[:, 0] ** self.power


def to_the_power(power, f, x, y):
    return f(x)[:, 0] ** power


CALLABLES = {
    "function": first_squared,
    "lambda": lambda f, x, y: f(x)[:, 0] ** 2,
    "variadic": lambda *all_: all_[0](all_[1])[:, 0] ** 2,
    "defaults": lambda f, x, y=None, power=2: f(x)[:, 0] ** power,
    "partial": functools.partial(to_the_power, 2),
    "bound method": Callable().score,
    "class method": Callable.of_class,
    "static method": Callable.of_nothing,
    "object": Callable(),
    "object with slots": Slotted(),
    "bound method of an object with slots": Slotted().score,
    "object that has no hash": Unhashable(),
    "bound method of an object that has no hash": Unhashable().score,
    "tf.function": tf.function(first_squared),
}


@pytest.mark.parametrize("kind", CALLABLES)
def test_a_callable_is_an_operator(keras, kind):
    x = np.array([[3.0, 1.0], [-2.0, 5.0]], np.float32)
    maps, scores = gradients_and_scores(identity_model(keras, 2), CALLABLES[kind], x, None)
    np.testing.assert_array_equal(maps, [[6, 0], [-4, 0]])
    np.testing.assert_array_equal(scores, [9, 4])


@pytest.mark.parametrize("kind", [kind for kind in CALLABLES if "slots" not in kind])
def test_a_callable_is_traced_once(keras, kind):
    model, x = identity_model.anew(keras, 2), np.ones((2, 2), np.float32)
    Saliency(model, operator=CALLABLES[kind]).explain(x)
    before = programs.trace_count()
    Saliency(model, operator=CALLABLES[kind]).explain(x)
    assert programs.trace_count() == before


def test_bound_methods_of_two_objects_are_two_operators(keras):
    @dataclasses.dataclass(eq=False)
    class Power:
        power: int

        def score(self, f, x, y):
            return f(x)[:, 0] ** self.power

    model, x = identity_model(keras, 1), np.full((1, 1), 3.0, np.float32)
    square, cube = Power(2), Power(3)
    assert gradients_and_scores(model, square.score, x, None)[0] == 6
    assert gradients_and_scores(model, cube.score, x, None)[0] == 27


def test_an_operator_that_branches_on_tensors(keras):
    def branching(f, x, y):
        scores = f(x)[:, 0]
        if tf.reduce_sum(scores) > 0:
            return scores
        return 2 * scores

    model = identity_model(keras, 1)
    ones = np.ones((2, 1), np.float32)
    assert gradients_and_scores(model, branching, ones, None)[0].max() == 1
    assert gradients_and_scores(model, branching, -ones, None)[0].max() == 2


@pytest.mark.parametrize(
    ("targets", "dtype", "shape"),
    [
        (np.ones((3, 4, 5), np.float64), tf.float64, (4, 5)),
        (np.zeros((3, 2), bool), tf.bool, (2,)),
        (np.arange(3), tf.int64, ()),
        (1, tf.int64, ()),
        ([-1.5, 0.0, 99.0], tf.float64, ()),
        (tf.ones((3, 1), tf.float16), tf.float16, (1,)),
    ],
)
def test_an_operator_gets_the_targets_as_they_were_given(keras, targets, dtype, shape):
    seen = []

    def recording(f, x, y):
        seen.append(y)
        return f(x)[:, 0]

    Saliency(identity_model(keras, 2), operator=recording).explain(np.ones((3, 2)), targets)
    assert {(y.dtype, tuple(y.shape[1:])) for y in seen} == {(dtype, shape)}


def test_an_operator_gets_no_targets_as_none(keras):
    seen = []

    def recording(f, x, y):
        seen.append(y)
        return f(x)[:, 0]

    Saliency(identity_model(keras, 2), operator=recording).explain(np.ones((3, 2)))
    assert set(seen) == {None}


def test_an_operator_gets_a_structure_of_targets(keras):
    def weighted(f, x, y):
        return f(x)[:, 0] * y["a"] + f(x)[:, 1] * y["b"][:, 0]

    x = np.ones((3, 2), np.float32)
    targets = {"b": np.full((3, 1), 5, np.float32), "a": np.arange(3, dtype=np.float32)}
    maps, _ = gradients_and_scores(identity_model(keras, 2), weighted, x, targets)
    np.testing.assert_array_equal(maps, [[0, 5], [1, 5], [2, 5]])


def test_an_operator_gets_the_inputs_in_their_structure(keras):
    inputs = [keras.Input((1,), name="a"), keras.Input((1,), name="b")]
    model = keras.Model(inputs, keras.layers.Concatenate()(inputs))

    def product(f, x, y):
        return f(x)[:, 0] * x["b"][:, 0]

    x = {"b": np.full((1, 1), 5, np.float32), "a": np.full((1, 1), 7, np.float32)}
    maps = Saliency(model, operator=product).explain(x)
    assert {key: map_.numpy().item() for key, map_ in maps.items()} == {"a": 5, "b": 7}


def test_an_operator_may_call_f_several_times(keras):
    def difference(f, x, y):
        return f(x)[:, 0] - f(2 * x)[:, 0] ** 2

    x = np.array([[3.0]], np.float32)
    maps, scores = gradients_and_scores(identity_model(keras, 1), difference, x, None)
    assert (maps.item(), scores.item()) == (1 - 8 * 3, 3 - 36)


# --- scalars -------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:The operator returns one scalar")
@pytest.mark.parametrize(
    "score",
    [
        lambda f, x, y: tf.reduce_sum(f(x)[:, 0] ** 3),
        lambda f, x, y: tf.reduce_mean(f(x)[:, 0] ** 3),
        lambda f, x, y: tf.reduce_prod(f(x)[:, 0]) ** 3,
    ],
    ids=["sum", "mean", "product"],
)
def test_a_scalar_score_gives_the_same_map_for_every_batch_size(keras, score):
    model = identity_model(keras, 2)
    x = np.array([[1.0, 0], [2, 0], [3, 0], [4, 0], [5, 0]], np.float32)
    for batch_size in (1, 2, 3, 5, 64, None):
        explainer = Saliency(model, operator=score, batch_size=batch_size)
        maps, scores = explainer.explain_with_scores(x)
        np.testing.assert_allclose(maps[:, 0], 3 * x[:, 0] ** 2, rtol=1e-6)
        np.testing.assert_allclose(scores, x[:, 0] ** 3, rtol=1e-6)
    dataset = tf.data.Dataset.from_tensor_slices(x).batch(3)
    np.testing.assert_allclose(
        Saliency(model, operator=score).explain(dataset)[:, 0], 3 * x[:, 0] ** 2, rtol=1e-6
    )


@pytest.mark.filterwarnings("ignore:The operator returns one scalar")
def test_a_scalar_score_gets_one_target_at_a_time(keras):
    def weighted(f, x, y):
        return tf.reduce_sum(f(x) * y)

    x, y = np.ones((3, 2), np.float32), np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    maps = Saliency(identity_model(keras, 2), operator=weighted).explain(x, y)
    np.testing.assert_array_equal(maps, y)


@pytest.mark.parametrize(
    "score",
    [
        pytest.param(lambda f, x, y: [f(x)[:, 0]], id="list"),
        pytest.param(lambda f, x, y: np.ones(3, np.float32), id="array"),
        pytest.param(lambda f, x, y: tf.ones((3,)) * f(x)[0, 0], id="(3,)"),
    ],
)
def test_a_score_of_a_length_of_its_own_is_refused(keras, score):
    with pytest.raises(InvalidOperatorError, match="over all axes but the first"):
        Saliency(identity_model(keras, 2), operator=score).explain(np.ones((3, 2), np.float32))


@pytest.mark.parametrize(
    "score",
    [
        pytest.param(lambda f, x, y: f(x).numpy().sum(1), id=".numpy()"),
        pytest.param(lambda f, x, y: np.sum(f(x), axis=1), id="np.sum"),
    ],
)
def test_a_score_computed_by_numpy_is_refused_with_a_reason(keras, score):
    with pytest.raises((AttributeError, NotImplementedError, InvalidOperatorError), match=r"numpy"):
        Saliency(identity_model(keras, 2), operator=score).explain(np.ones((3, 2), np.float32))
