"""What increases, decreases and maintains the steering angle that a network regresses.

A road is a bright line on a dark image. It starts at the bottom and bends to the left or to the
right; how far, is the steering angle, from -1 to 1.
"""

from __future__ import annotations

import time
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from demos.drawing import new_figure, save
from xplique_sal import Saliency
from xplique_sal.grad_modifiers import compose

SIZE = 32
"""Height and width of an image, in pixels."""

NEAR = 3
"""A pixel is near the road up to this distance along its row, in pixels."""

UNSEEN = 1e6
"""A reciprocal gradient above this is that of a pixel that the network does not see."""

MODIFIERS: dict[str, Any] = {
    "increase": "relu",
    "decrease": compose("negate", "relu"),
    "maintain": "small_values",
}
"""What each map shows, with its gradient modifier."""


class Roads(NamedTuple):
    """Images of roads with their steering angles.

    Attributes
    ----------
    images : numpy.ndarray
        (N, 32, 32, 1), float32.
    angles : numpy.ndarray
        (N,), from -1 (left) to 1 (right).
    columns : numpy.ndarray
        Where the road is in each row, (N, 32), in pixels.
    """

    images: np.ndarray
    angles: np.ndarray
    columns: np.ndarray


def roads(count: int, seed: int = 0) -> Roads:
    """Draw roads with random angles and places, and a little noise.

    Parameters
    ----------
    count : int
        How many.
    seed : int
        Seed of angles, places and noise.
    """
    random = np.random.default_rng(seed)
    angles = random.uniform(-1, 1, count).astype(np.float32)
    places = random.uniform(SIZE * 0.42, SIZE * 0.58, (count, 1))
    ahead = 1 - np.arange(SIZE) / (SIZE - 1)  # 1 at the top, 0 at the bottom
    columns = places + 0.35 * SIZE * angles[:, None] * ahead**2
    distance = np.arange(SIZE) - columns[..., None]
    images = np.exp(-np.square(distance) / 2) + random.normal(0, 0.05, (count, SIZE, SIZE))
    return Roads(images[..., None].astype(np.float32), angles, columns)


def train(keras: ModuleType, data: Roads, seed: int = 0, epochs: int = 10) -> Any:
    """Return a network that was trained to tell the angle of a road.

    Parameters
    ----------
    keras : module
        ``tf_keras`` or ``keras``.
    data : Roads
        What it is trained on.
    seed, epochs : int
        Seed of weights and training, and its length.
    """
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 1)),
            keras.layers.Conv2D(8, 5, strides=2, activation="relu"),
            keras.layers.Conv2D(16, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(1, name="angle"),
        ]
    )
    model.compile(keras.optimizers.Adam(2e-3), "mse")
    model.fit(data.images, data.angles, epochs=epochs, batch_size=64, verbose=0)
    return model


def maps_of_angle(model: Any, images: np.ndarray) -> dict[str, np.ndarray]:
    """Return the map (N, 32, 32) of what increases, decreases and maintains the angle."""
    return {
        name: np.asarray(Saliency(model, grad_modifier=modifier).explain(images))[..., 0]
        for name, modifier in MODIFIERS.items()
    }


def share_on_the_right(maps: np.ndarray, columns: np.ndarray) -> tuple[float, float]:
    """Return how much of the maps is to the right of the road, far ahead and close by.

    Parameters
    ----------
    maps : numpy.ndarray
        Non-negative maps (N, 32, 32).
    columns : numpy.ndarray
        Where the road is in each row, (N, 32).

    Returns
    -------
    tuple of float
        The share in the upper half of the images, and in the lower half.
    """
    right = np.where(np.arange(SIZE) > columns[..., None], maps, 0)
    far, close = slice(0, SIZE // 2), slice(SIZE // 2, SIZE)
    shares = [float(right[:, half].sum() / maps[:, half].sum()) for half in (far, close)]
    return shares[0], shares[1]


def near_over_elsewhere(maps: np.ndarray, columns: np.ndarray) -> float:
    """Return the median value within `NEAR` pixels of the road over the median of the others."""
    near = np.abs(np.arange(SIZE) - columns[..., None]) <= NEAR
    return float(np.median(maps[near]) / np.median(maps[~near]))


def run(keras: Any, seed: int, output: str | Path) -> dict[str, float]:
    """Train, explain new roads, write a picture, and print where each map lies.

    Returns
    -------
    dict
        ``error``, the mean absolute error of the angle; the `share_on_the_right` of
        ``increase_far``, ``increase_close``, ``decrease_far`` and ``decrease_close``; and
        ``maintain``, `near_over_elsewhere`.
    """
    test = roads(500, seed + 1000)
    start = time.perf_counter()
    model = train(keras, roads(4000, seed), seed)
    error = np.abs(model.predict(test.images, verbose=0)[:, 0] - test.angles).mean()
    print(f"{keras.__name__} {keras.__version__}: trained in {time.perf_counter() - start:.1f} s")
    print(f"mean absolute error of the angle, which is between -1 and 1: {error:.3f}")
    figures = {"error": float(error)}
    maps = maps_of_angle(model, test.images)
    print("share of the map to the right of the road:  far ahead  close by")
    for name in ("increase", "decrease"):
        far, close = share_on_the_right(maps[name], test.columns)
        print(f"  {name:39s}  {far:10.2f}  {close:8.2f}")
        figures |= {f"{name}_far": far, f"{name}_close": close}
    figures["maintain"] = near_over_elsewhere(maps["maintain"], test.columns)
    print(f"maintain, near the road over elsewhere (medians): {figures['maintain']:.2f}")
    print(f"picture: {save_picture(output, test, maps)}")
    return figures


def save_picture(path: str | Path, data: Roads, maps: dict[str, np.ndarray]) -> Path:
    """Write one picture with a left, a straight and a right road beside their three maps.

    Parameters
    ----------
    path : str or pathlib.Path
        The file to write; missing folders are made.
    data : Roads
        The explained roads.
    maps : dict
        Their maps by name; each is shown up to its own 99th percentile, and the reciprocal
        gradients of ``maintain`` by their logarithm. Pixels without any gradient, which would
        outshine the others, are left out of the percentiles.

    Returns
    -------
    pathlib.Path
        The file that was written.
    """
    chosen = [int(np.abs(data.angles - angle).argmin()) for angle in (-0.7, 0.0, 0.7)]
    figure = new_figure(8, 6.4)
    for row, sample in zip(figure.subplots(3, 1 + len(maps)), chosen, strict=True):
        row[0].imshow(data.images[sample, ..., 0], cmap="gray")
        row[0].set_title(f"angle {data.angles[sample]:.2f}")
        for axes, (name, values) in zip(row[1:], maps.items(), strict=True):
            shown = np.log(values[sample]) if name == "maintain" else values[sample]
            limits = np.percentile(shown[values[sample] < UNSEEN], (1, 99))
            axes.imshow(shown, cmap="inferno", vmin=limits[0], vmax=limits[1])
            axes.plot(data.columns[sample], np.arange(SIZE), color="cyan", lw=0.8)
            axes.set_title(name)
        for axes in row:
            axes.set_axis_off()
    return save(figure, path)
