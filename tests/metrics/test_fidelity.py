"""Deletion, insertion, average drop, increase and gain: slow twins, bounds and errors."""

import itertools
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import tensorflow as tf
from reference import built_once

from xplique_sal import Saliency, metrics
from xplique_sal._engine.passes import counted
from xplique_sal._tracing.programs import trace_count
from xplique_sal.errors import InvalidInputError, InvalidModelError, InvalidParameterError
from xplique_sal.metrics import AverageDrop, AverageGain, AverageIncrease, Deletion, Insertion
from xplique_sal.metrics.base import ScoreMetric
from xplique_sal.metrics.measurement import Baseline

SHAPES = {"table": (6,), "series": (5, 3), "image": (6, 7, 3), "volume": (4, 3, 5, 2)}
every_kind = pytest.mark.parametrize("kind", SHAPES)


def assert_close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@built_once
def network(keras, shape):
    layers = [keras.layers.Input(shape), keras.layers.Flatten()]
    layers += [keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(4, "softmax")]
    return keras.Sequential(layers)


def samples(rng, shape, count=5):
    x = rng.normal(size=(count, *shape)).astype("float32")
    reduced = (*shape[:-1], 1) if len(shape) > 2 else shape
    return x, rng.integers(0, 4, count), rng.normal(size=(count, *reduced)).astype("float32")


def linear(rng, shape):
    """A function whose output `k` is Σ w_k·x, and its weights."""
    weights = rng.normal(size=(4, *shape)).astype("float32")
    return lambda x: np.einsum("nj,kj->nk", x.reshape(len(x), -1), weights.reshape(4, -1)), weights


def twin_of_curves(score, x, maps, start, end, steps, share=1.0):
    """Curves by a sort and a loop over positions, from `start` to `end` images."""
    curves = []
    for number, map_ in enumerate(maps):
        changed, other = start[number].copy(), end[number]
        channels = x.shape[-1] if x.ndim > 3 else 1
        flat, other = changed.reshape(-1, channels), other.reshape(-1, channels)
        order = sorted(range(map_.size), key=lambda place: -map_.ravel()[place])
        counts = np.linspace(0, int(map_.size * share), steps + 1).astype(int)
        curve = []
        for count in counts:
            for place in order[:count]:
                flat[place] = other[place]
            curve.append(score(changed[None], number))
        curves.append(curve)
    return np.array(curves)


@every_kind
def test_curves_are_those_of_a_slow_twin(keras, rng, kind):
    model, (x, y, maps) = network(keras, SHAPES[kind]), samples(rng, SHAPES[kind])

    def score(x, number):
        return float(model(x)[0, y[number]])

    for cls, start, end in ((Deletion, x, np.full_like(x, 0.3)), (Insertion, None, x)):
        start = np.full_like(x, 0.3) if start is None else start
        metric = cls(model, x, y, batch_size=2, baseline_mode=0.3, steps=4)
        found = metric.detailed_evaluate(maps)
        expected = twin_of_curves(score, x, maps, start, end, 4)
        assert_close(found.curves, expected)
        area = np.trapezoid if hasattr(np, "trapezoid") else np.trapz
        assert_close(found.values, area(expected, dx=0.25, axis=1))
        assert found.at[0] == 0 and found.at[-1] == 1
        assert metric(maps) == metric.evaluate(tf.constant(maps)) == found.values.mean()
        np.testing.assert_array_equal(np.asarray(found), found.values)
        assert len(found) == 5


def test_a_part_of_the_way_in_single_steps(rng):
    f, _ = linear(rng, (6,))
    x, y, maps = samples(rng, (6,))
    found = Deletion(f, x, y, steps=-1, max_percentage_perturbed=0.5).detailed_evaluate(maps)
    expected = twin_of_curves(
        lambda x, number: float(f(x)[0, y[number]]), x, maps, x, np.zeros_like(x), 3, 0.5
    )
    assert_close(found.curves, expected)
    assert_close(found.at, [0, 1 / 6, 2 / 6, 3 / 6])


def test_no_permutation_deletes_better_than_the_map_of_a_linear_model(rng):
    f, weights = linear(rng, (5,))
    x, y, _ = samples(rng, (5,), 3)
    best = Deletion(f, x, y, steps=-1).detailed_evaluate(weights[y] * x).values
    orders = [np.tile(order, (3, 1)) for order in itertools.permutations(range(5))]
    every = np.stack([Deletion(f, x, y, steps=-1).detailed_evaluate(o).values for o in orders])
    assert_close(best, every.min(axis=0))
    assert_close(
        Insertion(f, x, y, steps=-1).detailed_evaluate(weights[y] * x).values,
        -best + (f(x)[np.arange(3), y]),
    )


