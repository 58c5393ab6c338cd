"""Models of any kind as one thing that is called on a batch."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from xplique_sal._data.structures import (
    InputSpec,
    ModelInputs,
    Structure,
    leaves,
    skeleton_of,
)
from xplique_sal._tracing import keras_compat, named
from xplique_sal.errors import InvalidModelError

#: How TensorFlow says that float32 met another dtype of numbers.
_OTHER_DTYPE = re.compile(
    r"type (b?float(64|16)|double|half) that does not match type float32"
    r"|expected to be a float tensor but is a (double|half|bfloat16) tensor"
)


def _directly(function: Any, *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


def check_model(model: Any) -> None:
    """Refuse what is not a model that TensorFlow can differentiate.

    Of a Python function it is only known when it is traced.

    Raises
    ------
    InvalidModelError
    """
    if is_tensorflows(model) or is_function(model):
        if keras_compat.is_layer(model):
            keras_compat.check_backend(model)
        return
    remedy = "Explain it with a black-box method, which needs no gradient."
    if isinstance(model, type):
        remedy = "Pass an instance of it."
    elif isinstance(model, tf.Module):
        remedy = "Give it a `__call__`, or pass a function: lambda x: model.score(x)."
    elif _is_loaded(model):
        names = ", ".join(f"loaded.signatures[{name!r}]" for name in model.signatures)
        remedy = f"Choose what to explain: {names or 'it was saved without any function'}."
    kind = model.__name__ if isinstance(model, type) else type(model).__name__
    raise InvalidModelError(
        "a tf-keras or Keras 3 model, a callable `tf.Module`, a SavedModel or a function of "
        "tensors",
        f"{'the class' if isinstance(model, type) else 'an object of type'} {kind}",
        remedy,
    )


def is_tensorflows(model: Any) -> bool:
    """Tell whether a model is of a kind that TensorFlow runs, and can differentiate."""
    is_module = isinstance(model, tf.Module) and callable(model)
    is_compiled = isinstance(model, tf.types.experimental.Callable)
    is_saved = _is_loaded(model) and (callable(model) or only_signature(model) is not None)
    return is_module or is_compiled or keras_compat.is_layer(model) or is_saved


def is_function(model: Any) -> bool:
    """Tell whether a model is a function of Python, of tensors or of arrays."""
    return callable(model) and not isinstance(model, type)


def _is_loaded(model: Any) -> bool:
    return hasattr(model, "signatures") and hasattr(model, "tensorflow_version")


def only_signature(model: Any) -> Any | None:
    """Return the signature by which a SavedModel that cannot be called is run, if it is clear."""
    if callable(model) or not _is_loaded(model):
        return None
    signatures = dict(model.signatures)
    alone = next(iter(signatures.values())) if len(signatures) == 1 else None
    return signatures.get("serving_default", alone)


def inputs_of(model: Any, given: Structure = None) -> ModelInputs | None:
    """Return what a model says about its inputs, or ``None`` if it says nothing.

    Where `given` is for several arguments of its call, it says nothing of them.
    """
    if keras_compat.is_layer(model):
        return keras_compat.inputs_of(model) if not takes_several(model, given) else None
    names = _names_of_signature(signature := only_signature(model) or model)
    if names is not None:
        known = signature.structured_input_signature[1]
        return _described({name: known[name] for name in names}, names)
    declared = _declared(model)
    if not declared:
        return None
    packed = declared[0] if len(declared) == 1 else declared
    return _described(packed, _names_of_arguments(model, declared))


def _described(specs: Structure, names: Sequence[str]) -> ModelInputs:
    """Return what a signature says of its inputs, packed as it takes them."""
    found = tuple(
        InputSpec(name, _shape(spec), spec.dtype)
        for name, spec in zip(names, leaves(specs), strict=True)
    )
    sizes = {spec.shape[0] for spec in found if spec.shape} - {None}
    return ModelInputs(found, skeleton_of(specs), sizes.pop() if len(sizes) == 1 else None)


def _declared(model: Any) -> list[Structure]:
    """Return the specs of each argument that a compiled function declares to be of tensors.

    It is empty where nothing is declared, or more than one thing.
    """
    kind = tf.types.experimental.Callable
    compiled = model if isinstance(model, kind) else getattr(model, "__call__", None)  # noqa: B004
    if isinstance(compiled, tf.types.experimental.ConcreteFunction):
        traced = [compiled]
    else:  # of a saved model they are those that it was called with
        traced = getattr(compiled, "concrete_functions", None) or []
    signatures = [(function.structured_input_signature or ((),))[0] for function in traced]
    known = [
        [argument for argument in positional if _is_of_tensors(argument)]
        for positional in signatures or [getattr(compiled, "input_signature", None) or ()]
    ]
    return known[0] if known and all(_alike(one, known[0]) for one in known) else []


def _is_of_tensors(argument: Structure) -> bool:
    """Tell whether an argument is of samples: a flag, as `training`, is none."""
    return bool(parts := leaves(argument)) and all(
        isinstance(part, tf.TensorSpec) and part.shape.rank != 0 for part in parts
    )


def _alike(one: list[Structure], other: list[Structure]) -> bool:
    """Tell whether arguments are packed alike, of the same shapes and dtypes."""
    pairs = zip(leaves(one), leaves(other), strict=False)
    return skeleton_of(one) == skeleton_of(other) and all(
        a.dtype == b.dtype and _shape(a) == _shape(b) for a, b in pairs
    )


def _names_of_arguments(model: Any, declared: list[Structure]) -> list[str]:
    """Return a name for each input that a compiled function declares."""
    specs = leaves(declared)
    try:
        parameters = call_parameters(getattr(model, "python_function", model))
    except (TypeError, ValueError):
        parameters = []
    named = [parameter.name for parameter in parameters[: len(specs)]]
    if len(named) < len(specs) or len(declared) < len(specs):
        named = [spec.name or f"input_{position}" for position, spec in enumerate(specs)]
    return named


def takes_several(layer: Any, given: Structure) -> bool:
    """Tell whether `given` are several arguments of a Keras model's call."""
    if keras_compat.is_model(layer) and named.is_framework(type(layer).call):
        return False  # of a model that Keras itself runs, they are one argument
    try:
        parameters = call_parameters(layer.call)
    except (TypeError, ValueError):
        return False
    if sum(parameter.default is parameter.empty for parameter in parameters) > 1:
        return True
    names = {parameter.name for parameter in parameters}
    return len(names) > 1 and isinstance(given, Mapping) and set(given) <= names


