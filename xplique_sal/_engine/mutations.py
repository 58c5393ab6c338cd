"""Sequences of which one letter is replaced by another, made when they are needed."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from xplique_sal._data.letters import letters_of
from xplique_sal._engine.masks import OneInput
from xplique_sal.errors import InvalidParameterError


class Mutations:
    """Copies of one-hot sequences, each with another letter in one place.

    Parameters
    ----------
    sequences
        (N, L, A).
    numbers
        The number of each position that is changed, (N or 1, L), counted from 0 in each sample;
        −1 where nothing is.
    count
        How many positions are changed, in the sample with the most.
    first
        The number of the first sample in the whole data.

    Raises
    ------
    InvalidInputError
        If the sequences are not one-hot.
    InvalidParameterError
        If two positions have the same number.
    """

    def __init__(
        self, sequences: np.ndarray, numbers: np.ndarray, count: int, first: int = 0
    ) -> None:
        self._letters = letters_of(sequences, 'replacement="letters"', first)
        self._sequences, self._others = sequences, sequences.shape[2] - 1
        rows, positions = np.nonzero(numbers >= 0)
        self._places = np.full((len(numbers), count), -1)
        self._places[rows, numbers[rows, positions]] = positions
        if (self._places >= 0).sum() != len(rows):
            raise InvalidParameterError(
                '`groups` of one position each beside replacement="letters"',
                "one of several",
                "Number the positions that are replaced, and pass -1 for the others.",
            )
        self._places = np.broadcast_to(self._places, (len(sequences), count))
        #: Of copies of all samples: one for each position and each other letter.
        self.count = count * self._others

    def lost(self, original: np.ndarray, one: OneInput, at_once: int) -> tf.Tensor:
        """Return what the scores lose by each letter in each place, (N, L, A) or (N, K, L, A).

        Parameters
        ----------
        original
            The scores of the samples, (N,), or (N, K) of several outputs.
        one
            The input that is changed.
        at_once
            How many changed copies of the samples exist at once.
        """
        size, length, letters = self._sequences.shape
        maps = np.zeros((size, length, letters, *original.shape[1:]), np.float32)
        for first, scores in one.scores(self.count, at_once, self._copies):
            for number, score in enumerate(scores, first):
                of, at, shift = self._change(number)
                maps[of, at, (self._letters[of, at] + shift) % letters] = (original - score)[of]
        return tf.constant(maps if original.ndim == 1 else np.moveaxis(maps, -1, 1))

    def _copies(self, first: int, count: int) -> tuple[int, np.ndarray]:
        """Return the number of the first of some copies, and these, (count · N, L, A)."""
        copies = np.repeat(self._sequences[np.newaxis], count, axis=0)
        for number, copy in enumerate(copies, first):
            of, at, shift = self._change(number)
            copy[of, at] = np.roll(copy[of, at], shift, axis=1)
        return first, copies.reshape(-1, *copies.shape[2:])

    def _change(self, number: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Return which samples a copy changes, where, and by how many letters."""
        place = self._places[:, number // self._others]
        samples = np.flatnonzero(place >= 0)
        has_letter = self._letters[samples, place[samples]] >= 0
        samples = samples[has_letter]
        return samples, place[samples], 1 + number % self._others
