"""Models of any kind as one thing that is called on a batch."""

from __future__ import annotations

import functools
import re
from typing import Any

import tensorflow as tf

from xplique_sal._data.structures import Structure, leaves
from xplique_sal._tracing import keras_compat
from xplique_sal.errors import InvalidModelError


def check_model(model: Any) -> None:
    """Refuse what is not a model that TensorFlow can differentiate.

    Raises
    ------
    InvalidModelError
    """
    if is_differentiable(model):
        if keras_compat.is_layer(model):
            keras_compat.check_backend(model)
        return
    remedy = "Explain it with a black-box method, which needs no gradient."
    if isinstance(model, type):
        remedy = "Pass an instance of it."
    elif isinstance(model, tf.Module) or callable(model):
        remedy = (
            "Give it as a `tf.Module` with a `__call__`, or explain it with a black-box method."
        )
    kind = model.__name__ if isinstance(model, type) else type(model).__name__
    raise InvalidModelError(
        "a tf-keras or Keras 3 model, a callable `tf.Module` or a loaded SavedModel",
        f"{'the class' if isinstance(model, type) else 'an object of type'} {kind}",
        remedy,
    )


def is_differentiable(model: Any) -> bool:
    """Tell whether a model is of a kind that TensorFlow can differentiate."""
    is_module = isinstance(model, tf.Module) and callable(model)
    return is_module or keras_compat.is_layer(model) or _is_saved_model(model)


def _is_saved_model(model: Any) -> bool:
    loaded = hasattr(model, "signatures") and hasattr(model, "tensorflow_version")
    return loaded and (callable(model) or "serving_default" in model.signatures)


def invoke(model: Any, inputs: Structure) -> Any:
    """Run a model for inference on inputs that are packed as it wants them."""
    if keras_compat.is_layer(model):
        return with_autograph()(keras_compat.call, model, inputs)
    if not callable(model):
        return _call_signature(model.signatures["serving_default"], inputs)
    if _is_saved_model(model):
        # What `training` defaults to was lost when the model was saved.
        try:
            return model(inputs, training=False)
        except (TypeError, ValueError):
            return model(inputs)
    if keras_compat.accepts_training(model):
        return with_autograph()(model, inputs, training=False)
    return with_autograph()(model, inputs)


def _call_signature(signature: Any, inputs: Structure) -> Any:
    names = list(signature.structured_input_signature[1])
    given = inputs if isinstance(inputs, dict) else dict(zip(names, leaves(inputs), strict=False))
    if set(given) != set(names):
        raise InvalidModelError(
            f"the inputs {names}, as the SavedModel's signature names them",
            f"{list(given)}",
            "Pass a dict with these names.",
        )
    outputs = signature(**given)
    # A signature has names for its outputs, and no order; tf-keras numbers those of a list.
    return {name: outputs[name] for name in sorted(outputs, key=_by_number)}


def _by_number(name: str) -> list[tuple[str, int]]:
    """Return what names are sorted by, so that ``"output_2"`` comes before ``"output_10"``."""
    return [(text, int(number or 0)) for text, number in re.findall(r"(\D*)(\d*)", name)]


@functools.lru_cache(maxsize=1)
def with_autograph() -> Any:
    """Return a function that calls its first argument with the rest, under autograph.

    tf-keras converts a user's `call` only where autograph is on, and an operator may branch on
    tensors. The package's own code is traced without it.
    """

    def call(function: Any, *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return tf.autograph.to_graph(call)


def call_with_autograph(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Call a user's function as `tf.function` would trace it."""
    return with_autograph()(function, *args, **kwargs)
