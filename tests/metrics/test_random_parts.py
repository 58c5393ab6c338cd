"""µFidelity and stability: slow twins, closed forms, seeds, and what is shared."""

import numpy as np
import pytest
import tensorflow as tf
from reference import built_once

from xplique_sal import GradientInput, Saliency
from xplique_sal._engine.passes import counted
from xplique_sal.errors import InvalidInputError, InvalidParameterError
from xplique_sal.metrics import AverageStability, MuFidelity
from xplique_sal.metrics.base import detailed
from xplique_sal.metrics.correlation import spearman

SHAPES = {"table": (8,), "series": (9, 2), "image": (6, 7, 3), "volume": (4, 3, 5, 2)}


def samples(rng, shape, count=4):
    return rng.normal(size=(count, *shape)).astype("float32"), rng.integers(0, 3, count)


def linear(rng, shape):
    weights = rng.normal(size=(3, *shape)).astype("float32")
    return lambda x: np.einsum("nj,kj->nk", x.reshape(len(x), -1), weights.reshape(3, -1)), weights


@built_once
def network(keras, shape):
    layers = [keras.layers.Input(shape), keras.layers.Flatten()]
    return keras.Sequential([*layers, keras.layers.Dense(8, "tanh"), keras.layers.Dense(3)])


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("options", [{}, {"correlation": "spearman", "exact_size": False}])
def test_the_contributions_to_a_linear_score_have_the_fidelity_1(rng, kind, options):
    f, weights = linear(rng, SHAPES[kind])
    x, y = samples(rng, SHAPES[kind])
    maps = weights[y] * (x - 0.5)
    if len(SHAPES[kind]) > 2:
        maps = maps.sum(-1)
    options = {"grid_size": 3, "baseline_mode": 0.5, "nb_samples": 60, **options}
    for map_, expected in ((maps, 1), (-maps, -1)):
        found = MuFidelity(f, x, y, **options).detailed_evaluate(map_).values
        np.testing.assert_allclose(found, expected, atol=1e-3)


def twin_of_parts(score, x, maps, number, parts, size, grid):
    """(sum of the map, loss of score) of each part of one sample, cell by cell."""
    height, width = x.shape[1:3]
    random = np.random.default_rng([7, number])
    pairs = []
    for _ in range(parts):
        values = random.random(grid * grid)
        chosen = np.argsort(values)[:size]
        changed, total = x[number].copy(), 0.0
        for row in range(height):
            for column in range(width):
                cell = int((row + 0.5) * grid / height) * grid + int((column + 0.5) * grid / width)
                if cell in chosen:
                    changed[row, column] = 0
                    total += maps[number, row, column]
        pairs.append((total, score(x[number]) - score(changed)))
    return np.array(pairs).T


def test_a_slow_twin_of_images(keras, rng):
    model, (x, y) = network(keras, (6, 7, 3)), samples(rng, (6, 7, 3), 3)
    maps = rng.normal(size=(3, 6, 7))
    options = {"grid_size": 4, "subset_percent": 0.3, "nb_samples": 20, "seed": 7}
    found = MuFidelity(model, x, y, 8, **options).detailed_evaluate(maps).values
    ranked = MuFidelity(model, x, y, 64, correlation="spearman", **options)
    ranked = ranked.detailed_evaluate(maps).values
    weights = [np.asarray(weight, "float64") for weight in model.get_weights()]

    def output(image):
        return np.tanh(image.ravel() @ weights[0] + weights[1]) @ weights[2] + weights[3]

    scipy = pytest.importorskip("scipy.stats")
    for number in range(3):
        pairs = twin_of_parts(lambda i, n=number: output(i)[y[n]], x, maps, number, 20, 5, 4)
        np.testing.assert_allclose(found[number], np.corrcoef(*pairs)[0, 1], atol=1e-4)
        np.testing.assert_allclose(ranked[number], scipy.spearmanr(*pairs)[0], atol=1e-4)


def test_ranks_of_rows_with_ties(rng):
    scipy = pytest.importorskip("scipy.stats")
    rows = rng.integers(0, 4, (2, 5, 12))
    for first, second, found in zip(rows[0], rows[1], spearman(rows[0], rows[1]), strict=True):
        assert found == pytest.approx(scipy.spearmanr(first, second)[0])
    assert spearman(np.ones((1, 5)), np.arange(5.0)[None]) == 0


