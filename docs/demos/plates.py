"""Plates with a digit at one end: objects whose class is written on a small part of them.

Every pixel of a plate belongs to the class of its digit, so that a network has to look away from
the blank end of a plate to tell its class. That is what a saliency map has to show.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from xplique_sal import Saliency
from xplique_sal.demo.digits import require

SIZE = 48
"""Height and width of an image, in pixels."""

HEIGHT = 16
"""Height of a plate, and height and width of its digit, in pixels."""

WIDTHS = (32, 40)
"""The smallest and the largest width of a plate, in pixels."""

COUNT = 2000
"""How many images a network is trained on."""

BATCH = 32
"""Images in a training batch."""

CLASSES = 5
"""The plates have digits from 0 to 4."""

_GREY, _NOISE, _GAP = 0.4, 0.1, 4


class Plates(NamedTuple):
    """Images with two plates each, of different classes.

    Attributes
    ----------
    images : numpy.ndarray
        (N, 48, 48, 1), float32.
    digits : numpy.ndarray
        The digit of each plate, (N, 2), integers in 0..4.
    boxes : numpy.ndarray
        The plates, (N, 2, 4): x1, y1, x2, y2 in pixels; x2 and y2 are excluded.
    digit_boxes : numpy.ndarray
        The digits, likewise.
    """

    images: np.ndarray
    digits: np.ndarray
    boxes: np.ndarray
    digit_boxes: np.ndarray


def plates(seed: int = 0, count: int = COUNT, test_count: int = 400) -> tuple[Plates, Plates]:
    """Draw plates at random places, one above the other, with scikit-learn's handwritten digits.

    A digit is at the left or at the right end of its plate. The digits of the test images are in
    no training image.

    Parameters
    ----------
    seed : int
        Seed of the split, the places and the noise.
    count, test_count : int
        The number of training and test images.

    Returns
    -------
    tuple of Plates
        The training and the test images.

    Raises
    ------
    SystemExit
        If scikit-learn is not installed.
    """
    digits, labels = require("sklearn.datasets").load_digits(return_X_y=True)
    digits, labels = digits[labels < CLASSES], labels[labels < CLASSES]
    digits = digits.reshape(-1, 8, 8).astype(np.float32) / 16.0
    digits = digits.repeat(HEIGHT // 8, axis=1).repeat(HEIGHT // 8, axis=2)
    random = np.random.default_rng(seed)
    order = random.permutation(len(digits))
    test, train = np.split(order, [len(order) // 4])
    return (
        _draw(digits[train], labels[train], count, random),
        _draw(digits[test], labels[test], test_count, random),
    )


def _draw(
    digits: np.ndarray, labels: np.ndarray, count: int, random: np.random.Generator
) -> Plates:
    images = random.normal(0.0, _NOISE, (count, SIZE, SIZE)).astype(np.float32)
    chosen = np.array([_two_classes(labels, random) for _ in images])
    boxes, digit_boxes = np.zeros((2, count, 2, 4), int)
    for image, pair, of_plates, of_digits in zip(images, chosen, boxes, digit_boxes, strict=True):
        upper = random.integers(0, SIZE - 2 * HEIGHT - _GAP + 1)
        lower = random.integers(upper + HEIGHT + _GAP, SIZE - HEIGHT + 1)
        for plate, top in enumerate(random.permutation(np.array([upper, lower]))):
            width = random.integers(WIDTHS[0], WIDTHS[1] + 1)
            left = random.integers(0, SIZE - width + 1)
            start = left + random.integers(0, 2) * (width - HEIGHT)
            bottom = top + HEIGHT
            image[top:bottom, left : left + width] += _GREY
            image[top:bottom, start : start + HEIGHT] += digits[pair[plate]]
            of_plates[plate] = left, top, left + width, bottom
            of_digits[plate] = start, top, start + HEIGHT, bottom
    return Plates(images[..., None], labels[chosen], boxes, digit_boxes)


def untouched(data: Plates, plate: int) -> np.ndarray:
    """Return which pixels of a plate are more than 4 pixels from its digit, (N, 48, 48)."""
    return masks(data.boxes[:, plate]) & ~masks(data.digit_boxes[:, plate], 4)


def one_of_each(data: Plates) -> np.ndarray:
    """Return the index of the first image in which the first plate has each digit, (5,)."""
    return np.array([np.argmax(data.digits[:, 0] == digit) for digit in range(CLASSES)])


def _two_classes(labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return the indices of two digits of different classes."""
    while True:
        pair = random.integers(0, len(labels), 2)
        if labels[pair[0]] != labels[pair[1]]:
            return pair


