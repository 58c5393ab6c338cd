"""Seeing what inner layers compute, by wrapping their `call` while a model is being traced.

It reaches layers inside nested and subclassed models, needs no clone, and leaves nothing behind:
the wrapper is an attribute of the instance that is deleted afterwards. Other threads see it while
it is there, and get the original behaviour.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

#: Held while a model is traced: one trace at a time sees its layers wrapped.
TRACING = threading.RLock()


@contextlib.contextmanager
def outputs_passed_through(layers: Sequence[Any], see: Callable[[Any, Any], Any]) -> Iterator[None]:
    """Give what each of `layers` returns in this thread to `see`, and use what it returns.

    Parameters
    ----------
    layers
        Layers of either Keras.
    see
        Called as ``see(layer, output)``; what it returns takes the place of `output`.
    """
    with contextlib.ExitStack() as stack:
        for layer in layers:
            stack.enter_context(_wrapped(layer, see))
        yield


@contextlib.contextmanager
def _wrapped(layer: Any, see: Callable[[Any, Any], Any]) -> Iterator[None]:
    original = layer.call
    own = [vars(layer)["call"]] if "call" in vars(layer) else []
    thread = threading.get_ident()

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        output = original(*args, **kwargs)
        if threading.get_ident() == thread:
            output = see(layer, output)
        return output

    call.replaced_call = own  # type: ignore[attr-defined]
    # Past `__setattr__`, so that Keras does not track the wrapper.
    object.__setattr__(layer, "call", call)
    try:
        yield
    finally:
        if own:
            object.__setattr__(layer, "call", own[0])
        else:
            object.__delattr__(layer, "call")
