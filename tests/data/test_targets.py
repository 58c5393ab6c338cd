"""Every form of targets chooses the output that it says."""

import numpy as np
import pytest
import tensorflow as tf
from reference import gradient

from xplique_sal import Saliency
from xplique_sal._data.outputs import (
    check_boxes,
    check_classes,
    check_zone,
    number_of_outputs,
    per_output,
    weighted_score,
)
from xplique_sal.attributions.base import WhiteBoxExplainer
from xplique_sal.errors import InvalidTargetError

COUNT, WIDTH, OUTPUTS = 4, 3, 5
WEIGHTS = np.random.default_rng(0).normal(size=(WIDTH, OUTPUTS)).astype("float32")
X = np.random.default_rng(5).normal(size=(COUNT, WIDTH)).astype("float32")
CLASSES = np.array([4, 0, 2, 0])


def linear(keras, weights=WEIGHTS):
    inputs = keras.Input(weights.shape[:1])
    dense = keras.layers.Dense(weights.shape[1], use_bias=False)
    model = keras.Model(inputs, dense(inputs))
    dense.set_weights([weights])
    return model


def signed(model, x, targets):
    """Return ∂g/∂x, with its sign."""
    return WhiteBoxExplainer(model).explain(x, targets).numpy()


FORMS = {
    "array": lambda y: y,
    "list": lambda y: np.asarray(y).tolist(),
    "tensor": lambda y: tf.constant(y),
    "variable": lambda y: tf.Variable(y),
}
KINDS = {
    "indices": (CLASSES, WEIGHTS.T[CLASSES]),
    "one-hot": (np.eye(OUTPUTS)[CLASSES], WEIGHTS.T[CLASSES]),
    "multi-hot": (
        np.array([[1, 1, 0, 0, 0], [0, 0, 1, 0, 1], [1, 1, 1, 1, 1], [0, 0, 0, 1, 0]]),
        np.stack([WEIGHTS.T[list(chosen)].sum(0) for chosen in ((0, 1), (2, 4), range(5), (3,))]),
    ),
    "weights": (np.arange(20).reshape(4, 5) - 7.5, (np.arange(20).reshape(4, 5) - 7.5) @ WEIGHTS.T),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_targets_for_each_sample(keras, kind, form):
    targets, expected = KINDS[kind]
    np.testing.assert_allclose(
        signed(linear(keras), X, FORMS[form](targets)), expected, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batched", [True, False])
def test_targets_beside_a_dataset(keras, kind, batched):
    targets, expected = KINDS[kind]
    dataset = tf.data.Dataset.from_tensor_slices(X)
    maps = signed(linear(keras), dataset.batch(3) if batched else dataset, targets)
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["indices", "one-hot", "multi-hot"])
@pytest.mark.parametrize("batched", [True, False])
def test_targets_inside_a_dataset(keras, kind, batched):
    targets, expected = KINDS[kind]
    dataset = tf.data.Dataset.from_tensor_slices((X, targets))
    maps = signed(linear(keras), dataset.batch(3) if batched else dataset, None)
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-6)


INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


@pytest.mark.parametrize("dtype", INTEGERS)
def test_class_indices_of_any_integer_dtype(keras, dtype):
    maps = signed(linear(keras), X, CLASSES.astype(dtype))
    np.testing.assert_allclose(maps, WEIGHTS.T[CLASSES], rtol=1e-6)


@pytest.mark.parametrize("dtype", [*INTEGERS, "bool", "float16", "float32", "float64"])
def test_one_hot_targets_of_any_dtype(keras, dtype):
    maps = signed(linear(keras), X, np.eye(OUTPUTS)[CLASSES].astype(dtype))
    np.testing.assert_allclose(maps, WEIGHTS.T[CLASSES], rtol=1e-6)


@pytest.mark.parametrize(
    "target", [3, np.int64(3), np.uint8(3), np.int16(3), np.array(3), tf.constant(3)]
)
def test_one_integer_for_all(keras, target):
    maps = signed(linear(keras), X, target)
    np.testing.assert_allclose(maps, np.tile(WEIGHTS[:, 3], (COUNT, 1)), rtol=1e-6)


