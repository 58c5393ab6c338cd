"""Tables that compare: what is in them, what they cost, and how they look."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from reference import built_once

from xplique_sal import DeepLift, GradientInput, Occlusion, Saliency, SmoothGrad
from xplique_sal.errors import InvalidInputError, InvalidModelError, InvalidParameterError
from xplique_sal.metrics import (
    AverageStability,
    Complexity,
    Deletion,
    Insertion,
    Localization,
    ModelRandomization,
    MuFidelity,
    compare,
)
from xplique_sal.plots import plot_comparison, plot_curves


@built_once
def network(keras):
    layers = [keras.layers.Input((6, 6, 1)), keras.layers.Flatten()]
    layers += [keras.layers.Dense(8, "tanh"), keras.layers.Dense(3, "softmax")]
    return keras.Sequential(layers)


def samples(rng, count=9):
    return rng.normal(size=(count, 6, 6, 1)).astype("float32"), rng.integers(0, 3, count)


MU = functools.partial(MuFidelity, grid_size=3, nb_samples=20)


def test_each_value_is_that_of_the_metric_alone(keras, rng):
    model, (x, y) = network(keras), samples(rng)
    explainers = {"g": Saliency(model, logits=True), "o": Occlusion(model)}
    maps = {"given": rng.normal(size=(9, 6, 6))}
    metrics = {"d": "Deletion", "mu": MU, "c": Complexity, "e": Localization(np.ones((9, 6, 6)))}
    metrics["r"], metrics["s"] = ModelRandomization, AverageStability
    table = compare({**explainers, **maps}, x, y, metrics, batch_size=4, resamples=200)
    assert [row.name for row in table] == ["g", "o", "given", "random map", "random weights"]
    assert [row.is_reference for row in table] == [False] * 3 + [True] * 2
    for name, explainer in explainers.items():
        maps[name] = explainer(x, y)
        for metric, cls in (("r", ModelRandomization), ("s", AverageStability)):
            alone = cls(model, x, y, 4).detailed_evaluate(explainer)
            np.testing.assert_allclose(table.values[metric][name], alone, atol=1e-5)
    for name, own in maps.items():
        for metric, alone in (("d", Deletion(model, x, y)), ("mu", MU(model, x, y))):
            alone = alone.detailed_evaluate(own)
            np.testing.assert_allclose(table.values[metric][name], alone, atol=1e-5)
        found = table.values["c"][name]
        np.testing.assert_allclose(found, Complexity().detailed_evaluate(own), rtol=1e-5)
    assert set(table.values["r"]) == {"g", "o"}
    rows = {row.name: row for row in table}
    assert "r" not in rows["given"].estimates and rows["g"].estimates["e"].mean == 1
    for name, row in rows.items():
        for metric, (mean, low, high) in row.estimates.items():
            assert low <= mean <= high
            assert mean == np.asarray(table.values[metric][name]).mean()


def test_the_interval_is_that_of_the_mean(rng):
    x = rng.normal(size=(400, 1)).astype("float32")
    table = compare({"x": x}, x, 0, [functools.partial(Deletion, steps=1)], model=lambda x: 2 * x)
    mean, low, high = table[0].estimates["Deletion"]
    half = 1.96 * x.std() / np.sqrt(400)
    np.testing.assert_allclose([mean - low, high - mean], half, rtol=0.15)
    again = compare({"x": x}, x, 0, [functools.partial(Deletion, steps=1)], model=lambda x: 2 * x)
    assert again[0].estimates == table[0].estimates


def test_forward_passes_are_the_sum_of_what_must_differ(keras, rng):
    model, (x, y) = network(keras), samples(rng)
    explainers = {
        "g": Saliency(model, logits=True),
        "s": SmoothGrad(model, nb_samples=5, seed=0, logits=True),
    }
    metrics = ["Deletion", Insertion, MU]
    table = compare(explainers, x, y, metrics, batch_size=4)
    passes = {row.name: row.cost and row.cost.passes for row in table}
    assert passes == {"g": 9, "s": 45, "random map": None, "random weights": 9}
    rows = 4
    expected = 9 + 9 + 45 + 9  # scores, and maps
    expected += (
        2 * 9 * rows * 9 + 9
    )  # nine points between the ends of both curves, and the baseline
    expected += 9 * 20  # parts, for all rows
    assert table.cost.passes == expected
    assert sum(cost.passes for cost in table.costs.values()) == expected - (9 + 9 + 45 + 9)


def test_the_passes_of_baselines_are_counted(keras, rng):
    model, (x, y) = network(keras), samples(rng)
    each = DeepLift(model, logits=True, baseline_value=lambda x: 0 * x)
    explainers = {
        "shared": DeepLift(model, logits=True, batch_size=2),
        "several": DeepLift(model, logits=True, baseline_value=np.zeros((3, 6, 6, 1))),
        "each": each,
    }
    table = compare(explainers, x, y, ["Complexity"], batch_size=4, references=False)
    # Nine samples, the first explainer's in five batches.
    assert [row.cost.passes for row in table] == [9 + 5, 9 + 3, 9 + 9]


def test_explainers_of_several_models_are_judged_by_one(keras, rng):
    model, other, (x, y) = network(keras), network.anew(keras), samples(rng)
    explainers = {"other": Saliency(other, logits=True), "own": Saliency(model, logits=True)}
    table = compare(explainers, x, y, ["Deletion"], model=model, references=True)
    for name, explainer in explainers.items():
        expected = Deletion(model, x, y).detailed_evaluate(explainer).values
        np.testing.assert_allclose(table.values["Deletion"][name].values, expected, rtol=1e-5)
    assert table[-1].name == "random weights"
    with pytest.raises(InvalidModelError, match="reads none of those"):
        compare(explainers, x, y, ["ModelRandomization"], model=model)


def test_datasets_and_models_without_targets(keras, rng):
    model, (x, _) = network(keras), samples(rng)
    largest = model(x).numpy().argmax(axis=1)
    explainers = {"g": Saliency(model, logits=True)}
    expected = compare(explainers, x, largest, ["Deletion"], references=False)
    assert len(expected) == 1
    dataset = tf.data.Dataset.from_tensor_slices((x, largest)).batch(4)
    for given in (x, dataset):
        found = compare(explainers, given, metrics=["Deletion"], references=False)
        np.testing.assert_allclose(
            found[0].estimates["Deletion"], expected[0].estimates["Deletion"]
        )


def test_the_only_output_is_no_label(keras, rng):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, "sigmoid")])
    x = rng.normal(size=(5, 4)).astype("float32")
    # Passed as a target, 0 would be warned of; a warning is an error here.
    table = compare({"g": GradientInput(model, logits=True)}, x, metrics=["MuFidelity"])
    assert table[0].estimates["MuFidelity"].mean > 0.5


def test_a_black_box_has_no_random_weights(rng):
    x, y = samples(rng)
    weights = rng.normal(size=(36, 3))

    def f(x):
        return x.reshape(len(x), -1) @ weights

    table = compare({"o": Occlusion(f)}, x, y, ["Deletion"], operator=None)
    assert [row.name for row in table] == ["o", "random map"]


def test_the_table_is_markdown(rng):
    x = rng.normal(size=(20, 4)).astype("float32")
    table = compare({"x": x}, x, 0, ["Deletion", "Complexity"], model=lambda x: x)
    lines = str(table).splitlines()
    assert len({len(line) for line in lines[:5]}) == 1
    assert lines[0].split("|")[1:4] == [
        " map        ",
        f"{'Deletion ↓':>{len(lines[0].split('|')[2]) - 1}} ",
        f"{'Complexity ↓':>{len(lines[0].split('|')[3]) - 1}} ",
    ]
    assert set(lines[1]) == set("|- :")
    mean, low, high = table[0].estimates["Deletion"]
    assert f"{mean:.3f} [{low:.3f}, {high:.3f}]" in lines[2]
    assert "20 samples, 95% intervals" in lines[-1]


def test_what_can_not_be_compared_is_refused(keras, rng):
    model, (x, y) = network(keras), samples(rng)
    saliency = Saliency(model)
    other = GradientInput(network.anew(keras))
    for wrong, match in (
        (dict(explainers={}), "explainers"),
        (dict(explainers={"a": x}), "explainers"),
        (dict(explainers={"a": saliency, "b": other}), "one model"),
        (dict(explainers={"a": saliency, "b": Saliency(model, 0)}), "one `output_layer`"),
        (dict(explainers={"a": saliency}, metrics=["Fidelity"]), "a metric among"),
        (dict(explainers={"a": saliency}, metrics=[]), "at least one"),
        (dict(explainers={"a": saliency}, metrics=[Deletion(model, x, y)]), "functools.partial"),
        (
            dict(explainers={"a": saliency}, metrics=[functools.partial(Deletion, logits=True)]),
            "one `logits`",
        ),
        (dict(explainers={"a": saliency}, metrics=[dict]), "metric"),
        (dict(explainers={"a": saliency}, confidence=1.0), "confidence"),
    ):
        with pytest.raises((InvalidParameterError, TypeError), match=match):
            compare(**{"inputs": x, "targets": y, "metrics": ["Deletion"], **wrong})
    for count in (8, 10):
        with pytest.raises(InvalidInputError, match="one map for each"):
            compare({"a": np.ones((count, 6, 6))}, x, y, ["Deletion"], model=model)


def test_the_pictures(rng, tmp_path):
    x = rng.normal(size=(20, 4)).astype("float32")
    table = compare({"x": x, "-x": -x}, x, 0, ["Deletion", "Complexity"], model=lambda x: x)
    axes = plot_comparison(table, "title", tmp_path / "table.png")
    assert (tmp_path / "table.png").stat().st_size > 1000
    assert [a.get_title() for a in axes] == ["Deletion", "Complexity"]
    assert [t.get_text() for t in axes[0].get_yticklabels()] == ["x", "-x", "random map"]
    points = [line.get_xdata()[0] for line in axes[0].lines if line.get_marker() == "o"]
    assert points == [row.estimates["Deletion"].mean for row in table]
    ax = plot_curves(table.values["Deletion"], "curves", xlabel="deleted")
    found = {line.get_label(): line.get_ydata() for line in ax.lines}
    np.testing.assert_allclose(found["x"], table.values["Deletion"]["x"].curves.mean(axis=0))
    assert ax is plot_curves({"a": np.ones((3, 4))}, ax=ax, at=[0, 1, 2, 3])
    for wrong in (table.values["Complexity"], {}, {"a": np.ones((3, 4, 5))}):
        with pytest.raises(InvalidInputError):
            plot_curves(wrong)
    with pytest.raises(InvalidInputError, match="places"):
        plot_curves({"a": np.ones((3, 4))}, at=[0, 1])
    with pytest.raises(InvalidInputError, match="comparison"):
        plot_comparison([1, 2])
