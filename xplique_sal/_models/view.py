"""f(x): what is explained of a model. It is traced through, never changed or cloned."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from xplique_sal._data.arrange import arrange
from xplique_sal._data.structures import ModelInputs, Skeleton, Structure, pack
from xplique_sal._models.black_box import PlainFunction
from xplique_sal._models.invoke import (
    check_model,
    inputs_of,
    is_function,
    is_tensorflows,
    needed_values,
    run,
)
from xplique_sal._models.outputs import check_choice
from xplique_sal._models.rules import rectifiers
from xplique_sal._models.traced import TracedModel
from xplique_sal._tracing import keras_compat, layer_paths, programs, reached, wrapping
from xplique_sal._tracing.held import weakly_referable
from xplique_sal._tracing.layer_paths import LayerCall
from xplique_sal._tracing.programs import Program, TraceFailed
from xplique_sal.errors import InvalidModelError, InvalidParameterError, XpliqueSalError


class ModelView:
    """The function f of a model: from a batch to what is explained of it.

    Parameters
    ----------
    model
        A model of either Keras, a `tf.Module`, a loaded SavedModel or a signature of it, a
        `tf.function`, or any function of TensorFlow operations.
    output_layer
        What is explained: see `layer_paths.find`; ``None`` is the model's output.
    output
        Which of several outputs, by index, name or dict key.
    logits
        Take the value before a final softmax, sigmoid or log-softmax.
    wrt_layer
        A layer, or a list of layers, whose outputs are differentiated to instead of the inputs.
    backprop_modifier
        A rule for the gradient of rectifiers, or a `RuleSet`.
    fold_batch_norm
        Compute batch normalisation inside the convolution before it.
    takes_all_outputs
        Whether all of several outputs are wanted where none is chosen: an operator of the user's
        own can make one score of them.
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
        takes_all_outputs: bool = False,
    ) -> None:
        check_model(model)
        if not is_tensorflows(model):
            model = weakly_referable(model)
        check_choice(output)
        self.model = model
        self._was_run = False
        self.output_layer = output_layer
        self.output = output
        self.logits = bool(logits)
        self.wrt_layer = wrt_layer
        self.rules = rectifiers.resolve(backprop_modifier)
        self.fold_batch_norm = bool(fold_batch_norm)
        self.takes_all_outputs = takes_all_outputs
        # Raises now if the layers are there to be looked up, else when the model has been built.
        if self.is_built:
            self.chosen_layers()

    def differentiated_to(self, wrt_layer: Any) -> ModelView:
        """Return the view that differs from this one in its `wrt_layer`."""
        other = copy.copy(self)
        other.wrt_layer = wrt_layer
        return other

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
        rules = () if self.rules is None else self.rules.key
        whole = self.takes_all_outputs
        return (layer, calls, self.output, self.logits, self.fold_batch_norm, whole, *rules)

    @property
    def inputs(self) -> ModelInputs | None:
        """What the model says about its inputs."""
        return inputs_of(self.model)

    def inputs_for(self, given: Structure) -> ModelInputs | None:
        """Return what the model says about inputs that may be several arguments of its call."""
        if isinstance(given, tf.data.Dataset):
            given = given.element_spec
            given = given[0] if isinstance(given, tuple) else given
        return inputs_of(self.model, given)

    @property
    def computes_in_float16(self) -> bool:
        """Whether small gradients may underflow."""
        return any(map(keras_compat.computes_in_float16, self._layers))

    @property
    def channel_axis(self) -> int:
        """The channel axis of the model's images."""
        for layer in self._layers:
            axis = keras_compat.channel_axis(layer, 0)
            if axis:
                return axis
        return -1

    @property
    def _layers(self) -> list[Any]:
        """The Keras layers that the model is made of: itself, or those that it holds."""
        return list(reached.layers_in(self.model).values())

    def names_of_sources(self, count: int) -> list[str]:
        """Return what each thing that is differentiated to is called."""
        if self.wrt_layer is not None:
            return [f"the layer {call.path!r}" for call in self.chosen_layers()[1]]
        inputs = self.inputs
        if inputs is not None and len(inputs.specs) == count:
            return [f"the input {spec.name!r}" for spec in inputs.specs]
        return ["the input"] if count == 1 else [f"the input {i}" for i in range(count)]

    @property
    def embeddings(self) -> list[str]:
        """The paths of the embeddings to which a gradient is not asked for yet."""
        if self.wrt_layer is not None:
            return []
        found = filter(keras_compat.is_embedding, reached.all_layers_in(self.model))
        paths = (layer_paths.path_of(self.model, layer) for layer in found)
        return [path for path in paths if path is not None]

    @property
    def is_built(self) -> bool:
        """Whether the model has its variables."""
        return self._was_run or all(map(keras_compat.is_built, self._layers))

    def build(self, sample: Sequence[Any], skeleton: Skeleton) -> None:
        """Give a model that was never called its variables, as its owner's first call would."""
        with wrapping.TRACING:
            if not self.is_built:
                run(self.model, pack(skeleton, self.cast_all(sample)))
                self._was_run = not keras_compat.is_layer(self.model)
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

    def cast_all(self, values: Sequence[Any]) -> list[tf.Tensor]:
        """Return inputs, in the model's order, as tensors of the dtypes that it takes."""
        return [self.cast(position, value) for position, value in enumerate(values)]

    def _variable_dtype(self) -> tf.DType:
        for layer in self._layers:
            return tf.as_dtype(keras_compat.policy(layer)[1])
        for variable in getattr(self.model, "variables", ()):
            if variable.dtype.is_floating:
                return variable.dtype
        return tf.float32

    def compiled(
        self,
        key: tuple[Any, ...],
        build: Callable[..., tuple[Any, Any]],
        specs: Sequence[tf.TensorSpec],
        settings: Sequence[tf.TensorSpec] = (),
        *,
        needed: int | None = None,
        likely: int = 1,
    ) -> tuple[Program, int | None]:
        """Return a compiled function of this view, and the only batch size that it takes, if any.

        The batch size is left open, so that one trace serves them all, unless the model turns out
        to need to know it.

        Parameters
        ----------
        key
            What tells the function from others of the same view; see `programs.compiled`.
        build
            Takes tensors, and returns tensors and facts.
        specs
            Shapes and dtypes of those that have a batch axis, without it.
        settings
            Those of the others, which come after them.
        needed
            The batch size, if it is known to be needed.
        likely
            The one to take if it turns out to be.
        """
        key, size = (*key, *self.key), needed
        while True:
            rows = [tf.TensorSpec([size, *spec.shape], spec.dtype) for spec in specs]
            try:
                return programs.compiled(self.model, key, build, [*rows, *settings]), size
            except Exception as error:
                cause = error.reason if isinstance(error, TraceFailed) else error
                if size is not None or isinstance(cause, XpliqueSalError):
                    raise
            size = likely

    def called(self, error: Exception) -> PlainFunction | None:
        """Return f as a function that is only called, if that may do where tracing failed.

        It does where the model needs the values of its inputs. What is wrong with a function of
        Python is seen when it is called.
        """
        cause = error.reason if isinstance(error, TraceFailed) else error
        is_python = not is_tensorflows(self.model) and not isinstance(cause, tf.errors.OpError)
        if self.output_layer is not None or self.logits:
            return None
        if not (is_python or needed_values(cause)):
            return None
        return PlainFunction(self._run, self.output)

    def _run(self, inputs: Structure) -> Any:
        flat, for_model, _ = arrange(inputs, self.inputs_for(inputs))
        return run(self.model, pack(for_model, self.cast_all(flat)))

    def __call__(self, inputs: Structure) -> tf.Tensor:
        """Return f(x), differentiable, for a batch; the gradient follows the backprop modifier."""
        if not tf.executing_eagerly():
            return TracedModel(self)(inputs)
        flat, for_model, for_user = arrange(inputs, self.inputs_for(inputs))
        flat = [tf.convert_to_tensor(value) for value in flat]
        if not self.is_built:
            self.build(flat, for_model)

        def forward(*tensors: tf.Tensor) -> tuple[tf.Tensor, Any]:
            return (f := TracedModel(self))(pack(for_user, tensors)), f.output_shape

        specs = [tf.TensorSpec(tensor.shape[1:], tensor.dtype) for tensor in flat]
        program, size = self.compiled(("forward", for_user), forward, specs, likely=len(flat[0]))
        if self.rules is None:
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
            upstream = tf.TensorSpec(program.facts[1:], output.dtype)
            compiled, _ = self.compiled(
                ("backward", for_user), backward, [*specs, upstream], needed=size
            )

            def gradients(upstream: tf.Tensor, variables: Any = ()) -> Any:
                inputs = compiled(*tensors, upstream)
                # The rule is for the inputs: with it, the weights have no meaningful gradient.
                return (inputs, [None] * len(variables)) if variables else inputs

            return output, gradients

        return ruled(*flat)


def function_of(
    model: Any,
    *,
    output_layer: int | str | None = None,
    output: int | str | None = None,
    logits: bool = False,
    takes_all_outputs: bool = False,
) -> ModelView | PlainFunction:
    """Return the function f of any model that can be called.

    Raises
    ------
    InvalidModelError
        If it can not, or has no layers or logits of which one is asked for.
    """
    if isinstance(model, (ModelView, PlainFunction)):
        return model
    is_asked_for_more = output_layer is not None or bool(logits)
    if is_tensorflows(model) or (
        is_function(model) and (is_asked_for_more or reached.names_tensorflow(model))
    ):
        return ModelView(
            model,
            output_layer=output_layer,
            output=output,
            logits=logits,
            takes_all_outputs=takes_all_outputs,
        )
    if is_asked_for_more:
        raise InvalidModelError(
            "a model that TensorFlow runs, for `output_layer` or `logits`",
            f"an object of type {type(model).__name__}",
            "Pass a function that returns what is to be explained.",
        )
    return PlainFunction(model, output)
