"""The only module that knows that there are two Kerases: tf-keras (Keras 2) and Keras 3.

Neither is imported here: a model can only come from a Keras that its owner has imported, so it is
looked up among the loaded modules.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import inspect
import sys
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

import tensorflow as tf

from xplique_sal._data.structures import InputSpec, ModelInputs, skeleton_of
from xplique_sal.errors import InvalidModelError

#: Names that `compile`, `fit` and TensorFlow's object tracking set on a model or a layer.
_TRAINING_NAMES = frozenset(
    {"history", "loss", "optimizer", "stop_training", "_compile_config", "_eval_epoch_iterator"}
    | {"_compiled_trainable_state", "_pss_evaluation_shards", "_compile_loss", "_compile_metrics"}
)


#: What the two are imported as.
NAMES = ("keras", "tf_keras")

#: How the names of settings end that say how weights are made and trained.
_OF_TRAINING = ("_initializer", "_regularizer", "_constraint")

#: Where Keras keeps the losses of a call.
_LOSSES = frozenset({"_losses", "_eager_losses", "_loss_ids"})

_PLAIN = frozenset({bool, int, float, str, type(None)})


def _kerases() -> list[ModuleType]:
    # A Keras that is being imported by another thread has no `Model` yet.
    loaded = (sys.modules.get(name) for name in NAMES)
    return [keras for keras in loaded if keras is not None and hasattr(keras, "Model")]


def _layer_types() -> tuple[type, ...]:
    return tuple(keras.layers.Layer for keras in _kerases())


def _keras_of(layer: Any) -> ModuleType | None:
    return next((keras for keras in _kerases() if isinstance(layer, keras.layers.Layer)), None)


def is_layer(candidate: Any) -> bool:
    """Tell whether `candidate` is a layer (a model is one) of either Keras."""
    return isinstance(candidate, _layer_types())


def is_model(candidate: Any) -> bool:
    """Tell whether `candidate` is a model of either Keras."""
    return any(isinstance(candidate, keras.Model) for keras in _kerases())


def check_backend(layer: Any) -> None:
    """Refuse a Keras 3 layer that does not compute with TensorFlow.

    Raises
    ------
    InvalidModelError
        If Keras 3 runs on another backend.
    """
    config: Any = getattr(_keras_of(layer), "config", None)
    # tf-keras has no `keras.config.backend`: it always computes with TensorFlow.
    backend = config.backend() if hasattr(config, "backend") else "tensorflow"
    if backend != "tensorflow":
        raise InvalidModelError(
            "a Keras 3 model on the TensorFlow backend",
            f"one on the {backend!r} backend",
            "Set KERAS_BACKEND=tensorflow before Keras is imported.",
        )


@functools.cache
def _own_names(keras: Any) -> frozenset[str]:
    """Return the attributes that Keras itself keeps on a layer or a model.

    They are read off instances that hold nothing else, or, where a version of Keras refuses to make
    one, off the code of its class. What is learnt from neither counts as the user's, and is
    compared for nothing. Each instance gets an explicit name, so that the counters behind the
    automatic names of the user's layers do not move.
    """
    names = set(_TRAINING_NAMES)
    for bare, kind in (
        (_bare_layer, keras.layers.Layer),
        (_bare_model, keras.Model),
        (_bare_sequential, keras.Sequential),
        (_bare_functional, keras.Sequential),  # one of tf-keras is a Functional model, too
    ):
        try:
            names.update(*map(vars, bare(keras)))
        except Exception:  # whatever a version of Keras minds
            names |= _assigned_in(kind)
    return frozenset(names)


def _assigned_in(kind: type) -> set[str]:
    """Return the attributes that the methods of a class of Keras, and of its bases, assign."""
    methods = [value for base in kind.__mro__[:-1] for value in vars(base).values()]
    functions = [getattr(method, "fset", method) for method in methods]
    codes = (getattr(inspect.unwrap(f), "__code__", None) for f in functions if callable(f))
    return {
        step.argval
        for code in codes
        if code is not None
        for step in dis.get_instructions(code)
        if step.opname == "STORE_ATTR"
    }


def _bare_layer(keras: Any) -> list[Any]:
    return [keras.layers.Layer(name="bare_layer")]


def _bare_model(keras: Any) -> list[Any]:
    return [keras.Model(name="bare_model")]


def _bare_sequential(keras: Any) -> list[Any]:
    return [keras.Sequential(name="bare_sequential")]


def _bare_functional(keras: Any) -> list[Any]:
    """Return a Functional model, and the layer in it, which was called."""

    class Passing(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return x

        def compute_output_spec(self, x: Any) -> Any:  # Keras 3 would name the tensor by a counter
            return keras.KerasTensor(x.shape, x.dtype, name="bare_output")

    tensor = keras.layers.Input((1,), name="bare_input")
    layer = Passing(name="bare_called")
    return [layer, keras.Model(tensor, layer(tensor), name="bare_functional")]


def user_attributes(layer: Any) -> dict[str, Any]:
    """Return the attributes of a layer that can matter to what it computes.

    Left out is what Keras keeps for itself, and what matters to training alone.
    """
    keras = _keras_of(layer)
    own = _own_names(keras) if keras is not None else frozenset()
    return {
        name: value
        for name, value in list(vars(layer).items())
        if name not in own and not name.startswith("_self_") and not name.endswith(_OF_TRAINING)
    }


def policy(layer: Any) -> tuple[str, str]:
    """Return the dtypes that a layer computes in and keeps its variables in."""
    return str(layer.compute_dtype), str(layer.dtype)


def children(layer: Any, attributes: dict[str, Any] | None = None) -> list[Any]:
    """Return the layers directly inside `layer`, in order, each once.

    They are those that it lists, and those that it keeps as attributes (`user_attributes`, if they
    are known already), also in lists and dicts.
    """
    found: dict[int, Any] = {}
    types = _layer_types()

    def collect(value: Any, depth: int) -> None:
        if isinstance(value, types):
            found.setdefault(id(value), value)
        elif depth and isinstance(value, (dict, list, tuple)):
            for item in list(value.values() if isinstance(value, dict) else value):
                collect(item, depth - 1)

    if is_model(layer):
        collect(list(layer.layers), 1)
    for value in (user_attributes(layer) if attributes is None else attributes).values():
        if type(value) not in _PLAIN:
            collect(value, 2)
    found.pop(id(layer), None)
    return list(found.values())


def walk(layer: Any) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Yield `layer` and every layer inside it, each once, parents first, with its attributes."""
    seen = {id(layer)}
    waiting = [layer]
    while waiting:
        current = waiting.pop()
        attributes = user_attributes(current)
        yield current, attributes
        inner = [child for child in children(current, attributes) if id(child) not in seen]
        seen.update(map(id, inner))
        waiting.extend(reversed(inner))


