"""What ``compare`` and ``report`` read: samples, the maps of runs, and metrics of them."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xplique_sal import _runs, metrics, report, versions
from xplique_sal.cli.asked import Asked, Samples, explainer
from xplique_sal.errors import InvalidInputError, InvalidParameterError, XpliqueSalError


def compare(
    asked: Asked,
    names: Sequence[str],
    wanted: Sequence[str],
    steps: int,
    html: Any = None,
) -> tuple[metrics.Comparison, list[tuple[str, str]]]:
    """Return a table of methods and metrics, and which samples could not be read, and why.

    Parameters
    ----------
    asked
        What is explained.
    names
        Of methods.
    wanted
        Names of metrics.
    steps
        Of deletion and insertion.
    html
        Where a report of it is written, if it is.
    """
    model = asked.load()
    samples = Samples(asked, model)
    numbers, x, bad = _readable(samples, range(len(samples.source.names)))
    targets = [samples.target(number) for number in numbers]
    y = None if targets[0] is None else np.array(targets)
    made = {name: explainer(name, model, asked) for name in names}
    table = metrics.compare(
        made,
        x,
        y,
        _metrics(wanted, steps),
        model=model,
        batch_size=asked.batch_size,
        logits=bool(asked.options.get("logits")),
    )
    if html is not None:
        told = {name: each._told(x, y) for name, each in made.items()}
        first = next(iter(told.values()))
        seen = [each.largest for each in told.values() if each.largest is not None]
        _write(
            html,
            samples,
            numbers,
            {name: np.asarray(each.maps) for name, each in told.items()},
            classes=y if y is not None else seen[0] if seen else None,
            scores=np.asarray(first.scores),
            predictions=seen[0] if seen else None,
            metrics=table.values,
            better=table.better,
            title=f"{', '.join(names)} on {Path(asked.inputs).name}",
            settings={**asked.settings(), "methods": list(names), "metrics": list(wanted)},
            unreadable=bad,
        )
    return table, bad


def _metrics(wanted: Sequence[str], steps: int) -> dict[str, Any]:
    curves = {"Deletion": metrics.Deletion, "Insertion": metrics.Insertion}
    return {
        name: functools.partial(curves[name], steps=steps) if name in curves else name
        for name in wanted
    }


def report_of(
    folders: Sequence[Any],
    path: Any,
    *,
    wanted: Sequence[str] = (),
    steps: int = 10,
    title: str | None = None,
    size: int = 224,
    most: int | None = None,
) -> int:
    """Write a report of the maps in folders that ``explain`` made; return of how many samples.

    Parameters
    ----------
    folders
        Of runs of the same samples, each of one method.
    path
        Of the report.
    wanted
        Names of metrics to compute of the maps, for which the model is loaded.
    steps
        Of deletion and insertion.
    title, size
        As `report.write` takes them.
    most
        The most samples that are shown, the first ones.
    """
    runs = [_Results(folder) for folder in folders]
    first = runs[0]
    for other in runs[1:]:
        if other.asked.inputs != first.asked.inputs:
            raise InvalidParameterError(
                "runs of the same samples",
                f"{other.asked.inputs!r} beside {first.asked.inputs!r}",
                "Write a report of each.",
            )
    model = first.asked.load()
    samples = Samples(first.asked, model)
    places = {name: number for number, name in enumerate(samples.source.names)}
    shared = [name for name in places if all(name in run.good for run in runs)][:most]
    numbers, x, bad = _readable(samples, [places[name] for name in shared])
    names = [samples.source.names[number] for number in numbers]
    maps = {name: run.maps(names) for name, run in _named(runs).items()}
    entries = [first.good[name] for name in names]
    classes = _column_of([entry.target for entry in entries])
    found = _judged(first.asked, model, x, classes, maps, _metrics(wanted, steps))
    broken = [*((e.input, e.error or "") for run in runs for e in run.bad), *bad]
    _write(
        path,
        samples,
        numbers,
        maps,
        classes=classes,
        scores=_column_of([entry.score for entry in entries]),
        predictions=_column_of([entry.more.get("prediction") for entry in entries]),
        title=title or f"{', '.join(maps)} on {Path(first.asked.inputs).name}",
        settings=first.settings,
        facts=first.facts,
        warnings=[*dict.fromkeys(text for run in runs for text in run.warnings)],
        unreadable=[*dict.fromkeys(broken)],
        size=size,
        **found,
    )
    return len(numbers)


def _judged(
    asked: Asked, model: Any, x: Any, classes: Any, maps: Mapping[str, Any], wanted: dict[str, Any]
) -> dict[str, Any]:
    """Return what metrics say of maps that were made before, if any are asked for."""
    if not wanted:
        return {}
    if classes is None:
        raise InvalidInputError(
            "the class of each sample, for metrics", "none in the manifest", "Explain a class."
        )
    table = metrics.compare(
        {name: _metric_maps(each) for name, each in maps.items()},
        x,
        classes,
        wanted,
        model=model,
        references=False,
        **{k: v for k, v in asked.options.items() if k in ("output", "logits")},
    )
    return {"metrics": table.values, "better": table.better}


class _Results:
    """The results of one run."""

    def __init__(self, folder: Any) -> None:
        self.folder = Path(folder)
        self.settings, self.facts = _runs.read_settings(folder)
        self.asked = Asked.of(self.settings)
        self.warnings = list(_runs.read_notes(folder).get("warnings", []))
        entries = _runs.read_manifest(folder)
        self.good = {e.input: e for e in entries if e.status == _runs.OK and e.file is not None}
        self.bad = [entry for entry in entries if entry.status != _runs.OK]
        if self.settings.get("format") not in ("npy", "npz"):
            raise InvalidParameterError(
                "a run with --format npy or npz, whose maps are numbers",
                repr(self.settings.get("format")),
                "Run explain again with --format npy.",
            )
        if not self.good:
            raise InvalidInputError("at least one map", f"none in {str(folder)!r}", "Explain it.")

    def maps(self, names: Sequence[str]) -> np.ndarray | list[np.ndarray]:
        """Return the maps of inputs."""
        maps = [self._map(self.good[name].file) for name in names]
        return np.stack(maps) if len({map_.shape for map_ in maps}) == 1 else maps

    def _map(self, file: str | None) -> np.ndarray:
        held = np.load(_runs.inside(self.folder, file), allow_pickle=False)
        return held if isinstance(held, np.ndarray) else held["map"]


def _named(runs: Sequence[_Results]) -> dict[str, _Results]:
    """Return runs by their methods, and by their folders where these are the same."""
    methods = [run.settings["method"] for run in runs]
    return {
        method if methods.count(method) == 1 else f"{method} ({run.folder.name})": run
        for method, run in zip(methods, runs, strict=True)
    }


def _metric_maps(maps: Any) -> np.ndarray:
    if isinstance(maps, list):
        raise InvalidInputError(
            "samples of one size, for metrics", "several sizes", "Explain with --size."
        )
    return maps


def _column_of(values: Sequence[Any]) -> np.ndarray | None:
    return None if any(value is None for value in values) else np.array(values)


def _readable(samples: Samples, numbers: Any) -> tuple[list[int], Any, list[tuple[str, str]]]:
    """Return which samples can be read, these, and why not the others."""
    good, read, bad = [], [], []
    for record in samples.source.records(list(numbers), samples.shape):
        try:
            read.append(samples.read(record))
            good.append(record.number)
        except XpliqueSalError as error:
            bad.append((samples.source.names[record.number], str(error)))
    if not good:
        raise InvalidInputError("a sample that can be read", f"none ({bad[0][1]})", "Check them.")
    same = len({sample.shape for sample in read}) == 1
    return good, np.stack(read) if same else read, bad


def _write(
    path: Any,
    samples: Samples,
    numbers: Sequence[int],
    maps: Mapping[str, Any],
    **told: Any,
) -> None:
    truth = [samples.truth(number) for number in numbers]
    records = samples.source.records(numbers, samples.shape)
    # Pictures are shown as they were before they were prepared for the model.
    read = (lambda record: record.read()) if samples.source.has_images else samples.read
    shown = [read(record) for record in records]
    if samples.channels_first:
        maps = {name: _channels_last(each) for name, each in maps.items()}
    report.write(
        path,
        shown,
        maps,
        names=[samples.source.names[number] for number in numbers],
        labels=_column_of(truth),
        class_names=samples.classes or None,
        feature_names=samples.source.features,
        versions=versions().here,
        **told,
    )


def _channels_last(maps: Any) -> Any:
    """Return maps of models that take channels first as maps of pictures."""
    return [np.moveaxis(m, 0, -1) if m.ndim == 3 and m.shape[0] in (1, 3) else m for m in maps]
