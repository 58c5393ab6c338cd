"""The image of each class that a digit classifier finds most like it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from demos.drawing import new_figure, save
from xplique_sal.demo.digits import CANVAS, trained_network
from xplique_sal.losses import TotalVariation
from xplique_sal.visualization import visualize_class

CLASSES = range(10)

FIELD = 20
"""The side of the field in the middle of the canvas that is drawn on: little more than a digit.

The network takes the largest response anywhere. On a whole canvas each of its units finds a place
of its own, and what is drawn is parts of a digit in several places.
"""


def start_image(seed: int = 0) -> np.ndarray:
    """Return noise to start from: at a black image this network has hardly a gradient.

    Its largest response to black is the same everywhere, and most of its units are off there.
    """
    noise = np.random.default_rng(seed).normal(size=(FIELD, FIELD, 1))
    return noise.astype(np.float32)


def on_canvas(images: np.ndarray) -> np.ndarray:
    """Return fields (N, 20, 20, 1) as canvases (N, 40, 40, 1), black around them."""
    margin = (CANVAS - FIELD) // 2
    return np.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)))


def class_images(keras: Any, model: Any, seed: int = 0, callback: Any = None) -> np.ndarray:
    """Return the field of each class, (10, 20, 20, 1).

    Parameters
    ----------
    keras : module
        The Keras of the model.
    model : keras.Model
        A trained network, as from `digits.trained_network`.
    seed : int
        Seed of the start and of the jitter.
    callback : callable, optional
        As in `visualize_class`.
    """
    field = keras.Input((FIELD, FIELD, 1))
    canvas = keras.layers.ZeroPadding2D((CANVAS - FIELD) // 2)(field)
    return visualize_class(
        keras.Model(field, model(canvas)),
        CLASSES,
        image=start_image(seed),
        l2=0.03,
        regularizers=[(TotalVariation(), 100.0)],
        value_range=(0.0, 1.2),
        jitter=2,
        seed=seed,
        callback=callback,
    )


def run(keras: Any, seed: int, output: str | Path) -> dict[str, float]:
    """Train, find the image of each class, write a picture, and print how each is classified.

    Returns
    -------
    dict
        ``p``, the smallest probability of an image's own class; ``start`` and ``end``, the smallest
        score before the softmax of an image's own class, at the start and of the result;
        ``gain``, the smallest difference of the two.
    """
    model = trained_network(keras, seed).model
    images = class_images(keras, model, seed)
    canvases = on_canvas(images)
    own = np.arange(10)
    probabilities = model.predict(canvases, verbose=0)[own, own]
    logits = keras.Sequential([*model.layers[:-1], _without_softmax(keras, model)])
    first = np.asarray(logits(on_canvas(start_image(seed)[np.newaxis])))[0]
    last = np.asarray(logits(canvases))[own, own]
    print("class  p(class)  score at the start  score of the image")
    for class_, row in enumerate(zip(probabilities, first, last, strict=True)):
        print(f"{class_:5d}  {row[0]:8.4f}  {row[1]:18.1f}  {row[2]:18.1f}")
    print(f"smallest probability: {probabilities.min():.4f}")
    print(f"picture: {save_picture(output, images)}")
    return {
        "p": float(probabilities.min()),
        "start": float(first.min()),
        "end": float(last.min()),
        "gain": float((last - first).min()),
    }


def _without_softmax(keras: Any, model: Any) -> Any:
    scores = keras.layers.Dense(10)
    scores.build(model.layers[-1].kernel.shape[:1])
    scores.set_weights(model.layers[-1].get_weights())
    return scores


def save_picture(path: str | Path, images: np.ndarray) -> Path:
    """Write one picture with the image of each class.

    Parameters
    ----------
    path : str or pathlib.Path
        The file to write; missing folders are made.
    images : numpy.ndarray
        (10, 20, 20, 1), shown between 0 (black) and 1.2 (white).

    Returns
    -------
    pathlib.Path
        The file that was written.
    """
    figure = new_figure(9, 3.9)
    for class_, axes in enumerate(figure.subplots(2, 5).ravel()):
        axes.imshow(images[class_, ..., 0], cmap="gray", vmin=0, vmax=1.2)
        axes.set_title(str(class_))
        axes.set_axis_off()
    return save(figure, path)
