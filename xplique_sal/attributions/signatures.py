"""What a subclass takes from its base: a signature with other defaults, and documentation."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any


def with_defaults(init: Callable[..., None], defaults: Mapping[str, Any]) -> Callable[..., None]:
    """Return `init` with other defaults, which its signature shows."""
    signature = inspect.signature(init)
    signature = signature.replace(
        parameters=[
            parameter.replace(default=defaults.get(name, parameter.default))
            for name, parameter in signature.parameters.items()
        ]
    )

    @functools.wraps(init)
    def __init__(*args: Any, **kwargs: Any) -> None:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        init(*bound.args, **bound.kwargs)

    __init__.__signature__ = signature  # type: ignore[attr-defined]
    return __init__


def with_all_options(cls: type) -> None:
    """Show, in the signature of a class, what its ``**options`` are: the base's options.

    They are what the base takes by keyword only, and reach it as they are.
    """
    init: Any = vars(cls)["__init__"]
    signature = inspect.signature(init)
    own = list(signature.parameters.values())
    if not own or own[-1].kind is not inspect.Parameter.VAR_KEYWORD:
        return
    base: Any = cls.__mro__[1]
    options = [
        parameter
        for parameter in inspect.signature(base.__init__).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        and parameter.name not in signature.parameters
    ]
    init.__signature__ = signature.replace(parameters=[*own[:-1], *options])


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
            parameters = inspect.signature(cls.__init__).parameters  # type: ignore[misc]
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
