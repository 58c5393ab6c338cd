"""A statistic of the gradients at several points of each sample, taken in a loop in the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from xplique_sal._data.structures import Layout
from xplique_sal._engine.finish import MapMaker
from xplique_sal._engine.forward_pass import Facts, ForwardPass, largest_outputs
from xplique_sal._engine.question import Question, Settings
from xplique_sal._engine.recipe import Points, PointsRecipe
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

    The model is given as many points of each sample at once as make a batch; where it needs to know
    its batch size, one.

    Parameters
    ----------
    question
        f, g, and a recipe of points.
    layout
        How inputs and targets are packed. Where there is no target, and it would be an output, it
        is the sample's largest one at all of its points: theirs may be another.
    settings
        Those of the program.
    arrays
        Inputs and targets.
    """

    def __init__(
        self,
        question: Question,
        layout: Layout,
        settings: Settings,
        arrays: Sequence[tf.Tensor],
    ) -> None:
        assert isinstance(question.recipe, PointsRecipe)
        self._largest: tf.Tensor | None = None
        if question.takes_outputs and layout.for_targets is None and settings.explained is None:
            largest = largest_outputs(question.view, layout, arrays)
            if largest is not None:
                self._largest = largest
                arrays, layout = [*arrays, largest], layout._replace(for_targets=0)
        self._question, self._layout = question, layout
        self._arrays, self._recipe = arrays, question.recipe
        inputs = question.view.cast_all(arrays[: len(layout.input_specs)])
        own = [*question.recipe.prepared(settings.own, inputs)]
        self._settings = settings = settings._replace(own=own)
        self._maker = MapMaker(question, settings)
        self._nb_sources = question.nb_sources(layout)
        self._carries = self._recipe.needs_source and question.view.wrt_layer is not None
        self._fixed = arrays[0].shape[0]
        self._count = tf.shape(arrays[0])[0]
        self._facts: Facts | None = None
        self._shapes: list[list[int | None]] = []

    def explain(self) -> tuple[list[tf.Tensor], Facts]:
        """Return maps, scores and numbers as a flat list, and what was seen."""
        settings, statistic = self._settings, self._recipe.statistic
        state = loops.over_points(
            self._round,
            self._start(),
            settings.begin,
            settings.points,
            1 if self._fixed is not None else tf.maximum(settings.rows // self._count, 1),
        )
        state = self._with_shapes(state)
        assert self._facts is not None
        count = len(self._layout.input_specs)
        inputs = self._question.view.cast_all(self._arrays[:count])

        def finish(index: tf.Tensor | None = None) -> Any:
            statistics, scored = state.statistics, state.scored
            if index is not None:
                statistics = [[part[index] for part in parts] for parts in statistics]
                scored = scored[:, :, index]
            results = [
                statistic.finished(parts, settings.points) if parts else None
                for parts in statistics
            ]
            return self._maker.finish(
                results, state.originals or inputs, inputs, scored, self._largest
            )

        if settings.explained is None:
            maps, numbers = finish()
        else:
            indices = tf.range(tf.size(settings.explained))
            ranks = [len(shape) for shape in self._shapes]
            maps, numbers = self._maker.for_each_output(finish, indices, ranks)
        return [*maps, state.scored[:, 0], numbers], self._facts

    def _start(self) -> _State:
        # A zero takes the shape of the first gradient that is added to it.
        outputs = self._settings.explained
        zero = tf.zeros([] if outputs is None else tf.shape(outputs)[:1])
        originals = [tf.zeros([])] * self._nb_sources if self._carries else []
        statistics = [[zero] * self._recipe.statistic.nb_tensors for _ in range(self._nb_sources)]
        return _State(statistics, tf.zeros([]), originals)

    def _round(self, numbers: tf.Tensor, state: _State) -> _State:
        """Return the state after the points with these numbers."""
        settings, times = self._settings, tf.size(numbers)
        points = Points(numbers, settings.points, settings.first, self._count, settings.nodes[0])
        rows = self._arrays
        if self._fixed is None:
            rows = [_tiled(array, times) for array in rows]

        def at(position: int, source: tf.Tensor) -> tf.Tensor:
            if not source.dtype.is_floating:
                return source
            place = self._maker.source(position, rows)
            moved = self._recipe.at(tf.cast(source, tf.float32), points, place)
            return tf.cast(tf.ensure_shape(moved, source.shape), source.dtype)

        forward = ForwardPass(self._question, self._layout, settings, rows, at)
        with forward.differentiated():
            statistics = self._updated(forward, rows, points, state.statistics)
        self._shapes = [[self._fixed, *source.shape[1:]] for source in forward.sources]
        self._facts = forward.facts
        scores = forward.scores
        if settings.explained is not None:
            scores = tf.gather(scores, settings.explained, axis=1)
        scores = _by_point(tf.cast(scores, tf.float32), times)
        scored = state.scored + _scores_at(scores, numbers, settings.scored)
        originals = state.originals
        if self._carries:
            unmoved = [forward.f.unmoved[position] for position in range(self._nb_sources)]
            originals = [tf.cast(tensor[: self._count], tf.float32) for tensor in unmoved]
        return _State(statistics, scored, originals)

    def _updated(
        self,
        forward: ForwardPass,
        rows: Sequence[tf.Tensor],
        points: Points,
        statistics: list[list[tf.Tensor]],
    ) -> list[list[tf.Tensor]]:
        statistic, numbers = self._recipe.statistic, points.numbers
        weights = tf.where(numbers < 0, 0.0, self._recipe.weights(points))
        done = tf.cast(tf.maximum(numbers[0], 0), tf.float32) / tf.cast(points.total, tf.float32)

        def updated(output: tf.Tensor | None, statistics: list[list[tf.Tensor]]) -> Any:
            gradients = self._of_points(forward, rows, points, forward.gradients(output))
            return [
                parts
                if gradient is None
                else statistic.update(parts, _by_point(gradient, tf.size(numbers)), weights, done)
                for gradient, parts in zip(gradients, statistics, strict=True)
            ]

        if self._settings.explained is None:
            return updated(None, statistics)
        types = tf.nest.map_structure(lambda _: tf.float32, statistics)
        elements = (self._settings.explained, statistics)
        return loops.for_each(lambda element: updated(*element), elements, types)

    def _of_points(
        self,
        forward: ForwardPass,
        rows: Sequence[tf.Tensor],
        points: Points,
        gradients: Sequence[tf.Tensor | None],
    ) -> list[tf.Tensor | None]:
        """Return gradients in float32, as the recipe changes them at each point."""
        view = self._question.view
        found: list[tf.Tensor | None] = []
        for position, gradient in enumerate(gradients):
            if gradient is None:
                found.append(None)
                continue
            gradient = tf.cast(gradient, tf.float32)
            if self._recipe.changes_gradients:
                if view.wrt_layer is None:
                    source = view.cast(position, rows[position])
                else:
                    source = forward.f.unmoved[position]
                place = self._maker.source(position, rows)
                source = tf.cast(source, tf.float32)
                gradient = self._recipe.of_point(gradient, source, points, place)
            found.append(gradient)
        return found

    def _with_shapes(self, state: _State) -> _State:
        """Return a state whose tensors have the shapes that the loop forgets."""
        assert self._facts is not None
        outer = [] if self._settings.explained is None else [None]
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
        scored = tf.ensure_shape(
            state.scored, [self._fixed, self._settings.scored.shape[0], *outer]
        )
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
