"""From what is kept of gradients to maps: combined with the sample, modified, reduced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from xplique_sal._data.structures import GradientModifier
from xplique_sal._engine.complaints import modified
from xplique_sal._engine.forward_pass import Call
from xplique_sal._engine.recipe import Attribution, Place
from xplique_sal._engine.reducers import reduce
from xplique_sal._models.view import ModelView
from xplique_sal._tracing import keras_compat, loops

#: What is found of each sample's gradient.
FINE, ZERO, NOT_FINITE = 0, 1, 2


class MapMaking:
    """The end of the way from gradients to maps, as part of a trace.

    Parameters
    ----------
    view
        f.
    attribution
        What the method makes of gradients.
    modifier
        An elementwise function on that.
    reducer
        The name of a channel reduction.
    """

    def __init__(
        self,
        view: ModelView,
        attribution: Attribution,
        modifier: GradientModifier | None,
        reducer: str | None,
    ) -> None:
        self._view = view
        self._attribution = attribution
        self._modifier = modifier
        self._reducer = reducer

    def finish(
        self,
        kept: Sequence[Sequence[tf.Tensor] | None],
        sources: Sequence[tf.Tensor],
        inputs: Sequence[tf.Tensor],
        scores: tf.Tensor,
        call: Call,
    ) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
        """Return maps, magnitude and details, of what is kept of the gradients to each source.

        The first that is kept is what becomes a map; the others only tell whether there was a
        gradient at all. The magnitude is the sum of all absolute values.
        """
        maps, attributions, magnitudes = [], [], []
        for position, state in enumerate(kept):
            if state is None:
                maps.append(tf.zeros([0]))  # as many results in any case: it is left out later
                continue
            place = self.place(position, inputs, call)
            for part in state:
                magnitude = tf.reduce_sum(tf.abs(part), list(range(1, part.shape.rank)))
                magnitudes.append(tf.cast(magnitude, tf.float32))
            attribution = self._attribution.combine(state[0], sources[position], place)
            attributions.append(attribution)
            if self._modifier is not None:
                attribution = modified(self._modifier, attribution)
            attribution = reduce(attribution, self._reducer, place.channel_axis)
            maps.append(tf.cast(attribution, tf.float32))
        return maps, tf.add_n(magnitudes), self._attribution.details(attributions, scores)

    @staticmethod
    def status(maps: Sequence[tf.Tensor], magnitude: tf.Tensor) -> tf.Tensor:
        """Return what is found of each gradient: `FINE`, `ZERO` or `NOT_FINITE`.

        Parameters
        ----------
        maps
            Those that there are, (N, ...), or (N, K, ...) of several outputs.
        magnitude
            (N,), or (N, K). NaN and infinity stay what they are in a sum.
        """
        is_finite = tf.math.is_finite(magnitude)
        for map_ in maps:
            axes = list(range(magnitude.shape.rank, map_.shape.rank))
            is_finite &= tf.reduce_all(tf.math.is_finite(map_), axes)
        return tf.where(is_finite, tf.where(magnitude == 0, ZERO, FINE), NOT_FINITE)

    def of_each(
        self,
        explain: Callable[[tf.Tensor | None], Any],
        outputs: tf.Tensor | None,
        ranks: Sequence[int],
    ) -> Any:
        """Return maps (N, K, ...), magnitudes and details of each output; of one, without K."""
        if outputs is None:
            return explain(None)
        empty: list[bool] = []

        def one(output: tf.Tensor) -> Any:
            maps, magnitude, details = explain(output)
            empty[:] = [map_.shape == [0] for map_ in maps]
            return maps, magnitude, details

        types = ([tf.float32] * len(ranks), tf.float32, tf.float32)
        maps, magnitude, details = loops.for_each(one, outputs, types)
        swapped = [
            tf.zeros([0]) if nothing else tf.transpose(map_, [1, 0, *range(2, rank + 1)])
            for map_, rank, nothing in zip(maps, ranks, empty, strict=True)
        ]
        return swapped, tf.transpose(magnitude), tf.transpose(details, [1, 0, 2])

    def place(self, position: int, inputs: Sequence[tf.Tensor], call: Call) -> Place:
        """Return which source it is that has this position."""
        _, wrt = self._view.chosen_layers()
        own = axis = self._view.channel_axis
        if wrt:
            axis = keras_compat.channel_axis(wrt[position].layer, own)
        return Place(position, inputs, axis, own, call.arguments)
