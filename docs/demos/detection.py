"""What a box and its class depend on: the plate, and the digit on it."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import tensorflow as tf
from scipy.ndimage import gaussian_filter

from demos.drawing import Row, save_rows
from demos.plates import (
    BATCH,
    CLASSES,
    COUNT,
    SIZE,
    Plates,
    compared_maps,
    compiled,
    convolution,
    masks,
    one_of_each,
    plates,
    share,
    trained,
)
from xplique_sal.detection import box_targets
from xplique_sal.localization import intersection_over_union

STRIDE = 8
"""Height and width of a cell, each of which predicts one box, in pixels."""

GRID = SIZE // STRIDE
"""Cells in a row and in a column."""

EDGE = 3
"""Pixels around a plate that count as the plate: its box depends on its edges, from both sides."""

SMOOTH = 1.5
"""Standard deviation by which maps are smoothed in the picture, in pixels."""

EPOCHS = 10
STEPS = EPOCHS * -(-COUNT // BATCH)
"""Training steps, over which the learning rate falls to zero."""


def decoding_layer(keras: ModuleType) -> Any:
    """Return a layer from a grid of numbers to boxes (N, 36, 4 + 1 + 5), in pixels.

    For each cell: where in the cell the centre of its box is, the size of the box, how likely
    there is one, and of which class it is.
    """

    class Decoding(keras.layers.Layer):  # type: ignore[name-defined]
        def call(self, x: tf.Tensor) -> tf.Tensor:
            cells = tf.range(GRID * GRID)
            corners = tf.cast(tf.stack([cells % GRID, cells // GRID], axis=-1), x.dtype)
            x = tf.reshape(x, (-1, GRID * GRID, 4 + 1 + CLASSES))
            centres = STRIDE * (corners + tf.sigmoid(x[..., :2]))
            half = SIZE / 2 * tf.sigmoid(x[..., 2:4])
            objectness, classes = tf.sigmoid(x[..., 4:5]), tf.nn.softmax(x[..., 5:])
            return tf.concat([centres - half, centres + half, objectness, classes], axis=-1)

    return Decoding()


def build_network(keras: ModuleType, seed: int = 0) -> Any:
    """Build a small one-stage detector, with one box for each cell of a grid.

    Parameters
    ----------
    keras : module
        ``tf_keras`` or ``keras``.
    seed : int
        Seed of Python, NumPy and TensorFlow, set here so that weights and training repeat.

    Returns
    -------
    keras.Model
        An untrained, compiled model from (N, 48, 48, 1) to (N, 36, 10): x1, y1, x2, y2 in pixels,
        objectness, and a softmax of the classes.
    """
    keras.utils.set_random_seed(seed)
    layers = keras.layers

    x = inputs = keras.Input((SIZE, SIZE, 1))
    for filters in (12, 24, 48):
        x = layers.AveragePooling2D(2)(convolution(keras, x, filters))
    for _ in range(3):
        x = convolution(keras, x, 64)
    outputs = decoding_layer(keras)(layers.Conv2D(4 + 1 + CLASSES, 1)(x))
    model = keras.Model(inputs, outputs)
    return compiled(keras, model, _loss, STEPS)


def _loss(truth: tf.Tensor, predicted: tf.Tensor) -> tf.Tensor:
    """Return the loss of each cell (N, 36): of its objectness, and of the box and class in it."""
    object_there, found = truth[..., 4], tf.clip_by_value(predicted[..., 4], 1e-6, 1 - 1e-6)
    objectness = -tf.where(object_there > 0, tf.math.log(found), tf.math.log(1 - found))
    box = tf.reduce_sum(tf.abs(truth[..., :4] - predicted[..., :4]), axis=-1) / SIZE
    probability = tf.reduce_sum(truth[..., 5:] * predicted[..., 5:], axis=-1)
    return objectness + object_there * (box - tf.math.log(probability + 1e-7))


def cell_targets(data: Plates) -> np.ndarray:
    """Return what each cell shall predict, (N, 36, 10): a plate, if its centre is in the cell."""
    cells = np.zeros((len(data.images), GRID * GRID, 4 + 1 + CLASSES), np.float32)
    rows = box_targets(data.boxes, data.digits, num_classes=CLASSES)
    columns, lines = ((rows[..., :2] + rows[..., 2:4]) // (2 * STRIDE)).astype(int).T
    cells[np.arange(len(cells))[:, None], (lines * GRID + columns).T] = rows
    return cells


def best_rows(predictions: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return which row of f(x) overlaps a box most, among those with an objectness above 0.5.

    Parameters
    ----------
    predictions : numpy.ndarray
        (N, 36, 10).
    boxes : numpy.ndarray
        One box for each image, (N, 4).
    """
    overlaps = intersection_over_union(predictions[..., :4], boxes[:, None])
    return (overlaps * (predictions[..., 4] > 0.5)).argmax(-1)


