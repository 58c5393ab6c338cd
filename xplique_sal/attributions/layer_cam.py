"""LayerCAM: the feature map, each of its values weighed by its own gradient."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from xplique_sal.attributions.feature_map_base import FeatureMapExplainer


class LayerCAM(FeatureMapExplainer):
    """Where the values of a feature map are active that raise a score there.

    For a score g and the feature map A of a convolutional layer, with channels A_c,

        map_ij = ReLU(Σ_c max(∂g/∂A_cij, 0)·A_cij)

    resized to the height and width of the input, as of `GradCAM`. Each value has a weight of its
    own, and no mean over positions is taken: maps of early layers, which have many positions, are
    as good as those of late ones, and finer. As no weight is negative, ``relu=False`` makes a
    difference only where A is.

    References
    ----------
    Jiang, Zhang, Hou, Cheng and Wei, "LayerCAM: Exploring Hierarchical Class Activation Maps for
    Localization", IEEE Transactions on Image Processing 30, 2021, section III.
    """

    @staticmethod
    def _weights(gradient: tf.Tensor, features: tf.Tensor, positions: Sequence[int]) -> tf.Tensor:
        """Return max(gradient, 0), at each position."""
        return tf.nn.relu(gradient)
