"""Deconvolutional networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

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

    defaults: ClassVar[Mapping[str, Any]] = {"backprop_modifier": "deconv"}
