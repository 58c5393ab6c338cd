"""The values that weights have before anything is learnt, drawn anew with a seed."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from xplique_sal._tracing import keras_compat


def initial_value(layer: Any, name: str, variable: tf.Variable, seed: int) -> tf.Tensor | None:
    """Return what a layer's own initialiser makes of a variable, without its global seeds.

    Parameters
    ----------
    layer
        The layer that has the variable.
    name
        The last part of the variable's name.
    variable
        The variable, which is only looked at.
    seed
        Of what is random.

    Returns
    -------
    value
        ``None`` if the layer tells of no initialiser of its Keras for it: one of another kind may
        draw from wherever it likes.
    """
    # Of `depthwise_kernel` it is `depthwise_initializer`, as of the `kernel` of such a layer.
    known = (name, name.removesuffix("_kernel"), *(["depthwise"] if name == "kernel" else []))
    attributes = (getattr(layer, f"{each}_initializer", None) for each in known)
    initialiser: Any = next((each for each in attributes if each is not None), None)
    if type(initialiser).__module__.split(".")[0] not in keras_compat.NAMES:
        return None
    settings = initialiser.get_config()
    if "seed" in settings:
        settings["seed"] = seed
    made = type(initialiser).from_config(settings)
    value = tf.convert_to_tensor(made(variable.shape, dtype=variable.dtype.name))
    if name == "bias" and getattr(layer, "unit_forget_bias", False):
        gates = tf.split(value, 4)  # what is forgotten comes second
        value = tf.concat([gates[0], tf.ones_like(gates[1]), *gates[2:]], 0)
    return value
