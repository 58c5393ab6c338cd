"""Callbacks for ``fit``: what a model looks at, while it learns."""

from xplique_sal.callbacks.saliency_callback import SaliencyCallback

__all__ = ["SaliencyCallback"]
