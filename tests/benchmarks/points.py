"""What gradients at many points cost: ``python tests/benchmarks/points.py``."""

import time

import numpy as np
import tf_keras

from xplique_sal.attributions import SmoothGrad
from xplique_sal.attributions.base import WhiteBoxExplainer

IMAGES, POINTS, TURNS = 16, 10, 8


def seconds(function):
    """Return the wall time and the processor time of a call."""
    start = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - start[0], time.process_time() - start[1]


def main():
    """Measure in turns, on MobileNetV2 with images of 96×96."""
    model = tf_keras.applications.MobileNetV2(
        input_shape=(96, 96, 3), weights=None, classifier_activation=None
    )
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-1, 1, (IMAGES, 96, 96, 3)).astype("float32"), np.arange(IMAGES)
    gradient = WhiteBoxExplainer(model, batch_size=IMAGES)
    smooth = SmoothGrad(model, batch_size=IMAGES, nb_samples=POINTS, seed=0)
    single = SmoothGrad(model, batch_size=IMAGES, nb_samples=POINTS * IMAGES, seed=0)
    ways = {
        f"{POINTS} gradients of {IMAGES} images": lambda: [
            gradient.explain(x, y) for _ in range(POINTS)
        ],
        f"{POINTS} points of {IMAGES} images": lambda: smooth.explain(x, y),
        f"{POINTS * IMAGES} points of one image": lambda: single.explain(x[:1], y[:1]),
    }
    for way in ways.values():
        way()
    measured = np.array([[seconds(way) for way in ways.values()] for _ in range(TURNS)])
    median = np.median(measured, axis=0)
    for name, (wall, processor) in zip(ways, median, strict=True):
        shares = f"{wall / median[0, 0]:5.2f} {processor / median[0, 1]:5.2f}"
        print(f"{name:26} {wall:6.2f} s, processor {processor:6.2f} s, shares {shares}")


if __name__ == "__main__":
    main()
