"""Metrics of maps beside Xplique's, which must find the same values first."""

import statistics

import numpy as np
from contender import OURS, XPLIQUE, xplique
from network import photographs, preprocessed, randomised
from process import fresh, keras_of
from report import Line
from timing import in_turns, ratios

from xplique_sal import Saliency, metrics

#: What each is called there.
SHARED = {
    "Deletion": "Deletion",
    "Insertion": "Insertion",
    "AverageDrop": "AverageDropMetric",
    "AverageIncrease": "AverageIncreaseMetric",
    "AverageGain": "AverageGainMetric",
    "MuFidelity": "MuFidelity",
    "AverageStability": "AverageStability",
    "Complexity": "Complexity",
    "Sparseness": "Sparseness",
}
#: What makes ours what theirs is.
SETTINGS = {
    "Complexity": {"epsilon": 1e-8},
    "MuFidelity": {"correlation": "spearman", "exact_size": False},
    "AverageStability": {"relative": False, "one_sided": True},
}
#: How far values may be apart: rounding, and chance where parts and neighbours are drawn.
APART = {"MuFidelity": 0.1, "AverageStability": 0.1}
CLASSES = 10


def small(kind, size, count):
    """Return a small network that ends in a softmax, and images for it."""
    keras = keras_of(kind)
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((size, size, 3)),
            layers.Conv2D(16, 3, strides=2, activation="relu"),
            layers.Conv2D(32, 3, strides=2, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    return model, photographs(size, count) / 127.5 - 1


def resnet50(kind, size, count):
    """Return a ResNet50 that ends in a softmax, and images for it."""
    keras = keras_of(kind)
    keras.utils.set_random_seed(0)
    shape = (size, size, 3)
    model = keras.applications.ResNet50(weights=None, input_shape=shape, classes=CLASSES)
    images = preprocessed(kind, "ResNet50", photographs(size, max(count, 8)))
    return randomised(model, images[:8]), images[:count]


NETWORKS = {"a small network": small, "ResNet50": resnet50}


def each(kind, network, size, count, names):
    """Return {metric: {column: call}}."""
    import xplique.metrics as theirs

    model, x = NETWORKS[network](kind, size, count)
    y = np.eye(CLASSES, dtype="float32")[np.asarray(model(x[:count])).argmax(axis=1)]
    maps = np.random.default_rng(0).normal(size=(count, size, size, 1)).astype("float32")
    calls = {}
    for name in names:
        takes_model = name not in ("Complexity", "Sparseness")
        given = (model, x, y) if takes_model else ()
        ours = getattr(metrics, name)(*given, **SETTINGS.get(name, {}))
        other = getattr(theirs, SHARED[name])(*given)
        judged = [maps, maps]
        if name == "AverageStability":
            judged = [Saliency(model), xplique(model, 64)]
        calls[name] = {
            OURS: lambda metric=ours, judged=judged[0]: metric(judged),
            XPLIQUE: lambda metric=other, judged=judged[1]: metric(judged),
        }
    return calls


def seconds(kind, network, size, count, rounds, names):
    """Return the seconds of each metric: {metric: {column: [one a round]}}."""
    found = {}
    for name, calls in each(kind, network, size, count, names).items():
        values = {column: float(call()) for column, call in calls.items()}
        apart = abs(values[OURS] - values[XPLIQUE]) / max(1, abs(values[XPLIQUE]))
        if not apart <= APART.get(name, 1e-5):
            raise AssertionError(f"{name} differs: {values}")
        found[name] = in_turns(calls, rounds, warm_up=1)
    return found


def measure(quick):
    """Yield a line for each network and metric."""
    sizes = {"a small network": (96, 64)} | ({} if quick else {"ResNet50": (96, 16)})
    for network, (size, count) in sizes.items():
        found = fresh(
            seconds,
            "Keras 3",
            network=network,
            size=size,
            count=count,
            rounds=3 if quick else 7,
            names=list(SHARED),
        )
        for name, times in found.items():
            amount = statistics.median(times[XPLIQUE])
            what = f"`{name}`: {network}, {count} images {size}×{size}"
            yield Line(what, "Keras 3", "Xplique", amount, "s", ratios(times, XPLIQUE))
