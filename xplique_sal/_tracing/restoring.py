"""What a trace or a run changes of a model, put back: attributes, losses, variables."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xplique_sal._tracing import keras_compat
from xplique_sal._tracing.description import PLAIN
from xplique_sal._tracing.graphs import resources_behind, written_resources
from xplique_sal.errors import InvalidModelError


@contextlib.contextmanager
def attributes_restored(owners: Iterable[Any]) -> Iterator[None]:
    """Leave every attribute of some layers and modules as it was before the block.

    A `call` may set attributes: the last attention map, a counter. What a trace would leave there
    is a symbolic tensor that nobody can read, or a count of calls that the user never made.
    """
    everyone = list({id(owner): owner for owner in owners}.values())
    layers = [owner for owner in everyone if keras_compat.is_layer(owner)]
    saved = [(owner, dict(vars(owner))) for owner in everyone if hasattr(owner, "__dict__")]
    with keras_compat.losses_kept(layers):
        try:
            yield
        finally:
            for owner, before in saved:
                _restore(owner, before)


@contextlib.contextmanager
def scope_restored() -> Iterator[None]:
    """Leave the scope of variables, which all graphs of a thread share, as it was before the block.

    `tf.map_fn` sets its caching device, and leaves it so if its function fails: no strategy could
    be entered any more.
    """
    scope = tf.compat.v1.get_variable_scope()
    before = scope.caching_device
    try:
        yield
    finally:
        if scope.caching_device is not before:
            scope.set_caching_device(before)


def _restore(owner: Any, before: dict[str, Any]) -> None:
    now = keras_compat.user_attributes(owner) if keras_compat.is_layer(owner) else vars(owner)
    for name, value in list(now.items()):
        if not isinstance(value, (*PLAIN, float, tf.Tensor, np.ndarray, list, tuple, dict)):
            continue  # a layer or variable that `call` made for good
        # Past `__setattr__`, which would track the value.
        if name not in before:
            object.__delattr__(owner, name)
        elif value is not before[name]:
            object.__setattr__(owner, name, before[name])


def changed_variables(function: Any) -> list[tf.Variable]:
    """Return the variables that a traced function may change: all, where that cannot be told."""
    try:
        by_handle = {id(variable.handle): variable for variable in function.variables}
        written = written_resources(function.graph)
    except (AttributeError, TypeError):  # a graph that says otherwise what it captured
        return list(function.variables)
    state = []
    for resource in written:
        if id(resource) not in by_handle:
            raise InvalidModelError(
                "a model whose state can be given back after it was explained",
                f"one that changes {getattr(resource, 'name', 'a resource')!r}, "
                "which is not a variable",
                "Explain a model that only reads its tables and queues.",
            )
        state.append(by_handle[id(resource)])
    return state


def depends_on(function: Any, variables: Sequence[tf.Variable]) -> bool:
    """Tell whether what a traced function returns depends on one of some variables."""
    if not variables:
        return False
    try:
        behind = {id(resource) for resource in resources_behind(function.graph)}
    except (AttributeError, KeyError, IndexError, TypeError):  # a graph that is written otherwise
        return True
    return any(id(variable.handle) in behind for variable in variables)


@contextlib.contextmanager
def values_restored(variables: Sequence[tf.Variable]) -> Iterator[None]:
    saved = [tf.identity(variable) for variable in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, saved, strict=True):
            variable.assign(value)
