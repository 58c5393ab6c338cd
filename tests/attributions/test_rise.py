"""RISE: its masks, seen as a model sees them, and the maps that they make."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from xplique_sal._tracing.programs import trace_count
from xplique_sal.attributions import Occlusion, Rise
from xplique_sal.attributions.rise import _bilinear
from xplique_sal.errors import InvalidParameterError, InvalidTargetError

SHAPES = {"table": (6,), "series": (12, 3), "image": (14, 16, 3), "volume": (8, 6, 10, 2)}
every_kind = pytest.mark.parametrize("kind", SHAPES)


def assert_close(found, expected, tolerance=1e-5):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=tolerance)


def samples(rng, kind, count=3):
    return rng.normal(size=(count, *SHAPES[kind])).astype("float32")


def masks_of(shape, **options):
    """The masks that are laid over one sample of ones, (masks, ...), with their channels."""
    seen = []

    def f(x):
        seen.append(x)
        return x.reshape(len(x), -1).sum(1)

    Rise(f, **{"nb_samples": 100, "seed": 0, **options})(np.ones((1, *shape), "float32"))
    return np.concatenate(seen[1:])  # the first are the samples as they are


@every_kind
@pytest.mark.parametrize("value", [0.0, -0.5])
def test_a_map_is_the_mean_score_of_the_masks_that_keep_a_position(rng, kind, value):
    x = samples(rng, kind)
    weights = rng.normal(size=x[0].size)

    def f(x):
        return np.tanh(x.reshape(len(x), -1) @ weights / 10)

    options = {"nb_samples": 50, "grid_size": 3, "preservation_probability": 0.6, "seed": 3}
    maps = Rise(f, 7, mask_value=value, **options)(x)
    masks = masks_of(SHAPES[kind], **options).astype("float64")
    expected = []
    for sample in x:
        scores = f(sample * masks + value * (1 - masks)).reshape(-1, *[1] * sample.ndim)
        expected.append((scores * masks).sum(0) / (masks.sum(0) + 1e-4))
    expected = np.stack(expected)
    if x.ndim > 3:
        expected = expected[..., :1]  # a mask is the same for all channels
    assert maps.dtype == tf.float32
    assert np.ptp(expected) > 0.01
    assert_close(maps, expected)


def test_the_masks_of_a_table_keep_each_feature_by_itself():
    masks = masks_of((5,), nb_samples=5000, preservation_probability=0.3)
    assert set(np.unique(masks)) == {0, 1}
    assert_close(masks.mean(0), [0.3] * 5, 0.03)
    correlations = np.corrcoef(masks.T) - np.eye(5)
    assert np.abs(correlations).max() < 0.06


def test_the_masks_of_a_series_keep_stretches_of_each_sensor_by_itself():
    masks = masks_of((20, 3), nb_samples=2000, grid_size=4)
    assert_close(masks.mean((0, 1)), [0.5] * 3, 0.03)
    flat = masks[:, 10]
    assert np.abs(np.corrcoef(flat.T) - np.eye(3)).max() < 0.08
    neighbours = np.corrcoef(masks[:, 10, 0], masks[:, 11, 0])[0, 1]
    assert neighbours > 0.8
    strangers = np.corrcoef(masks[:, 2, 0], masks[:, 17, 0])[0, 1]
    assert abs(strangers) < 0.08


def test_the_masks_of_images_are_pieces_of_enlarged_grids():
    """Every mask is TensorFlow's bilinear enlargement of a grid of zeros and ones, cut out."""
    height, width, rows, columns = 9, 8, 3, 2
    masks = masks_of((height, width, 2), grid_size=(rows, columns), nb_samples=300)
    assert_close(masks[..., 0], masks[..., 1])
    size = int(height * (1 + 1 / rows)), int(width * (1 + 1 / columns))
    numbers = np.arange(2 ** (rows * columns))[:, None] >> np.arange(rows * columns) & 1
    grids = numbers.reshape(-1, rows, columns, 1).astype("float32")
    enlarged = tf.image.resize(grids, size).numpy()[..., 0]
    places, used = {}, []
    for top in range(size[0] - height + 1):
        for left in range(size[1] - width + 1):
            places[top, left] = enlarged[:, top : top + height, left : left + width]
    for mask in masks[..., 0]:
        found = {
            place
            for place, pieces in places.items()
            if np.abs(pieces - mask).max((1, 2)).min() < 1e-5
        }
        assert found
        used.append(found)
    # Of some grids it can be told where they were cut: everywhere.
    assert set().union(*(found for found in used if len(found) == 1)) == set(places)


