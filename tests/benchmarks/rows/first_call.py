"""The first explanations of a model, in a process that has done nothing else."""

import time

import numpy as np
from contender import BY_HAND, OURS, XPLIQUE, by_hand, xplique
from network import build, photographs, preprocessed
from process import KERASES, fresh
from report import Line
from timing import ratios

from xplique_sal import Saliency

IMAGES, BATCH = 40, 16

MAKE = {
    OURS: lambda model: Saliency(model, batch_size=BATCH).explain,
    BY_HAND: lambda model: by_hand(model, BATCH),
    XPLIQUE: lambda model: xplique(model, BATCH).explain,
}


def samples(kind, name):
    """Return images for a network, and one-hot targets."""
    x = preprocessed(kind, name, photographs(224, IMAGES))
    return x, np.eye(1000, dtype="float32")[np.arange(IMAGES)]


def seconds(kind, name, column):
    """Return the seconds from a model to the maps of its samples."""
    if column == XPLIQUE:
        import xplique.attributions  # noqa: F401  # its import is not what is measured
    model = build(kind, name)
    x, y = samples(kind, name)
    start = time.perf_counter()
    MAKE[column](model)(x, y)
    return time.perf_counter() - start


def measure(quick):
    """Yield a line for each network and Keras."""
    for name in ["MobileNetV2"] if quick else ["MobileNetV2", "ResNet50"]:
        for kind in ["tf-keras"] if quick else KERASES:
            found = {column: [] for column in MAKE}
            for _ in range(1 if quick else 3):
                for column in MAKE:
                    found[column].append(fresh(seconds, kind, name=name, column=column))
            amount = sorted(found[BY_HAND])[len(found[BY_HAND]) // 2]
            what = f"first `explain`: {name}, {IMAGES} images in batches of {BATCH}"
            yield Line(what, kind, "by hand", amount, "s", ratios(found, BY_HAND))
