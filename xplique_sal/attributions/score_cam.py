"""Score-CAM: the feature map, each channel weighed by the score of what it shows of the input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xplique_sal._data.structures import Operator, Structure, leaves, pack
from xplique_sal._engine.inner_outputs import made_of_layers
from xplique_sal._engine.masks import masked
from xplique_sal._engine.recipe import Source
from xplique_sal._engine.request import Request
from xplique_sal._engine.score_runner import SettledScore
from xplique_sal._parameters import integer
from xplique_sal.attributions.feature_map_base import (
    FeatureMapExplainer,
    LayerOfEach,
    axes_of,
    resized_to,
)
from xplique_sal.errors import InvalidParameterError


class ScoreCAM(FeatureMapExplainer):
    """Where the channels of a feature map are active that keep a score up when they mask the input.

    For a score g, an input x and the feature map A of a convolutional layer, with channels A_c,

        map = ReLU(Σ_c w_c A_c),  w = softmax_c(g(x·m_c) − g(0))
        m_c = (U(A_c) − min U(A_c)) / (max U(A_c) − min U(A_c))

    resized to the height and width of the input, as of `GradCAM`, where U is that resizing, too. A
    channel that is the same everywhere masks all: m_c = 0. g(0) is the same for all channels and
    cancels in the softmax, so that it is not computed. No gradient is taken: what saturates, or has
    none, does no harm, and of a probability the weights are nearly equal where no mask changes it
    by much. Masks act on the input, so that each channel is one forward pass of the whole model;
    the feature map takes the part up to its layer once more.

    Parameters
    ----------
    nb_channels
        How many channels of each sample have a part: those whose values differ most from position
        to position, by their variance. ``None`` is all: of 512 channels 512 forward passes.
    backprop_modifier
        Only ``None``: there is no gradient to be modified.
    strategy
        Not used: forward passes run where the model is.

    Raises
    ------
    InvalidParameterError
        If there is a `backprop_modifier`, or `nb_channels` is no positive integer.

    References
    ----------
    Wang, Wang, Du, Yang, Zhang, Ding, Mardziel and Hu, "Score-CAM: Score-Weighted Visual
    Explanations for Convolutional Neural Networks", CVPR workshops 2020, section 3.2.
    """

    _shares_outputs = True

    def __init__(
        self,
        model: Any,
        output_layer: int | str | None = None,
        batch_size: int | str | None = 64,
        operator: Operator | str | None = None,
        conv_layer: LayerOfEach = None,
        *,
        nb_channels: int | None = None,
        output: int | str | None = None,
        logits: bool = False,
        backprop_modifier: Callable[..., tf.Tensor] | str | None = None,
        fold_batch_norm: bool = True,
        strategy: tf.distribute.Strategy | None = None,
        channel_axis: int | None = None,
        interpolation: str = "bicubic",
        relu: bool = True,
    ) -> None:
        if backprop_modifier is not None:
            raise InvalidParameterError(
                "no `backprop_modifier` of a method that takes no gradient",
                repr(backprop_modifier),
                "Leave it out, or take `GradCAM`.",
            )
        self.nb_channels = None if nb_channels is None else integer("nb_channels", nb_channels)
        super().__init__(
            model,
            output_layer,
            batch_size,
            operator,
            conv_layer,
            output=output,
            logits=logits,
            fold_batch_norm=fold_batch_norm,
            strategy=strategy,
            channel_axis=channel_axis,
            interpolation=interpolation,
            relu=relu,
        )

    @staticmethod
    def _weights(gradient: tf.Tensor, features: tf.Tensor, positions: Sequence[int]) -> tf.Tensor:
        """Weights are not made of gradients."""
        raise NotImplementedError

    def explain_batch(
        self, score: SettledScore, inputs: Structure, targets: Structure | None
    ) -> Structure:
        """Return the maps of some samples, by the scores of what each channel shows of them."""
        request = self._request(inputs, None)
        return self._packed(request, self._of_layers(request, score, inputs))

    def _maps_of(self, request: Request, score: SettledScore, size: int) -> list[tf.Tensor]:
        if type(self).explain_batch is not ScoreCAM.explain_batch:
            return super()._maps_of(request, score, size)
        return self._of_layers(self._request(score.inputs, None), score, score.inputs)

    def _of_layers(
        self, request: Request, score: SettledScore, inputs: Structure
    ) -> list[tf.Tensor]:
        question, for_user = self._gradients.question, request.samples.for_user
        key = (self.nb_channels, *question.recipe.key)
        features, facts = made_of_layers(question, request, self._chosen, key, self.batch_size)
        by_position = dict(zip(leaves(for_user), leaves(inputs), strict=True))
        rows = [by_position[position] for position in range(len(by_position))]
        maps = []
        for found, (shown, into) in zip(features, facts, strict=True):

            def of_masked(masks: tf.Tensor, shown: int = shown) -> np.ndarray:
                copies = len(masks)
                changed = [tf.tile(x, [copies, *[1] * (x.shape.rank - 1)]) for x in rows]
                changed[shown] = masked(rows[shown], masks, 0)
                scores = score(pack(for_user, changed))
                return scores.reshape(copies, -1, *scores.shape[1:])

            size, at_once = tf.shape(rows[shown]), score.copies_at_once(int(found.shape[1]))
            scores = [
                of_masked(self._masks(found[:, first : first + at_once], size, into))
                for first in range(0, found.shape[1], at_once)
            ]
            maps.append(self._map(found, size, into, np.concatenate(scores)))
        return maps

    def _chosen(self, source: tf.Tensor, place: Source) -> tuple[tf.Tensor, tuple[int, int | None]]:
        """Return the channels that have a part, (N, C, ...), and which input they belong to."""
        features = tf.cast(source, tf.float32)
        _, channels = axes_of(features, place)
        rank = features.shape.rank
        others = [axis for axis in range(1, rank) if axis != channels]
        features = tf.transpose(features, [0, channels, *others])
        if self.nb_channels is not None:
            variance = tf.math.reduce_variance(features, list(range(2, rank)))
            count = tf.minimum(self.nb_channels, tf.shape(variance)[1])
            features = tf.gather(features, tf.math.top_k(variance, count).indices, batch_dims=1)
        shown, into = self._gradients.question.recipe.shown(source, place)  # type: ignore[attr-defined]
        return features, (next(n for n, x in enumerate(place.inputs) if x is shown), into)

    def _masks(self, features: tf.Tensor, size: tf.Tensor, into: int | None) -> tf.Tensor:
        """Return the masks of some channels, (C, N, ...)."""
        flat = tf.reshape(features, tf.concat([[-1], tf.shape(features)[2:]], 0))
        masks = _normalised(resized_to(flat, size, into, self.interpolation))
        shape = tf.concat([tf.shape(features)[:2], tf.shape(masks)[1:]], 0)
        return tf.transpose(tf.reshape(masks, shape), [1, 0, *range(2, masks.shape.rank + 1)])

    def _map(
        self, features: tf.Tensor, size: tf.Tensor, into: int | None, scores: np.ndarray
    ) -> tf.Tensor:
        """Return the maps of scores (C, N), (N, ...); of several, (C, N, K), (N, K, ...)."""
        weights = np.exp(scores - scores.max(axis=0))
        weights /= weights.sum(axis=0)
        several = weights.ndim == 3
        each = tf.constant(weights if several else weights[..., np.newaxis], tf.float32)
        weighed = tf.einsum("cnk,ncp->nkp", each, _in_one_axis(features))
        shape = tf.concat([[-1], tf.shape(features)[2:]], 0)
        weighed = tf.ensure_shape(tf.reshape(weighed, shape), [None, *features.shape[2:]])
        if self.relu:
            weighed = tf.nn.relu(weighed)
        maps = resized_to(weighed, size, into, self.interpolation)
        if not several:
            return maps
        return tf.reshape(maps, tf.concat([tf.shape(each)[1:], tf.shape(maps)[1:]], 0))


def _in_one_axis(features: tf.Tensor) -> tf.Tensor:
    """Return features (N, C, ...) with all positions on one axis, (N, C, P)."""
    return tf.reshape(features, tf.concat([tf.shape(features)[:2], [-1]], 0))


def _normalised(maps: tf.Tensor) -> tf.Tensor:
    """Return each map between 0 and 1; 0 where it is the same everywhere."""
    axes = list(range(1, maps.shape.rank))
    low = tf.reduce_min(maps, axes, keepdims=True)
    high = tf.reduce_max(maps, axes, keepdims=True)
    return tf.math.divide_no_nan(maps - low, high - low)
