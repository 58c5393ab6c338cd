"""What a map costs: the time of `explain` over that of a forward pass of the same images."""

import statistics

import numpy as np
import tensorflow as tf
from contender import check_same, explainers, forward
from network import NETWORKS, prepared
from process import KERASES, fresh
from report import Line
from timing import in_turns, ratios

FORWARD = "forward"


def seconds(kind, name, rounds):
    """Return the seconds of each for a batch of images: {name: [one a round]}."""
    count = NETWORKS[name].count
    model, x = prepared(kind, name, count)
    classes = model.output_shape[-1]
    y = np.eye(classes, dtype="float32")[np.random.default_rng(0).integers(0, classes, count)]
    each = explainers(model, count)
    check_same({column: explain(x, y) for column, explain in each.items()})
    run, images = forward(model), tf.constant(x)
    calls = {FORWARD: lambda: run(images)}
    for column, explain in each.items():
        calls[column] = lambda explain=explain: explain(x, y)
    return in_turns(calls, rounds, warm_up=1)


def measure(quick):
    """Yield a line for each network and Keras."""
    for name in ["MobileNetV2"] if quick else NETWORKS:
        size = NETWORKS[name].size
        for kind in KERASES:
            found = fresh(seconds, kind, name=name, rounds=9)
            relative = ratios(found, FORWARD)
            del relative[FORWARD]
            amount = statistics.median(found[FORWARD])
            what = f"`explain`: {name}, {NETWORKS[name].count} images {size}×{size}"
            yield Line(what, kind, "a forward pass", amount, "s", relative)
