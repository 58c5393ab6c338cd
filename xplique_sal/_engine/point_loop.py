"""A statistic of the gradients at several points of each sample, taken in a loop in the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from xplique_sal._data.samples import Samples
from xplique_sal._data.structures import Operator
from xplique_sal._engine.finish import MapMaking
from xplique_sal._engine.forward_pass import Call, Facts, ScorePass, largest_outputs
from xplique_sal._engine.recipe import Points, Sampling
from xplique_sal._models.traced import TracedModel
from xplique_sal._models.view import ModelView
from xplique_sal._tracing import loops


class _State(NamedTuple):
    """What goes from one round of the loop to the next.

    Attributes
    ----------
    statistics
        The statistic's tensors for each source; where outputs are explained, with an axis of
        them first.
    scored
        The scores (n, S, ...) at the points that are asked for.
    originals
        The sources as they are in the samples, if they are needed and are not the inputs.
    """

    statistics: list[list[tf.Tensor]]
    scored: tf.Tensor
    originals: list[tf.Tensor]


class PointLoop:
    """The loop over the points of some samples, while it is traced.

    The model is given as many points of each sample at once as make a batch.

    Parameters
    ----------
    view, operator
        f and g.
    sampling
        Which points, and what is kept of the gradients there.
    making
        What makes maps of it.
    samples
        How inputs and targets are packed.
    call
        The arguments of the program.
    arrays
        Inputs and targets.
    sources
        The number of sources.
    fixed
        The batch size, if the model needs to know it: then it is given a point at a time.
    traced
        Gets f.
    takes_outputs
        Whether a target of the operator is an output. Where there is none, it is the sample's
        largest one, at all of its points: theirs may be another.
    """

    def __init__(
        self,
        view: ModelView,
        operator: Operator,
        sampling: Sampling,
        making: MapMaking,
        samples: Samples,
        call: Call,
        arrays: Sequence[tf.Tensor],
        sources: int,
        fixed: int | None,
        traced: list[TracedModel],
        takes_outputs: bool,
    ) -> None:
        self._view, self._operator, self._sampling, self._making = view, operator, sampling, making
        self._samples, self._call, self._arrays, self._fixed = samples, call, arrays, fixed
        self._sources, self._traced = sources, traced
        self._carries = sampling.needs_source and view.wrt_layer is not None
        self._for_targets = samples.for_targets
        if takes_outputs and self._for_targets is None and call.outputs is None:
            largest = largest_outputs(view, samples, arrays)
            if largest is not None:
                self._arrays, self._for_targets = [*arrays, largest], 0
        self._count = tf.shape(arrays[0])[0]
        self._facts: Facts | None = None
        self._shapes: list[list[int | None]] = []

    def explain(self) -> Any:
        """Return (maps, magnitude, details), scores and facts."""
        call, statistic = self._call, self._sampling.statistic
        state = loops.over_points(
            self._round,
            self._start(),
            call.begin,
            call.points,
            1 if self._fixed is not None else tf.maximum(call.size // self._count, 1),
        )
        state = self._with_shapes(state)
        count = len(self._samples.input_specs)
        inputs = [self._view.cast(i, self._arrays[i]) for i in range(count)]

        def explain(index: tf.Tensor | None) -> Any:
            kept, scored = state.statistics, state.scored
            if index is not None:
                kept = [[part[index] for part in parts] for parts in kept]
                scored = scored[:, :, index]
            results = [statistic.results(parts, call.points) if parts else None for parts in kept]
            return self._making.finish(results, state.originals or inputs, inputs, scored, call)

        indices = None if call.outputs is None else tf.range(tf.size(call.outputs))
        result = self._making.of_each(explain, indices, [len(shape) for shape in self._shapes])
        return result, state.scored[:, 0], self._facts

    def _start(self) -> _State:
        # A zero takes the shape of the first gradient that is added to it.
        outputs = self._call.outputs
        zero = tf.zeros([] if outputs is None else tf.shape(outputs)[:1])
        originals = [tf.zeros([])] * self._sources if self._carries else []
        statistics = [[zero] * self._sampling.statistic.size for _ in range(self._sources)]
        return _State(statistics, tf.zeros([]), originals)

    def _round(self, numbers: tf.Tensor, state: _State) -> _State:
        """Return the state after the points with these numbers."""
        call, times = self._call, tf.size(numbers)
        points = Points(numbers, call.points, call.first, self._count)
        rows = self._arrays
        if self._fixed is None:
            rows = [_tiled(array, times) for array in rows]

        def at(position: int, source: tf.Tensor) -> tf.Tensor:
            if not source.dtype.is_floating:
                return source
            place = self._making.place(position, rows, call)
            moved = self._sampling.at(tf.cast(source, tf.float32), points, place)
            return tf.cast(tf.ensure_shape(moved, source.shape), source.dtype)

        forward = ScorePass(
            self._view,
            self._operator,
            self._samples,
            call,
            rows,
            self._for_targets,
            self._traced,
            at,
        )
        with forward.differentiated():
            statistics = self._updated(forward, points, state.statistics)
        self._shapes[:] = [[self._fixed, *source.shape[1:]] for source in forward.sources]
        self._facts = forward.facts
        scores = forward.scores
        if call.outputs is not None:
            scores = tf.gather(scores, call.outputs, axis=1)
        scores = _by_point(tf.cast(scores, tf.float32), times)
        scored = state.scored + _scores_at(scores, numbers, call.scored)
        originals = state.originals
        if self._carries:
            unmoved = [forward.f.unmoved[position] for position in range(self._sources)]
            originals = [tf.cast(tensor[: self._count], tf.float32) for tensor in unmoved]
        return _State(statistics, scored, originals)

    def _updated(
        self, forward: ScorePass, points: Points, statistics: list[list[tf.Tensor]]
    ) -> list[list[tf.Tensor]]:
        statistic, numbers = self._sampling.statistic, points.numbers
        weights = tf.where(numbers < 0, 0.0, self._sampling.weights(points))
        done = tf.cast(tf.maximum(numbers[0], 0), tf.float32) / tf.cast(points.total, tf.float32)

        def updated(output: tf.Tensor | None, statistics: list[list[tf.Tensor]]) -> Any:
            gradients = forward.gradients(output)
            return [
                parts
                if gradient is None
                else statistic.update(
                    parts, _by_point(tf.cast(gradient, tf.float32), tf.size(numbers)), weights, done
                )
                for gradient, parts in zip(gradients, statistics, strict=True)
            ]

        if self._call.outputs is None:
            return updated(None, statistics)
        types = tf.nest.map_structure(lambda _: tf.float32, statistics)
        elements = (self._call.outputs, statistics)
        return loops.for_each(lambda element: updated(*element), elements, types)

    def _with_shapes(self, state: _State) -> _State:
        """Return a state whose tensors have the shapes that the loop forgets."""
        assert self._facts is not None
        outer = [] if self._call.outputs is None else [None]
        statistics = [
            [tf.ensure_shape(part, [*outer, *shape]) for part in parts] if known else []
            for known, parts, shape in zip(
                self._facts.has_gradient, state.statistics, self._shapes, strict=True
            )
        ]
        originals = [
            tf.ensure_shape(tensor, shape)
            for tensor, shape in zip(state.originals, self._shapes, strict=False)
        ]
        scored = tf.ensure_shape(state.scored, [self._fixed, self._call.scored.shape[0], *outer])
        return _State(statistics, scored, originals)


def _tiled(array: tf.Tensor, times: tf.Tensor) -> tf.Tensor:
    """Return rows several times, all of them before the first comes again."""
    ones = tf.ones([array.shape.rank - 1], tf.int32)
    return tf.tile(array, tf.concat([[times], ones], 0))


def _by_point(rows: tf.Tensor, points: tf.Tensor) -> tf.Tensor:
    """Return the rows of several points, (P·n, ...), as (P, n, ...)."""
    shape = tf.shape(rows)
    split = tf.reshape(rows, tf.concat([[points, shape[0] // points], shape[1:]], 0))
    return tf.ensure_shape(split, [None, None, *rows.shape[1:]])


def _scores_at(scores: tf.Tensor, numbers: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
    """Return the scores (n, S, ...) at those of S wanted points that are among (P, n, ...)."""
    axes = [1] * (scores.shape.rank - 1)
    columns = []
    for number in tf.unstack(wanted):
        is_it = tf.reshape(numbers == number, [-1, *axes])
        columns.append(tf.reduce_sum(tf.where(is_it, scores, 0.0), 0))
    return tf.stack(columns, 1)
