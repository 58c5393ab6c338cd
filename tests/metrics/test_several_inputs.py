"""Metrics of models with several inputs, beside those of the same model with one flat input."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from reference import built_once

from xplique_sal import GradientInput, Saliency
from xplique_sal.errors import InvalidInputError, InvalidParameterError
from xplique_sal.metrics import (
    AverageDrop,
    AverageGain,
    AverageIncrease,
    AverageStability,
    Complexity,
    Deletion,
    Insertion,
    Localization,
    ModelRandomization,
    MuFidelity,
    Sparseness,
    compare,
)
from xplique_sal.metrics.correlation import spearman

MU = functools.partial(MuFidelity, grid_size=None, nb_samples=30)
OF_MAPS = [Deletion, Insertion, AverageDrop, AverageIncrease, AverageGain, MU]


def as_dict(keras):
    """Tell how this Keras's model takes its inputs: each of the two shows one packing."""
    return keras.__name__ == "keras"


@built_once
def network(keras, outputs=3):
    """A model of an image and a table, named so that a dict's order is not the model's."""
    image, table = keras.Input((3, 4, 1), name="picture"), keras.Input((5,), name="facts")
    joined = keras.layers.Concatenate()([keras.layers.Flatten()(image), table])
    hidden = keras.layers.Dense(6, "tanh")(joined)
    inputs = {"picture": image, "facts": table} if as_dict(keras) else [image, table]
    return keras.Model(inputs, keras.layers.Dense(outputs, "softmax")(hidden))


def packed(keras, image, table):
    return {"picture": image, "facts": table} if as_dict(keras) else [image, table]


def flat(keras, structure):
    """What is packed as the inputs, side by side: a dict by its sorted keys, as arrays."""
    parts = [structure[key] for key in sorted(structure)] if as_dict(keras) else structure
    return np.concatenate([np.reshape(part, (len(part), -1)) for part in parts], axis=1)


def of_flat(keras, model):
    """The model as a function of what is side by side."""

    def f(x):
        first, second = (x[:, :5], x[:, 5:]) if as_dict(keras) else (x[:, 12:], x[:, :12])
        return model(packed(keras, tf.reshape(second, (-1, 3, 4, 1)), first))

    return f


def samples(keras, rng, count=5):
    image, table = rng.normal(size=(count, 3, 4, 1)), rng.normal(size=(count, 5))
    x = packed(keras, image.astype("float32"), table.astype("float32"))
    maps = packed(keras, rng.normal(size=(count, 3, 4, 1)), rng.normal(size=(count, 5)))
    return x, rng.integers(0, 3, count), maps


@pytest.mark.parametrize("metric", OF_MAPS)
def test_positions_of_all_inputs_are_taken_together(keras, rng, metric):
    model, (x, y, maps) = network(keras), samples(keras, rng)
    twin = metric(of_flat(keras, model), flat(keras, x), y, 2)
    expected = twin.detailed_evaluate(flat(keras, maps))
    found = metric(model, x, y, 3).detailed_evaluate(maps)
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-4, atol=1e-6)
    assert np.ptp(found.values) > 0 or metric is AverageIncrease
    dataset = tf.data.Dataset.from_tensor_slices((tuple(x) if type(x) is list else x, y)).batch(3)
    if type(maps) is list:
        maps = tuple(maps)
    of_dataset = metric(model, dataset).detailed_evaluate(maps)
    np.testing.assert_allclose(of_dataset.values, found.values, rtol=1e-5, atol=1e-6)


def test_metrics_that_ask_explainers(keras, rng):
    model, (x, y, _) = network(keras), samples(keras, rng)
    explainer, asked = GradientInput(model, reducer="sum", logits=True), []

    def recorded(x, y):
        asked.append(explainer(x, y))
        return asked[-1]

    given = tf.data.Dataset.from_tensor_slices((tuple(x) if type(x) is list else x, y)).batch(3)
    settings = {"radius": 0.3, "nb_samples": 4, "seed": 2}
    found = AverageStability(model, given, **settings).detailed_evaluate(explainer).values
    again = AverageStability(model, x, y, 64, **settings).detailed_evaluate(recorded).values
    np.testing.assert_allclose(found, again, rtol=1e-5)
    parts, size = ([x[k] for k in sorted(x)] if as_dict(keras) else x), 0
    for number in range(5):
        moved = []
        for position, part in enumerate(parts):
            key = [2, number, position] if position else [2, number]
            noise = np.random.default_rng(key).random((4, *part.shape[1:]), np.float32)
            moved.append(part[number] + (0.6 * noise - 0.3))
        moved = packed(keras, *(moved[::-1] if as_dict(keras) else moved))
        own = flat(keras, explainer(one_of(keras, x, number), y[number : number + 1]))[0]
        maps = flat(keras, explainer(moved, np.repeat(y[number], 4)))
        size = np.linalg.norm(maps - own, axis=1).mean() / np.linalg.norm(own)
        assert found[number] == pytest.approx(size, rel=1e-3)
    asked.clear()
    curve = ModelRandomization(model, x, y, steps=2).detailed_evaluate(recorded).curves
    own, *others = (flat(keras, maps) for maps in asked)
    for number, maps in enumerate(others, start=1):
        np.testing.assert_allclose(curve[:, number], spearman(own, maps), atol=1e-6)
    with pytest.raises(InvalidInputError, match="SSIM"):
        ModelRandomization(model, x, y, similarity="ssim")(explainer)


