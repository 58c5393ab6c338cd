"""Which parts of an input a TensorFlow model's score depends on.

``Saliency(model).explain(images, labels)`` says it, for models of tf-keras and Keras 3.
"""

from xplique_sal import (
    attributions,
    detection,
    errors,
    grad_modifiers,
    localization,
    losses,
    operators,
    plots,
    segmentation,
    visualization,
)
from xplique_sal.attributions import Saliency
from xplique_sal.operators import Tasks

__version__ = "0.1.0"

__all__ = [
    "Saliency",
    "Tasks",
    "__version__",
    "attributions",
    "detection",
    "errors",
    "grad_modifiers",
    "localization",
    "losses",
    "operators",
    "plots",
    "segmentation",
    "visualization",
]
