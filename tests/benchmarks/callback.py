"""What `SaliencyCallback` costs a training: ``python tests/benchmarks/callback.py [2|3]``.

A small CNN is fitted for five epochs of 8,000 images of 28×28, alone and with maps of 16 samples
after every epoch, in turns. The first fit of each, which traces, is counted apart. On a machine
with other work, look at the CPU's time rather than the clock on the wall.
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
        measured = {name: [] for name in models}
        for _ in range(ROUNDS + 1):
            for name, (model, callbacks) in models.items():
                start, busy = time.perf_counter(), time.process_time()
                model.fit(x, y, epochs=EPOCHS, batch_size=64, verbose=0, callbacks=callbacks)
                taken = time.perf_counter() - start, time.process_time() - busy
                measured[name].append(taken)
    print(f"{keras.__name__}: {EPOCHS} epochs of 8,000 images, maps of 16 after every epoch")
    for clock, index in (("wall", 0), ("CPU", 1)):
        alone, beside = ([taken[index] for taken in measured[name]] for name in models)
        first = f"the first fit {alone[0]:.2f} s and {beside[0]:.2f} s"
        alone, beside = statistics.median(alone[1:]), statistics.median(beside[1:])
        print(f"{clock:4s}  alone {alone:.2f} s, with maps {beside:.2f} s, ", end="")
        print(f"ratio {beside / alone:.3f}; {first}")


if __name__ == "__main__":
    main()
