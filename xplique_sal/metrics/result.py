"""What a metric says: one value for each sample, with its curve where it has one."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class SampleValues:
    """The values of a metric, one for each sample; ``np.asarray`` returns them.

    Attributes
    ----------
    values
        (N,), in float64.
    curves
        The curve of each sample, (N, points), of a metric that has curves; else ``None``.
    at
        Where the points of the curves are, (points,); else ``None``. What it means stands in the
        documentation of the metric.
    """

    values: np.ndarray
    curves: np.ndarray | None = None
    at: np.ndarray | None = None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return the values as an array."""
        return np.array(self.values, dtype=dtype)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.values)
