"""Callables in the request for a compiled function: compared without keeping them alive."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable
from typing import Any

from xplique_sal._tracing.fingerprint import Fingerprint


class HeldCallable:
    """A callable in a request: compared by ``==``, held weakly.

    An operator may close over its model; held strongly, it would keep the model alive. A bound
    method is a new object at each access, and equal to the last one. What a callable holds (the
    variables that it closes over, its attributes) is compared too: a trace has read it.
    """

    def __init__(self, target: Callable[..., Any]) -> None:
        # Of a bound method, which nobody keeps, its two parts.
        parts = (target.__self__, target.__func__) if inspect.ismethod(target) else (target,)
        self._parts = [weakref.ref(part) for part in parts]
        self.remember()

    def remember(self) -> None:
        """Remember what the callable holds now."""
        self._state = Fingerprint.of_callables(
            part for reference in self._parts if (part := reference()) is not None
        )

    @property
    def lives(self) -> bool:
        """Whether anybody else still holds the callable."""
        return all(part() is not None for part in self._parts)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, HeldCallable)
            and len(self._parts) == len(other._parts)
            and all(
                _are_equal(mine(), others())
                for mine, others in zip(self._parts, other._parts, strict=True)
            )
            and self._state == other._state
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
