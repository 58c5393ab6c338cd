"""Layers computed in another way while a gradient is traced: the same function, made cheaper."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from xplique_sal._models.cheaper import batch_norm, layer_norm, recurrent
from xplique_sal._tracing import keras_compat, reached, wrapping


@contextlib.contextmanager
def replacing_layers(model: Any, fold_batch_norm: bool, own_gradients: bool) -> Iterator[None]:
    """Compute layers of a model that runs in this block in the cheapest way that is known.

    Parameters
    ----------
    model
        What runs.
    fold_batch_norm
        Whether batch normalisation is folded.
    own_gradients
        Whether to take ways with a gradient of their own. Without a gradient TensorFlow's ops are
        as cheap, and a rule may be for one of them.
    """
    ways: dict[int, Callable[..., Any]] = {}
    layers, activated = [], {}
    for layer in reached.all_layers_in(model):
        name = keras_compat.own_activation(layer, _ACTIVATIONS) if own_gradients else None
        if name is not None:
            activated[id(layer)] = layer, _ACTIVATIONS[name]
        if fold_batch_norm and keras_compat.is_batch_normalization(layer):
            ways[id(layer)] = functools.partial(batch_norm.folded, own_gradients)
        elif own_gradients and keras_compat.is_average_of_image(layer):
            ways[id(layer)] = _average
        elif own_gradients and keras_compat.is_own_lstm(layer):
            ways[id(layer)] = recurrent.lstm
        elif own_gradients and keras_compat.is_own(layer, "LayerNormalization"):
            ways[id(layer)] = layer_norm.layer_norm
        else:
            continue
        layers.append(layer)

    def compute(layer: Any, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        return ways[id(layer)](layer, original, args, kwargs)

    def activate(layer: Any, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if len(args) == 1 and not kwargs and _is_full(args[0]):
            return activated[id(layer)][1](args[0])
        return original(*args, **kwargs)

    with_activation = [layer for layer, _ in activated.values()]
    with (
        wrapping.calls_passed_through(layers, compute),
        wrapping.calls_passed_through(with_activation, activate, "activation"),
    ):
        yield


@tf.custom_gradient
def x_sigmoid_x(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """Return y = x·σ(x) with the gradient σ + x·σ·(1 − σ), in four ops instead of six.

    Only x is kept for the gradient, as in TensorFlow's own; σ is computed again.
    """

    def gradient(g: tf.Tensor) -> tf.Tensor:
        with tf.control_dependencies([g]):  # else σ would be kept, and not made part of y
            sigma = tf.sigmoid(x)
        return g * (sigma + tf.raw_ops.SigmoidGrad(y=sigma, dy=x))

    return x * tf.sigmoid(x), gradient


@tf.custom_gradient
def gelu(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """Return y = x·Φ(x) with the gradient Φ + x·φ, where φ is the density of Φ.

    Only x is kept for the gradient; Φ is computed again.
    """

    def gradient(g: tf.Tensor) -> tf.Tensor:
        with tf.control_dependencies([g]):
            below = 0.5 * tf.math.erf(x * math.sqrt(0.5)) + 0.5
        density = tf.exp(tf.square(x) * -0.5) * (1 / math.sqrt(2 * math.pi))
        return g * (below + x * density)

    return tf.nn.gelu(x, approximate=False), gradient


#: Keras's names of activations that are computed in another way.
_ACTIVATIONS = {"swish": x_sigmoid_x, "gelu": gelu}


def _average(layer: Any, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    x = keras_compat.inputs_of_call(layer, args, kwargs)
    if not _is_full(x):
        return original(*args, **kwargs)
    axes = [1, 2] if layer.data_format == "channels_last" else [2, 3]
    return average(x, axes, layer.keepdims)


def average(x: tf.Tensor, axes: list[int], keepdims: bool) -> tf.Tensor:
    """Return the average along axes, as a sum over a count.

    TensorFlow's gradient of an average is divided when it is as large as x, that of this before.
    """
    count = tf.reduce_prod([tf.shape(x)[axis] for axis in axes])
    return tf.reduce_sum(x, axes, keepdims=keepdims) / tf.cast(count, x.dtype)


def _is_full(x: Any) -> bool:
    """Tell whether x is a tensor of full precision: a sum may overflow in half precision."""
    return isinstance(x, tf.Tensor) and x.dtype in (tf.float32, tf.float64)