def test_parts_have_one_size_or_not_and_do_not_depend_on_batches(rng):
    kept = []

    def f(x):
        kept.extend(x.sum(axis=1).tolist())
        return x @ np.arange(1.0, 11.0)[:, None]

    x = np.ones((5, 10), "float32")
    maps = rng.normal(size=(5, 10))
    found = MuFidelity(f, x, 0, 64, nb_samples=50).detailed_evaluate(maps).values
    assert set(kept[5:]) == {8}
    for size in (1, 3):
        again = MuFidelity(f, x, 0, size, nb_samples=50).detailed_evaluate(maps).values
        np.testing.assert_allclose(again, found, atol=1e-12)
    other = MuFidelity(f, x, 0, nb_samples=50, seed=1).detailed_evaluate(maps).values
    assert np.abs(other - found).max() > 1e-3
    kept.clear()
    MuFidelity(f, x, 0, nb_samples=200, exact_size=False)(maps)
    sizes = 10 - np.array(kept[5:])
    assert len(set(sizes)) > 3 and abs(sizes.mean() - 2) < 4 * sizes.std() / np.sqrt(1000)


def test_any_number_of_maps_costs_the_scores_of_one(rng):
    f, _ = linear(rng, (8,))
    x, y = samples(rng, (8,))
    metric = MuFidelity(f, x, y, nb_samples=30)
    maps = rng.normal(size=(3, *x.shape))
    with counted() as passes:
        together = detailed([metric], list(maps))[0]
    assert passes.rows == 4 + 4 * 30
    for values, map_ in zip(together, maps, strict=True):
        np.testing.assert_array_equal(values, metric.detailed_evaluate(map_))


def test_a_map_that_does_not_vary_has_no_correlation(rng):
    f, _ = linear(rng, (8,))
    x, y = samples(rng, (8,))
    assert MuFidelity(f, x, y, nb_samples=10)(np.ones_like(x)) == 0


def test_stability_in_closed_form(keras, rng):
    model = keras.Sequential([keras.layers.Input((6,)), keras.layers.Dense(3)])
    weights = model.get_weights()[0].T
    x, y = samples(rng, (6,), 5)
    assert AverageStability(model, x, y)(Saliency(model)) < 1e-6
    explainer = GradientInput(model)
    drawn = [np.random.default_rng([3, i]).random((7, 6), np.float32) for i in range(5)]
    moved = 0.4 * np.stack(drawn) - 0.2
    changes, own = weights[y][:, None] * moved, weights[y] * x
    options = {"radius": 0.2, "nb_samples": 7, "seed": 3}
    for name, order in (("l1", 1), ("l2", 2)):
        expected = np.linalg.norm(changes, order, axis=-1).mean(axis=1)
        found = AverageStability(model, x, y, 2, distance=name, **options)
        expected = expected / np.linalg.norm(own, order, axis=-1)
        np.testing.assert_allclose(found.detailed_evaluate(explainer), expected, rtol=1e-4)
    found = AverageStability(
        model, x, y, distance=lambda a, b: np.abs(a - b).max(), **options
    ).detailed_evaluate(explainer)
    np.testing.assert_allclose(found, np.abs(changes).max(-1).mean(1), rtol=1e-3)
    one_sided = AverageStability(model, x, y, relative=False, one_sided=True, nb_samples=400)
    mean = np.abs(weights[y]).sum(axis=1).mean()
    found = one_sided(lambda x, y: explainer(x, y).numpy().sum(axis=1, keepdims=True))
    assert found <= 0.1 * mean  # |Σ w·ε| ≤ Σ |w|·r


def test_without_targets_what_is_explained_of_neighbours_is_what_the_sample_shows(rng):
    f, weights = linear(rng, (6,))
    x, _ = samples(rng, (6,), 6)
    asked = []

    def explainer(x, y):
        asked.append(np.asarray(y))
        return weights[np.asarray(y)] * x

    AverageStability(f, x, radius=2.0)(explainer)
    largest = f(x).argmax(axis=1)
    assert len(asked) > 1 and all((part.reshape(-1, 6) == largest).all() for part in asked)


def test_labels_of_a_dataset_stay_labels(keras, rng):
    model, x = network(keras, (8,)), samples(rng, (8,))[0]
    dataset = tf.data.Dataset.from_tensor_slices((x, [0, 2, 1, 1])).batch(3)
    found = AverageStability(model, dataset, nb_samples=2)(Saliency(model))
    assert found == AverageStability(model, x, [0, 2, 1, 1], nb_samples=2)(Saliency(model)) > 0


def test_errors(rng):
    f, _ = linear(rng, (8,))
    x, y = samples(rng, (8,))
    for wrong in ({"subset_percent": 1.0}, {"nb_samples": 1}, {"correlation": "r"}):
        with pytest.raises(InvalidParameterError):
            MuFidelity(f, x, y, **wrong)
    with pytest.raises(InvalidParameterError, match="distance"):
        AverageStability(f, x, y, distance="l3")
    with pytest.raises(InvalidParameterError, match="explainer itself"):
        AverageStability(f, x, y)(np.ones_like(x))
    with pytest.raises(InvalidInputError, match="zeros for sample 0"):
        AverageStability(f, x, y)(lambda x, y: np.zeros_like(x))
