"""Maps of a Ray Data set, by explainers on the machines of a cluster."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from xplique_sal import _runs
from xplique_sal._parameters import integer, one_of, optional
from xplique_sal._runs import ERROR, Entry, Run
from xplique_sal.attributions.base import BlackBoxExplainer
from xplique_sal.errors import InvalidParameterError, XpliqueSalError

__all__ = ["explain", "run"]

#: The columns that are added.
MAP, SCORE, CLASS, FAILED = "map", "score", "class", "error"
#: Makes an explainer where it is to be used: on another machine.
Factory = Callable[[], BlackBoxExplainer]


def explain(
    dataset: Any,
    explainer_factory: Factory,
    *,
    inputs: str | Sequence[str] | Mapping[str, str],
    targets: str | int | None = None,
    batch_size: int = 64,
    concurrency: int | tuple[int, int] | None = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    errors: Literal["raise", "column"] = "raise",
    position: str | None = None,
) -> Any:
    """Return a Ray Data set with the map, the score and the class of each row as columns.

    Each of several actors makes one explainer, which compiles once, and explains batches. Rows stay
    in their order, with all their columns. Nothing is computed before the result is read or
    written. Where Ray was not started, a local one is, which tells nobody of its use.

    Parameters
    ----------
    dataset
        A `ray.data.Dataset`: of Parquet, images, TFRecords, NumPy, from any storage.
    explainer_factory
        Called without arguments in each actor; it loads the model and returns an explainer of it.
        It should name no model that exists already: what it names is pickled.
    inputs
        The column of the samples; of several inputs a list of columns, or a dict of them by the
        input's name.
    targets
        The column of the class indices; a class for all rows; ``None`` is the largest output.
    batch_size
        How many rows an actor explains in one call.
    concurrency
        How many actors: a number, or the least and the most. ``None`` is as many as there are CPUs,
        but one, which reads.
    num_cpus
        How many CPUs an actor takes; its TensorFlow has as many threads. ``None`` is 1.
    num_gpus
        How many GPUs an actor takes, or which share of one. ``None`` is none.
    errors
        ``"raise"`` stops where a row cannot be explained. ``"column"`` adds the column ``error``,
        which is empty for rows that can; of others, map and score are NaN and the class is -1.
    position
        A column that counts rows, from 0. A method with random numbers draws those of a row from
        its seed and that number, as `explain` does of an array; without it they are those of the
        row's place in its batch.

    Returns
    -------
    dataset
        With the columns ``map``, float32, of the shape of a map; ``score``; and ``class``, the
        index that was explained, -1 where none is known.

    Raises
    ------
    InvalidParameterError
        If there is no such column.
    ImportError
        If Ray is not installed.

    Examples
    --------
    >>> def factory():  # doctest: +SKIP
    ...     return Saliency(tf_keras.models.load_model("model.h5"), logits=True)
    >>> rows = ray.data.read_images("s3://bucket/images")  # doctest: +SKIP
    >>> maps = xplique_sal.ray.explain(rows, factory, inputs="image")  # doctest: +SKIP
    >>> maps.write_parquet("maps")  # doctest: +SKIP
    """
    one_of("errors", errors, ("raise", "column"))
    started()
    columns = [*_columns(inputs), *([targets] if isinstance(targets, str) else []), position]
    _check_columns(dataset, [name for name in columns if name is not None])
    arguments = (explainer_factory, inputs, targets, errors, position, num_cpus or 1)
    pool = Pool(batch_size, concurrency, num_cpus or 1, num_gpus)
    return through_actors(dataset, _Explaining, arguments, pool)


def run(
    out: Any,
    dataset: Any,
    explainer_factory: Factory,
    *,
    name: str,
    inputs: str | Sequence[str] | Mapping[str, str],
    targets: str | int | None = None,
    settings: Mapping[str, Any] | None = None,
    batch_size: int = 64,
    concurrency: int | tuple[int, int] | None = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    position: str | None = None,
) -> tuple[int, int]:
    """Explain rows into a folder, each exactly once, whatever is stopped on the way.

    The folder is that of ``xplique-sal explain``: ``settings.json``, ``manifest.jsonl`` with a line
    for each row, and a file for each map, ``.npy``. All machines must see it. Actors write maps
    whole, under a name that does not count; this process tells of them, a batch at a time, and
    gives them their names. So an actor or a machine that is lost costs the batches it was at, and
    if this process is killed, the same call goes on with the rest. A row that cannot be explained
    has its error in the manifest, and is tried again by the next call.

    Parameters
    ----------
    out
        The folder.
    dataset, explainer_factory, inputs, targets, batch_size, concurrency, num_cpus, num_gpus, \
