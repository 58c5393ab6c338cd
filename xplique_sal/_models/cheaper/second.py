"""Gradients that are given, with the gradient of a gradient from the function itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def differentiable(
    gradient: tf.Tensor, function: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor, g: tf.Tensor
) -> tf.Tensor:
    """Return a gradient that can itself be differentiated, for operators that do so with f.

    Parameters
    ----------
    gradient
        What is returned: g·∂y/∂x.
    function
        From x to y by operations that can be differentiated twice.
    x, g
        What it is the gradient to, and the incoming gradient.
    """

    @tf.custom_gradient
    def once(x: tf.Tensor, g: tf.Tensor) -> Any:
        return tf.identity(gradient), lambda gg: _second(function, x, g, gg)

    return once(x, g)


def _second(
    function: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor, g: tf.Tensor, gg: tf.Tensor
) -> list[tf.Tensor]:
    # Copies: g itself may depend on x, and that is not asked for here.
    x, g = tf.identity(x), tf.identity(g)
    first = tf.gradients(function(x), x, g)
    zero = tf.UnconnectedGradients.ZERO
    return list(tf.gradients(first, [x, g], gg, unconnected_gradients=zero))
