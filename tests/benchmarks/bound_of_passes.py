"""What bounds a metric on ResNet50: its forward passes, and what these could cost at the least.

Prints CPU seconds, the least of several runs in turns, and multiplications and additions a second.
"""

import time

import numpy as np
import tensorflow as tf
from rows.metrics import CLASSES, resnet50

from xplique_sal import Occlusion, metrics
from xplique_sal._data.samples import Batch

SIZE, COUNT, STEPS, ROUNDS = 96, 64, 10, 3


def work_of(function):
    """Return the multiplications and additions of the convolutions of a traced function."""
    total = 0
    for op in function.graph.get_operations():
        if op.type == "Conv2D":
            total += 2 * np.prod(op.inputs[1].shape) * np.prod(op.outputs[0].shape[:3])
    return int(total)


def scores(model, x):
    """Return a call that scores samples as metrics do, normalisation folded."""
    explainer = Occlusion(model)
    score = explainer._scores.settled(explainer._request(x, None), Batch(0, [x], []))
    return lambda: score.of_rows([x])


def main():
    """Measure, and print."""
    import xplique.metrics as theirs

    model, x = resnet50("Keras 3", SIZE, COUNT)
    y = np.eye(CLASSES, dtype="float32")[np.asarray(model(x)).argmax(axis=1)]
    maps = np.random.default_rng(0).normal(size=(COUNT, SIZE, SIZE, 1)).astype("float32")
    plain = tf.function(lambda x: model(x, training=False))
    traced = plain.get_concrete_function(tf.TensorSpec(x.shape))
    folded, rows = scores(model, x), STEPS + 1
    square = tf.random.normal((4096, 4096))
    ours, other = metrics.Deletion(model, x, y), theirs.Deletion(model, x, y)
    calls = {
        "a product of matrices": lambda: tf.matmul(square, square),
        "the model as it is": lambda: [traced(tf.constant(x)) for _ in range(rows)],
        "folded": lambda: [folded() for _ in range(rows)],
        "Deletion": lambda: ours(maps),
        "Xplique's Deletion": lambda: other(maps),
    }
    work = dict.fromkeys(calls, work_of(traced) * rows)
    work["a product of matrices"] = 2 * 4096**3
    times = {name: [] for name in calls}
    for _ in range(ROUNDS + 1):  # the first one warms up
        for name, call in calls.items():
            start = time.process_time()
            call()
            times[name].append(time.process_time() - start)
    for name, measured in times.items():
        least = min(measured[1:])
        print(f"{name}: {least:.2f} CPU seconds, {work[name] / least / 1e9:.0f} G a second")


if __name__ == "__main__":
    main()