def _shape(spec: tf.TensorSpec) -> tuple[int | None, ...] | None:
    return None if spec.shape.rank is None else tuple(spec.shape)


def _names_of_signature(signature: Any) -> list[str] | None:
    """Return the names of the inputs of a signature; ``None`` of what is none."""
    positional, named = getattr(signature, "structured_input_signature", None) or ((), {})
    return list(named) if named and not positional else None


def invoke(model: Any, inputs: Structure) -> Any:
    """Run a model for inference, while it is traced, on inputs that are packed as it wants them.

    Raises
    ------
    InvalidModelError
        If it takes other arguments, or needs the values of its inputs.
    """
    try:
        return run(model, inputs, with_autograph())
    except Exception as error:
        if not _asks_for_values(error):
            raise
        raise InvalidModelError(
            "a model of TensorFlow operations",
            "one that needs the values of its inputs, as NumPy does, so that it has no gradient "
            f"({str(error).strip().splitlines()[0]})",
            "Use operations of `tf` in place of those of NumPy, or a black-box method "
            "(`Occlusion`, `Rise`), which needs no gradient.",
        ) from error


def needed_values(error: BaseException) -> bool:
    """Tell whether `invoke` failed because the model looks at the values of its inputs."""
    return isinstance(error, InvalidModelError) and _asks_for_values(error.__cause__)


def _asks_for_values(error: BaseException | None) -> bool:
    """Tell whether an error is TensorFlow's own at a tensor that has no value in a trace."""
    text = str(error)
    return isinstance(error, (RuntimeError, AttributeError, TypeError, ValueError)) and (
        "to a numpy array" in text
        or "has no attribute 'numpy'" in text
        or "numpy() is only available when eager execution" in text
        or "Detected a call to `Model.predict` inside a `tf.function`" in text
    )


