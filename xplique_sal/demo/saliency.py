"""How much of the saliency of a digit classifier falls on the digit."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from xplique_sal import Saliency
from xplique_sal.demo.digits import trained_network
from xplique_sal.demo.drawing import save_canvases


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


def run(keras: Any, seed: int, output: str | Path) -> dict[str, float]:
    """Train, explain the test images, write a picture, and print the pointing ratios.

    Returns
    -------
    dict
        What was printed: ``accuracy`` and the pointing ratios ``trained``, ``untrained`` and
        ``random``.
    """
    network = trained_network(keras, seed)
    images, labels, boxes = network.test
    untrained_maps = Saliency(network.untrained, logits=True).explain(images, labels)
    start = time.perf_counter()
    maps = Saliency(network.model, logits=True).explain(images, labels)
    print(f"explained {len(images)} images in {time.perf_counter() - start:.1f} s")
    random_maps = np.random.default_rng(seed).uniform(size=np.shape(maps))
    ratios = {
        "trained": pointing_ratio(maps, boxes),
        "untrained": pointing_ratio(untrained_maps, boxes),
        "random": pointing_ratio(random_maps, boxes),
    }
    print("share of saliency inside the digit's box / the box's share of the area:")
    print(f"  trained network    {ratios['trained']:.2f}")
    print(f"  untrained network  {ratios['untrained']:.2f}")
    print(f"  random maps        {ratios['random']:.2f}")
    titles = [str(label) for label in labels[:8]]
    picture = save_canvases(output, images, maps, titles, frames={"red": boxes})
    print(f"picture: {picture}")
    return {"accuracy": network.accuracy, **ratios}
