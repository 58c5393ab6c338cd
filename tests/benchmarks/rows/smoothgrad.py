"""SmoothGrad against the gradients that it consists of."""

import statistics

import numpy as np
from contender import OURS, XPLIQUE, xplique
from network import prepared
from process import KERASES, fresh
from report import Line
from timing import in_turns, ratios

from xplique_sal import Saliency, attributions

COUNT, BATCH, GRADIENTS = 2, 16, "gradients"


def seconds(kind, size, samples, rounds):
    """Return the seconds of each: {name: [one a round]}."""
    model, x = prepared(kind, "MobileNetV2", COUNT, size)
    y = np.eye(model.output_shape[-1], dtype="float32")[:COUNT]
    ours = attributions.SmoothGrad(model, batch_size=BATCH, nb_samples=samples)
    theirs = xplique(model, BATCH, "SmoothGrad", nb_samples=samples)
    bare = Saliency(model, batch_size=BATCH)
    many, targets = np.repeat(x, samples, axis=0), np.repeat(y, samples, axis=0)
    calls = {
        OURS: lambda: ours.explain(x, y),
        XPLIQUE: lambda: theirs.explain(x, y),
        GRADIENTS: lambda: bare.explain(many, targets),
    }
    return in_turns(calls, rounds, warm_up=1)


def measure(quick):
    """Yield a line for each Keras, once there is such a method."""
    if not hasattr(attributions, "SmoothGrad"):
        return
    samples = 50
    for kind in ["tf-keras"] if quick else KERASES:
        size = 128 if quick else 224
        found = fresh(seconds, kind, size=size, samples=samples, rounds=3 if quick else 5)
        relative = ratios(found, GRADIENTS)
        del relative[GRADIENTS]
        amount = statistics.median(found[GRADIENTS])
        what = f"`SmoothGrad`: MobileNetV2, {COUNT} images {size}×{size}, {samples} samples"
        unit = f"our `explain` of as many images ({COUNT * samples})"
        yield Line(what, kind, unit, amount, "s", relative)