def one_of(keras, x, number):
    some = slice(number, number + 1)
    return {k: v[some] for k, v in x.items()} if as_dict(keras) else [v[some] for v in x]


def test_an_input_that_nobody_explains_stays_as_it_is(keras, rng):
    ids, table = keras.Input((4,), dtype="int32"), keras.Input((5,))
    words = keras.layers.Flatten()(keras.layers.Embedding(7, 3)(ids))
    joined = keras.layers.Concatenate()([words, table])
    model = keras.Model([ids, table], keras.layers.Dense(3, "softmax")(joined))
    words, x = np.tile(rng.integers(0, 7, 4), (6, 1)), rng.normal(size=(6, 5)).astype("float32")
    y = rng.integers(0, 3, 6)
    explainer = Saliency(model, logits=True)
    maps = explainer([words, x], y)
    assert maps[0] is None

    def rest(x):
        return model([tf.constant(np.tile(words[:1], (len(x), 1))), tf.constant(x)])

    for metric in (Deletion, AverageDrop, MU):
        expected = metric(rest, x, y).detailed_evaluate(maps[1]).values
        for judged in (maps, explainer):
            found = metric(model, [words, x], y, 4).detailed_evaluate(judged).values
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)

    def among_neighbours(given, y):
        np.testing.assert_array_equal(given[0], np.tile(words[:1], (len(y), 1)))
        return GradientInput(model, logits=True)(given, y)

    assert AverageStability(model, [words, x], y, nb_samples=3)(among_neighbours) > 0
    with pytest.raises(InvalidInputError, match="kept in part"):
        AverageDrop(model, [words, x], y)([np.ones((6, 4)), maps[1]])
    with pytest.raises(InvalidInputError, match="an input at least"):
        Deletion(model, [words, x], y)([None, None])


def test_baselines_of_several_inputs(keras, rng):
    model, (x, y, maps) = network(keras), samples(keras, rng)
    twin = np.zeros(17)
    twin[slice(0, 5) if as_dict(keras) else slice(12, 17)] = [1, 2, 3, 4, 5]
    twin = Deletion(of_flat(keras, model), flat(keras, x), y, baseline_mode=twin)
    expected = twin.detailed_evaluate(flat(keras, maps)).curves

    def function(x):
        ones = packed(keras, np.zeros((3, 4, 1)), np.arange(1.0, 6))
        if as_dict(keras):
            return {k: np.broadcast_to(ones[k], x[k].shape) for k in x}
        return [np.broadcast_to(own, part.shape) for own, part in zip(ones, x, strict=True)]

    for baseline in (packed(keras, 0.0, [1, 2, 3, 4, 5]), function):
        metric = Deletion(model, x, y, baseline_mode=baseline)
        np.testing.assert_allclose(
            metric.detailed_evaluate(maps).curves, expected, rtol=1e-4, atol=1e-6
        )
    with pytest.raises(InvalidInputError, match="baseline_mode"):
        Deletion(model, x, y, baseline_mode={"other": 0.0})(maps)
    with pytest.raises(InvalidParameterError, match="baseline_mode"):
        Deletion(model, x, y, baseline_mode={"picture": 0.0, "facts": np.nan})


def test_maps_alone_and_tables_of_all(keras, rng):
    model, (x, y, maps) = network(keras), samples(keras, rng)
    side_by_side = flat(keras, maps)
    regions = np.ones((5, 3, 4))
    metrics = {"d": "Deletion", "c": Complexity, "s": Sparseness, "r": ModelRandomization}
    explainers = {"gradient": Saliency(model, logits=True), "given": maps}
    table = compare(explainers, x, y, metrics, batch_size=3)
    assert [row.name for row in table][2:] == ["random map", "random weights"]
    expected = Deletion(model, x, y).detailed_evaluate(maps).values
    np.testing.assert_allclose(table.values["d"]["given"].values, expected, rtol=1e-5)
    for name, metric in (("c", Complexity()), ("s", Sparseness())):
        expected = metric.detailed_evaluate(side_by_side).values
        np.testing.assert_allclose(table.values[name]["given"].values, expected, rtol=1e-5)
        by_name = dict(zip("ab", maps.values() if as_dict(keras) else maps, strict=True))
        np.testing.assert_allclose(metric.detailed_evaluate(by_name).values, expected, rtol=1e-5)
    image = maps["picture"] if as_dict(keras) else maps[0]
    assert Localization(regions)({"picture": image, "facts": None}) == 1
    with pytest.raises(InvalidInputError, match="one input"):
        Localization(regions)({"picture": image, "facts": image})
    with pytest.raises(InvalidInputError, match="could be samples or inputs"):
        Complexity()([image, image])
    for wrong in (maps[:1] if type(maps) is list else {"facts": maps["facts"]}, image):
        with pytest.raises(InvalidInputError, match="packed as they are"):
            Deletion(model, x, y)(wrong)
