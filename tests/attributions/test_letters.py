"""One-hot letters: hypothetical contributions and in-silico mutagenesis, beside slow twins."""

import numpy as np
import pytest
import tensorflow as tf

from xplique_sal import DeepLift, GradientShap, IntegratedGradients, Occlusion
from xplique_sal.errors import InvalidInputError, InvalidParameterError
from xplique_sal.sequences import ShuffledReferences

HOT = np.eye(5, 4, dtype="float32")  # the last row is that of no letter


@pytest.fixture
def x(rng):
    """Letters, and before and after them rows of none."""
    x = HOT[rng.choice(4, (5, 12), p=[0.4, 0.2, 0.2, 0.2])]
    x[0, -1], x[2, :2] = 0, 0
    return x


def network(keras):
    layers = [keras.layers.Conv1D(6, 3, activation="softplus"), keras.layers.Flatten()]
    return keras.Sequential([keras.layers.Input((12, 4)), *layers, keras.layers.Dense(3)])


def mutated(f, x):
    """What a score loses by each letter in each place: a twin that asks for one at a time."""
    lost = np.zeros_like(x)
    for sample, position in np.ndindex(x.shape[:2]):
        for letter in range(4):
            changed = x[sample : sample + 1].copy()
            if changed[0, position].any():
                changed[0, position] = HOT[letter]
            lost[sample, position, letter] = (f(x[sample : sample + 1]) - f(changed))[0]
    return lost


def test_each_letter_is_replaced_by_each_other(keras, x):
    model = network(keras)
    expected = mutated(lambda x: np.asarray(model(x))[:, 1], x)
    for batch_size in (64, 7, None):
        found = Occlusion(model, batch_size, replacement="letters").explain(x, 1)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(np.where(x > 0, found, 0), 0)
    np.testing.assert_array_equal(np.where(x.any(2, keepdims=True), 0, found), 0)
    dataset = tf.data.Dataset.from_tensor_slices(x).batch(2)
    again = Occlusion(model, replacement="letters").explain(dataset, 1)
    np.testing.assert_allclose(again, expected, rtol=1e-4, atol=1e-5)


def test_outputs_and_operators_of_mutations(keras, x):
    model = network(keras)
    explainer = Occlusion(model, replacement="letters")
    maps = explainer.explain_outputs(x)
    assert maps.shape == (5, 3, 12, 4)
    for output in range(3):
        np.testing.assert_allclose(maps[:, output], explainer.explain(x, output), atol=1e-6)
    squared = Occlusion(model, 7, lambda f, x, y: f(x)[:, 0] ** 2, replacement="letters")
    expected = mutated(lambda x: np.asarray(model(x))[:, 0] ** 2, x)
    np.testing.assert_allclose(squared.explain(x), expected, rtol=1e-4, atol=1e-5)


def test_no_more_than_a_batch_of_mutants_is_there_at_once_and_a_model_is_traced_once(x):
    given, traced = [], []
    weights = np.linspace(-1, 1, 48).reshape(12, 4).astype("float32")

    def array(x):
        given.append(len(x))
        return (x * weights).sum((1, 2))

    def tensor(x):
        traced.append(1)
        return tf.reduce_sum(x * weights, [1, 2])

    expected = np.einsum("nla,la->nl", x, weights)[..., None] - weights
    expected *= x.any(2, keepdims=True)
    for function in (array, tensor):
        maps = Occlusion(function, 8, replacement="letters").explain(x)
        np.testing.assert_allclose(maps, expected, rtol=1e-5, atol=1e-5)
    assert max(given) <= 8 and sum(given) >= 5 * 12 * 3
    assert len(traced) <= 2


@pytest.mark.parametrize("of_each", [False, True], ids=["shared", "of each"])
def test_groups_say_which_positions_are_mutated(keras, x, rng, of_each):
    model = network(keras)
    chosen = rng.permuted(np.repeat([[True] * 4 + [False] * 8], 5, 0), axis=1)
    chosen = chosen if of_each else chosen[:1]
    groups = np.where(chosen, np.arange(12), -1)[..., None]
    given = groups if of_each else groups[0]
    found = Occlusion(model, 7, replacement="letters", groups=given).explain(x, 1)
    expected = mutated(lambda x: np.asarray(model(x))[:, 1], x) * chosen[..., None]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_one_of_several_inputs_is_of_letters(x, rng):
    table = rng.normal(size=(5, 3)).astype("float32")

    def f(inputs):
        return np.tanh((inputs[0] * HOT[:4, ::-1][:1]).sum((1, 2)) - inputs[1].prod(1))

    options = {"patch_size": 1, "patch_stride": 1}
    maps, values = Occlusion(f, **options, replacement=["letters", None]).explain([x, table])
    of_letters = np.zeros_like(x)
    for position in range(12):
        for letter in range(4):
            changed = x.copy()
            changed[:, position] = HOT[letter] * x[:, position].any(1, keepdims=True)
            of_letters[:, position, letter] = f([x, table]) - f([changed, table])
    np.testing.assert_allclose(maps, of_letters, atol=1e-6)
    expected = Occlusion(f, **options).explain([x, table])[1]
    np.testing.assert_allclose(values, expected, atol=1e-6)
    with pytest.raises(InvalidInputError, match="one-hot letters"):
        Occlusion(f, replacement="letters").explain([x, table])
    with pytest.raises(InvalidParameterError, match="each of 2 inputs"):
        Occlusion(f, replacement=["letters"] * 3).explain([x, table])


