"""Elementwise functions on gradients, applied before the channels are reduced.

They are those of keras-vis, with ε = 1e-7.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from xplique_sal._data.structures import GradientModifier
from xplique_sal._tracing.held import weakly_referable
from xplique_sal.errors import InvalidParameterError

_EPSILON = 1e-7


def absolute(gradients: tf.Tensor) -> tf.Tensor:
    """Return |g|: what changes the score in either direction."""
    return tf.abs(gradients)


def relu(gradients: tf.Tensor) -> tf.Tensor:
    """Return max(g, 0): what increases the score."""
    return tf.nn.relu(gradients)


def negate(gradients: tf.Tensor) -> tf.Tensor:
    """Return −g: what decreases the score is positive."""
    return -gradients


def invert(gradients: tf.Tensor) -> tf.Tensor:
    """Return 1/(g + ε): small gradients become large, with their sign."""
    return 1.0 / (gradients + _EPSILON)


def small_values(gradients: tf.Tensor) -> tf.Tensor:
    """Return |1/(g + ε)|: what keeps the score as it is."""
    return tf.abs(invert(gradients))


_BY_NAME: dict[str, GradientModifier] = {
    modifier.__name__: modifier for modifier in (absolute, relu, negate, invert, small_values)
}


def resolve(modifier: GradientModifier | str | None) -> GradientModifier | None:
    """Return the function that a name or a callable stands for; ``None`` for none.

    Raises
    ------
    InvalidParameterError
        If there is none of that name.
    """
    if modifier is None:
        return None
    if callable(modifier) and not isinstance(modifier, str):
        return weakly_referable(modifier)
    if isinstance(modifier, str) and modifier in _BY_NAME:
        return _BY_NAME[modifier]
    raise InvalidParameterError(
        f"a `grad_modifier` among {', '.join(map(repr, _BY_NAME))}, a callable or None",
        repr(modifier),
        "Pass one of these.",
    )


def compose(*modifiers: GradientModifier | str) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return the modifier that applies `modifiers` from left to right."""
    functions = [function for function in map(resolve, modifiers) if function is not None]

    def composed(gradients: tf.Tensor) -> tf.Tensor:
        for function in functions:
            gradients = function(gradients)
        return gradients

    return composed
