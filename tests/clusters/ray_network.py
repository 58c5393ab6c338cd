"""What actors and drivers of the tests make: a network of fixed weights, and digits."""

import numpy as np
from sklearn.datasets import load_digits


def digits(count):
    """Digits one after the other, again and again, with noise that makes each its own."""
    images = load_digits().images[..., None].astype("float32") / 16
    noise = np.random.default_rng(0).normal(0, 0.05, (count, 8, 8, 1)).astype("float32")
    return images[np.arange(count) % len(images)] + noise


def factory():
    import tf_keras as keras

    import xplique_sal

    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Input((8, 8, 1)),
        keras.layers.Conv2D(8, 3, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(10, activation="softmax"),
    ]
    return xplique_sal.SmoothGrad(keras.Sequential(layers), logits=True, nb_samples=4, seed=1)


def slow_factory():
    """An explainer that can be killed while it works, and says where it does."""
    import os
    import time

    explainer = factory()
    inner, folder = explainer._told, os.environ.get("PIDS")

    def told(x, y=None, first=0):
        if folder:
            open(os.path.join(folder, str(os.getpid())), "w").close()
        time.sleep(0.25)
        return inner(x, y, first=first)

    vars(explainer)["_told"] = told
    return explainer
