"""Multipliers between samples and their baselines, and what each value contributes by them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from xplique_sal._data.structures import Layout
from xplique_sal._engine.finish import MapMaker
from xplique_sal._engine.forward_pass import BaselineRows, Facts, ForwardPass, sources_of
from xplique_sal._engine.paired_rows import OwnBaselines, PairedRows, SharedBaselines
from xplique_sal._engine.question import Question, Settings
from xplique_sal._engine.recipe import PairsRecipe
from xplique_sal._models.rules.deeplift import Pairs, paired
from xplique_sal._tracing import loops
from xplique_sal.errors import InvalidModelError


class PairedPass:
    """The multipliers of some samples, while they are traced.

    Samples and baselines go through the model together, once. Baselines that all samples share are
    one row each: where they are fewer than the samples, each is compared with all samples, one
    after the other; else each sample with all of them. Others are all compared at once.

    Parameters
    ----------
    question
        f, g, and a recipe of pairs.
    layout
        How inputs and targets are packed.
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
        assert isinstance(question.recipe, PairsRecipe)
        self._question, self._layout, self._settings = question, layout, settings
        self._recipe = question.recipe
        self._inputs = question.view.cast_all(arrays[: len(layout.input_specs)])
        self._targets = list(arrays[len(layout.input_specs) :])
        if self._inputs[0].shape[0] is not None:
            # If it is tried with a batch size because it failed without, it fails again.
            ForwardPass(question, layout, settings, arrays)
            raise InvalidModelError(
                "a model that takes any number of samples",
                f"one that takes {self._inputs[0].shape[0]} at once",
                "It is given samples and baselines together. Make the model without a batch size "
                "of its own, or use `IntegratedGradients`.",
            )
        sources = sources_of(question.view, layout, self._inputs)
        self._baselines = self._recipe.count(sources, settings.own)
        self._is_shared = (
            self._recipe.is_shared
            and (question.takes_outputs or settings.explained is not None)
            and all(tensor.dtype.is_floating for tensor in self._inputs)
        )

    def explain(self) -> tuple[list[tf.Tensor], Facts]:
        """Return maps, scores and numbers as a flat list, and what was seen."""
        if self._is_shared:
            return self._by_shared(self._inputs, self._targets)
        count = len(self._inputs)
        types = [tf.float32] * (self._question.nb_sources(self._layout) + 2)
        size = tf.maximum(self._settings.rows // (1 + self._baselines), 1)

        def explain(first: Any, *arrays: tf.Tensor) -> tuple[list[tf.Tensor], Facts]:
            first = self._settings.first + tf.cast(first, tf.int64)
            return self._by_own(first, list(arrays[:count]), list(arrays[count:]))

        return loops.in_batches(explain, [*self._inputs, *self._targets], size, types)

    def _by_shared(
        self, inputs: list[tf.Tensor], targets: list[tf.Tensor]
    ) -> tuple[list[tf.Tensor], Facts]:
        """Return the results by rows [samples; baselines]."""
        settings, samples = self._settings, tf.shape(inputs[0])[0]
        maker = MapMaker(self._question, settings)
        tables = []
        for position, tensor in enumerate(inputs):
            table = self._recipe.table(tensor, maker.source(position, inputs))
            full = [self._baselines, *[-1] * (tensor.shape.rank - 1)]
            shape = tf.where(tf.constant(full) < 0, tf.shape(table), full)
            tables.append(tf.ensure_shape(tf.broadcast_to(table, shape), [None, *tensor.shape[1:]]))
        rows = [tf.concat(pair, 0) for pair in zip(inputs, tables, strict=True)]
        shown = SharedBaselines(samples, self._baselines, self._question.takes_outputs)
        forward = ForwardPass(
            self._question, self._layout, settings, [*rows, *targets], shown=shown
        )

        at_baselines = False if self._baselines == 1 else samples < self._baselines

        def contributions(output: tf.Tensor | None) -> list[tf.Tensor | None]:
            def of(number: Any) -> list[tf.Tensor]:
                index = tf.where(at_baselines, number, samples + number)
                with paired(Pairs(samples + self._baselines, index, at_baselines)):
                    gradients = forward.gradients(output, shown.counted(number, at_baselines))
                return [
                    of_samples(gradient, row, row[index][tf.newaxis], number)
                    for gradient, row in zip(gradients, rows, strict=True)
                    if gradient is not None
                ]

            def of_samples(gradient: Any, row: Any, other: Any, number: Any) -> tf.Tensor:
                """Return what each sample has, of all that are compared with one row."""

                def of_all() -> tf.Tensor:
                    return self._contributions(gradient[:samples], row[:samples], other)

                def of_one() -> tf.Tensor:
                    found = self._contributions(gradient[samples:], other, row[samples:])
                    shape = tf.shape(row[:samples])
                    return tf.scatter_nd([[number]], [tf.reduce_sum(found, 0)], shape)

                if self._baselines == 1:
                    return of_all()
                return tf.cond(at_baselines, of_one, of_all)

            if self._baselines == 1:
                return self._with_gaps_filled(forward, of(0))
            steps = tf.minimum(samples, self._baselines)
            return self._with_gaps_filled(forward, self._mean_over(of, inputs, steps))

        return self._finished(forward, shown, maker, inputs, contributions)

    def _mean_over(self, of: Any, inputs: Sequence[tf.Tensor], steps: tf.Tensor) -> list[tf.Tensor]:
        """Return the mean over baselines of what `of` returns in all of its steps."""
        zeros = [tf.zeros_like(tensor) for tensor in inputs]

        def step(numbers: tf.Tensor, state: list[tf.Tensor]) -> list[tf.Tensor]:
            more = of(numbers[0])
            added = [before + part for before, part in zip(state, more, strict=False)]
            return [*added, *state[len(more) :]]

        zeros = [tf.cast(zero, tf.float32) if zero.dtype.size < 4 else zero for zero in zeros]
        total = loops.over_points(step, zeros, 0, steps, 1)
        return [
            tf.ensure_shape(part, tensor.shape) / tf.cast(self._baselines, part.dtype)
            for part, tensor in zip(total, inputs, strict=True)
        ]

    def _by_own(
        self, first: tf.Tensor, inputs: list[tf.Tensor], targets: list[tf.Tensor]
    ) -> tuple[list[tf.Tensor], Facts]:
        """Return the results by rows [samples; first baseline of each; …]."""
        settings = self._settings._replace(first=first)
        maker, samples = MapMaker(self._question, settings), tf.shape(inputs[0])[0]
        compared: dict[int, tuple[tf.Tensor, tf.Tensor]] = {}
        count = self._baselines
        tiled = [_tiled(array, 1 + count) for array in (*inputs, *targets)]

        def at(position: int, source: tf.Tensor) -> tf.Tensor:
            if not source.dtype.is_floating:
                return source
            x = source[:samples]
            others = self._recipe.of_each(x, maker.source(position, inputs))
            compared[position] = x, others
            flat = tf.reshape(others, tf.concat([[-1], tf.shape(x)[1:]], 0))
            return tf.ensure_shape(tf.concat([x, flat], 0), source.shape)

        shown = OwnBaselines(samples, count, self._question.takes_outputs)
        forward = ForwardPass(self._question, self._layout, settings, tiled, at, shown)

        def contributions(output: tf.Tensor | None) -> list[tf.Tensor | None]:
            with paired(Pairs(tf.constant(1 + count), tf.constant(0), True)):
                gradients = forward.gradients(output)
            found: list[tf.Tensor | None] = []
            for position, gradient in enumerate(gradients):
                if gradient is not None:
                    x, others = compared[position]
                    split = tf.reshape(gradient[samples:], tf.shape(others))
                    found.append(tf.reduce_mean(self._contributions(split, x, others), 0))
                else:
                    found.append(None)
            return found

        return self._finished(forward, shown, maker, inputs, contributions)

    def _contributions(
        self, multipliers: tf.Tensor, source: tf.Tensor, baseline: tf.Tensor
    ) -> tf.Tensor:
        """Return what a source contributes, in the precision of the multipliers."""
        dtype = multipliers.dtype
        return self._recipe.contributions(
            multipliers, tf.cast(source, dtype), tf.cast(baseline, dtype)
        )

    @staticmethod
    def _with_gaps_filled(
        forward: ForwardPass, found: Sequence[tf.Tensor]
    ) -> list[tf.Tensor | None]:
        left = iter(found)
        return [next(left) if has else None for has in forward.has_gradient]

    def _finished(
        self,
        forward: ForwardPass,
        shown: PairedRows,
        maker: MapMaker,
        inputs: Sequence[tf.Tensor],
        contributions: Any,
    ) -> tuple[list[tf.Tensor], Facts]:
        """Return maps, scores and numbers of what was contributed to the score, or each output."""
        samples, explained = tf.shape(inputs[0])[0], self._settings.explained
        sources = [source[:samples] for source in forward.sources]
        at_both = tf.stack([shown.at_samples, shown.at_baselines], 1)

        largest = forward.largest()
        largest = None if largest is None else largest[:samples]

        def finish(output: tf.Tensor | None = None) -> Any:
            states = [None if part is None else [part] for part in contributions(output)]
            scores = at_both if output is None else at_both[:, :, output]
            return maker.finish(states, sources, inputs, scores, largest)

        with forward.differentiated():
            if explained is None:
                scores = shown.at_samples
                maps, numbers = finish()
            else:
                scores = tf.gather(shown.at_samples, explained, axis=1)
                ranks = [source.shape.rank for source in forward.sources]
                maps, numbers = maker.for_each_output(finish, explained, ranks)
        beside = BaselineRows(self._baselines, self._is_shared)
        facts = forward.facts._replace(baselines=beside)
        return [*maps, tf.cast(scores, tf.float32), numbers], facts


def _tiled(array: tf.Tensor, times: int) -> tf.Tensor:
    """Return rows several times, all of them before the first comes again."""
    return tf.tile(array, [times, *[1] * (array.shape.rank - 1)])
