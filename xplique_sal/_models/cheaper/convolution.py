"""Convolutions that read images, with a cheaper gradient to the images than TensorFlow's.

The gradient of a convolution with stride s to its input has the few channels of the image, for
which TensorFlow's kernels are slow. Every s-th pixel of it is a convolution of the upstream
gradient with every s-th weight, so that one convolution with s² times as many channels gives all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

#: More channels than these are not slow.
_MOST_CHANNELS = 4


class _Axis(NamedTuple):
    """How one axis of an upstream gradient becomes one of the image: every pixel of one block.

    Attributes
    ----------
    taps
        How many neighbours of the upstream gradient a block of the image depends on.
    around_kernel
        The zeros around the kernel that make it `taps` times the stride long.
    around_gradient
        The zeros around the upstream gradient.
    """

    taps: int
    around_kernel: tuple[int, int]
    around_gradient: tuple[int, int]


def convolve(image: tf.Tensor, kernel: tf.Tensor, around: Any, attributes: Any) -> tf.Tensor:
    """Return `tf.raw_ops.Conv2D` of images and a kernel.

    Parameters
    ----------
    image, kernel
        What is convolved.
    around
        The zeros around the image, before and after it along each of its axes; ``None`` if they
        are not known.
    attributes
        Those of the op.
    """
    axes = _axes(image, kernel, around, attributes)
    if axes is None:
        return tf.raw_ops.Conv2D(input=image, filter=kernel, **attributes)
    stride = attributes["strides"][1]

    @tf.custom_gradient
    def compute(
        image: tf.Tensor, kernel: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]]:
        def gradient(g: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            to_kernel = tf.raw_ops.Conv2DBackpropFilter(
                input=image, filter_sizes=tf.shape(kernel), out_backprop=g, **attributes
            )
            return _gradient(g, kernel, stride, axes, image.shape), to_kernel

        return tf.raw_ops.Conv2D(input=image, filter=kernel, **attributes), gradient

    return compute(image, kernel)


def _axes(
    image: tf.Tensor, kernel: tf.Tensor, around: Any, attributes: Any
) -> tuple[_Axis, _Axis] | None:
    """Return how both axes are made; ``None`` where TensorFlow's own gradient is to be used."""
    strides = attributes["strides"]
    if (
        around is None
        or attributes["data_format"] != "NHWC"
        or set(attributes["dilations"]) != {1}
        or strides[1] != strides[2]
        or strides[1] == 1
        or not image.shape[1:].is_fully_defined()
        or not kernel.shape.is_fully_defined()
        or image.shape[3] > _MOST_CHANNELS
        or image.shape[3] != kernel.shape[2]
    ):
        return None
    rows, columns = (
        _axis(image.shape[axis], kernel.shape[axis - 1], strides[axis], around[axis])
        for axis in (1, 2)
    )
    return None if rows is None or columns is None else (rows, columns)


def _axis(length: int, size: int, stride: int, around: tuple[int, int]) -> _Axis | None:
    """Return how an axis is made, where windows overlap and no zeros are all that one sees.

    Pixel s·U + r of the image is seen by position U + t of the output through weight
    r + before − s·t of the kernel, if that is one.
    """
    before, after = around
    outputs = (length + before + after - size) // stride + 1
    first, last = -((size - 1 - before) // stride), -(-before // stride)
    taps = last - first + 1
    lead = stride * last - before
    behind = -(-length // stride) + last - outputs
    if size <= stride or first > 0 or behind < 0:
        return None
    return _Axis(taps, (lead, stride * taps - lead - size), (-first, behind))


def _gradient(
    g: tf.Tensor, kernel: tf.Tensor, stride: int, axes: tuple[_Axis, _Axis], shape: tf.TensorShape
) -> tf.Tensor:
    rows, columns = axes
    _, height, width, channels = shape
    filters = kernel.shape[3]
    kernel = tf.pad(kernel, [rows.around_kernel, columns.around_kernel, (0, 0), (0, 0)])
    kernel = tf.reshape(kernel, [rows.taps, stride, columns.taps, stride, channels, filters])
    kernel = tf.transpose(tf.reverse(kernel, [0, 2]), [0, 2, 5, 1, 3, 4])
    kernel = tf.reshape(kernel, [rows.taps, columns.taps, filters, stride * stride * channels])
    blocks = tf.nn.conv2d(
        g, kernel, 1, [(0, 0), rows.around_gradient, columns.around_gradient, (0, 0)]
    )
    return tf.nn.depth_to_space(blocks, stride)[:, :height, :width]
