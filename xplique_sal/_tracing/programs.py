"""Compiled functions of a model: traced once, found again, never stale, gone with their model.

A compiled function is kept for as long as its model lives, and is used only while the model has
the structure that it had when it was traced. Neither the model nor an operator is held: what is
kept is the graph alone.
"""

from __future__ import annotations

import functools
import inspect
import threading
import weakref
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import tensorflow as tf

from xplique_sal._tracing import substitutes
from xplique_sal._tracing.fingerprint import Fingerprint, fingerprint_of
from xplique_sal._tracing.held import HeldCallable
from xplique_sal._tracing.restoring import (
    attributes_restored,
    changed_variables,
    depends_on,
    scope_restored,
    values_restored,
)
from xplique_sal._tracing.wrapping import TRACING

#: How many compiled functions of one model are kept.
MOST_PROGRAMS = 32

_programs: dict[int | tuple[int, int], _Programs] = {}
_lock = threading.Lock()
_traces = 0


class Program:
    """One traced function, and what was seen while it was traced.

    Attributes
    ----------
    function
        The concrete function.
    facts
        What the Python function reported besides its tensors.
    has_state
        Whether what the graph returns depends on variables that it changes. What it changes gets
        its value back after each call in any case.
    """

    #: Held while variables are not what the user has left them as, whichever program changed them.
    _changing = threading.RLock()

    def __init__(self, function: Any, facts: Any) -> None:
        self.function = function
        self.facts = facts
        self._state = changed_variables(function)
        self.has_state = depends_on(function, self._state)

    def __call__(self, *tensors: Any) -> Any:
        """Run the graph on flat tensors and return what the Python function returned."""
        function = self._substitutable if substitutes.is_active() else self.function
        if not self._state:
            return function(*tensors)
        with self._changing, values_restored(self._state):
            return function(*tensors)

    @functools.cached_property
    def _substitutable(self) -> substitutes.Substitutable:
        return substitutes.Substitutable(self.function)

    @property
    def variables(self) -> list[tf.Variable]:
        """The variables that the result depends on, and that it leaves alone, as they are read."""
        state = {id(variable.handle) for variable in self._state}
        read = substitutes.read_by(self.function)
        return [variable for variable in read if id(variable.handle) not in state]


class _Programs:
    """The programs of one model as it is."""

    def __init__(self) -> None:
        self.fingerprint: Fingerprint | None = None
        self._entries: list[tuple[tuple[Any, ...], Program]] = []

    def clear(self) -> None:
        self.fingerprint = None
        self._entries.clear()

    def find(self, fingerprint: Fingerprint, key: tuple[Any, ...]) -> Program | None:
        if self.fingerprint is None or fingerprint != self.fingerprint:
            return None
        self.fingerprint = fingerprint
        for index, (known, program) in enumerate(self._entries):
            if known == key:
                self._entries.append(self._entries.pop(index))
                return program
        return None

    def add(
        self,
        fingerprint: Fingerprint,
        after: Fingerprint,
        key: tuple[Any, ...],
        program: Program,
    ) -> None:
        """Add a program that was traced of the model as `fingerprint` and left it as `after`.

        What the trace itself has changed, a global counter of calls, say, makes nothing stale.
        """
        if self.fingerprint is None or fingerprint != self.fingerprint:
            self._entries.clear()
        self.fingerprint = after
        self._entries.append((key, program))
        living = [entry for entry in self._entries if _can_be_asked(entry[0])]
        self._entries[:] = living[-MOST_PROGRAMS:]


def _can_be_asked(key: tuple[Any, ...]) -> bool:
    return all(part.lives for part in key if isinstance(part, HeldCallable))


class TraceFailed(Exception):
    """What says more of a trace that failed than its cause does: never seen by a user.

    Attributes
    ----------
    output_shape, channel_axis
        Of f(x), which was known before the operator failed.
    """

    def __init__(self, output_shape: tf.TensorShape, channel_axis: int) -> None:
        super().__init__()
        self.output_shape = output_shape
        self.channel_axis = channel_axis

    @property
    def reason(self) -> BaseException:
        """The error that made it fail."""
        assert self.__cause__ is not None
        return self.__cause__


def compiled(
    model: Any,
    key: tuple[Any, ...],
    build: Callable[..., tuple[Any, Any]],
    signature: Sequence[tf.TensorSpec],
) -> Program:
    """Return the compiled form of `build`, traced now unless it is known.

    Parameters
    ----------
    model
        The model that `build` runs. The program lives no longer than it.
    key
        What tells this program from the model's others: comparable by ``==``, with callables as
        `HeldCallable`. The signature is added to it.
    build
        Takes the tensors of `signature`; returns a structure of tensors, and the facts.
    signature
        Shapes and dtypes of the arguments.
    """
    global _traces
    key = (*key, tuple(signature))
    if not _is_new(model):
        known = _find(model, fingerprint_of(model), key)
        if known is not None:
            return known
    facts: Any = None

    def run(*tensors: tf.Tensor) -> Any:
        nonlocal facts
        with scope_restored():
            outputs, facts = build(*tensors)
        return outputs

    with TRACING:
        fingerprint = fingerprint_of(model)
        known = _find(model, fingerprint, key)  # another thread may have traced it meanwhile
        if known is not None:
            return known
        held = [part for part in key if isinstance(part, HeldCallable)]
        with attributes_restored(chain(fingerprint.owners, *(part.owners for part in held))):
            # Only the concrete function is kept: the `tf.function` holds `run`, and so the model.
            function = tf.function(run, autograph=False).get_concrete_function(*signature)
        _traces += 1
        program = Program(function, facts)
        for part in held:
            part.remember()  # the trace may have changed it: a counter of calls, say
        after = fingerprint_of(model)
        with _lock:
            _programs_of(model).add(fingerprint, after, key, program)
        return program


def _is_new(model: Any) -> bool:
    """Tell whether there are no programs of a model, so that it need not be looked at for any."""
    with _lock:
        return _programs_of(model).fingerprint is None


def _find(model: Any, fingerprint: Fingerprint, key: tuple[Any, ...]) -> Program | None:
    with _lock:
        return _programs_of(model).find(fingerprint, key)


def trace_count() -> int:
    """Return how many functions were traced so far in this process."""
    return _traces


def forget(model: Any = None) -> None:
    """Drop what was compiled of a model, so that its next explanation traces it anew.

    A compiled function is used again only while nothing has changed that it can be seen to depend
    on: the model's layers, settings and functions, and what the code of the user's own functions
    and classes names. What cannot be seen needs this: a value that is looked up by a name made at
    run time (``getattr``, ``globals()``), a file or a database, the inside of an installed library.

    Parameters
    ----------
    model
        The model, as explainers were given it. ``None``, the default, is every model.

    Examples
    --------
    >>> xplique_sal.forget(model)  # doctest: +SKIP
    """
    with _lock:
        for programs in [*_programs.values()] if model is None else [_programs_of(model)]:
            programs.clear()


def _programs_of(model: Any) -> _Programs:
    # A bound method is a new object at each access: what lives is the object that it belongs to.
    is_method = inspect.ismethod(model)
    owner = model.__self__ if is_method else model
    key = (id(owner), id(model.__func__)) if is_method else id(owner)
    if key not in _programs:
        _programs[key] = _Programs()
        weakref.finalize(owner, _programs.pop, key, None)
    return _programs[key]
