"""Saliency: the magnitude of the gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from xplique_sal._data.structures import GradientModifier, Operator
from xplique_sal.attributions.base import WhiteBoxExplainer


class Saliency(WhiteBoxExplainer):
    """The absolute gradient of a score with respect to its input.

    For a score g of an input x, such as a class score,

        map = |∂g/∂x|

    and for images the maximum of it over the channels. In the neighbourhood of x the score is
    about linear, g(x + d) ≈ g(x) + w·d with w = ∂g/∂x, so that |w| tells which pixels need to be
    changed least to change the score most.

    References
    ----------
    Simonyan, Vedaldi and Zisserman, "Deep Inside Convolutional Networks: Visualising Image
    Classification Models and Saliency Maps", 2013, section 3.

    Examples
    --------
    >>> explanations = Saliency(model, logits=True).explain(images, labels)  # doctest: +SKIP
    """

    def __init__(
        self,
        model: Any,
        output_layer: int | str | None = None,
        batch_size: int | str | None = 64,
        operator: Operator | str | None = None,
        reducer: str | None = "max",
        *,
        output: int | str | None = None,
        logits: bool = False,
        wrt_layer: int | str | Sequence[int | str] | None = None,
        grad_modifier: GradientModifier | str | None = "absolute",
        backprop_modifier: Callable[..., tf.Tensor] | str | None = None,
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
