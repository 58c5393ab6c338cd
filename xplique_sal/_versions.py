"""Which versions of everything there are here, and which were tried."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import platform
import re
import sys
from pathlib import Path
from typing import NamedTuple

#: What ``make matrix-update`` found; the table of the documentation is made of the same.
_TRIED = Path(__file__).with_name("tried.json")


class Tried(NamedTuple):
    """A combination of versions, and what came of it.

    Attributes
    ----------
    row
        Its name.
    versions
        Of Python and of each package.
    passed, of
        How many tests of the matrix passed, of how many.
    date
        When, as ``YYYY-MM-DD``.
    """

    row: str
    versions: dict[str, str]
    passed: int
    of: int
    date: str


@dataclasses.dataclass(frozen=True)
class Versions:
    """What `versions` returns."""

    package: str
    platform: str
    here: dict[str, str]
    tried: tuple[Tried, ...]

    @property
    def newer(self) -> tuple[str, ...]:
        """The names of what is newer here than in any combination that was tried."""
        return tuple(
            name
            for name, version in self.here.items()
            if all(_numbers(each.versions[name]) < _numbers(version) for each in self.tried)
        )

    @property
    def same(self) -> Tried | None:
        """The combination that was tried and is the one here; ``None`` if there is none."""
        return next((each for each in self.tried if each.versions == self.here), None)

    def __str__(self) -> str:
        lines = [("", "here", "tried")]
        for name, version in self.here.items():
            all_tried = sorted((each.versions[name] for each in self.tried), key=_numbers)
            lines.append((name, version, f"{all_tried[0]} to {all_tried[-1]}"))
        table = [f"{name:<12}{here:<12}{tried}" for name, here, tried in lines]
        same, newer = self.same, self.newer
        if same is not None:
            told = f"These were tried together on {same.date}: {same.passed} of {same.of} passed."
        elif newer:
            told = f"Newer than any that was tried: {', '.join(newer)}."
        else:
            told = "These very versions were not tried together."
        return "\n".join((f"xplique_sal {self.package} on {self.platform}", *table, told))


def versions() -> Versions:
    """Return which versions there are here and which were tried: what a bug report needs.

    No version is refused for being newer than what was tried.

    Returns
    -------
    Versions
        Printed, it is a small table. Its attributes are ``package`` (the version of this one),
        ``platform``, ``here`` (a version for each name), ``tried`` (combinations, each with its
        ``row``, ``versions``, ``date``, and how many tests ``passed`` ``of`` how many), ``newer``
        (the names of what is newer here than any that was tried) and ``same`` (the combination
        that is the one here, or ``None``).

    Examples
    --------
    >>> import xplique_sal
    >>> print(xplique_sal.versions())  # doctest: +SKIP
    xplique_sal 0.1.0 on Linux-6.8.0-x86_64-with-glibc2.39
                here        tried
    python      3.11.7      3.10.13 to 3.13.0
    tensorflow  2.21.0      2.16.1 to 2.21.0
    tf-keras    2.21.0      2.16.0 to 2.21.0
    keras       3.15.1      3.0.5 to 3.15.1
    numpy       2.4.6       1.26.0 to 2.4.6
    These were tried together on 2026-11-25: 86 of 86 passed.
    """
    tried = tuple(Tried(**row) for row in json.loads(_TRIED.read_text("utf-8")))
    return Versions(
        package=sys.modules[__package__].__version__,
        platform=platform.platform(),
        here={name: _version(name) for name in tried[0].versions},
        tried=tried,
    )


def _version(name: str) -> str:
    """Return the version of Python or of a package, which may come under another name of pip's."""
    if name == "python":
        return platform.python_version()
    loaded = sys.modules.get(name.replace("-", "_"))
    try:
        return getattr(loaded, "__version__", None) or importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not found"


def _numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a release, for comparisons: ``"2.22.0rc1"`` is 2, 22, 0."""
    release = re.match(r"[\d.]*", version)
    return tuple(int(part) for part in re.findall(r"\d+", release[0] if release else ""))
