"""Which parts of an input a TensorFlow model's score depends on.

``Saliency(model).explain(images, labels)`` says it, for models of tf-keras and Keras 3.
"""

import importlib
from typing import TYPE_CHECKING, Any

from xplique_sal import attributions, errors, grad_modifiers, operators
from xplique_sal._tracing.programs import forget
from xplique_sal.operators import Tasks

if TYPE_CHECKING:
    from xplique_sal import (
        callbacks,
        detection,
        localization,
        losses,
        metrics,
        plots,
        quantus,
        ray,
        report,
        segmentation,
        sequences,
        targets,
        text,
        visualization,
    )
    from xplique_sal._versions import versions
    from xplique_sal.attributions import (
        LRP,
        DeconvNet,
        DeepLift,
        GradCAM,
        GradCAMPP,
        GradientInput,
        GradientShap,
        GuidedBackprop,
        IntegratedGradients,
        LayerCAM,
        Occlusion,
        Rise,
        Saliency,
        ScoreCAM,
        SmoothGrad,
        SquareGrad,
        VarGrad,
    )

__version__ = "0.1.0"

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
    "Tasks",
    "VarGrad",
    "__version__",
    "attributions",
    "callbacks",
    "detection",
    "errors",
    "forget",
    "grad_modifiers",
    "localization",
    "losses",
    "metrics",
    "operators",
    "plots",
    "quantus",
    "ray",
    "report",
    "segmentation",
    "sequences",
    "targets",
    "text",
    "versions",
    "visualization",
]

#: Subpackages that are imported when they are first used, as each explainer is.
_LAZY = frozenset(
    {
        "callbacks",
        "detection",
        "localization",
        "losses",
        "metrics",
        "plots",
        "quantus",
        "ray",
        "report",
        "segmentation",
        "sequences",
        "targets",
        "text",
        "visualization",
    }
)

#: Where the other names are that are imported when they are first used.
_MODULES = {"versions": "_versions", **dict.fromkeys(attributions.__all__, "attributions")}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
