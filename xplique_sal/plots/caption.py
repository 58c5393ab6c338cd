"""Titles that say what a model predicted, and how strongly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xplique_sal.errors import InvalidParameterError
from xplique_sal.plots.reading import numbers


def captions(
    count: int, titles: Any = None, predictions: Any = None, scores: Any = None, names: Any = None
) -> list[str]:
    """Return the title of each of `count` panels, empty where nothing is known.

    Parameters
    ----------
    count
        How many.
    titles
        A text for each, above what was predicted.
    predictions
        Outputs (N, L), of which the largest is shown; or a class for each, as an index or a name.
    scores
        (N,) numbers, beside classes or alone.
    names
        The names of the classes, by index.
    """
    if titles is not None:
        _check_count(titles, count, "titles")
    heads = [""] * count if titles is None else [str(title or "") for title in titles]
    classes, found = _predicted(predictions, count, names)
    if scores is not None:
        if found is not None:
            raise InvalidParameterError(
                "`scores` beside classes, or outputs (N, L) alone",
                "both outputs and scores",
                "Outputs have their scores in them.",
            )
        _check_count(scores, count, "scores")
        found = numbers(scores, "scores")
        if found.size != count:
            raise InvalidParameterError(
                f"`scores` of shape ({count},)", f"the shape {found.shape}", "One for each class."
            )
        found = found.reshape(count)
    tails = [
        _tail(
            "" if classes is None else classes[position],
            None if found is None else float(found[position]),
        )
        for position in range(count)
    ]
    return ["\n".join(filter(None, lines)) for lines in zip(heads, tails, strict=True)]


def caption(title: Any, prediction: Any, score: Any, names: Any) -> str:
    """Return the title of a single panel, from what is said of one sample."""
    if prediction is not None:
        prediction = np.asarray(prediction)
        if prediction.ndim != 2 or len(prediction) != 1:  # else it has its batch axis already
            prediction = prediction[None]
    titles = None if title is None else [title]
    scores = None if score is None else np.asarray(score)[None]
    return captions(1, titles, prediction, scores, names)[0]


def _tail(name: str, score: float | None) -> str:
    if score is None:
        return name
    written = f"{score:#.3g}".rstrip(".").replace("-", "−")
    return f"{name} ({written})" if name else f"score {written}"


def _predicted(
    predictions: Any, count: int, names: Any
) -> tuple[list[str] | None, np.ndarray | None]:
    """Return the name of each predicted class, and the scores if the outputs are known."""
    if predictions is None:
        return None, None
    _check_count(predictions, count, "predictions")
    array = np.asarray(predictions)
    if array.dtype.kind == "U" and array.ndim == 1:
        return [str(name) for name in array], None
    if array.dtype.kind in "biu" and array.ndim == 1:
        return [_name(int(index), names) for index in array], None
    if array.dtype.kind not in "biuf" or array.ndim != 2 or not array.shape[1]:
        raise InvalidParameterError(
            "`predictions` as outputs (N, L), or as classes (N,), integers or texts",
            f"{array.dtype} of shape {array.shape}",
            "Scores without classes are `scores`; one output is an (N, 1) array.",
        )
    outputs = numbers(array, "predictions")
    width = outputs.shape[1]
    if names is not None and len(names) != width:
        raise InvalidParameterError(
            f"a class name for each of {width} outputs",
            f"{len(names)} names",
            "Pass as many names as outputs, or classes and `scores` in place of outputs.",
        )
    best = outputs.argmax(axis=1)
    found = np.take_along_axis(outputs, best[:, None], axis=1)[:, 0]
    if width == 1:  # a regression, or one sigmoid: there is no other class to tell it from
        return ["output" if names is None else _name(0, names)] * count, found
    return [_name(int(index), names) for index in best], found


def _name(index: int, names: Sequence[Any] | Mapping[int, Any] | None) -> str:
    if names is None:
        return f"class {index}"
    known = index in names if isinstance(names, Mapping) else 0 <= index < len(names)
    if not known:
        raise InvalidParameterError(
            "a class that has a name",
            f"class {index} of {len(names)} names",
            "Pass the names of all classes, in the order of the model's outputs.",
        )
    return str(names[index])


def _check_count(values: Any, count: int, name: str) -> None:
    shape = np.shape(values)
    if not shape or shape[0] != count or isinstance(values, str):
        raise InvalidParameterError(
            f"`{name}` for each of {count}",
            f"the shape {shape}" if shape else repr(values),
            "Pass one for each map, in the same order.",
        )
