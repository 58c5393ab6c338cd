"""How the time grows with what is asked for."""

import statistics

import numpy as np
from contender import BY_HAND, OURS, XPLIQUE, by_hand, xplique
from network import photographs, preprocessed, randomised
from process import fresh, keras_of
from timing import in_turns

from xplique_sal import Saliency

SIZE, COUNT, CLASSES = 96, 32, 20

#: What is varied, and over which values. What is not varied is 32 images of 96×96, 16 at a time.
VARIED = {
    "images": [16, 32, 64, 128, 256],
    "side of an image": [64, 96, 128, 160, 224],
    "batch size": [1, 2, 4, 8, 16, 32],
    "outputs": [1, 2, 5, 10, 20],
}


def seconds(kind, varied, values, rounds):
    """Return the median seconds of each, for each value: {name: [one a value]}."""
    keras = keras_of(kind)
    keras.utils.set_random_seed(0)
    make = keras.applications.MobileNetV2
    trunk = make(weights=None, include_top=False, pooling="avg", input_shape=(None, None, 3))
    model = keras.Sequential([trunk, keras.layers.Dense(CLASSES)])
    warm = preprocessed(kind, "MobileNetV2", photographs(SIZE, 16))
    model(warm)
    randomised(trunk, warm)
    found = {OURS: [], BY_HAND: [], XPLIQUE: []}
    for value in values:
        calls = _calls(kind, model, varied, value)
        for name, times in in_turns(calls, rounds, warm_up=1).items():
            found[name].append(statistics.median(times))
    return found


def _calls(kind, model, varied, value):
    count = {"images": value, "outputs": 16}.get(varied, COUNT)
    size = value if varied == "side of an image" else SIZE
    batch = value if varied == "batch size" else 16
    x = preprocessed(kind, "MobileNetV2", photographs(size, count))
    hot = np.eye(CLASSES, dtype="float32")
    ours, theirs = Saliency(model, batch_size=batch), xplique(model, batch)
    loop = by_hand(model, batch)
    if varied == "outputs":
        targets = [np.tile(hot[output], (count, 1)) for output in range(value)]
        return {
            OURS: lambda: ours.explain_outputs(x, range(value)),
            BY_HAND: lambda: [loop(x, y) for y in targets],
            XPLIQUE: lambda: [theirs.explain(x, y) for y in targets],
        }
    y = hot[np.arange(count) % CLASSES]
    return {
        OURS: lambda: ours.explain(x, y),
        BY_HAND: lambda: loop(x, y),
        XPLIQUE: lambda: theirs.explain(x, y),
    }


def measure(quick):
    """Yield the curves; not if it has to be quick."""
    if not quick:
        for varied, values in VARIED.items():
            found = fresh(seconds, "Keras 3", varied=varied, values=values, rounds=3)
            yield {"varied": varied, "values": values, "seconds": found}
