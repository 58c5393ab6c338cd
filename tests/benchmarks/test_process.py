"""A measurement runs in a process of its own, with the Keras that was asked for."""

import os

import pytest
from process import fresh


def surroundings(kind, number):
    return [kind, number + 1, os.environ["TF_USE_LEGACY_KERAS"], os.getpid()]


def failure(kind):
    raise ValueError("this is why")


def test_arguments_and_the_result_come_through():
    *found, process = fresh(surroundings, "tf-keras", number=1)
    assert found == ["tf-keras", 2, "1"] and process != os.getpid()
    assert fresh(surroundings, "Keras 3", number=2)[:3] == ["Keras 3", 3, "0"]


def test_a_failure_says_why():
    with pytest.raises(RuntimeError, match="this is why"):
        fresh(failure)
