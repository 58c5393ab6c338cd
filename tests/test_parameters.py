"""Numbers, integers, names and lengths of parameters are checked in one place."""

import ast
import math
import re
from pathlib import Path

import numpy as np
import pytest

import xplique_sal
from xplique_sal import _parameters as parameters
from xplique_sal.attributions import Rise, SmoothGrad
from xplique_sal.detection import box_targets
from xplique_sal.errors import InvalidParameterError

PACKAGE = Path(xplique_sal.__file__).parent


def refused(message, check, *args, **kwargs):
    with pytest.raises(InvalidParameterError, match=re.escape(message)):
        check(*args, **kwargs)


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3)])
def test_integers_of_python_and_numpy_are_integers(value):
    found = parameters.integer("steps", value, 3)
    assert found == 3 and type(found) is int


@pytest.mark.parametrize("value", [True, 3.0, "3", None, [3], 2, 2**63, np.array(3)])
def test_other_things_are_no_integers_of_at_least_three(value):
    message = f"Expected `steps` as an integer of at least 3, but got {value!r}. Pass one."
    refused(message, parameters.integer, "steps", value, 3, "Pass one.")


def test_an_integer_without_a_bound_fits_in_64_bits():
    assert parameters.integer("seed", -(2**63), None) == -(2**63)
    for value in (-(2**63) - 1, 2**63):
        refused("`seed` as an integer, but", parameters.integer, "seed", value, None)


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.5), np.int64(1)])
def test_numbers_of_python_and_numpy_are_numbers(value):
    found = parameters.number("alpha", value, "[]", high=1)
    assert found == value and type(found) is float


@pytest.mark.parametrize("value", [True, np.True_, "1", None, 1j, math.nan, [1.0], np.array(1.0)])
def test_other_things_are_no_numbers(value):
    refused("`alpha` as a number of at least 0", parameters.number, "alpha", value, "[]")


@pytest.mark.parametrize(
    "ends, expected, inside, outside",
    [
        ("[)", "a number of at least 0 and below 1", [0, 0.9], [-0.1, 1]),
        ("(]", "a number above 0 and at most 1", [0.1, 1], [0, 1.1]),
        ("()", "a number above 0 and below 1", [0.5], [0, 1]),
        ("[]", "a number of at least 0 and at most 1", [0, 1], [-1, 2]),
    ],
)
def test_ends_of_an_interval_belong_to_it_or_not(ends, expected, inside, outside):
    for value in inside:
        assert parameters.number("share", value, ends, high=1) == value
    for value in outside:
        refused(expected, parameters.number, "share", value, ends, high=1)


def test_infinity_is_a_number_only_where_the_interval_includes_it():
    assert parameters.number("p", math.inf, "[]", low=1) == math.inf
    refused("a finite number of at least 0", parameters.number, "noise", math.inf)
    refused("`vmin` as a finite number, but", parameters.number, "vmin", math.inf, "()", -math.inf)


def test_a_name_is_one_of_those_that_exist():
    for value in ("a", None, 4, np.int64(4)):
        parameters.one_of("part", value, ["a", None, 4])
    message = "Expected a `part` among 'a', None, 1, but got {!r}. Pass one of these."
    for value in ("b", 2, True, 1.0, ["a"], np.array(["a", "b"])):
        refused(message.format(value), parameters.one_of, "part", value, ["a", None, 1])


def test_lengths_are_one_for_all_axes_or_one_for_each():
    assert parameters.lengths("grid", np.int64(3)) == 3
    assert parameters.lengths("grid", [3, 4]) == parameters.lengths("grid", np.array([3, 4]))
    assert parameters.lengths_for("grid", 3, 2) == [3, 3]
    assert parameters.lengths_for("grid", (3, 4), 2) == [3, 4]
    refused("`grid` with one integer for each of 3 axes", parameters.lengths_for, "grid", (3, 4), 3)
    for value in (0, True, (), (3, 0), [[3]], 2.0, "33", (True, 2)):
        refused("`grid` of at least 1", parameters.lengths, "grid", value)


def test_a_package_that_is_not_there_is_named_with_its_extra():
    assert parameters.optional("math", "This needs", "plots") is math
    with pytest.raises(ImportError, match=r"^This needs no_such.*\"xplique-sal\[plots\]\"$"):
        parameters.optional("no_such.module", "This needs", "plots")


def test_truth_values_are_no_numbers_of_any_method():
    refused("`noise`", SmoothGrad, abs, noise=True)
    refused("`nb_samples`", SmoothGrad, abs, nb_samples=True)
    refused("`preservation_probability`", Rise, abs, preservation_probability=True)
    refused("`num_classes`", box_targets, [[[0, 0, 1, 1]]], [[0]], num_classes=True)


def test_no_other_module_asks_what_a_number_is():
    """An `isinstance` that asks for NumPy's numbers, beside Python's or not, is here alone."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
                kinds = ast.unparse(node.args[1])
                if re.search(r"np\.(number|integer|floating)\b", kinds):
                    found.add(path.name)
    assert found == {"_parameters.py"}
