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


def with_inherited_sections(cls: type) -> str:
    """Return a class's docstring with the sections of its bases that it does not have itself.

    What a parameter means, and which errors it can cause, is written once, in the base.
    """
    text = inspect.cleandoc(cls.__doc__ or "")
    for base in cls.__mro__[1:]:
        sections = _sections(inspect.cleandoc(base.__doc__ or ""))
        missing = {
            title: section
            for title, section in sections.items()
            if title in ("Parameters", "Raises") and title not in _sections(text)
        }
        own = [text.index(f"{title}\n---") for title in _sections(text)]
        start = min(own, default=len(text))
        text = "\n\n".join(
            part.strip() for part in (text[:start], *missing.values(), text[start:]) if part.strip()
        )
    return text + "\n"


def _sections(docstring: str) -> dict[str, str]:
    """Return the sections of a numpydoc docstring with their headings, by title."""
    found = list(re.finditer(r"^([A-Z][a-z ]+)\n-{3,}$", docstring, re.MULTILINE))
    ends = [*(match.start() for match in found), len(docstring)][1:]
    return {
        match.group(1): docstring[match.start() : end]
        for match, end in zip(found, ends, strict=True)
    }
