"""From what a user gives to the model's order and packing, and back."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from xplique_sal import Saliency
from xplique_sal._data.arrange import arrange
from xplique_sal._data.structures import InputSpec, ModelInputs, leaves, pack, skeleton_of
from xplique_sal.errors import InvalidInputError

Pair = collections.namedtuple("Pair", ["a", "b"])


def model_inputs(names, skeleton, width=3):
    specs = tuple(InputSpec(name, (None, width), tf.float32) for name in names)
    return ModelInputs(specs, skeleton, None)


ONE = model_inputs(["x"], 0)
ONE_IN_A_LIST = model_inputs(["x"], [0])
ONE_IN_A_DICT = model_inputs(["x"], {"x": 0})
LIST = model_inputs(["b", "a"], [0, 1])
DICT = model_inputs(["b", "a"], {"a": 1, "b": 0})
NESTED = model_inputs(["b", "a", "c"], [0, {"p": 1, "q": 2}])

A, B, C = (np.full((2, 3), value, np.float32) for value in (1, 2, 3))


def for_model(arrangement):
    return pack(arrangement.for_model, arrangement.flat)


def for_user(arrangement):
    return pack(arrangement.for_user, arrangement.flat)


def assert_same(structure, expected):
    assert type(structure) is type(expected)
    if isinstance(expected, dict):
        assert list(structure) == list(expected)
        for key, part in expected.items():
            assert_same(structure[key], part)
    elif isinstance(expected, (list, tuple)):
        assert len(structure) == len(expected)
        for part, other in zip(structure, expected, strict=True):
            assert_same(part, other)
    else:
        np.testing.assert_array_equal(structure, expected)


@pytest.mark.parametrize(
    ("inputs", "model", "packed"),
    [
        pytest.param(A, ONE, A, id="array"),
        pytest.param([A], ONE, A, id="array in a list"),
        pytest.param((A,), ONE, A, id="array in a tuple"),
        pytest.param({"x": A}, ONE, A, id="array in a dict"),
        pytest.param(A, ONE_IN_A_LIST, [A], id="array for a list"),
        pytest.param(A, ONE_IN_A_DICT, {"x": A}, id="array for a dict"),
        pytest.param({"x": A}, ONE_IN_A_LIST, [A], id="dict for a list"),
        pytest.param([B, A], LIST, [B, A], id="list"),
        pytest.param((B, A), LIST, [B, A], id="tuple"),
        pytest.param({"a": A, "b": B}, LIST, [B, A], id="dict in another order"),
        pytest.param({"a": A, "b": B}, DICT, {"a": A, "b": B}, id="dict for a dict"),
        pytest.param({"b": B, "a": A}, DICT, {"a": A, "b": B}, id="unsorted dict for a dict"),
        pytest.param([B, A, C], NESTED, [B, {"p": A, "q": C}], id="list for a nested one"),
        pytest.param([B, {"p": A, "q": C}], NESTED, [B, {"p": A, "q": C}], id="nested"),
        pytest.param([B, {"q": C, "p": A}], NESTED, [B, {"p": A, "q": C}], id="nested, unsorted"),
    ],
)
def test_inputs_in_the_models_order(inputs, model, packed):
    arrangement = arrange(inputs, model)
    assert_same(for_model(arrangement), packed)


@pytest.mark.parametrize(
    ("inputs", "model"),
    [
        (A, ONE),
        ({"x": A}, ONE),
        ([B, A], LIST),
        ((B, A), LIST),
        ({"a": A, "b": B}, LIST),
        ({"b": B, "a": A}, LIST),
        ({"b": B, "a": A}, DICT),
        ([B, {"q": C, "p": A}], NESTED),
        ((B, (A, C)), NESTED),
        (A, None),
        ([A, B], None),
        ({"b": B, "a": [A, C]}, None),
    ],
)
def test_results_come_back_as_the_inputs_were_given(inputs, model):
    assert_same(for_user(arrange(inputs, model)), inputs)


def test_a_named_tuple_keeps_its_type():
    result = for_user(arrange(Pair(A, B), LIST))
    assert_same(result, Pair(A, B))


@pytest.mark.parametrize(
    "samples",
    [
        pytest.param([[1, 2, 3], [4, 5, 6]], id="numbers"),
        pytest.param([(1, 2, 3), (4, 5, 6)], id="tuples"),
        pytest.param(([1, 2, 3], [4, 5, 6]), id="tuple of lists"),
        pytest.param([np.arange(1, 4), np.arange(4, 7)], id="arrays"),
        pytest.param([tf.range(1, 4), tf.range(4, 7)], id="tensors"),
        pytest.param([[np.int64(1), np.int64(2), 3], [4, 5, 6]], id="NumPy numbers"),
        pytest.param([[1, 2, 3.0], [4, 5, 6]], id="mixed numbers"),
    ],
)
def test_a_list_of_samples_is_one_array(samples):
    assert_same(for_model(arrange(samples, ONE)), np.array([[1, 2, 3], [4, 5, 6]]))


@pytest.mark.parametrize("samples", [[[1.0, 2.0, 3.0]], [np.ones(3)], [[True, False, True]]])
def test_a_list_of_one_sample_is_one_array(samples):
    assert_same(for_model(arrange(samples, ONE)), np.asarray(samples))


def test_lists_of_numbers_for_several_inputs():
    lists = [B.tolist(), A.tolist()]
    assert_same(for_model(arrange(lists, LIST)), [B, A])
    assert_same(for_model(arrange(dict(zip("ba", lists, strict=True)), LIST)), [B, A])


def test_lists_of_numbers_of_different_widths_for_several_inputs():
    lists = [[[1.0, 2.0, 3.0]], [[4.0]]]
    assert_same(for_model(arrange(lists, LIST)), [np.array(lists[0]), np.array(lists[1])])


@pytest.mark.parametrize("model", [LIST, DICT])
@pytest.mark.parametrize("keys", ["a", "ax", "abc", ""])
def test_other_names_are_refused(model, keys):
    with pytest.raises(InvalidInputError, match="'b', 'a'"):
        arrange(dict.fromkeys(keys, A), model)


@pytest.mark.parametrize("inputs", [A, [A], [A, A, A]])
def test_another_number_is_refused(inputs):
    with pytest.raises(InvalidInputError, match=r"2 inputs \('b', 'a'\)"):
        arrange(inputs, LIST)


@pytest.mark.parametrize("inputs", [[A, B], (A, B)])
def test_a_list_for_a_model_that_takes_a_dict_is_refused(inputs):
    with pytest.raises(InvalidInputError, match="Pass a dict"):
        arrange(inputs, DICT)


@pytest.mark.parametrize("inputs", [[np.ones(3), np.ones(2)], [[1.0], [1.0, 2.0]], [], ()])
def test_samples_that_make_no_array_are_refused(inputs):
    with pytest.raises(InvalidInputError):
        arrange(inputs, ONE)


@pytest.mark.parametrize(
    "structure",
    [1, [1, 2], (1, 2), {"b": 1, "a": 2}, [1, (2, {"z": 3, "y": [4, 5]})], [], {}, [[], [1]]],
)
def test_pack_is_the_inverse_of_leaves(structure):
    packed = pack(skeleton_of(structure), leaves(structure))
    assert packed == structure
    assert type(packed) is type(structure)


def test_leaves_of_a_dict_are_sorted_by_key():
    assert leaves({"b": 1, "a": [2, 3]}) == [2, 3, 1]


def test_a_packed_dict_keeps_its_order():
    structure = {"b": 1, "a": 2}
    assert list(pack(skeleton_of(structure), leaves(structure))) == ["b", "a"]


def test_the_inputs_are_not_copied():
    assert arrange({"a": A, "b": B}, LIST).flat[1] is A


def test_a_model_of_two_inputs_gets_each_in_its_place(keras):
    """End to end: the gradient of 2·a + 3·b is 2 and 3, however they are given."""
    inputs = [keras.Input((1,), name=name) for name in ("b", "a")]
    dense = keras.layers.Dense(1, use_bias=False)
    model = keras.Model(inputs, dense(keras.layers.Concatenate()(inputs)))
    dense.set_weights([np.array([[3.0], [2.0]])])
    a, b = np.ones((2, 1), np.float32), np.zeros((2, 1), np.float32)
    explainer = Saliency(model)
    for given in ([b, a], (b, a), {"a": a, "b": b}, {"b": b, "a": a}):
        maps = explainer.explain(given)
        assert type(maps) is type(given)
        of_a, of_b = (maps["a"], maps["b"]) if isinstance(maps, dict) else (maps[1], maps[0])
        np.testing.assert_array_equal(of_a, [[2], [2]])
        np.testing.assert_array_equal(of_b, [[3], [3]])


def test_a_model_of_a_dict_gets_each_in_its_place(keras):
    inputs = {name: keras.Input((1,), name=name) for name in ("z", "a")}
    dense = keras.layers.Dense(1, use_bias=False)
    model = keras.Model(inputs, dense(keras.layers.Concatenate()([inputs["z"], inputs["a"]])))
    dense.set_weights([np.array([[3.0], [2.0]])])
    ones = np.ones((2, 1), np.float32)
    for given in ({"z": ones, "a": ones}, {"a": ones, "z": ones}):
        maps = Saliency(model).explain(given)
        assert list(maps) == list(given)
        np.testing.assert_array_equal(maps["z"], [[3], [3]])
        np.testing.assert_array_equal(maps["a"], [[2], [2]])
