"""Saliency: the magnitude of the gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

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

    defaults: ClassVar[Mapping[str, Any]] = {"reducer": "max", "grad_modifier": "absolute"}
