"""From what a user types, an index, a name or a path, to a layer of a model."""

from __future__ import annotations

import contextlib
import difflib
from typing import Any, NamedTuple

from xplique_sal._tracing import keras_compat
from xplique_sal.errors import InvalidModelError, InvalidParameterError, LayerNotFoundError


class LayerCall(NamedTuple):
    """One call of one layer; `call` is ``None`` where the user named none."""

    layer: Any
    path: str
    call: int | None


def find(model: Any, path: Any) -> LayerCall:
    """Return the layer that `path` names in `model`.

    Parameters
    ----------
    model
        A model of either Keras.
    path
        An index into ``model.layers``, a layer's name, names joined by slashes through nested
        models, or a layer of the model itself. An exact name wins, then the longest prefix that
        names a nested layer. ``":k"`` at the end chooses the k-th call of a layer that is called
        more than once.

    Raises
    ------
    LayerNotFoundError
        If there is no such layer, or several of that name.
    InvalidParameterError
        If `path` is neither an integer nor a string.
    InvalidModelError
        If `model` is not a Keras model, so that it has no layers to name.
    """
    if keras_compat.is_layer(path) and keras_compat.is_layer(model):
        if any(layer is path for layer in keras_compat.all_layers(model)):
            return LayerCall(path, path.name, None)
        raise _not_found(model, path.name)
    if isinstance(path, bool) or not isinstance(path, (int, str)):
        raise InvalidParameterError(
            "a layer's index, name or path",
            f"{path!r} of type {type(path).__name__}",
            "Pass an int, or a string such as 'backbone/conv5'.",
        )
    if not keras_compat.is_layer(model):
        raise InvalidModelError(
            "a Keras model, whose layers have names",
            f"a {type(model).__name__}",
            "Leave `output_layer` and `wrt_layer` out, or pass the Keras model itself.",
        )
    if isinstance(path, int):
        return _by_index(model, path)
    found = _descend(model, path)
    if found is not None:
        return LayerCall(found, path, None)
    name, colon, call = path.rpartition(":")
    if colon and call.isdecimal():
        found = _descend(model, name)
        if found is not None:
            return LayerCall(found, name, int(call))
    raise _not_found(model, path)


def _by_index(model: Any, index: int) -> LayerCall:
    layers = list(model.layers) if keras_compat.is_model(model) else keras_compat.children(model)
    if not -len(layers) <= index < len(layers):
        raise LayerNotFoundError(
            f"an index between {-len(layers)} and {len(layers) - 1}",
            f"{index}",
            f"The model has {len(layers)} layers.",
        )
    return LayerCall(layers[index], layers[index].name, None)


def _descend(model: Any, path: str) -> Any | None:
    inner: dict[str, list[Any]] = {}
    for child in keras_compat.children(model):
        inner.setdefault(child.name, []).append(child)
    # The path itself first, then its prefixes, the longest first.
    ends = [len(path), *(end for end in range(len(path) - 1, 0, -1) if path[end] == "/")]
    for end in ends:
        for child in inner.get(path[:end], ()):
            if len(inner[path[:end]]) > 1:
                raise LayerNotFoundError(
                    "a name that one layer has",
                    f"{path[:end]!r}, which {len(inner[path[:end]])} layers have",
                    "Choose by index, or give the layers different names.",
                )
            found = child if end == len(path) else _descend(child, path[end + 1 :])
            if found is not None:
                return found
    return None


def all_paths(model: Any, prefix: str = "", depth: int = 4) -> list[str]:
    """Return the paths of the layers inside a model, down to `depth` levels."""
    paths = []
    for child in keras_compat.children(model):
        paths.append(prefix + child.name)
        if depth > 1:
            paths += all_paths(child, f"{prefix}{child.name}/", depth - 1)
    return paths


def path_of(model: Any, layer: Any) -> str | None:
    """Return a path by which `find` finds a layer, if there is one."""
    waiting = [(child, child.name) for child in keras_compat.children(model)]
    seen = {id(model)}
    while waiting:
        inner, path = waiting.pop(0)
        if inner is layer:
            with contextlib.suppress(LayerNotFoundError):
                return path if find(model, path).layer is layer else None
            return None
        if id(inner) not in seen:
            seen.add(id(inner))
            waiting += [(c, f"{path}/{c.name}") for c in keras_compat.children(inner)]
    return None


def _not_found(model: Any, path: str) -> LayerNotFoundError:
    paths = all_paths(model)
    # A name without its path is the likeliest slip.
    near = [known for known in paths if known.rsplit("/", 1)[-1] == path.rsplit("/", 1)[-1]]
    near += difflib.get_close_matches(path, paths, n=5, cutoff=0.4)
    shown = list(dict.fromkeys(near))[:5] or paths[:5]
    listed = ", ".join(map(repr, shown)) if shown else "none: the model has no inner layers"
    return LayerNotFoundError(
        "the index, name or path of a layer of the model",
        repr(path),
        f"The nearest ones are {listed}.",
    )
