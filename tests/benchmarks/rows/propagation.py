"""What propagation costs: LRP and DeepLIFT over a forward pass of the same images."""

import statistics

import tensorflow as tf
from contender import OURS, forward
from network import NETWORKS, prepared
from process import KERASES, fresh
from report import Limit, Line
from timing import in_turns, ratios

from xplique_sal import attributions

FORWARD = "forward"
#: What is measured: the explainer, its settings, and how many forward passes it may take.
METHODS = {
    '`LRP(rule="epsilon")`': ("LRP", {"rule": "epsilon"}, 3),
    '`LRP(rule="epsilon_plus")`': ("LRP", {"rule": "epsilon_plus"}, 6),
    '`LRP(rule="epsilon_plus_flat")`': ("LRP", {"rule": "epsilon_plus_flat"}, 6),
    '`LRP(rule="epsilon_alpha2_beta1")`': ("LRP", {"rule": "epsilon_alpha2_beta1"}, 6),
    '`LRP(rule="epsilon_gamma_box")`': (
        "LRP",
        {"rule": "epsilon_gamma_box", "input_range": (-124.0, 152.0)},
        6,
    ),
    "`DeepLift`, one baseline": ("DeepLift", {}, 5),
}


def seconds(kind, name, rounds, methods):
    """Return the seconds of each for a batch of images: {name: [one a round]}."""
    count = NETWORKS[name].count
    model, x = prepared(kind, name, count)
    run, images = forward(model), tf.constant(x)
    calls = {FORWARD: lambda: run(images)}
    for method in methods:
        explainer, settings, _ = METHODS[method]
        explain = getattr(attributions, explainer)(model, batch_size=count, **settings).explain
        calls[method] = lambda explain=explain: explain(x, 0)
    return in_turns(calls, rounds, warm_up=1)


def measure(quick):
    """Yield a line and a limit for each network, Keras and method.

    The two networks are the slow ones, whose layers are large, so that what is spent beside their
    convolutions does not count.
    """
    for name in ["ResNet50"] if quick else ["VGG16", "ResNet50"]:
        network = NETWORKS[name]
        for kind in ["Keras 3"] if quick else KERASES:
            rounds = 3 if quick else 5
            found = fresh(seconds, kind, name=name, rounds=rounds, methods=list(METHODS))
            relative = ratios(found, FORWARD)
            amount = statistics.median(found[FORWARD])
            for method, (_, _, most) in METHODS.items():
                what = f"{method}: {name}, {network.count} images {network.size}×{network.size}"
                ratio = relative[method]
                yield Line(what, kind, "a forward pass", amount, "s", {OURS: ratio})
                yield Limit(f"{method}: {name}, {kind}", ratio["ratio"], most, "passes")
