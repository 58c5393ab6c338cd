"""The gradient of a score, from operator to reduced map in one compiled function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from xplique_sal import compilation, keras_compat
from xplique_sal.batching import Batch, Samples, concatenate
from xplique_sal.compilation import Held, Program
from xplique_sal.errors import InvalidOperatorError, XpliqueSalError
from xplique_sal.gradient_checks import (
    checked_scores,
    chosen_outputs,
    modified,
    no_gradient,
    not_finite,
    wrong_length,
)
from xplique_sal.model_call import call_with_autograph
from xplique_sal.model_view import ModelView, TracedModel
from xplique_sal.operators import ScoreFunction
from xplique_sal.reducers import reduce
from xplique_sal.rewiring import Rewiring
from xplique_sal.targets import number_of_outputs, per_output
from xplique_sal.types import Explained, GradientModifier, pack

#: What a score in float16 is multiplied by first, as a loss is in training, and what the factor is
#: divided by where a gradient then overflows.
_HALF_SCALE = 2.0**16
_HALF_STEP = 2.0**8

_FINE, _ZERO, _NOT_FINITE = 0, 1, 2


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
    """

    activation: str | None
    output_shape: tf.TensorShape
    channel_axis: int
    is_scalar: bool
    has_gradient: tuple[bool, ...]
    in_float16: bool
    rewiring: Rewiring | None


class ScoreGradient:
    """∂g/∂x of an operator g on a model, modified and reduced.

    Parameters
    ----------
    view
        f.
    operator
        g, with the check of its targets.
    modifier
        An elementwise function on the gradient.
    reducer
        The name of a channel reduction.
    """

    def __init__(
        self,
        view: ModelView,
        operator: ScoreFunction,
        modifier: GradientModifier | None,
        reducer: str | None,
    ) -> None:
        self._view = view
        self._operator = operator
        self._modifier = modifier
        self._reducer = reducer

    def of_score(self, samples: Samples, batch: Batch) -> Explained:
        """Return the maps and scores of a batch."""
        return self._explain(samples, batch, None)

    def of_outputs(self, samples: Samples, batch: Batch, outputs: np.ndarray | None) -> Explained:
        """Return maps (N, K, ...) and values (N, K) of several outputs from one forward pass."""
        return self._explain(samples, batch, outputs if outputs is not None else "all")

    def _explain(self, samples: Samples, batch: Batch, outputs: Any) -> Explained:
        several = outputs is not None
        program = self._program(samples, batch, several)
        facts = program.facts
        if outputs is None:
            self._check_targets(samples, batch, facts)
        extra = (
            []
            if outputs is None
            else [
                chosen_outputs(outputs, number_of_outputs(facts.output_shape, facts.channel_axis))
            ]
        )
        fixed = samples.fixed_batch
        size = fixed or batch.size
        if facts.is_scalar:
            if fixed not in (None, 1):
                raise InvalidOperatorError(
                    "a score for each sample, (N,), of a model with a fixed batch size",
                    "one scalar for the whole batch",
                    "Reduce over all axes but the first.",
                )
            size = 1
        parts = [self._run(program, part, extra, fixed) for part in batch.split(size)]
        zeros = [part.zero_sample for part in parts if part.zero_sample is not None]
        return Explained(
            concatenate([part.maps for part in parts]),
            concatenate([[part.scores] for part in parts])[0],
            min(zeros, default=None),
            facts.activation,
            facts.is_scalar,
            facts.rewiring,
        )

    def _check_targets(self, samples: Samples, batch: Batch, f: Facts | TracedModel) -> None:
        check = self._operator.check_targets
        if check is None:
            return

        def on_host(arrays: list[Any], first: int) -> None:
            targets = None if samples.for_targets is None else pack(samples.for_targets, arrays)
            check(targets, first, f.output_shape, f.channel_axis)

        samples.check_targets(batch, on_host)

    def _program(self, samples: Samples, batch: Batch, several: bool) -> Program:
        """Return the compiled gradient for these samples.

        The batch size is left open, so that one trace serves them all. A model that needs to know
        it gets the size of the first batch.
        """
        fixed = samples.fixed_batch
        traced: list[TracedModel] = []
        try:
            return self._compiled(samples, fixed, several, traced)
        except XpliqueSalError:
            raise
        except Exception:
            # Targets of a wrong shape make an operator fail while it is traced.
            if traced and not several and traced[-1].output_shape.rank is not None:
                self._check_targets(samples, batch, traced[-1])
            if fixed is not None:
                raise
            program = self._compiled(samples, batch.size, several, traced)
            samples.fixed_batch = batch.size
            return program

    def _compiled(
        self, samples: Samples, fixed: int | None, several: bool, traced: list[TracedModel]
    ) -> Program:
        targets = [] if several else samples.target_specs
        signature = [
            tf.TensorSpec([fixed, *spec.shape], spec.dtype)
            for spec in (*samples.input_specs, *targets)
        ]
        if several:
            signature.append(tf.TensorSpec([None], tf.int32))
        signature.append(tf.TensorSpec([], tf.float32))
        request = (
            "outputs" if several else "score",
            self._view.key,
            Held(self._operator.function),
            None if self._modifier is None else Held(self._modifier),
            self._reducer,
            samples.for_user,
            samples.for_targets,
        )

        def build(*tensors: tf.Tensor) -> Any:
            return self._trace(samples, several, tensors, traced)

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
                scores = call_with_autograph(self._operator.function, f, x, y)
                scores, is_scalar = checked_scores(scores, inputs[0].shape[0])
        sources = f.wrt or inputs

        def maps_of(weights: tf.Tensor) -> tuple[list[tf.Tensor | None], tf.Tensor]:
            gradients = tape.gradient(
                scores, sources, output_gradients=weights * tf.cast(scale, scores.dtype)
            )
            return self._finish(gradients, sources, f, scale)

        with f.backward(sources, scores):
            if several:
                ranks = [source.shape.rank for source in sources]
                maps, status, has_gradient = _for_each_output(
                    maps_of, scores, tensors[count], ranks
                )
            else:
                found, status = maps_of(tf.ones_like(scores))
                has_gradient = tuple(map_ is not None for map_ in found)
                maps = [map_ for map_ in found if map_ is not None]
        shown = tf.gather(scores, tensors[count], axis=1) if several else scores
        facts = Facts(
            f.activation,
            f.output_shape,
            f.channel_axis,
            is_scalar,
            has_gradient,
            self._view.computes_in_float16,
            f.rewiring,
        )
        return (maps, tf.cast(shown, tf.float32), status), facts

    def _finish(
        self,
        gradients: Sequence[Any],
        sources: Sequence[tf.Tensor],
        f: TracedModel,
        scale: tf.Tensor,
    ) -> tuple[list[tf.Tensor | None], tf.Tensor]:
        if all(gradient is None for gradient in gradients):
            raise no_gradient(sources, bool(f.wrt))
        maps: list[tf.Tensor | None] = []
        is_zero, is_finite = tf.constant(True), tf.constant(True)
        for gradient, axis in zip(gradients, self._channel_axes(len(sources)), strict=True):
            if gradient is None:
                maps.append(None)
                continue
            gradient = tf.convert_to_tensor(gradient)  # the gradient of a gather is sparse
            if gradient.dtype.size < 4:
                gradient = tf.cast(gradient, tf.float32)
            gradient = gradient / tf.cast(scale, gradient.dtype)
            axes = list(range(1, gradient.shape.rank))
            is_zero &= tf.reduce_all(gradient == 0, axes)
            is_finite &= tf.reduce_all(tf.math.is_finite(gradient), axes)
            if self._modifier is not None:
                gradient = modified(self._modifier, gradient)
            gradient = tf.cast(reduce(gradient, self._reducer, axis), tf.float32)
            is_finite &= tf.reduce_all(tf.math.is_finite(gradient), axes)
            maps.append(gradient)
        status = tf.where(is_finite, tf.where(is_zero, _ZERO, _FINE), _NOT_FINITE)
        return maps, status

    def _channel_axes(self, count: int) -> list[int]:
        _, wrt = self._view.chosen_layers()
        if wrt:
            return [keras_compat.channel_axis(call.layer) for call in wrt]
        return [self._view.channel_axis] * count

    def _run(
        self, program: Program, batch: Batch, extra: Sequence[Any], fixed: int | None
    ) -> Explained:
        size = batch.size
        tensors = [*batch.inputs, *([] if extra else batch.targets)]
        if fixed is not None and size < fixed:
            # The last sample stands in for those that are missing.
            tensors = [_padded(array, fixed) for array in tensors]
        scale = _HALF_SCALE if program.facts.in_float16 else 1.0
        while True:
            arguments = map(tf.convert_to_tensor, (*tensors, *extra, scale))
            maps, scores, status = program(*arguments)
            codes = status.numpy()
            if scale == 1.0 or not (codes == _NOT_FINITE).any():
                break
            scale = max(scale / _HALF_STEP, 1.0)
        padded = tensors[0].shape[0]
        for tensor in (scores, *maps):
            if tensor.shape.rank == 0 or tensor.shape[0] != padded:
                raise wrong_length(scores, maps, padded, bool(self._view.wrt_layer))
        if size < padded:
            maps, scores, codes = [map_[:size] for map_ in maps], scores[:size], codes[:size]
        codes = codes.reshape(size, -1).max(axis=1)
        if (codes == _NOT_FINITE).any():
            raise not_finite(
                batch.start + int((codes == _NOT_FINITE).argmax()), program.facts.in_float16
            )
        zero = batch.start + int((codes == _ZERO).argmax()) if (codes == _ZERO).any() else None
        found = iter(maps)
        everything = [next(found) if known else None for known in program.facts.has_gradient]
        return Explained(everything, scores, zero)


