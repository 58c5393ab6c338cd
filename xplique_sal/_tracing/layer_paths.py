"""From what a user types, an index, a name or a path, to a layer of a model."""

from __future__ import annotations

import contextlib
import difflib
from typing import Any, NamedTuple

from xplique_sal._tracing import keras_compat, reached
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
        A model of either Keras, or a function or `tf.Module` that holds some.
    path
        An index into ``model.layers``, a layer's name, names joined by slashes through nested
        models, or a layer of the model itself. An exact name wins, then the longest prefix that
        names a nested layer. Where no layer has a name, an attribute that holds a layer is looked
        for, ``"encoder.conv"`` or ``"blocks.0"``. ``":k"`` at the end chooses the k-th call of a
        layer that is called more than once. In a function, a path begins in the model that it
        holds; where it holds several, with the variable that holds it.

    Raises
    ------
    LayerNotFoundError
        If there is no such layer, or several of that name.
    InvalidParameterError
        If `path` is neither an integer nor a string.
    InvalidModelError
        If `model` has no Keras layers to name.
    """
    if keras_compat.is_layer(path):
        if any(layer is path for layer in reached.all_layers_in(model)):
            return LayerCall(path, path.name, None)
        raise _not_found(model, path.name)
    if isinstance(path, bool) or not isinstance(path, (int, str)):
        raise InvalidParameterError(
            "a layer's index, name or path",
            f"{path!r} of type {type(path).__name__}",
            "Pass an int, or a string such as 'backbone/conv5'.",
        )
    if not reached.layers_in(model):
        raise InvalidModelError(
            "a model that is made of Keras layers, which have names",
            f"a {type(model).__name__} in which none can be seen",
            "Leave `output_layer` and `wrt_layer` out, or pass the Keras model itself.",
        )
    if isinstance(path, int):
        return _by_index(model, path)
    found = _in_any(model, path)
    if found is not None:
        return LayerCall(found, path, None)
    name, colon, call = path.rpartition(":")
    if colon and call.isdecimal():
        found = _in_any(model, name)
        if found is not None:
            return LayerCall(found, name, int(call))
    raise _not_found(model, path)


def _in_any(model: Any, path: str) -> Any | None:
    """Return the layer of that path in the model, or in one of those that a function holds."""
    outer = reached.layers_in(model)
    found = {}
    for place, layer in outer.items():
        inner = _descend(layer, path)
        for prefix in (place, layer.name) if inner is None and layer is not model else ():
            if path == prefix:
                inner = layer
            elif path.startswith((f"{prefix}/", f"{prefix}.")):
                inner = _descend(layer, path[len(prefix) + 1 :])
            if inner is not None:
                break
        if inner is not None:
            found[id(inner)] = inner
    if len(found) > 1:
        raise LayerNotFoundError(
            "a path that one of the models has which the function holds",
            f"{path!r}, which {len(found)} of them have",
            f"Begin with what holds it: {', '.join(repr(f'{place}/{path}') for place in outer)}.",
        )
    return next(iter(found.values()), None)


def _by_index(model: Any, index: int) -> LayerCall:
    outer = reached.layers_in(model)
    if len(outer) > 1:
        raise LayerNotFoundError(
            "a path, of a function that holds several models",
            f"the index {index}",
            f"Begin with what holds it: {', '.join(repr(f'{place}/...') for place in outer)}.",
        )
    (model,) = outer.values()
    layers = list(model.layers) if keras_compat.is_model(model) else keras_compat.children(model)
    if not -len(layers) <= index < len(layers):
        raise LayerNotFoundError(
            f"an index between {-len(layers)} and {len(layers) - 1}",
            f"{index}",
            f"The model has {len(layers)} layers.",
        )
    return LayerCall(layers[index], layers[index].name, None)


def _descend(model: Any, path: str) -> Any | None:
    named: dict[str, list[Any]] = {}
    for child in _within(model):
        named.setdefault(child.name, []).append(child)
    for inner, ends in ((named, "/"), (_by_attribute(model), "/.")):
        found = _descend_by(inner, path, ends)
        if found is not None:
            return found
    return None


def _within(model: Any) -> list[Any]:
    """Return what has a name directly inside a layer: layers, and operations that are none."""
    return [*keras_compat.children(model), *operations(model)]


def operations(layer: Any) -> list[Any]:
    """Return the operations of a Functional model of Keras 3 that are no layers: `a + b` is one."""
    found = getattr(layer, "operations", ()) if keras_compat.is_model(layer) else ()
    no_layers = [op for op in found if not keras_compat.is_layer(op)]
    return [op for op in no_layers if callable(getattr(op, "call", None))]


def _descend_by(inner: dict[str, list[Any]], path: str, separators: str) -> Any | None:
    # The path itself first, then its prefixes, the longest first.
    ends = [len(path), *(e for e in range(len(path) - 1, 0, -1) if path[e] in separators)]
    for end in ends:
        for child in inner.get(path[:end], ()):
            if len(inner[path[:end]]) > 1:
                raise LayerNotFoundError(
                    "a name that one layer has",
                    f"{path[:end]!r}, which {len(inner[path[:end]])} layers have",
                    "Choose by index, or give the layers different names.",
                )
            found = child
            if end < len(path):
                found = _descend(child, path[end + 1 :]) if keras_compat.is_layer(child) else None
            if found is not None:
                return found
    return None


def _by_attribute(model: Any) -> dict[str, list[Any]]:
    """Return the layers that a layer holds by the names of its attributes.

    Those in lists and dicts are ``"blocks.0"`` and ``"heads.age"``.
    """
    found: dict[str, list[Any]] = {}

    def look(name: str, value: Any, depth: int) -> None:
        if keras_compat.is_layer(value):
            found[name] = [value]
        elif depth and isinstance(value, (dict, list, tuple)):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            for key, item in list(items):
                look(f"{name}.{key}", item, depth - 1)

    for name, value in keras_compat.user_attributes(model).items():
        look(name, value, 2)
    return found


def all_paths(model: Any, prefix: str = "", depth: int = 4) -> list[str]:
    """Return the paths of the layers inside a model, down to `depth` levels."""
    paths = []
    for outer in reached.layers_in(model).values():
        for child in keras_compat.children(outer):
            paths.append(prefix + child.name)
            if depth > 1:
                paths += all_paths(child, f"{prefix}{child.name}/", depth - 1)
    return paths


def path_of(model: Any, layer: Any) -> str | None:
    """Return a path by which `find` finds a layer, if there is one."""
    outer = reached.layers_in(model)
    places = {id(held): place for place, held in outer.items()}
    waiting = [(held, place if len(outer) > 1 else "") for place, held in outer.items()]
    seen: set[int] = set()
    while waiting:
        inner, path = waiting.pop(0)
        if inner is layer:
            path = path or places[id(layer)]
            with contextlib.suppress(LayerNotFoundError):
                return path if find(model, path).layer is layer else None
            return None
        if id(inner) not in seen and keras_compat.is_layer(inner):
            seen.add(id(inner))
            waiting += [(c, f"{path}/{c.name}".lstrip("/")) for c in _within(inner)]
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
