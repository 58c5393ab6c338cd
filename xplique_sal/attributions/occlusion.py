"""Occlusion: what the score loses when a patch is hidden."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xplique_sal._data.structures import Operator, Structure, leaves
from xplique_sal._engine.groups import GroupMasks
from xplique_sal._engine.masks import MaskedScores, Masks, OneInput
from xplique_sal._engine.mutations import Mutations
from xplique_sal._engine.request import Request
from xplique_sal._engine.score_runner import SettledScore
from xplique_sal._parameters import lengths, lengths_for, one_of
from xplique_sal.attributions.masking_base import MaskingExplainer
from xplique_sal.errors import InvalidInputError, InvalidParameterError


class Occlusion(MaskingExplainer):
    """What a score loses when a patch of the input is hidden, patch by patch.

    For a score g and patches P_k, placed `patch_stride` apart and wholly inside the input,

        map = Σ_k [in P_k]·(g(x) − g(x with P_k replaced by `occlusion_value`))

    so that a position where patches overlap has the sum of their losses, and one that no patch
    covers has 0. A positive value says that the score is lower without the patch. It needs one
    forward pass for each patch and one for the sample, and no gradient. With `groups` these are
    the patches, whatever `patch_size` and `patch_stride` are.

    With ``replacement="letters"`` it is in-silico mutagenesis of one-hot sequences (N, L, A): each
    letter is replaced by each other one, and

        map[l, a] = g(x) − g(x with the letter a at position l)

    (N, L, A), 0 at the letters of x themselves, and at rows of zeros, where no letter is known. It
    needs L·(A − 1) forward passes and one for the sample. The sign is that of all maps: a positive
    value says that the letter of x speaks for the score, more than a. What a mutation changes is
    minus the map, `plot_sequence_logo(…, mutations=-map)`.

    Parameters
    ----------
    patch_size
        The length of a patch along each axis of the input but the channels of images and volumes:
        (W,), (T, W), (H, W) or (D, H, W). An integer is the length along every axis, or the whole
        axis where that is shorter.
    patch_stride
        The distance between patches, as `patch_size`.
    occlusion_value
        What stands in a hidden patch: a number, one for each channel (feature, sensor), or an
        array of the shape of a sample.
    replacement
        ``"letters"``: what stands in the place of a letter is each other one, and patches and
        `occlusion_value` play no part. `groups` (L, 1), or (N, L, 1) of each sample, say which
        positions are changed: a number of its own for each, and −1 where nothing is. Of several
        inputs: packed as they are, with ``None`` for those that are hidden in patches.

    References
    ----------
    Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014,
    section 4.2; Zhou and Troyanskaya, "Predicting effects of noncoding variants with deep
    learning–based sequence model", Nature Methods 2015, section "In silico saturated mutagenesis".

    Examples
    --------
    >>> explanations = Occlusion(model, patch_size=8).explain(images, labels)  # doctest: +SKIP
    """

    def __init__(
        self,
        model: Any,
        batch_size: int | str | None = 64,
        operator: Operator | str | None = None,
        patch_size: int | Sequence[int] = 3,
        patch_stride: int | Sequence[int] = 3,
        occlusion_value: Any = 0.0,
        *,
        output_layer: int | str | None = None,
        output: int | str | None = None,
        logits: bool = False,
        groups: Structure | None = None,
        replacement: Structure | None = None,
    ) -> None:
        super().__init__(
            model,
            batch_size,
            operator,
            occlusion_value,
            "occlusion_value",
            output_layer=output_layer,
            output=output,
            logits=logits,
            groups=groups,
        )
        self.occlusion_value = occlusion_value
        self.replacement = replacement
        is_packed = isinstance(replacement, (list, tuple, dict))
        self._replacements = leaves(replacement) if is_packed else [replacement]
        for part in self._replacements:
            one_of("replacement", part, (None, "letters"))
        self._size = lengths("patch_size", patch_size)
        self._stride = lengths("patch_stride", patch_stride)

    @property
    def patch_size(self) -> int | tuple[int, ...]:
        """The length of a patch along each axis, where the model tells its axes."""
        return self._for_each_axis(self._size)

    @property
    def patch_stride(self) -> int | tuple[int, ...]:
        """The distance between patches along each axis, where the model tells its axes."""
        return self._for_each_axis(self._stride)

    def _arguments(self) -> dict[str, Any]:
        given = {"patch_size": self._size, "patch_stride": self._stride}
        return {**super()._arguments(), **given}

    def _request(
        self, inputs: Structure, targets: Structure | None, endless: bool = False
    ) -> Request:
        request = super()._request(inputs, targets, endless)
        layout = request.layout
        if len(self._replacements) not in (1, len(layout.input_specs)):
            raise InvalidParameterError(
                f"a `replacement` for each of {len(layout.input_specs)} inputs, or one for all",
                f"{len(self._replacements)}",
                "Pack them as the inputs, with None for those that are hidden in patches.",
            )
        for number, position in enumerate(leaves(layout.for_user)):
            shape = layout.input_specs[position].shape
            if self._replacement(number) and shape.rank not in (None, 2):
                raise InvalidInputError(
                    'one-hot letters (N, L, A) for replacement="letters"',
                    f"samples of the shape {shape}",
                    "Pack `replacement` as the inputs, with None for those that are no letters.",
                )
        return request

    def _replacement(self, number: int) -> str | None:
        """Return what is said of an input, counted as the user packs them."""
        return self._replacements[number if len(self._replacements) > 1 else 0]

    def _of_input(self, score: SettledScore, one: OneInput) -> tf.Tensor:
        if self._replacement(one.position) is None:
            return super()._of_input(score, one)
        length = one.samples.shape[1]
        grouped = self._grouped(score, one, (length, 1), (0, 1))
        numbers, count = grouped or (np.arange(length).reshape(1, -1, 1), length)
        mutations = Mutations(one.samples.numpy(), numbers[..., 0], count, score.start)
        return mutations.lost(score.values, one, score.copies_at_once(mutations.count))

    def _masks(self, seed: int, shape: tuple[int, ...], axes: tuple[int, ...]) -> Masks:
        longest = [shape[axis] for axis in axes]
        sizes = lengths_for("patch_size", self._size, len(axes))
        if isinstance(self._size, int):
            sizes = [min(size, length) for size, length in zip(sizes, longest, strict=True)]
        if any(size > length for size, length in zip(sizes, longest, strict=True)):
            raise InvalidParameterError(
                f"a `patch_size` of at most {tuple(longest)}, the size of the input",
                f"{tuple(sizes)}",
                "Pass a smaller patch.",
            )
        strides = lengths_for("patch_stride", self._stride, len(axes))
        return _Patches(shape, axes, sizes, strides)

    def _map(self, original: np.ndarray, masked: Iterator[MaskedScores]) -> tf.Tensor:
        return tf.add_n([some.sum_over_hidden(original - some.scores) for some in masked])

    def _masks_of_groups(self, seed: int, numbers: np.ndarray, count: int) -> Masks:
        return GroupMasks(numbers, count)


class _Patches:
    """Masks that each hide one patch."""

    def __init__(
        self,
        shape: Sequence[int],
        axes: Sequence[int],
        sizes: Sequence[int],
        strides: Sequence[int],
    ) -> None:
        self._shape = shape
        self._axes = axes
        self._sizes = sizes
        self._strides = strides
        self._places = [
            (shape[axis] - size) // stride + 1
            for axis, size, stride in zip(axes, sizes, strides, strict=True)
        ]
        self.count = int(np.prod(self._places))

    def __call__(self, first: int, count: int) -> tf.Tensor:
        numbers = np.unravel_index(np.arange(first, first + count), self._places or [1])
        hidden = np.ones([count] + [1] * len(self._shape), np.float32)
        for axis, size, stride, number in zip(
            self._axes, self._sizes, self._strides, numbers, strict=False
        ):
            positions = np.arange(self._shape[axis]) - stride * number[:, np.newaxis]
            inside = (positions >= 0) & (positions < size)
            hidden = hidden * np.expand_dims(
                inside, [other + 1 for other in range(len(self._shape)) if other != axis]
            )
        return tf.constant(1 - hidden)
