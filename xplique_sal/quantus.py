"""Any explainer as Quantus calls it, for its metrics of robustness and randomisation.

Quantus itself is not imported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xplique_sal import attributions
from xplique_sal._parameters import one_of
from xplique_sal._tracing import keras_compat
from xplique_sal.errors import InvalidParameterError

#: What Quantus may pass on beside the explainer's own parameters.
_IGNORED = ("device",)


def explain_func(
    model: Any,
    inputs: Any,
    targets: Any,
    method: str | Callable[..., Any] = "Saliency",
    **options: Any,
) -> np.ndarray:
    """Return maps as Quantus's metrics expect them from their ``explain_func``.

    Quantus calls it by keyword; what stands in ``explain_func_kwargs`` comes along.

    Parameters
    ----------
    model
        The model that Quantus hands on.
    inputs
        Samples (N, ...). Images that Quantus gives with channels first are turned to how the model
        takes them.
    targets
        Class indices (N,).
    method
        The name of an explainer, or its class.
    options
        Parameters of the explainer: ``logits=True``, say.

    Returns
    -------
    maps
        An array in float32: of images (N, H, W) where channels are reduced; else as `explain`
        returns them.

    Raises
    ------
    InvalidParameterError
        If there is no such method.

    Examples
    --------
    >>> metric = quantus.MaxSensitivity()  # doctest: +SKIP
    >>> metric(  # doctest: +SKIP
    ...     model=model, x_batch=x, y_batch=y, channel_first=False, explain_func=explain_func,
    ...     explain_func_kwargs={"method": "Saliency", "logits": True},
    ... )
    """
    if isinstance(method, str):
        one_of("method", method, attributions.__all__)
        method = getattr(attributions, method)
    if not callable(method):
        raise InvalidParameterError(
            "a `method` by its name, or its class", repr(method), 'Pass "Saliency", for example.'
        )
    options = {name: value for name, value in options.items() if name not in _IGNORED}
    inputs = _as_the_model_takes(model, np.asarray(inputs))
    explainer = method(model, **options)
    maps = np.asarray(explainer.explain(inputs, np.asarray(targets)))
    return maps[..., 0] if inputs.ndim > 3 and maps.shape[-1] == 1 else maps


def _as_the_model_takes(model: Any, inputs: np.ndarray) -> np.ndarray:
    """Return inputs with channels last, where they are first and the model takes them so."""
    known = keras_compat.inputs_of(model) if keras_compat.is_layer(model) else None
    shape = known.specs[0].shape if known is not None and len(known.specs) == 1 else None
    if shape is None or inputs.ndim < 4 or len(shape) != inputs.ndim:
        return inputs
    turned = np.moveaxis(inputs, 1, -1)
    fits, turned_fits = (
        all(size in (None, own) for size, own in zip(shape[1:], array.shape[1:], strict=True))
        for array in (inputs, turned)
    )
    return turned if turned_fits and not fits else inputs
