"""Shuffled references: what they keep, how evenly they are drawn, and where they can stand."""

import collections
import itertools

import numpy as np
import pytest
import tensorflow as tf

from xplique_sal import DeepLift, GradientShap, IntegratedGradients
from xplique_sal.errors import ExportError, InvalidInputError, InvalidParameterError
from xplique_sal.sequences import ShuffledReferences

HOT = np.eye(5, 4, dtype="float32")  # the last row is that of no letter


def letters(text):
    return HOT[["ACGT-".index(letter) for letter in text]]


def text(hot):
    return "".join("ACGT-"[row.argmax() if row.any() else 4] for row in hot)


def pairs(text):
    return collections.Counter(itertools.pairwise(text))


def test_shuffles_keep_what_they_are_asked_to_keep(rng):
    x = HOT[rng.choice(4, (5, 60), p=[0.5, 0.3, 0.15, 0.05])]
    for sequence, shuffles in zip(x, ShuffledReferences(8, seed=3)(x), strict=True):
        for shuffle in shuffles:
            assert pairs(text(shuffle)) == pairs(text(sequence))
            assert text(shuffle) != text(sequence)
    for sequence, shuffles in zip(x, ShuffledReferences(8, keep="letters")(x), strict=True):
        assert {"".join(sorted(text(one))) for one in shuffles} == {"".join(sorted(text(sequence)))}
        assert any(pairs(text(one)) != pairs(text(sequence)) for one in shuffles)


@pytest.mark.parametrize("keep", ["pairs", "letters"])
@pytest.mark.parametrize("sequence", ["ACACGACAG", "AACAGCATA", "CGTTCGTC-ACA"])
def test_each_shuffle_is_as_likely_as_each_other(sequence, keep):
    """Brute force: all orders of the letters that keep what is kept, drawn about as often."""
    first, *rest = sequence.split("-")
    orders = {"".join(order) for order in itertools.permutations(first)}
    if keep == "pairs":
        orders = {order for order in orders if pairs(order) == pairs(first)}
    draws = 300 * len(orders) if keep == "pairs" else 20 * len(orders)
    (shuffles,) = ShuffledReferences(draws, keep=keep)(letters(sequence)[np.newaxis])
    found = collections.Counter(text(one)[: len(first)] for one in shuffles)
    assert set(found) == orders and len(orders) > 1
    expected = draws / len(orders)
    squares = sum((found[order] - expected) ** 2 / expected for order in orders)
    freedom = len(orders) - 1
    assert squares < freedom + 5 * np.sqrt(2 * freedom)
    assert not rest or all(text(one)[len(first)] == "-" for one in shuffles)


def test_stretches_between_rows_of_zeros_are_shuffled_by_themselves():
    x = letters("--ACGTTGCAGT-AACCAATTA-")[np.newaxis]
    for shuffle in ShuffledReferences(20)(x)[0]:
        parts = text(shuffle).split("-")
        assert [len(part) for part in parts] == [0, 0, 10, 9, 0]
        assert pairs(parts[2]) == pairs("ACGTTGCAGT") and pairs(parts[3]) == pairs("AACCAATTA")


def test_a_sequence_has_its_own_shuffles_wherever_it_is(rng):
    x = HOT[rng.integers(0, 4, (6, 30))]
    shuffle = ShuffledReferences(3, seed=1)
    found = shuffle(x)
    assert found.shape == (6, 3, 30, 4) and found.dtype == x.dtype
    np.testing.assert_array_equal(shuffle(x[[4, 4, 0]]), found[[4, 4, 0]])
    assert (ShuffledReferences(3, seed=2)(x) != found).any()
    assert ShuffledReferences(seed=1)(x).shape == x.shape
    np.testing.assert_array_equal(shuffle(tf.constant(x)), found)
    np.testing.assert_array_equal(tf.function(shuffle)(tf.constant(x)), found)
    assert [len({text(one) for one in each}) for each in found] == [3] * 6
    whole = shuffle(x[:, :1])  # there is nothing to shuffle
    np.testing.assert_array_equal(whole, np.repeat(x[:, None, :1], 3, 1))