def test_on_a_linear_model_a_random_map_deletes_as_it_inserts_within_its_error(rng):
    f, _ = linear(rng, (8,))
    x, y, _ = samples(rng, (8,), 400)
    maps = rng.normal(size=x.shape)
    difference = (
        Deletion(f, x, y).detailed_evaluate(maps).values
        - Insertion(f, x, y).detailed_evaluate(maps).values
    )
    assert abs(difference.mean()) < 4 * difference.std() / 20


def test_equal_values_are_ordered_at_random_but_always_alike(rng):
    f, _ = linear(rng, (6,))
    x, y, maps = samples(rng, (6,), 4)
    zeros = np.zeros_like(maps)
    first = Deletion(f, x, y).detailed_evaluate(zeros).curves
    np.testing.assert_array_equal(first, Deletion(f, x, y, 1).detailed_evaluate(zeros).curves)
    others = [Deletion(f, x, y, seed=seed).detailed_evaluate(zeros).curves for seed in (1, 2)]
    assert all(np.abs(first - other).max() > 1e-3 for other in others)
    # Values that differ are not touched by it.
    one, other = (Deletion(f, x, y, seed=seed).detailed_evaluate(maps).curves for seed in (0, 1))
    np.testing.assert_array_equal(one, other)


def test_maps_in_every_form_are_read_alike(rng):
    f, _ = linear(rng, (4, 5, 3))
    x, y, maps = samples(rng, (4, 5, 3))
    expected = Deletion(f, x, y).detailed_evaluate(maps).curves
    for same in (maps[..., 0], np.repeat(maps, 3, -1), tf.constant(maps)):
        assert_close(Deletion(f, x, y).detailed_evaluate(same).curves, expected)
    dataset = tf.data.Dataset.from_tensor_slices((x, y))
    assert_close(Deletion(f, dataset).detailed_evaluate(maps).curves, expected)
    # Of a series a map of times takes all sensors of a time away at once.
    g, weights = linear(rng, (4, 3))
    x, y, _ = samples(rng, (4, 3))
    of_times = (weights[y] * x).sum(-1)
    found = Deletion(g, x, y, steps=-1).detailed_evaluate(of_times).curves
    left = -np.sort(-of_times, axis=1)
    assert_close(found, f_of_rest(left))


def f_of_rest(parts):
    """What is left of a sum when its parts are taken away one after the other."""
    total = parts.sum(axis=1, keepdims=True)
    return np.concatenate([total, total - np.cumsum(parts, axis=1)], axis=1)


def test_baselines_of_channels_and_functions(rng):
    f, _ = linear(rng, (4, 4, 2))
    x, y, maps = samples(rng, (4, 4, 2))
    by_channel = np.array([0.5, -1.0], "float32")
    expected = Deletion(f, x, y, baseline_mode=np.broadcast_to(by_channel, x.shape[1:]))
    expected = expected.detailed_evaluate(maps).curves
    for baseline in (by_channel, lambda x: np.broadcast_to(by_channel, x.shape)):
        found = Deletion(f, x, y, 2, baseline).detailed_evaluate(maps).curves
        assert_close(found, expected)


def test_channels_first(rng):
    keras = pytest.importorskip("keras")
    model = keras.Sequential(
        [keras.Input((2, 4, 5)), keras.layers.Flatten(data_format="channels_first")]
    )
    model.add(keras.layers.Dense(3))
    x = rng.normal(size=(3, 2, 4, 5)).astype("float32")
    maps = rng.normal(size=(3, 1, 4, 5))
    found = Deletion(model, x, 1, steps=2).detailed_evaluate(maps).curves
    middle = np.where(maps.reshape(3, -1).argsort().argsort().reshape(maps.shape) >= 10, 0, x)
    assert_close(found[:, 1], model(middle)[:, 1])


def test_what_is_kept_of_a_sample(keras, rng):
    model, (x, y, maps) = network(keras, (6, 7, 3)), samples(rng, (6, 7, 3), 7)
    size = np.abs(maps)
    low, high = (limit(size, axis=(1, 2, 3), keepdims=True) for limit in (np.min, np.max))
    before, after = (
        np.asarray(model(v))[np.arange(7), y].astype("float64")
        for v in (x, x * (size - low) / (high - low))
    )
    given = (model, x, y, 3)
    drop = AverageDrop(*given).detailed_evaluate(maps).values
    assert_close(drop, np.maximum(before - after, 0) / before)
    gain = AverageGain(*given).detailed_evaluate(maps).values
    assert_close(gain, np.maximum(after - before, 0) / (1 - before))
    increase = AverageIncrease(*given).detailed_evaluate(maps).values
    np.testing.assert_array_equal(increase, after > before)
    assert 0 < increase.mean() < 1


