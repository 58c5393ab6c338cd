"""What a loop inside the graph gains for a table: ``python tests/benchmarks/small_samples.py``."""

import statistics
import time

import numpy as np
import tensorflow as tf
import tf_keras

from xplique_sal import Saliency
from xplique_sal._tracing import loops


def seconds(function, times=3):
    """Return the median time of a call, after one that is not counted."""
    function()
    measured = []
    for _ in range(times):
        start = time.perf_counter()
        function()
        measured.append(time.perf_counter() - start)
    return statistics.median(measured)


def main():
    """Measure 100,000 rows of 30 features, 64 at a time."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(100_000, 30)).astype("float32")
    labels = rng.integers(0, 2, len(rows))
    layers = tf_keras.layers
    build = lambda: tf_keras.Sequential(  # noqa: E731
        [layers.Input((30,)), layers.Dense(32, activation="relu"), layers.Dense(2)]
    )
    dataset = tf.data.Dataset.from_tensor_slices((rows, labels)).batch(64)

    in_graph = Saliency(build())
    looped = seconds(lambda: in_graph.explain(rows, labels))
    streamed = seconds(lambda: in_graph.explain(dataset))

    loops._SMALL = -1
    in_python = Saliency(build())
    called = seconds(lambda: in_python.explain(rows, labels))

    print("100,000 rows of 30 features, 64 at a time")
    print(f"a loop in Python     {called:6.2f} s    1.00")
    print(f"a loop in the graph  {looped:6.2f} s    {looped / called:4.2f}")
    print(f"the same, a dataset  {streamed:6.2f} s    {streamed / called:4.2f}")


if __name__ == "__main__":
    main()
