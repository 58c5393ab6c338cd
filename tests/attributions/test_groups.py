"""Groups of positions that are hidden together: slow twins, and what is refused."""

import contextlib
import warnings

import numpy as np
import pytest
import tensorflow as tf

from xplique_sal.attributions import Occlusion, Rise
from xplique_sal.errors import InvalidParameterError

SHAPES = {"table": (6,), "series": (5, 3), "image": (4, 5, 3), "volume": (3, 2, 4, 2)}
every_kind = pytest.mark.parametrize("kind", SHAPES)
both_ways = pytest.mark.parametrize("of_each", [False, True], ids=["shared", "of each"])


def example(rng, kind, of_each):
    """Samples, a function of three outputs, and groups without channels."""
    shape = SHAPES[kind]
    x = rng.normal(size=(4, *shape)).astype("float32")
    weights = rng.normal(size=(x[0].size, 3)) / 3
    positions = shape[:-1] if len(shape) > 2 else shape
    groups = rng.choice([-1, 3, 7, 20], (4, *positions) if of_each else positions)
    return x, lambda x: np.tanh(x.reshape(len(x), -1) @ weights), groups


def full(groups, x):
    """The group of each value, (N, ...)."""
    if groups.ndim < x.ndim - (x.ndim > 3):
        groups = groups[None]
    groups = groups[..., None] if x.ndim > 3 else groups
    return np.broadcast_to(groups, x.shape)


def without_channels(maps, x):
    return maps[..., :1] if x.ndim > 3 else maps


@every_kind
@both_ways
def test_a_group_gets_what_the_score_loses_without_it(rng, kind, of_each):
    x, f, groups = example(rng, kind, of_each)
    y = np.array([0, 1, 2, 1])
    expected = np.zeros_like(x)
    for group in (3, 7, 20):
        hidden = full(groups, x) == group
        lost = f(x) - f(np.where(hidden, 0.5, x))
        expected += hidden * lost[range(4), y].reshape(-1, *[1] * (x.ndim - 1))
    for batch_size in (64, 3):
        explainer = Occlusion(f, batch_size, occlusion_value=0.5, groups=groups)
        found = explainer.explain(x, y)
        np.testing.assert_allclose(found, without_channels(expected, x), rtol=1e-5, atol=1e-6)


@every_kind
@both_ways
def test_random_masks_keep_groups_as_a_whole(rng, kind, of_each):
    x, f, groups = example(rng, kind, of_each)
    where = full(groups, x)
    ranks = np.stack([np.searchsorted(np.unique(row[row >= 0]), row) for row in where])
    most = max(len(np.unique(row[row >= 0])) for row in where)
    total, weight = 0, 0
    for number in range(30):
        drawn = np.random.default_rng([5, number]).random(most, np.float32) < 0.6
        kept = np.where(where >= 0, drawn[np.minimum(ranks, most - 1)], True)
        scores = f(np.where(kept, x, 0.0))[:, 2]
        total = total + kept * scores.reshape(-1, *[1] * (x.ndim - 1))
        weight = weight + kept
    options = {"nb_samples": 30, "preservation_probability": 0.6, "seed": 5, "groups": groups}
    found = Rise(f, 7, **options).explain(x, 2)
    expected = without_channels(total / (weight + 1e-4), x)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@both_ways
@pytest.mark.parametrize("explainer", [Occlusion, Rise])
def test_outputs_share_the_masks(rng, of_each, explainer):
    x, f, groups = example(rng, "image", of_each)
    options = {"nb_samples": 20, "seed": 1} if explainer is Rise else {}
    one = explainer(f, groups=groups, **options)
    maps = one.explain_outputs(x)
    assert maps.shape == (4, 3, 4, 5, 1)
    for output in range(3):
        np.testing.assert_allclose(maps[:, output], one.explain(x, output), rtol=1e-5, atol=1e-6)


def series_model(keras):
    """A model that tells the shape of its samples, as datasets need it."""
    layers = [keras.layers.Flatten(), keras.layers.Dense(3, activation="tanh")]
    return keras.Sequential([keras.layers.Input(SHAPES["series"]), *layers])


