"""Rules for the gradient of a rectifier, in place of its derivative.

A rule gets a rectifier y = φ(x) and the incoming gradient g, and returns the gradient g_x that goes
on to x. Every rectifier of the explained model follows it, elementwise.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import tensorflow as tf

from xplique_sal._tracing.held import weakly_referable
from xplique_sal.errors import InvalidParameterError


class Rectifier(NamedTuple):
    """One call of a rectifier y = φ(x) in a model.

    Attributes
    ----------
    x, y
        Its input and output.
    slope
        The slope of φ for positive x: 1, or λ for SELU.
    backward
        From an incoming gradient g to g·φ′(x).
    """

    x: tf.Tensor
    y: tf.Tensor
    slope: float
    backward: Callable[[tf.Tensor], tf.Tensor]


Rule: TypeAlias = Callable[[Rectifier, tf.Tensor], tf.Tensor]


def guided(rectifier: Rectifier, g: tf.Tensor) -> tf.Tensor:
    """Return max(g, 0)·[x > 0]·φ′(x).

    References
    ----------
    Springenberg et al., "Striving for Simplicity: The All Convolutional Net", 2014, section 3.4.
    """
    gradient = rectifier.backward(tf.nn.relu(g))
    return tf.where(rectifier.x > 0, gradient, tf.zeros_like(gradient))


def deconv(rectifier: Rectifier, g: tf.Tensor) -> tf.Tensor:
    """Return max(g, 0)·s, with s the slope of φ for positive x, for every x.

    References
    ----------
    Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2014, section 2.1.
    """
    return tf.nn.relu(g) * tf.cast(rectifier.slope, g.dtype)


_BY_NAME: dict[str, Rule] = {
    "guided": guided,
    "deconv": deconv,
    "relu": deconv,
    "rectified": deconv,
}


def resolve(modifier: Any) -> Rule | None:
    """Return the rule that a name or a callable ``rule(x, y, g)`` stands for; ``None`` for none.

    Raises
    ------
    InvalidParameterError
        If there is none of that name, or the callable does not take three arguments.
    """
    if modifier is None:
        return None
    if isinstance(modifier, str) and modifier in _BY_NAME:
        return _BY_NAME[modifier]
    if isinstance(modifier, str) or not callable(modifier):
        raise InvalidParameterError(
            f"a `backprop_modifier` among {', '.join(map(repr, _BY_NAME))}, a callable or None",
            repr(modifier),
            "Pass one of these, or a function rule(x, y, g) that returns the gradient for x.",
        )
    try:
        inspect.signature(modifier).bind(None, None, None)
    except TypeError:
        raise InvalidParameterError(
            "a `backprop_modifier` that takes three arguments",
            f"one with the signature {inspect.signature(modifier)}",
            "Write it as rule(x, y, g): the rectifier's input, its output, the incoming gradient.",
        ) from None
    except ValueError:
        pass  # some built-in callables do not tell
    return UserRule(weakly_referable(modifier))


class UserRule:
    """A user's ``rule(x, y, g)``."""

    def __init__(self, function: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]) -> None:
        self.function = function

    def __call__(self, rectifier: Rectifier, g: tf.Tensor) -> tf.Tensor:
        """Return what the user's function makes of the rectifier."""
        result = tf.convert_to_tensor(self.function(rectifier.x, rectifier.y, g))
        if not result.shape.is_compatible_with(g.shape):
            raise InvalidParameterError(
                f"a `backprop_modifier` that returns the gradient's shape {g.shape}",
                f"one that returns {result.shape}",
                "A rule works element by element.",
            )
        return tf.cast(result, g.dtype)
