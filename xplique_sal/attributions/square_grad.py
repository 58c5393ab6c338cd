"""SquareGrad: the mean squared gradient around a sample."""

from __future__ import annotations

from typing import ClassVar

from xplique_sal._engine.statistics import MeanSquare, Statistic
from xplique_sal.attributions.noise_base import NoiseExplainer


class SquareGrad(NoiseExplainer):
    """The mean squared gradient of a score in the neighbourhood of its input.

    For a score g of an input x and normal noise ε_k, k = 1 … n,

        map = 1/n · Σ_k (∂g/∂x (x + ε_k))²

    never negative, and for images the mean of it over the channels. Gradients of either sign count
    alike, where in the mean of SmoothGrad they cancel; large ones count more. It is the variance
    of `VarGrad`, but for the factor n/(n − 1), plus the square of SmoothGrad.

    References
    ----------
    Hooker, Erhan, Kindermans and Kim, "A Benchmark for Interpretability Methods in Deep Neural
    Networks", 2019, section 3.2.
    """

    _statistic: ClassVar[Statistic] = MeanSquare()