@pytest.mark.parametrize("cells, size", [(7, 256), (3, 12), (5, 5), (9, 4), (1, 6)])
def test_a_row_of_cells_is_enlarged_as_tensorflow_does(rng, cells, size):
    row = rng.random((1, cells, 1, 1)).astype("float32")
    expected = tf.image.resize(row, (size, 1))[0, :, 0, 0]
    assert_close(_bilinear(cells, size) @ row[0, :, 0, 0], expected)


def test_masks_that_keep_everything_leave_the_score(rng):
    x = samples(rng, "image")
    explainer = Rise(lambda x: x.mean((1, 2, 3)), nb_samples=50, preservation_probability=1.0)
    maps, scores = explainer.explain_with_scores(x)
    assert_close(scores, x.mean((1, 2, 3)))
    assert_close(maps, np.broadcast_to(x.mean((1, 2, 3), keepdims=True), maps.shape))


def test_the_expectation_for_a_linear_function(rng):
    """A feature's own part is in every score of its map; of the others, the kept share."""
    x, weights = samples(rng, "table"), rng.normal(size=6)
    options = {"nb_samples": 10_000, "preservation_probability": 0.3, "seed": 0}
    maps = Rise(lambda x: x @ weights, 1000, **options)(x)
    parts = x * weights
    expected = 0.3 * parts.sum(1, keepdims=True) + 0.7 * parts
    assert_close(maps, expected, 0.1)
    assert np.ptp(expected, axis=1).min() > 0.3


def test_what_the_model_looks_at_has_the_largest_values(keras):
    """The model sees the left upper quarter of its images alone."""
    x = np.ones((2, 16, 16, 1), "float32")
    inputs = keras.layers.Input((16, 16, 1))
    corner = keras.layers.Cropping2D(((0, 8), (0, 8)))(inputs)
    model = keras.Model(inputs, keras.layers.Flatten()(keras.layers.AveragePooling2D(8)(corner)))
    maps = Rise(model, nb_samples=1000, grid_size=4, seed=0)(x)[0, :, :, 0].numpy()
    assert maps[1:6, 1:6].min() > maps[10:, :].max()
    assert maps[1:6, 1:6].min() > maps[:, 10:].max()


@every_kind
def test_the_same_seed_gives_the_same_map_for_any_batch(rng, kind):
    x = samples(rng, kind, 5)
    weights = rng.normal(size=(x[0].size, 4))
    sizes = []

    def f(x):
        sizes.append(len(x))
        return np.tanh(x.reshape(len(x), -1) @ weights)

    options = {"nb_samples": 30, "seed": 5}
    expected = np.asarray(Rise(f, **options)(x, 1))
    for batch_size in (1, 2, 5, 12, None):
        sizes.clear()
        assert_close(Rise(f, batch_size, **options)(x, 1), expected)
        assert max(sizes) <= (batch_size or 150)
        assert sum(sizes) == 5 * 31
    # Masks are shared: a sample's map depends neither on its place nor on the others.
    assert_close(Rise(f, 2, **options)(x[[3, 0]], 1), expected[[3, 0]])
    assert_close(next(Rise(f, 1, **options).iter_explain(x[4:], 1)), expected[4:])
    explainer = Rise(f, **options)
    np.testing.assert_array_equal(explainer(x, 1), explainer(x, 1))
    assert np.abs(Rise(f, nb_samples=30, seed=6)(x, 1) - expected).max() > 1e-4


def test_without_a_seed_each_call_draws_masks_for_all_samples(rng):
    x = np.repeat(samples(rng, "table", 1), 7, axis=0)
    explainer = Rise(lambda x: np.tanh(x.sum(1)), 3, nb_samples=20)
    first, second = np.asarray(explainer(x)), np.asarray(explainer(x))
    assert np.abs(first - second).max() > 1e-4
    assert_close(first, np.repeat(first[:1], 7, axis=0), 1e-6)


