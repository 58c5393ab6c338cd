"""Explain every family of models: ``python tests/zoo``; see the Makefile.

Of each model with random weights: the gradient of a score beside a plain tape of the same model in
float64, whether Grad-CAM finds its layer, and what the first and a further call take. With
``--write``, what was found is kept in ``results.json``, and ``docs/zoo.md`` is made of it.
"""

import argparse
import gc
import importlib
import json
import statistics
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
from families import BACKBONES, application, applications, backbone

from xplique_sal import GradCAM, Saliency
from xplique_sal.errors import XpliqueSalError

RESULTS = Path(__file__).with_name("results.json")
PAGE = Path(__file__).parents[2] / "docs" / "zoo.md"
START, END = "<!-- zoo: start -->", "<!-- zoo: end -->"
GROUPS = {"tf-keras": "tf_keras", "Keras 3": "keras", "keras-hub": "keras"}
#: How far a gradient may be from that in float64, of its largest value.
MOST = 1e-3
TARGET = 1


def build(keras, group, name):
    return (backbone if group == "keras-hub" else application)(keras, name)


def in_float64(keras, group, name, weights):
    """Return the same model with the same weights, in float64."""
    before = keras.backend.floatx()
    keras.backend.set_floatx("float64")
    keras.mixed_precision.set_global_policy("float64")
    try:
        twin, _ = build(keras, group, name)
    finally:
        keras.backend.set_floatx(before)
        keras.mixed_precision.set_global_policy(before)
    twin.set_weights([np.asarray(weight, "float64") for weight in weights])
    return twin


def table_of(model):
    """Return the layer that looks ids up, and its table."""
    for layer in model.layers:
        if hasattr(layer, "token_embedding"):
            inner = layer.token_embedding
            return f"{layer.name}/{inner.name}", inner.embeddings
        if "token" in layer.name and "embedding" in layer.name:
            return layer.name, layer.embeddings
    raise LookupError("no table of tokens")


def by_tape(model, inputs, dtype):
    """Return the gradient of a score to images, or to the vector of each id, by an eager tape."""
    if isinstance(inputs, np.ndarray) and inputs.dtype.kind == "f":
        x = tf.constant(inputs, dtype)
        with tf.GradientTape() as tape:
            tape.watch(x)
            score = tf.reduce_sum(model(x, training=False)[:, TARGET])
        return tape.gradient(score, x).numpy()
    _, table = table_of(model)
    several = isinstance(inputs, list)
    ids = next(i for i, part in enumerate(inputs) if part.max() > 1) if several else None
    rows = []
    for number in range(2):
        one = (
            [part[number : number + 1] for part in inputs]
            if several
            else inputs[number : number + 1]
        )
        with tf.GradientTape() as tape:
            score = model(one, training=False)[0, TARGET]
        gradient = tf.convert_to_tensor(tape.gradient(score, getattr(table, "_value", table)))
        rows.append(tf.gather(gradient, one[ids][0] if several else one[0]).numpy())
    return np.stack(rows)


def ours(model, inputs):
    options = {"grad_modifier": None, "reducer": None}
    if not (isinstance(inputs, np.ndarray) and inputs.dtype.kind == "f"):
        options["wrt_layer"], _ = table_of(model)
    elif isinstance(inputs, np.ndarray):
        inputs = inputs.astype("float32")
    explainer = Saliency(model, **options)
    seconds, found = [], None
    for _ in range(4):
        start = time.perf_counter()
        found = explainer.explain(inputs, TARGET).numpy()
        seconds.append(time.perf_counter() - start)
    return found, seconds[0], statistics.median(seconds[1:])


def cam(model, inputs):
    """Return what Grad-CAM says."""
    if not (isinstance(inputs, np.ndarray) and inputs.dtype.kind == "f"):
        return "no images"
    try:
        maps = GradCAM(model).explain(inputs.astype("float32"), TARGET)
        return "found" if np.isfinite(maps).all() else "not finite"
    except XpliqueSalError as error:
        return str(error).split(". ")[0].replace("|", "/")


def tried(group, name):
    """Return what was found of one model."""
    keras = importlib.import_module(GROUPS[group])
    keras.utils.set_random_seed(0)
    model, inputs = build(keras, group, name)
    found, first, further = ours(model, inputs)
    exact = by_tape(in_float64(keras, group, name, model.get_weights()), inputs, tf.float64)
    plain = by_tape(model, inputs, tf.float32)
    largest = np.abs(exact).max()
    row = {
        "group": group,
        "name": name,
        "error": float(np.abs(found - exact).max() / largest),
        "of a tape": float(np.abs(plain - exact).max() / largest),
        "cam": cam(model, inputs),
        "first": first,
        "further": further,
    }
    return row


def shown(row):
    if "failed" in row:
        return f"| {row['group']} | `{row['name']}` | {row['failed']} | | | | |"
    right = row["error"] <= max(MOST, 2 * row["of a tape"])
    verdict = "right" if row["error"] <= MOST else "as a tape in float32" if right else "**wrong**"
    if verdict == "as a tape in float32" and row["of a tape"] >= 1:
        verdict = "none in float32"
    numbers = f"{row['error']:.0e} | {row['of a tape']:.0e}"
    times = f"{row['first']:.1f} | {1000 * row['further']:.0f}"
    return f"| {row['group']} | `{row['name']}` | {verdict} | {numbers} | {row['cam']} | {times} |"


def write(rows):
    """Keep what was found, and make the table of the page."""
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    lines = [
        "| | model | gradient | error | of a tape in float32 | Grad-CAM's layer | first call, s "
        "| further, ms |",
        "|---|---|---|---:|---:|---|---:|---:|",
        *map(shown, rows),
    ]
    text = PAGE.read_text("utf-8")
    head, rest = text.split(START)
    _, tail = rest.split(END)
    PAGE.write_text(f"{head}{START}\n" + "\n".join(lines) + f"\n{END}{tail}", "utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="every application, not one a family")
    parser.add_argument("--groups", nargs="*", default=[*GROUPS], choices=[*GROUPS])
    parser.add_argument("--names", nargs="*", help="these models only")
    parser.add_argument("--write", action="store_true", help="keep what was found, and the page")
    options = parser.parse_args()
    known = {}
    if options.write and RESULTS.exists():
        known = {(row["group"], row["name"]): row for row in json.loads(RESULTS.read_text("utf-8"))}
    failed = False
    for group in options.groups:
        keras = importlib.import_module(GROUPS[group])
        names = [*BACKBONES] if group == "keras-hub" else applications(keras, options.all)
        for name in options.names or names:
            try:
                row = tried(group, name)
            except Exception as error:  # one model that fails hides no other
                reason = " ".join(str(error).split()).replace("|", "/")[:200]
                row = {"group": group, "name": name, "failed": f"{type(error).__name__}: {reason}"}
            print(shown(row), flush=True)
            failed |= "failed" in row or "**wrong**" in shown(row)
            known[group, name] = row
            if options.write:
                order = {group: number for number, group in enumerate(GROUPS)}
                write(sorted(known.values(), key=lambda row: (order[row["group"]], row["name"])))
            keras.backend.clear_session()
            gc.collect()
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
