"""The base of the methods that hide parts of an input."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from xplique_sal._data.structures import Operator, Structure, leaves, pack, skeleton_of
from xplique_sal._engine.groups import Groups
from xplique_sal._engine.masks import Filling, MaskedScores, Masks, OneInput
from xplique_sal._engine.request import Request
from xplique_sal._engine.score_runner import SettledScore
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
    groups
        Positions that are hidden together, in place of the method's own parts: the segments of an
        image, the words of a text, the columns of one category. An integer for each position of a
        sample, without the channels of images and volumes, the same for the positions of a group;
        negative ones are never hidden. (W,), (T, W), (H, W) or (D, H, W) for all samples, of which
        axes may have length 1, so that (T, 1) puts the letters of a one-hot sequence together; or
        one such array for each sample, (N, ...). Of several inputs: packed as they are, with
        ``None`` for those without groups.
    """

    _shares_outputs = True

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
        groups: Structure | None = None,
    ) -> None:
        super().__init__(
            model, batch_size, operator, output_layer=output_layer, output=output, logits=logits
        )
        self._filling = Filling(value, value_name)
        self.groups = groups
        self._groups = None if groups is None else Groups(groups)

    @abc.abstractmethod
    def _masks(self, seed: int, shape: tuple[int, ...], axes: tuple[int, ...]) -> Masks:
        """Return the masks of an input.

        Parameters
        ----------
        seed
            Drawn for this call: the same for all of its batches.
        shape
            Of one sample, with length 1 on the channel axis of images and volumes.
        axes
            Those of `shape` that are not the channel axis.
        """

    @abc.abstractmethod
    def _masks_of_groups(self, seed: int, numbers: np.ndarray, count: int) -> Masks:
        """Return masks of the `count` groups of some samples, as `Groups.of` numbers them."""

    @abc.abstractmethod
    def _map(self, original: np.ndarray, masked: Iterator[MaskedScores]) -> tf.Tensor:
        """Return maps of samples, from their scores as they are and behind each mask."""

    def _request(
        self, inputs: Structure, targets: Structure | None, endless: bool = False
    ) -> Request:
        request = super()._request(inputs, targets, endless)
        if self._groups is not None:
            self._groups.check(request.samples)
        return request

    def _for_each_axis(self, length: int | tuple[int, ...]) -> int | tuple[int, ...]:
        """Return a length along each axis that is masked, where the model tells how many."""
        inputs = self.model.inputs
        if not isinstance(length, int) or inputs is None or len(inputs.specs) != 1:
            return length
        shape = inputs.specs[0].shape
        # Without the samples' axis, and without the channels of images and volumes.
        return length if shape is None else (length,) * (len(shape) - (2 if len(shape) > 3 else 1))

    def explain_batch(
        self, score: SettledScore, inputs: Structure, targets: Structure | None
    ) -> Structure:
        """Return the map of each input, from its scores behind masks."""
        flat, skeleton = leaves(inputs), skeleton_of(inputs)

        def scores(rows: list[Any]) -> np.ndarray:
            return score(pack(skeleton, rows))

        inputs_alone = [OneInput(flat, position, scores) for position in range(len(flat))]
        return pack(skeleton, [self._of_input(score, one) for one in inputs_alone])

    def _of_input(self, score: SettledScore, one: OneInput) -> tf.Tensor:
        """Return the map of one input."""
        rank = one.samples.shape.rank - 1
        channels = {self.model.channel_axis % (rank + 1) - 1} if rank > 2 else set()
        axes = tuple(axis for axis in range(rank) if axis not in channels)
        shape = tuple(
            1 if axis in channels else one.samples.shape[axis + 1] for axis in range(rank)
        )
        grouped = self._grouped(score, one, shape, axes)
        if grouped is None:
            masks = self._masks(score.seed, shape, axes)
        else:
            masks = self._masks_of_groups(score.seed, *grouped)
        value = self._filling.within(one.samples, self.model.channel_axis)
        at_once = score.copies_at_once(masks.count)
        return self._map(score.values, one.scores_behind(masks, at_once, value))

    def _grouped(
        self, score: SettledScore, one: OneInput, shape: tuple[int, ...], axes: tuple[int, ...]
    ) -> tuple[np.ndarray, int] | None:
        """Return what `Groups.of` says of an input; ``None`` where there are no groups."""
        if self._groups is None:
            return None
        return self._groups.of(one.position, shape, axes, score.start, len(score.values))
