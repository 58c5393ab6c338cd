"""On flat Keras 3 models, the maps equal those of Xplique 2.0.2, or do so on average.

They run in an environment of their own: ``make test-peers``.
"""

import numpy as np
import pytest

xplique = pytest.importorskip("xplique.attributions", reason="run by `make test-peers`")

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

from xplique_sal import attributions, metrics, segmentation  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The gradient is zero everywhere"),
]

SHAPES = {"table": (12,), "series": (10, 4), "image": (16, 16, 3)}


def network(kind):
    keras.utils.set_random_seed(0)
    convolutions = {
        "table": [],
        "series": [keras.layers.Conv1D(8, 3, activation="relu")],
        "image": [
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(8, 3, activation="relu"),
        ],
    }
    inputs = keras.layers.Input(SHAPES[kind])
    hidden = inputs
    for layer in convolutions[kind]:
        hidden = layer(hidden)
    hidden = keras.layers.Dense(16, activation="relu")(keras.layers.Flatten()(hidden))
    return keras.Model(inputs, keras.layers.Dense(5)(hidden))


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("name", ["Saliency", "GuidedBackprop", "DeconvNet"])
def test_maps_are_those_of_xplique(kind, name):
    model = network(kind)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, *SHAPES[kind])).astype("float32")
    y = tf.one_hot(rng.integers(0, 5, 20), 5)
    expected = np.asarray(getattr(xplique, name)(model, batch_size=8).explain(x, y))
    maps = np.asarray(getattr(attributions, name)(model, batch_size=8).explain(x, y))
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(maps.reshape(expected.shape), expected, rtol=0, atol=1e-6)


