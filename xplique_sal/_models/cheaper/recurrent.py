"""LSTM layers by TensorFlow's one operation for a whole sequence, with a gradient of their own.

Keras computes an LSTM by a loop of small operations in the graph, of which TensorFlow makes another
loop for the gradient. One operation does either at once. The gradient that TensorFlow has
registered for it takes the gates in another order than it does, so that it is asked for by name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from xplique_sal._models.cheaper import second
from xplique_sal._tracing import keras_compat

#: What a gradient function returns for: the sequences, the kernels of both, the bias.
_Gradients = tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]


class _Unrolled(NamedTuple):
    """What the operation is given, and what it returns that its gradient needs."""

    given: dict[str, Any]
    results: dict[str, tf.Tensor]


def lstm(layer: Any, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Return the output of a call of an LSTM while it is being traced."""
    parts = _parts(layer, args, kwargs)
    if parts is None:
        return original(*args, **kwargs)
    every_step, units = bool(layer.return_sequences), parts[2].shape[0]

    def by_keras(x: tf.Tensor) -> tf.Tensor:
        output = original(x, training=False)
        return output if every_step else output[:, tf.newaxis]

    states = states_of(parts, bool(layer.go_backwards), every_step, by_keras)
    steps = parts[0].shape[1] if every_step else 1
    states.set_shape([parts[0].shape[0], steps, units])
    return states if every_step else states[:, 0]


def _parts(
    layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor] | None:
    """Return the sequences, kernels and bias of a call of an LSTM that is nothing but an LSTM.

    ``None`` is returned where it is more, or has not single precision throughout: in training, with
    a mask or a state to begin with, with the steps on the first axis.
    """
    bound = inspect.signature(type(layer).call).bind(layer, *args, **kwargs).arguments
    bound.pop("self")
    x = bound.pop("sequences", bound.pop("inputs", None))
    training = bound.pop("training", None)
    if (
        not isinstance(training, (bool, int))
        or training
        or any(value is not None for value in bound.values())
        or getattr(layer, "time_major", False)
        or not isinstance(x, tf.Tensor)
        or x.shape.rank != 3
        or x.shape[2] is None
        or {x.dtype.name, *keras_compat.policy(layer), *keras_compat.policy(layer.cell)}
        != {"float32"}
        or keras_compat.mask_of(x) is not None
    ):
        return None
    cell = layer.cell
    kernel, recurrent = map(tf.convert_to_tensor, (cell.kernel, cell.recurrent_kernel))
    bias = tf.convert_to_tensor(cell.bias) if cell.use_bias else tf.zeros(kernel.shape[1:])
    return x, kernel, recurrent, bias


def states_of(
    parts: Sequence[tf.Tensor],
    backwards: bool,
    every_step: bool,
    by_keras: Callable[[tf.Tensor], tf.Tensor],
) -> tf.Tensor:
    """Return the states (N, T, U) of an LSTM after each step, or (N, 1, U) after the last.

    Parameters
    ----------
    parts
        The sequences (N, T, W), and what they are multiplied by: the kernel (W, 4U), the recurrent
        kernel (U, 4U) and the bias (4U,) of input gate, forget gate, cell and output gate.
    backwards
        Whether the last step comes first.
    every_step
        Whether the states after all steps are wanted.
    by_keras
        The same function of the sequences, which can be differentiated twice.
    """

    @tf.custom_gradient
    def compute(x: tf.Tensor, kernel: tf.Tensor, recurrent: tf.Tensor, bias: tf.Tensor) -> Any:
        unrolled = _unroll(x, kernel, recurrent, bias, backwards)
        states = unrolled.results["h"]
        states = tf.transpose(states if every_step else states[-1:], [1, 0, 2])

        def gradient(g: tf.Tensor) -> Any:
            to_x, *of_weights = _gradients(unrolled, g, backwards, every_step)
            return second.differentiable(to_x, by_keras, x, g), *of_weights

        return states, gradient

    return compute(*parts)


def _unroll(
    x: tf.Tensor, kernel: tf.Tensor, recurrent: tf.Tensor, bias: tf.Tensor, backwards: bool
) -> _Unrolled:
    by_step = tf.transpose(x, [1, 0, 2])
    if backwards:
        by_step = tf.reverse(by_step, [0])
    units = recurrent.shape[0]
    start, peephole = tf.zeros([tf.shape(x)[0], units], x.dtype), tf.zeros([units], x.dtype)
    given = {
        "seq_len_max": tf.shape(x, tf.int64)[1],
        "x": by_step,
        "cs_prev": start,
        "h_prev": start,
        "w": tf.concat([kernel, recurrent], 0),
        "wci": peephole,
        "wcf": peephole,
        "wco": peephole,
        "b": bias,
        "use_peephole": False,
    }
    return _Unrolled(given, tf.raw_ops.BlockLSTMV2(**given)._asdict())


def _gradients(unrolled: _Unrolled, g: tf.Tensor, backwards: bool, every_step: bool) -> _Gradients:
    """Return the gradients to the sequences, to both kernels, and to the bias."""
    given, results = unrolled
    g = tf.transpose(g, [1, 0, 2])
    if not every_step:
        before = tf.shape(results["h"])[0] - 1
        g = tf.pad(g, [[before, 0], [0, 0], [0, 0]])
    found = tf.raw_ops.BlockLSTMGradV2(
        **given, **results, h_grad=g, cs_grad=tf.zeros_like(results["cs"])
    )
    to_x = tf.reverse(found.x_grad, [0]) if backwards else found.x_grad
    to_kernel, to_recurrent = tf.split(
        found.w_grad, [given["x"].shape[2], given["h_prev"].shape[1]], 0
    )
    return tf.transpose(to_x, [1, 0, 2]), to_kernel, to_recurrent, found.b_grad