def run(model: Any, inputs: Structure, call: Callable[..., Any] = _directly) -> Any:
    """Run a model for inference on inputs that are packed as it wants them.

    Parameters
    ----------
    call
        Calls its first argument with the others.
    """
    if keras_compat.is_layer(model):
        args, options = _arguments(model.call, inputs)
        return call(keras_compat.call, model, *args, **options)
    signature = only_signature(model) or model
    if isinstance(signature, tf.types.experimental.ConcreteFunction):
        if _names_of_signature(signature) is not None:
            return _call_signature(signature, inputs)
        positional = (getattr(signature, "structured_input_signature", None) or (None,))[0]
        count = len(signature.inputs) if positional is None else len(positional)
        return signature(inputs) if count == 1 else signature(*leaves(inputs))
    several = tuple(inputs) if len(_declared(model)) > 1 else None
    if _is_loaded(model):
        args = several or (inputs,)
        # What `training` defaults to was lost when the model was saved.
        try:
            return model(*args, training=False)
        except (TypeError, ValueError):
            return model(*args)
    if several is not None:
        args, options = several, {}
    else:
        args, options = _arguments(getattr(model, "python_function", model), inputs)
    if keras_compat.accepts_training(model):
        options = {**options, "training": False}
    try:
        return call(model, *args, **options)
    except (TypeError, ValueError, tf.errors.InvalidArgumentError) as error:
        other = _OTHER_DTYPE.search(str(error))
        if other is None or inputs_of(model) is not None:
            raise
        raise InvalidModelError(
            "a function of float32, which it is given where it does not say what it takes",
            f"one that computes in another dtype ({other.group()})",
            "Say it, by tf.function(f, input_signature=[tf.TensorSpec([None, ...], tf.float64)]), "
            "or cast in the function: tf.cast(x, tf.float64).",
        ) from error


def _arguments(function: Any, inputs: Structure) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return inputs as the arguments of a function: together, or one for each of its parameters.

    Raises
    ------
    InvalidModelError
        If it has several parameters, and there are not as many inputs.
    """
    try:
        parameters = call_parameters(function)
    except (TypeError, ValueError):
        return (inputs,), {}  # one that does not tell
    names = [parameter.name for parameter in parameters]
    needed = [p.name for p in parameters if p.default is p.empty]
    is_named = isinstance(inputs, Mapping) and set(needed) <= set(inputs) <= set(names)
    if is_named and len(names) > 1:
        return (), dict(inputs)
    if len(needed) < 2:
        return (inputs,), {}
    if isinstance(inputs, (list, tuple)) and len(needed) <= len(inputs) <= len(names):
        return tuple(inputs), {}
    several = isinstance(inputs, (list, tuple, Mapping))
    raise InvalidModelError(
        f"an input for each argument that the model's call needs: {', '.join(map(repr, needed))}",
        f"{len(inputs)} other inputs" if several else "one input",
        "Pass a list, or a dict by these names. What is no input can be given by a function: "
        f"lambda x: model(x, {needed[-1]}=...).",
    )


def call_parameters(function: Any) -> list[inspect.Parameter]:
    """Return the parameters of a function that inputs can be given for."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = inspect.signature(function).parameters.values()
    # Of a layer, the mask is what Keras gives.
    of_layer = keras_compat.is_layer(getattr(function, "__self__", None))
    left_out = ("training", "mask") if of_layer else ("training",)
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in found):
        return []
    return [
        parameter
        for parameter in found
        if parameter.kind in kinds and parameter.name not in left_out
    ]


def _call_signature(signature: Any, inputs: Structure) -> Any:
    names = list(signature.structured_input_signature[1])
    given = inputs if isinstance(inputs, dict) else dict(zip(names, leaves(inputs), strict=False))
    if set(given) != set(names):
        raise InvalidModelError(
            f"the inputs {names}, as the SavedModel's signature names them",
            f"{list(given)}",
            "Pass a dict with these names.",
        )
    outputs = signature(**given)
    if not isinstance(outputs, dict):
        return outputs
    # A signature has names for its outputs, and no order; tf-keras numbers those of a list.
    return {name: outputs[name] for name in sorted(outputs, key=_by_number)}


def _by_number(name: str) -> list[tuple[str, int]]:
    """Return what names are sorted by, so that ``"output_2"`` comes before ``"output_10"``."""
    return [(text, int(number or 0)) for text, number in re.findall(r"(\D*)(\d*)", name)]


@functools.lru_cache(maxsize=1)
def with_autograph() -> Any:
    """Return a function that calls its first argument with the rest, under autograph.

    tf-keras converts a user's `call` only where autograph is on, and an operator may branch on
    tensors. The package's own code is traced without it.
    """

    def call(function: Any, *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return tf.autograph.to_graph(call)


def call_with_autograph(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Call a user's function as `tf.function` would trace it."""
    return with_autograph()(function, *args, **kwargs)
