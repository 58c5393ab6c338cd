"""`versions()`: what is here, what was tried, what is newer."""

import importlib.metadata
import platform
import sys

import keras
import pytest
import tensorflow as tf

import xplique_sal
from xplique_sal import _versions, versions

TRIED = tuple(
    _versions.Tried(row, dict(zip(("python", "tensorflow"), numbers, strict=True)), 3, 3, "today")
    for row, *numbers in (("a", "3.9.1", "2.16.2"), ("b", "3.10.0", "2.9.0"))
)


def told(python, tensorflow):
    here = {"python": python, "tensorflow": tensorflow}
    return _versions.Versions("0.1.0", "Linux", here, TRIED)


def test_what_is_here():
    found = versions()
    assert found.package == xplique_sal.__version__
    assert found.here["python"] == platform.python_version()
    assert found.here["tensorflow"] == tf.__version__
    assert found.here["keras"] == keras.__version__
    assert found.here["tf-keras"] == importlib.metadata.version("tf-keras")
    assert all(each.versions.keys() == found.here.keys() for each in found.tried)


def test_it_prints_as_a_table():
    lines = str(told("3.9.1", "2.16.2")).splitlines()
    assert lines == [
        "xplique_sal 0.1.0 on Linux",
        "            here        tried",
        "python      3.9.1       3.9.1 to 3.10.0",
        "tensorflow  2.16.2      2.9.0 to 2.16.2",
        "These were tried together on today: 3 of 3 passed.",
    ]


@pytest.mark.parametrize(
    "here, newer, last",
    [
        (("3.10.0", "2.16.2"), (), "These very versions were not tried together."),
        (("3.10.0", "2.16.10"), ("tensorflow",), "Newer than any that was tried: tensorflow."),
        (("3.11.0rc1", "2.100.0"), ("python", "tensorflow"), None),
        (("3.10.0", "2.17.0-dev20260101"), ("tensorflow",), None),
        (("3.10.0", "not found"), (), None),
    ],
)
def test_what_is_newer_than_anything_tried(here, newer, last):
    found = told(*here)
    assert found.newer == newer
    assert found.same is None
    assert last is None or str(found).endswith("\n" + last)


def test_a_package_under_another_name_of_pips(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert versions().here["tensorflow"] == tf.__version__
    monkeypatch.delitem(sys.modules, "tf_keras", raising=False)
    assert versions().here["tf-keras"] == "not found"