def _for_each_output(
    maps_of: Callable[[tf.Tensor], Any],
    scores: tf.Tensor,
    outputs: tf.Tensor,
    ranks: Sequence[int],
) -> tuple[list[tf.Tensor], tf.Tensor, tuple[bool, ...]]:
    """Return the maps (N, K, ...) of each of `outputs`.

    The loop is inside the graph: any number of outputs costs the trace and the memory of one
    backward pass.
    """
    has_gradient: tuple[bool, ...] = ()

    def one(index: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
        nonlocal has_gradient
        weights = tf.one_hot(index, tf.shape(scores)[1], dtype=scores.dtype)
        maps, status = maps_of(tf.broadcast_to(weights, tf.shape(scores)))
        has_gradient = tuple(map_ is not None for map_ in maps)
        return [tf.zeros([1]) if map_ is None else map_ for map_ in maps], status

    signature = ([tf.float32] * len(ranks), tf.int32)
    maps, status = tf.map_fn(one, outputs, fn_output_signature=signature, parallel_iterations=1)
    swapped = [
        tf.transpose(map_, [1, 0, *range(2, rank + 1)])
        for map_, rank, known in zip(maps, ranks, has_gradient, strict=True)
        if known
    ]
    return swapped, tf.transpose(status), has_gradient


def _padded(array: Any, size: int) -> np.ndarray:
    array = np.asarray(array)
    return np.concatenate([array, np.repeat(array[-1:], size - len(array), axis=0)])
