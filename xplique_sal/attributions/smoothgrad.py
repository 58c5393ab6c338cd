"""SmoothGrad: the mean gradient around a sample."""

from __future__ import annotations

from xplique_sal.attributions.noise_base import NoiseExplainer


class SmoothGrad(NoiseExplainer):
    """The mean gradient of a score in the neighbourhood of its input.

    For a score g of an input x and normal noise ε_k, k = 1 … n,

        map = 1/n · Σ_k ∂g/∂x (x + ε_k)

    signed, and for images the mean of it over the channels. The gradient of a network of ReLUs
    jumps from one linear piece to the next; its mean over a neighbourhood varies less. The error
    that is left by chance shrinks with 1/√n.

    References
    ----------
    Smilkov, Thorat, Kim, Viégas and Wattenberg, "SmoothGrad: removing noise by adding noise", 2017,
    section 3. Their noise is 10 to 20 % of each image's range: pass ``relative_noise=True`` for
    that.
    """
