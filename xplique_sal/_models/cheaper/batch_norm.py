"""Computing batch normalisation inside the convolution before it: the same function, faster.

For inference, batch normalisation is y = s·x + b for each channel. Where x is the output of a
convolution, that convolution with the filter times s, plus b, is y. What the normalisation was made
of is never run then, neither forwards nor backwards.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from xplique_sal._models.cheaper.convolution import convolve
from xplique_sal._tracing import keras_compat

#: Convolutions, with the axes of their filter that make up the channels of their output.
_CONVOLUTIONS = {"Conv2D": (3,), "DepthwiseConv2dNative": (2, 3)}


class _Normalization(NamedTuple):
    """(x − mean)·scale + center, along one axis of x.

    Attributes
    ----------
    x
        What is normalised.
    axis
        Of the channels, from 0.
    mean, scale
        A number for each channel.
    center
        A number for each channel, or one for all.
    """

    x: tf.Tensor
    axis: int
    mean: tf.Tensor
    scale: tf.Tensor
    center: Any

    def offset(self, bias: tf.Tensor | None = None) -> tf.Tensor:
        """Return b such that scale·x + b is the normalisation of x, or of x + bias."""
        mean = self.mean if bias is None else self.mean - bias
        return self.center - mean * self.scale


def folded(
    own_gradients: bool, layer: Any, original: Callable[..., Any], args: Any, kwargs: Any
) -> Any:
    """Return the output of a call of a batch normalisation, folded while it is being traced.

    Where a layer normalises anything but the output of a convolution, s·x + b is computed.
    A tensor that a tape watches is the output of an identity, and not of a convolution: no
    gradient is lost.
    """
    parts = _parts(layer, args, kwargs)
    if parts is None:
        return original(*args, **kwargs)
    normalization = _Normalization(*parts)
    convolved = _into_convolution(normalization, own_gradients)
    if convolved is not None:
        return convolved
    x, axis, _, scale, _ = normalization
    offset = normalization.offset()
    last = len(x.shape) - 1
    if axis != last:
        scale, offset = (_on_axis(v, axis, last) for v in (scale, offset))
    elif own_gradients and last == 3 and x.dtype == tf.float32:
        return affine(x, scale, offset)
    return x * scale + offset


def _parts(
    layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tf.Tensor, int, tf.Tensor, tf.Tensor, Any] | None:
    """Return x, axis, mean, s and c such that a batch normalisation's call is (x − mean)·s + c.

    ``None`` is returned where it is not so, or not in the precision of the variables: in training,
    in half precision, along several axes, in virtual batches, or kept under other names.
    """
    with contextlib.suppress(AttributeError):
        return _inference_parts(layer, args, kwargs)
    return None


def _inference_parts(
    layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tf.Tensor, int, tf.Tensor, tf.Tensor, Any] | None:
    bound = inspect.signature(type(layer).call).bind(layer, *args, **kwargs).arguments
    x, training = bound.get("inputs"), bound.get("training")
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    if (
        not isinstance(training, (bool, int))
        or training
        or len(axes) != 1
        or getattr(layer, "virtual_batch_size", None) is not None
        or not isinstance(x, tf.Tensor)
        or {x.dtype.name, *keras_compat.policy(layer)} != {x.dtype.name}
        or x.shape.rank is None
    ):
        return None
    scale = tf.math.rsqrt(layer.moving_variance + layer.epsilon)
    if layer.scale:
        scale *= layer.gamma
    mean = tf.convert_to_tensor(layer.moving_mean)
    center = tf.convert_to_tensor(layer.beta) if layer.center else 0.0
    return x, axes[0] % x.shape.rank, mean, scale, center


def affine(x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    """Return s·x + b of images by the one op of TensorFlow that computes it.

    It is also part of the rectifier after it then. Its own gradient would do more than is asked.
    """

    @tf.custom_gradient
    def compute(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        neutral = {"mean": tf.zeros_like(scale), "variance": tf.ones_like(scale), "epsilon": 0.0}
        y = tf.raw_ops.FusedBatchNormV3(
            x=x, scale=scale, offset=offset, **neutral, is_training=False
        ).y
        return y, lambda g: g * scale

    return compute(x)


def _on_axis(vector: tf.Tensor, axis: int, last: int) -> tf.Tensor:
    """Return a vector in a shape that broadcasts along one of the axes up to `last`."""
    shape = [1] * (last + 1)
    shape[axis] = -1
    return tf.reshape(vector, shape)


def _into_convolution(normalization: _Normalization, own_gradients: bool) -> tf.Tensor | None:
    """Return s·x + b as a convolution, if a convolution made x and nothing else uses it."""
    x, axis, scale = normalization.x, normalization.axis, normalization.scale
    bias = None
    source = x
    if source.op.type == "BiasAdd" and not source.consumers():
        source, bias = source.op.inputs
    elif source.op.type == "AddV2" and not source.consumers():
        source, bias = source.op.inputs
        wanted = [1] * len(x.shape)
        wanted[axis] = x.shape[axis]
        if bias.shape != wanted and (axis != len(x.shape) - 1 or bias.shape != wanted[-1:]):
            return None
        bias = tf.reshape(bias, [-1])
    others = [] if bias is None else [x.op]
    op = source.op
    if op.type not in _CONVOLUTIONS or [*source.consumers()] != others:
        return None
    data_format = op.get_attr("data_format").decode()
    if axis != data_format.index("C"):
        return None
    image, kernel = op.inputs
    channels = [kernel.shape[position] for position in _CONVOLUTIONS[op.type]]
    image, padding = _without_padding(image, op)
    kernel = kernel * (scale if len(channels) == 1 else tf.reshape(scale, channels))
    attributes = {
        "strides": op.get_attr("strides"),
        "dilations": op.get_attr("dilations"),
        "data_format": data_format,
        **padding,
    }
    if op.type == "Conv2D" and own_gradients:
        convolved = convolve(image, kernel, _zeros(image, op, padding), attributes)
    else:
        convolution = getattr(tf.raw_ops, op.type)
        convolved = convolution(input=image, filter=kernel, **attributes)
    result = tf.nn.bias_add(convolved, normalization.offset(bias), data_format=data_format)
    result.set_shape(x.shape)  # without an op, which TensorFlow could not fuse into a kernel
    return result


def _without_padding(
    image: tf.Tensor, convolution: tf.Operation
) -> tuple[tf.Tensor, dict[str, Any]]:
    """Return the input of a convolution before zeros were put around it, and how it is padded.

    A convolution that pads by itself never makes the larger image, nor its gradient.
    """
    padding = {
        "padding": convolution.get_attr("padding").decode(),
        "explicit_paddings": convolution.get_attr("explicit_paddings"),
    }
    if padding["padding"] != "VALID" or image.op.type not in ("Pad", "PadV2"):
        return image, padding
    source, *settings = image.op.inputs
    around, value = (*map(tf.get_static_value, settings), 0.0)[:2]
    if around is None or value != 0.0:
        return image, padding
    around = [tuple(sides) for sides in around.tolist()]
    kernel = convolution.inputs[1]
    if around == _same_padding(source, convolution):
        return source, {"padding": "SAME", "explicit_paddings": []}
    channels = convolution.get_attr("data_format").decode().index("C")
    grouped = source.shape[channels] is None or source.shape[channels] != kernel.shape[2]
    if convolution.type != "Conv2D" or grouped or around[0] != (0, 0) or around[channels] != (0, 0):
        # Nor does TensorFlow optimise a depthwise convolution with explicit padding, and on a CPU
        # it has no grouped one.
        return image, padding
    return source, {
        "padding": "EXPLICIT",
        "explicit_paddings": [n for sides in around for n in sides],
    }


def _zeros(
    image: tf.Tensor, convolution: tf.Operation, padding: dict[str, Any]
) -> list[tuple[int, int]] | None:
    """Return the zeros that a convolution puts around its image, if they are known."""
    if padding["padding"] == "SAME":
        return _same_padding(image, convolution)
    numbers = padding["explicit_paddings"] or [0] * 8
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _same_padding(image: tf.Tensor, convolution: tf.Operation) -> list[tuple[int, int]] | None:
    """Return the zeros that ``"SAME"`` puts around an image, if its size is known."""
    axes = convolution.get_attr("data_format").decode()
    around = []
    for axis, name in enumerate(axes):
        size = image.shape[axis]
        if name not in "HW":
            around.append((0, 0))
            continue
        if size is None:
            return None
        stride, dilation = (convolution.get_attr(n)[axis] for n in ("strides", "dilations"))
        reach = (convolution.inputs[1].shape["HW".index(name)] - 1) * dilation + 1
        total = max((-(-size // stride) - 1) * stride + reach - size, 0)
        around.append((total // 2, total - total // 2))
    return around
