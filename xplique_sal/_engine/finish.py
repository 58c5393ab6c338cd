"""From what is kept of gradients to maps: combined with the sample, modified, reduced."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from xplique_sal._engine.modifier import modified
from xplique_sal._engine.question import Question, Settings
from xplique_sal._engine.recipe import Source
from xplique_sal._engine.reducers import reduce
from xplique_sal._models.frames import is_of_frames
from xplique_sal._tracing import keras_compat, loops
from xplique_sal.grad_modifiers import absolute, negate, relu

#: Instead of the magnitude of a gradient: the modifier has made something else of finite numbers.
MODIFIED_TO_NAN = -1.0
#: They make finite numbers of finite numbers.
_KEEP_FINITE = (absolute, negate, relu)


class MapMaker:
    """The end of the way from gradients to maps, as part of a trace."""

    def __init__(self, question: Question, settings: Settings) -> None:
        self._question = question
        self._settings = settings

    def finish(
        self,
        states: Sequence[Sequence[tf.Tensor] | None],
        sources: Sequence[tf.Tensor],
        inputs: Sequence[tf.Tensor],
        scores: tf.Tensor,
        largest: tf.Tensor | None = None,
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Return maps, and a few numbers about each sample, from its gradients to each source.

        Parameters
        ----------
        states
            What is known of the gradients to each source. The first becomes a map; the others
            only tell whether there was a gradient at all.
        sources, inputs
            As they are in the samples.
        scores
            (N, S): at the points that are asked for, the sample itself first.
        largest
            The index of the largest output of each sample, (N,), where it is known and asked for.

        Returns
        -------
        maps
            (N, ...); empty where there is no gradient: as many in any case.
        numbers
            (N, 1 + details): the sum of the gradient's absolute values, NaN where the map is not
            finite, or `MODIFIED_TO_NAN`; and the recipe's details. Where the largest output is
            asked for, it is one more, the last: NaN if it is not known.
        """
        recipe = self._question.recipe
        maps, attributions, added_up, magnitudes = [], [], [], []
        for position, state in enumerate(states):
            if state is None:
                maps.append(tf.zeros([0]))
                continue
            place = self.source(position, inputs)
            for part in state:
                magnitude = tf.reduce_sum(tf.abs(part), list(range(1, part.shape.rank)))
                magnitudes.append(tf.cast(magnitude, tf.float32))
            attribution = recipe.combine(state[0], sources[position], place)
            attributions.append(attribution)
            added_up.append(recipe.added_up(attribution, sources[position]))
            if self._question.modifier is not None:
                attribution = modified(self._question.modifier, attribution)
            attribution = reduce(attribution, self._question.reducer, place.channel_axis)
            maps.append(tf.cast(attribution, tf.float32))
        magnitude = tf.add_n(magnitudes)
        known = [map_ for map_, state in zip(maps, states, strict=True) if state is not None]
        # NaN and infinity stay what they are in a sum.
        found = tf.where(is_finite := _all_finite(known), magnitude, math.nan)
        if self._question.modifier not in (None, *_KEEP_FINITE):
            was_finite = tf.math.is_finite(magnitude) & _all_finite(attributions)
            found = tf.where(was_finite & ~is_finite, MODIFIED_TO_NAN, found)
        numbers = [found[:, tf.newaxis]]
        if recipe.nb_details:
            numbers.append(recipe.details(added_up, scores))
        if self._settings.with_largest:
            unknown = tf.fill(tf.shape(found), math.nan)
            told = unknown if largest is None else tf.cast(largest, tf.float32)
            numbers.append(told[:, tf.newaxis])
        return maps, numbers[0] if len(numbers) == 1 else tf.concat(numbers, 1)

    def for_each_output(
        self, explain: Callable[[tf.Tensor], Any], outputs: tf.Tensor, ranks: Sequence[int]
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Return maps (N, K, ...) and numbers (N, K, ...) of what `explain` returns of each."""
        maps, numbers = loops.for_each(explain, outputs, ([tf.float32] * len(ranks), tf.float32))
        swapped = [
            tf.zeros([0])
            if map_.shape.rank == 2 and map_.shape[1] == 0
            else tf.transpose(map_, [1, 0, *range(2, map_.shape.rank or rank + 1)])
            for map_, rank in zip(maps, ranks, strict=True)
        ]
        return swapped, tf.transpose(numbers, [1, 0, 2])

    def source(self, position: int, inputs: Sequence[tf.Tensor]) -> Source:
        """Return which source it is that has this position."""
        view = self._question.view
        _, wrt = view.chosen_layers()
        given = axis = self._question.channel_axis or view.channel_axis
        frames = False
        if wrt:
            layer = wrt[position].layer
            axis = keras_compat.channel_axis(layer, view.channel_axis)
            frames = is_of_frames(view.model, layer)
            axis += frames and axis > 0
        return Source(
            position, inputs, axis, given, self._settings.own, self._settings.first, frames
        )


def _all_finite(parts: Sequence[tf.Tensor]) -> tf.Tensor:
    """Return for each sample whether all numbers of its parts are finite."""
    each = [
        tf.reduce_all(tf.math.is_finite(part), list(range(1, part.shape.rank))) for part in parts
    ]
    return functools.reduce(tf.logical_and, each)
