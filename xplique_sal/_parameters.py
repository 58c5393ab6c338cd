"""Checks of the parameters that a user passes, and the packages that some of them need."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from xplique_sal.errors import InvalidParameterError


def is_integer(value: Any) -> bool:
    """Tell whether a value is an integer of Python or NumPy; a truth value is none."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Tell whether a value is a real number of Python or NumPy; a truth value is none."""
    return is_integer(value) or isinstance(value, (float, np.floating))


def integer(
    name: str, value: Any, least: int | None = 1, remedy: str = "Pass such an integer."
) -> int:
    """Return a parameter that is an integer of at least `least` and fits in 64 bits.

    Raises
    ------
    InvalidParameterError
    """
    lowest = -(2**63) if least is None else least
    if not is_integer(value) or not lowest <= int(value) < 2**63:
        bound = "" if least is None else f" of at least {least}"
        raise InvalidParameterError(f"`{name}` as an integer{bound}", repr(value), remedy)
    return int(value)


def number(
    name: str,
    value: Any,
    ends: str = "[)",
    low: float = 0,
    high: float = math.inf,
    remedy: str = "Pass such a number.",
) -> float:
    """Return a parameter that is a number in an interval.

    Parameters
    ----------
    name, value
        Of the parameter.
    ends
        Which ends belong to the interval, as mathematics writes it: ``"[)"`` is
        low ≤ value < high.
    low, high
        The ends.
    remedy
        What the user can do about another value.

    Raises
    ------
    InvalidParameterError
    """
    above_low = is_number(value) and (low <= value if ends[0] == "[" else low < value)
    if not above_low or not (value <= high if ends[1] == "]" else value < high):
        raise InvalidParameterError(
            f"`{name}` as {_interval(ends, low, high)}", repr(value), remedy
        )
    return float(value)


def _interval(ends: str, low: float, high: float) -> str:
    """Return the numbers of an interval in words."""
    bounds = []
    if math.isfinite(low):
        bounds.append(f"{'of at least' if ends[0] == '[' else 'above'} {low:g}")
    if math.isfinite(high):
        bounds.append(f"{'at most' if ends[1] == ']' else 'below'} {high:g}")
    kind = "a number" if ends[1] == "]" or math.isfinite(high) else "a finite number"
    return f"{kind} {' and '.join(bounds)}".rstrip()


def one_of(
    name: str, value: Any, choices: Iterable[Any], remedy: str = "Pass one of these."
) -> None:
    """Refuse a parameter that is none of the values that exist.

    Raises
    ------
    InvalidParameterError
    """
    known = list(choices)
    comparable = value is None or isinstance(value, str) or is_integer(value)
    if not comparable or value not in known:
        raise InvalidParameterError(
            f"a `{name}` among {', '.join(map(repr, known))}", repr(value), remedy
        )


def lengths(name: str, value: Any) -> int | tuple[int, ...]:
    """Return a parameter that is a positive integer, or one for each axis.

    Raises
    ------
    InvalidParameterError
    """
    several = isinstance(value, (tuple, list, np.ndarray)) and np.ndim(value) == 1 and len(value)
    for length in value if several else [value]:
        if not (is_integer(length) and length > 0):
            raise InvalidParameterError(
                f"`{name}` of at least 1, or one such integer for each axis",
                repr(value),
                "Pass an integer, or a tuple of them.",
            )
    return tuple(map(int, value)) if several else int(value)


def lengths_for(name: str, value: int | tuple[int, ...], axes: int) -> list[int]:
    """Return what `lengths` returned as one integer for each of so many axes.

    Raises
    ------
    InvalidParameterError
    """
    if isinstance(value, int):
        return [value] * axes
    if len(value) != axes:
        raise InvalidParameterError(
            f"`{name}` with one integer for each of {axes} axes",
            f"{value}",
            "Channels of images and volumes do not count: (W,), (T, W), (H, W) or (D, H, W).",
        )
    return list(value)


def optional(module: str, purpose: str, extra: str) -> Any:
    """Import a module that an extra of this package installs.

    Parameters
    ----------
    module
        Its full name.
    purpose
        What needs it, with the verb: "Plots need".
    extra
        The extra that installs it.

    Raises
    ------
    ImportError
        If it cannot be imported; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0].replace("scipy", "SciPy")
        raise ImportError(
            f"{purpose} {package}, which could not be imported ({error}). "
            f'Install its extra: pip install "xplique-sal[{extra}]"'
        ) from error
