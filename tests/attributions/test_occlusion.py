"""Occlusion: closed forms, a slow twin, and what it asks of a model."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from reference import built_once

from xplique_sal._tracing.programs import trace_count
from xplique_sal.attributions import Occlusion
from xplique_sal.errors import (
    InvalidInputError,
    InvalidModelError,
    InvalidOperatorError,
    InvalidParameterError,
    InvalidTargetError,
)

SHAPES = {"table": (6,), "series": (5, 3), "image": (6, 7, 3), "volume": (4, 3, 5, 2)}
every_kind = pytest.mark.parametrize("kind", SHAPES)


def assert_close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@built_once
def network(keras, shape, **options):
    rank = len(shape)
    layers = [keras.layers.Input(shape)]
    if rank > 1:
        convolution = [keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D][rank - 2]
        layers.append(convolution(4, 2, activation="tanh", **options))
    layers += [keras.layers.Flatten(), keras.layers.Dense(4)]
    return keras.Sequential(layers)


def samples(rng, shape, count=5):
    return rng.normal(size=(count, *shape)).astype("float32"), rng.integers(0, 4, count)


def twin(score, x, size, stride, value=0.0, channel_axis=None):
    """The map by one call of `score` for each patch; sizes and strides are tuples."""
    axes = [axis for axis in range(1, x.ndim) if axis != channel_axis]
    maps = np.zeros_like(x if channel_axis is None else x.mean(channel_axis, keepdims=True))
    places = [
        range(0, x.shape[axis] - length + 1, step)
        for axis, length, step in zip(axes, size, stride, strict=True)
    ]
    for corner in itertools.product(*places):
        patch = [slice(None)] * x.ndim
        for axis, start, length in zip(axes, corner, size, strict=True):
            patch[axis] = slice(start, start + length)
        hidden = x.copy()
        hidden[tuple(patch)] = np.broadcast_to(value, x.shape)[tuple(patch)]
        loss = score(x) - score(hidden)
        maps[tuple(patch)] += loss.reshape(-1, *[1] * (x.ndim - 1))
    return maps


def class_score(model, y):
    return lambda x: tf.gather(model(x), y, batch_dims=1).numpy()


@every_kind
@pytest.mark.parametrize("value", [0.0, 1.5])
def test_a_linear_function_loses_what_each_position_adds(rng, kind, value):
    x, y = samples(rng, SHAPES[kind])
    weights = rng.normal(size=(4, *SHAPES[kind])).astype("float32")

    def f(x):
        return np.einsum("nj,kj->nk", x.reshape(len(x), -1), weights.reshape(4, -1))

    maps = Occlusion(f, patch_size=1, patch_stride=1, occlusion_value=value)(x, y)
    expected = weights[y] * (x - value)
    if x.ndim > 3:
        expected = expected.sum(-1, keepdims=True)
    assert maps.dtype == tf.float32
    assert_close(maps, expected)


@pytest.mark.parametrize(
    "kind, size, stride, value",
    [
        ("table", (2,), (1,), 0.0),
        ("table", (4,), (3,), np.linspace(-1, 1, 6)),
        ("series", (2, 2), (2, 1), 0.5),
        ("series", (3, 1), (3, 2), np.array([1.0, -1.0, 0.5])),
        ("image", (3, 3), (3, 3), 0.0),
        ("image", (2, 3), (1, 2), np.array([1.0, -1.0, 0.5])),
        ("volume", (2, 1, 3), (2, 2, 1), -0.5),
    ],
)
def test_patches_against_a_slow_twin(keras, rng, kind, size, stride, value):
    model, (x, y) = network(keras, SHAPES[kind]), samples(rng, SHAPES[kind])
    channel_axis = x.ndim - 1 if x.ndim > 3 else None
    expected = twin(class_score(model, y), x, size, stride, value, channel_axis)
    assert np.abs(expected).max() > 0.01
    explainer = Occlusion(model, 3, None, size, stride, value)
    assert_close(explainer(x, y), expected)
    outputs = explainer.explain_outputs(x, [3, 1])
    for position, output in enumerate([3, 1]):
        score = class_score(model, np.full(5, output))
        of_output = twin(score, x, size, stride, value, channel_axis)
        assert_close(outputs[:, position], of_output)


def test_channels_first(rng):
    import keras

    model = network(keras, (3, 6, 7), data_format="channels_first")
    x, y = samples(rng, (3, 6, 7))
    value = np.array([1.0, -1.0, 0.5])
    expected = twin(class_score(model, y), x, (2, 3), (2, 1), value.reshape(3, 1, 1), 1)
    maps = Occlusion(model, 64, None, (2, 3), (2, 1), value)(x, y)
    assert maps.shape == (5, 1, 6, 7)
    assert_close(maps, expected)


def test_an_integer_patch_is_never_longer_than_an_axis(keras, rng):
    model, (x, y) = network(keras, (8, 2)), samples(rng, (8, 2))
    expected = twin(class_score(model, y), x, (3, 2), (3, 3))
    assert_close(Occlusion(model)(x, y), expected)
    with pytest.raises(InvalidParameterError, match=r"at most \(8, 2\)"):
        Occlusion(model, patch_size=(3, 3))(x, y)


def test_an_array_of_the_shape_of_a_sample_is_a_value(rng):
    x, _ = samples(rng, (4, 5, 2))
    value = rng.normal(size=(4, 5, 2))
    maps = Occlusion(lambda x: x.sum((1, 2, 3)), 64, None, 1, 1, value)(x)
    assert_close(maps, (x - value).sum(-1, keepdims=True))


@pytest.mark.parametrize("batch_size", [1, 2, 5, 13, 64, None])
@every_kind
def test_batches_and_order_do_not_matter(rng, kind, batch_size):
    x, y = samples(rng, SHAPES[kind], 7)
    weights = rng.normal(size=(int(np.prod(SHAPES[kind])), 4))

    def f(x):
        sizes.append(len(x))
        return np.tanh(x.reshape(len(x), -1) @ weights)

    sizes = []
    expected = np.asarray(Occlusion(f, patch_size=2, patch_stride=1)(x, y))
    sizes.clear()
    order = rng.permutation(7)
    explainer = Occlusion(f, batch_size, patch_size=2, patch_stride=1)
    assert_close(explainer(x[order], y[order]), expected[order])
    assert max(sizes) <= (batch_size or 1000)
    spatial = SHAPES[kind][:-1] if len(SHAPES[kind]) > 2 else SHAPES[kind]
    assert sum(sizes) == 7 * (1 + np.prod([length - 1 for length in spatial]))


def test_without_a_target_the_class_is_that_of_the_whole_sample(keras):
    """Without its first feature, the sample is of another class, which must not be explained."""
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(2, use_bias=False)])
    model.set_weights([np.array([[3.0, 0.0], [1.0, 2.0]], "float32")])
    x = np.array([[1.0, 1.0], [0.0, 1.0]], "float32")
    explainer = Occlusion(model, patch_size=1, patch_stride=1)
    maps, scores = explainer.explain_with_scores(x)
    assert_close(maps, [[3, 1], [0, 2]])
    assert_close(scores, [4, 2])
    assert_close(Occlusion(lambda x: model(x), 64, None, 1, 1)(x), [[3, 1], [0, 2]])


def test_an_operator_gets_its_targets_as_they_were_given(keras, rng):
    model, (x, _) = network(keras, (6,)), samples(rng, (6,))
    seen = []

    def operator(f, x, y):
        seen.append(None if y is None else tuple(y.shape))
        return tf.reduce_max(f(x), -1) if y is None else tf.reduce_sum(f(x) * y[:, 0], -1)

    expected = twin(lambda x: model(x).numpy().max(1), x, (3,), (3,))
    weights = rng.normal(size=(5, 2, 4)).astype("float32")
    weighted = twin(lambda x: (model(x).numpy() * weights[:, 0]).sum(1), x, (3,), (3,))
    for f in (model, lambda x: model(x).numpy()):
        seen.clear()
        explainer = Occlusion(f, operator=operator)
        assert_close(explainer(x), expected)
        assert_close(explainer(x, weights), weighted)
        assert {None} < set(seen) and all(shape is None or shape[1:] == (2, 4) for shape in seen)


def test_scores_need_no_gradient(keras, rng):
    model, (x, y) = network(keras, (6,)), samples(rng, (6,))

    def is_class(f, x, y):
        return tf.cast(tf.argmax(f(x), -1), tf.int32) == tf.cast(y, tf.int32)

    expected = twin(lambda x: (model(x).numpy().argmax(1) == y).astype("float32"), x, (1,), (1,))
    assert 0 < np.abs(expected).mean() < 1
    for f in (model, lambda x: model(x).numpy()):
        assert_close(Occlusion(f, 64, is_class, 1, 1)(x, y), expected)


def test_weights_zones_and_boxes_are_targets(keras, rng):
    x, _ = samples(rng, (6, 7, 3))
    model = keras.Sequential(
        [keras.layers.Input((6, 7, 3)), keras.layers.Conv2D(4, 3, padding="same")]
    )
    zones = np.zeros((5, 6, 7, 4), "float32")
    zones[:, 1:3, 2:5, 1] = 1

    def score(x):
        return (model(x).numpy() * zones).sum((1, 2, 3)) / 6

    expected = twin(score, x, (3, 3), (3, 3), channel_axis=3)
    assert_close(Occlusion(model, operator="semantic segmentation")(x, zones), expected)
    with pytest.raises(InvalidTargetError, match="zone"):
        Occlusion(model, operator="semantic segmentation")(x)
    with pytest.raises(InvalidTargetError, match="positions"):
        Occlusion(model)(x)


WRONG = {
    "class out of range": ([0, 1, 4, 0, 0], "at most 3"),
    "negative": ([0, -1, 0, 0, 0], "at least 0"),
    "width": (np.ones((5, 3)), "width 4"),
    "zeros": (np.zeros((5, 4)), "only zeros"),
    "number": ([0, 1], "as many targets"),
    "nan": (np.full((5, 4), np.nan), "finite"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_targets_are_found_before_anything_is_masked(keras, rng, wrong):
    targets, message = WRONG[wrong]
    model, (x, _) = network(keras, (6,)), samples(rng, (6,))
    calls = []

    def f(x):
        calls.append(len(x))
        return model(x).numpy()

    for model_or_function in (model, f):
        with pytest.raises(InvalidTargetError, match=message):
            Occlusion(model_or_function)(x, np.asarray(targets))
    assert len(calls) <= 1  # a function does not tell how many outputs it has
    for model_or_function in (model, f):
        with pytest.raises(InvalidTargetError, match="between 0 and 3"):
            Occlusion(model_or_function).explain_outputs(x, [0, 4])


def test_one_trace_for_any_number_of_samples_patches_and_batches(keras, rng):
    model = network.anew(keras, (6, 7, 3))
    x, y = samples(rng, (6, 7, 3), 10)
    before = trace_count()
    for batch_size, size in itertools.product((1, 4, None), (1, 3)):
        Occlusion(model, batch_size, patch_size=size)(x, y)
        Occlusion(model, batch_size, patch_size=size)(x[:3], y[:3])
    list(Occlusion(model).iter_explain(x, y))
    assert trace_count() == before + 1
    Occlusion(model).explain_outputs(x)
    Occlusion(model).explain_outputs(x[:2], [1])
    assert trace_count() == before + 2
    Occlusion(model)(x)  # the largest output is found by the trace of all, and then is a class
    assert trace_count() == before + 2
    # The labels of a dataset are read in another way than targets.
    for size in (2, 4):
        Occlusion(model)(tf.data.Dataset.from_tensor_slices((x, y)).batch(size))
    assert trace_count() == before + 3


@pytest.mark.parametrize("shape, patch", [((6,), 2), ((40, 40, 3), 10)], ids=["small", "large"])
def test_the_model_is_never_given_more_than_batch_size(keras, rng, shape, patch):
    sizes = []

    def note(x):
        sizes.append(len(x))
        return x

    class Noting(keras.layers.Layer):
        def call(self, x):
            noted = tf.numpy_function(note, [x], x.dtype, stateful=False)
            return tf.ensure_shape(noted, x.shape)

    inputs = keras.layers.Input(shape)
    hidden = keras.layers.Flatten()(Noting()(inputs))
    model = keras.Model(inputs, keras.layers.Dense(4)(hidden))
    x, y = samples(rng, shape, 7)
    sizes.clear()
    Occlusion(model, 3, None, patch, patch)(x, y)
    patches = np.prod([length // patch for length in shape[:2]])
    assert max(sizes) == 3 and sum(sizes) == 7 * (1 + patches)


def test_several_inputs_are_masked_one_at_a_time(keras, rng):
    series, table = keras.layers.Input((4, 2), name="a"), keras.layers.Input((3,), name="b")
    joined = keras.layers.Concatenate()([keras.layers.Flatten()(series), table])
    outputs = keras.layers.Dense(2)(keras.layers.Dense(5, activation="tanh")(joined))
    a, b = rng.normal(size=(5, 4, 2)).astype("float32"), rng.normal(size=(5, 3)).astype("float32")
    y = rng.integers(0, 2, 5)
    model = keras.Model([series, table], outputs)
    score = class_score(model, y)
    expected = (
        twin(lambda a: score([a, b]), a, (1, 1), (1, 1)),
        twin(lambda b: score([a, b]), b, (1,), (1,)),
    )
    by_name = keras.Model({"a": series, "b": table}, outputs)
    for explained in (model, lambda inputs: model(list(inputs)).numpy()):
        maps = Occlusion(explained, 3, None, 1, 1)([a, b], y)
        assert isinstance(maps, list)
        for found, wanted in zip(maps, expected, strict=True):
            assert_close(found, wanted)
    maps = Occlusion(by_name, 3, None, 1, 1)({"b": b, "a": a}, y)
    assert_close(maps["a"], expected[0])
    assert_close(maps["b"], expected[1])
    maps = Occlusion(by_name, 3, None, 1, 1).explain_outputs({"a": a, "b": b})
    assert maps["a"].shape == (5, 2, 4, 2)
    assert maps["b"].shape == (5, 2, 3)


def test_tokens_are_replaced_by_a_token(keras, rng):
    model = keras.Sequential(
        [
            keras.layers.Input((5,), dtype="int32"),
            keras.layers.Embedding(20, 3),
            keras.layers.Flatten(),
            keras.layers.Dense(4),
        ]
    )
    x, y = rng.integers(1, 20, (5, 5)), rng.integers(0, 4, 5)
    expected = np.zeros((5, 5))
    for position in range(5):
        hidden = x.copy()
        hidden[:, position] = 7
        score = class_score(model, y)
        expected[:, position] = score(x) - score(hidden)
    assert_close(Occlusion(model, 64, None, 1, 1, 7)(x, y), expected)
    for value in (0.5, 2**40):
        with pytest.raises(InvalidParameterError, match="whole numbers that int32"):
            Occlusion(model, 64, None, 1, 1, value)(x, y)


def test_integer_images_become_floats(keras, rng):
    model = network(keras, (6, 7, 3))
    x = rng.integers(0, 256, (3, 6, 7, 3), dtype=np.uint8)
    expected = Occlusion(model, occlusion_value=0.5)(x.astype("float32"), 1)
    assert_close(Occlusion(model, occlusion_value=0.5)(x, 1), expected)
    by_function = Occlusion(lambda x: model(x).numpy(), occlusion_value=0.5)
    assert_close(by_function(x, 1), expected)


def test_a_model_that_must_know_its_batch(keras, rng):
    class Static(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(4)

        def call(self, x):
            return self.dense(tf.reshape(x, [int(x.shape[0]), 6]))

    model, (x, y) = Static(), samples(rng, (6,))
    model(x)
    expected = twin(class_score(model, y), x, (2,), (2,))
    assert_close(Occlusion(model, 3, patch_size=2, patch_stride=2)(x, y), expected)


def test_a_model_with_a_state(keras, rng):
    """Each row of a batch starts from a state of its own, and the model has it back afterwards."""
    model = keras.Sequential(
        [keras.layers.Input(batch_shape=(2, 3, 2)), keras.layers.LSTM(4, stateful=True)]
    )
    x, y = samples(rng, (3, 2), 3)
    model(x[:2])
    variables = model.layers[-1].states
    state = [np.array(variable) for variable in variables]

    def give_back():
        for variable, value in zip(variables, state, strict=True):
            variable.assign(value)

    def score(x):
        scores = []
        for rows in ([0, 1], [2, 2]):  # the third sample has the state of the first row
            scores.append(model(x[rows]).numpy()[[0, 1], y[rows]])
            give_back()
        return np.concatenate(scores)[:3]

    expected = twin(score, x, (1, 1), (1, 1))
    assert_close(Occlusion(model, patch_size=1, patch_stride=1)(x, y), expected)
    for variable, value in zip(variables, state, strict=True):
        np.testing.assert_array_equal(np.array(variable), value)


def test_scores_that_are_not_finite(rng):
    x = np.abs(samples(rng, (6,))[0]) + 1
    with np.errstate(divide="ignore"), pytest.raises(InvalidModelError, match="sample 0"):
        Occlusion(lambda x: np.log(x).sum(1))(x)
    x[3] = 1000

    def overflowing(x):
        return np.where(x[:, 0] > 900, np.nan, x[:, 0])

    with pytest.raises(InvalidModelError, match=r"finite scores.*sample 3"):
        Occlusion(overflowing)(x)


def test_scores_of_a_wrong_shape(keras, rng):
    model, (x, y) = network(keras, (6,)), samples(rng, (6,))
    for f in (model, lambda x: model(x).numpy()):
        with pytest.raises(InvalidOperatorError, match="shape"):
            Occlusion(f, operator=lambda f, x, y: f(x))(x, y)
        with pytest.raises(InvalidOperatorError, match="one score for each sample"):
            Occlusion(f, operator=lambda f, x, y: f(x)[:2, 0])(x, y)


@pytest.mark.parametrize("name", ["patch_size", "patch_stride"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "3", None, (), (2, 0), (2, 2.5)])
def test_wrong_lengths(name, value):
    with pytest.raises(InvalidParameterError, match=name):
        Occlusion(len, **{name: value})


def test_lengths_and_values_that_do_not_fit_the_samples(rng):
    x, _ = samples(rng, (6, 7, 3))
    f = lambda x: x.sum((1, 2, 3))  # noqa: E731
    for options in (
        {"patch_size": (3, 3, 3)},
        {"patch_stride": (3,)},
        {"occlusion_value": np.zeros(7)},
        {"occlusion_value": np.zeros((2, 6, 7, 3))},
    ):
        with pytest.raises(InvalidParameterError, match=next(iter(options))):
            Occlusion(f, **options)(x)
    for value in ("black", None, np.nan, [1.0, np.inf], 1j):
        with pytest.raises(InvalidParameterError, match="occlusion_value"):
            Occlusion(f, occlusion_value=value)


def test_inputs_are_checked(rng):
    x, _ = samples(rng, (6,))
    x[2, 1] = np.nan
    with pytest.raises(InvalidInputError, match="sample 2"):
        Occlusion(lambda x: x.sum(1))(x)
