"""How similar maps are."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from xplique_sal.errors import InvalidInputError
from xplique_sal.metrics.correlation import spearman
from xplique_sal.metrics.reading import Maps, side_by_side

#: The side of the window of SSIM, and the standard deviation of its weights, as in its article.
_WINDOW, _DEVIATION = 11, 1.5


def rank_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return Spearman's correlation of each of the maps (N, ...) with another, (N,)."""
    return spearman(first.reshape(len(first), -1), second.reshape(len(second), -1))


def structural_similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the SSIM of each of the maps (N, H, W) or (N, H, W, C) with another, (N,).

    Each map is scaled to [0, 1] first; one that is the same everywhere is zero.

    Raises
    ------
    InvalidInputError
        If they are no maps of images.
    """
    if first.ndim not in (3, 4):
        raise InvalidInputError(
            "maps of images, (N, H, W, 1), for SSIM",
            f"the shape {first.shape}",
            'Pass similarity="spearman".',
        )
    pair = [_scaled(maps if maps.ndim == 4 else maps[..., np.newaxis]) for maps in (first, second)]
    side = min(_WINDOW, *first.shape[1:3])
    found = tf.image.ssim(*pair, max_val=1.0, filter_size=side, filter_sigma=_DEVIATION)
    return found.numpy().astype(np.float64)


def _scaled(maps: np.ndarray) -> np.ndarray:
    axes = tuple(range(1, maps.ndim))
    maps = maps - maps.min(axis=axes, keepdims=True)
    largest = maps.max(axis=axes, keepdims=True)
    return np.divide(maps, largest, out=np.zeros_like(maps), where=largest > 0).astype(np.float32)


#: The similarities by name.
SIMILARITIES = {"spearman": rank_correlation, "ssim": structural_similarity}


def similarity_of_inputs(name: str, first: Maps, second: Maps) -> np.ndarray:
    """Return the similarity of the maps of all inputs with others, (N,).

    Ranks are those among all positions; of images it is the mean over inputs.
    """
    pairs = [
        (one, other)
        for one, other in zip(first, second, strict=True)
        if one is not None and other is not None
    ]
    similarity = SIMILARITIES[name]
    if name == "spearman" and len(pairs) > 1:
        return similarity(*map(side_by_side, zip(*pairs, strict=True)))
    return np.mean([similarity(*pair) for pair in pairs], axis=0)
