"""Localization: how much of a map is where the object is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from xplique_sal._parameters import integer, number, one_of
from xplique_sal.errors import InvalidInputError
from xplique_sal.metrics.base import MapMetric
from xplique_sal.metrics.reading import ranks_of, without_channels


class Localization(MapMetric):
    """How much of a map is where the object is, or whether its largest value is.

    Higher is better. It asks whether a map is where a person says that the object is, not whether
    the model looks there: a model that looks at the background has a right map with a low value.

    Parameters
    ----------
    regions
        Where the objects are: masks (N, H, W), not 0 inside; or boxes (N, 4), x1, y1, x2, y2 in
        pixels with x2 and y2 excluded, as `bounding_boxes` returns them, or of several objects
        (N, K, 4), where empty boxes count for nothing.
    measure
        ``"energy"``, the share of the positive part of the map that is inside; or ``"pointing"``,
        1 where the largest value is inside, else 0.
    tolerance
        How many pixels beside an object still hit it, for ``"pointing"``.
    seed
        Of the order of positions with equal values, of which the first is the largest.

    Raises
    ------
    InvalidInputError
        If `regions` are neither masks nor boxes, or one of them is empty.
    InvalidParameterError
        If a parameter has a value that does not exist.

    Notes
    -----
    By chance it is the share of the pixels that are inside, which is also the energy of a map that
    is positive nowhere.

    References
    ----------
    Zhang, Bargal, Lin, Brandt, Shen and Sclaroff, "Top-down Neural Attention by Excitation
    Backprop", IJCV 2018, section 4.1 (pointing game).
    Wang et al., "Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks",
    CVPR workshops 2020, section 4.3 (energy).

    Examples
    --------
    >>> share = Localization(boxes)(maps)  # doctest: +SKIP
    """

    better: ClassVar[str] = "higher"

    def __init__(
        self, regions: Any, measure: str = "energy", *, tolerance: float = 0, seed: int = 0
    ) -> None:
        one_of("measure", measure, ("energy", "pointing"))
        self.measure = measure
        self.tolerance = number("tolerance", tolerance, remedy="It is in pixels.")
        self.seed = integer("seed", seed, 0)
        self.regions = regions
        self._regions = np.asarray(regions)
        is_boxes = self._regions.shape[-1:] == (4,) and self._regions.ndim in (2, 3)
        if self._regions.dtype.kind not in "biuf" or not (is_boxes or self._regions.ndim == 3):
            raise InvalidInputError(
                "regions as masks (N, H, W) or boxes (N, 4) or (N, K, 4)",
                f"the shape {self._regions.shape} of {self._regions.dtype}",
                "Pass one mask, or the boxes, of each sample.",
            )

    def _of_maps(self, maps: Sequence[np.ndarray]) -> np.ndarray:
        if len(maps) > 1:
            raise InvalidInputError(
                "the maps of one input, in which the regions are",
                f"maps of {len(maps)}",
                "Pass those of the images, with None for other inputs.",
            )
        return self._of_images(maps[0])

    def _of_images(self, maps: np.ndarray) -> np.ndarray:
        if maps.ndim == 4:
            maps = without_channels(maps, -1)[..., 0]
        inside = self._inside(maps.shape)
        if self.measure == "energy":
            positive = np.maximum(maps, 0).reshape(len(maps), -1)
            total = positive.sum(axis=1)
            within = (positive * inside.reshape(len(maps), -1)).sum(axis=1)
            chance = inside.mean(axis=(1, 2))
            return np.divide(within, total, out=chance, where=total > 0)
        flat = maps.reshape(len(maps), -1)
        largest = ranks_of(flat, self.seed).argmin(axis=1)
        return np.array([self._hits(*pair) for pair in zip(inside, largest, strict=True)], float)

    def _hits(self, inside: np.ndarray, largest: int) -> bool:
        row, column = np.unravel_index(largest, inside.shape)
        rows, columns = np.nonzero(inside)
        squared = (rows - row) ** 2 + (columns - column) ** 2
        return bool(squared.min() <= self.tolerance**2)

    def _inside(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return which pixels are inside, (N, H, W)."""
        given = self._regions
        # An image of four columns has masks that look like boxes: as many rows and no box.
        is_masks = given.shape == shape
        if len(shape) != 3 or not (is_masks or (given.shape[-1] == 4 and len(given) == shape[0])):
            raise InvalidInputError(
                f"maps (N, H, W) or (N, H, W, 1) of the {len(given)} regions",
                f"the shape {shape} beside regions {given.shape}",
                "Pass one map for each mask, of its size, or for each row of boxes.",
            )
        inside = given != 0 if is_masks else self._in_boxes(shape)
        empty = ~inside.any(axis=(1, 2))
        if empty.any():
            raise InvalidInputError(
                "a region with at least one pixel of each map",
                f"none for sample {int(empty.argmax())}",
                "Leave out the samples without an object; boxes are x1, y1, x2, y2 in pixels.",
            )
        return inside

    def _in_boxes(self, shape: tuple[int, ...]) -> np.ndarray:
        boxes = self._regions.reshape(shape[0], -1, 4)[:, :, :, np.newaxis, np.newaxis]
        rows, columns = np.mgrid[: shape[1], : shape[2]]
        x1, y1, x2, y2 = (boxes[:, :, index] for index in range(4))
        return ((columns >= x1) & (columns < x2) & (rows >= y1) & (rows < y2)).any(axis=1)
