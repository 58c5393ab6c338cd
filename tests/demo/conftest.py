"""Demos of the same trained network train it once."""

import functools

import pytest

from demos import class_visualisation, localisation, metrics
from xplique_sal.demo import digits

trained_network = functools.cache(digits.trained_network)


@pytest.fixture(autouse=True)
def trained_once(monkeypatch):
    """Share the network of the demos of which no test reads what is printed of its training."""
    for demo in (class_visualisation, localisation, metrics):
        monkeypatch.setattr(demo, "trained_network", trained_network)
