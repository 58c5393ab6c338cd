"""What a trace of a model depends on besides its weights."""

from __future__ import annotations

import contextlib
import functools
import types
import weakref
import zlib
from collections.abc import Iterable, Mapping, Set
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from xplique_sal._tracing import keras_compat

_SCALARS = frozenset({bool, int, str, type(None)})
PLAIN = (bool, int, str, bytes, type(None), complex, tf.DType, tf.TensorShape)
#: Objects of these libraries are told apart by identity; a user's own are looked into.
_LIBRARIES = (*keras_compat.NAMES, "tensorflow", "numpy", "builtins", "functools", "threading")
_DEPTH = 4


def owners(model: Any) -> list[tuple[Any, dict[str, Any]]]:
    """Return the model and every layer and `tf.Module` inside it, each once, with its attributes.

    The attributes are those that can matter to what it computes.
    """
    if keras_compat.is_layer(model):
        return list(keras_compat.walk(model))
    found: dict[int, tuple[Any, dict[str, Any]]] = {}
    for owner in (model, *getattr(model, "submodules", ())):
        inner = keras_compat.walk(owner) if keras_compat.is_layer(owner) else [(owner, _own(owner))]
        for part, attributes in inner:
            found.setdefault(id(part), (part, attributes))
    return list(found.values())


def _own(owner: Any) -> dict[str, Any]:
    return dict(getattr(owner, "__dict__", {}))


class _Watched(NamedTuple):
    """A layer or module, and which of its attributes can change and stay the same object."""

    owner: weakref.ref[Any]
    changeable: list[str]
    is_layer: bool
    is_model: bool


