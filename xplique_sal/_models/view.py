"""f(x): what is explained of a model. It is traced through, never changed or cloned."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from xplique_sal._data.arrange import arrange
from xplique_sal._data.structures import ModelInputs, Skeleton, Structure, pack
from xplique_sal._models.black_box import PlainFunction
from xplique_sal._models.cheaper import equivalents
from xplique_sal._models.invoke import check_model, invoke, is_differentiable
from xplique_sal._models.layer_calls import choose_output, one_call, one_tensor, positions_wanted
from xplique_sal._models.rules import rectifiers
from xplique_sal._models.rules.rewiring import Rewirer, Rewiring
from xplique_sal._tracing import keras_compat, layer_paths, programs, wrapping
from xplique_sal._tracing.graphs import before_final_activation, final_activation
from xplique_sal._tracing.layer_paths import LayerCall
from xplique_sal.errors import (
    InvalidOperatorError,
    InvalidParameterError,
)

_HALF = (tf.float16, tf.bfloat16)


class ModelView:
    """The function f of a model: from a batch to what is explained of it.

    Parameters
    ----------
    model
        A model of either Keras, a `tf.Module`, or a loaded SavedModel.
    output_layer
        What is explained: see `layer_paths.find`; ``None`` is the model's output.
    output
        Which of several outputs, by index, name or dict key.
    logits
        Take the value before a final softmax, sigmoid or log-softmax.
    wrt_layer
        A layer, or a list of layers, whose outputs are differentiated to instead of the inputs.
    backprop_modifier
        A rule for the gradient of rectifiers.
    fold_batch_norm
        Compute batch normalisation inside the convolution before it.
    """

    def __init__(
        self,
        model: Any,
        *,
        output_layer: int | str | None = None,
        output: int | str | None = None,
        logits: bool = False,
        wrt_layer: int | str | Sequence[int | str] | None = None,
        backprop_modifier: Any = None,
        fold_batch_norm: bool = True,
    ) -> None:
        check_model(model)
        if isinstance(output, bool) or not isinstance(output, (int, str, type(None))):
            raise InvalidParameterError(
                "`output` as an index, a name or a dict key",
                repr(output),
                "Pass an int, a string or None.",
            )
        self.model = model
        self.output_layer = output_layer
        self.output = output
        self.logits = bool(logits)
        self.wrt_layer = wrt_layer
        self.rule = rectifiers.resolve(backprop_modifier)
        self.fold_batch_norm = bool(fold_batch_norm)
        # Raises now if the layers are there to be looked up, else when the model has been built.
        if self.is_built:
            self.chosen_layers()

    def arrangement_of_maps(self, for_user: Skeleton) -> Skeleton:
        """Return how maps are packed: as the inputs, or as the layers of `wrt_layer`."""
        if self.wrt_layer is None:
            return for_user
        if isinstance(self.wrt_layer, (list, tuple)):
            return list(range(len(self.wrt_layer)))
        return 0

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells this view of a model from others, for as long as its structure is the same.

        Layers are told apart by identity: names and indices can mean the same one.
        """
        explained, wrt = self.chosen_layers()
        calls = tuple((id(call.layer), call.call) for call in wrt)
        layer = None if explained is None else (id(explained.layer), explained.call)
        rule = None
        if self.rule is not None:
            rule = programs.Held(getattr(self.rule, "function", self.rule))
        return (layer, calls, self.output, self.logits, self.fold_batch_norm, rule)

    @property
    def inputs(self) -> ModelInputs | None:
        """What the model says about its inputs."""
        return keras_compat.inputs_of(self.model) if self._is_keras else None

    @property
    def computes_in_float16(self) -> bool:
        """Whether small gradients may underflow."""
        return self._is_keras and keras_compat.computes_in_float16(self.model)

    @property
    def channel_axis(self) -> int:
        """The channel axis of the model's images."""
        return keras_compat.channel_axis(self.model) if self._is_keras else -1

    @property
    def _is_keras(self) -> bool:
        return keras_compat.is_layer(self.model)

    def names_of_sources(self, count: int) -> list[str]:
        """Return what each thing that is differentiated to is called."""
        if self.wrt_layer is not None:
            return [f"the layer {call.path!r}" for call in self.chosen_layers()[1]]
        inputs = self.inputs
        if inputs is not None and len(inputs.specs) == count:
            return [f"the input {spec.name!r}" for spec in inputs.specs]
        return ["the input"] if count == 1 else [f"the input {i}" for i in range(count)]

    @property
    def is_built(self) -> bool:
        """Whether the model has its variables."""
        return not self._is_keras or keras_compat.is_built(self.model)

    def build(self, sample: Sequence[Any], skeleton: Skeleton) -> None:
        """Give a model that was never called its variables, as its owner's first call would."""
        with wrapping.TRACING:
            if not self.is_built:
                tensors = [self.cast(position, value) for position, value in enumerate(sample)]
                keras_compat.call(self.model, pack(skeleton, tensors))
        self.chosen_layers()

    def chosen_layers(self) -> tuple[LayerCall | None, list[LayerCall]]:
        """Return the layer that is explained and those that are differentiated to."""
        paths: Any = [] if self.wrt_layer is None else self.wrt_layer
        if not isinstance(paths, (list, tuple)):
            paths = [paths]
        elif self.wrt_layer is not None and not paths:
            raise InvalidParameterError(
                "at least one layer in `wrt_layer`",
                "an empty list",
                "Pass None to differentiate with respect to the inputs.",
            )
        wrt = [layer_paths.find(self.model, path) for path in paths]
        explained = self.output_layer
        return (None if explained is None else layer_paths.find(self.model, explained)), wrt

    def cast(self, position: int, value: Any) -> tf.Tensor:
        """Return an input as a tensor of the dtype that the model takes there.

        Where the model does not say, floats take the dtype of its variables, integers of rank 4
        and more are images and become floats, and others may be tokens and stay.
        """
        tensor = tf.convert_to_tensor(value)
        inputs = self.inputs
        dtype = inputs.specs[position].dtype if inputs and position < len(inputs.specs) else None
        if dtype is None:
            numeric = tensor.dtype.is_floating or (
                (tensor.dtype.is_integer or tensor.dtype.is_bool) and tensor.shape.rank > 3
            )
            dtype = self._variable_dtype() if numeric else tensor.dtype
        if tensor.dtype == dtype or tf.string in (dtype, tensor.dtype):
            return tensor
        return tf.cast(tensor, dtype)

    def _variable_dtype(self) -> tf.DType:
        if self._is_keras:
            return tf.as_dtype(keras_compat.policy(self.model)[1])
        for variable in getattr(self.model, "variables", ()):
            if variable.dtype.is_floating:
                return variable.dtype
        return tf.float32

    def __call__(self, inputs: Structure) -> tf.Tensor:
        """Return f(x), differentiable, for a batch; the gradient follows the backprop modifier."""
        if not tf.executing_eagerly():
            return TracedModel(self)(inputs)
        flat, for_model, for_user = arrange(inputs, self.inputs)
        flat = [tf.convert_to_tensor(value) for value in flat]
        if not self.is_built:
            self.build(flat, for_model)

        def forward(*tensors: tf.Tensor) -> tuple[tf.Tensor, Any]:
            return (f := TracedModel(self))(pack(for_user, tensors)), f.output_shape

        request = ("forward", *self.key, for_user)
        program, size = programs.of_batches(
            lambda size: programs.program(self.model, request, forward, _batch_of(size, flat)),
            None,
            len(flat[0]),
        )
        if self.rule is None:
            return program(*flat)

        def backward(*tensors: tf.Tensor) -> tuple[list[tf.Tensor], None]:
            *sources, upstream = tensors
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(sources)
                output = (f := TracedModel(self))(pack(for_user, sources))
            with f.backward(sources, output):
                gradients = tape.gradient(
                    output, sources, upstream, unconnected_gradients=tf.UnconnectedGradients.ZERO
                )
            return gradients, None

        @tf.custom_gradient
        def ruled(*tensors: tf.Tensor) -> Any:
            output = program(*tensors)
            upstream = tf.TensorSpec([size, *program.facts[1:]], output.dtype)
            wanted = [*_batch_of(size, flat), upstream]
            request = ("backward", *self.key, for_user)
            compiled = programs.program(self.model, request, backward, wanted)

            def gradients(upstream: tf.Tensor, variables: Any = ()) -> Any:
                inputs = compiled(*tensors, upstream)
                # The rule is for the inputs: with it, the weights have no meaningful gradient.
                return (inputs, [None] * len(variables)) if variables else inputs

            return output, gradients

        return ruled(*flat)


