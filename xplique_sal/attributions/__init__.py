"""The explainers."""

from xplique_sal.attributions.deconvnet import DeconvNet
from xplique_sal.attributions.deep_lift import DeepLift
from xplique_sal.attributions.grad_cam import GradCAM
from xplique_sal.attributions.grad_cam_pp import GradCAMPP
from xplique_sal.attributions.gradient_input import GradientInput
from xplique_sal.attributions.gradient_shap import GradientShap
from xplique_sal.attributions.guided_backprop import GuidedBackprop
from xplique_sal.attributions.integrated_gradients import IntegratedGradients
from xplique_sal.attributions.layer_cam import LayerCAM
from xplique_sal.attributions.lrp import LRP
from xplique_sal.attributions.occlusion import Occlusion
from xplique_sal.attributions.rise import Rise
from xplique_sal.attributions.saliency import Saliency
from xplique_sal.attributions.smoothgrad import SmoothGrad
from xplique_sal.attributions.square_grad import SquareGrad
from xplique_sal.attributions.vargrad import VarGrad

__all__ = [
    "LRP",
    "DeconvNet",
    "DeepLift",
    "GradCAM",
    "GradCAMPP",
    "GradientInput",
    "GradientShap",
    "GuidedBackprop",
    "IntegratedGradients",
    "LayerCAM",
    "Occlusion",
    "Rise",
    "Saliency",
    "SmoothGrad",
    "SquareGrad",
    "VarGrad",
]
