"""The explainers."""

from xplique_sal.attributions.deconvnet import DeconvNet
from xplique_sal.attributions.guided_backprop import GuidedBackprop
from xplique_sal.attributions.occlusion import Occlusion
from xplique_sal.attributions.rise import Rise
from xplique_sal.attributions.saliency import Saliency

__all__ = ["DeconvNet", "GuidedBackprop", "Occlusion", "Rise", "Saliency"]
