"""What ``inspect`` says of a model: what it is made of, and what its maps need."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from xplique_sal import GradCAM, GuidedBackprop, Occlusion, Saliency
from xplique_sal._models.ending import ending
from xplique_sal._models.view import ModelView, function_of
from xplique_sal._tracing import layer_paths, reached
from xplique_sal.cli.asked import input_shape
from xplique_sal.errors import XpliqueSalError

#: How many samples are explained to measure what a map costs, and how often.
_SAMPLES, _TIMES = 8, 5


def layers(model: Any) -> list[tuple[str, str, str]]:
    """Return the path, the kind and the number of weights of each layer that can be named."""
    if not isinstance(f := function_of(model), ModelView) or not reached.layers_in(f.model):
        return []
    found = []
    for path in layer_paths.all_paths(f.model):
        try:
            layer = layer_paths.find(f.model, path).layer
        except XpliqueSalError:
            continue  # two layers of one name
        weights = sum(int(np.prod(w.shape)) for w in getattr(layer, "weights", ()))
        found.append((path, type(layer).__name__, f"{weights:,}"))
    return found


def facts(model: Any, size: tuple[int, int] | None = None) -> dict[str, str]:
    """Return what can be said of a model in one sentence each, by subject.

    Parameters
    ----------
    model
        Anything that explainers take.
    size
        Height and width of pictures, for a model that takes any.
    """
    shape = input_shape(model)
    told = {"input": "of unknown shape" if shape is None else _shown(shape)}
    if shape is None:
        return told
    filled = [size[i] if size and i < 2 else n for i, n in enumerate(shape)]
    sample = [n or (64 if i < 2 else 3) for i, n in enumerate(filled)]
    x = np.random.default_rng(0).random((_SAMPLES, *sample)).astype("float32")
    f = function_of(model)
    if not isinstance(f, ModelView):
        told["gradients"] = "none: Occlusion and Rise can explain it, which need no gradient"
        told["cost of a map"] = _cost(lambda: f(x), lambda: Occlusion(model).explain(x))
        return told
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        end = ending(f, x)
        told["output"] = _shown(end.shape[1:])
        kinds = {"Softmax": "a softmax", "Sigmoid": "a sigmoid", "LogSoftmax": "a log-softmax"}
        told["ends in"] = (
            f"{kinds.get(end.activation, end.activation)}: explain with --logits"
            if end.activation
            else "no softmax or sigmoid that can be seen: the output is explained as it is"
        )
        told["GradCAM looks at"] = _or_error(lambda: _feature_map(model, x))
        told["a modifier reaches"] = _or_error(lambda: _rectifiers(model, x))
        saliency = Saliency(model)
        told["cost of a map"] = _or_error(lambda: _cost(lambda: f(x), lambda: saliency.explain(x)))
    return told


def _shown(shape: Any) -> str:
    return f"({', '.join('any' if n is None else str(n) for n in ['N', *shape])})"


def _or_error(tell: Callable[[], str]) -> str:
    try:
        return tell()
    except XpliqueSalError as error:
        return f"not here: {error}"


def _feature_map(model: Any, x: np.ndarray) -> str:
    explainer = GradCAM(model)
    explainer.explain(x[:1])
    return f"the layer {explainer.conv_layer!r}"


def _rectifiers(model: Any, x: np.ndarray) -> str:
    explainer = GuidedBackprop(model)
    explainer.explain(x[:1])
    done = explainer.rewiring
    if done is None:
        return "nothing"
    left = f"; {', '.join(done.smooth)} keep their own gradient" if done.smooth else ""
    return f"{done.rectifiers} rectifiers (ReLU and its kin){left}"


def _cost(forward: Callable[[], Any], explain: Callable[[], Any]) -> str:
    """Return how long a map takes, and beside a forward pass."""
    seconds: dict[str, list[float]] = {"forward": [], "map": []}
    for _ in range(_TIMES + 1):
        for name, run in (("forward", forward), ("map", explain)):
            start = time.perf_counter()
            np.asarray(run())
            seconds[name].append(time.perf_counter() - start)
    forward_, map_ = (statistics.median(seconds[name][1:]) for name in ("forward", "map"))
    return (
        f"{map_ / _SAMPLES * 1e3:.3g} ms in batches of {_SAMPLES}, "
        f"{map_ / forward_:.2g} times a forward pass (measured here and now)"
    )
