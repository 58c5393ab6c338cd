"""The labels of a dataset choose outputs, and are never weights."""

import numpy as np
import pytest
import tensorflow as tf

from xplique_sal.attributions import Occlusion
from xplique_sal.attributions.base import WhiteBoxExplainer
from xplique_sal.errors import InvalidTargetError

COUNT, WIDTH, OUTPUTS = 6, 4, 3
WEIGHTS = np.random.default_rng(0).normal(size=(WIDTH, OUTPUTS)).astype("float32")
X = np.random.default_rng(1).normal(size=(COUNT, WIDTH)).astype("float32")
CLASSES = np.array([2, 0, 1, 1, 0, 2])


def linear(keras, weights=WEIGHTS):
    dense = keras.layers.Dense(weights.shape[1], use_bias=False)
    model = keras.Sequential([keras.Input(weights.shape[:1]), dense])
    dense.set_weights([weights])
    return model


def maps_of(model, y, *, batch=4, **options):
    """Return ∂g/∂x of a dataset (x, y), with its sign."""
    dataset = tf.data.Dataset.from_tensor_slices((X, y))
    dataset = dataset.batch(batch) if batch else dataset
    return WhiteBoxExplainer(model, **options).explain(dataset).numpy()


VALUES = (3 * X[:, :1] - 2).astype("float32")
OF_ONE_OUTPUT = {
    "values (N, 1)": VALUES,
    "values (N,)": VALUES[:, 0],
    "0/1 (N,)": CLASSES % 2,
    "0/1 (N, 1) floats": (CLASSES % 2)[:, None].astype("float32"),
    "bool": CLASSES % 2 == 1,
    "zeros": np.zeros(COUNT, int),
    "strings": np.array(["yes", "no"] * 3),
    "NaN": np.full(COUNT, np.nan, "float32"),
}


@pytest.mark.parametrize("batch", [None, 4])
@pytest.mark.parametrize("labels", OF_ONE_OUTPUT)
def test_labels_of_one_output_say_nothing(keras, labels, batch):
    model = linear(keras, WEIGHTS[:, :1])
    maps = maps_of(model, OF_ONE_OUTPUT[labels], batch=batch, operator="regression")
    np.testing.assert_allclose(maps, np.tile(WEIGHTS[:, 0], (COUNT, 1)), rtol=1e-6)


def test_labels_of_one_output_say_nothing_to_a_black_box(keras):
    model = linear(keras, WEIGHTS[:, :1])
    occlusion = Occlusion(model, patch_size=1, patch_stride=1)
    dataset = tf.data.Dataset.from_tensor_slices((X, -VALUES)).batch(4)
    np.testing.assert_allclose(occlusion.explain(dataset), X * WEIGHTS[:, 0], rtol=1e-4)
    called = Occlusion(lambda x: x @ WEIGHTS[:, :1], patch_size=1, patch_stride=1)
    np.testing.assert_allclose(called.explain(dataset.unbatch()), X * WEIGHTS[:, 0], rtol=1e-4)


def test_what_is_given_by_hand_to_one_output_is_a_weight(keras):
    model = linear(keras, WEIGHTS[:, :1])
    maps = WhiteBoxExplainer(model).explain(X, VALUES)
    np.testing.assert_allclose(maps, VALUES * WEIGHTS[:, 0], rtol=1e-5)


ONE_HOT = np.eye(OUTPUTS)[CLASSES]
OF_SEVERAL = {
    **{name: CLASSES.astype(name) for name in ("int64", "int32", "uint8", "float32", "float64")},
    "column": CLASSES[:, None],
    "column of floats": CLASSES[:, None].astype("float32"),
    "one-hot": ONE_HOT,
    "one-hot integers": ONE_HOT.astype(int),
    "one-hot bool": ONE_HOT.astype(bool),
}


@pytest.mark.parametrize("batch", [None, 4])
@pytest.mark.parametrize("labels", OF_SEVERAL)
def test_labels_choose_among_several_outputs(keras, labels, batch):
    maps = maps_of(linear(keras), OF_SEVERAL[labels], batch=batch)
    np.testing.assert_allclose(maps, WEIGHTS.T[CLASSES], rtol=1e-6)


@pytest.mark.parametrize("labels", [ONE_HOT, CLASSES[:, None].astype("float64")])
def test_labels_of_a_width_that_is_not_declared(keras, labels):
    signature = (tf.TensorSpec([None, WIDTH]), tf.TensorSpec([None, None], tf.float64))
    dataset = tf.data.Dataset.from_generator(lambda: [(X, labels)], output_signature=signature)
    maps = WhiteBoxExplainer(linear(keras)).explain(dataset)
    np.testing.assert_allclose(maps, WEIGHTS.T[CLASSES], rtol=1e-6)


