"""keras-vis's entry points, and the images that a class responds to most."""

from xplique_sal.visualization.class_image import visualize_class
from xplique_sal.visualization.saliency import visualize_saliency, visualize_saliency_with_losses

__all__ = ["visualize_class", "visualize_saliency", "visualize_saliency_with_losses"]
