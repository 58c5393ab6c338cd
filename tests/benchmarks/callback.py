"""What `SaliencyCallback` costs a training: ``python tests/benchmarks/callback.py [2|3]``.

A small CNN is fitted for five epochs of 8,000 images of 28×28, alone and with maps of 16 samples
after every epoch, in turns. The first fit of each, which traces, is counted apart.
"""

import importlib
import statistics
import sys
import tempfile
import time

import numpy as np

from xplique_sal.callbacks import SaliencyCallback

EPOCHS, ROUNDS = 5, 5


def network(keras):
    """Return a compiled CNN."""
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, jit_compile=False)
    return model


def main():
    """Measure both, and print their ratio."""
    keras = importlib.import_module("keras" if sys.argv[1:] == ["3"] else "tf_keras")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8000, 28, 28, 1)).astype("float32"), rng.integers(0, 10, 8000)
    with tempfile.TemporaryDirectory() as folder:
        shown = SaliencyCallback(x[:16], y[:16], directory=folder, log_dir=f"{folder}/log")
        models = {"alone": (network(keras), []), "with maps": (network(keras), [shown])}
        first, seconds = {}, {name: [] for name in models}
        for turn in range(ROUNDS + 1):
            for name, (model, callbacks) in models.items():
                start = time.perf_counter()
                model.fit(x, y, epochs=EPOCHS, batch_size=64, verbose=0, callbacks=callbacks)
                elapsed = time.perf_counter() - start
                if turn:
                    seconds[name].append(elapsed)
                else:
                    first[name] = elapsed
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"{keras.__name__}: {EPOCHS} epochs of 8,000 images, maps of 16 after every epoch")
    for name, median in medians.items():
        print(f"{name:10s}  {median:6.2f} s   the first fit {first[name]:6.2f} s")
    ratios = [b / a for a, b in zip(seconds["alone"], seconds["with maps"], strict=True)]
    print(f"ratio {medians['with maps'] / medians['alone']:.3f}, ", end="")
    print(f"round by round {min(ratios):.3f} to {max(ratios):.3f}")


if __name__ == "__main__":
    main()
