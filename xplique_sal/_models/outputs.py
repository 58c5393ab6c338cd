"""Choosing the output that is meant of several."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from xplique_sal.errors import InvalidModelError, InvalidParameterError


def check_choice(output: Any) -> None:
    """Refuse what can not say which output is meant.

    Raises
    ------
    InvalidParameterError
    """
    if isinstance(output, bool) or not isinstance(output, (int, str, type(None))):
        raise InvalidParameterError(
            "`output` as an index, a name or a dict key",
            repr(output),
            "Pass an int, a string or None.",
        )


def is_several(output: Any) -> bool:
    """Tell whether a model returned several outputs."""
    return isinstance(output, (dict, list, tuple)) and len(output) > 1


def choose_output(
    outputs: Any, choice: int | str | None, names: list[str], kinds: tuple[type, ...] = (tf.Tensor,)
) -> Any:
    """Return one of what a model (or layer) returns.

    Parameters
    ----------
    outputs
        A tensor, or a list, tuple or dict of them.
    choice
        An index, a name or a key; ``None`` where there is nothing to choose.
    names
        The names of the outputs of a list, where they have any.
    kinds
        What one output is.

    Raises
    ------
    InvalidModelError
        If there are several and none is chosen, or what is chosen is no tensor.
    InvalidParameterError
        If there is no such output.
    """
    if isinstance(outputs, kinds):
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
    if not isinstance(chosen, kinds):
        raise InvalidModelError(
            "an output that is one tensor",
            f"a {type(chosen).__name__}",
            "Choose an `output_layer`, or wrap the model in one that returns that tensor.",
        )
    return chosen
