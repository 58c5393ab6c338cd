"""µFidelity: how a map's sum over a part goes along with what the score loses without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from xplique_sal._data.structures import Operator, Structure
from xplique_sal._parameters import integer, number, one_of
from xplique_sal.metrics.base import ScoreMetric
from xplique_sal.metrics.correlation import CORRELATIONS
from xplique_sal.metrics.measurement import Baseline, Evaluation
from xplique_sal.metrics.reading import side_by_side


class MuFidelity(ScoreMetric):
    """The correlation of what the score loses without a part with the map's sum over it.

    For random parts S of a sample and the map φ it is, over S,

        corr(Σ_{i∈S} φ_i, g(x) − g(x with b in S))

    between −1 and 1; higher is better, and 1 for the contributions w·(x − b) to a linear score. A
    part is a share of the cells of a coarse grid: of tables each feature is a cell, of time series
    each sensor in `grid_size` stretches of time, and of images and volumes a cell is cut out of all
    channels; a part is drawn from the cells of all inputs. Where the map or the score does not vary
    there is no correlation, and the value is 0.

    The scores do not depend on the map, so that any number of maps costs those of one. The mean
    over samples has an error, as any mean of random numbers: more parts make it smaller.

    Parameters
    ----------
    grid_size
        The cells along each axis but the channels, at most one for each position; ``None`` makes
        each position a cell.
    subset_percent
        The share of cells that make a part.
    baseline_mode
        What stands in a part: a number, one for each channel (feature, sensor), an array of the
        shape of a sample, or a function from samples (N, ...) to as many. Of several inputs it is
        one for all of them, or a list or dict of one for each, packed as they are; a function takes
        and returns what is packed so.
    nb_samples
        How many parts of each sample.
    correlation
        ``"pearson"``, as in the article, or ``"spearman"``, of ranks.
    exact_size
        Whether each part has the same number of cells, as in the article. If not, each cell is in
        it with probability `subset_percent`. Xplique computes
        ``correlation="spearman", exact_size=False``.
    seed
        Of the parts: those of a sample depend on it and on the sample's position alone.

    References
    ----------
    Bhatt, Weller and Moura, "Evaluating and Aggregating Feature-based Model Explanations", IJCAI
    2020, definition 3.

    Examples
    --------
    >>> correlation = MuFidelity(model, images, labels)(maps)  # doctest: +SKIP
    """

    better: ClassVar[str] = "higher"

    def __init__(
        self,
        model: Any,
        inputs: Structure,
        targets: Structure | None = None,
        batch_size: int | str | None = 64,
        grid_size: int | None = 9,
        subset_percent: float = 0.2,
        baseline_mode: Any = 0.0,
        nb_samples: int = 200,
        operator: Operator | str | None = None,
        *,
        correlation: str = "pearson",
        exact_size: bool = True,
        seed: int = 0,
        output_layer: int | str | None = None,
        output: int | str | None = None,
        logits: bool = False,
    ) -> None:
        super().__init__(
            model,
            inputs,
            targets,
            batch_size,
            operator,
            output_layer=output_layer,
            output=output,
            logits=logits,
        )
        one_of("correlation", correlation, CORRELATIONS)
        self.grid_size = None if grid_size is None else integer("grid_size", grid_size)
        self.subset_percent = number("subset_percent", subset_percent, "()", high=1)
        self.baseline_mode = baseline_mode
        self.nb_samples = integer("nb_samples", nb_samples, 2)
        self.correlation = correlation
        self.exact_size = bool(exact_size)
        self.seed = integer("seed", seed, 0)
        self._baseline = Baseline(baseline_mode)

    def _of_batch(self, evaluation: Evaluation) -> Sequence[np.ndarray]:
        shapes = [tuple(x.shape[1:]) for x in evaluation.changed_inputs()]
        cells, count = [], 0
        for shape in shapes:
            cells.append(count + _cells(shape, evaluation.channel_axis, self.grid_size))
            count = int(cells[-1].max()) + 1
        sums = [_sums(evaluation.maps(i), cells, count) for i in range(len(evaluation.subjects))]
        draw = self._parts(evaluation, count)
        drawn: list[np.ndarray] = []

        def hidden(some: slice) -> list[tf.Tensor]:
            drawn.append(draw(some.stop - some.start))
            return [tf.gather(drawn[-1], own, axis=-1) for own in cells]

        scores = evaluation.scores_where(hidden, self.nb_samples, self._baseline)
        lost = (evaluation.score.values - scores).T
        parts = np.concatenate(drawn).swapaxes(0, 1).astype(np.float64)  # (N, parts, cells)
        correlation = CORRELATIONS[self.correlation]
        return [correlation(np.einsum("npc,nc->np", parts, each), lost) for each in sums]

    def _parts(self, evaluation: Evaluation, cells: int) -> Callable[[int], np.ndarray]:
        """Return what draws the next parts of all samples: truth values (parts, N, cells)."""
        size = min(max(1, round(self.subset_percent * cells)), max(1, cells - 1))
        first = evaluation.start
        streams = [np.random.default_rng([self.seed, first + i]) for i in range(evaluation.size)]

        def draw(count: int) -> np.ndarray:
            values = np.stack([stream.random((count, cells)) for stream in streams], axis=1)
            if not self.exact_size:
                return values < self.subset_percent
            last = np.partition(values, size - 1, axis=-1)[..., size - 1 : size]
            return values <= last

        return draw


def _cells(shape: tuple[int, ...], channel_axis: int, grid_size: int | None) -> np.ndarray:
    """Return the number of the cell of each position, of length 1 along the channels."""
    rank = len(shape)
    channels = channel_axis % (rank + 1) - 1 if rank > 2 else None
    cells = np.zeros([1] * rank, np.int64)
    for axis, length in enumerate(shape):
        if axis == channels:
            continue
        is_cut = rank > 2 or (rank == 2 and axis == 0)
        count = min(grid_size, length) if is_cut and grid_size is not None else length
        # The cell whose middle is nearest.
        own = np.floor((np.arange(length) + 0.5) * count / length).astype(np.int64)
        cells = cells * count + own.reshape([-1 if i == axis else 1 for i in range(rank)])
    return cells


def _sums(maps: Sequence[np.ndarray], cells: Sequence[np.ndarray], count: int) -> np.ndarray:
    """Return the sum of each map over each cell, (N, cells), of the maps of each input."""
    full = side_by_side(
        [np.broadcast_to(m, (len(m), *own.shape)) for m, own in zip(maps, cells, strict=True)]
    )
    of_each = np.concatenate([own.ravel() for own in cells])
    return np.stack([np.bincount(of_each, row, count) for row in full])
