"""Gradient times input."""

from __future__ import annotations

import tensorflow as tf

from xplique_sal._engine.recipe import Recipe, Source
from xplique_sal.attributions.base import WhiteBoxExplainer


class _TimesSource(Recipe):
    """x·∂g/∂x."""

    needs_source = True

    def combine(self, gradient: tf.Tensor, source: tf.Tensor, place: Source) -> tf.Tensor:
        """Return the product."""
        return gradient * tf.cast(source, gradient.dtype)


class GradientInput(WhiteBoxExplainer):
    """The gradient of a score times the input: what each value adds to it, to first order.

    For a score g of an input x,

        map = x·∂g/∂x

    elementwise, signed, and for images the mean of it over the channels. Of a linear score without
    a bias the values add up to the score, and so they do for a network of ReLUs without biases.
    A value of 0 has no part in the score by this account, whatever its gradient: a black pixel is
    never important. With `wrt_layer`, x is the output of that layer.

    References
    ----------
    Shrikumar, Greenside, Shcherbina and Kundaje, "Not Just a Black Box: Learning Important Features
    Through Propagating Activation Differences", 2016, section 2.
    """

    _recipe = _TimesSource()
