"""The work of ``explain``: samples are decoded and results written beside the computing.

Batches are filled with the samples that can be read, in their order, and told of whole. So one that
is stopped leaves whole batches, and the next makes the same batches as if nothing had happened.
"""

from __future__ import annotations

import contextlib
import functools
import io
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from xplique_sal import _runs
from xplique_sal._runs import ERROR, Entry, Run
from xplique_sal.cli.asked import Asked, Samples, explainer
from xplique_sal.cli.inputs import Record
from xplique_sal.errors import InvalidInputError, XpliqueSalError

#: The formats of results, with the ends of their names.
FORMATS = {"npy": ".npy", "npz": ".npz", "png": ".png", "overlay": ".png"}
#: How many bytes of samples are explained in one call, if a batch is not more.
_AT_ONCE = 2 << 20
#: How many threads decode.
_THREADS = 2
#: How many samples they are ahead, at least and at most, and of how many bytes: far, as a trace
#: takes one core for seconds, and what is decoded beside it takes nothing from the computing.
_LEAST_AHEAD, _MOST_AHEAD, _BYTES_AHEAD = 16, 4096, 256 << 20

#: Explains the samples of a work with these numbers, and yields how many were told of.
Elsewhere = Callable[["Work", Sequence[int]], Iterator[int]]


def explain(
    asked: Asked,
    method: str,
    out: Any,
    format_: str = "npy",
    progress: Callable[[int, int], None] = lambda done, of: None,
    facts: dict[str, Any] | None = None,
    pool: Elsewhere | None = None,
) -> tuple[int, int]:
    """Explain all samples that have no result yet.

    Parameters
    ----------
    asked
        What is explained.
    method
        By which method.
    out
        The folder of the results.
    format_
        One of `FORMATS`.
    progress
        Called with how many samples are done, and of how many.
    facts
        What is kept beside the settings.
    pool
        What explains samples elsewhere, if not this process does.

    Returns
    -------
    good, bad
        How many samples have a result, and how many could not be explained.
    """
    model = asked.load()
    samples = Samples(asked, model)
    made = explainer(method, model, asked)
    settings = {**asked.settings(), "method": method, "format": format_}
    with Run(out, settings, {**(facts or {}), "explainer": repr(made)}) as run:
        return Work(samples, made, format_, run).all(progress, pool)