def test_axes_of_length_one_and_datasets(keras, rng):
    x, f = rng.normal(size=(4, 5, 3)).astype("float32"), series_model(keras)
    letters = np.arange(5)[:, None]
    maps = Occlusion(f, groups=letters).explain(x, 0)
    expected = Occlusion(f, patch_size=(1, 3), patch_stride=(1, 3)).explain(x, 0)
    np.testing.assert_allclose(maps, expected, rtol=1e-5, atol=1e-6)

    each = np.stack([letters, letters[::-1], letters // 2, letters // 3])
    dataset = tf.data.Dataset.from_tensor_slices(x).batch(3)
    found = Occlusion(f, groups=each).explain(dataset, 0)
    again = Occlusion(f, groups=each).explain(x, 0)
    np.testing.assert_allclose(found, again, rtol=1e-5, atol=1e-6)
    assert not np.allclose(found[2], maps[2])


def test_several_inputs_have_groups_each(rng):
    a, b = rng.normal(size=(2, 4, 6)).astype("float32")

    def f(x):
        return np.tanh(x[0].sum(1) - x[1][:, :3].prod(1))

    groups = np.array([0, 0, 1, 1, 2, -1])
    of_a, of_b = Occlusion(f, patch_size=1, patch_stride=1, groups=[groups, None])([a, b])
    score, expected = f([a, b]), np.zeros_like(a)
    for group in range(3):
        lost = score - f([np.where(groups == group, 0, a), b])
        expected += (groups == group) * lost[:, None]
    np.testing.assert_allclose(of_a, expected, atol=1e-6)
    alone = [score - f([a, np.where(np.arange(6) == place, 0, b)]) for place in range(6)]
    np.testing.assert_allclose(of_b, np.stack(alone, 1), atol=1e-6)


def test_a_model_of_either_keras_takes_groups(keras, rng):
    model, x = series_model(keras), rng.normal(size=(5, 5, 3)).astype("float32")
    groups = np.array([0, 0, 1, 1, -1])[:, None]
    maps = Occlusion(model, 2, groups=groups).explain(x, 1)
    expected = Occlusion(model, patch_size=(2, 3), patch_stride=(2, 3)).explain(x, 1)
    np.testing.assert_allclose(maps, expected, rtol=1e-5, atol=1e-6)


def test_series_of_other_lengths_need_other_groups(keras, rng):
    layers = [keras.layers.Conv1D(4, 3, padding="same"), keras.layers.GlobalMaxPooling1D()]
    model = keras.Sequential([keras.layers.Input((None, 3)), *layers, keras.layers.Dense(2)])
    groups = np.array([0, 0, 1, 1, -1])[:, None]

    def maps(*lengths):
        batches = [rng.normal(size=(2, length, 3)).astype("float32") for length in lengths]
        spec = tf.TensorSpec([None, None, 3])
        dataset = tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=spec)
        found = np.concatenate([*Occlusion(model, groups=groups).iter_explain(dataset, 0)])
        return np.concatenate(batches), found

    x, found = maps(5, 5)
    patches = Occlusion(model, patch_size=(2, 3), patch_stride=(2, 3))
    np.testing.assert_allclose(found, patches.explain(x, 0), rtol=1e-5, atol=1e-6)
    with pytest.raises(InvalidParameterError, match=r"\(7, 3\).*got the shape \(5, 1\)"):
        maps(5, 7)


@pytest.mark.parametrize("kind", ["tflite", "strategy"])
def test_interpreters_and_models_of_a_strategy_take_groups(keras, rng, kind):
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope() if kind == "strategy" else contextlib.nullcontext():
        model = series_model(keras)
    x = rng.normal(size=(4, 5, 3)).astype("float32")
    groups = rng.choice([-1, 3, 7], (4, 5, 3))
    kernel, bias = (weight.numpy() for weight in model.weights)

    def twin(x):
        return np.tanh(x.reshape(len(x), -1) @ kernel + bias)

    if kind == "tflite":
        function = tf.function(lambda x: model(x), input_signature=[tf.TensorSpec((1, 5, 3))])
        concrete = function.get_concrete_function()
        converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the interpreter will move
            model = tf.lite.Interpreter(model_content=converter.convert())
    found = Occlusion(model, groups=groups).explain(x, 1)
    expected = Occlusion(twin, groups=groups).explain(x, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        (np.zeros((5, 3)), "float64"),
        (np.full((5, 3), -1), "negative numbers only"),
        (np.zeros((4, 3), int), r"\(5, 3\)"),
        (np.zeros((3, 5, 3), int), "each of 4 samples"),
        ([np.zeros((5, 3), int)] * 2, "each of 1 inputs"),
        ("words", "str"),
    ],
)
def test_what_are_no_groups_is_refused(rng, groups, said):
    x, f, _ = example(rng, "series", False)
    with pytest.raises(InvalidParameterError, match=said):
        Occlusion(f, groups=groups).explain(x, 0)


def test_groups_of_each_sample_are_not_for_a_shuffled_dataset(keras, rng):
    x, _, groups = example(rng, "series", True)
    dataset = tf.data.Dataset.from_tensor_slices(x).shuffle(4).batch(2)
    with (
        pytest.warns(UserWarning, match="shuffled anew"),
        pytest.raises(InvalidParameterError, match="shuffled anew"),
    ):
        Occlusion(series_model(keras), groups=groups).explain(dataset, 0)