def test_scores_that_are_no_probabilities_are_refused(rng):
    f, _ = linear(rng, (6,))
    x, y, maps = samples(rng, (6,))
    with pytest.raises(InvalidModelError, match="positive scores"):
        AverageDrop(f, x, y)(maps)
    with pytest.raises(InvalidModelError, match="scores of at most 1"):
        AverageGain(lambda x: f(x) * 100, x, y)(maps)
    certain = AverageGain(lambda x: np.ones((len(x), 2)), x, 0)
    assert certain(maps) == 0


def test_an_explainer_in_place_of_maps_and_the_model_is_traced_once(keras, rng):
    model, (x, y, _) = network.anew(keras, (6,)), samples(rng, (6,))
    explainer = Saliency(model, logits=True)
    maps = explainer(x, y)
    metric = Deletion(model, x, y)
    expected = metric(maps)
    before = trace_count()
    assert metric(explainer) == expected
    assert Insertion(model, x, y, steps=3)(maps) > 0
    assert trace_count() == before


def test_forward_passes_are_counted_and_the_ends_are_shared(rng):
    f, _ = linear(rng, (20,))
    x, y, maps = samples(rng, (20,), 4)
    with counted() as passes:
        Deletion(f, x, y)(maps)
    assert passes.rows == 4 * 11
    metric = Deletion(f, x, y, steps=-1)
    with counted() as passes:
        metric(maps)
    assert passes.rows == 4 * 21


def test_what_can_not_be_judged_is_refused_before_anything_is_computed(rng):
    def never(x):
        raise AssertionError("was called")

    x, y, maps = samples(rng, (6,))
    for wrong, match in ((maps[0], "shape"), ("maps", "maps as one array")):
        with pytest.raises(InvalidInputError, match=match):
            Deletion(never, x, y)(wrong)
    maps[2, 1] = np.nan
    with pytest.raises(InvalidInputError, match="sample 2"):
        Deletion(never, x, y)(maps)
    f, _ = linear(rng, (6,))
    for wrong in (np.ones((4, 6)), np.ones((6, 6)), np.ones((5, 7))):
        with pytest.raises(InvalidInputError, match="map"):
            Deletion(f, x, y)(wrong)
    for wrong in ({"steps": 0}, {"max_percentage_perturbed": 0.0}, {"seed": -1}):
        with pytest.raises(InvalidParameterError):
            Deletion(f, x, y, **wrong)
    with pytest.raises(InvalidParameterError, match="baseline_mode"):
        Deletion(f, x, y, baseline_mode=np.nan)
    with pytest.raises(InvalidParameterError, match="baseline_mode"):
        Deletion(f, x, y, baseline_mode=lambda x: x[:1])(np.ones((5, 6)))
    with pytest.raises(InvalidInputError, match="floating"):
        AverageDrop(lambda x: np.ones((len(x), 1)), x.astype(int))(np.ones((5, 6)))
    two = Deletion(lambda pair: f(pair[0]), [x, x], y)
    with pytest.raises(InvalidInputError, match="each of 2 inputs"):
        two(np.ones((5, 6)))


def test_the_smallest_metric_of_the_page_for_contributors(rng):
    text = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text("utf-8")
    code = next(block for block in text.split("```text\n") if block.startswith("class Loss("))
    names = {"ScoreMetric": ScoreMetric, "Baseline": Baseline, "ClassVar": ClassVar}
    exec(code.split("```")[0], names)
    f, weights = linear(rng, (6,))
    x, y, maps = samples(rng, (6,))
    found = names["Loss"](f, x, y).detailed_evaluate(maps).values
    assert_close(found, (weights[y] * x * (maps > 0)).sum(axis=1))


def test_every_metric_of_scores_takes_what_the_contract_says():
    import inspect

    for cls in (Deletion, Insertion):
        parameters = inspect.signature(cls).parameters
        assert [*parameters][:8] == [
            *("model", "inputs", "targets", "batch_size", "baseline_mode", "steps"),
            *("max_percentage_perturbed", "operator"),
        ]
        defaults = {name: p.default for name, p in parameters.items()}
        assert (defaults["batch_size"], defaults["baseline_mode"], defaults["steps"]) == (64, 0, 10)
    assert set(metrics.__all__) >= {"Deletion", "Insertion", "AverageDrop"}
