"""Boxes around digits, found from saliency alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xplique_sal import Saliency
from xplique_sal.demo.digits import Canvases, require, trained_network
from xplique_sal.localization import bounding_boxes, intersection_over_union

NB_TUNED = 500
"""How many training canvases the parameters are chosen on."""

SMOOTHINGS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
THRESHOLDS = (0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6)


class Parameters(NamedTuple):
    """The parameters of `bounding_boxes`."""

    threshold: float
    smoothing: float

    def boxes(self, maps: Any) -> np.ndarray:
        """Return the boxes of maps."""
        return bounding_boxes(maps, self.threshold, smoothing=self.smoothing)


def true_boxes(canvases: Canvases) -> np.ndarray:
    """Return the digits' boxes as x1, y1, x2, y2."""
    return canvases.boxes[:, [1, 0, 3, 2]]


def located_share(boxes: np.ndarray, truth: np.ndarray) -> float:
    """Return the share of boxes that overlap the true one by an IoU of at least 0.5."""
    return float((intersection_over_union(boxes, truth) >= 0.5).mean())


def best_parameters(maps: Any, truth: np.ndarray) -> Parameters:
    """Return the parameters with the largest mean overlap on some maps."""
    grid = [
        Parameters(threshold, deviation) for deviation in SMOOTHINGS for threshold in THRESHOLDS
    ]
    return max(grid, key=lambda p: intersection_over_union(p.boxes(maps), truth).mean())


def _kinds_of_maps(network: Any) -> Iterator[tuple[str, Any]]:
    """Yield functions from canvases to maps: saliency, and what it must be better than."""
    for name, model in (("trained", network.model), ("untrained", network.untrained)):
        saliency = Saliency(model, logits=True)
        yield name, lambda canvases, s=saliency: s.explain(canvases.images, canvases.labels)
    yield "brightness", lambda canvases: np.abs(canvases.images)
    yield "centre", lambda canvases: np.ones_like(canvases.images)


def run(keras: Any, seed: int, output: str | Path) -> dict[str, float]:
    """Train, put boxes around the digits, write a picture, and print how many boxes fit.

    Returns
    -------
    dict
        The share of test canvases whose box overlaps the digit's by an IoU of at least 0.5, from
        the saliency of the ``trained`` and of the ``untrained`` network, from the canvas'
        ``brightness`` itself, and for a fixed box in the ``centre``.
    """
    network = trained_network(keras, seed)
    tuned = Canvases(*(part[:NB_TUNED] for part in network.train))
    shares = {}
    print("share of test canvases with IoU >= 0.5:")
    for name, maps_of in _kinds_of_maps(network):
        if name == "centre":
            boxes, how = _centred(network.test), "of the digits' size"
        else:
            parameters = best_parameters(maps_of(tuned), true_boxes(tuned))
            boxes = parameters.boxes(maps_of(network.test))
            how = f"threshold {parameters.threshold}, smoothing {parameters.smoothing}"
        shares[name] = located_share(boxes, true_boxes(network.test))
        print(f"  {name:10s}  {shares[name]:.3f}  ({how})")
        if name == "trained":
            picture = save_picture(output, network.test, maps_of(network.test), boxes)
    print(f"picture: {picture}")
    return shares


def _centred(canvases: Canvases) -> np.ndarray:
    size = canvases.boxes[0, 2] - canvases.boxes[0, 0]
    start = (canvases.images.shape[1] - size) // 2
    return np.tile([start, start, start + size, start + size], (len(canvases.images), 1))


def save_picture(
    path: str | Path, canvases: Canvases, maps: Any, boxes: np.ndarray, nb_images: int = 8
) -> Path:
    """Write one picture with canvases above their maps, with the true and the found boxes.

    Parameters
    ----------
    path : str or pathlib.Path
        The file to write; missing folders are made.
    canvases : Canvases
        The explained images, whose true boxes are red.
    maps : array_like
        Their maps, (N, 40, 40, 1), each scaled by its own 99th percentile.
    boxes : numpy.ndarray
        The found boxes, x1, y1, x2, y2, in cyan.
    nb_images : int
        Number of images shown, the first ones.

    Returns
    -------
    pathlib.Path
        The file that was written.
    """
    rectangle_type = require("matplotlib.patches").Rectangle
    figure = require("matplotlib.figure").Figure(
        figsize=(1.5 * nb_images, 3.3), layout="constrained"
    )
    truth = true_boxes(canvases)
    overlaps = intersection_over_union(boxes, truth)
    maps = np.asarray(maps)[..., 0]
    for column, (upper, lower) in enumerate(figure.subplots(2, nb_images).T):
        upper.imshow(canvases.images[column, ..., 0], cmap="gray", vmin=-0.4, vmax=1.2)
        upper.set_title(f"IoU {overlaps[column]:.2f}", fontsize=10)
        lower.imshow(maps[column], cmap="inferno", vmax=np.percentile(maps[column], 99))
        for axes in (upper, lower):
            axes.set_axis_off()
            for (x1, y1, x2, y2), color in ((truth[column], "red"), (boxes[column], "cyan")):
                corner = (x1 - 0.5, y1 - 0.5)
                axes.add_patch(
                    rectangle_type(corner, x2 - x1, y2 - y1, fill=False, color=color, lw=1.5)
                )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    return path
