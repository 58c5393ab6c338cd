"""The gradient of a score, from operator to reduced map in one compiled function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from xplique_sal import compilation, keras_compat
from xplique_sal.batching import Samples
from xplique_sal.compilation import Held, Program
from xplique_sal.devices import Device
from xplique_sal.gradient_checks import (
    checked_scores,
    modified,
    no_gradient,
)
from xplique_sal.graph_reading import bytes_per_sample
from xplique_sal.model_call import call_with_autograph
from xplique_sal.model_view import ModelView, TracedModel
from xplique_sal.reducers import reduce
from xplique_sal.rewiring import Rewiring
from xplique_sal.targets import per_output
from xplique_sal.types import GradientModifier, Operator, pack

#: What is found of each sample's gradient.
FINE, ZERO, NOT_FINITE = 0, 1, 2

#: Samples of at most so many numbers are looped over inside the graph: for them, a call from Python
#: costs more than the gradient.
_SMALL = 4096


class Facts(NamedTuple):
    """What was seen while a gradient was traced.

    Attributes
    ----------
    activation
        The type of the activation that makes f(x), where it is explained.
    output_shape, channel_axis
        The static shape of f(x), and where its channels are.
    is_scalar
        Whether the operator returned one score for its whole batch.
    has_gradient
        For each input (or watched layer), whether there is a gradient.
    in_float16
        Whether small gradients may underflow.
    rewiring
        What the backprop modifier did, if there is one.
    bytes_per_sample
        The size of all tensors of the graph for one sample.
    """

    activation: str | None
    output_shape: tf.TensorShape
    channel_axis: int
    is_scalar: bool
    has_gradient: tuple[bool, ...]
    in_float16: bool
    rewiring: Rewiring | None
    bytes_per_sample: int


class ScoreGradient:
    """∂g/∂x of an operator g on a model, modified and reduced.

    Parameters
    ----------
    view
        f.
    operator
        g.
    modifier
        An elementwise function on the gradient.
    reducer
        The name of a channel reduction.
    """

    def __init__(
        self,
        view: ModelView,
        operator: Operator,
        modifier: GradientModifier | None,
        reducer: str | None,
    ) -> None:
        self._view = view
        self.model = view.model
        self._operator = operator
        self._modifier = modifier
        self._reducer = reducer

    def program(
        self,
        samples: Samples,
        fixed: int | None,
        several: bool,
        traced: list[TracedModel],
        device: Device,
    ) -> Program:
        """Return the compiled gradient, which is traced for these samples unless it is known.

        It takes inputs; targets, or the indices of outputs; the factor that the score is scaled
        by; and how many samples the model may be given at once. It returns maps, scores, and what
        was found of each sample's gradient.

        Parameters
        ----------
        samples
            Their shapes, and how they are packed.
        fixed
            A batch size that the model needs to know; ``None`` leaves it open, so that one trace
            serves all.
        several
            Whether to explain several outputs rather than one score.
        traced
            Gets f as it was while it was traced, also if that fails.
        device
            Where it runs, and reads the model's variables.
        """
        targets = [] if several else samples.target_specs
        signature = [
            tf.TensorSpec([fixed, *spec.shape], spec.dtype)
            for spec in (*samples.input_specs, *targets)
        ]
        if several:
            signature.append(tf.TensorSpec([None], tf.int32))
        signature += [tf.TensorSpec([], tf.float32), tf.TensorSpec([], tf.int32)]
        request = (
            "outputs" if several else "score",
            *self._view.key,
            Held(self._operator),
            None if self._modifier is None else Held(self._modifier),
            self._reducer,
            samples.for_user,
            samples.for_targets,
            device.name,
        )
        loops = fixed is None and is_small(samples)
        per_sample = len(signature) - (3 if several else 2)

        def build(*tensors: tf.Tensor) -> Any:
            facts: list[Facts] = []

            def explain(*arrays: tf.Tensor) -> Any:
                result, seen = self._trace(
                    samples, several, (*arrays, *tensors[per_sample:-1]), traced
                )
                facts.append(seen)
                return result

            with device.used():
                if loops:
                    result = _in_batches(
                        explain, tensors[:per_sample], tensors[-1], self._maps(samples)
                    )
                else:
                    result = explain(*tensors[:per_sample])
            return result, facts[-1]

        return compilation.program(self._view.model, request, build, signature)

    def _trace(
        self,
        samples: Samples,
        several: bool,
        tensors: Sequence[tf.Tensor],
        traced: list[TracedModel],
    ) -> Any:
        count = len(samples.input_specs)
        inputs = [self._view.cast(position, tensors[position]) for position in range(count)]
        scale = tensors[-1]
        with tf.GradientTape(persistent=several, watch_accessed_variables=False) as tape:
            f = TracedModel(self._view, tape)
            traced.append(f)
            if not self._view.wrt_layer:
                tape.watch([tensor for tensor in inputs if tensor.dtype.is_floating])
            x = pack(samples.for_user, inputs)
            if several:
                scores, is_scalar = per_output(f(x), f.channel_axis), False
            else:
                y = None
                if samples.for_targets is not None:
                    y = pack(samples.for_targets, tensors[count:-1])
                scores = call_with_autograph(self._operator, f, x, y)
                scores, is_scalar = checked_scores(scores, inputs[0].shape[0])
        sources = f.wrt or inputs

        def maps_of(weights: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
            gradients = tape.gradient(
                scores, sources, output_gradients=weights * tf.cast(scale, scores.dtype)
            )
            has_gradient[:] = [gradient is not None for gradient in gradients]
            return self._finish(gradients, sources, f, scale)

        has_gradient: list[bool] = []
        with f.backward(sources, scores):
            if several:
                ranks = [source.shape.rank for source in sources]
                maps, status = _for_each_output(maps_of, scores, tensors[count], ranks)
            else:
                maps, status = maps_of(tf.ones_like(scores))
        shown = tf.gather(scores, tensors[count], axis=1) if several else scores
        facts = Facts(
            f.activation,
            f.output_shape,
            f.channel_axis,
            is_scalar,
            tuple(has_gradient),
            self._view.computes_in_float16,
            f.rewiring,
            bytes_per_sample(),
        )
        return (maps, tf.cast(shown, tf.float32), status), facts

    def _finish(
        self,
        gradients: Sequence[Any],
        sources: Sequence[tf.Tensor],
        f: TracedModel,
        scale: tf.Tensor,
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        if all(gradient is None for gradient in gradients):
            raise no_gradient(sources, self._view.names_of_sources(len(sources)))
        maps = []
        is_zero, is_finite = tf.constant(True), tf.constant(True)
        for gradient, axis in zip(gradients, self._channel_axes(len(sources)), strict=True):
            if gradient is None:
                maps.append(tf.zeros([0]))  # as many results in any case: it is left out later
                continue
            gradient = tf.convert_to_tensor(gradient)  # the gradient of a gather is sparse
            if gradient.dtype.size < 4:
                gradient = tf.cast(gradient, tf.float32)
            if self._view.computes_in_float16:
                gradient = gradient / tf.cast(scale, gradient.dtype)
            axes = list(range(1, gradient.shape.rank))
            # One pass over the gradient tells both; NaN and infinity stay what they are in a sum.
            magnitude = tf.reduce_sum(tf.abs(gradient), axes)
            is_zero &= magnitude == 0
            is_finite &= tf.math.is_finite(magnitude)
            if self._modifier is not None:
                gradient = modified(self._modifier, gradient)
            gradient = tf.cast(reduce(gradient, self._reducer, axis), tf.float32)
            is_finite &= tf.reduce_all(tf.math.is_finite(gradient), axes)
            maps.append(gradient)
        status = tf.where(is_finite, tf.where(is_zero, ZERO, FINE), NOT_FINITE)
        return maps, status

    def _maps(self, samples: Samples) -> int:
        _, wrt = self._view.chosen_layers()
        return len(wrt) or len(samples.input_specs)

    def _channel_axes(self, count: int) -> list[int]:
        _, wrt = self._view.chosen_layers()
        if wrt:
            return [keras_compat.channel_axis(call.layer) for call in wrt]
        return [self._view.channel_axis] * count


def is_small(samples: Samples) -> bool:
    """Tell whether samples are so small that their batches are looped over inside the graph."""
    sizes = [spec.shape.num_elements() for spec in (*samples.input_specs, *samples.target_specs)]
    return None not in sizes and sum(sizes) <= _SMALL


def _in_batches(
    explain: Callable[..., Any], arrays: Sequence[tf.Tensor], size: tf.Tensor, maps: int
) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
    """Return what `explain` returns of `arrays`, given at most `size` samples at once."""
    batches = -(-tf.shape(arrays[0])[0] // size)
    shapes: list[tf.TensorShape] = []

    def step(index: tf.Tensor, done: list[tf.TensorArray]) -> Any:
        found, scores, status = explain(*(a[index * size : (index + 1) * size] for a in arrays))
        parts = [*found, scores, status]
        shapes[:] = [tf.TensorShape([None, *part.shape[1:]]) for part in parts]
        return index + 1, [
            array.write(index, part) for array, part in zip(done, parts, strict=True)
        ]

    types = [*[tf.float32] * (maps + 1), tf.int32]
    empty = [tf.TensorArray(dtype, size=batches, infer_shape=False) for dtype in types]
    _, done = tf.while_loop(
        lambda index, _: index < batches, step, (0, empty), parallel_iterations=1
    )
    parts = [
        tf.ensure_shape(array.concat(), shape) for array, shape in zip(done, shapes, strict=True)
    ]
    return parts[:maps], parts[-2], parts[-1]


def _for_each_output(
    maps_of: Callable[[tf.Tensor], Any],
    scores: tf.Tensor,
    outputs: tf.Tensor,
    ranks: Sequence[int],
) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Return the maps (N, K, ...) of each of `outputs`.

    The loop is inside the graph: any number of outputs costs the trace and the memory of one
    backward pass.
    """
    empty: list[bool] = []

    def one(index: tf.Tensor) -> Any:
        weights = tf.one_hot(index, tf.shape(scores)[1], dtype=scores.dtype)
        maps, status = maps_of(tf.broadcast_to(weights, tf.shape(scores)))
        empty[:] = [map_.shape == [0] for map_ in maps]
        return maps, status

    signature = ([tf.float32] * len(ranks), tf.int32)
    maps, status = tf.map_fn(one, outputs, fn_output_signature=signature, parallel_iterations=1)
    swapped = [
        tf.zeros([0]) if nothing else tf.transpose(map_, [1, 0, *range(2, rank + 1)])
        for map_, rank, nothing in zip(maps, ranks, empty, strict=True)
    ]
    return swapped, tf.transpose(status)
