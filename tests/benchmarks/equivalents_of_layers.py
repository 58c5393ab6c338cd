"""Measures layers beside what is computed instead of them: forwards and backwards, or forwards.

``python tests/benchmarks/equivalents_of_layers.py`` prints the time over TensorFlow's own.
"""

import numpy as np
import tensorflow as tf
from timing import in_turns, ratios

from xplique_sal._engine import reducers
from xplique_sal._models.cheaper import batch_norm, convolution, equivalents

COUNT, TENSORFLOW, OURS = 16, "TensorFlow", "ours"


def backwards(function, x):
    """Return a compiled call of a function and of its gradient to `x`."""

    @tf.function
    def gradient():
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        return tape.gradient(y, x)

    return gradient


def random(*shape):
    """Return a tensor of normal numbers."""
    return tf.constant(np.random.default_rng(0).normal(size=shape).astype("float32"))


def stem(size, stride, padding, filters):
    """Return the first convolution of a network for images, in both ways."""
    kernel = random(size, size, 3, filters) / 10
    attributes = {
        "strides": [1, stride, stride, 1],
        "padding": "EXPLICIT",
        "explicit_paddings": [0, 0, *padding, *padding, 0, 0],
        "dilations": [1, 1, 1, 1],
        "data_format": "NHWC",
    }
    around = [(0, 0), padding, padding, (0, 0)]
    return {
        TENSORFLOW: lambda x: tf.raw_ops.Conv2D(input=x, filter=kernel, **attributes),
        OURS: lambda x: convolution.convolve(x, kernel, around, attributes),
    }


def weighted(average):
    """Return channels weighted by their average, as in squeeze-and-excitation networks."""
    return lambda x: x * tf.sigmoid(average(x))


def measured():
    """Return the calls of each pair."""
    images, hidden = random(COUNT, 224, 224, 3), random(COUNT, 56, 56, 96)
    scale, offset = random(96), random(96)
    axes = [1, 2]
    pairs = {
        "swish": (hidden, {TENSORFLOW: tf.nn.silu, OURS: equivalents.x_sigmoid_x}),
        "x·σ(global average of x)": (
            hidden,
            {
                TENSORFLOW: weighted(lambda x: tf.reduce_mean(x, axes, keepdims=True)),
                OURS: weighted(lambda x: equivalents.average(x, axes, keepdims=True)),
            },
        ),
        "relu(s·x + b)": (
            hidden,
            {
                TENSORFLOW: lambda x: tf.nn.relu(x * scale + offset),
                OURS: lambda x: tf.nn.relu(batch_norm.affine(x, scale, offset)),
            },
        ),
        "7×7 convolution of images, stride 2": (images, stem(7, 2, (3, 3), 64)),
        "3×3 convolution of images, stride 2": (images, stem(3, 2, (0, 1), 32)),
    }
    calls = {}
    for name, (x, functions) in pairs.items():
        calls[name] = {who: backwards(function, x) for who, function in functions.items()}
    calls["maximum over 3 channels"] = {
        TENSORFLOW: tf.function(lambda: tf.reduce_max(images, -1, keepdims=True)),
        OURS: tf.function(lambda: reducers.reduce(images, "max", 3)),
    }
    return calls


if __name__ == "__main__":
    for name, calls in measured().items():
        found = ratios(in_turns(calls, rounds=9), TENSORFLOW)[OURS]
        print(f"{name}: {found['ratio']:.2f} ({found['low']:.2f} to {found['high']:.2f})")