@pytest.mark.parametrize("target", range(OUTPUTS))
def test_each_class_can_be_chosen_for_all(keras, target):
    maps = signed(linear(keras), X, target)
    np.testing.assert_allclose(maps, np.tile(WEIGHTS[:, target], (COUNT, 1)), rtol=1e-6)


def test_a_tuple_of_class_indices(keras):
    maps = signed(linear(keras), X, tuple(CLASSES.tolist()))
    np.testing.assert_allclose(maps, WEIGHTS.T[CLASSES], rtol=1e-6)


def test_a_list_of_numpy_integers(keras):
    maps = signed(linear(keras), X, list(CLASSES))
    np.testing.assert_allclose(maps, WEIGHTS.T[CLASSES], rtol=1e-6)


def test_a_list_of_rows(keras):
    maps = signed(linear(keras), X, list(np.eye(OUTPUTS)[CLASSES]))
    np.testing.assert_allclose(maps, WEIGHTS.T[CLASSES], rtol=1e-6)


def test_without_targets_the_models_own_argmax(keras):
    chosen = (X @ WEIGHTS).argmax(1)
    assert len(set(chosen)) > 1
    np.testing.assert_allclose(signed(linear(keras), X, None), WEIGHTS.T[chosen], rtol=1e-6)


def test_without_targets_the_only_output(keras):
    model = linear(keras, WEIGHTS[:, :1])
    np.testing.assert_allclose(
        signed(model, X, None), np.tile(WEIGHTS[:, 0], (COUNT, 1)), rtol=1e-6
    )


@pytest.mark.parametrize("targets", [0, np.zeros(COUNT, int), np.ones((COUNT, 1)), [[1]] * COUNT])
def test_the_only_output_by_name(keras, targets):
    model = linear(keras, WEIGHTS[:, :1])
    np.testing.assert_allclose(
        signed(model, X, targets), np.tile(WEIGHTS[:, 0], (COUNT, 1)), rtol=1e-6
    )


def test_as_many_samples_as_outputs_are_class_indices(keras):
    """(N,) integers are indices also where N equals L, never weights that are broadcast."""
    weights = WEIGHTS[:, :COUNT]
    classes = np.array([1, 3, 3, 0])
    np.testing.assert_allclose(
        signed(linear(keras, weights), X, classes), weights.T[classes], rtol=1e-6
    )


def test_a_square_of_weights_is_not_transposed(keras):
    weights = WEIGHTS[:, :COUNT]
    targets = np.arange(16.0).reshape(4, 4)
    np.testing.assert_allclose(
        signed(linear(keras, weights), X, targets), targets @ weights.T, rtol=1e-5, atol=1e-5
    )


def test_targets_are_not_changed(keras):
    targets = CLASSES.copy()
    signed(linear(keras), X, targets)
    np.testing.assert_array_equal(targets, CLASSES)


def test_a_second_call_checks_its_own_targets(keras):
    explainer = Saliency(linear(keras), batch_size=2)
    explainer.explain(X, CLASSES)
    with pytest.raises(InvalidTargetError, match="sample 3"):
        explainer.explain(X, np.array([0, 0, 0, OUTPUTS]))


def test_weights_choose_the_positions_of_a_series(keras):
    convolution = keras.layers.Conv1D(2, 1, use_bias=False)
    model = keras.Sequential([keras.layers.Input((4, 3)), convolution])
    x = np.ones((2, 4, 3), np.float32)
    weights = convolution.get_weights()[0][0]
    y = np.zeros((2, 4, 2), np.float32)
    y[0, 1, 0], y[1, 3, 1] = 1, 2
    maps = signed(model, x, y)
    expected = np.zeros_like(x)
    expected[0, 1], expected[1, 3] = weights[:, 0], 2 * weights[:, 1]
    np.testing.assert_allclose(maps, expected, rtol=1e-6)


def test_positions_and_no_target_are_refused(keras):
    model = keras.Sequential([keras.layers.Input((4, 3)), keras.layers.Conv1D(2, 1)])
    with pytest.raises(InvalidTargetError, match=r"has positions.*index of a filter"):
        Saliency(model).explain(np.ones((2, 4, 3), np.float32))


