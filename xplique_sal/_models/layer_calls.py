"""Choosing the call of a layer, and the output, that are meant of those that a model made."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from xplique_sal._data.structures import leaves
from xplique_sal._tracing.layer_paths import LayerCall
from xplique_sal.errors import InvalidModelError, InvalidParameterError, LayerNotFoundError


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


def positions_wanted(calls: list[LayerCall], layer: Any, number: int) -> list[int]:
    """Return which of `calls` are the one of `layer` with that number."""
    return [
        position
        for position, call in enumerate(calls)
        if call.layer is layer and call.call in (None, number)
    ]


def choose_output(outputs: Any, choice: int | str | None, names: list[str]) -> tf.Tensor:
    """Return one of what a model (or layer) returns.

    Parameters
    ----------
    outputs
        A tensor, or a list, tuple or dict of them.
    choice
        An index, a name or a key; ``None`` where there is nothing to choose.
    names
        The names of the outputs of a list, where they have any.

    Raises
    ------
    InvalidModelError
        If there are several and none is chosen, or what is chosen is no tensor.
    InvalidParameterError
        If there is no such output.
    """
    if isinstance(outputs, tf.Tensor):
        if choice not in (None, 0, -1) and choice not in names:
            raise InvalidParameterError(
                "no `output`, because what is explained is one tensor",
                repr(choice),
                "Leave `output` out.",
            )
        return outputs
    if isinstance(outputs, dict):
        names = list(outputs)
        flat = list(outputs.values())
    elif isinstance(outputs, (list, tuple)):
        flat = list(outputs)
    else:
        raise InvalidModelError(
            "a model that returns tensors",
            f"one that returns a {type(outputs).__name__}",
            "Wrap it in a model that returns one tensor, or choose an `output_layer`.",
        )
    if len(flat) == 1 and choice is None:
        choice = 0
    if isinstance(choice, int) and -len(flat) <= choice < len(flat):
        chosen = flat[choice]
    elif choice in names:
        chosen = flat[names.index(choice)]
    else:
        offered = ", ".join(map(repr, names)) or f"0 to {len(flat) - 1}"
        error = InvalidModelError if choice is None else InvalidParameterError
        raise error(
            f"one of the {len(flat)} outputs to be chosen",
            "none" if choice is None else repr(choice),
            f"Pass `output=`, one of {offered}.",
        )
    if not isinstance(chosen, tf.Tensor):
        raise InvalidModelError(
            "an output that is one tensor",
            f"a {type(chosen).__name__}",
            "Choose an `output_layer`, or wrap the model in one that returns that tensor.",
        )
    return chosen
