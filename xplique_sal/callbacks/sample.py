"""Samples that stay the same for a whole training, and the names of their maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import numpy as np
import tensorflow as tf

from xplique_sal._data.arrange import arrange
from xplique_sal._data.checks import check_computed
from xplique_sal._data.samples import read_samples
from xplique_sal._data.structures import ModelInputs, Structure, leaves, pack, skeleton_of
from xplique_sal.errors import InvalidInputError


def copied(structure: Structure) -> Structure:
    """Return samples that stay as they are, whatever happens to where they came from.

    Raises
    ------
    InvalidInputError
        If they are a dataset that repeats for ever, or have no numbers yet.
    """
    check_computed(structure)
    if structure is None:
        return None
    if isinstance(structure, tf.data.Dataset):
        if int(structure.cardinality()) == tf.data.INFINITE_CARDINALITY:
            raise InvalidInputError(
                "a dataset that ends",
                "one that repeats for ever",
                "Take a number of elements: dataset.take(n).",
            )
        cached = structure.cache()
        for _ in cached:  # read to its end, so that all of it is kept
            pass
        return cached
    if isinstance(structure, (Mapping, list, tuple)):
        arranged = arrange(structure, None)
        return pack(arranged.for_user, [copied(part) for part in arranged.flat])
    if isinstance(structure, tf.Variable):
        return tf.identity(structure)
    if isinstance(structure, (int, float, np.generic)) or tf.is_tensor(structure):
        return structure
    return np.array(structure)


def read(
    inputs: Structure, targets: Structure, model: ModelInputs | None
) -> tuple[Structure, Structure, Structure]:
    """Return inputs, targets, and the arrays in the inputs, packed as their maps will be.

    A dataset stays one, because its labels are not targets; what is in memory is checked.

    Raises
    ------
    InvalidInputError, InvalidTargetError
    """
    samples = read_samples(inputs, targets, model)
    batches = list(samples.batches(None))
    arrays = pack(samples.for_user, _joined([batch.inputs for batch in batches]))
    return inputs, targets, arrays


def _joined(batches: list[list[Any]]) -> list[np.ndarray]:
    columns = zip(*batches, strict=True)
    return [np.concatenate([np.asarray(part) for part in column]) for column in columns]


def named(maps: Structure) -> list[tuple[str, Any]]:
    """Return every map with its name: its key, or its position, at each level; one has none.

    Keys are quoted: no two names are the same, and none of them means a folder.
    """
    paths: list[str] = [""] * len(leaves(maps))

    def visit(part: Any, path: str) -> None:
        if isinstance(part, Mapping):
            for key, item in part.items():
                visit(item, f"{path} {quote(str(key), safe='')}")
        elif isinstance(part, (list, tuple)):
            for index, item in enumerate(part):
                visit(item, f"{path} {index}")
        elif len(paths) > 1:
            paths[part] = path.strip()

    visit(skeleton_of(maps), "")
    return list(zip(paths, leaves(maps), strict=True))
