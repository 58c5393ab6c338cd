"""Seeing and replacing what inner layers compute, while a model is being traced.

It wraps their `call`, which reaches layers inside nested and subclassed models, needs no clone, and
leaves nothing behind: the wrapper is an attribute of the instance that is deleted afterwards. Other
threads see it while it is there, and get the original behaviour.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from xplique_sal._tracing import keras_compat

#: Held while a model is traced: one trace at a time sees its layers wrapped.
TRACING = threading.RLock()

#: What `tf.function` returns.
FUNCTION_TYPE: type = type(tf.function(lambda: None))


@contextlib.contextmanager
def calls_passed_through(
    layers: Sequence[Any],
    around: Callable[[Any, Callable[..., Any], Any, Any], Any],
    method: str | None = None,
) -> Iterator[None]:
    """Let `around` do the calls of `layers` that this thread makes.

    Parameters
    ----------
    layers
        Layers of either Keras.
    around
        Called as ``around(layer, original, args, kwargs)``, where ``original(*args, **kwargs)`` is
        what the layer would return; what `around` returns takes its place.
    method
        The name of the method that is called; ``None`` is what computes the layer's output.
    """
    with contextlib.ExitStack() as stack:
        for layer in layers:
            stack.enter_context(_wrapped(layer, around, method or keras_compat.name_of_call(layer)))
        yield


@contextlib.contextmanager
def _wrapped(layer: Any, around: Callable[..., Any], name: str) -> Iterator[None]:
    original = getattr(layer, name)
    own = [vars(layer)[name]] if name in vars(layer) else []
    thread = threading.get_ident()

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != thread or keras_compat.only_infers_shapes():
            return original(*args, **kwargs)
        return around(layer, original, args, kwargs)

    call.replaced_call = own  # type: ignore[attr-defined]
    # Past `__setattr__`, so that Keras does not track the wrapper.
    object.__setattr__(layer, name, call)
    try:
        yield
    finally:
        if own:
            object.__setattr__(layer, name, own[0])
        else:
            object.__delattr__(layer, name)


@contextlib.contextmanager
def functions_inlined(
    call: Callable[..., Any], stays: Callable[[Any], bool] = lambda graph: False
) -> Iterator[None]:
    """Let this thread run every `tf.function` as part of the graph that it is tracing.

    A function that TensorFlow has compiled keeps its gradient, once made, for everybody: a rule
    that reached inside would stay there. Inlined, its ops belong to this trace alone. A
    TensorFlow that does not let its functions be replaced runs them as they are.

    Parameters
    ----------
    call
        Called as ``call(function, *args, **kwargs)`` with the Python function.
    stays
        Told the graph of a function for XLA, whether it can stay one: Keras compiles there what
        TensorFlow's own kernels do not do, a grouped convolution on a CPU for example.
    """
    function_type: Any = FUNCTION_TYPE
    original = function_type.__call__
    thread = threading.get_ident()

    def inline(self: Any, *args: Any, **kwargs: Any) -> Any:
        # One loaded from a SavedModel is a subclass, which has no Python function any more.
        if threading.get_ident() != thread or type(self) is not function_type:
            return original(self, *args, **kwargs)
        python_function = getattr(self, "python_function", None)
        if python_function is None:
            return original(self, *args, **kwargs)
        if getattr(self, "_jit_compile", None) and stays(
            self.get_concrete_function(*args, **kwargs).graph
        ):
            return original(self, *args, **kwargs)
        return call(python_function, *args, **kwargs)

    try:
        function_type.__call__ = inline
    except (AttributeError, TypeError):
        yield
        return
    try:
        yield
    finally:
        function_type.__call__ = original
