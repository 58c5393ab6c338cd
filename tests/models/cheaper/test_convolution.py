"""The gradient of a convolution to an image is TensorFlow's."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from xplique_sal._models.cheaper import convolution
from xplique_sal._models.cheaper.convolution import convolve


def attributes(stride, around, **others):
    numbers = [0, 0, *itertools.chain(*around), 0, 0]
    return {
        "strides": [1, stride, stride, 1],
        "padding": "EXPLICIT" if any(numbers) else "VALID",
        "explicit_paddings": numbers if any(numbers) else [],
        "dilations": [1, 1, 1, 1],
        "data_format": "NHWC",
        **others,
    }


def gradients(function, image, kernel, weights):
    """Of a weighted sum of squares of a convolution, so that second derivatives matter too."""
    with tf.GradientTape() as outer:
        outer.watch([image, kernel])
        with tf.GradientTape() as tape:
            tape.watch([image, kernel])
            score = tf.reduce_sum(weights * function(image, kernel) ** 2)
        first = tape.gradient(score, [image, kernel])
        slope = sum(tf.reduce_sum(part**2) for part in first)
    return [*first, *outer.gradient(slope, [image, kernel])]


@pytest.mark.parametrize("stride", [2, 3, 4])
@pytest.mark.parametrize("size", [(3, 3), (7, 7), (5, 4), (8, 9)])
@pytest.mark.parametrize(
    "around",
    [((0, 0), (0, 0)), ((1, 1), (1, 1)), ((0, 1), (0, 1)), ((3, 3), (2, 4)), ((0, 6), (5, 0))],
    ids=str,
)
@pytest.mark.parametrize("length", [(16, 16), (17, 15), (9, 22)], ids=str)
def test_gradient_is_that_of_tensorflow(rng, stride, size, around, length):
    image = tf.constant(rng.normal(size=(2, *length, 3)))
    kernel = tf.constant(rng.normal(size=(*size, 3, 5)))
    settings = attributes(stride, around)

    def plain(image, kernel):
        return tf.raw_ops.Conv2D(input=image, filter=kernel, **settings)

    def ours(image, kernel):
        return convolve(image, kernel, [(0, 0), *around, (0, 0)], settings)

    expected = plain(image, kernel)
    np.testing.assert_allclose(ours(image, kernel), expected)
    weights = tf.constant(rng.normal(size=expected.shape))
    wanted = gradients(plain, image, kernel, weights)
    for mine, theirs in zip(gradients(ours, image, kernel, weights), wanted, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-9 * np.abs(theirs).max())


def is_ours(image, kernel, around, settings):
    return convolution._axes(image, kernel, around, settings) is not None


def test_what_is_left_to_tensorflow():
    image, kernel = tf.zeros([1, 16, 16, 3]), tf.zeros([7, 7, 3, 5])
    around = [(0, 0)] * 4
    settings = attributes(2, ((0, 0), (0, 0)))
    assert is_ours(image, kernel, around, settings)
    assert not is_ours(image, kernel, None, settings)
    assert not is_ours(image, kernel, around, attributes(1, ((0, 0), (0, 0))))
    assert not is_ours(image, kernel, around, settings | {"strides": [1, 2, 3, 1]})
    assert not is_ours(image, kernel, around, settings | {"dilations": [1, 2, 2, 1]})
    assert not is_ours(image, kernel, around, settings | {"data_format": "NCHW"})
    assert not is_ours(image, tf.zeros([2, 2, 3, 5]), around, settings)  # nothing overlaps
    assert not is_ours(image, tf.zeros([7, 7, 1, 6]), around, settings)  # groups
    assert not is_ours(tf.zeros([1, 16, 16, 8]), tf.zeros([7, 7, 8, 5]), around, settings)
    # A row of outputs that see nothing but zeros, before or behind the image.
    behind, before = [(0, 0), (0, 9), (0, 0), (0, 0)], [(0, 0), (8, 0), (0, 0), (0, 0)]
    assert not is_ours(image, kernel, behind, settings)
    assert not is_ours(image, kernel, before, settings)