def run(keras: Any, seed: int, output: str | Path) -> dict[str, float]:
    """Train, explain a plate in each test image, write a picture, and print where the maps lie.

    Returns
    -------
    dict
        ``found``, the share of plates that are detected; and the share of the maps of a detection,
        of its ``position`` and of its ``class`` on the ``plate``, on its ``digit`` and on the
        ``other`` plate, for the ``trained`` and the ``untrained`` network and for
        ``random`` maps: ``class_digit_trained``, ….
    """
    train, test = plates(seed)
    untrained, model = trained(
        keras, build_network, seed, train.images, cell_targets(train), EPOCHS
    )

    predictions = model.predict(test.images, verbose=0)
    rows = best_rows(predictions, test.boxes[:, 0])
    chosen = predictions[np.arange(len(rows)), rows]
    found = intersection_over_union(chosen[:, :4], test.boxes[:, 0]) >= 0.5
    found &= (chosen[:, 4] > 0.5) & (chosen[:, 5:].argmax(-1) == test.digits[:, 0])
    figures = {"found": float(found.mean())}
    print(f"plates found, by an IoU >= 0.5 and the right class: {figures['found']:.3f}")

    shown = Plates(*(part[found] for part in test))
    boxes = box_targets(shown.boxes[:, :1], shown.digits[:, :1], num_classes=CLASSES)
    scores = np.zeros((len(boxes), *predictions.shape[1:]), np.float32)
    scores[np.arange(len(boxes)), rows[found], 5 + shown.digits[:, 0]] = 1
    explained = {
        "detection": ("object detection", boxes),
        "position": ("object detection box position", boxes),
        "class": (None, scores),
    }
    places = {
        "plate": masks(shown.boxes[:, 0], EDGE),
        "digit": masks(shown.digit_boxes[:, 0]),
        "other": masks(shown.boxes[:, 1]),
    }
    areas = ",".join(f" {mask.mean():.3f}" for mask in places.values())
    print(f"share of the map on the plate, on its digit, on the other plate (of the area:{areas})")
    all_maps = {}
    for what, (operator, target) in explained.items():
        for name, maps in compared_maps(
            model, untrained, shown.images, target, seed, operator=operator
        ):
            all_maps[f"{what}_{name}"] = maps
            shares = {place: share(maps, mask) for place, mask in places.items()}
            figures |= {f"{what}_{place}_{name}": value for place, value in shares.items()}
            line = "".join(f"{value:9.3f}" for value in shares.values())
            print(f"  {what:10s} {name:10s}{line}")
    print(f"picture: {save_picture(output, shown, chosen[found], all_maps)}")
    return figures


def save_picture(
    path: str | Path,
    data: Plates,
    detected: np.ndarray,
    maps: dict[str, np.ndarray],
) -> Path:
    """Write one picture: images and smoothed maps, with the detected box in cyan.

    Of each class there is one image, the first. Below each map stands its share on the plate, or on
    the digit.

    Parameters
    ----------
    path : str or pathlib.Path
        The file to write; missing folders are made.
    data : Plates
        The explained images.
    detected : numpy.ndarray
        The explained rows of f(x), (N, 10).
    maps : dict
        The maps, by name.

    Returns
    -------
    pathlib.Path
        The file that was written.
    """
    chosen = one_of_each(data)
    outlines = masks(np.round(detected[chosen, :4]))
    places = {"plate": masks(data.boxes[:, 0], EDGE), "digit": masks(data.digit_boxes[:, 0])}

    def row(label: str, name: str, place: str) -> Row:
        """Return a row of smoothed maps, with the share of each on its plate, or its digit."""
        of_chosen, where = maps[name][chosen], places[place][chosen]
        shares = (of_chosen * where).sum((1, 2)) / of_chosen.sum((1, 2))
        said = [f"{value:.0%} on the {place}" for value in shares]
        smooth = gaussian_filter(of_chosen, (0, SMOOTH, SMOOTH))
        return Row(label, smooth, {"cmap": "inferno", "vmin": 0}, outlines, said)

    rows = [
        Row("image and\ndetected box", data.images[chosen, ..., 0], {"cmap": "gray"}, outlines),
        row("detection", "detection_trained", "plate"),
        row("detection,\nuntrained\nnetwork", "detection_untrained", "plate"),
        row("class", "class_trained", "digit"),
        row("class,\nuntrained\nnetwork", "class_untrained", "digit"),
    ]
    return save_rows(path, rows)
