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


def start_image(seed: int = 0) -> np.ndarray:
    """Return noise to start from: at a black image this network has hardly a gradient.

    Its largest response to black is the same everywhere, and most of its units are off there.
    """
    noise = np.random.default_rng(seed).normal(size=(CANVAS, CANVAS, 1))
    return noise.astype(np.float32)


def class_images(model: Any, seed: int = 0, callback: Any = None) -> np.ndarray:
    """Return the image of each class, (10, 40, 40, 1).

    Parameters
    ----------
    model : keras.Model
        A trained network, as from `digits.trained_network`.
    seed : int
        Seed of the start and of the jitter.
    callback : callable, optional
        As in `visualize_class`.
    """
    return visualize_class(
        model,
        CLASSES,
        image=start_image(seed),
        l2=0.03,
        regularizers=[(TotalVariation(), 400.0)],
        value_range=(-0.4, 1.2),
        jitter=1,
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
    images = class_images(model, seed)
    own = np.arange(10)
    probabilities = model.predict(images, verbose=0)[own, own]
    logits = keras.Sequential([*model.layers[:-1], _without_softmax(keras, model)])
    first = np.asarray(logits(start_image(seed)[np.newaxis]))[0]
    last = np.asarray(logits(images))[own, own]
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
        (10, 40, 40, 1), shown between -0.4 (black) and 1.2 (white).

    Returns
    -------
    pathlib.Path
        The file that was written.
    """
    figure = new_figure(9, 3.9)
    for class_, axes in enumerate(figure.subplots(2, 5).ravel()):
        axes.imshow(images[class_, ..., 0], cmap="gray", vmin=-0.4, vmax=1.2)
        axes.set_title(str(class_))
        axes.set_axis_off()
    return save(figure, path)