def masks(boxes: np.ndarray, margin: int = 0) -> np.ndarray:
    """Return which pixels of an image lie in boxes (N, 4), widened by a margin: (N, 48, 48)."""
    x1, y1, x2, y2 = (boxes + margin * np.array([-1, -1, 1, 1])).T[..., None]
    pixels = np.arange(SIZE)
    rows, columns = (pixels >= y1) & (pixels < y2), (pixels >= x1) & (pixels < x2)
    return rows[:, :, None] & columns[:, None, :]


def share(maps: np.ndarray, where: np.ndarray) -> float:
    """Return how much of each map lies in a mask of its own, on average.

    Parameters
    ----------
    maps : numpy.ndarray
        Non-negative maps, (N, 48, 48), none of them zero everywhere.
    where : numpy.ndarray
        Booleans of the same shape.

    Returns
    -------
    float
        Between 0 and 1; for maps that are the same everywhere, the share of the area.
    """
    return float(((maps * where).sum((1, 2)) / maps.sum((1, 2))).mean())


def convolution(keras: ModuleType, x: Any, filters: int) -> Any:
    """Return a layer's 3×3 convolution of a tensor, normalised over the batch, after a ReLU."""
    layers = keras.layers
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))


def compiled(keras: ModuleType, model: Any, loss: Any, steps: int) -> Any:
    """Return a model ready to be trained, with a learning rate that falls to zero in some steps."""
    rate = keras.optimizers.schedules.CosineDecay(4e-3, steps)
    model.compile(keras.optimizers.Adam(rate), loss)
    return model


def trained(
    keras: ModuleType, build: Callable[..., Any], seed: int, images: Any, truth: Any, epochs: int
) -> tuple[Any, Any]:
    """Return a network before and after training, and print how long that took.

    Parameters
    ----------
    keras : module
        ``tf_keras`` or ``keras``.
    build : callable
        ``build(keras, seed)`` returns the compiled network.
    seed : int
        Seed of weights and training.
    images, truth
        What it is trained on, and what it shall say of it.
    epochs : int
        How long it is trained, in batches of `BATCH` images.
    """
    untrained, model = build(keras, seed), build(keras, seed)
    start = time.perf_counter()
    model.fit(images, truth, epochs=epochs, batch_size=BATCH, verbose=0)
    print(f"{keras.__name__} {keras.__version__}: trained in {time.perf_counter() - start:.1f} s")
    return untrained, model


def compared_maps(
    model: Any, untrained: Any, images: np.ndarray, target: Any, seed: int, **options: Any
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the saliency maps of a target, and those that they have to differ from.

    Parameters
    ----------
    model, untrained : keras.Model
        The network that is explained, and the same before training.
    images : numpy.ndarray
        (N, 48, 48, 1).
    target
        What is explained of each image.
    seed : int
        Seed of the random maps.
    **options
        Those of `Saliency`.

    Yields
    ------
    tuple of str and numpy.ndarray
        ``"trained"``, ``"untrained"`` and ``"random"`` with their maps (N, 48, 48).
    """
    for name, network in (("trained", model), ("untrained", untrained)):
        yield name, np.asarray(Saliency(network, **options).explain(images, target))[..., 0]
    yield "random", np.random.default_rng(seed).uniform(size=images.shape[:3])
