"""Boxes around digits, found from saliency alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from demos.drawing import save_canvases
from xplique_sal import Saliency
from xplique_sal.demo.digits import Canvases, trained_network
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
    """Write one picture with canvases above their maps: true boxes are red, found ones cyan."""
    overlaps = intersection_over_union(boxes, true_boxes(canvases))
    titles = [f"IoU {overlap:.2f}" for overlap in overlaps[:nb_images]]
    frames = {"red": canvases.boxes, "cyan": boxes[:, [1, 0, 3, 2]]}
    return save_canvases(path, canvases.images, maps, titles, frames)
