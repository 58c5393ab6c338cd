"""Other weights for a model, layer by layer, which stand beside its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from xplique_sal._tracing import keras_compat, layer_paths, reached
from xplique_sal._tracing.initial_values import initial_value
from xplique_sal.errors import InvalidModelError

#: The last part of the names of running statistics, which belong to the data and not to learning.
_STATISTICS = frozenset({"moving_mean", "moving_variance", "mean", "variance"})


class RandomLayer(NamedTuple):
    """A layer of a model with weights that stand in for its own.

    Attributes
    ----------
    path
        The layer's path; of a variable of no layer, the scope of its name, or its name.
    pairs
        Its variables, each with what stands in for it.
    """

    path: str
    pairs: list[tuple[tf.Variable, tf.Variable]]


def randomized(model: Any, variables: Sequence[tf.Variable], seed: int) -> list[RandomLayer]:
    """Return the layers of some variables with other weights, from the output to the input.

    Each variable is drawn anew by the initialiser that its layer has for it. Where there is none,
    as in a layer of one's own or a graph that was saved, its entries are shuffled, all of them:
    which weight is where is lost, and how large weights are is kept. Running statistics stay.

    Parameters
    ----------
    model
        The model.
    variables
        In the order in which it reads them.
    seed
        Of what is drawn.

    Raises
    ------
    InvalidModelError
        If none of the variables can be drawn anew or shuffled.
    """
    owners = _owners(model)
    layers: dict[str, list[tuple[tf.Variable, tf.Variable]]] = {}
    for number, variable in enumerate(variables):
        name = variable.name.split("/")[-1].split(":")[0]
        is_statistic = name in _STATISTICS and not variable.trainable
        if not variable.dtype.is_floating or is_statistic:
            continue
        scope = variable.name.rpartition("/")[0]  # of a graph that was saved: its layer's name
        path, layer = owners.get(id(variable.handle), (scope or variable.name, None))
        drawn = int(np.random.default_rng([seed, number]).integers(1 << 31))
        value = None if layer is None else initial_value(layer, name, variable, drawn)
        if value is None:
            value = _shuffled(variable, drawn)
        if value is not None:
            other = tf.Variable(value, trainable=False, dtype=variable.dtype)
            layers.setdefault(path, []).append((variable, other))
    if not layers:
        raise InvalidModelError(
            "a model that reads variables with weights",
            f"one that reads {len(variables)} variables, and no weights among them",
            "Constants that a function holds, or a graph without variables, can not be replaced.",
        )
    return [RandomLayer(path, pairs) for path, pairs in reversed(layers.items())]


def _shuffled(variable: tf.Variable, seed: int) -> tf.Tensor | None:
    """Return a variable's entries in another order; ``None`` where there are not several."""
    size = int(np.prod(variable.shape))
    if size < 2:
        return None
    order = np.random.default_rng(seed).permutation(size)
    return tf.reshape(tf.gather(tf.reshape(variable, [-1]), order), variable.shape)


def _owners(model: Any) -> dict[int, tuple[str, Any]]:
    """Return the innermost layer of each variable and its path, by the id of the handle."""
    owners: dict[int, tuple[str, Any]] = {}
    for layer in reached.all_layers_in(model):  # parents first
        path = layer_paths.path_of(model, layer) or layer.name
        owners.update({id(v.handle): (path, layer) for v in keras_compat.variables(layer)})
    return owners
