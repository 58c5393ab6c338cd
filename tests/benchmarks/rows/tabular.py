"""A large table in batches of 64, as an array and as a dataset."""

import statistics
import time

import numpy as np
import tensorflow as tf
from contender import BY_HAND, OURS, XPLIQUE, by_hand, check_same, xplique
from process import KERASES, fresh, keras_of
from report import Line, once
from timing import in_turns, ratios

from xplique_sal import Saliency

BATCH, FEATURES = 64, 30


def _model(kind):
    layers = keras_of(kind).layers
    inputs = layers.Input((FEATURES,))
    hidden = layers.Dense(32, activation="relu")(inputs)
    return keras_of(kind).Model(inputs, layers.Dense(2)(hidden))


def _data(rows):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, FEATURES)).astype("float32")
    y = np.eye(2, dtype="float32")[rng.integers(0, 2, rows)]
    return x, y, tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)


def seconds(kind, rows, rounds):
    """Return the seconds for an array, and for a dataset: two of {name: [one a round]}."""
    model = _model(kind)
    x, y, dataset = _data(rows)
    ours, loop = Saliency(model, batch_size=BATCH), by_hand(model, BATCH)
    theirs = xplique(model, BATCH)
    of_array = {
        OURS: lambda: ours.explain(x, y),
        BY_HAND: lambda: loop(x, y),
        XPLIQUE: lambda: theirs.explain(x, y),
    }
    of_dataset = {OURS: lambda: ours.explain(dataset), BY_HAND: lambda: loop(dataset)}
    check_same({name: call() for name, call in of_array.items()})
    check_same({name: call() for name, call in of_dataset.items()})
    return in_turns(of_array, rounds, warm_up=0), in_turns(of_dataset, rounds, warm_up=0)


def seconds_of_xplique(kind, rows):
    """Return the seconds that Xplique takes for a dataset, once."""
    model = _model(kind)
    x, y, dataset = _data(rows)
    theirs = xplique(model, BATCH)
    theirs.explain(x[:BATCH], y[:BATCH])
    start = time.perf_counter()
    theirs.explain(dataset, None)
    return time.perf_counter() - start


def measure(quick):
    """Yield a line for arrays and one for datasets."""
    rows = 20_000 if quick else 100_000
    for kind in ["tf-keras"] if quick else KERASES:
        of_array, of_dataset = fresh(seconds, kind, rows=rows, rounds=5 if quick else 7)
        for source, found in (("an array", of_array), ("a dataset of batches", of_dataset)):
            relative, amount = ratios(found, BY_HAND), statistics.median(found[BY_HAND])
            if found is of_dataset and not quick:  # it takes half a minute
                relative[XPLIQUE] = once(fresh(seconds_of_xplique, kind, rows=rows) / amount)
            what = f"`explain`: {rows:,} × {FEATURES} table, 64 at a time, from {source}"
            yield Line(what, kind, "by hand", amount, "s", relative)