position
        As in `explain`.
    name
        The column that names rows, each by another name: the path of an image, or a number.
    settings
        What else decides about the maps, to be compared with those of the first call: the method
        and the model, say.

    Returns
    -------
    good, bad
        How many rows have a map, and how many could not be explained.

    Raises
    ------
    InvalidParameterError
        If there is no such column, or the folder was made with other settings.
    """
    started()
    columns = [name, *_columns(inputs), *([targets] if isinstance(targets, str) else []), position]
    _check_columns(dataset, [column for column in columns if column is not None])
    asked = {"inputs": inputs, "targets": targets, "name": name, **(settings or {})}
    with Run(out, asked) as folder:
        explaining = (explainer_factory, inputs, targets, "column", position, num_cpus or 1)
        arguments = (os.path.abspath(out), name, frozenset(folder.done), explaining)
        pool = Pool(batch_size, concurrency, num_cpus or 1, num_gpus)
        told = through_actors(dataset, _Staging, arguments, pool)
        bad = 0
        for batch in told.iter_batches(batch_size=None, batch_format="numpy"):
            entries = [Entry.of(_loaded(line)) for line in batch.get("line", ())]
            folder.commit(entries)
            bad += sum(entry.status == ERROR for entry in entries)
        good = len(folder.done)
        folder.finish()
    return good, bad


class _Explaining:
    """What an actor does with a batch: it adds the columns."""

    def __init__(
        self,
        factory: Factory,
        inputs: Any,
        targets: str | int | None,
        errors: str,
        position: str | None,
        threads: float,
    ) -> None:
        bound(threads)
        self._inputs, self._targets, self._position = inputs, targets, position
        self._explainer = factory()
        self._collects = errors == "column"
        self._shape: tuple[int, ...] | None = None

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Return the batch with the columns."""
        count = len(next(iter(batch.values()), ()))
        maps: list[Any] = [None] * count
        scores, classes = np.full(count, np.nan, np.float32), np.full(count, -1, np.int64)
        failed = np.full(count, "", object)
        for rows in self._alike(batch, count):
            for part, answer in self._answers(batch, rows):
                if isinstance(answer, Exception):
                    failed[part] = str(answer)
                    continue
                told, chosen = answer
                scores[part], classes[part] = told.scores, chosen
                for row, map_ in zip(part, np.asarray(told.maps), strict=True):
                    maps[row] = map_
        known = next((map_ for map_ in maps if map_ is not None), None)
        self._shape = self._shape if known is None else known.shape
        nothing = np.full(self._shape or self._shape_of(batch), np.nan, np.float32)
        added = {MAP: _column([nothing if map_ is None else map_ for map_ in maps])}
        added |= {SCORE: scores, CLASS: classes}
        return {**batch, **added, **({FAILED: failed.astype(str)} if self._collects else {})}

    def _alike(self, batch: dict[str, np.ndarray], count: int) -> Iterator[list[int]]:
        """Yield consecutive rows whose samples have one shape, and are numbered one by one."""
        rows: list[int] = []
        for row in range(count):
            if rows and not self._follows(batch, rows[-1], row):
                yield rows
                rows = []
            rows.append(row)
        if rows:
            yield rows

    def _follows(self, batch: dict[str, np.ndarray], before: int, row: int) -> bool:
        columns = [batch[name] for name in _columns(self._inputs)]
        if any(np.shape(column[row]) != np.shape(column[before]) for column in columns):
            return False
        numbers = None if self._position is None else batch[self._position]
        return numbers is None or int(numbers[row]) == int(numbers[before]) + 1

    def _answers(self, batch: dict[str, np.ndarray], rows: list[int]) -> Iterator[tuple[Any, Any]]:
        try:
            yield rows, self._of(batch, rows)
        except XpliqueSalError:
            if not self._collects:
                raise
            for row in rows:
                try:
                    yield [row], self._of(batch, [row])
                except XpliqueSalError as error:
                    yield [row], error

    def _of(self, batch: dict[str, np.ndarray], rows: list[int]) -> tuple[Any, np.ndarray]:
        """Return what is told of some rows, and which class was explained."""
        x = _packed(self._inputs, {c: _stacked(batch[c], rows) for c in _columns(self._inputs)})
        y: Any = self._targets
        if isinstance(y, str):
            y = np.asarray([batch[y][row] for row in rows])
        first = rows[0] if self._position is None else int(batch[self._position][rows[0]])
        told = self._explainer._told(x, y, first=first)
        chosen: Any = told.largest if y is None else y
        is_class = chosen is not None and np.ndim(chosen) < 2
        return told, np.broadcast_to(chosen if is_class else -1, len(rows))

    def _shape_of(self, batch: dict[str, np.ndarray]) -> tuple[int, ...]:
        """Return the shape of a map where no row of a first batch has one."""
        names = _columns(self._inputs)
        try:
            zeros = {name: np.zeros_like(_stacked(batch[name], [0])) for name in names}
            told = self._explainer._told(_packed(self._inputs, zeros), 0)
        except XpliqueSalError:
            return (1,)
        return tuple(np.asarray(told.maps).shape[1:])


