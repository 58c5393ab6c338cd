"""What a trace of a model depends on besides its weights."""

from __future__ import annotations

import inspect
import threading
import weakref
from collections.abc import Iterator
from typing import Any, NamedTuple

import tensorflow as tf

from xplique_sal._tracing import keras_compat
from xplique_sal._tracing.description import Description, can_change, is_model, is_referable


def owners(model: Any) -> list[tuple[Any, dict[str, Any]]]:
    """Return the model and every layer and `tf.Module` inside it, each once, with its attributes.

    The attributes are those that can matter to what it computes.
    """
    if keras_compat.is_layer(model):
        return list(keras_compat.walk(model))
    if inspect.ismethod(model):  # a new object at each access
        return [*owners(model.__self__), *owners(model.__func__)]
    if isinstance(model, tf.types.experimental.Callable):
        # What TensorFlow keeps there of its traces is no business of ours.
        function = getattr(model, "python_function", None)
        return [] if function is None else owners(function)
    found: dict[int, tuple[Any, dict[str, Any]]] = {}
    for owner in (model, *getattr(model, "submodules", ())):
        inner = keras_compat.walk(owner) if keras_compat.is_layer(owner) else [(owner, _own(owner))]
        for part, attributes in inner:
            found.setdefault(id(part), (part, attributes))
    return list(found.values())


def _of_class(kind: type, name: str) -> Any:
    """Return what a class has under a name: itself, where access would bind it anew each time."""
    return next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None)


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

    Weights are left out: a trace reads them anew at each call. To the structure belongs what the
    code of the model's own classes and functions names: globals, closed-over variables, attributes
    of classes, and other models. Two fingerprints are equal if nothing that a trace could have
    burnt in differs; one of which an object has died equals none.

    Whether a model is still as it was is told by a glance at first: which attributes there are,
    which objects they are, and what is in those that can change inside.
    """

    def __init__(self, model: Any) -> None:
        self._described = Description()
        self._watched: list[_Watched] = []
        known: set[int] = set()
        waiting = [model]
        while waiting:
            for owner, attributes in owners(waiting.pop()):
                if id(owner) not in known:
                    known.add(id(owner))
                    self._watched.append(self._describe(owner, attributes))
            # A model that the code names is as much a part of this one as a layer inside it.
            waiting += [found for found in self._described.models if id(found) not in known]
            self._described.models.clear()
        self._parts = tuple(self._described.parts)
        self._seen_at_a_glance = self._glance()

    def _describe(self, owner: Any, attributes: dict[str, Any]) -> _Watched:
        described, changeable = self._described, []
        described.identify(owner)
        for name in ("call", "__call__"):  # a method can be replaced on the class, too
            described.identify(_of_class(type(owner), name))
        described.add_class_of(owner)
        is_layer = keras_compat.is_layer(owner)
        if is_layer:
            described.parts.append(keras_compat.policy(owner))
        elif not is_model(owner):
            described.add(owner)
        for name, value in attributes.items():
            own = [value]
            while own and hasattr(own[0], "replaced_call"):
                # Another thread is tracing this layer: what counts is what it put aside.
                own = own[0].replaced_call
            if own and not keras_compat.is_symbolic(own[0]):
                described.parts.append(name)
                described.add(own[0])
                if can_change(value):
                    changeable.append(name)
                elif not is_referable(value):
                    described.keep_alive(value)
        return _Watched(weakref.ref(owner), changeable, is_layer, keras_compat.is_model(owner))

    @property
    def owners(self) -> Iterator[Any]:
        """The layers and modules of the model, and of other models that its code names."""
        return (owner for watched in self._watched if (owner := watched.owner()) is not None)

    def is_current(self) -> bool:
        """Tell by a glance whether the model is as it was; if not, it may still be equal."""
        return self._described.is_valid and self._glance() == self._seen_at_a_glance

    def _glance(self) -> list[Any]:
        """Return what is seen of the model without looking at each attribute."""
        look = Description()
        parts = look.parts
        classes: dict[type, None] = {}
        for watched in self._watched:
            owner = watched.owner()
            if owner is None:
                return []
            if type(owner) not in classes:
                classes[type(owner)] = None
                parts += (id(_of_class(type(owner), name)) for name in ("call", "__call__"))
                look.add_class_of(owner)
            held = getattr(owner, "__dict__", {})
            parts += held
            parts += map(id, held.values())
            if watched.is_layer:
                parts += keras_compat.policy(owner)
            elif not is_model(owner):
                look.add(owner)
            if watched.is_model:
                parts += map(id, owner.layers)
            for name in watched.changeable:
                look.add(held.get(name))
        return parts

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Fingerprint)
            and self._described.is_valid
            and other._described.is_valid
            and (self is other or self._parts == other._parts)
        )

    __hash__ = None  # type: ignore[assignment]


_known: dict[int, Fingerprint] = {}
_lock = threading.Lock()


def fingerprint_of(model: Any) -> Fingerprint:
    """Return the fingerprint of a model as it is: the last one, if nothing has changed since."""
    known = _known.get(id(model))
    if known is not None and known.is_current():
        return known
    found = Fingerprint(model)
    with _lock:
        if id(model) not in _known:
            weakref.finalize(model, _known.pop, id(model), None)
        _known[id(model)] = found
    return found
