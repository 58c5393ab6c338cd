"""VarGrad: the variance of the gradient around a sample."""

from __future__ import annotations

from typing import ClassVar

from xplique_sal._engine.statistics import Statistic, Variance
from xplique_sal.attributions.noise_base import NoiseExplainer


class VarGrad(NoiseExplainer):
    """The variance of the gradient of a score in the neighbourhood of its input.

    For a score g of an input x and normal noise ε_k, k = 1 … n, with g_k = ∂g/∂x (x + ε_k) and ḡ
    their mean,

        map = 1/(n − 1) · Σ_k (g_k − ḡ)²

    never negative, and for images the mean of it over the channels. It shows where the influence
    of a value changes, and is zero where the score is linear, however steep.

    References
    ----------
    Adebayo, Gilmer, Goodfellow and Kim, "Local Explanation Methods for Deep Neural Networks Lack
    Sensitivity to Parameter Values", 2018, section 2. The divisor n − 1 is that of Xplique.
    """

    _statistic: ClassVar[Statistic] = Variance()
    _least: ClassVar[int] = 2
