"""A demo that measures whether the saliency of a digit classifier falls on the digit.

Run it with ``python -m xplique_sal.demo``. It pastes handwritten digits at random places into
canvases of noise, trains a small convolutional network on them, explains the test images, writes
one picture and measures how much of the saliency falls inside the digits' boxes. Nothing is
downloaded. The functions can be imported on their own.
"""

from __future__ import annotations

import argparse
import importlib
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

CANVAS = 40
"""Height and width of a canvas, in pixels."""

DIGIT = 16
"""Height and width of a digit inside its canvas, in pixels."""

NOISE = 0.2
"""Standard deviation of the canvas noise; digits are drawn with values in [0, 1]."""


class Canvases(NamedTuple):
    """Labelled images with the place of the object in each.

    Attributes
    ----------
    images : numpy.ndarray
        Shape (N, 40, 40, 1), float32.
    labels : numpy.ndarray
        Class of each image, shape (N,), integers in 0..9.
    boxes : numpy.ndarray
        ``top, left, bottom, right`` of each digit, shape (N, 4); bottom and right are excluded.
    """

    images: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray


def digit_canvases(
    seed: int = 0, train_copies: int = 4, test_share: float = 0.25, noise: float = NOISE
) -> tuple[Canvases, Canvases]:
    """Paste scikit-learn's handwritten digits into canvases of noise.

    Each 8×8 digit is enlarged to 16×16 and added at a random place to a 40×40 canvas of Gaussian
    noise. The digits of the test canvases are in no training canvas.

    Parameters
    ----------
    seed : int
        Seed of the split, the places and the noise.
    train_copies : int
        Canvases made from each training digit, each with its own place and noise.
    test_share : float
        Share of the digits that is kept for the test.
    noise : float
        Standard deviation of the noise.

    Returns
    -------
    tuple of Canvases
        The training and the test canvases.

    Raises
    ------
    SystemExit
        If scikit-learn is not installed.
    """
    datasets = _require("sklearn.datasets")
    digits, labels = datasets.load_digits(return_X_y=True)
    digits = digits.reshape(-1, 8, 8).astype(np.float32) / 16.0
    digits = digits.repeat(DIGIT // 8, axis=1).repeat(DIGIT // 8, axis=2)

    random = np.random.default_rng(seed)
    order = random.permutation(len(digits))
    nb_test = int(test_share * len(digits))
    test, train = order[:nb_test], np.tile(order[nb_test:], train_copies)
    random.shuffle(train)
    return (
        _paste(digits[train], labels[train], noise, random),
        _paste(digits[test], labels[test], noise, random),
    )


def _paste(
    digits: np.ndarray, labels: np.ndarray, noise: float, random: np.random.Generator
) -> Canvases:
    images = random.normal(0.0, noise, (len(digits), CANVAS, CANVAS)).astype(np.float32)
    corners = random.integers(0, CANVAS - DIGIT + 1, (len(digits), 2))
    for image, digit, (top, left) in zip(images, digits, corners, strict=True):
        image[top : top + DIGIT, left : left + DIGIT] += digit
    return Canvases(images[..., None], labels, np.hstack([corners, corners + DIGIT]))


def build_network(keras: ModuleType, seed: int = 0) -> Any:
    """Build a small convolutional classifier of canvases, ending in a softmax.

    Parameters
    ----------
    keras : module
        ``tf_keras`` or ``keras``.
    seed : int
        Seed of Python, NumPy and TensorFlow, set here so that weights and training repeat.

    Returns
    -------
    keras.Model
        An untrained, compiled model from (N, 40, 40, 1) to (N, 10).
    """
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((CANVAS, CANVAS, 1)),
            layers.Conv2D(16, 3, strides=2, activation="relu"),
            layers.Conv2D(32, 3, strides=2, activation="relu"),
            layers.Conv2D(64, 3, activation="relu"),
            layers.GlobalMaxPooling2D(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.Adam(2e-3),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def train(model: Any, canvases: Canvases, epochs: int = 8, batch_size: int = 64) -> Any:
    """Fit the model on the canvases.

    Parameters
    ----------
    model : keras.Model
        A compiled model, as from `build_network`.
    canvases : Canvases
        The training canvases.
    epochs, batch_size : int
        As in ``model.fit``.

    Returns
    -------
    keras.Model
        The same model, trained.
    """
    model.fit(canvases.images, canvases.labels, epochs=epochs, batch_size=batch_size, verbose=0)
    return model


def pointing_ratio(maps: Any, boxes: np.ndarray) -> float:
    """Energy-based pointing game, relative to chance.

    For each map m, the share of its energy that falls inside the box is divided by the box's share
    of the area, (Σ_box m / Σ m) / (|box| / (H·W)); the result is the mean over the maps.

    Parameters
    ----------
    maps : array_like
        Non-negative maps, shape (N, H, W) or (N, H, W, 1).
    boxes : array_like
        ``top, left, bottom, right`` for each map, shape (N, 4); bottom and right are excluded.

    Returns
    -------
    float
        1 for maps that ignore the boxes; at most the mean of H·W / area of the box.

    Raises
    ------
    ValueError
        If the shapes do not fit, or a map has negative values or is zero everywhere.

    References
    ----------
    Wang et al., "Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural
    Networks", 2020, section 4.3, defines the share inside the box.
    """
    maps = np.asarray(maps, dtype=np.float64)
    boxes = np.asarray(boxes)
    if maps.ndim == 4 and maps.shape[-1] == 1:
        maps = maps[..., 0]
    if maps.ndim != 3 or boxes.shape != (len(maps), 4):
        raise ValueError(
            "Expected maps of shape (N, H, W) or (N, H, W, 1) and boxes of shape (N, 4), "
            f"got {maps.shape} and {boxes.shape}."
        )
    totals = maps.sum(axis=(1, 2))
    if (maps < 0).any() or (totals <= 0).any():
        raise ValueError(
            "Expected non-negative maps, none of them zero everywhere: take absolute values first "
            "and leave out samples that are not explained."
        )
    ratios = []
    for image_map, total, (top, left, bottom, right) in zip(maps, totals, boxes, strict=True):
        area_share = (bottom - top) * (right - left) / image_map.size
        ratios.append(image_map[top:bottom, left:right].sum() / total / area_share)
    return float(np.mean(ratios))


def save_picture(path: str | Path, canvases: Canvases, maps: Any, nb_images: int = 8) -> Path:
    """Write one picture with images above their maps; red frames show the boxes.

    Parameters
    ----------
    path : str or pathlib.Path
        The file to write; missing folders are made.
    canvases : Canvases
        The explained images.
    maps : array_like
        Their maps, shape (N, 40, 40, 1). For display alone, each map is scaled by its own 99th
        percentile.
    nb_images : int
        Number of images shown, the first ones.

    Returns
    -------
    pathlib.Path
        The file that was written.

    Raises
    ------
    SystemExit
        If matplotlib is not installed.
    """
    figure_type = _require("matplotlib.figure").Figure
    rectangle_type = _require("matplotlib.patches").Rectangle
    maps = np.asarray(maps)[:nb_images, ..., 0]
    figure = figure_type(figsize=(1.5 * len(maps), 3.2), layout="constrained")
    rows = figure.subplots(2, len(maps), squeeze=False)
    for column, image_map in enumerate(maps):
        top, left, bottom, right = canvases.boxes[column]
        rows[0, column].imshow(canvases.images[column, ..., 0], cmap="gray", vmin=-0.4, vmax=1.2)
        rows[0, column].set_title(str(canvases.labels[column]))
        rows[1, column].imshow(image_map, cmap="inferno", vmax=np.percentile(image_map, 99))
        for axes in rows[:, column]:
            axes.set_axis_off()
            axes.add_patch(
                rectangle_type(
                    (left - 0.5, top - 0.5), right - left, bottom - top, fill=False, color="red"
                )
            )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)  # a bare Figure draws with Agg, whatever backend is configured
    return path


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Run the demo from the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Command-line arguments; ``sys.argv`` by default.

    Returns
    -------
    dict
        What was printed: ``accuracy`` and the pointing ratios ``trained``, ``untrained`` and
        ``random``.
    """
    parser = argparse.ArgumentParser(
        prog="python -m xplique_sal.demo", description="Saliency maps of digits in noise."
    )
    parser.add_argument("--keras", type=int, choices=(2, 3), default=2, help="Keras version")
    parser.add_argument("--output", default="demo.png", help="the picture to write")
    parser.add_argument("--seed", type=int, default=0, help="seed of data, weights and training")
    options = parser.parse_args(arguments)

    _require("matplotlib.figure")  # before the training, not after it
    from xplique_sal import Saliency

    keras = importlib.import_module("tf_keras" if options.keras == 2 else "keras")
    train_canvases, test_canvases = digit_canvases(options.seed)
    images, labels, boxes = test_canvases
    nb_train = len(train_canvases.images)
    print(f"{keras.__name__} {keras.__version__}: training on {nb_train} canvases")

    model = build_network(keras, options.seed)
    untrained_maps = Saliency(model, logits=True).explain(images, labels)
    start = time.perf_counter()
    train(model, train_canvases)
    print(f"trained in {time.perf_counter() - start:.1f} s")
    accuracy = float((model.predict(images, verbose=0).argmax(axis=-1) == labels).mean())
    print(f"test accuracy: {accuracy:.3f}")

    start = time.perf_counter()
    maps = Saliency(model, logits=True).explain(images, labels)
    print(f"explained {len(images)} images in {time.perf_counter() - start:.1f} s")
    random_maps = np.random.default_rng(options.seed).uniform(size=np.shape(maps))
    ratios = {
        "trained": pointing_ratio(maps, boxes),
        "untrained": pointing_ratio(untrained_maps, boxes),
        "random": pointing_ratio(random_maps, boxes),
    }
    print("share of saliency inside the digit's box / the box's share of the area:")
    print(f"  trained network    {ratios['trained']:.2f}")
    print(f"  untrained network  {ratios['untrained']:.2f}")
    print(f"  random maps        {ratios['random']:.2f}")
    print(f"picture: {save_picture(options.output, test_canvases, maps)}")
    return {"accuracy": accuracy, **ratios}


def _require(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SystemExit(
            f"The demo needs {module.split('.')[0]}, which could not be imported ({error}). "
            'Install the demo\'s extra: pip install "xplique-sal[demo]"'
        ) from error


if __name__ == "__main__":
    main()
