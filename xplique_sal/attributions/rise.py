"""RISE: the mean score behind random masks that keep a position."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xplique_sal._data.structures import Operator, Structure
from xplique_sal._engine.groups import RandomGroupMasks
from xplique_sal._engine.masks import MaskedScores, Masks
from xplique_sal._parameters import integer, lengths, lengths_for, number
from xplique_sal.attributions.masking_base import MaskingExplainer
from xplique_sal.errors import InvalidParameterError

#: Keeps the quotient finite at a position that no mask keeps.
_EPSILON = 1e-4


class Rise(MaskingExplainer):
    """The mean score of an input behind random masks, for each position those that keep it.

    For a score g and masks M_k with values between 0 (hidden) and 1 (kept),

        map = Σ_k g(x·M_k + v·(1 − M_k))·M_k / (Σ_k M_k + ε),  ε = 1e-4

    with v the `mask_value`. A mask is a coarse grid of cells, each kept with probability
    `preservation_probability`, that is enlarged bilinearly to a little more than the input and cut
    out at a random place. Of tables each feature is a cell, and of time series each sensor of
    `grid_size` stretches of time. With `groups` each of these is a cell. All samples get the same
    draws. It needs one forward pass for each mask and one for the sample, and no gradient.

    The values are scores, not differences: compare positions of one map.

    Parameters
    ----------
    nb_samples
        The number of masks. The error of a map falls as its square root.
    grid_size
        The cells along each axis but the channels of images and volumes. Of time series a tuple
        must name the number of sensors as the second; of tables it is not used.
    preservation_probability
        The probability of a cell to be kept, more than 0 and at most 1.
    mask_value
        What stands in hidden parts: a number, one for each channel (feature, sensor), or an array
        of the shape of a sample.
    seed
        An integer makes the masks, and so the maps, the same at each call, for any batch size;
        ``None`` draws others at each call.

    References
    ----------
    Petsiuk, Das and Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models",
    BMVC 2018, section 3.

    Examples
    --------
    >>> explanations = Rise(model, nb_samples=2000, seed=0).explain(images)  # doctest: +SKIP
    """

    def __init__(
        self,
        model: Any,
        batch_size: int | str | None = 64,
        operator: Operator | str | None = None,
        nb_samples: int = 4000,
        grid_size: int | Sequence[int] = 7,
        preservation_probability: float = 0.5,
        mask_value: Any = 0.0,
        *,
        seed: int | None = None,
        output_layer: int | str | None = None,
        output: int | str | None = None,
        logits: bool = False,
        groups: Structure | None = None,
    ) -> None:
        super().__init__(
            model,
            batch_size,
            operator,
            mask_value,
            "mask_value",
            output_layer=output_layer,
            output=output,
            logits=logits,
            groups=groups,
        )
        self.mask_value = mask_value
        self.nb_samples = integer("nb_samples", nb_samples)
        self.grid_size = lengths("grid_size", grid_size)
        self.preservation_probability = number(
            "preservation_probability",
            preservation_probability,
            "(]",
            high=1,
            remedy="Pass the share of each mask that is kept.",
        )
        self.seed = None if seed is None else integer("seed", seed, 0)

    def _masks(self, seed: int, shape: tuple[int, ...], axes: tuple[int, ...]) -> Masks:
        seed = seed if self.seed is None else self.seed
        cells = list(shape)
        enlarged: Sequence[int] = []
        if len(shape) > 1:
            enlarged = axes if len(shape) > 2 else axes[:1]
            grid = lengths_for("grid_size", self.grid_size, len(axes))
            if not isinstance(self.grid_size, int) and len(shape) == 2 and grid[1] != shape[1]:
                raise InvalidParameterError(
                    f"a `grid_size` with {shape[1]}, the number of sensors, as the second",
                    f"{tuple(grid)}",
                    "Sensors are not put together: pass an integer, the stretches of time.",
                )
            for axis in enlarged:
                cells[axis] = grid[axes.index(axis)]
        return _Grids(self.nb_samples, shape, cells, enlarged, self.preservation_probability, seed)

    def _map(self, original: np.ndarray, masked: Iterator[MaskedScores]) -> tf.Tensor:
        total, weight = tf.constant(0.0), tf.constant(0.0)
        for some in masked:
            total += some.sum_over_kept(some.scores)
            weight += some.total()
        return total / (weight + _EPSILON)

    def _masks_of_groups(self, seed: int, numbers: np.ndarray, count: int) -> Masks:
        seed = seed if self.seed is None else self.seed
        return RandomGroupMasks(
            numbers, count, self.nb_samples, self.preservation_probability, seed
        )


class _Grids:
    """Random grids, enlarged to an input: each is drawn from the seed and its own number."""

    def __init__(
        self,
        count: int,
        shape: Sequence[int],
        cells: Sequence[int],
        enlarged: Sequence[int],
        probability: float,
        seed: int,
    ) -> None:
        self.count = count
        self._shape = shape
        self._cells = cells
        self._probability = probability
        self._seed = seed
        #: For each axis, the weights of the cells at each position of the enlarged grid.
        self._weights = {
            axis: _bilinear(cells[axis], int(shape[axis] * (1 + 1 / cells[axis])))
            for axis in enlarged
        }

    def __call__(self, first: int, count: int) -> tf.Tensor:
        grids = np.empty([count, *self._cells], np.float32)
        shifts = np.empty([count, len(self._weights)], np.int64)
        spare = [len(weights) - self._shape[axis] for axis, weights in self._weights.items()]
        for row in range(count):
            random = np.random.default_rng([self._seed, first + row])
            grids[row] = random.random(self._cells, np.float32) < self._probability
            shifts[row] = random.integers(0, spare, endpoint=True)
        masks = tf.constant(grids)
        for (axis, weights), shift in zip(self._weights.items(), shifts.T, strict=True):
            rows = shift[:, np.newaxis] + np.arange(self._shape[axis])
            moved = tf.experimental.numpy.moveaxis(masks, axis + 1, -1)
            moved = tf.einsum("k...i,kpi->k...p", moved, tf.constant(weights[rows]))
            masks = tf.experimental.numpy.moveaxis(moved, -1, axis + 1)
        return masks


def _bilinear(cells: int, size: int) -> np.ndarray:
    """Return the weights (size, cells) that enlarge a row of cells linearly.

    The centres of cells and positions are laid over each other; beyond the outer centres, a
    position has the value of the outer cell.
    """
    centres = np.clip((np.arange(size) + 0.5) * cells / size - 0.5, 0, cells - 1)
    distances = np.abs(centres[:, np.newaxis] - np.arange(cells))
    return np.maximum(1 - distances, 0).astype(np.float32)
