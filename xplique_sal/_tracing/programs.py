"""Compiled functions of a model: traced once, found again, never stale, gone with their model.

A compiled function is kept for as long as its model lives, and is used only while the model has
the structure that it had when it was traced. Neither the model nor an operator is held: what is
kept is the graph alone.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from xplique_sal._tracing.fingerprint import Fingerprint, kept
from xplique_sal._tracing.graphs import written_resources
from xplique_sal._tracing.wrapping import TRACING
from xplique_sal.errors import InvalidModelError, XpliqueSalError

#: How many compiled functions of one model are kept.
MOST_PROGRAMS = 32

_programs: dict[int, _Programs] = {}
_lock = threading.Lock()
_traces = 0


class Held:
    """A callable in a request: compared by ``==``, held weakly.

    An operator may close over its model; held strongly, it would keep the model alive. A bound
    method is a new object at each access, and equal to the last one. What a callable holds (the
    variables that it closes over, its attributes) is compared too: a trace has read it.
    """

    def __init__(self, target: Callable[..., Any]) -> None:
        # Of a bound method, which nobody keeps, its two parts.
        parts = (target.__self__, target.__func__) if inspect.ismethod(target) else (target,)
        self._parts = [weakref.ref(part) for part in parts]
        self.look()

    def look(self) -> None:
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
            isinstance(other, Held)
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
        Held(function)
    except TypeError:
        return functools.partial(function)
    return function


class Program:
    """One traced function, and what was seen while it was traced.

    Attributes
    ----------
    facts
        What the Python function reported besides its tensors.
    has_state
        Whether the graph changes variables of the model. They get their values back after each
        call.
    """

    def __init__(self, function: Any, facts: Any) -> None:
        self._function = function
        self.facts = facts
        self._state = _state(function)
        self.has_state = bool(self._state)
        self._lock = threading.Lock()

    def __call__(self, *tensors: Any) -> Any:
        """Run the graph on flat tensors and return what the Python function returned."""
        if not self._state:
            return self._function(*tensors)
        with self._lock, _restored(self._state):
            return self._function(*tensors)


class _Programs:
    """The programs of one model as it is."""

    def __init__(self) -> None:
        self.fingerprint: Fingerprint | None = None
        self._entries: list[tuple[tuple[Any, ...], Program]] = []

    def find(self, fingerprint: Fingerprint, request: tuple[Any, ...]) -> Program | None:
        if self.fingerprint is None or fingerprint != self.fingerprint:
            return None
        self.fingerprint = fingerprint
        for index, (known, program) in enumerate(self._entries):
            if known == request:
                self._entries.append(self._entries.pop(index))
                return program
        return None

    def add(self, fingerprint: Fingerprint, request: tuple[Any, ...], program: Program) -> None:
        if self.fingerprint is None or fingerprint != self.fingerprint:
            self.fingerprint = fingerprint
            self._entries.clear()
        self._entries.append((request, program))
        living = [entry for entry in self._entries if _can_be_asked(entry[0])]
        self._entries[:] = living[-MOST_PROGRAMS:]


def _can_be_asked(request: tuple[Any, ...]) -> bool:
    return all(part.lives for part in request if isinstance(part, Held))


def program(
    model: Any,
    request: tuple[Any, ...],
    build: Callable[..., tuple[Any, Any]],
    signature: Sequence[tf.TensorSpec],
) -> Program:
    """Return the compiled form of `build`, traced now unless it is known.

    Parameters
    ----------
    model
        The model that `build` runs. The program lives no longer than it.
    request
        What tells this program from the model's others: comparable by ``==``, with callables as
        `Held`. The signature is added to it.
    build
        Takes the tensors of `signature`; returns a structure of tensors, and the facts.
    signature
        Shapes and dtypes of the arguments.
    """
    request = (*request, tuple(signature))
    if not _is_new(model):
        known = _find(model, _fingerprint(model), request)
        if known is not None:
            return known
    with TRACING:
        fingerprint = _fingerprint(model)
        known = _find(model, fingerprint, request)  # another thread may have traced it meanwhile
        if known is None:
            known = _trace(model, build, signature)
            for part in request:
                if isinstance(part, Held):
                    part.look()  # the trace may have changed it: a counter of calls, say
            with _lock:
                _of(model).add(fingerprint, request, known)
        return known


def _is_new(model: Any) -> bool:
    """Tell whether there are no programs of a model, so that it need not be looked at for any."""
    with _lock:
        return _of(model).fingerprint is None


def _find(model: Any, fingerprint: Fingerprint, request: tuple[Any, ...]) -> Program | None:
    with _lock:
        return _of(model).find(fingerprint, request)


def _fingerprint(model: Any) -> Fingerprint:
    with _lock:
        known = _of(model).fingerprint
    return known if known is not None and known.is_current() else Fingerprint(model)


def of_batches(
    make: Callable[[int | None], Program],
    fixed: int | None,
    size: int,
    on_failure: Callable[[], None] = lambda: None,
) -> tuple[Program, int | None]:
    """Return a program, and the only batch size that it takes, if it takes no other.

    The batch size is left open, so that one trace serves them all, unless the model needs to know
    it.

    Parameters
    ----------
    make
        Returns the program for a batch size, ``None`` for any.
    fixed
        The batch size, if it is known to be needed.
    size
        The one to take if it turns out to be.
    on_failure
        Called if the first attempt fails, to say better why.
    """
    try:
        return make(fixed), fixed
    except Exception as error:
        on_failure()
        if fixed is not None or isinstance(error, XpliqueSalError):
            raise
        return make(size), size


def trace_count() -> int:
    """Return how many functions were traced so far in this process."""
    return _traces


def _of(model: Any) -> _Programs:
    key = id(model)
    if key not in _programs:
        _programs[key] = _Programs()
        weakref.finalize(model, _programs.pop, key, None)
    return _programs[key]


def _trace(
    model: Any, build: Callable[..., tuple[Any, Any]], signature: Sequence[tf.TensorSpec]
) -> Program:
    global _traces
    facts: list[Any] = []

    def run(*tensors: tf.Tensor) -> Any:
        outputs, seen = build(*tensors)
        facts.append(seen)
        return outputs

    with kept(model):
        # Only the concrete function is kept: the `tf.function` holds `run`, and so the model.
        function = tf.function(run, autograph=False).get_concrete_function(*signature)
    _traces += 1
    return Program(function, facts[-1])


def _state(function: Any) -> list[tf.Variable]:
    by_handle = {id(variable.handle): variable for variable in function.graph.variables}
    state = []
    for resource in written_resources(function.graph):
        if id(resource) not in by_handle:
            raise InvalidModelError(
                "a model whose state can be given back after it was explained",
                f"one that changes {getattr(resource, 'name', 'a resource')!r}, "
                "which is not a variable",
                "Explain a model that only reads its tables and queues.",
            )
        state.append(by_handle[id(resource)])
    return state


@contextlib.contextmanager
def _restored(variables: Sequence[tf.Variable]) -> Iterator[None]:
    saved = [tf.identity(variable) for variable in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, saved, strict=True):
            variable.assign(value)
