"""Why the blank end of a plate belongs to its class: because of the digit at the other end."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

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
    untouched,
)
from xplique_sal.segmentation import connected_zone, zone_border

EPOCHS = 8
STEPS = EPOCHS * -(-COUNT // BATCH)
"""Training steps, over which the learning rate falls to zero."""

EDGE = 2
"""Width of the explained border on both of its sides, in pixels."""


def labels(data: Plates) -> np.ndarray:
    """Return the class of each pixel, (N, 48, 48): 0 for the background, else 1 + the digit."""
    found = np.zeros(data.images.shape[:3], int)
    for plate in (0, 1):
        found += masks(data.boxes[:, plate]) * (1 + data.digits[:, plate, None, None])
    return found


def build_network(keras: ModuleType, seed: int = 0) -> Any:
    """Build a small U-Net from images to a class for each pixel, ending in a softmax.

    Parameters
    ----------
    keras : module
        ``tf_keras`` or ``keras``.
    seed : int
        Seed of Python, NumPy and TensorFlow, set here so that weights and training repeat.

    Returns
    -------
    keras.Model
        An untrained, compiled model from (N, 48, 48, 1) to (N, 48, 48, 6).
    """
    keras.utils.set_random_seed(seed)
    layers = keras.layers

    inputs = keras.Input((SIZE, SIZE, 1))
    x, skipped = convolution(keras, inputs, 8), []
    for filters in (16, 32, 64, 64):
        skipped.append(x)
        x = convolution(keras, layers.AveragePooling2D(2)(x), filters)
    x = convolution(keras, x, 64)
    for filters in (64, 32, 16, 8):
        x = layers.UpSampling2D(interpolation="bilinear")(x)
        x = convolution(keras, layers.Concatenate()([x, skipped.pop()]), filters)
    model = keras.Model(inputs, layers.Conv2D(1 + CLASSES, 1, activation="softmax")(x))
    return compiled(keras, model, "sparse_categorical_crossentropy", STEPS)


def blank_pixels(data: Plates, plate: int = 0) -> np.ndarray:
    """Return row and column of the middle of the blank end of a plate, (N, 2)."""
    return np.array([np.argwhere(mask).mean(0) for mask in untouched(data, plate)]).astype(int)


def class_ious(predicted: np.ndarray, truth: np.ndarray) -> list[float]:
    """Return the intersection over union of each class of pixels."""
    pairs = [(predicted == label, truth == label) for label in range(1 + CLASSES)]
    return [float((a & b).sum() / (a | b).sum()) for a, b in pairs]


def run(keras: Any, seed: int, output: str | Path) -> dict[str, float]:
    """Train, explain a plate in each test image, write a picture, and print where the maps lie.

    Returns
    -------
    dict
        ``iou``, the mean over the classes; ``right``, the share of plates whose blank end is of
        the right class; and for the maps of the ``plate``, of its ``blank`` end and of its
        ``border`` the share on the digit of the plate, for the ``trained`` and the ``untrained``
        network and for ``random`` maps: ``blank_trained``, ….
    """
    train, test = plates(seed)
    untrained, model = trained(keras, build_network, seed, train.images, labels(train), EPOCHS)

    predictions = model.predict(test.images, verbose=0)
    predicted, pixels = predictions.argmax(-1), blank_pixels(test)
    right = predicted[np.arange(len(pixels)), pixels[:, 0], pixels[:, 1]] == 1 + test.digits[:, 0]
    figures = {
        "iou": float(np.mean(class_ious(predicted, labels(test)))),
        "right": float(right.mean()),
    }
    print(f"mean IoU of the classes: {figures['iou']:.3f}")
    print(f"blank ends of the right class: {figures['right']:.3f}; these are explained")

    shown = Plates(*(part[right] for part in test))
    zones = connected_zone(predictions[right], pixels[right])
    blank = zones * untouched(shown, 0)[..., None]
    targets = {"plate": zones, "blank": blank, "border": zone_border(zones, EDGE)}
    digits = masks(shown.digit_boxes[:, 0])
    maps = {}
    print(f"share of the map on the digit (of the area: {digits.mean():.3f})")
    print("  explained   " + "".join(f"{name:>10s}" for name in ("trained", "untrained", "random")))
    options = {"operator": "semantic segmentation", "logits": True}
    for what, target in targets.items():
        for name, values in compared_maps(model, untrained, shown.images, target, seed, **options):
            maps[f"{what}_{name}"] = values
            figures[f"{what}_{name}"] = share(values, digits)
        line = [figures[f"{what}_{name}"] for name in ("trained", "untrained", "random")]
        print(f"  {what:12s}" + "".join(f"{value:10.3f}" for value in line))
    print(f"picture: {save_picture(output, shown, predicted[right], targets, maps)}")
    return figures


def save_picture(
    path: str | Path,
    data: Plates,
    predicted: np.ndarray,
    targets: dict[str, np.ndarray],
    maps: dict[str, np.ndarray],
) -> Path:
    """Write one picture: images, predicted classes, and maps with what they explain in cyan.

    Of each class there is one image, the first.

    Parameters
    ----------
    path : str or pathlib.Path
        The file to write; missing folders are made.
    data : Plates
        The explained images.
    predicted : numpy.ndarray
        The predicted class of each pixel, (N, 48, 48).
    targets, maps : dict
        What is explained, and its maps, by name.

    Returns
    -------
    pathlib.Path
        The file that was written.
    """
    chosen = one_of_each(data)
    outlines = {name: np.asarray(target[chosen].any(-1)) for name, target in targets.items()}
    classes = {"cmap": "tab10", "vmin": 0, "vmax": 9}
    rows = [
        Row("image", data.images[..., 0], {"cmap": "gray"}),
        Row("predicted\nclasses", predicted, classes),
        Row("map of\nthe plate", maps["plate_trained"], {"cmap": "inferno"}, outlines["plate"]),
        Row("map of its\nblank end", maps["blank_trained"], {"cmap": "inferno"}, outlines["blank"]),
        Row("... of an\nuntrained\nnetwork", maps["blank_untrained"], {"cmap": "inferno"}),
    ]
    rows[-1] = rows[-1]._replace(outlines=outlines["blank"])
    return save_rows(path, [row._replace(images=row.images[chosen]) for row in rows])
