"""Folders of results: which inputs are done, and how a run goes on where it was stopped.

A folder holds ``settings.json`` (what was asked), ``manifest.jsonl`` (one line for each input) and
a file for each result. A line of the manifest says that a result is there: files are written under
another name first, then the lines of all of them are appended at once, and then each file gets its
name. Whatever stops a process between these steps, the next one finds each result whole, and with
its line, or not at all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from xplique_sal.errors import InvalidParameterError

SETTINGS, MANIFEST, NOTES = "settings.json", "manifest.jsonl", "notes.json"
OK, ERROR = "ok", "error"

#: How files are called that have not got their name yet: half-written, and whole but not told.
_UNFINISHED, _STAGED = ".unfinished", ".staged"
#: What addresses begin with; `Path` leaves one of their slashes, and drives have one letter.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
#: The longest part of a file's name, in bytes; most file systems take 255.
_LONGEST = 200


@dataclasses.dataclass(frozen=True)
class Entry:
    """What is told of one input: a line of the manifest.

    Attributes
    ----------
    input
        Its name: a path relative to the inputs' folder, or the number of a row.
    status
        ``"ok"``, or ``"error"``.
    target
        The class that was explained, written as ``class``.
    score
        The score that was explained.
    file
        The result, relative to the run's folder.
    error
        Why there is none.
    more
        What else is known of it, by name.
    """

    input: str
    status: str = OK
    target: Any = None
    score: float | None = None
    file: str | None = None
    error: str | None = None
    more: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def line(self) -> str:
        """It as a line of JSON, without its end."""
        score = self.score if self.score is None or math.isfinite(self.score) else None
        told = {"input": self.input, "status": self.status, "class": self.target, "score": score}
        return json.dumps({**told, "file": self.file, "error": self.error, **self.more})

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Entry:
        """Return the entry that a line holds."""
        rest = dict(told)
        return cls(
            input=str(rest.pop("input")),
            status=str(rest.pop("status")),
            target=rest.pop("class", None),
            score=rest.pop("score", None),
            file=rest.pop("file", None),
            error=rest.pop("error", None),
            more=rest,
        )


class Run:
    """A folder in which one set of settings is carried out, input by input.

    One process at a time has it open for writing.

    Parameters
    ----------
    folder
        Made if it is missing. One that other settings made is refused, and so is one with files
        in it that no run has made.
    settings
        What decides about results: anything that JSON can hold.
    facts
        What is kept beside the settings of the first process, and compared with nothing: versions,
        say.

    Raises
    ------
    InvalidParameterError
        If the folder is refused, or another process works in it.
    """

    def __init__(
        self, folder: Any, settings: Mapping[str, Any], facts: Mapping[str, Any] | None = None
    ) -> None:
        self.folder = Path(folder)
        _check_place(self.folder)
        _open_settings(self.folder, json.loads(json.dumps(dict(settings))), dict(facts or {}))
        self._manifest = _locked(self.folder)
        try:
            self.entries = {entry.input: entry for entry in read_manifest(self.folder)}
            _cut_torn_line(self._manifest)
            #: The inputs whose results are there.
            self.done = {name for name, entry in self.entries.items() if self._completed(entry)}
            _remove_leftovers(self.folder)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _completed(self, entry: Entry, is_new: bool = False) -> bool:
        """Tell whether a result is there, and give it its name if it was told and has none yet."""
        if entry.status != OK or entry.file is None:
            return False
        path = inside(self.folder, entry.file)
        if is_new or not path.exists():
            with contextlib.suppress(FileNotFoundError):
                os.replace(_staged(path), path)
        return path.is_file()

    def is_done(self, name: str, changed: float = -math.inf) -> bool:
        """Tell whether the result of an input is there, and no older than `changed`.

        Parameters
        ----------
        name
            Of the input.
        changed
            When the input was changed last, in seconds since 1970.
        """
        if name not in self.done:
            return False
        file = self.entries[name].file
        return file is not None and inside(self.folder, file).stat().st_mtime >= changed

    def stage(self, file: str, content: bytes) -> None:
        """Write a result that `commit` is to tell of; see `stage`."""
        stage(self.folder, file, content)

    def commit(self, entries: Sequence[Entry]) -> None:
        """Tell of results that were staged, and of inputs that have none: all of them or none.

        An error that is told already, in the same words, is not told again.
        """
        new = [entry for entry in entries if self.entries.get(entry.input) != entry]
        again = [entry for entry in entries if entry.status == OK and entry not in new]
        _append(self._manifest, "".join(f"{entry.line}\n" for entry in new).encode())
        for entry in (*new, *again):
            self.entries[entry.input] = entry
            self.done.discard(entry.input)
            if self._completed(entry, is_new=True):
                self.done.add(entry.input)

    def retract(self, names: Iterable[str]) -> None:
        """Tell that results do not count any more: their inputs have changed, say."""
        reason = "it was changed after it was explained"
        self.commit([Entry(name, ERROR, error=reason) for name in names])

    def finish(self, order: Iterable[str] = ()) -> None:
        """Write the manifest anew, with one line for each input, and close the run.

        Parameters
        ----------
        order
            The names of inputs in their order; others come behind.
        """
        names = dict.fromkeys((*(name for name in order if name in self.entries), *self.entries))
        text = "".join(f"{self.entries[name].line}\n" for name in names)
        write_whole(self.folder / MANIFEST, text.encode())
        self.close()

    def note(self, **notes: Any) -> None:
        """Keep what was noticed on the way, such as warnings, by name, in ``notes.json``."""
        write_whole(self.folder / NOTES, _pretty({**read_notes(self.folder), **notes}))

    def close(self) -> None:
        """Let other processes have the folder."""
        with contextlib.suppress(OSError):
            os.close(self._manifest)


def stage(folder: Any, file: str, content: bytes) -> None:
    """Write a result whole, under the name that it has until a manifest tells of it.

    Any process may do so that sees the folder; `Run.commit` is for the one that has the run open.

    Parameters
    ----------
    folder
        The run's.
    file
        What it is called, relative to the folder; see `file_of`.
    content
        Its bytes.
    """
    path = inside(folder, file)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(_staged(path), content)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is there whole, or not at all; one of that name is replaced."""
    unfinished = path.with_name(f".{secrets.token_hex(8)}{_UNFINISHED}")
    try:
        unfinished.write_bytes(content)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def file_of(name: str, suffix: str, folder: str = "maps") -> str:
    """Return what the result of an input is called, relative to the run's folder.

    Inputs of different names have results of different names.

    Parameters
    ----------
    name
        Of the input, with ``/`` between folders.
    suffix
        The end of the result's name.
    folder
        Where in the run's folder.
    """
    *folders, last = name.split("/")
    parts = [_short(part) for part in folders] + [f"{_short(last)}{suffix}"]
    return _checked("/".join((folder, *parts)))


