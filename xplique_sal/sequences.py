"""References of DNA, RNA and proteins: shuffled sequences, to compare a sequence with."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import tensorflow as tf

from xplique_sal._data.letters import letters_of
from xplique_sal._parameters import integer, one_of

__all__ = ["ShuffledReferences"]

_KEPT = ("letters", "pairs")


class ShuffledReferences:
    """Shuffled copies of one-hot sequences: what to compare a sequence with.

    A sequence is important where it is more than its composition. Its shuffles have the same
    letters, and with ``keep="pairs"`` also the same number of each two neighbours (dinucleotides,
    dipeptides), such as CG, which is rare in many genomes: what only reflects these numbers
    contributes nothing. Such a shuffle keeps the first and the last letter. It is drawn evenly
    from all sequences with these pairs: each is a walk through the letters along all pairs, of
    which the last step away from each letter makes a random tree, and the others come in any
    order.

    Where a row is zero, as where the letter is not known (N) or a sequence is padded, it stays so,
    and each stretch of letters between such rows is shuffled by itself.

    What is drawn is a function of the seed and of the sequence alone, so that references do not
    depend on batches or on the order of samples.

    An object is a function of a batch, as baselines may be: ``DeepLift(model,
    baseline_value=ShuffledReferences(20))``, ``GradientShap(model,
    baselines=ShuffledReferences(20))``, and, of one for each sequence,
    ``IntegratedGradients(model, baseline_value=ShuffledReferences())``.

    Parameters
    ----------
    count
        How many there are of each sequence; ``None`` is one, without an axis of its own.
    keep
        ``"pairs"`` or ``"letters"``: of what a shuffle has as many as the sequence.
    seed
        An integer: another one draws others.

    Raises
    ------
    InvalidParameterError
        If a parameter is out of range.

    References
    ----------
    Altschul and Erickson, "Significance of nucleotide sequence alignments: a method for random
    sequence permutation that preserves dinucleotide and codon usage", 1985, section "The doublet
    permutation algorithm"; Wilson, "Generating random spanning trees more quickly than the cover
    time", 1996, section 2, of the tree.

    Examples
    --------
    >>> references = ShuffledReferences(20, seed=0)(x)  # (N, L, 4) → (N, 20, L, 4)
    """

    def __init__(self, count: int | None = None, *, keep: str = "pairs", seed: int = 0) -> None:
        one_of("keep", keep, _KEPT)
        self.count = None if count is None else integer("count", count)
        self.keep, self.seed = keep, integer("seed", seed, 0)

    def __repr__(self) -> str:
        return f"ShuffledReferences({self.count}, keep={self.keep!r}, seed={self.seed})"

    @tf.autograph.experimental.do_not_convert
    def __call__(self, sequences: Any) -> Any:
        """Return shuffles of sequences.

        Parameters
        ----------
        sequences
            One-hot letters (N, L, A): an array or a tensor, also one of a graph.

        Returns
        -------
        references
            (N, L, A), or (N, count, L, A): of the same kind and dtype.

        Raises
        ------
        InvalidInputError
            If a row is neither one-hot nor zero.
        """
        if not tf.is_tensor(sequences):
            return self._shuffled(np.asarray(sequences))
        if tf.executing_eagerly():
            return tf.constant(self._shuffled(sequences.numpy()), sequences.dtype)
        found = tf.numpy_function(self._shuffled, [sequences], sequences.dtype, stateful=False)
        shape = sequences.shape
        return tf.ensure_shape(found, [*shape[:1], *self._axis, *shape[1:]])

    @property
    def _axis(self) -> list[int]:
        return [] if self.count is None else [self.count]

    def _shuffled(self, sequences: np.ndarray) -> np.ndarray:
        letters = letters_of(sequences, "shuffled references")
        # A method that looks at several points of each sample asks for it as often.
        each, rows = np.unique(letters, axis=0, return_inverse=True)
        found = np.stack([self._of_one(sequence) for sequence in each])
        hot = np.concatenate([np.eye(sequences.shape[2]), np.zeros((1, sequences.shape[2]))])
        shuffled = hot.astype(sequences.dtype)[found[rows.reshape(-1)]]
        return shuffled[:, 0] if self.count is None else shuffled

    def _of_one(self, letters: np.ndarray) -> np.ndarray:
        """Return shuffles (count, L) of the letters of a sequence (L,), of which some may be −1."""
        digest = hashlib.blake2b(letters.astype("<i4").tobytes(), digest_size=8).digest()
        random = np.random.default_rng([self.seed, int.from_bytes(digest, "little")])
        found = np.repeat(letters[np.newaxis], self.count or 1, axis=0)
        ends = np.flatnonzero(np.diff(letters >= 0, prepend=False, append=False))
        shuffle = _with_pairs if self.keep == "pairs" else _with_letters
        for start, end in ends.reshape(-1, 2):
            found[:, start:end] = shuffle(letters[start:end], len(found), random)
        return found


def _with_letters(letters: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    return random.permuted(np.repeat(letters[np.newaxis], count, axis=0), axis=1)


def _with_pairs(letters: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Return random walks (count, L) that take the step of each pair of neighbours once."""
    steps, targets = len(letters) - 1, letters[1:]
    lasts = np.zeros((count, steps), bool)
    known = [np.flatnonzero(letters[:-1] == letter) for letter in range(letters.max() + 1)]
    for last in lasts:
        last[_last_steps(known, targets, random)] = True
    # The steps away from a letter follow each other in any order, but for the last.
    order = np.argsort(letters[:-1] + lasts / 2 + random.random(lasts.shape) / 2, axis=1)
    taken = targets[order].tolist()
    starts = np.cumsum([0, *map(len, known[:-1])]).tolist()
    found = np.empty((count, steps + 1), letters.dtype)
    for row, way in enumerate(taken):
        following, letter = list(starts), int(letters[0])
        walk = [letter]
        for _ in range(steps):
            step = following[letter]
            following[letter] = step + 1
            letter = way[step]
            walk.append(letter)
        found[row] = walk
    return found


def _last_steps(
    known: list[np.ndarray], targets: np.ndarray, random: np.random.Generator
) -> list[int]:
    """Return the last step away from each letter but the end: a random tree towards the end.

    Parameters
    ----------
    known
        The steps away from each letter, by their positions.
    targets
        The letter to which each step leads. That of the last is the end.
    random
        Draws.
    """
    end = int(targets[-1]) if len(targets) else -1
    inside = {end}
    last: dict[int, int] = {}
    for root, steps in enumerate(known):
        letter = int(root)
        while len(steps) and letter not in inside:  # a random walk: only its last steps count
            last[letter] = int(known[letter][random.integers(len(known[letter]))])
            letter = int(targets[last[letter]])
        letter = root
        while len(steps) and letter not in inside:
            inside.add(letter)
            letter = int(targets[last[letter]])
    return [step for letter, step in last.items() if letter != end]
