"""Guided backpropagation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from xplique_sal.attributions.base import WhiteBoxExplainer


class GuidedBackprop(WhiteBoxExplainer):
    """The gradient of a score, of which only positive parts pass active rectifiers.

    The gradient, signed, with the rule of each rectifier y = φ(x) for an incoming gradient g
    replaced by

        g_x = max(g, 0)·[x > 0]·φ′(x)

    so that only what increases the score through units that are active is shown.

    References
    ----------
    Springenberg, Dosovitskiy, Brox and Riedmiller, "Striving for Simplicity: The All Convolutional
    Net", 2014, section 3.4.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"backprop_modifier": "guided"}
