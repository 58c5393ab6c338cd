"""Grad-CAM: the feature map, each channel weighed by its mean gradient."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from xplique_sal.attributions.feature_map_base import FeatureMapExplainer


class GradCAM(FeatureMapExplainer):
    """Where the channels of a feature map are active that raise a score on average.

    For a score g and the feature map A of a convolutional layer, with channels A_c of Z positions,

        map = ReLU(Σ_c w_c A_c),  w_c = 1/Z · Σ_ij ∂g/∂A_cij

    resized to the height and width of the input: (N, H, W, 1), (N, T, 1) for time series, and
    (N, D, H, W, 1) for volumes. It is as coarse as the feature map, and shows what speaks for the
    score only, unless ``relu=False`` leaves the ReLU out.

    References
    ----------
    Selvaraju, Cogswell, Das, Vedantam, Parikh and Batra, "Grad-CAM: Visual Explanations from Deep
    Networks via Gradient-based Localization", 2017, section 3.
    """

    @staticmethod
    def _weights(gradient: tf.Tensor, features: tf.Tensor, positions: Sequence[int]) -> tf.Tensor:
        """Return the mean gradient of each channel."""
        return tf.reduce_mean(gradient, positions, keepdims=True)
