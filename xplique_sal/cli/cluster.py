"""``explain --engine ray``: the work of `work`, by actors on the machines of a cluster.

An actor reads and explains samples as one process does, and writes their maps under names that do
not count. This process tells of them: the folder, its manifest and how a run goes on are the same,
and one that was begun without Ray can be ended with it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xplique_sal import _runs, errors
from xplique_sal import ray as engine
from xplique_sal._parameters import optional
from xplique_sal._runs import OK, Entry
from xplique_sal.cli.asked import Asked, Samples, explainer
from xplique_sal.cli.work import Elsewhere, Work
from xplique_sal.errors import InvalidInputError, InvalidParameterError, XpliqueSalError

#: Blocks of a data set: at least, where there are as many batches, and at most: each costs memory.
_LEAST_BLOCKS, _MOST_BLOCKS = 32, 2000


def pool(
    asked: Asked,
    method: str,
    format_: str = "npy",
    *,
    actors: int | None = None,
    num_cpus: float = 1,
    num_gpus: float | None = None,
) -> Elsewhere:
    """Return what explains samples by actors of Ray, as `work.explain` takes it.

    Parameters
    ----------
    asked, method, format_
        As `work.explain` takes them.
    actors
        How many; ``None`` is as many as there are CPUs, but one.
    num_cpus, num_gpus
        How many CPUs and GPUs an actor takes.
    """
    asked = dataclasses.replace(
        asked,
        model=str(Path(asked.model).resolve()),
        inputs=str(Path(asked.inputs).resolve()),
        labels=asked.labels and str(Path(asked.labels).resolve()),
    )

    def explained(work: Work, missing: Sequence[int]) -> Iterator[int]:
        if not missing:
            return
        engine.started()
        rows = _rows_at_once(work, len(missing), asked.batch_size)
        names = _told_from_others(work.samples.source.names)
        arguments = (asked, method, format_, str(work.run.folder.resolve()), names, num_cpus)
        told = engine.through_actors(
            _blocks(missing, rows),
            _Actor,
            (*arguments, os.getcwd()),
            engine.Pool(rows, actors, num_cpus, num_gpus),
        )
        yield from _counts(told, work)

    return explained


def _rows_at_once(work: Work, count: int, batch_size: int | str) -> int:
    """Return how many samples an actor explains in one call: as one process, but all have some."""
    shape = [size or 1 for size in work.samples.shape]
    batch = batch_size if isinstance(batch_size, int) else 64
    rows = work.size(np.broadcast_to(np.float32(0), shape))
    return min(rows, batch * max(1, count // (batch * _LEAST_BLOCKS)))


def _blocks(numbers: Sequence[int], rows: int) -> Any:
    """Return a data set of numbers, whose blocks are whole batches."""
    data: Any = optional("ray.data", "--engine ray needs", "ray")
    step = rows * max(1, -(-len(numbers) // (rows * _MOST_BLOCKS)))
    held = np.asarray(numbers, np.int64)
    return data.from_numpy([held[first : first + step] for first in range(0, len(held), step)])


def _counts(told: Any, work: Work) -> Iterator[int]:
    """Tell of what actors have done, and yield how many samples that were."""
    exceptions: Any = optional("ray.exceptions", "--engine ray needs", "ray")
    nothing_yet = True
    try:
        for batch in told.iter_batches(batch_size=None, batch_format="numpy"):
            entries = [Entry.of(json.loads(str(line))) for line in batch.get("line", ())]
            work.run.commit(entries)
            for text in dict.fromkeys(map(str, batch.get("warned", ()))):
                work.warned += [one for one in json.loads(text) if one not in work.warned]
            failures = [str(text) for text in batch.get("failure", ()) if str(text)]
            if nothing_yet and failures and all(entry.status != OK for entry in entries):
                raise _failure(failures[0])  # what was asked for does not fit the model
            nothing_yet = False
            yield len(entries)
    except exceptions.RayError as error:
        raise InvalidParameterError(
            "actors of Ray that can do their work",
            str(error).strip().splitlines()[-1],
            "See Ray's log; the same command goes on with what is missing.",
        ) from error


def _failure(text: str) -> XpliqueSalError:
    name, *said = json.loads(text)
    kind = getattr(errors, name, InvalidInputError)
    failed: XpliqueSalError = kind(*said)
    return failed


def _told_from_others(names: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{name}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


class _Recorded:
    """What an actor has to tell: this stands for the `Run` of one process."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.entries: list[Entry] = []

    def stage(self, file: str, content: bytes) -> None:
        """Write a map under a name that does not count yet."""
        _runs.stage(self.folder, file, content)

    def commit(self, entries: Sequence[Entry]) -> None:
        """Keep what the driver is to tell of."""
        self.entries += entries


class _Actor:
    """What explains a batch of numbers, where the model and the samples can be read."""

    def __init__(
        self, asked: Asked, method: str, format_: str, folder: str, names: str, *place: Any
    ) -> None:
        threads, path = place
        engine.bound(threads)
        if path not in sys.path:
            sys.path.insert(0, path)  # where modules of --import are
        model = asked.load()
        samples = Samples(asked, model)
        if _told_from_others(samples.source.names) != names:
            raise InvalidInputError(
                "the same samples on every machine, and while it works",
                f"others in {asked.inputs!r}",
                "Start again when no file is added or removed any more.",
            )
        self._recorded = _Recorded(folder)
        self._work = Work(samples, explainer(method, model, asked), format_, self._recorded)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Return what is to be told of the samples with these numbers."""
        numbers, failure = [int(number) for number in batch["data"]], ""
        self._recorded.entries = []
        ends = [
            place for place in range(1, len(numbers)) if numbers[place] != numbers[place - 1] + 1
        ]
        for first, end in zip([0, *ends], [*ends, len(numbers)], strict=True):
            try:
                for _ in self._work.some(numbers[first:end], numbers[first]):
                    pass
            except XpliqueSalError as error:
                failure = json.dumps(
                    [type(error).__name__, error.expected, error.actual, error.remedy]
                )
        lines = [entry.line for entry in self._recorded.entries]
        count, warned = len(lines), json.dumps(self._work.warned)
        return {
            "line": np.asarray(lines, dtype=str),
            "warned": np.asarray([warned] * count, dtype=str),
            "failure": np.asarray([failure] * count, dtype=str),
        }
