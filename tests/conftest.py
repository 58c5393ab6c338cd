"""What every test shares: both Kerases, and a plain way to compute what is tested."""

from __future__ import annotations

import gc
import importlib
import itertools
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


def pytest_addoption(parser):
    parser.addoption(
        "--unoptimized",
        action="store_true",
        help="run graphs as they are traced, without TensorFlow's optimizer: a fifth less time",
    )


def pytest_configure(config):
    """Leave TensorFlow's optimizer out where it was asked for; other runs of the tests have it."""
    if config.getoption("--unoptimized"):
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


def pytest_collection_finish():
    """Let Python look for garbage among what tests make, not among TensorFlow's million objects."""
    gc.set_threshold(50_000, 10, 10)
    set_aside_what_is_alive()


def set_aside_what_is_alive():
    gc.collect()
    gc.freeze()


tests_done = itertools.count(1)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown():
    """Keep the search for garbage as short as at the start.

    Models that tests share live on, with millions of objects of their traces: a test that
    collects what it dropped would go through all of them, for seconds each time.
    """
    if next(tests_done) % 25 == 0:
        set_aside_what_is_alive()


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
