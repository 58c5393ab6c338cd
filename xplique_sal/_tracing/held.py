"""Callables in the request for a compiled function: compared without keeping them alive."""

from __future__ import annotations

import functools
import inspect
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from xplique_sal._tracing import named
from xplique_sal._tracing.description import Description
from xplique_sal._tracing.fingerprint import fingerprint_of


class HeldCallable:
    """A callable in a request, held weakly: it may close over its model, and keep it alive.

    Functions are compared by what they do: their code, what they close over, their defaults, the
    globals that they name. One that is made anew in a loop is no other for it. Other objects are
    compared by ``==``, and by what they hold: a trace has read it. Of a bound method, which is a
    new object at each access, both parts are compared.

    An object that is made anew at each call may have a `trace_key`: a value that is compared in its
    place, with `lives`; and `traced_parts`, what a trace reads beside it.
    """

    def __init__(self, target: Callable[..., Any]) -> None:
        self._key = getattr(target, "trace_key", None)
        parts = (target.__self__, target.__func__) if inspect.ismethod(target) else (target,)
        self._parts = [weakref.ref(part) for part in parts]
        self._objects = [
            reference
            for reference, part in zip(self._parts, parts, strict=True)
            if self._key is None and not isinstance(part, (types.FunctionType, functools.partial))
        ]
        self.remember()

    def remember(self) -> None:
        """Remember what the callable is and holds now."""
        described = Description()
        parts: list[Any] = [part for reference in self._parts if (part := reference()) is not None]
        if self._key is not None:
            parts = [read for part in parts for read in part.traced_parts]
        for part in parts:
            if named.is_constant(part):
                described.identify(part)
            else:
                described.add_callable(part)
        self._described = described
        self._models = [fingerprint_of(model) for model in described.models]
        described.models.clear()

    @property
    def lives(self) -> bool:
        """Whether there can be another that equals it."""
        if self._key is not None and not self._key.lives:
            return False
        return self._described.is_valid and all(part() is not None for part in self._objects)

    @property
    def owners(self) -> Iterator[Any]:
        """The layers and modules of the models that the callable names."""
        return (owner for model in self._models for owner in model.owners)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, HeldCallable)
            and self.lives
            and other.lives
            and bool(self._key == other._key)
            and len(self._objects) == len(other._objects)
            and all(
                _are_equal(mine(), others())
                for mine, others in zip(self._objects, other._objects, strict=True)
            )
            and self._described.parts == other._described.parts
            and self._models == other._models
        )

    __hash__ = None  # type: ignore[assignment]


def _are_equal(mine: Any, others: Any) -> bool:
    return mine is not None and (mine is others or bool(mine == others))


def weakly_referable(function: Any) -> Any:
    """Return a callable that does as `function` does, and to which a weak reference can be made."""
    try:
        HeldCallable(function)
    except TypeError:
        return functools.partial(function)
    return function