class Work:
    """What is done for each batch of one run.

    Parameters
    ----------
    samples, made, format_
        What is explained, by which explainer, and how maps are written.
    run
        What is told of: a `Run`, or what has its `folder`, `stage` and `commit`.

    Attributes
    ----------
    warned
        The warnings of the run so far.
    """

    def __init__(self, samples: Samples, made: Any, format_: str, run: Any) -> None:
        self.samples, self._made, self._format, self.run = samples, made, format_, run
        self._is_first = True
        self._counted = 0
        self._writer: ThreadPoolExecutor
        self._writing: Future[None] | None = None
        self.warned: list[str] = list(_runs.read_notes(run.folder).get("warnings", []))

    def all(
        self, progress: Callable[[int, int], None], pool: Elsewhere | None = None
    ) -> tuple[int, int]:
        """Explain what is missing; return how many have a result, and how many have none."""
        source, run = self.samples.source, self.run
        names = source.names
        stale = [n for i, n in enumerate(names) if n in run.done and not self._is_done(i)]
        run.retract(stale)
        missing = [i for i in range(len(names)) if names[i] not in run.done]
        done = len(names) - len(missing)
        progress(done, len(names))
        start = time.perf_counter()
        for count in self.some(missing, len(run.done)) if pool is None else pool(self, missing):
            done += count
            progress(done, len(names))
        seconds = time.perf_counter() - start
        run.note(warnings=self.warned, seconds=round(seconds, 3), explained=len(missing))
        good = sum(name in run.done for name in names)
        run.finish(names)
        return good, len(names) - good

    def some(self, numbers: Sequence[int], first: int) -> Iterator[int]:
        """Explain samples, and yield how many after each batch.

        Parameters
        ----------
        numbers
            Of the samples.
        first
            The place of the first one, by which chance is drawn; the others follow it.
        """
        self._counted = first
        with ThreadPoolExecutor(1) as self._writer:
            for batch, bad in _batches(self._decoded(numbers), self.size):
                if bad:
                    self._write(functools.partial(self._failures, bad))
                if batch:
                    self._explained(batch)
                yield len(batch) + len(bad)
            self._wait()

    def _is_done(self, number: int) -> bool:
        source = self.samples.source
        return self.run.is_done(source.names[number], source.changed(number))

    def size(self, sample: np.ndarray) -> int:
        """Return how many samples such as this are explained in one call."""
        batch = self._made.batch_size if isinstance(self._made.batch_size, int) else 64
        return batch * max(1, min(64, _AT_ONCE // (batch * max(sample.nbytes, 1))))

    def _decoded(self, missing: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Yield samples, or why there is none, in order, read by threads that are ahead."""
        source, waiting = self.samples.source, deque[tuple[int, Future[Any]]]()
        ahead = _LEAST_AHEAD
        with ThreadPoolExecutor(_THREADS) as pool:
            try:
                for record in source.records(missing, self.samples.shape):
                    waiting.append((record.number, pool.submit(self._read, record)))
                    if len(waiting) > ahead:
                        number, sample = waiting.popleft()
                        read = sample.result()
                        if isinstance(read, np.ndarray):
                            most = _BYTES_AHEAD // max(read.nbytes, 1)
                            ahead = max(_LEAST_AHEAD, min(_MOST_AHEAD, most))
                        yield number, read
                while waiting:
                    number, sample = waiting.popleft()
                    yield number, sample.result()
            finally:
                for _, sample in waiting:
                    sample.cancel()

    def _read(self, record: Record) -> Any:
        try:
            return self.samples.read(record)
        except XpliqueSalError as error:
            return error

    def _explained(self, batch: list[tuple[int, np.ndarray]]) -> None:
        """Explain a batch and tell of it; where it fails, each sample by itself."""
        try:
            self._told(batch)
        except XpliqueSalError:
            nothing_went_well = self._is_first
            if not self._one_by_one(batch) and nothing_went_well:
                raise  # what was asked for does not fit the model

    def _one_by_one(self, batch: list[tuple[int, np.ndarray]]) -> int:
        good = 0
        for number, sample in batch:
            try:
                self._told([(number, sample)])
                good += 1
            except XpliqueSalError as error:
                self._write(functools.partial(self._failures, [(number, error)]))
        return good

    def _write(self, entries: Callable[[], Sequence[Entry]]) -> None:
        """Tell of what a function returns, which may write first, beside the computing."""
        self._wait()
        self._writing = self._writer.submit(lambda: self.run.commit(entries()))

    def _wait(self) -> None:
        """Wait for what is being written, and raise what went wrong with it."""
        if self._writing is not None:
            self._writing.result()

    def _failures(self, bad: Sequence[tuple[int, Exception]]) -> list[Entry]:
        names = self.samples.source.names
        return [Entry(names[number], ERROR, error=str(error)) for number, error in bad]

    def _told(self, batch: list[tuple[int, np.ndarray]]) -> None:
        numbers = [number for number, _ in batch]
        targets = [self.samples.target(number) for number in numbers]
        x, y = np.stack([sample for _, sample in batch]), None
        if targets[0] is not None:
            y = np.array(targets)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            told = self._made._told(x, y, first=self._counted)
        self._check_format(np.shape(told.maps)[1:])
        self._is_first = False
        self._counted += len(batch)
        self.warned += [
            text
            for text in dict.fromkeys(str(w.message) for w in caught)
            if text not in self.warned
        ]
        self._write(functools.partial(self._entries, numbers, x, targets, told))

    def _entries(
        self, numbers: Sequence[int], x: np.ndarray, targets: Sequence[Any], told: Any
    ) -> list[Entry]:
        """Write the maps of a batch, and return what is told of them."""
        maps, scores = np.asarray(told.maps), np.asarray(told.scores)
        largest = told.largest if told.largest is not None else [None] * len(maps)
        entries = []
        for i, number in enumerate(numbers):
            name = self.samples.source.names[number]
            target = largest[i] if targets[i] is None else targets[i]
            more = {"prediction": largest[i], "truth": self.samples.truth(number)}
            entries.append(
                Entry(
                    name,
                    target=None if target is None else int(target),
                    score=float(scores[i]),
                    file=_runs.file_of(name, FORMATS[self._format]),
                    more={key: int(value) for key, value in more.items() if value is not None},
                )
            )
            self.run.stage(str(entries[-1].file), self._encoded(maps[i], x[i], entries[-1]))
        return entries

    def _check_format(self, shape: Sequence[int]) -> None:
        """Check that maps of a shape can be written as they are to be."""
        if self._format in ("png", "overlay") and (len(shape) != 3 or shape[-1] != 1):
            raise InvalidInputError(
                "maps of pictures for --format png and overlay",
                f"the shape {tuple(shape)}",
                "Use --format npy, and xplique-sal report.",
            )

    def _encoded(self, map_: np.ndarray, sample: np.ndarray, entry: Entry) -> bytes:
        """Return a map as the bytes of a file."""
        content = io.BytesIO()
        if self._format == "npy":
            np.save(content, map_, allow_pickle=False)
        elif self._format == "npz":
            held: dict[str, Any] = {"map": map_, "score": entry.score}
            held["class"] = -1 if entry.target is None else entry.target
            np.savez_compressed(content, **held)
        else:
            from xplique_sal.report.pictures import coloured, overlaid, png

            map_ = map_[..., 0]
            return png(coloured(map_) if self._format == "png" else overlaid(map_, sample))
        return content.getvalue()


def _batches(
    decoded: Iterator[tuple[int, Any]], size_of: Callable[[np.ndarray], int]
) -> Iterator[tuple[list[tuple[int, np.ndarray]], list[tuple[int, Exception]]]]:
    """Yield batches of samples of one shape, and what could not be read since the last."""
    batch: list[tuple[int, np.ndarray]] = []
    bad: list[tuple[int, Exception]] = []
    with contextlib.closing(decoded):  # type: ignore[type-var]
        for number, sample in decoded:
            if isinstance(sample, Exception):
                bad.append((number, sample))
                continue
            if batch and batch[0][1].shape != sample.shape:
                yield batch, bad
                batch, bad = [], []
            batch.append((number, sample))
            if len(batch) == size_of(sample):
                yield batch, bad
                batch, bad = [], []
        if batch or bad:
            yield batch, bad
