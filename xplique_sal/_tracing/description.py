"""What values are at one moment, as far as a trace that read them would have burnt it in."""

from __future__ import annotations

import contextlib
import functools
import sys
import types
import weakref
import zlib
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
import tensorflow as tf

from xplique_sal._tracing import keras_compat, named
from xplique_sal._tracing.wrapping import FUNCTION_TYPE

SCALARS = frozenset({bool, int, str, type(None)})
PLAIN = (bool, int, str, bytes, type(None), complex, tf.DType, tf.TensorShape)
#: How deep objects hold one another, and functions call one another, that are looked into.
_DEPTH = 5
#: What runs where an object is called.
_CALLED = ("call", "__call__", "compute_mask")


class Description:
    """A list of what values are, to be compared with that of another moment.

    Numbers, texts, arrays and containers are described by what is in them; functions by their
    code, what they close over and what they name; anything else by which object it is, and the
    user's own objects by their attributes too. Which object something is holds only while that
    lives: a description of which an object has died equals none.

    Attributes
    ----------
    parts
        The list.
    models
        The layers and modules that were come upon, of which no more is described here than which
        they are.
    """

    def __init__(self) -> None:
        self.parts: list[Any] = []
        self.models: list[Any] = []
        self._living: list[weakref.ref[Any]] = []
        self._dead: list[weakref.ref[Any]] = []
        self._immortal: list[Any] = []
        # Which containers are being looked into, and how deep functions and objects were.
        self._open: set[int] = set()
        self._depths: dict[int, int] = {}
        self._packages: set[str] = set()
        # The names of all attributes that were read so far, and those looked for in each class.
        self._names = set(_CALLED)
        self._sought: dict[type, set[str]] = {}

    @property
    def is_valid(self) -> bool:
        """Whether all the objects live that are told apart by which they are."""
        return not self._dead

    def add(self, value: Any, depth: int = _DEPTH) -> None:
        """Describe one value more."""
        kind = type(value)
        if kind in SCALARS or isinstance(value, PLAIN):
            self.parts.append(value)
        elif isinstance(value, (float, np.generic)):
            self.parts.append(repr(value))
        elif isinstance(value, np.ndarray) and value.dtype != object:
            # A trace keeps a copy of an array, which can be written to in place.
            data = np.ascontiguousarray(value).data
            self.parts += (value.shape, value.dtype.str, zlib.crc32(data))
        elif isinstance(value, (list, tuple, Mapping)):
            self._add_items(value, depth)
        elif isinstance(value, Set):
            self.parts.append(sorted(map(repr, value)))
        elif kind is types.FunctionType:
            self._add_function(value, depth)
        elif kind is types.MethodType:
            self.add(value.__self__, depth)
            self.add(value.__func__, depth)
        elif isinstance(value, functools.partial):
            for held in (value.func, value.args, value.keywords):
                self.add(held, depth)
        else:
            self._add_object(value, depth)

    def add_callable(self, value: Any) -> None:
        """Describe a callable; an object by what it holds and does, not by which it is."""
        if isinstance(value, (types.FunctionType, functools.partial)):
            self._packages.add(named.package_of(getattr(value, "func", value)))
            return self.add(value)
        self.add_class_of(value)
        if not named.is_opaque(type(value)):
            self._add_items(_contents(value), _DEPTH)
        return None

    def add_class_of(self, owner: Any) -> None:
        """Describe what the code that was come upon reads of an object's class."""
        bases = named.users_classes(type(owner))
        self._packages.update(map(named.package_of, bases))
        self._add_class(type(owner), bases, _DEPTH)

    def identify(self, value: Any) -> None:
        """Describe a value by which object it is."""
        self.parts.append(id(value))
        try:
            self._living.append(weakref.ref(value, self._dead.append))
        except TypeError:
            # Objects with slots are what their slots hold; the rest is immutable, and kept.
            if slots := _slots(value):
                self.add(slots, 2)
            else:
                self._immortal.append(value)

    def keep_alive(self, value: Any) -> None:
        """Let a value keep its address, which tells it from others."""
        self._immortal.append(value)

    def _add_items(self, container: Any, depth: int) -> None:
        if id(container) in self._open:
            return  # one that holds itself
        self._open.add(id(container))
        self.parts.append(len(container))
        if isinstance(container, Mapping):
            for key, item in list(container.items()):
                self.parts.append(repr(key))
                self.add(item, depth)
        else:
            for item in list(container):
                self.add(item, depth)
        self._open.discard(id(container))

    def _is_new(self, value: Any, depth: int) -> bool:
        """Tell whether a function or an object was not looked into, or not so deep."""
        if self._depths.get(id(value), -1) >= depth:
            return False
        self._depths[id(value)] = depth
        return True

    def _add_function(self, function: types.FunctionType, depth: int) -> None:
        if named.is_opaque(function):
            return self.identify(function)
        # Equal code does the same with the same: a lambda that is made anew in a loop is no other.
        self.parts.append(function.__code__)
        if not self._is_new(function, depth):
            return None
        for cell in function.__closure__ or ():
            with contextlib.suppress(ValueError):  # a variable that is not set yet
                self.add(cell.cell_contents, depth)
        self.add((function.__defaults__, function.__kwdefaults__, vars(function)), depth)
        if depth and named.is_followed(function, self._packages):
            self._add_named(function, depth - 1)
        return None

    def _add_named(self, function: types.FunctionType, depth: int) -> None:
        names = named.names_in(function.__code__)
        self._names |= names.attributes
        for name in names.variables:
            if name in function.__globals__:
                self.parts.append(name)
                self.add(function.__globals__[name], depth)
        for name in names.modules:
            if name in sys.modules:
                self.add(sys.modules[name], depth)

    def _add_object(self, value: Any, depth: int) -> None:
        if isinstance(value, (property, staticmethod, classmethod, functools.cached_property)):
            # What a class holds in place of a function.
            held = (getattr(value, name, None) for name in ("fget", "func", "__func__"))
            return self.add(next(filter(None, held), None), depth)
        self.identify(value)
        if isinstance(value, types.ModuleType):
            if depth and not named.is_framework(value):
                self._add_attributes(vars(value), self._names, depth - 1)
        elif isinstance(value, type):
            self._add_class(value, named.users_classes(value), depth)
        elif isinstance(value, FUNCTION_TYPE):
            self.add(getattr(value, "python_function", None), depth)
        elif is_model(value):
            self.models.append(value)
        elif depth and is_users_own(value) and self._is_new(value, depth):
            self._add_class(type(value), named.users_classes(type(value)), depth - 1)
            self._add_items(_contents(value), depth - 1)
        return None

    def _add_class(self, kind: type, bases: Sequence[type], depth: int) -> None:
        sought = self._sought.setdefault(kind, set())
        # The methods that are found may read attributes that nothing has read before.
        while bases and depth and (names := self._names - sought):
            sought |= names
            for base in bases:
                self._add_attributes(vars(base), names, depth - 1)

    def _add_attributes(self, held: Mapping[str, Any], names: Set[str], depth: int) -> None:
        for name in sorted(names & held.keys()):
            self.parts.append(name)
            self.add(held[name], depth)