def _batch_of(size: int | None, tensors: Sequence[tf.Tensor]) -> list[tf.TensorSpec]:
    return [tf.TensorSpec([size, *tensor.shape[1:]], tensor.dtype) for tensor in tensors]


class TracedModel:
    """f during one trace: what an operator calls, and a record of what it did.

    Parameters
    ----------
    view
        What is explained of which model.
    tape
        Watches the outputs of the view's `wrt_layer`.
    at
        Called with the position and the output of each of them: what it returns takes its place.

    Attributes
    ----------
    wrt
        The tensors that were watched, in the order of `wrt_layer`.
    unmoved
        What they were before `at`, by position.
    explained
        The last f(x), in the precision of the model.
    rewirer
        The view's backprop modifier at work, if it has one.
    activation
        The type of the final activation that made it, if any, and if it is not left out.
    channel_axis
        The channel axis of f(x), where it has positions.
    """

    def __init__(
        self,
        view: ModelView,
        tape: tf.GradientTape | None = None,
        at: Callable[[int, tf.Tensor], tf.Tensor] | None = None,
    ) -> None:
        self.view = view
        self._tape = tape
        self._at = at
        self.unmoved: dict[int, tf.Tensor] = {}
        self._explained, self._wrt_calls = view.chosen_layers()
        self.rewirer = Rewirer(view.rule) if view.rule is not None else None
        self._graph: Any = None
        self.wrt: list[tf.Tensor] = []
        self.explained: tf.Tensor | None = None
        self.activation: str | None = None
        own = getattr(self._explained.layer, "data_format", None) if self._explained else None
        self.channel_axis = (
            view.channel_axis if own is None else 1 if own == "channels_first" else -1
        )

    @tf.autograph.experimental.do_not_convert
    def __call__(self, inputs: Structure) -> tf.Tensor:
        """Return f(x) in the current graph."""
        output, calls = self._run(inputs, [self._explained.layer] if self._explained else [])
        if self._explained is not None:
            output = one_call(self._explained, calls, self._graph)
        names = keras_compat.output_names(self.view.model) if self._explained is None else []
        output = choose_output(output, self.view.output, names)
        if self.view.logits:
            output = before_final_activation(output)
        else:
            self.activation = final_activation(output)
        self.explained = output
        return tf.cast(output, tf.float32) if output.dtype in _HALF else output

    @tf.autograph.experimental.do_not_convert
    def layers(self, inputs: Structure) -> Callable[[Any], tf.Tensor]:
        """Run the model once, and return a function from a layer's path to its output."""
        model = self.view.model
        inner = list(keras_compat.all_layers(model))[1:] if keras_compat.is_layer(model) else []
        _, calls = self._run(inputs, inner)
        graph = self._graph

        def output_of(path: Any) -> tf.Tensor:
            output = one_call(layer_paths.find(model, path), calls, graph)
            return tf.cast(output, tf.float32) if output.dtype in _HALF else output

        return output_of

    def _run(self, inputs: Structure, layers: list[Any]) -> tuple[Any, dict[int, list[Any]]]:
        """Run the model; return its output, and those of each call of `layers` by their id."""
        self._graph = tf.compat.v1.get_default_graph()
        model = self.view.model
        given, for_model, _ = arrange(inputs, self.view.inputs)
        flat = [self.view.cast(position, value) for position, value in enumerate(given)]
        calls: dict[int, list[Any]] = {}

        def see(layer: Any, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
            output = original(*args, **kwargs)
            number = len(calls.setdefault(id(layer), []))
            wanted = positions_wanted(self._wrt_calls, layer, number)
            if self._tape is not None and wanted:
                output = self._watch(output, wanted)
            calls[id(layer)].append(output)
            return output

        seen = [*layers, *(call.layer for call in self._wrt_calls)]
        unique = list({id(layer): layer for layer in seen}.values())
        rewired = contextlib.nullcontext() if self.rewirer is None else self.rewirer.forward(model)
        with (
            wrapping.TRACING,
            rewired,
            equivalents.replacing_layers(model, self.view.fold_batch_norm, self._tape is not None),
            wrapping.calls_passed_through(unique, see),
        ):
            output = invoke(model, pack(for_model, flat))
        if self._tape is not None and self._wrt_calls:
            if self.wrt:
                raise InvalidOperatorError(
                    "an operator that calls f once when `wrt_layer` is given",
                    "one that calls it several times",
                    "Compute f(x) once and use the result, or differentiate to the inputs.",
                )
            self.wrt = [one_tensor(call, calls, self._graph) for call in self._wrt_calls]
        return output, calls

    @property
    def output_shape(self) -> tf.TensorShape:
        """The static shape of the last f(x)."""
        return tf.TensorShape(None) if self.explained is None else self.explained.shape

    @contextlib.contextmanager
    def backward(self, sources: Sequence[tf.Tensor], scores: tf.Tensor) -> Iterator[None]:
        """Differentiate `scores` to `sources` in this block, under the backprop modifier if any."""
        if self.rewirer is None:
            yield
        else:
            with self.rewirer.backward(sources, scores, self.explained):
                yield

    @property
    def rewiring(self) -> Rewiring | None:
        """What the backprop modifier did, if there is one."""
        return None if self.rewirer is None else self.rewirer.done

    def _watch(self, output: Any, positions: Sequence[int]) -> tf.Tensor:
        if not isinstance(output, tf.Tensor):
            return output  # refused when the model has run: Keras rewrites errors of its layers
        self.unmoved.update(dict.fromkeys(positions, output))
        output = tf.identity(output if self._at is None else self._at(positions[0], output))
        assert self._tape is not None
        self._tape.watch(output)
        return output


def function_of(model: Any) -> ModelView | PlainFunction:
    """Return the function f of any model that can be called."""
    if isinstance(model, (ModelView, PlainFunction)):
        return model
    return ModelView(model) if is_differentiable(model) else PlainFunction(model)
