"""What layers return, seen while a model runs; inside `TimeDistributed`, with the time steps."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from xplique_sal._tracing import keras_compat, reached, wrapping


@contextlib.contextmanager
def outputs_seen(
    model: Any, layers: Sequence[Any], see: Callable[[Any, Any], Any]
) -> Iterator[None]:
    """Let `see` have what `layers` return, while a model is traced in this block.

    Keras runs the layer inside of a `TimeDistributed` in a loop, or on time steps that are folded
    into the batch axis, as it finds best. Here, where one of `layers` is inside, it is always
    folded, which is the same function: each layer is called once, and has one output.

    Parameters
    ----------
    model
        What runs.
    layers
        Layers in it.
    see
        Called as ``see(layer, output)``, where the output of a layer inside of a
        `TimeDistributed` is (N, T, ...); what it returns takes the output's place.
    """
    frames = _Frames()
    around = list(_holding(model, layers))

    def pass_on(layer: Any, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        output = original(*args, **kwargs)
        if frames.computes_mask:
            return output
        return frames.without_time(see(layer, frames.with_time(output)))

    with (
        wrapping.calls_passed_through(around, frames.run),
        wrapping.calls_passed_through(around, frames.mask, "compute_mask"),
        wrapping.calls_passed_through(layers, pass_on),
    ):
        yield


def is_of_frames(model: Any, layer: Any) -> bool:
    """Tell whether a layer runs on each time step of a `TimeDistributed` layer."""
    return any(True for _ in _holding(model, [layer]))


def _holding(model: Any, layers: Sequence[Any]) -> Iterator[Any]:
    """Yield the `TimeDistributed` layers that hold some of `layers`."""
    wanted = {id(layer) for layer in layers}
    for frames in reached.all_layers_in(model) if wanted else ():
        if keras_compat.is_own(frames, "TimeDistributed"):
            inner = {id(part) for part in keras_compat.all_layers(frames) if part is not frames}
            if inner & wanted:
                yield frames


class _Frames:
    """`TimeDistributed` layers that run on all time steps at once.

    Attributes
    ----------
    computes_mask
        Whether a mask is computed just now: Keras 2 runs the layers inside again for it.
    """

    computes_mask = False

    def __init__(self) -> None:
        self._lead: tuple[tf.Tensor, tf.TensorShape] | None = None

    def run(self, layer: Any, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run the layer inside once. One with a mask, or inside of another, runs as it would."""
        x = keras_compat.inputs_of_call(layer, args, kwargs)
        is_masked = any(part is not None for part in (*args[2:], kwargs.get("mask")))
        if self._lead is not None or is_masked or not isinstance(x, tf.Tensor):
            return original(*args, **kwargs)
        self._lead = tf.shape(x)[:2], x.shape[:2]
        try:
            return tf.nest.map_structure(self.with_time, layer.layer(self.without_time(x)))
        finally:
            self._lead = None

    def mask(self, layer: Any, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Compute a mask."""
        self.computes_mask = True
        try:
            return original(*args, **kwargs)
        finally:
            self.computes_mask = False

    def with_time(self, output: Any) -> Any:
        """Return what a layer inside has returned with the axes (N, T, ...)."""
        if self._lead is None or not isinstance(output, tf.Tensor):
            return output
        lead, static = self._lead
        whole = tf.reshape(output, tf.concat([lead, tf.shape(output)[1:]], 0))
        return tf.ensure_shape(whole, static.concatenate(output.shape[1:]))

    def without_time(self, output: Any) -> Any:
        """Return it as the layers inside have it, (N·T, ...)."""
        if self._lead is None or not isinstance(output, tf.Tensor):
            return output
        folded = tf.reshape(output, tf.concat([[-1], tf.shape(output)[2:]], 0))
        return tf.ensure_shape(folded, [None, *output.shape[2:]])