def test_bool_labels_of_two_outputs(keras):
    maps = maps_of(linear(keras, WEIGHTS[:, :2]), CLASSES > 0)
    np.testing.assert_allclose(maps, WEIGHTS.T[(CLASSES > 0).astype(int)], rtol=1e-6)


REFUSED = {
    "values": (np.random.default_rng(2).normal(size=(COUNT, OUTPUTS)), "value to predict"),
    "smoothed": (ONE_HOT * 0.9 + 0.03, "sample 0, a value to predict"),
    "counts": (ONE_HOT.astype(int) * 7, "7 for sample 0"),
    "halves": (CLASSES + 0.5, "2.5 for sample 0"),
    "NaN": (np.full(COUNT, np.nan), "nan for sample 0"),
    "out of range": (CLASSES + 1, "at most 2, but got 3 for sample 0"),
    "negative": (CLASSES - 1, "-1 for sample 1"),
    "wrong width": (np.ones((COUNT, 2), int), "width 3"),
    "strings": (np.array(["cat"] * COUNT), "dtype string"),
    "no label": (ONE_HOT * (np.arange(COUNT) != 4)[:, None], "only zeros for sample 4"),
}


@pytest.mark.parametrize("labels", REFUSED)
def test_labels_that_choose_no_output_are_refused(keras, labels):
    y, message = REFUSED[labels]
    with pytest.raises(InvalidTargetError, match=message):
        maps_of(linear(keras), y)


def test_the_error_of_values_says_what_to_do(keras):
    y = REFUSED["values"][0]
    with pytest.raises(InvalidTargetError, match=r"dataset.map\(lambda x, y: x\)"):
        maps_of(linear(keras), y)
    alone = tf.data.Dataset.from_tensor_slices((X, y)).batch(4).map(lambda x, y: x)
    maps = WhiteBoxExplainer(linear(keras)).explain(alone, y)
    np.testing.assert_allclose(maps, y @ WEIGHTS.T, rtol=1e-4, atol=1e-5)


def test_an_operator_of_ones_own_gets_labels_as_they_are(keras):
    y = REFUSED["values"][0].astype("float32")
    maps = maps_of(linear(keras), y, operator=lambda f, x, y: tf.reduce_sum(f(x) * y, 1))
    np.testing.assert_allclose(maps, y @ WEIGHTS.T, rtol=1e-4, atol=1e-5)
    column = maps_of(
        linear(keras, WEIGHTS[:, :1]), VALUES, operator=lambda f, x, y: (f(x) * y)[:, 0]
    )
    np.testing.assert_allclose(column, VALUES * WEIGHTS[:, 0], rtol=1e-5)


# --- several tasks -------------------------------------------------------------------------------


def two_tasks(keras, form):
    inputs = keras.Input((WIDTH,))
    kind = keras.layers.Dense(OUTPUTS, use_bias=False, name="kind")
    age = keras.layers.Dense(1, use_bias=False, name="age")
    outputs = {"kind": kind(inputs), "age": age(inputs)}
    model = keras.Model(inputs, outputs if form == "dict" else list(outputs.values()))
    kind.set_weights([WEIGHTS])
    return model, age.get_weights()[0][:, 0]


@pytest.mark.parametrize("form", ["dict", "list"])
@pytest.mark.parametrize("labels", ["dict", "tuple"])
def test_labels_of_the_output_that_is_chosen(keras, form, labels):
    model, age = two_tasks(keras, form)
    y = {"kind": CLASSES, "age": VALUES}
    if labels == "tuple":
        if form == "dict" and model.output_names != ["kind", "age"]:
            pytest.skip("this Keras orders the outputs of a dict by their names")
        y = (CLASSES, VALUES)
    np.testing.assert_allclose(maps_of(model, y, output="kind"), WEIGHTS.T[CLASSES], rtol=1e-6)
    np.testing.assert_allclose(maps_of(model, y, output="age"), np.tile(age, (COUNT, 1)), rtol=1e-6)


def test_labels_by_name_of_an_output_by_index(keras):
    model, _ = two_tasks(keras, "list")
    y = {"age": VALUES, "kind": CLASSES}
    np.testing.assert_allclose(maps_of(model, y, output=0), WEIGHTS.T[CLASSES], rtol=1e-6)
    by_hand = WhiteBoxExplainer(model, output=0).explain(X, y)
    np.testing.assert_allclose(by_hand, WEIGHTS.T[CLASSES], rtol=1e-6)