def test_several_outputs_share_the_passes(keras, rng):
    x = samples(rng, "image")
    model = keras.Sequential(
        [keras.layers.Input(x.shape[1:]), keras.layers.Flatten(), keras.layers.Dense(4)]
    )
    sizes = []

    def f(x):
        sizes.append(len(x))
        return model(x).numpy()

    options = {"nb_samples": 40, "seed": 1}
    each = np.stack([Rise(model, **options)(x, output) for output in range(4)], 1)
    for explained in (model, f):
        assert_close(Rise(explained, 8, **options).explain_outputs(x), each)
        assert_close(Rise(explained, 8, **options).explain_outputs(x, [2, 0]), each[:, [2, 0]])
        sizes.clear()
    Rise(f, 8, **options).explain_outputs(x)
    assert sum(sizes) == 3 * 41 and max(sizes) <= 8
    with pytest.raises(InvalidTargetError):
        Rise(f, **options).explain_outputs(x, 4)


def test_occlusion_and_rise_run_the_same_trace(keras, rng):
    x = samples(rng, "image")
    model = keras.Sequential(
        [keras.layers.Input(x.shape[1:]), keras.layers.Flatten(), keras.layers.Dense(4)]
    )
    before = trace_count()
    Occlusion(model)(x, 1)
    for batch_size in (1, 5, None):
        Rise(model, batch_size, nb_samples=20, grid_size=3)(x, 1)
    assert trace_count() == before + 1


def test_channels_first(rng):
    import keras

    model = keras.Sequential(
        [
            keras.layers.Input((3, 14, 16)),
            keras.layers.Conv2D(4, 3, data_format="channels_first"),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
    )
    x = samples(rng, "image").transpose(0, 3, 1, 2)
    options = {"nb_samples": 40, "seed": 1, "mask_value": np.array([0.5, 0.0, -1.0])}
    maps = Rise(model, **options)(x, 1)
    assert maps.shape == (3, 1, 14, 16)

    def channels_last(x):
        return model(x.transpose(0, 3, 1, 2)).numpy()

    expected = Rise(channels_last, **options)(x.transpose(0, 2, 3, 1), 1)
    assert_close(maps, tf.transpose(expected, [0, 3, 1, 2]))


@pytest.mark.parametrize(
    "options",
    [
        *({"nb_samples": value} for value in (0, -1, 2.5, True, (3, 3), None)),
        *({"grid_size": value} for value in (0, 2.5, True, "7", (2, 0), ())),
        *({"preservation_probability": value} for value in (0, -0.5, 1.5, np.nan, [0.5])),
        *({"mask_value": value} for value in ("mean", None, np.nan)),
        *({"seed": value} for value in (-1, 0.5, True, "1")),
    ],
    ids=str,
)
def test_wrong_parameters(options):
    with pytest.raises(InvalidParameterError, match=next(iter(options))):
        Rise(len, **options)


def test_grids_that_do_not_fit_the_samples(rng):
    f = lambda x: x.reshape(len(x), -1).sum(1)  # noqa: E731
    with pytest.raises(InvalidParameterError, match="3, the number of sensors"):
        Rise(f, grid_size=(4, 2))(samples(rng, "series"))
    with pytest.raises(InvalidParameterError, match="each of 2 axes"):
        Rise(f, grid_size=(4, 2, 2))(samples(rng, "image"))
    assert Rise(f, nb_samples=5, grid_size=(4, 3))(samples(rng, "series")).shape == (3, 12, 3)
    assert Rise(f, nb_samples=5, grid_size=(4, 2))(samples(rng, "table")).shape == (3, 6)


MEMORY = """
import resource, sys
import numpy as np
from xplique_sal.attributions import Rise

def peak():
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / 2**20 if sys.platform == "darwin" else size / 2**10

def explain(masks):
    explainer = Rise(lambda x: x[:, 100, 100], 32, nb_samples=masks, seed=0)
    return explainer(np.ones((1, 192, 192, 1), "float32"))

explain(100)
before = peak()
explain(1500)
print(peak() - before)
"""


def test_memory_does_not_grow_with_the_number_of_masks():
    """All 1500 masks of 192 x 192 are 211 MiB; the 32 that are made at once are 4.5."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 50
