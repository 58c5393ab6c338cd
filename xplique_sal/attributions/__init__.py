"""The explainers."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from xplique_sal.attributions.score_cam import ScoreCAM
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
    "ScoreCAM",
    "SmoothGrad",
    "SquareGrad",
    "VarGrad",
]

#: The module of each, which is imported when the explainer is first used.
_MODULES = {
    "LRP": "lrp",
    "DeconvNet": "deconvnet",
    "DeepLift": "deep_lift",
    "GradCAM": "grad_cam",
    "GradCAMPP": "grad_cam_pp",
    "GradientInput": "gradient_input",
    "GradientShap": "gradient_shap",
    "GuidedBackprop": "guided_backprop",
    "IntegratedGradients": "integrated_gradients",
    "LayerCAM": "layer_cam",
    "Occlusion": "occlusion",
    "Rise": "rise",
    "Saliency": "saliency",
    "ScoreCAM": "score_cam",
    "SmoothGrad": "smoothgrad",
    "SquareGrad": "square_grad",
    "VarGrad": "vargrad",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    explainer = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = explainer  # found without this function from now on
    return explainer


def __dir__() -> list[str]:
    return sorted(__all__)
