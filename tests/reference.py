"""Slow and simple twins of what the package computes, and models that tests share."""

from __future__ import annotations

import functools
import importlib
from unittest import mock

import numpy as np
import tensorflow as tf


def set_seeds(keras):
    """Set a Keras's seeds, but not TensorFlow's, which would drop every compiled kernel."""
    # By its module: TensorFlow 2.16 hides `tensorflow.python` from `mock` of Python 3.10.
    context = importlib.import_module("tensorflow.python.eager.context")
    with mock.patch.object(context, "set_global_seed"):
        keras.utils.set_random_seed(0)


def built_once(build):
    """Let a function that builds a model do so once for the same arguments, Keras being the first.

    What is traced of a model is kept with it, so that tests which share a model share traces. A
    test that changes its model, or counts what is traced of it, has its own by
    ``build.anew(...)``.
    """

    @functools.cache
    def built(keras, *arguments, **options):
        model = anew(keras, *arguments, **options)
        return model, model.get_weights()

    @functools.wraps(build)
    def anew(keras, *arguments, **options):
        # Whoever asks first, and whatever was drawn before, the weights are the same.
        set_seeds(keras)
        return build(keras, *arguments, **options)

    @functools.wraps(build)
    def get(keras, *arguments, **options):
        model, weights = built(keras, *arguments, **options)
        for before, now in zip(weights, model.get_weights(), strict=True):
            np.testing.assert_array_equal(now, before, "a shared model was changed")
        return model

    get.anew = anew
    return get


def gradient(score, x):
    """∂score/∂x of a function from a batch to one score per sample, by a plain eager tape."""
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(score(x))
    return tf.convert_to_tensor(tape.gradient(total, x)).numpy()


def saliency(score, x):
    """|∂score/∂x|, with the maximum over the last axis of images and volumes."""
    magnitude = np.abs(gradient(score, x))
    return magnitude.max(-1, keepdims=True) if magnitude.ndim > 3 else magnitude


def class_score(model, classes):
    """The score of one class per sample, of a model that returns (N, L)."""
    return lambda x: tf.gather(model(x, training=False), classes, batch_dims=1)


def gradient_to_layer(model, name, x, number):
    """∂(output `number`)/∂(a layer's output) of a model that is one chain of layers."""
    layer = model.get_layer(name)
    values = type(model)(model.input, layer.output)(x)

    def score(values):
        for following in model.layers[model.layers.index(layer) + 1 :]:
            values = following(values)
        return values[:, number]

    return gradient(score, values)


def central_differences(score, x, step=1e-5):
    """∂score/∂x of a float64 NumPy function, coordinate by coordinate."""
    x = np.asarray(x, np.float64)
    result = np.zeros_like(x)
    for index in np.ndindex(x.shape[1:]):
        shift = np.zeros_like(x)
        shift[(slice(None), *index)] = step
        result[(slice(None), *index)] = (score(x + shift) - score(x - shift)) / (2 * step)
    return result