def all_layers(layer: Any) -> Iterator[Any]:
    """Yield `layer` and every layer inside it, at any depth, each once, parents first."""
    return (inner for inner, _ in walk(layer))


def is_built(layer: Any) -> bool:
    """Tell whether a layer has its variables."""
    return bool(layer.built)


def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
    """Run a layer for inference. Both Kerases drop `training` where a `call` does not take it."""
    return layer(*args, training=False, **kwargs)


def inputs_of(layer: Any) -> ModelInputs | None:
    """Return what a model says about its inputs, or ``None`` if it says nothing.

    A subclassed model that was called once knows the shapes of that call, of which only the ranks
    are taken.
    """
    tensors = _attribute(layer, "inputs")
    if tensors:
        names = getattr(layer, "input_names", None) or ()
        if len(names) != len(tensors):
            names = [tensor.name for tensor in tensors]
        specs = tuple(
            InputSpec(name, tuple(tensor.shape), tf.as_dtype(tensor.dtype))
            for name, tensor in zip(names, tensors, strict=True)
        )
        positions = {id(tensor): position for position, tensor in enumerate(tensors)}
        structure = _attribute(layer, "input")
        if structure is None:
            structure = tensors[0] if len(tensors) == 1 else list(tensors)
        with contextlib.suppress(KeyError):  # an `input` of other tensors than `inputs`
            skeleton = tf.nest.map_structure(lambda tensor: positions[id(tensor)], structure)
            return ModelInputs(specs, skeleton, _fixed_batch(layer, specs))
        return None
    with contextlib.suppress(Exception):  # a user's own `get_build_config` may do anything
        shape = layer.get_build_config()["input_shape"]
        ranks = _ranks(shape)
        named = [("inputs", ranks)]
        if isinstance(ranks, dict):
            named = [(str(key), ranks[key]) for key in sorted(ranks)]
        elif not isinstance(ranks, int):
            named = [(f"inputs[{index}]", rank) for index, rank in enumerate(ranks)]
        if all(isinstance(rank, int) for _, rank in named):
            specs = tuple(InputSpec(name, (None,) * rank, None) for name, rank in named)
            return ModelInputs(specs, skeleton_of(ranks), None)
    return None


