"""What explainers are made from: their parameters, as documented, shown and copied."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Mapping
from typing import Any

import numpy as np


def parameters_of(cls: type) -> dict[str, inspect.Parameter]:
    """Return what a class is made from, by name.

    Where it takes ``**options``, they are those parameters of its base that it does not name.
    """
    return dict(_parameters_of(cls))


@functools.lru_cache(maxsize=256)
def _parameters_of(cls: type) -> Mapping[str, inspect.Parameter]:
    found: dict[str, inspect.Parameter] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
        kinds = {parameter.kind for parameter in parameters}
        for parameter in parameters:
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                found.setdefault(parameter.name, parameter)
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            break
    return found


def described(cls: type, arguments: Mapping[str, Any]) -> str:
    """Return a call that makes an object like this one, of its model and what is no default."""
    shown = []
    for name, parameter in parameters_of(cls).items():
        is_positional = parameter.kind is not parameter.KEYWORD_ONLY
        if name in arguments and parameter.default is parameter.empty and is_positional:
            shown.append(_brief(arguments[name]))
        elif name in arguments and _differs(arguments[name], parameter.default):
            shown.append(f"{name}={_brief(arguments[name])}")
    return f"{cls.__name__}({', '.join(shown)})"


def _differs(value: Any, default: Any) -> bool:
    if isinstance(value, tuple) and not isinstance(default, tuple):
        return any(_differs(part, default) for part in value)  # one for each axis
    if getattr(value, "shape", ()) != ():
        return True
    return value is not default and not bool(value == default)


def _brief(value: Any) -> str:
    """Return a value on one line: of arrays their shape, of models and functions their name."""
    if getattr(value, "shape", ()) != ():
        return f"<{type(value).__name__} {tuple(value.shape)}>"
    if isinstance(value, (str, bytes, int, float, list, tuple, dict, np.generic, type(None))):
        return repr(value)
    name = getattr(value, "name", getattr(value, "__name__", None))
    return f"<{type(value).__name__}{f' {name!r}' if isinstance(name, str) else ''}>"


def with_inherited_sections(cls: type) -> str:
    """Return a class's docstring with what its bases say of parameters and errors.

    What a parameter means, and which errors it can cause, is written once, in the class that
    introduces it. Parameters come in the order of the signature, with its types and defaults. A
    class without an example has that of its base, with its own name.
    """
    text = inspect.cleandoc(cls.__doc__ or "")
    own = _sections(text)
    inherited = [_sections(inspect.cleandoc(base.__doc__ or "")) for base in cls.__mro__[1:]]
    merged = {}
    for title in ("Parameters", "Raises"):
        entries: dict[str, str] = {}
        for sections in (own, *inherited):
            entries = {**_entries(sections.get(title, "")), **entries}
        if title == "Parameters":
            parameters = parameters_of(cls)
            entries = {
                name: entries[name].replace(name, _heading(parameter), 1)
                for name, parameter in parameters.items()
                if name in entries
            }
        if entries:
            merged[title] = "\n".join((title, "-" * len(title), *entries.values()))
    opening = text[: min((text.index(section) for section in own.values()), default=len(text))]
    rest = [section for title, section in own.items() if title not in merged]
    for base, sections in zip(cls.__mro__[1:], inherited, strict=True):
        if "Examples" in sections and "Examples" not in own:
            rest.append(sections["Examples"].replace(base.__name__, cls.__name__))
            break
    return "\n\n".join(part.strip() for part in (opening, *merged.values(), *rest)) + "\n"


def _sections(docstring: str) -> dict[str, str]:
    """Return the sections of a numpydoc docstring with their headings, by title."""
    found = list(re.finditer(r"^([A-Z][a-z ]+)\n-{3,}$", docstring, re.MULTILINE))
    ends = [*(match.start() for match in found), len(docstring)][1:]
    return {
        match.group(1): docstring[match.start() : end].strip()
        for match, end in zip(found, ends, strict=True)
    }


def _entries(section: str) -> dict[str, str]:
    """Return the entries of a section, each a name with its indented text, by name."""
    found = re.finditer(r"^(\S.*?)(?: : .*)?\n((?:[ ]{4}.*\n?|\n)+)", section + "\n", re.MULTILINE)
    return {match.group(1): "\n".join(match.groups()).rstrip() for match in found}


def _heading(parameter: inspect.Parameter) -> str:
    """Return what numpydoc wants to stand above a parameter's text."""
    if parameter.default is parameter.empty:
        return parameter.name
    default = f"default {parameter.default!r}"
    if parameter.annotation is parameter.empty:
        return f"{parameter.name} : {default}"
    return f"{parameter.name} : {parameter.annotation}, {default}"