@pytest.mark.parametrize("wrong", [np.full((1, 3, 4), 0.25), np.ones((2, 4)), -HOT[None]])
def test_what_is_not_one_hot_is_refused(wrong):
    with pytest.raises(InvalidInputError, match="one-hot letters"):
        ShuffledReferences()(wrong)


@pytest.mark.parametrize("options", [{"count": 0}, {"keep": "dinucleotides"}, {"seed": -1}])
def test_wrong_parameters_are_refused(options):
    with pytest.raises(InvalidParameterError):
        ShuffledReferences(**options)


def network(keras):
    layers = [keras.layers.Conv1D(6, 5, activation="gelu"), keras.layers.GlobalAveragePooling1D()]
    return keras.Sequential([keras.layers.Input((24, 4)), *layers, keras.layers.Dense(2)])


def test_methods_compare_with_shuffles_as_with_arrays(keras, rng):
    model, x = network(keras), HOT[rng.integers(0, 4, (5, 24))]
    several, one = ShuffledReferences(4), ShuffledReferences()
    found = DeepLift(model, batch_size=2, baseline_value=several).explain(x, 1)
    each = [
        DeepLift(model, baseline_value=references).explain(sample[None], 1)[0]
        for sample, references in zip(x, several(x), strict=True)
    ]
    np.testing.assert_allclose(found, each, rtol=1e-4, atol=1e-6)

    path = IntegratedGradients(model, batch_size=2, steps=9, baseline_value=one).explain(x, 1)
    array = IntegratedGradients(model, steps=9, baseline_value=one(x)).explain(x, 1)
    np.testing.assert_allclose(path, array, rtol=1e-4, atol=1e-6)

    explainer = GradientShap(model, batch_size=2, baselines=several, nb_samples=3000, seed=0)
    maps, gaps, changes = explainer.explain_with_gaps(x, 1)
    scores = np.asarray(model(x))[:, 1]
    of_references = np.asarray(model(several(x).reshape(-1, 24, 4)))[:, 1].reshape(5, 4)
    np.testing.assert_allclose(changes, scores - of_references.mean(1), rtol=1e-4, atol=1e-5)
    paths = [
        IntegratedGradients(model, steps=300, baseline_value=references).explain(x, 1)
        for references in several(x).transpose(1, 0, 2, 3)
    ]
    assert np.abs(maps - np.mean(paths, 0)).max() < 0.1 * np.abs(paths).max()
    assert np.abs(gaps).max() < 0.1 * np.abs(maps).sum((1, 2)).max()


def test_several_baselines_of_each_are_those_of_all_where_they_are_the_same(keras, rng):
    model, x = network(keras), HOT[rng.integers(0, 4, (5, 24))]
    shared = rng.uniform(size=(3, 24, 4)).astype("float32")
    options = {"nb_samples": 20, "seed": 4}

    def of_each(x):
        return tf.tile(shared[tf.newaxis], [tf.shape(x)[0], 1, 1, 1])

    found = GradientShap(model, batch_size=2, baselines=of_each, **options).explain_with_gaps(x, 0)
    expected = GradientShap(model, baselines=shared, **options).explain_with_gaps(x, 0)
    for mine, array in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, array, rtol=1e-4, atol=1e-6)


def test_a_function_of_inputs_is_asked_once_a_batch(keras, rng):
    """And not at each point of the way, for which a batch is as often as there are points."""
    model, x = network(keras), HOT[rng.integers(0, 4, (4, 24))]
    asked = []

    def counted(x):
        asked.append(len(x))
        return x * 0

    def baseline(x):
        return tf.ensure_shape(tf.numpy_function(counted, [x], x.dtype), x.shape)

    explainer = IntegratedGradients(model, batch_size=2, steps=50, baseline_value=baseline)
    expected = IntegratedGradients(model, steps=50).explain(x, 1)
    explainer.explain(x, 1)
    asked.clear()
    np.testing.assert_allclose(explainer.explain(x, 1), expected, rtol=1e-4, atol=1e-6)
    assert len(asked) <= 2 + 3  # and when it is tried


def test_shuffles_need_python_and_are_not_exported(keras, rng, tmp_path):
    explainer = DeepLift(network(keras), baseline_value=ShuffledReferences(2))
    with pytest.raises(ExportError):
        explainer.export(str(tmp_path / "model"), HOT[rng.integers(0, 4, (1, 24))])
