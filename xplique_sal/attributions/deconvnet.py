"""Deconvolutional networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from xplique_sal._data.structures import GradientModifier, Operator
from xplique_sal.attributions.base import WhiteBoxExplainer


class DeconvNet(WhiteBoxExplainer):
    """The gradient of a score, of which only positive parts pass rectifiers, active or not.

    The gradient, signed, with the rule of each rectifier y = φ(x) for an incoming gradient g
    replaced by

        g_x = max(g, 0)·s

    where s is the slope of φ for positive x: 1, or λ for SELU.

    References
    ----------
    Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2014, section 2.1.
    """

    def __init__(
        self,
        model: Any,
        output_layer: int | str | None = None,
        batch_size: int | str | None = 64,
        operator: Operator | str | None = None,
        reducer: str | None = "mean",
        *,
        output: int | str | None = None,
        logits: bool = False,
        wrt_layer: int | str | Sequence[int | str] | None = None,
        grad_modifier: GradientModifier | str | None = None,
        backprop_modifier: Callable[..., tf.Tensor] | str | None = "deconv",
        fold_batch_norm: bool = True,
        strategy: tf.distribute.Strategy | None = None,
        channel_axis: int | None = None,
    ) -> None:
        super().__init__(
            model,
            output_layer,
            batch_size,
            operator,
            reducer,
            output=output,
            logits=logits,
            wrt_layer=wrt_layer,
            grad_modifier=grad_modifier,
            backprop_modifier=backprop_modifier,
            fold_batch_norm=fold_batch_norm,
            strategy=strategy,
            channel_axis=channel_axis,
        )
