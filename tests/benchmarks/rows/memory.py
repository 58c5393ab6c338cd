"""The memory that explaining a dataset of images adds to the process."""

import contextlib
import re
import statistics
from pathlib import Path

import tensorflow as tf
from contender import OURS, XPLIQUE, xplique
from process import fresh, keras_of
from report import Limit, Line, once

from xplique_sal import Saliency

SIZE, STATUS = 224, Path("/proc/self/status")


def _mebibytes(name):
    return int(re.search(rf"{name}:\s+(\d+) kB", STATUS.read_text())[1]) / 1024


def added(kind, call, count):
    """Return by how many MiB the memory of this process peaks above what it was before a call.

    The images are made while they are read, and the model is small: neither takes memory or time.
    """
    keras = keras_of(kind)
    layers = keras.layers
    inputs = layers.Input((SIZE, SIZE, 3))
    hidden = layers.Conv2D(4, 3, strides=4, activation="relu")(inputs)
    outputs = layers.Dense(10)(layers.GlobalAveragePooling2D()(hidden))
    model = keras.Model(inputs, outputs)

    def image(number):
        values = tf.random.stateless_uniform((SIZE, SIZE, 3), tf.stack([number, number]))
        return values, tf.one_hot(number % 10, 10)

    dataset = tf.data.Dataset.range(count).map(image).batch(16)
    ours = Saliency(model) if call != XPLIQUE else None
    theirs = xplique(model, 64) if call == XPLIQUE else None
    # The peak starts anew where that is allowed; elsewhere it can only be read as too high.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    before = _mebibytes("VmRSS")
    if call == "explain":
        done = len(ours.explain(dataset))
    elif call == "iter_explain":
        done = sum(len(maps) for maps in ours.iter_explain(dataset))
    else:
        done = len(theirs.explain(dataset, None))
    assert done == count
    return _mebibytes("VmHWM") - before


def measure(quick):
    """Yield a line for each call and number of images, and what is promised."""
    if not STATUS.exists():
        return  # only Linux says what the peak was
    for count in [500] if quick else [2000, 4000]:
        maps = count * SIZE * SIZE * 4 / 2**20
        for call in ("explain", "iter_explain"):
            # The system's allocator keeps more or less of what was freed, from run to run.
            peaks = [fresh(added, call=call, count=count) for _ in range(1 if quick else 3)]
            peak = statistics.median(peaks)
            low, high = min(peaks) / maps, max(peaks) / maps
            relative = {OURS: {"ratio": peak / maps, "low": low, "high": high}}
            if call == "explain" and count == 2000:
                theirs = fresh(added, call=XPLIQUE, count=count)
                relative[XPLIQUE] = once(theirs / maps)
            what = f"memory added by `{call}`: a dataset of {count:,} images 224×224×3"
            yield Line(what, "tf-keras", "the maps' own size", maps, "MiB", relative)
            # Maps are held twice while they are joined; what is left does not grow.
            most = 200 + (2 * maps if call == "explain" else 0)
            yield Limit(f"`{call}`, {count:,} images", peak, most, "MiB")