def blobs(rng, count=12, size=16, classes=4):
    """Return scores (N, H, W, L) whose classes make regions of some size."""
    coarse = rng.normal(size=(count, size // 4, size // 4, classes))
    noise = np.linspace(0, 0.3, count)[:, None, None, None]
    fine = noise * rng.normal(size=(count, size, size, classes))
    return (coarse.repeat(4, 1).repeat(4, 2) + fine).astype("float32")


def test_zones_and_borders_are_those_of_xplique():
    """Except that a pixel alone has a border here, where Xplique's has an outer one only."""
    peer = pytest.importorskip("xplique.utils_functions.segmentation")
    rng = np.random.default_rng(0)
    compared = lone = 0
    for scores in blobs(rng):
        labels = scores.argmax(-1)
        first, second = labels[5, 5], (labels[5, 5] + 1) % 4
        if not (labels == second).any():
            continue
        zones = [segmentation.class_zone(scores, label) for label in (first, second)]
        for zone, label in zip(zones, (first, second), strict=True):
            np.testing.assert_array_equal(zone, peer.get_class_zone(scores, label))
        connected = segmentation.connected_zone(scores, (5, 5))
        np.testing.assert_array_equal(connected, peer.get_connected_zone(scores, (5, 5)))
        parts = peer.list_class_connected_zones(scores, first, zone_minimum_size=3)
        found = segmentation.separate_zones(scores, first, min_size=4)  # theirs: more than 3
        np.testing.assert_array_equal(found, parts)
        borders = []
        for zone in zones:
            border = segmentation.zone_border(zone)
            theirs = peer.get_in_out_border(zone).numpy()
            differ = np.argwhere((border != theirs).any(-1))
            for row, column in differ:  # a lone pixel, or a hole of one
                around = zone.any(-1)[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
                assert around.size == 9
                assert (around != around[1, 1]).sum() == 8
                assert not theirs[row, column].any()
            borders.append(border)
            lone += len(differ)
        common = peer.get_common_border(*borders)  # of the same borders
        np.testing.assert_array_equal(segmentation.common_border(*zones), common)
        compared += 1
    assert compared >= 6 and lone >= 1


def samples(kind, count):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, *SHAPES[kind])).astype("float32")
    return x, np.eye(5, dtype="float32")[rng.integers(0, 5, count)]


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"patch_size": 2, "patch_stride": 1},
        {"patch_size": 1, "patch_stride": 2, "occlusion_value": 0.5},
        {"patch_size": (4, 2), "patch_stride": (1, 2)},
    ],
    ids=["defaults", "overlapping", "gaps", "tuples"],
)
def test_occlusion_is_that_of_xplique(kind, options):
    if kind == "table" and isinstance(options.get("patch_size"), tuple):
        options = {"patch_size": 4, "patch_stride": 2}
    model, (x, y) = network(kind), samples(kind, 6)
    # It joins the maps of samples along their first axis: one sample at a time.
    theirs = xplique.Occlusion(model, batch_size=8, **options)
    expected = np.stack([np.asarray(theirs.explain(x[i : i + 1], y[i : i + 1])) for i in range(6)])
    maps = np.asarray(attributions.Occlusion(model, batch_size=8, **options).explain(x, y))
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(maps.reshape(expected.shape), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", SHAPES)
def test_rise_is_that_of_xplique_on_average(kind):
    """Masks are random on both sides: the difference of means is within a few standard errors."""
    model, (x, y) = network(kind), samples(kind, 2)
    options = {"nb_samples": 2000, "grid_size": 4, "preservation_probability": 0.4}
    options["mask_value"] = 0.3
    tf.random.set_seed(0)
    # It cuts all masks of a batch out at one place: small batches are nearer to the article.
    theirs = np.stack(
        [xplique.Rise(model, batch_size=20, **options).explain(x, y) for _ in range(12)]
    )
    ours = [
        attributions.Rise(model, batch_size=64, seed=seed, **options).explain(x, y)
        for seed in range(12)
    ]
    ours = np.reshape(ours, theirs.shape)
    error = np.sqrt((theirs.var(axis=0, ddof=1) + ours.var(axis=0, ddof=1)) / 12)
    mean = theirs.mean(axis=0)
    assert error.max() < 0.05 * np.ptp(mean.reshape(2, -1), axis=1).min()
    assert np.abs((ours.mean(axis=0) - mean) / error).max() < 4


DETERMINISTIC = {
    "GradientInput": {},
    "IntegratedGradients": {"steps": 20, "baseline_value": 0.5},
    "GradCAM": {"conv_layer": -5},
}


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_maps_of_the_gradient_family_are_those_of_xplique(kind, name):
    if name == "GradCAM" and kind != "image":
        pytest.skip("Xplique has Grad-CAM for images")
    model, options = network(kind), DETERMINISTIC[name]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, *SHAPES[kind])).astype("float32")
    y = tf.one_hot(rng.integers(0, 5, 20), 5)
    expected = np.asarray(getattr(xplique, name)(model, batch_size=8, **options).explain(x, y))
    maps = np.asarray(getattr(attributions, name)(model, batch_size=8, **options).explain(x, y))
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(maps.reshape(expected.shape), expected, rtol=0, atol=1e-5)


def test_the_default_layer_of_grad_cam_is_that_of_xplique():
    model, x = network("image"), np.random.default_rng(0).normal(size=(6, 16, 16, 3))
    x, y = x.astype("float32"), tf.one_hot(range(5), 5)[:1]
    y = tf.repeat(y, 6, axis=0)
    expected = xplique.GradCAM(model).explain(x, y)
    np.testing.assert_allclose(attributions.GradCAM(model).explain(x, y), expected, atol=1e-5)


def test_grad_cam_pp_is_that_of_xplique_where_both_follow_the_article():
    """Xplique takes means over positions where the article has sums: the same for one position."""
    layers = keras.layers
    inputs = layers.Input((3, 3, 2))
    hidden = layers.Flatten()(layers.Conv2D(6, 3, activation="relu")(inputs))
    model = keras.Model(inputs, layers.Dense(5)(layers.Dense(8, activation="relu")(hidden)))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 3, 3, 2)).astype("float32"), tf.one_hot(rng.integers(0, 5, 8), 5)
    expected = np.asarray(xplique.GradCAMPP(model, conv_layer=1).explain(x, y))
    assert np.abs(expected).max() > 0
    maps = attributions.GradCAMPP(model, conv_layer=1).explain(x, y)
    np.testing.assert_allclose(maps, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["SmoothGrad", "VarGrad", "SquareGrad"])