class _Staging:
    """What an actor of a run does with a batch: it writes maps, and returns what is to be told."""

    def __init__(
        self, folder: str, name: str, done: frozenset[str], explaining: tuple[Any, ...]
    ) -> None:
        self._folder, self._name, self._done = folder, name, done
        self._explaining = _Explaining(*explaining)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Return lines of a manifest, of the rows that are not done."""
        rest = [row for row, name in enumerate(batch[self._name]) if str(name) not in self._done]
        if not rest:
            return {"line": np.asarray([], dtype=str)}
        batch = {name: column[rest] for name, column in batch.items()}
        found, lines = self._explaining(batch), []
        for row, name in enumerate(map(str, batch[self._name])):
            target = int(found[CLASS][row])
            if error := str(found[FAILED][row]):
                lines.append(Entry(name, ERROR, error=error).line)
                continue
            content, file = io.BytesIO(), _runs.file_of(name, ".npy")
            np.save(content, found[MAP][row], allow_pickle=False)
            _runs.stage(self._folder, file, content.getvalue())
            known, score = target if target >= 0 else None, float(found[SCORE][row])
            lines.append(Entry(name, target=known, score=score, file=file).line)
        return {"line": np.asarray(lines, dtype=str)}


def bound(threads: float) -> None:
    """Let TensorFlow take what this actor has, before it computes anything in its process."""
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(max(1, int(threads)))
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")


class Pool(NamedTuple):
    """How many rows and actors there are at once, and what an actor takes."""

    batch_size: int
    concurrency: int | tuple[int, int] | None
    num_cpus: float
    num_gpus: float | None


def through_actors(dataset: Any, actor: type, arguments: tuple[Any, ...], pool: Pool) -> Any:
    """Return a data set whose batches went through actors, in their order."""
    ray = optional("ray", "Data sets of Ray need", "ray")
    actors = pool.concurrency
    if actors is None:
        cpus = ray.cluster_resources().get("CPU", 1)
        actors = max(1, int((cpus - 1) // pool.num_cpus))
    if isinstance(actors, tuple):
        compute = ray.data.ActorPoolStrategy(min_size=actors[0], max_size=actors[1])
    else:
        compute = ray.data.ActorPoolStrategy(size=integer("concurrency", actors))
    found = dataset.map_batches(
        actor,
        batch_size=integer("batch_size", pool.batch_size),
        batch_format="numpy",
        fn_constructor_args=arguments,
        compute=compute,
        num_cpus=pool.num_cpus,
        num_gpus=pool.num_gpus,
        # An actor that is lost is made anew, and its batches are explained again.
        max_restarts=-1,
        max_task_retries=-1,
    )
    found.context.execution_options.preserve_order = True
    return found


def started() -> None:
    """Start a local Ray, or join the cluster of the environment, if that was not done."""
    ray = optional("ray", "Data sets of Ray need", "ray")
    optional("ray.data", "Data sets of Ray need", "ray")
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(address="auto")
        return
    except ConnectionError:
        pass
    shared = shutil.disk_usage("/dev/shm").free if os.path.isdir("/dev/shm") else 0
    # Where there is little shared memory, as in a container, Ray takes what there is.
    size = max(80 << 20, min(2 << 30, int(shared * 0.8)))
    store = {"object_store_memory": size} if shared else {}
    ray.init(address="local", include_dashboard=False, **store)


def _columns(inputs: Any) -> list[str]:
    if isinstance(inputs, str):
        return [inputs]
    return [*inputs.values()] if isinstance(inputs, Mapping) else [*inputs]


def _check_columns(dataset: Any, wanted: Sequence[str]) -> None:
    known = dataset.columns()
    missing = [name for name in wanted if known is not None and name not in known]
    if missing:
        raise InvalidParameterError(
            f"columns among {', '.join(map(repr, known))}", repr(missing[0]), "Pass one of these."
        )


def _packed(inputs: Any, columns: Mapping[str, np.ndarray]) -> Any:
    if isinstance(inputs, str):
        return columns[inputs]
    if isinstance(inputs, Mapping):
        return {name: columns[column] for name, column in inputs.items()}
    return [columns[column] for column in inputs]


def _stacked(column: np.ndarray, rows: list[int]) -> np.ndarray:
    return np.stack([np.asarray(column[row]) for row in rows])


def _column(maps: list[np.ndarray]) -> np.ndarray:
    if len({map_.shape for map_ in maps}) <= 1:
        return np.stack(maps) if maps else np.zeros((0, 1), np.float32)
    column = np.empty(len(maps), object)
    column[:] = maps
    return column


def _loaded(line: Any) -> dict[str, Any]:
    return dict(json.loads(str(line)))
