"""What a map costs on networks as they are built today, in forward passes and beside a tape."""

import statistics
import time

import tensorflow as tf
from contender import BY_HAND, OURS, by_hand, check_same, forward
from process import KERASES, fresh
from report import Limit, Line
from timing import in_turns, ratios
from todays import NETWORKS, build, samples

from xplique_sal import Saliency

FORWARD = "forward"

#: What counts the seconds, by what is said of them.
CLOCKS = {"": time.perf_counter, ", processor time": time.process_time}


def seconds(kind, name, rounds, count=None, clock=""):
    """Return the seconds of each for a batch: {name: [one a round]}."""
    model = build(kind, name)
    x, y = samples(name, model, count)
    ours, tape, run = Saliency(model, batch_size=len(x)), by_hand(model, len(x)), forward(model)
    images = tf.constant(x)
    check_same({OURS: ours.explain(x, y), BY_HAND: tape(x, y)})
    calls = {
        FORWARD: lambda: run(images),
        OURS: lambda: ours.explain(x, y),
        BY_HAND: lambda: tape(x, y),
    }
    return in_turns(calls, rounds, warm_up=1, clock=CLOCKS[clock])


def measure(quick):
    """Yield a line for each network and Keras, by the clock and by the processor's."""
    for name in ["LSTM", "MLP"] if quick else NETWORKS:
        size = NETWORKS[name]
        for kind in KERASES:
            for clock in CLOCKS:
                found = fresh(seconds, kind, name=name, rounds=5 if quick else 9, clock=clock)
                relative = ratios(found, FORWARD)
                del relative[FORWARD]
                shape = "×".join(map(str, size.shape))
                what = f"`explain`: {name}, {size.count} samples {shape}{clock}"
                amount = statistics.median(found[FORWARD])
                yield Line(what, kind, "a forward pass", amount, "s", relative)
                if size.most is not None:
                    cost = relative[OURS]["ratio"]
                    yield Limit(f"a map of {name}, {kind}{clock}", cost, size.most, "passes")
