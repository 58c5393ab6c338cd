"""The base of the methods that hide parts of an input."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from xplique_sal._data.samples import Batch, Samples
from xplique_sal._data.structures import Explained, Operator
from xplique_sal._engine.masks import HiddenValue, Masks, Shown, look_behind
from xplique_sal._engine.score_runner import Score, ScoreRun
from xplique_sal.attributions.base import BlackBoxExplainer


class MaskingExplainer(BlackBoxExplainer):
    """Base of the explainers that hide parts of an input and look at what its score becomes.

    Of several inputs each is masked alone, and the others are left as they are. Several outputs
    share their forward passes.

    Parameters
    ----------
    value
        What stands in hidden parts.
    value_name
        What the method calls it.
    """

    def __init__(
        self,
        model: Any,
        batch_size: int | str | None,
        operator: Operator | str | None,
        value: Any,
        value_name: str,
        *,
        output_layer: int | str | None = None,
        output: int | str | None = None,
        logits: bool = False,
    ) -> None:
        super().__init__(
            model, batch_size, operator, output_layer=output_layer, output=output, logits=logits
        )
        self._value = HiddenValue(value, value_name)
        self._run_of = ScoreRun(self.model, self._operator, self._bound)

    @abc.abstractmethod
    def _masks(self, samples: Samples, shape: tuple[int, ...], axes: tuple[int, ...]) -> Masks:
        """Return the masks of an input.

        Parameters
        ----------
        samples
            What is explained: one object for all batches of a call.
        shape
            Of one sample, with length 1 on the channel axis of images and volumes.
        axes
            Those of `shape` that are not the channel axis.
        """

    @abc.abstractmethod
    def _map(self, original: np.ndarray, shown: Iterator[Shown]) -> tf.Tensor:
        """Return maps of samples, from their scores as they are and behind each mask."""

    def _for_each_axis(self, length: int | tuple[int, ...]) -> int | tuple[int, ...]:
        """Return a length along each axis that is masked, where the model tells how many."""
        inputs = self.model.inputs
        if not isinstance(length, int) or inputs is None or len(inputs.specs) != 1:
            return length
        shape = inputs.specs[0].shape
        # Without the samples' axis, and without the channels of images and volumes.
        return length if shape is None else (length,) * (len(shape) - (2 if len(shape) > 3 else 1))

    def _explain_batch(self, samples: Samples, batch: Batch) -> Explained:
        inputs = self._inputs(batch)
        return self._explained(samples, batch, inputs, *self._run_of.score(samples, batch, inputs))

    def _explain_outputs_of_batch(
        self, samples: Samples, batch: Batch, outputs: np.ndarray | None
    ) -> Explained:
        inputs = self._inputs(batch)
        return self._explained(
            samples, batch, inputs, *self._run_of.outputs(samples, batch, inputs, outputs)
        )

    def _rows_at_once(self, samples: Samples) -> int | None:
        if self._bound.is_searched:
            return super()._rows_at_once(samples)
        return self._run_of.rows_at_once(samples)

    def _inputs(self, batch: Batch) -> list[tf.Tensor]:
        return [self.model.cast(position, x) for position, x in enumerate(batch.inputs)]

    def _explained(
        self,
        samples: Samples,
        batch: Batch,
        inputs: list[tf.Tensor],
        score: Score,
        original: np.ndarray,
    ) -> Explained:
        maps = []
        for position, x in enumerate(inputs):
            rank = x.shape.rank - 1
            channels = {self.model.channel_axis % (rank + 1) - 1} if rank > 2 else set()
            axes = tuple(axis for axis in range(rank) if axis not in channels)
            shape = tuple(1 if axis in channels else x.shape[axis + 1] for axis in range(rank))
            masks = self._masks(samples, shape, axes)
            samples.points = masks.count
            value = self._value.within(x, self.model.channel_axis)
            copies = self._run_of.copies_at_once(samples, batch.size, masks.count)
            shown = look_behind(masks, copies, score, inputs, position, value)
            maps.append(self._map(original, shown))
        scores = tf.constant(original, tf.float32)
        return Explained(maps, scores, one_by_one=self._run_of.one_by_one)
