"""Explainers by name, with the parameters that a method has and no others."""

from __future__ import annotations

import ast
import difflib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from xplique_sal import attributions
from xplique_sal.attributions.signatures import parameters_of
from xplique_sal.errors import InvalidParameterError

#: How options of the command line are called as parameters.
_PARAMETERS = {"layer": "output_layer", "modifier": "backprop_modifier"}


def method_of(name: str) -> type:
    """Return a method by its name, in any case, also with dashes.

    Raises
    ------
    InvalidParameterError
        If there is none.
    """
    plain = {_plain(known): known for known in attributions.__all__}
    if _plain(name) not in plain:
        near = difflib.get_close_matches(_plain(name), plain, n=3, cutoff=0.4)
        shown = [plain[key] for key in near] or list(attributions.__all__)
        raise InvalidParameterError(
            "the name of a method", repr(name), f"Choose {' or '.join(shown)}: xplique-sal methods."
        )
    found: type = getattr(attributions, plain[_plain(name)])
    return found


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "").replace("+", "p")


def summary(name: str) -> str:
    """Return the first sentence that is said of a method."""
    text = inspect.cleandoc(method_of(name).__doc__ or "")
    return text.split("\n\n")[0].replace("\n", " ").replace("``", "").replace("`", "")


def settings_of(pairs: Sequence[str]) -> dict[str, Any]:
    """Return parameters from texts such as ``"nb_samples=20"``.

    Raises
    ------
    InvalidParameterError
        If one is no such pair.
    """
    found = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign or not name.strip().isidentifier():
            raise InvalidParameterError("--set name=value", repr(pair), "Such as nb_samples=20.")
        try:
            found[name.strip()] = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError):
            found[name.strip()] = text.strip()
    return found


def make(name: str, model: Any, options: Mapping[str, Any]) -> Any:
    """Return an explainer of a model.

    Where a method draws at random, its seed is 0 unless another is set: a run can be repeated.

    Parameters
    ----------
    name
        Of the method.
    model
        What is explained.
    options
        Parameters, and the command line's names of some; what is ``None`` was not given.

    Raises
    ------
    InvalidParameterError
        If the method has no such parameter.
    """
    cls = method_of(name)
    known = parameters_of(cls)
    given = {_PARAMETERS.get(n, n): value for n, value in options.items() if value is not None}
    unknown = given.keys() - known.keys()
    if unknown:
        names = sorted(known.keys() - {"model"})
        raise InvalidParameterError(
            f"a parameter that {cls.__name__} has ({', '.join(names)})",
            ", ".join(sorted(unknown)),
            "Leave it out, or choose another method.",
        )
    if "seed" in known:
        given.setdefault("seed", 0)
    return cls(model, **given)
