"""The explainers."""

from xplique_sal.attributions.saliency import Saliency

__all__ = ["Saliency"]