def test_labels_of_other_outputs_are_named(keras):
    model, _ = two_tasks(keras, "dict")
    with pytest.raises(InvalidTargetError, match=r"'kind'.*\['a', 'b'\]"):
        maps_of(model, {"a": CLASSES, "b": VALUES}, output="kind")


# --- positions -----------------------------------------------------------------------------------

IMAGES = np.random.default_rng(3).normal(size=(4, 5, 6, 2)).astype("float32")
MASKS = np.random.default_rng(4).integers(0, 3, (4, 5, 6))


def segments(keras, channels=3):
    convolution = keras.layers.Conv2D(channels, 1, use_bias=False)
    model = keras.Sequential([keras.Input((5, 6, 2)), convolution])
    return model, convolution.get_weights()[0][0, 0]


FORMS = {
    "(N, H, W)": MASKS,
    "(N, H, W, 1)": MASKS[..., None],
    "uint8": MASKS.astype("uint8"),
    "one-hot": np.eye(3, dtype=int)[MASKS],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["array", "dataset"])
def test_label_masks_choose_the_channel_of_each_position(keras, form, kind):
    model, weights = segments(keras)
    explainer = WhiteBoxExplainer(model, operator="semantic segmentation", reducer=None)
    given = (IMAGES, FORMS[form])
    if kind == "dataset":
        given = (tf.data.Dataset.from_tensor_slices(given).batch(3),)
    np.testing.assert_allclose(explainer.explain(*given), weights.T[MASKS] / 30, rtol=1e-5)


def test_label_masks_of_the_default_operator_are_summed(keras):
    model, weights = segments(keras)
    maps = WhiteBoxExplainer(model, reducer=None).explain(IMAGES, MASKS)
    np.testing.assert_allclose(maps, weights.T[MASKS], rtol=1e-5)


@pytest.mark.parametrize("trailing", [False, True])
@pytest.mark.parametrize("kind", ["array", "dataset"])
def test_masks_of_one_output_are_zones(keras, kind, trailing):
    model, weights = segments(keras, 1)
    zone = (MASKS > 1).astype("float32" if kind == "dataset" else int)
    explainer = WhiteBoxExplainer(model, operator="semantic segmentation", reducer=None)
    given = (IMAGES, zone[..., None] if trailing else zone)
    if kind == "dataset":
        given = (tf.data.Dataset.from_tensor_slices(given).batch(3),)
    expected = zone[..., None] * weights[:, 0] / zone.sum((1, 2)).reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(explainer.explain(*given), expected, rtol=1e-5)


def test_tags_of_a_series_are_labels_also_where_there_are_as_many_steps_as_outputs(keras):
    convolution = keras.layers.Conv1D(3, 1, use_bias=False)
    model = keras.Sequential([keras.Input((3, 2)), convolution])
    series = np.ones((4, 3, 2), "float32")
    tags = np.array([[0, 1, 2], [2, 2, 0], [1, 0, 0], [1, 1, 1]])
    dataset = tf.data.Dataset.from_tensor_slices((series, tags)).batch(2)
    weights = convolution.get_weights()[0][0]
    maps = WhiteBoxExplainer(model).explain(dataset)
    np.testing.assert_allclose(maps, weights.T[tags], rtol=1e-6)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([1, 2, 0, 0], "index of the class at each position"),
        (MASKS[:, :2], "Resize"),
        (MASKS + 1, "at most 2, but got 3 for sample 0.*belong to no class"),
        (MASKS / 2, "shape of f"),
    ],
)
def test_masks_that_fit_nothing_are_refused(keras, y, message):
    model, _ = segments(keras)
    with pytest.raises(InvalidTargetError, match=message):
        WhiteBoxExplainer(model, operator="semantic segmentation").explain(IMAGES, y)


# --- by hand -------------------------------------------------------------------------------------


def test_a_column_of_class_indices(keras):
    maps = WhiteBoxExplainer(linear(keras)).explain(X, CLASSES[:, None])
    np.testing.assert_allclose(maps, WEIGHTS.T[CLASSES], rtol=1e-6)
    black = Occlusion(lambda x: x @ WEIGHTS, patch_size=1, patch_stride=1)
    np.testing.assert_allclose(
        black.explain(X, CLASSES[:, None]), X * WEIGHTS.T[CLASSES], rtol=1e-4, atol=1e-6
    )


def test_the_only_output_of_a_black_box_of_unknown_width(keras):
    weights = tf.Variable(WEIGHTS[:, :1])

    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, None])])
        def __call__(self, x):
            return tf.reshape(x @ weights, [tf.shape(x)[0], -1])

    maps = maps_of(Module(), CLASSES % 2, batch=None)
    np.testing.assert_allclose(maps, np.tile(WEIGHTS[:, 0], (COUNT, 1)), rtol=1e-6)
