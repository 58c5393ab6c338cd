"""A gradient modifier, applied while the gradient is traced, and what it may return."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from xplique_sal._data.structures import GradientModifier
from xplique_sal.errors import InvalidParameterError


def modified(modifier: GradientModifier, gradients: tf.Tensor) -> tf.Tensor:
    """Return gradients after a modifier, which must return as many real numbers.

    Raises
    ------
    InvalidParameterError
        If it returns something else, or looks at numbers that are not there while it is compiled.
    """
    wanted = "a `grad_modifier` that returns a tensor of the gradient's shape"
    returned: Any = None
    try:
        returned = modifier(gradients)
        result = tf.convert_to_tensor(returned)
    except (AttributeError, NotImplementedError, TypeError, ValueError) as error:
        if returned is None and not _asks_for_numbers(error) and "None values" not in str(error):
            raise  # an error of the modifier's own
        actual = f"one that returns a {type(returned).__name__}"
        if _asks_for_numbers(error):
            actual = "one that converts gradients to NumPy"
        raise InvalidParameterError(
            wanted,
            actual,
            "It becomes a part of the compiled gradient: write it with TensorFlow alone (tf.abs, "
            "tf.where, tf.clip_by_value), and return the result.",
        ) from error
    if not (result.dtype.is_floating or result.dtype.is_integer):
        raise InvalidParameterError(
            wanted,
            f"one that returns the dtype {result.dtype.name}",
            "Return real numbers: tf.cast(mask, tf.float32) of truth values, tf.abs of complex "
            "numbers.",
        )
    if not result.shape.is_compatible_with(gradients.shape) or result.shape.rank is None:
        raise InvalidParameterError(
            f"a `grad_modifier` that keeps the gradient's shape {tuple(gradients.shape)}",
            f"one that returns {result.shape}",
            "A modifier works element by element; `reducer` reduces channels.",
        )
    return tf.cast(result, gradients.dtype) if result.dtype.is_integer else result


def _asks_for_numbers(error: Exception) -> bool:
    """Tell whether a function failed because a tensor has no numbers while it is traced."""
    text = str(error)
    return "symbolic" in text.lower() and "numpy" in text.lower()
