"""f during one trace: what an operator calls, and which of the calls and outputs is meant."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from xplique_sal._data.arrange import arrange
from xplique_sal._data.structures import Structure, leaves, pack
from xplique_sal._models.activation import before_final_activation, final_activation, is_seen_by
from xplique_sal._models.cheaper import equivalents
from xplique_sal._models.frames import outputs_seen
from xplique_sal._models.invoke import call_with_autograph, invoke
from xplique_sal._models.outputs import choose_output, is_several
from xplique_sal._models.rules.rewiring import Rewirer, Rewiring
from xplique_sal._tracing import keras_compat, layer_paths, reached, wrapping
from xplique_sal._tracing.layer_paths import LayerCall
from xplique_sal.errors import (
    InvalidModelError,
    InvalidOperatorError,
    LayerNotFoundError,
)

if TYPE_CHECKING:
    from xplique_sal._models.view import ModelView

_HALF = (tf.float16, tf.bfloat16)


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
    whole_output
        What the model itself returned then, of which `explained` may be a layer inside.
    given
        What it was given then, in its order of inputs.
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
        self.rewirer = Rewirer(view.rules) if view.rules is not None else None
        self._graph: Any = None
        self.wrt: list[tf.Tensor] = []
        self.explained: tf.Tensor | None = None
        self.whole_output: Any = None
        self.given: list[tf.Tensor] = []
        self._batch: int | None = None
        self.activation: str | None = None
        self._outputs: list[tf.Tensor] = []
        own = getattr(self._explained.layer, "data_format", None) if self._explained else None
        self.channel_axis = (
            view.channel_axis if own is None else 1 if own == "channels_first" else -1
        )

    @tf.autograph.experimental.do_not_convert
    def __call__(self, inputs: Structure) -> tf.Tensor:
        """Return f(x) in the current graph."""
        output, calls = self._run(inputs, [self._explained.layer] if self._explained else [])
        self.whole_output = output
        if self._explained is not None:
            output = one_call(self._explained, calls, self._graph)
        if self.view.takes_all_outputs and self.view.output is None and is_several(output):
            return tf.nest.map_structure(self._finished, output)
        names = keras_compat.output_names(self.view.model) if self._explained is None else []
        chosen = choose_output(output, self.view.output, names)
        if self._explained is not None:
            check_batch_axis(self._explained, chosen, self._batch)
        return self._finished(chosen)

    def _finished(self, output: Any) -> Any:
        """Return an output of the model as it is explained."""
        if not isinstance(output, tf.Tensor):
            return output
        if self.view.logits:
            has_layers = bool(reached.layers_in(self.view.model))
            output = before_final_activation(output, has_layers)
        else:
            self.activation = final_activation(output)
            self._outputs.append(output)
        self.explained = output
        if self.view.rules is not None:
            output = self.view.rules.starting(output)
        return tf.cast(output, tf.float32) if output.dtype in _HALF else output

    @tf.autograph.experimental.do_not_convert
    def layers(self, inputs: Structure) -> Callable[[Any], tf.Tensor]:
        """Run the model once, and return a function from a layer's path to its output."""
        model = self.view.model
        inner = [layer for layer in reached.all_layers_in(model) if layer is not model]
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
        given, for_model, _ = arrange(inputs, self.view.inputs_for(inputs))
        flat = self.view.cast_all(given)
        self._batch, self.given = flat[0].shape[0], list(flat)
        calls: dict[int, list[Any]] = {}

        def see(layer: Any, output: Any) -> Any:
            number = len(calls.setdefault(id(layer), []))
            wanted = positions_wanted(self._wrt_calls, layer, number)
            if self._tape is not None and wanted:
                output = self._watch(output, wanted)
            calls[id(layer)].append(output)
            return output

        seen = [*layers, *(call.layer for call in self._wrt_calls)]
        unique = list({id(layer): layer for layer in seen}.values())
        for layer in unique:
            number = keras_compat.input_of_layer(model, layer)
            if number is not None:  # an input layer is not called
                flat[number] = see(layer, flat[number])
        nothing, rewirer = contextlib.nullcontext(), self.rewirer
        rewired = nothing if rewirer is None else rewirer.forward(model)
        noted = nothing if rewirer is None else rewirer.seeing_layers(model)
        rules = self.view.rules
        own_gradients = self._tape is not None and not (rules and rules.needs_every_op)
        with (
            wrapping.TRACING,
            rewired,
            equivalents.replacing_layers(model, self.view.fold_batch_norm, own_gradients),
            noted,
            outputs_seen(model, unique, see),
            # A user's function that was compiled before would hide the layers, and one that is
            # compiled now would keep for good what is done to them here.
            wrapping.functions_inlined(call_with_autograph) if unique else nothing,
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
            for call, tensor in zip(self._wrt_calls, self.wrt, strict=True):
                check_batch_axis(call, tensor, self._batch)
        return output, calls

    def activation_of(self, scores: tf.Tensor) -> str | None:
        """Return the type of the final activation, if `scores` depend on what it makes itself."""
        seen = any(is_seen_by(scores, output) for output in self._outputs)
        return self.activation if seen else None

    @property
    def output_shape(self) -> tf.TensorShape:
        """The static shape of the last f(x)."""
        return tf.TensorShape(None) if self.explained is None else self.explained.shape

    def scoring(self) -> contextlib.AbstractContextManager[None]:
        """Run an operator in this block."""
        return contextlib.nullcontext() if self.rewirer is None else self.rewirer.scoring()

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


def one_call(wanted: LayerCall, calls: dict[int, list[Any]], graph: Any) -> Any:
    """Return the output of the call of a layer that is wanted.

    Parameters
    ----------
    wanted
        The layer, and which of its calls.
    calls
        The outputs of the calls of each layer, by its id.
    graph
        The graph in which the model ran.

    Raises
    ------
    InvalidModelError
        If the layer was not called, was called in another graph, or several times and none of
        them was chosen.
    LayerNotFoundError
        If it was not called so often.
    """
    path = wanted.path
    outputs = calls.get(id(wanted.layer), [])
    if not outputs:
        raise InvalidModelError(
            f"the layer {path!r} to be called when the model runs",
            "a model that does not call it, or calls it where it cannot be seen",
            "Choose another layer. An input layer is not called; a function that TensorFlow "
            "compiled before hides the layers inside it.",
        )
    if any(part.graph is not graph for part in leaves(outputs) if hasattr(part, "graph")):
        raise InvalidModelError(
            f"the layer {path!r} to be called in the model's own graph",
            "a call inside a loop, a branch or a compiled function",
            "Choose the layer that contains the loop.",
        )
    if wanted.call is None and len(outputs) > 1:
        raise InvalidModelError(
            f"the layer {path!r} to be called once",
            f"{len(outputs)} calls",
            f"Choose one of them: {path + ':0'!r} to {path + f':{len(outputs) - 1}'!r}.",
        )
    number = wanted.call or 0
    if number >= len(outputs):
        raise LayerNotFoundError(
            f"a call of {path!r} between 0 and {len(outputs) - 1}",
            f"{number}",
            f"Choose one of {path + ':0'!r} to {path + f':{len(outputs) - 1}'!r}.",
        )
    return outputs[number]


def one_tensor(wanted: LayerCall, calls: dict[int, list[Any]], graph: Any) -> tf.Tensor:
    """Return the output of the call that is wanted, which must be one tensor."""
    output = one_call(wanted, calls, graph)
    if not isinstance(output, tf.Tensor):
        raise InvalidModelError(
            "a `wrt_layer` that returns one tensor",
            f"{wanted.path!r}, which returns a {type(output).__name__}",
            "Name a layer before or after it.",
        )
    return output


def check_batch_axis(wanted: LayerCall, output: Any, batch: int | None) -> None:
    """Refuse the output of an inner layer that has no row for each of `batch` samples.

    Where the batch is open (``None``), an axis of a length that is known is another one, also
    where there happen to be as many samples.
    """
    shape = getattr(output, "shape", None)
    if not isinstance(shape, tf.TensorShape) or shape.rank is None:
        return
    if shape.rank > 0 and shape[0] in (None, batch):
        return
    raise InvalidModelError(
        "an inner layer with one row for each sample",
        f"{wanted.path!r}, which returns the shape {shape} for "
        + ("any number of samples" if batch is None else f"{batch} samples"),
        "Name a layer before or after it.",
    )


def positions_wanted(calls: list[LayerCall], layer: Any, number: int) -> list[int]:
    """Return which of `calls` are the one of `layer` with that number."""
    return [
        position
        for position, call in enumerate(calls)
        if call.layer is layer and call.call in (None, number)
    ]