class Fingerprint:
    """The structure of a model at one moment: layers, settings, functions, variables, constants.

    Weights are left out: a trace reads them anew at each call. Two fingerprints are equal if
    nothing that a trace could have burnt in differs. Objects are compared by identity, which
    holds only while they live: a fingerprint of which an object has died equals none.

    Whether a model is still as it was is told by a glance at first: which attributes there are,
    which objects they are, and what is in those that can change inside.
    """

    def __init__(self, model: Any) -> None:
        self._start()
        parts: list[Any] = []
        for owner, attributes in owners(model):
            self._identify(owner, parts)
            changeable = []
            for name in ("call", "__call__"):  # a method can be replaced on the class, too
                self._identify(getattr(type(owner), name, None), parts)
            if keras_compat.is_layer(owner):
                parts.append(keras_compat.policy(owner))
            for name, value in attributes.items():
                own = [value]
                while name == "call" and own and hasattr(own[0], "replaced_call"):
                    # Another thread is tracing this layer: what counts is what it put aside.
                    own = own[0].replaced_call
                if own and not keras_compat.is_symbolic(own[0]):
                    parts.append(name)
                    self._describe(own[0], parts, _DEPTH)
                    if _can_change(value):
                        changeable.append(name)
                    elif not _is_referable(value):
                        self._immortal.append(value)
            is_layer, is_model = keras_compat.is_layer(owner), keras_compat.is_model(owner)
            self._watched.append(_Watched(weakref.ref(owner), changeable, is_layer, is_model))
        self._parts = tuple(parts)
        self._seen_at_a_glance = self._glance()

    def is_current(self) -> bool:
        """Tell by a glance whether the model is as it was; if not, it may still be equal."""
        return not self._dead and self._glance() == self._seen_at_a_glance

    def _glance(self) -> list[Any]:
        """Return what is seen of the model without looking at each attribute."""
        parts: list[Any] = []
        look = Fingerprint.of_callables(())  # a new one, which has seen nothing
        classes: dict[type, None] = {}
        for watched in self._watched:
            owner = watched.owner()
            if owner is None:
                return []
            held = getattr(owner, "__dict__", {})
            classes[type(owner)] = None
            parts += held
            parts += map(id, held.values())
            if watched.is_layer:
                parts += keras_compat.policy(owner)
            if watched.is_model:
                parts += map(id, owner.layers)
            for name in watched.changeable:
                look._describe(held.get(name), parts, _DEPTH)
        for own in classes:
            parts += (id(getattr(own, name, None)) for name in ("call", "__call__"))
        return parts

    @classmethod
    def of_callables(cls, functions: Iterable[Any]) -> Fingerprint:
        """Return that of what callables hold: closed over, as defaults, as attributes."""
        self = cls.__new__(cls)
        self._start()
        parts: list[Any] = []
        for function in functions:
            for cell in getattr(function, "__closure__", None) or ():
                with contextlib.suppress(ValueError):  # a variable that is not set yet
                    self._describe(cell.cell_contents, parts, _DEPTH)
            held = [
                getattr(function, "__defaults__", None),
                getattr(function, "__kwdefaults__", None),
            ]
            if isinstance(function, functools.partial):
                held += [function.func, function.args, function.keywords]
            if not isinstance(function, types.FunctionType) and not keras_compat.is_layer(function):
                held.append(dict(getattr(function, "__dict__", {})))
            self._describe(held, parts, _DEPTH)
        self._parts = tuple(parts)
        return self

    def _start(self) -> None:
        self._seen: set[int] = set()
        self._living: list[weakref.ref[Any]] = []
        self._dead: list[weakref.ref[Any]] = []
        self._immortal: list[Any] = []
        self._watched: list[_Watched] = []

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Fingerprint)
            and not self._dead
            and not other._dead
            and (self is other or self._parts == other._parts)
        )

    __hash__ = None  # type: ignore[assignment]

    def _identify(self, value: Any, parts: list[Any]) -> None:
        parts.append(id(value))
        try:
            self._living.append(weakref.ref(value, self._dead.append))
        except TypeError:
            # Objects with slots are what their slots hold; the rest is immutable, and kept.
            slots = getattr(type(value), "__slots__", None)
            if slots:
                names = [slots] if isinstance(slots, str) else list(slots)
                self._describe([getattr(value, name, None) for name in names], parts, 2)
            else:
                self._immortal.append(value)

    def _describe(self, value: Any, parts: list[Any], depth: int) -> None:
        if type(value) in _SCALARS or isinstance(value, PLAIN):
            parts.append(value)
        elif isinstance(value, (float, np.generic)):
            parts.append(repr(value))
        elif isinstance(value, np.ndarray) and value.dtype != object:
            # A trace keeps a copy of an array, which can be written to in place.
            parts += (value.shape, value.dtype.str, zlib.crc32(np.ascontiguousarray(value).data))
        elif isinstance(value, (list, tuple, Mapping)):
            self._describe_items(value, parts, depth)
        elif isinstance(value, Set):
            parts.append(sorted(map(repr, value)))
        else:
            self._identify(value, parts)
            if depth and _is_users_own(value) and id(value) not in self._seen:
                self._seen.add(id(value))
                self._describe_items(vars(value), parts, depth - 1)

    def _describe_items(self, container: Any, parts: list[Any], depth: int) -> None:
        if id(container) in self._seen:
            return  # one that holds itself
        self._seen.add(id(container))
        parts.append(len(container))
        if isinstance(container, Mapping):
            for key, item in list(container.items()):
                parts.append(repr(key))
                self._describe(item, parts, depth)
        else:
            for item in list(container):
                self._describe(item, parts, depth)
        self._seen.discard(id(container))


def _can_change(value: Any) -> bool:
    """Tell whether a value can change, in what matters of it, and stay the same object."""
    if type(value) is tuple and _SCALARS.issuperset(map(type, value)):
        return False
    if isinstance(value, (list, tuple, Mapping, Set, np.ndarray)) or _is_users_own(value):
        return True
    return not isinstance(value, (*PLAIN, float, np.generic)) and not _is_referable(value)


def _is_referable(value: Any) -> bool:
    """Tell whether there can be weak references to a value."""
    return type(value).__weakrefoffset__ != 0


def _is_users_own(value: Any) -> bool:
    if isinstance(value, (type, types.ModuleType)) or callable(value):
        return False
    module = type(value).__module__ or ""
    return hasattr(value, "__dict__") and module.split(".")[0] not in _LIBRARIES
