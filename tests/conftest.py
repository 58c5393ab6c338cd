"""What every test shares: both Kerases, and a plain way to compute what is tested."""

from __future__ import annotations

import gc
import importlib
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ["MPLBACKEND"] = "Agg"  # no windows
# Each of several workers has its share of the cores.
os.environ.setdefault(
    "TF_NUM_INTRAOP_THREADS",
    str(max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))),
)

import numpy as np
import pytest
import tensorflow as tf
from reference import set_seeds

# Two logical devices, among which a strategy can share its work.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


def pytest_collection_finish():
    """Let Python look for garbage among what tests make, not among TensorFlow's million objects."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)


@pytest.fixture(params=["tf_keras", "keras"], ids=["tf_keras", "keras3"])
def keras(request):
    """Each of the two Kerases in turn, with its seeds set.

    TensorFlow's own stays as it is: to set it drops what is compiled of the models that tests
    share. A test that draws from TensorFlow sets it by itself.
    """
    module = importlib.import_module(request.param)
    set_seeds(module)
    return module


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def close_figures():
    """Close what a test has drawn."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