def _ranks(shape: Any) -> Any:
    """Return the rank of a shape, or of each shape in a structure of them."""
    if isinstance(shape, dict):
        return {key: _ranks(part) for key, part in shape.items()}
    if all(size is None or isinstance(size, int) for size in shape):
        return len(shape)
    return type(shape)(map(_ranks, shape))


def _attribute(layer: Any, name: str) -> Any:
    """Return an attribute that a model may not have yet: Keras raises different errors then."""
    try:
        return getattr(layer, name)
    except (AttributeError, ValueError):
        return None


def _fixed_batch(layer: Any, specs: tuple[InputSpec, ...]) -> int | None:
    sizes = {spec.shape[0] for spec in specs if spec.shape}
    size = sizes.pop() if len(sizes) == 1 else None
    if size is None or not any(isinstance(layer, keras.Sequential) for keras in _kerases()):
        return size
    # A Sequential model without an input layer remembers the size of its first batch as if it could
    # take no other.
    stateful = any(getattr(inner, "stateful", False) for inner in all_layers(layer))
    return size if stateful else None


def output_names(layer: Any) -> list[str]:
    """Return the names of a model's outputs in order; empty if it does not name them."""
    return list(_attribute(layer, "output_names") or [])


def computes_in_float16(layer: Any) -> bool:
    """Tell whether any part of a model computes in float16, where small gradients underflow."""
    return any(policy(inner)[0] == "float16" for inner in all_layers(layer))


def channel_axis(layer: Any, default: int = -1) -> int:
    """Return the channel axis of the first inner layer with a data format, or the default."""
    for inner in all_layers(layer):
        data_format = getattr(inner, "data_format", None)
        if data_format is not None:
            return 1 if data_format == "channels_first" else -1
    return default


def is_composite_rectifier(layer: Any) -> bool:
    """Tell whether a layer is one rectifier that it computes by several ops."""
    layers = getattr(_keras_of(layer), "layers", None)
    if layers is None:
        return False
    try:
        if isinstance(layer, layers.ELU):
            return float(layer.alpha) != 1.0
        return isinstance(layer, layers.PReLU) or (
            isinstance(layer, layers.ReLU) and _has_several_parts(layer)
        )
    except AttributeError:  # settings under other names: as one unit it is right in any case
        return True


def _has_several_parts(relu: Any) -> bool:
    maximum = None if relu.max_value is None else float(relu.max_value)
    with_slope = float(relu.negative_slope or 0.0) != 0.0 and maximum is not None
    return maximum not in (None, 6.0) or with_slope or float(relu.threshold or 0.0) != 0.0


def accepts_training(function: Any) -> bool:
    """Tell whether a callable has a parameter named `training`."""
    try:
        return "training" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


@contextlib.contextmanager
def losses_kept(layers: list[Any]) -> Iterator[None]:
    """Give every layer back the losses that it held before it was traced.

    A layer with an activity regulariser appends to them at each call; what a trace leaves there
    would be symbolic tensors that nobody can read. They are looked for in every list that Keras
    keeps, whatever name a version gives it.
    """
    # Copied item by item: what is restored is the content, in the object that Keras uses then.
    saved = [
        (layer, name, list(held))
        for layer in layers
        for name in _LOSSES.union(_own_lists(layer))
        if isinstance(held := getattr(layer, name, None), (list, set))
    ]
    try:
        yield
    finally:
        for layer, name, items in saved:
            record: Any = getattr(layer, name, ())
            before = set(map(id, items))
            added = [item for item in record if id(item) not in before]
            changed = len(record) != len(items) or added
            if changed and (name in _LOSSES or any(map(is_symbolic, added))):
                record.clear()
                record.update(items) if isinstance(record, set) else record.extend(items)


def _own_lists(layer: Any) -> list[str]:
    keras = _keras_of(layer)
    own = _own_names(keras) if keras is not None else frozenset()
    return [name for name, value in vars(layer).items() if name in own and isinstance(value, list)]


