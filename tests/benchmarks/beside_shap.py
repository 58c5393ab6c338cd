"""DeepLIFT beside SHAP's DeepExplainer: ``python tests/benchmarks/beside_shap.py``.

100 samples and 20 baselines, on networks that DeepExplainer takes: a table's, with one output and
with more, and an image's. The values have to be the same, as closely as SHAP itself asks of sums
(0.01), before anything is timed; then both take turns in one process, and SHAP does not check sums.
Ours has to be at least 5 times faster for tables. Of images it is not, so that nothing is promised
there: what both have to do, the backward convolutions of 100·20 pairs, is more of it.

It takes an environment of its own: requirements-propagation.txt beside this file.
"""

import argparse
import os
import statistics
import sys
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np
from timing import in_turns, ratios

SAMPLES, BASELINES, TOLERANCE, LEAST = 100, 20, 1e-2, 5
OURS, THEIRS = "xplique_sal", "SHAP"


def dense(keras, outputs):
    """Return a network of a table."""
    layers = [keras.layers.Dense(128, activation="relu") for _ in range(3)]
    return keras.Sequential([keras.Input((40,)), *layers, keras.layers.Dense(outputs)]), (40,)


def convolutional(keras, outputs):
    """Return a network of images, with pooling."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(outputs),
        ]
    ), (28, 28, 1)


def measured(make, outputs, rounds):
    """Return (how much longer SHAP takes, the largest difference, the seconds of both)."""
    import keras
    import shap

    from xplique_sal import DeepLift

    keras.utils.set_random_seed(0)
    model, shape = make(keras, outputs)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(SAMPLES, *shape)).astype("float32")
    baselines = rng.normal(size=(BASELINES, *shape)).astype("float32")
    ours = DeepLift(model, baseline_value=baselines, reducer=None)
    theirs = shap.DeepExplainer(model, baselines)
    calls = {
        OURS: lambda: np.asarray(ours.explain_outputs(x)),
        THEIRS: lambda: np.asarray(theirs.shap_values(x, check_additivity=False)),
    }
    found = np.moveaxis(calls[OURS](), 1, -1)
    expected = calls[THEIRS]().reshape(found.shape)
    apart = float(np.abs(found - expected).max())
    assert apart <= TOLERANCE, f"the values differ by {apart:.1e}"
    seconds = in_turns(calls, rounds, warm_up=1)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    return ratios(seconds, OURS)[THEIRS], apart, float(np.abs(expected).max()), medians


def main():
    """Print the table, and fail where ours is not faster enough."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = [["network", "SHAP ÷ ours", "SHAP", "ours", "largest difference", "of values up to"]]
    rows.append(["---"] + ["---:"] * 5)
    slow = False
    cases = [(dense, 1), (dense, 5), (dense, 20), (convolutional, 1), (convolutional, 5)]
    for make, outputs in cases:
        ratio, apart, largest, seconds = measured(make, outputs, asked.rounds)
        slow |= make is dense and ratio["ratio"] < LEAST
        what = f"{make.__name__}, {outputs} output{'s' * (outputs > 1)}"
        times = f"{ratio['ratio']:.1f} ({ratio['low']:.1f} to {ratio['high']:.1f})"
        each = [f"{seconds[name]:.2g} s" for name in (THEIRS, OURS)]
        rows.append([what, times, *each, f"{apart:.1e}", f"{largest:.2g}"])
        print(*rows[-1], sep="  ", file=sys.stderr, flush=True)
    print("\n".join(f"| {' | '.join(row)} |" for row in rows))
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
