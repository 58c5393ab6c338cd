"""What a function of tensors computes with: what it holds and names, and the models among that.

Its layers are those of the models that it reads: in variables that it closes over, globals that its
code names, defaults and attributes, the object that it is a method of, and what those hold in turn.
It is told without running anything.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import types
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf

from xplique_sal._tracing import keras_compat, named

#: How deep objects and functions hold one another that are looked into.
_DEPTH = 8


def held_by(owner: Any) -> dict[str, Any]:
    """Return what a function, or an object that is called like one, reads when it runs, by name."""
    if isinstance(owner, functools.partial):
        return {"": owner.func, "args": owner.args, **owner.keywords}
    if not isinstance(owner, types.FunctionType):
        return {**getattr(owner, "__dict__", {}), **_call_of(owner)}
    held = {}
    for name, cell in zip(owner.__code__.co_freevars, owner.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # a variable that is not set yet
            held[name] = cell.cell_contents
    parameters = inspect.signature(owner).parameters.values()
    held |= {p.name: p.default for p in parameters if p.default is not p.empty}
    names = named.names_in(owner.__code__)
    for name in names.variables:
        if name in owner.__globals__:
            value = owner.__globals__[name]
            held[name] = value
            if isinstance(value, types.ModuleType) and not named.is_framework(value):
                known = names.attributes & vars(value).keys()
                held |= {f"{name}.{inner}": vars(value)[inner] for inner in sorted(known)}
    return held | vars(owner)


def _call_of(owner: Any) -> dict[str, Any]:
    call = inspect.getattr_static(type(owner), "__call__", None)
    return {"__call__": call} if isinstance(call, types.FunctionType) else {}


def parts_of(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield a model that is no layer, and all that it reaches, each once, by path.

    Parts are functions, `tf.Module`s, objects of the user's classes, and Keras layers, into which
    it is not gone.
    """
    seen: set[int] = set()
    waiting: list[tuple[str, Any, int]] = [("", model, 0)]
    while waiting:
        path, part, depth = waiting.pop(0)
        if isinstance(part, types.MethodType):
            waiting += [(f"{path}.self", part.__self__, depth), (path, part.__func__, depth)]
            continue
        if _is_compiled(part):
            if (function := getattr(part, "python_function", None)) is not None:
                waiting.append((path, function, depth))
            continue
        if id(part) in seen or depth > _DEPTH:
            continue
        if keras_compat.is_layer(part):
            seen.add(id(part))
            yield path.lstrip("."), part
        elif isinstance(part, (list, tuple, Mapping)):
            seen.add(id(part))
            items = part.items() if isinstance(part, Mapping) else enumerate(part)
            waiting += [(f"{path}.{key}", item, depth + 1) for key, item in list(items)]
        elif part is model or _is_users(part):
            seen.add(id(part))
            yield path.lstrip("."), part
            held = held_by(part)
            waiting += [(f"{path}.{name}".rstrip("."), v, depth + 1) for name, v in held.items()]


def _is_compiled(part: Any) -> bool:
    """Tell whether a value is a `tf.function` or a concrete function, which has its own graph."""
    return isinstance(part, tf.types.experimental.Callable)


def _is_users(part: Any) -> bool:
    """Tell whether a value is a function or an object of the user's, which may hold models."""
    if isinstance(part, (type, types.ModuleType)):
        return False
    if isinstance(part, (functools.partial, tf.Module)):
        return True
    if isinstance(part, types.FunctionType):
        return not named.is_framework(part)
    return hasattr(part, "__dict__") and not named.is_framework(type(part))


def layers_in(model: Any) -> dict[str, Any]:
    """Return the Keras layers that a model is made of, by path: itself, or those that it reaches.

    Of layers one inside another only the outermost counts.
    """
    if keras_compat.is_layer(model):
        return {"": model}
    found = {path: part for path, part in parts_of(model) if keras_compat.is_layer(part)}
    inner = {
        id(layer)
        for outer in found.values()
        for layer in keras_compat.all_layers(outer)
        if layer is not outer
    }
    return {path: layer for path, layer in found.items() if id(layer) not in inner}


def all_layers_in(model: Any) -> list[Any]:
    """Return every Keras layer in a model of any kind, each once, parents first."""
    found: dict[int, Any] = {}
    for outer in layers_in(model).values():
        for layer in keras_compat.all_layers(outer):
            found.setdefault(id(layer), layer)
    return list(found.values())


def names_tensorflow(function: Any) -> bool:
    """Tell whether a function of Python is likely one of tensors: it names TensorFlow or models.

    One that also names NumPy, `predict` or `numpy()` works on arrays, and should be called anew
    each time.
    """
    names: set[str] = set()
    values = []
    for _, part in parts_of(function):
        if keras_compat.is_layer(part):
            values.append(part)
        else:
            values += held_by(part).values()
            code = getattr(part, "__code__", None)
            names |= named.names_in(code).attributes if code is not None else set()
    modules = {v.__name__.partition(".")[0] for v in values if isinstance(v, types.ModuleType)}
    if _OF_ARRAYS & modules or _OF_ARRAYS & names:
        return False
    return bool({"tensorflow", *keras_compat.NAMES} & modules) or any(
        keras_compat.is_layer(value)
        or isinstance(value, (tf.Module, tf.Variable, tf.Tensor))
        or _is_compiled(value)
        for value in values
    )


_OF_ARRAYS = frozenset({"numpy", "random", "predict", "predict_proba", "predict_on_batch"})
