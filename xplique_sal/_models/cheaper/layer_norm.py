"""Layer normalisation with its gradient written out.

Along the last axis it is x̂·γ + β, where x̂ is (x − mean)/√(variance + ε) of each row. Its gradient
is (h − mean(h) − x̂·mean(h·x̂))/√(variance + ε) with h = g·γ. Both means are products of a matrix and
γ. TensorFlow's goes through mean and variance step by step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from xplique_sal._models.cheaper import second
from xplique_sal._tracing import keras_compat


def layer_norm(layer: Any, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Return the output of a call of a layer normalisation while it is being traced."""
    x = keras_compat.inputs_of_call(layer, args, kwargs)
    with contextlib.suppress(AttributeError):  # settings under other names
        if _is_simple(layer, x):
            gamma = tf.convert_to_tensor(layer.gamma) if layer.scale else None
            y = normalised(x, gamma, float(layer.epsilon))
            return y + tf.convert_to_tensor(layer.beta) if layer.center else y
    return original(*args, **kwargs)


def _is_simple(layer: Any, x: Any) -> bool:
    """Tell whether x is normalised along its last axis, in single precision."""
    if not isinstance(x, tf.Tensor) or x.shape.rank is None or x.shape.rank < 2:
        return False
    axes = [*layer.axis] if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    return (
        axes in ([-1], [x.shape.rank - 1])
        and x.shape[-1] is not None
        and not getattr(layer, "rms_scaling", False)
        and {x.dtype.name, *keras_compat.policy(layer)} == {"float32"}
    )


def normalised(x: tf.Tensor, gamma: tf.Tensor | None, epsilon: float) -> tf.Tensor:
    """Return x̂·γ, or x̂."""
    gamma = tf.ones(x.shape[-1:], x.dtype) if gamma is None else gamma

    @tf.custom_gradient
    def compute(x: tf.Tensor, gamma: tf.Tensor) -> Any:
        rows, slope = _standardised(x, epsilon)

        def gradient(g: tf.Tensor) -> Any:
            weights, along = gamma / x.shape[-1], g * rows
            to_x = (g * gamma - _summed(g, weights) - rows * _summed(along, weights)) * slope
            to_gamma = tf.reduce_sum(along, list(range(len(x.shape) - 1)))
            by_parts = lambda x: _standardised(x, epsilon)[0] * gamma  # noqa: E731
            return second.differentiable(to_x, by_parts, x, g), to_gamma

        return rows * gamma, gradient

    return compute(x, gamma)


def _standardised(x: tf.Tensor, epsilon: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Return x̂, and 1/√(variance + ε) of each row."""
    rest = x - tf.reduce_mean(x, -1, keepdims=True)
    variance = tf.reduce_mean(tf.square(rest), -1, keepdims=True)
    slope = tf.math.rsqrt(variance + epsilon)
    return rest * slope, slope


def _summed(rows: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Return the weighted sum of each row, (..., 1)."""
    flat = tf.reshape(rows, [-1, weights.shape[0]])
    return tf.reshape(
        tf.matmul(flat, weights[:, tf.newaxis]), tf.concat([tf.shape(rows)[:-1], [1]], 0)
    )
