"""Measures what a first explanation of a model spends its time on, and what none can do without.

``python tests/benchmarks/parts_of_first_call.py`` prints medians over three fresh processes.
"""

import contextlib
import gc
import statistics
import time
from unittest import mock

import contender
import tensorflow as tf
from network import build
from process import KERASES, fresh
from rows.first_call import BATCH, IMAGES, samples

from xplique_sal import Saliency
from xplique_sal._tracing import programs


def timed(owner, name, seconds):
    """Return a context in which each call of a function appends to `seconds` what it takes."""
    original = getattr(owner, name)

    def call(*args, **kwargs):
        start = time.perf_counter()
        result = original(*args, **kwargs)
        seconds.append(time.perf_counter() - start)
        return result

    return mock.patch.object(owner, name, call)


@contextlib.contextmanager
def collections(seconds):
    """Append to `seconds` what each of Python's garbage collections in this block takes."""
    start = 0.0

    def note(phase, _):
        nonlocal start
        if phase == "start":
            start = time.perf_counter()
        else:
            seconds.append(time.perf_counter() - start)

    gc.callbacks.append(note)
    try:
        yield
    finally:
        gc.callbacks.remove(note)


def parts(kind, name):
    """Return the seconds of each part of the first explanation in this process.

    The forward pass comes last, of another model of the same kind: it finds TensorFlow warm.
    """
    model = build(kind, name)
    x, y = samples(kind, name)
    explainer = Saliency(model, batch_size=BATCH)
    traces, runs, garbage = [], [], []
    with timed(programs, "_trace", traces), timed(programs.Program, "__call__", runs):
        with collections(garbage):
            start = time.perf_counter()
            explainer.explain(x, y)
            whole = time.perf_counter() - start
        first = runs.copy()
        runs.clear()
        for _ in range(3):
            explainer.explain(x, y)
    of_batch = statistics.median(runs[:: len(first)])
    return {
        "all": whole,
        "its batches": of_batch + sum(first[1:]),
        "first execution, beyond the batch": first[0] - of_batch,
        "trace": sum(traces),
        "garbage collections, wherever they came": sum(garbage),
        **forward(build(kind, name), x[:BATCH]),
    }


def forward(model, x):
    """Return the seconds that TensorFlow takes to trace and to prepare a forward pass alone."""
    start = time.perf_counter()
    spec = tf.TensorSpec((None, *x.shape[1:]), tf.float32)
    run = contender.forward(model).get_concrete_function(spec)
    traced = time.perf_counter()
    x = tf.constant(x)
    times = []
    for _ in range(4):
        start_of_run = time.perf_counter()
        run(x)
        times.append(time.perf_counter() - start_of_run)
    return {
        "trace of a forward pass": traced - start,
        "its first execution, beyond the batch": times[0] - statistics.median(times[1:]),
    }


if __name__ == "__main__":
    for name in ("MobileNetV2", "ResNet50"):
        for kind in KERASES:
            found = [fresh(parts, kind, name=name) for _ in range(3)]
            print(f"{name}, {IMAGES} images in batches of {BATCH}, {kind}")
            for part in found[0]:
                seconds = statistics.median(one[part] for one in found)
                print(f"  {part}: {seconds:.2f} s", flush=True)
