"""Correlations of rows of numbers."""

from __future__ import annotations

import numpy as np


def pearson(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the correlation of each row of two arrays (..., n) in float64, (...).

    Where one of them is constant there is no correlation, which is 0.
    """
    first, second = (
        row - row.mean(axis=-1, keepdims=True)
        for row in (np.asarray(first, np.float64), np.asarray(second, np.float64))
    )
    size = np.sqrt((first**2).sum(axis=-1) * (second**2).sum(axis=-1))
    shared = (first * second).sum(axis=-1)
    return np.divide(shared, size, out=np.zeros_like(shared), where=size > 0)


def spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the correlation of the ranks of each row of two arrays (..., n), (...)."""
    return pearson(mean_ranks(first), mean_ranks(second))


def mean_ranks(rows: np.ndarray) -> np.ndarray:
    """Return the rank of each number in its row (..., n); equal numbers share the mean of theirs.

    The smallest has rank 0.
    """
    rows = np.asarray(rows)
    order = np.argsort(rows, axis=-1, kind="stable")
    ordered = np.take_along_axis(rows, order, axis=-1)
    place = np.broadcast_to(np.arange(rows.shape[-1]), rows.shape)
    begins = np.ones(rows.shape, bool)
    begins[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    ends = np.ones(rows.shape, bool)
    ends[..., :-1] = begins[..., 1:]
    first = np.maximum.accumulate(np.where(begins, place, 0), axis=-1)
    last = np.where(ends, place, rows.shape[-1])[..., ::-1]
    last = np.minimum.accumulate(last, axis=-1)[..., ::-1]
    ranks = np.empty(rows.shape, np.float64)
    np.put_along_axis(ranks, order, (first + last) / 2, axis=-1)
    return ranks


#: The correlations by name.
CORRELATIONS = {"pearson": pearson, "spearman": spearman}