def test_maps_around_samples_are_those_of_xplique_but_for_chance(name):
    """Two runs of Xplique differ by as much as one of them from ours."""
    model = network("image")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 16, 16, 3)).astype("float32")
    y = tf.one_hot(rng.integers(0, 5, 6), 5)
    options = {"nb_samples": 400, "noise": 0.3, "batch_size": 64}
    tf.random.set_seed(0)
    theirs = [np.asarray(getattr(xplique, name)(model, **options).explain(x, y)) for _ in range(2)]
    ours = np.asarray(getattr(attributions, name)(model, seed=0, **options).explain(x, y))
    chance = np.sqrt(np.mean((theirs[0] - theirs[1]) ** 2))
    assert chance < 0.2 * np.std(theirs[0])  # or it would prove nothing
    for one in theirs:
        assert 0.8 * chance < np.sqrt(np.mean((ours - one) ** 2)) < 1.25 * chance


#: What each metric is called there, and what makes ours what theirs is.
METRICS = {
    "Deletion": ("Deletion", {}),
    "Insertion": ("Insertion", {}),
    "AverageDrop": ("AverageDropMetric", {}),
    "AverageIncrease": ("AverageIncreaseMetric", {}),
    "AverageGain": ("AverageGainMetric", {}),
    "Complexity": ("Complexity", {"epsilon": 1e-8}),
    "Sparseness": ("Sparseness", {}),
}


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("name", METRICS)
def test_metrics_of_maps_without_ties_are_those_of_xplique(kind, name):
    peer, settings = METRICS[name]
    theirs = getattr(pytest.importorskip("xplique.metrics"), peer)
    model, (x, y) = network(kind), samples(kind, 20)
    model = keras.Sequential([model, keras.layers.Softmax()])
    maps = np.random.default_rng(1).normal(size=(20, *SHAPES[kind])).astype("float32")
    if kind == "image":
        maps = maps[..., :1]
    given = () if name in ("Complexity", "Sparseness") else (model, x, y)
    expected = theirs(*given)(maps)
    found = getattr(metrics, name)(*given, **settings)(maps)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", SHAPES)
def test_mu_fidelity_is_that_of_xplique_but_for_chance(kind):
    """Its parts are the same for all samples of a batch, and random: means of several runs."""
    theirs = pytest.importorskip("xplique.metrics").MuFidelity
    model, (x, y) = network(kind), samples(kind, 8)
    maps = np.asarray(attributions.GradientInput(model, reducer="sum").explain(x, y))
    options = {"grid_size": 4, "nb_samples": 100}
    expected = []
    for seed in range(12):
        tf.random.set_seed(seed)  # what it draws is otherwise the same for each object
        expected.append(theirs(model, x, y, **options)(maps))
    same = {**options, "correlation": "spearman", "exact_size": False}
    found = [metrics.MuFidelity(model, x, y, seed=seed, **same)(maps) for seed in range(12)]
    error = np.sqrt((np.var(expected, ddof=1) + np.var(found, ddof=1)) / 12)
    assert error < 0.02 < np.mean(expected)
    assert abs(np.mean(found) - np.mean(expected)) < 4 * error


def test_stability_is_that_of_xplique_but_for_chance():
    theirs = pytest.importorskip("xplique.metrics").AverageStability
    model, (x, y) = network("table"), samples("table", 8)
    explainer = attributions.GradientInput(model)
    tf.random.set_seed(0)
    expected = [theirs(model, x, y)(explainer) for _ in range(12)]
    same = {"relative": False, "one_sided": True}
    found = [metrics.AverageStability(model, x, y, seed=i, **same)(explainer) for i in range(12)]
    error = np.sqrt((np.var(expected, ddof=1) + np.var(found, ddof=1)) / 12)
    assert error < 0.1 * np.mean(expected)
    assert abs(np.mean(found) - np.mean(expected)) < 4 * error