@pytest.mark.parametrize(
    ("options", "change", "error", "said"),
    [
        ({}, lambda x: x * 0.5, InvalidInputError, "sample 0"),
        ({}, lambda x: x + 1, InvalidInputError, "one-hot"),
        ({"replacement": "dna"}, None, InvalidParameterError, "'letters'"),
        ({"groups": np.zeros((12, 1), int)}, None, InvalidParameterError, "one position each"),
        ({"groups": np.arange(12)}, None, InvalidParameterError, r"\(12, 1\)"),
        ({"groups": np.zeros((12, 4), int)}, None, InvalidParameterError, r"\(12, 1\)"),
    ],
)
def test_what_cannot_be_mutated_is_refused(keras, x, options, change, error, said):
    with pytest.raises(error, match=said):
        explainer = Occlusion(network(keras), **{"replacement": "letters", **options})
        explainer.explain(x if change is None else change(x), 0)


COMPLETE = {
    "DeepLift": lambda model, baseline, **options: DeepLift(
        model, baseline_value=baseline, **options
    ),
    "IntegratedGradients": lambda model, baseline, **options: IntegratedGradients(
        model, steps=60, baseline_value=baseline, **options
    ),
    "GradientShap": lambda model, baseline, **options: GradientShap(
        model, baselines=baseline, nb_samples=60, seed=2, **options
    ),
}
every_method = pytest.mark.parametrize("method", COMPLETE)


@every_method
def test_hypothetical_contributions_are_multipliers_less_those_of_the_baseline(keras, method, x):
    """Where x and b differ everywhere, the map m·(x − b) tells m."""
    model, baseline, x = network(keras), np.linspace(0.2, 0.4, 4), x[3:]
    found = COMPLETE[method](model, baseline, hypothetical=True).explain(x, 1)
    m = COMPLETE[method](model, baseline).explain(x, 1) / (x - baseline)
    expected = np.stack([(m * (HOT[letter] - baseline)).numpy().sum(-1) for letter in range(4)], -1)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


@every_method
def test_the_letters_that_are_there_have_their_contributions(keras, method, x):
    model = network(keras)
    references = ShuffledReferences(None if method == "IntegratedGradients" else 3)
    of_all = COMPLETE[method](model, references, hypothetical=True)
    of_own = COMPLETE[method](model, references)
    maps, gaps, changes = of_all.explain_with_gaps(x, 1)
    own, own_gaps, own_changes = of_own.explain_with_gaps(x, 1)
    np.testing.assert_allclose((maps * x).numpy().sum(-1), own.numpy().sum(-1), atol=1e-5)
    np.testing.assert_allclose(gaps, own_gaps, atol=1e-5)
    np.testing.assert_allclose(changes, own_changes, rtol=1e-5)
    assert of_all.hypothetical and "hypothetical=True" in repr(of_all)


def test_of_several_baselines_hypothetical_contributions_are_the_mean(keras, x):
    model = network(keras)
    x = x[3:]
    baselines = ShuffledReferences(4)(x)[0]
    found = DeepLift(model, baseline_value=baselines, hypothetical=True).explain(x, 1)
    each = [
        DeepLift(model, baseline_value=baseline, hypothetical=True).explain(x, 1)
        for baseline in baselines
    ]
    np.testing.assert_allclose(found, np.mean(each, 0), rtol=1e-4, atol=1e-6)


@every_method
def test_what_has_no_letters_has_no_hypothetical_contributions(keras, method, x):
    model = network(keras)
    with pytest.raises(InvalidInputError, match="at position 0 of sample 0"):
        COMPLETE[method](model, 0.0, hypothetical=True).explain(x + 0.5, 1)
    with pytest.raises(InvalidParameterError, match="wrt_layer"):
        COMPLETE[method](model, 0.0, hypothetical=True, wrt_layer=0)
    flat = keras.Sequential([keras.layers.Input((12,)), keras.layers.Dense(2)])
    with pytest.raises(InvalidInputError, match="one-hot letters"):
        COMPLETE[method](flat, 0.0, hypothetical=True).explain(x[:, :, 0], 1)
