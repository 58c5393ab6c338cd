"""Handwritten digits in noise, and a small network that learns to read them."""

from __future__ import annotations

import importlib
import time
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
    datasets = require("sklearn.datasets")
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


class Network(NamedTuple):
    """A trained classifier with what it was trained and tested on.

    Attributes
    ----------
    model, untrained : keras.Model
        The network after and before training.
    train, test : Canvases
        The canvases.
    accuracy : float
        Share of the test canvases that are classified rightly.
    """

    model: Any
    untrained: Any
    train: Canvases
    test: Canvases
    accuracy: float


def trained_network(keras: ModuleType, seed: int = 0) -> Network:
    """Train a network on canvases, and print how long it took and how accurate it is.

    Parameters
    ----------
    keras : module
        ``tf_keras`` or ``keras``.
    seed : int
        Seed of data, weights and training.

    Returns
    -------
    Network
    """
    train_canvases, test_canvases = digit_canvases(seed)
    print(
        f"{keras.__name__} {keras.__version__}: training on {len(train_canvases.images)} canvases"
    )
    untrained, model = build_network(keras, seed), build_network(keras, seed)
    start = time.perf_counter()
    train(model, train_canvases)
    print(f"trained in {time.perf_counter() - start:.1f} s")
    predicted = model.predict(test_canvases.images, verbose=0).argmax(axis=-1)
    accuracy = float((predicted == test_canvases.labels).mean())
    print(f"test accuracy: {accuracy:.3f}")
    return Network(model, untrained, train_canvases, test_canvases, accuracy)


def require(module: str) -> ModuleType:
    """Return a module of the demo's extra.

    Raises
    ------
    SystemExit
        If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SystemExit(
            f"The demo needs {module.split('.')[0]}, which could not be imported ({error}). "
            'Install the demo\'s extra: pip install "xplique-sal[demo]"'
        ) from error
