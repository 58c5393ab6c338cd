"""Pictures and models that the tests of the command line share."""

import importlib

import numpy as np
from PIL import Image


def write_pictures(folder, count, size=40, broken=()):
    """Write discs and squares into a folder for each; some files are no pictures."""
    rng = np.random.default_rng(0)
    for number in range(count):
        y, x = np.mgrid[:size, :size]
        cy, cx = rng.integers(size // 4, 3 * size // 4, 2)
        is_disc = number % 2
        near = (np.hypot(y - cy, x - cx) if is_disc else np.maximum(abs(y - cy), abs(x - cx))) < 8
        array = rng.normal(110, 14, (size, size, 3)) + near[..., None] * [90, 30, -40]
        path = folder / ("disc" if is_disc else "square") / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number in broken:
            path.write_bytes(b"\x89PNG\r\n but no picture")
        else:
            Image.fromarray(array.clip(0, 255).astype("uint8")).save(path)
    return sorted(folder.glob("*/*.png"))


def read_pictures(paths, size=32):
    """Return pictures as the command line prepares them for `--preprocess 0-1`."""
    images = [Image.open(path).resize((size, size), Image.Resampling.BILINEAR) for path in paths]
    return np.stack([np.asarray(image) for image in images]).astype("float32") / np.float32(255)


def make_model(keras_name="keras", size=32):
    keras = importlib.import_module(keras_name)
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.layers.Input((size, size, 3)),
            keras.layers.Conv2D(4, 3, activation="relu", name="features"),
            keras.layers.MaxPooling2D(4),
            keras.layers.Flatten(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