def name_of_call(layer: Any) -> str:
    """Return the name of the method that a layer is run by: of a quantised one it is another."""
    is_quantised = getattr(layer, "quantization_mode", None) is not None
    return "quantized_call" if is_quantised and hasattr(layer, "quantized_call") else "call"


def only_infers_shapes() -> bool:
    """Tell whether tf-keras calls layers only to learn the shapes of what they return.

    It does so in graphs of their own, also while a Sequential model that was not built from an
    input layer meets an input of another shape.
    """
    return getattr(tf.compat.v1.get_default_graph(), "name", "").endswith("_scratch_graph")


def mask_of(value: Any) -> Any:
    """Return the mask that a tensor carries from the layer that made it, or ``None``."""
    return getattr(value, "_keras_mask", None)


def input_of_layer(model: Any, layer: Any) -> int | None:
    """Return which of a model's inputs an input layer is; ``None`` of another layer."""
    if type(layer).__name__ != "InputLayer":
        return None
    output, tensors = _attribute(layer, "output"), _attribute(model, "inputs") or []
    return next((number for number, tensor in enumerate(tensors) if tensor is output), None)


def is_symbolic(value: Any) -> bool:
    """Tell whether a value is a tensor of a graph, which has no numbers."""
    return isinstance(value, tf.Tensor) and not hasattr(value, "numpy")


def progress_bar(total: int | None) -> Any:
    """Return Keras's own progress bar for `total` samples (``None``: unknown), if it has one."""
    kerases = _kerases()
    keras = kerases[0] if kerases else tf.keras
    try:
        return keras.utils.Progbar(total, unit_name="sample")
    except (AttributeError, TypeError):
        return None


def end_progress_bar(bar: Any, total: int) -> None:
    """End the line of a progress bar after `total` samples, where it did not expect so many."""
    if bar.target != total:
        bar.target = total
        bar.update(total, finalize=True)


def is_embedding(layer: Any) -> bool:
    """Tell whether a layer is an embedding of Keras, or one derived from it."""
    embedding = getattr(getattr(_keras_of(layer), "layers", None), "Embedding", None)
    return embedding is not None and isinstance(layer, embedding)


def is_batch_normalization(layer: Any) -> bool:
    """Tell whether a layer is Keras's own batch normalisation, as it comes."""
    return is_own(layer, "BatchNormalization")


def own_activation(layer: Any, names: Iterable[str]) -> str | None:
    """Return which of Keras's activations of these names a layer of Keras's own has, if any."""
    if "activation" not in vars(layer) or not is_own(layer, type(layer).__name__):
        return None
    keras: Any = _keras_of(layer)
    for name in names:
        with contextlib.suppress(AttributeError, ValueError):
            if layer.activation is keras.activations.get(name):
                return name
    return None


def is_average_of_image(layer: Any) -> bool:
    """Tell whether a layer is Keras's own global average pooling of images."""
    settings = hasattr(layer, "data_format") and hasattr(layer, "keepdims")
    return settings and is_own(layer, "GlobalAveragePooling2D")


def is_own_lstm(layer: Any) -> bool:
    """Tell whether a layer is Keras's own LSTM, of Keras's own cell, with its usual functions."""
    keras: Any = _keras_of(layer)
    if not is_own(layer, "LSTM"):
        return False
    try:
        cell, get = layer.cell, keras.activations.get
        usual = cell.activation is get("tanh") and cell.recurrent_activation is get("sigmoid")
        more = layer.stateful or layer.return_state or layer.unroll
        return usual and is_own(cell, "LSTMCell") and not more
    except (AttributeError, ValueError):
        return False


def is_own(layer: Any, name: str) -> bool:
    """Tell whether a layer is of Keras's own class of that name, and of no subclass of it."""
    own = getattr(getattr(_keras_of(layer), "layers", None), name, None)
    return own is not None and type(layer) is own and "call" not in vars(layer)


def inputs_of_call(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the inputs that a layer's `call` is given; ``None`` if they go by another name."""
    return inspect.signature(type(layer).call).bind(layer, *args, **kwargs).arguments.get("inputs")


def variables(model: Any) -> list[Any]:
    """Return the TensorFlow variables of a model of any kind."""
    return [
        getattr(variable, "_value", variable)
        for variable in getattr(model, "variables", None) or ()
    ]
