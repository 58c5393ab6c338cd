"""Targets of classification that ask for more than one class: this one, and not that one."""

from __future__ import annotations

from typing import Any

import numpy as np

from xplique_sal.errors import InvalidInputError, InvalidTargetError

__all__ = ["contrast"]

#: What is said of a wrong class.
_CLASSES = "Pass a class index, one for each sample, (N,), or None."


def contrast(a: Any = None, b: Any = None, *, outputs: Any) -> np.ndarray:
    """Return the targets that explain why the model says a and not b.

    The score of the default operator becomes g(x) = f(x)_a − f(x)_b, so that a map says what speaks
    for a more than for b: what speaks for both alike cancels. With ``logits=True`` it is the
    logarithm of how many times more probable a is than b.

    Parameters
    ----------
    a
        The class that is asked for: an index, or one for each sample, (N,). ``None`` is the
        largest output of each sample.
    b
        The class that it is compared with, as `a`. ``None`` is the largest output but a.
    outputs
        The model's outputs for the samples, (N, L), from which classes are taken where there is
        none given.

    Returns
    -------
    targets
        Weights (N, L), float32: 1 for a, −1 for b, 0 elsewhere.

    Raises
    ------
    InvalidInputError
        If the outputs are not (N, L) finite numbers, L at least 2.
    InvalidTargetError
        If a class is out of range, their numbers do not fit, or a and b are the same class.

    Examples
    --------
    >>> outputs = model.predict(images)  # doctest: +SKIP
    >>> targets = contrast(labels, outputs=outputs)  # and not the next best  # doctest: +SKIP
    >>> maps = Saliency(model, logits=True).explain(images, targets)  # doctest: +SKIP
    """
    try:
        array = np.asarray(outputs)
        scores = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise _wrong_outputs(f"{type(outputs).__name__} ({error})") from error
    if scores.ndim != 2 or scores.shape[0] < 1 or scores.shape[1] < 2:
        raise _wrong_outputs(f"the shape {scores.shape}")
    if not np.isfinite(scores).all():
        raise _wrong_outputs("NaN or infinite values")
    chosen = scores.argmax(axis=1) if a is None else _classes("a", a, scores.shape)
    if b is None:
        others = scores.copy()
        others[np.arange(len(scores)), chosen] = -np.inf
        foils = others.argmax(axis=1)
    else:
        foils = _classes("b", b, scores.shape)
    same = chosen == foils
    if same.any():
        sample = int(same.argmax())
        raise InvalidTargetError(
            "two classes to tell apart",
            f"class {chosen[sample]} as both of sample {sample}",
            "Pass b=None for the largest output but a, or leave such samples out.",
        )
    rows = np.arange(len(scores))
    targets = np.zeros(scores.shape, np.float32)
    targets[rows, chosen], targets[rows, foils] = 1, -1
    return targets


def _wrong_outputs(actual: str) -> InvalidInputError:
    return InvalidInputError(
        "`outputs` of shape (N, L), finite numbers, with at least two of them for each sample",
        actual,
        "Pass what `model.predict` returns. Of a model with one sigmoid, class 1 is explained by "
        "targets=None, and class 0 by weights of -1.",
    )


def _classes(name: str, given: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return a class index for each sample."""
    classes = np.asarray(given)
    if classes.shape == (shape[0], 1):
        classes = classes[:, 0]
    if classes.dtype.kind not in "iu" or classes.shape not in ((), shape[:1]):
        raise InvalidTargetError(
            f"`{name}` as a class index, or one for each of {shape[0]} samples",
            f"{classes.dtype} of shape {classes.shape}",
            _CLASSES,
        )
    wrong = (classes < 0) | (classes >= shape[1])
    if wrong.any():
        found = classes.reshape(-1)[wrong.reshape(-1)][0]
        raise InvalidTargetError(
            f"`{name}` of at least 0 and at most {shape[1] - 1}", f"{found}", _CLASSES
        )
    return np.broadcast_to(classes.astype(np.int64), shape[:1])
