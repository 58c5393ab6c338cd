"""Sequences of letters as one-hot rows: which letter stands where."""

from __future__ import annotations

from typing import Any

import numpy as np

from xplique_sal.errors import InvalidInputError


def letters_of(sequences: Any, why: str, first: int = 0) -> np.ndarray:
    """Return the column of the letter at each position, (N, L); −1 where the row is zero.

    Parameters
    ----------
    sequences
        One-hot letters (N, L, A).
    why
        What needs them, as an error says it.
    first
        The number of the first sequence in the whole data.

    Raises
    ------
    InvalidInputError
        If a row is neither zero nor has a single one beside zeros.
    """
    array = np.asarray(sequences)
    expected = f"one-hot letters (N, L, A) for {why}, with a single 1 in each row, or zeros"
    if array.ndim != 3 or array.shape[2] < 2 or array.dtype.kind not in "buif":
        raise InvalidInputError(
            expected,
            f"{array.dtype} of the shape {array.shape}",
            "Give each letter of the alphabet a column.",
        )
    ones = array == 1
    wrong = (~ones & (array != 0)).any(axis=2) | (ones.sum(axis=2) > 1)
    if wrong.any():
        sample, position = np.argwhere(wrong)[0]
        raise InvalidInputError(
            expected,
            f"{array[sample, position]} at position {position} of sample {first + sample}",
            "Leave a row of zeros where no letter is known, such as N in DNA.",
        )
    return np.where(ones.any(axis=2), ones.argmax(axis=2), -1)