def is_model(value: Any) -> bool:
    """Tell whether a value is a layer, or a module of the user's own."""
    return keras_compat.is_layer(value) or (
        isinstance(value, tf.Module) and not named.is_framework(type(value))
    )


def is_users_own(value: Any) -> bool:
    """Tell whether a value is an object of a class that is no framework's."""
    if isinstance(value, (type, types.ModuleType)):
        return False
    return hasattr(value, "__dict__") and not named.is_opaque(type(value))


def _contents(value: Any) -> dict[str, Any]:
    return {**_slots(value), **getattr(value, "__dict__", {})}


def _slots(value: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for base in type(value).__mro__:
        slots = vars(base).get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__"):
                found[name] = getattr(value, name, None)
    return found


def can_change(value: Any) -> bool:
    """Tell whether a value can change, in what matters of it, and stay the same object."""
    if type(value) is tuple and SCALARS.issuperset(map(type, value)):
        return False
    if isinstance(value, types.FunctionType):
        return not named.is_opaque(value)
    if is_model(value):
        return False
    if isinstance(value, (list, tuple, Mapping, Sequence, Set, np.ndarray, types.MethodType)):
        return True
    if isinstance(value, (functools.partial, type, types.ModuleType, FUNCTION_TYPE)):
        return True
    if is_users_own(value):
        return True
    return not isinstance(value, (*PLAIN, float, np.generic)) and not is_referable(value)


def is_referable(value: Any) -> bool:
    """Tell whether there can be weak references to a value."""
    return type(value).__weakrefoffset__ != 0