def test_one_filter_needs_no_target(keras):
    convolution = keras.layers.Conv1D(1, 1, use_bias=False)
    model = keras.Sequential([keras.layers.Input((4, 3)), convolution])
    maps = signed(model, np.ones((2, 4, 3), np.float32), None)
    weights = convolution.get_weights()[0].reshape(1, 1, 3) / 4
    np.testing.assert_allclose(maps, np.broadcast_to(weights, (2, 4, 3)), rtol=1e-6)


def test_none_follows_each_sample_through_a_curved_model(keras):
    model = keras.Sequential(
        [
            keras.layers.Input((WIDTH,)),
            keras.layers.Dense(6, activation="tanh"),
            keras.layers.Dense(OUTPUTS),
        ]
    )
    largest = gradient(lambda x: tf.reduce_max(model(x), -1), X)
    np.testing.assert_allclose(signed(model, X, None), largest, rtol=1e-4, atol=1e-6)


# --- the functions themselves --------------------------------------------------------------------

OUTPUT = tf.constant(np.random.default_rng(2).normal(size=(2, 3, 4, 5)), tf.float64)


@pytest.mark.parametrize("axis", [-1, 1, 3])
def test_outputs_with_positions_are_averaged(axis):
    values = OUTPUT.numpy()
    expected = values.mean((1, 2)) if axis != 1 else values.mean((2, 3))
    np.testing.assert_allclose(per_output(OUTPUT, axis), expected)
    assert number_of_outputs(OUTPUT.shape, axis) == expected.shape[1]


def test_flat_outputs_stay():
    np.testing.assert_array_equal(per_output(OUTPUT[:, 0, 0]), OUTPUT[:, 0, 0])
    np.testing.assert_array_equal(per_output(OUTPUT[:, 0, 0, 0]), OUTPUT[:, 0, 0, :1])


@pytest.mark.parametrize(
    ("shape", "count"), [((None,), 1), ((None, 4), 4), ((None, None), None), ((None, 2, 6), 6)]
)
def test_the_number_of_outputs(shape, count):
    assert number_of_outputs(tf.TensorShape(shape)) == count


@pytest.mark.parametrize("axis", [-1, 1])
def test_weighted_scores_of_filters(axis):
    channels = np.moveaxis(OUTPUT.numpy(), axis, -1)
    filters = tf.constant([1, 0])
    expected = [channels[0, ..., 1].mean(), channels[1, ..., 0].mean()]
    np.testing.assert_allclose(weighted_score(OUTPUT, filters, axis), expected)


SHAPE = tf.TensorShape([None, 3])


@pytest.mark.parametrize(
    "targets",
    [None, np.array([0, 2]), np.eye(3)[:2], np.array([[0, 0, -1]]), np.eye(3, dtype=bool)],
)
def test_good_classes_pass(targets):
    assert check_classes(targets, 0, SHAPE, -1) is None


@pytest.mark.parametrize(
    ("targets", "sample"),
    [
        (np.array([0, 3]), 11),
        (np.array([-1, 3]), 10),
        (np.array([[1, 0, 0], [0, 0, 0]]), 11),
        (np.array([[1, 0, np.inf], [0, 0, 0]]), 10),
    ],
)
def test_the_first_wrong_sample_is_named(targets, sample):
    with pytest.raises(InvalidTargetError, match=f"sample {sample}"):
        check_classes(targets, 10, SHAPE, -1)


def test_an_unknown_number_of_outputs_is_not_checked():
    unknown = tf.TensorShape([None, None])
    assert check_classes(np.array([0, 100]), 0, unknown, -1) is None
    with pytest.raises(InvalidTargetError, match="at least 0"):
        check_classes(np.array([0, -1]), 0, unknown, -1)


def test_zones_of_images_of_any_size_pass():
    shape = tf.TensorShape([None, None, None, 2])
    assert check_zone(np.ones((1, 5, 7, 2)), 0, shape, -1) is None
    with pytest.raises(InvalidTargetError, match="the shape of f"):
        check_zone(np.ones((1, 5, 7, 3)), 0, shape, -1)


def test_boxes_of_the_detectors_width_pass():
    shape = tf.TensorShape([None, 10, 7])
    assert check_boxes(np.ones((1, 7)), 0, shape, -1) is None
    assert check_boxes(np.ones((1, 2, 7)), 0, shape, -1) is None
    with pytest.raises(InvalidTargetError, match=r"\(N, 7\)"):
        check_boxes(np.ones((1, 6)), 0, shape, -1)
