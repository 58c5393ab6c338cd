"""Grad-CAM++: the feature map, each position's gradient weighed by itself."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from xplique_sal.attributions.feature_map_base import FeatureMapExplainer


class GradCAMPP(FeatureMapExplainer):
    """Where the channels of a feature map are active that raise a score somewhere.

    For a score g and the feature map A of a convolutional layer, with channels A_c,

        map = ReLU(Σ_c w_c A_c),  w_c = Σ_ij α_cij·max(∂g/∂A_cij, 0)
        α_cij = (∂g/∂A_cij)² / (2(∂g/∂A_cij)² + (∂g/∂A_cij)³·Σ_ab A_cab)

    resized to the height and width of the input, as of `GradCAM`. A channel that raises the score
    at a few positions only counts as well as one that does so everywhere, so that several objects
    of a class, and small ones, are shown.

    It is what the article gives for exp(g), without the factor exp(g) of each whole map. A is taken
    to be the output of a rectifier, as there: Σ A counts as 0 where it is negative. As no weight is
    negative, ``relu=False`` makes a difference only where A is.

    References
    ----------
    Chattopadhay, Sarkar, Howlader and Balasubramanian, "Grad-CAM++: Improved Visual Explanations
    for Deep Convolutional Networks", 2018, section 3.
    """

    @staticmethod
    def _weights(gradient: tf.Tensor, features: tf.Tensor, positions: Sequence[int]) -> tf.Tensor:
        """Return Σ α·max(gradient, 0), in which α = 1 / (2 + gradient·Σ A)."""
        raising = tf.nn.relu(gradient)
        total = tf.nn.relu(tf.reduce_sum(features, positions, keepdims=True))
        return tf.reduce_sum(raising / (2 + raising * total), positions, keepdims=True)
