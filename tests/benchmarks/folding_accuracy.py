"""How accurate gradients are with folding: ``python tests/benchmarks/folding_accuracy.py``.

Folding batch normalisation, and computing other layers in a cheaper way, is the same function in
another order, so that it rounds otherwise. At the kink of a rectifier and at the tie of a pooling,
rounding decides which way a gradient goes: of one image the error can be a thousand times larger,
or smaller. So it is judged over many images, against float64, beside a plain tape:

- the median error is at most 1.25 times that of the tape;
- no more images have an error above 1e-4 than of the tape, within the error of counting.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from network import NETWORKS, build, prepared
from process import KERASES, fresh, keras_of
from report import environment, replaced, summary

from xplique_sal import Saliency

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
LARGE, MOST, BATCH = 1e-4, 1.25, 16


def in_float64(kind, name, size, model):
    """Return a network with the same weights that computes in float64."""
    keras = keras_of(kind)
    before = keras.backend.floatx()
    keras.backend.set_floatx("float64")
    keras.mixed_precision.set_global_policy("float64")
    try:
        twin = build(kind, name, size)
    finally:
        keras.backend.set_floatx(before)
        keras.mixed_precision.set_global_policy(before)
    twin.set_weights([np.asarray(weights, "float64") for weights in model.get_weights()])
    narrow = [layer.name for layer in twin.layers if layer.compute_dtype != "float64"]
    assert not narrow, f"not in float64: {narrow}"
    return twin


def gradients(model, x, y):
    """Return the gradient of the chosen outputs, by a plain tape."""

    @tf.function
    def gradient(x, y):
        with tf.GradientTape() as tape:
            tape.watch(x)
            score = tf.reduce_sum(model(x, training=False) * y)
        return tape.gradient(score, x)

    found = [gradient(x[i : i + BATCH], y[i : i + BATCH]) for i in range(0, len(x), BATCH)]
    return np.concatenate([part.numpy() for part in found])


def errors(kind, name, size, count):
    """Return the relative errors of each image: {way: [‖g − g64‖ ÷ ‖g64‖]}."""
    model, x = prepared(kind, name, count, size)
    classes = np.random.default_rng(1).integers(0, model.output_shape[-1], count)
    y = np.eye(model.output_shape[-1])[classes]
    explainer = Saliency(model, batch_size=BATCH, reducer=None, grad_modifier=None)
    maps = {
        "tape": gradients(model, x, y.astype("float32")),
        "ours": explainer.explain(x, classes),
    }
    exact = gradients(in_float64(kind, name, size, model), x.astype("float64"), y)
    assert exact.dtype == "float64"
    axes = (1, 2, 3)
    norm = np.sqrt((exact**2).sum(axes))
    assert norm.min() > 0
    return {
        way: (np.sqrt(((np.asarray(found, "float64") - exact) ** 2).sum(axes)) / norm).tolist()
        for way, found in maps.items()
    }


class Verdict(NamedTuple):
    """What is said of one network.

    Attributes
    ----------
    median, share
        The median error and the share of large ones: {way: number}.
    rounding
        The ratio of the median errors over the images where neither way's error is large; ``None``
        if there is no such image.
    is_as_accurate
        Whether ours is as accurate.
    """

    median: dict
    share: dict
    rounding: float | None
    is_as_accurate: bool


def judge(found):
    """Return the verdict on what `errors` returned.

    The images are the same, so that counts are compared by those images that are large in one way
    only: of n such, the difference is 0 ± √n if both ways are alike, and up to twice that passes.
    """
    each = {way: np.asarray(values) for way, values in found.items()}
    median = {way: float(np.median(values)) for way, values in each.items()}
    large = {way: values > LARGE for way, values in each.items()}
    share = {way: float(values.mean()) for way, values in large.items()}
    worse = int((large["ours"] & ~large["tape"]).sum())
    better = int((large["tape"] & ~large["ours"]).sum())
    no_larger = worse - better <= 2 * np.sqrt(worse + better)
    neither = ~(large["ours"] | large["tape"])
    rounding = None
    if neither.any():
        rounding = float(np.median(each["ours"][neither]) / np.median(each["tape"][neither]))
    as_accurate = bool(no_larger and median["ours"] <= MOST * median["tape"])
    return Verdict(median, share, rounding, as_accurate)


def row(name, kind, size, verdict):
    """Return one line of the table, as cells."""
    ways = ("tape", "ours")
    medians = [f"{verdict.median[way]:.1e}" for way in ways]
    shares = [f"{verdict.share[way]:.0%}" for way in ways]
    rounding = "" if verdict.rounding is None else f"{verdict.rounding:.2f}"
    ratio = f"{verdict.median['ours'] / verdict.median['tape']:.2f}"
    held = "yes" if verdict.is_as_accurate else "**no**"
    return [f"{name}, {size}×{size}", kind, *medians, ratio, *shares, rounding, held]


HEADINGS = [
    *("network", "Keras", "median error of a tape", "ours", "ratio"),
    *("errors above 1e-4 of a tape", "ours"),
    "ratio of the others",
    "as accurate",
]


def main():
    """Measure every network on both Kerases, and fail where ours is less accurate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--size", type=int, help="the side of the images, for all networks")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--output", type=Path, help="a JSON file for every error")
    parser.add_argument("--write", action="store_true", help="put the table into the documentation")
    asked = parser.parse_args()
    rows, verdicts, found = [HEADINGS, ["---"] * 2 + ["---:"] * 6 + ["---"]], [], []
    surroundings = environment()
    for name in asked.networks:
        size = asked.size or NETWORKS[name].small
        for kind in KERASES:
            each = fresh(errors, kind, name=name, size=size, count=asked.images)
            found.append({"network": name, "kind": kind, "size": size, "errors": each})
            verdicts.append(judge(each))
            rows.append(row(name, kind, size, verdicts[-1]))
            print(" ", *rows[-1], sep="  ", file=sys.stderr, flush=True)
            if asked.output:
                record = {"environment": surroundings, "found": found}
                asked.output.write_text(json.dumps(record, indent=1) + "\n")
    lines = "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
    text = f"{summary(surroundings)} {asked.images} images for each network.\n\n{lines}"
    print(text)
    if asked.write:
        PAGE.write_text(replaced(PAGE.read_text("utf-8"), "accuracy", text), "utf-8")
    return 1 if not all(verdict.is_as_accurate for verdict in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
