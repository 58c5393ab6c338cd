"""The explainers."""

from xplique_sal.attributions.deconvnet import DeconvNet
from xplique_sal.attributions.guided_backprop import GuidedBackprop
from xplique_sal.attributions.saliency import Saliency

__all__ = ["DeconvNet", "GuidedBackprop", "Saliency"]