def inside(folder: Any, relative: Any) -> Path:
    """Return a path in a folder, of which a manifest or a settings file tells.

    Raises
    ------
    InvalidParameterError
        If it leads out of the folder, also by a link.
    """
    root = Path(folder)
    path = root / _checked(relative)
    if not path.resolve().is_relative_to(root.resolve()):
        raise _leads_out(relative)
    return path


def read_manifest(folder: Any) -> list[Entry]:
    """Return what a manifest tells, each input once, and the last of it.

    A line without an end, which a process was stopped at, does not count.

    Raises
    ------
    InvalidParameterError
        If it is no manifest, or a path in it leads out of its folder.
    """
    path = Path(folder) / MANIFEST
    try:
        *lines, _ = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    found: dict[str, Entry] = {}
    for number, line in enumerate(lines, 1):
        try:
            entry = Entry.of(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidParameterError(
                f"a line of JSON for each input in {str(path)!r}",
                f"{line[:80]!r} in line {number} ({error})",
                "Something else wrote into it: choose another folder, and run again.",
            ) from error
        if entry.file is not None:
            inside(folder, entry.file)
        found[entry.input] = entry
    return [*found.values()]


def read_settings(folder: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings of a folder, and the facts beside them.

    Raises
    ------
    InvalidParameterError
        If no run has made the folder.
    """
    path = Path(folder) / SETTINGS
    try:
        held = json.loads(path.read_bytes())
        return dict(held["settings"]), dict(held["facts"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidParameterError(
            f"a folder that a run has made, with its {SETTINGS}",
            f"{str(folder)!r} ({error})",
            "Pass the folder that was given to `--out`.",
        ) from error


def read_notes(folder: Any) -> dict[str, Any]:
    """Return what was noticed on the way; nothing if there are no notes."""
    try:
        return dict(json.loads((Path(folder) / NOTES).read_bytes()))
    except (OSError, ValueError, TypeError):
        return {}


def fingerprint(path: Any) -> str:
    """Return what tells the content of a file, or of all files of a folder, from any other."""
    root, digest = Path(path), hashlib.sha256()
    files = sorted(part for part in root.rglob("*") if part.is_file()) if root.is_dir() else [root]
    for file in files:
        digest.update(f"{file.relative_to(root)}\0{file.stat().st_size}\0".encode(errors="replace"))
        with file.open("rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _pretty(value: Any) -> bytes:
    return f"{json.dumps(value, indent=2)}\n".encode()


def _short(part: str) -> str:
    """Return a part of a path that no file system finds too long."""
    raw = part.encode(errors="surrogateescape")
    if len(raw) <= _LONGEST:
        return part
    return f"{part[: _LONGEST // 8]}~{hashlib.sha256(raw).hexdigest()[:32]}"


def _checked(relative: Any) -> str:
    """Return a path if it is relative and goes down only, as any system would read it."""
    if not isinstance(relative, str) or not relative or "\0" in relative:
        raise _leads_out(relative)
    for kind in (PurePosixPath, PureWindowsPath):
        read = kind(relative)
        if read.anchor or ".." in read.parts:
            raise _leads_out(relative)
    return relative


def _leads_out(relative: Any) -> InvalidParameterError:
    return InvalidParameterError(
        "a path that stays in its folder", repr(relative), "Do not use what you did not make."
    )


def _staged(path: Path) -> Path:
    return path.with_name(f".{path.name}{_STAGED}")


def _check_place(folder: Path) -> None:
    """Check that a folder is one of a file system: object stores cannot append, nor rename."""
    if _URL.match(str(folder)):
        raise InvalidParameterError(
            "a folder of a file system, on a local disk or on one that machines share",
            f"the address {str(folder)!r}",
            "Mount the bucket, or write with Ray: xplique_sal.ray.explain(...).write_parquet(...).",
        )


def _open_settings(folder: Path, settings: dict[str, Any], facts: dict[str, Any]) -> None:
    """Make a folder with its settings, or check that it was made with the same."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = [path.name for path in folder.iterdir() if not path.name.endswith(_UNFINISHED)]
    except OSError as error:
        raise InvalidParameterError(
            "a folder that can be made and written to",
            f"{str(folder)!r} ({error.strerror})",
            "Choose another.",
        ) from error
    if SETTINGS not in found:
        if found:
            raise InvalidParameterError(
                "an empty folder, or one that an earlier run has made",
                f"{str(folder)!r}, which holds {sorted(found)[0]!r}",
                "Choose another folder.",
            )
        write_whole(folder / SETTINGS, _pretty({"settings": settings, "facts": facts}))
    before, _ = read_settings(folder)
    other = [
        f"{name}={settings.get(name)!r} instead of {before.get(name)!r}"
        for name in sorted(before.keys() | settings.keys())
        if before.get(name) != settings.get(name)
    ]
    if other:
        raise InvalidParameterError(
            f"the settings that {str(folder)!r} was made with",
            ", ".join(other),
            "Choose another folder, or pass the settings of the first run, which are in its "
            f"{SETTINGS}.",
        )


def _locked(folder: Path) -> int:
    """Open a manifest for writing at its end, for this process alone."""
    path = folder / MANIFEST
    while True:
        manifest = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            import fcntl
        except ImportError:  # not every system has such locks
            return manifest
        try:
            fcntl.flock(manifest, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.stat(path).st_ino == os.fstat(manifest).st_ino:  # nobody has written it anew
                return manifest
        except FileNotFoundError:
            pass
        except BlockingIOError as error:
            os.close(manifest)
            raise InvalidParameterError(
                "a folder in which no other process works",
                f"{str(folder)!r}, in which one does",
                "Wait for it, stop it, or choose another folder.",
            ) from error
        except OSError:  # a file system without locks
            return manifest
        os.close(manifest)


def _cut_torn_line(manifest: int) -> None:
    """Remove what stands behind the last line that ends."""
    size = os.fstat(manifest).st_size
    keep = os.pread(manifest, size, 0).rfind(b"\n") + 1
    if keep != size:
        os.ftruncate(manifest, keep)


def _append(manifest: int, lines: bytes) -> None:
    """Append lines all at once; where that fails half-way, none of them."""
    size, rest = os.fstat(manifest).st_size, memoryview(lines)
    try:
        while rest:
            rest = rest[os.write(manifest, rest) :]
    except OSError:
        os.ftruncate(manifest, size)
        raise


def _remove_leftovers(folder: Path) -> None:
    """Remove what was written and not told of."""
    for place, _, names in os.walk(folder):
        for name in names:
            if name.startswith(".") and name.endswith((_UNFINISHED, _STAGED)):
                Path(place, name).unlink(missing_ok=True)
