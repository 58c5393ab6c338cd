"""Ten outputs of the same images."""

import statistics

import numpy as np
from contender import OURS, XPLIQUE, check_same, xplique
from network import prepared
from process import KERASES, fresh
from report import Line
from timing import in_turns, ratios

from xplique_sal import Saliency

COUNT, OUTPUTS, TEN_CALLS = 8, 10, "ten calls"


def seconds(kind, size, rounds):
    """Return the seconds of each: {name: [one a round]}."""
    model, x = prepared(kind, "MobileNetV2", COUNT, size)
    ours, theirs = Saliency(model, batch_size=COUNT), xplique(model, COUNT)
    hot = np.eye(model.output_shape[-1], dtype="float32")

    def one_by_one():
        return np.stack([ours.explain(x, output) for output in range(OUTPUTS)], axis=1)

    def of_xplique():
        targets = [np.tile(hot[output], (COUNT, 1)) for output in range(OUTPUTS)]
        return np.stack([theirs.explain(x, target) for target in targets], axis=1)

    calls = {
        OURS: lambda: ours.explain_outputs(x, range(OUTPUTS)),
        TEN_CALLS: one_by_one,
        XPLIQUE: of_xplique,
    }
    check_same({name: call() for name, call in calls.items()}, TEN_CALLS)
    return in_turns(calls, rounds, warm_up=0)


def measure(quick):
    """Yield a line for each Keras."""
    for kind in ["tf-keras"] if quick else KERASES:
        size = 128 if quick else 224
        found = fresh(seconds, kind, size=size, rounds=3 if quick else 5)
        relative = ratios(found, TEN_CALLS)
        del relative[TEN_CALLS]
        amount = statistics.median(found[TEN_CALLS])
        what = f"`explain_outputs`: MobileNetV2, {COUNT} images {size}×{size}, {OUTPUTS} outputs"
        yield Line(what, kind, "ten calls of our `explain`", amount, "s", relative)
