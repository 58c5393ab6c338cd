"""A page that holds everything it shows, and asks no network for anything."""

from __future__ import annotations

import importlib.resources
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xplique_sal._parameters import integer, optional
from xplique_sal.report import pictures, samples


def write(
    path: Any,
    inputs: Any,
    maps: Any,
    *,
    tokens: Sequence[Sequence[str]] | None = None,
    kind: str | None = None,
    names: Sequence[str] | None = None,
    classes: Any = None,
    scores: Any = None,
    predictions: Any = None,
    labels: Any = None,
    class_names: Sequence[str] | None = None,
    feature_names: Sequence[str] | None = None,
    metrics: Mapping[str, Any] | None = None,
    better: Mapping[str, str] | None = None,
    title: str = "Saliency maps",
    settings: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
    versions: Mapping[str, str] | None = None,
    warnings: Sequence[str] = (),
    unreadable: Sequence[tuple[str, str]] = (),
    size: int = 224,
) -> None:
    """Write a report: one HTML file that opens in any browser, without a network.

    It shows samples with their maps and overlays, several methods side by side, with a slider for
    opacity and one for the share of the most important positions; they can be filtered and sorted
    by class, score, correctness and every metric. It can be used by keyboard, read by a screen
    reader, and printed. The file is written whole, or not at all.

    Parameters
    ----------
    path
        Of the file.
    inputs
        The samples: images (N, H, W, C), in any numbers, series (N, T, W), rows of a table (N, W),
        or a list of images of different sizes; ``None`` where there are `tokens`.
    maps
        By the names of methods, the maps of all samples, (N, ...); or those of one method. Of
        several channels of an image the value that is largest in magnitude is shown.
    tokens
        Of texts, the words of each.
    kind
        ``"image"``, ``"series"``, ``"table"`` or ``"text"``; by default what the shapes say.
    names
        What the samples are called; their numbers by default.
    classes
        The index of the class that was explained of each.
    scores
        The score that was explained of each.
    predictions
        The index of the class that the model chose for each.
    labels
        The index of the class that each really is.
    class_names
        The names of classes, by index.
    feature_names
        The names of the features of tables, or of the sensors of series.
    metrics
        By the names of metrics, a value for each sample, or such by method, as
        `metrics.compare(...).values` and `detailed_evaluate` have them, with their curves.
    better
        By the names of metrics, ``"lower"`` or ``"higher"``: `metrics.compare(...).better`.
    title
        What the report is called.
    settings
        How the maps were made, so that they can be made again.
    facts
        What else is known of the run.
    versions
        Of what made them; `xplique_sal.versions().here`.
    warnings
        What was warned of meanwhile.
    unreadable
        The names of what could not be explained, each with the reason.
    size
        The longest side of pictures in the file.

    Raises
    ------
    InvalidInputError
        If samples, maps and what is told of them do not belong together.
    InvalidParameterError
        If a parameter has a value that does not exist.
    ImportError
        If the extra ``cli`` is not installed.

    Examples
    --------
    >>> from xplique_sal import report
    >>> report.write("report.html", images, {"Saliency": maps})  # doctest: +SKIP
    """
    given = {name: value for name, value in locals().items() if name not in ("path", "inputs")}
    text = _page(inputs, **given)
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{secrets.token_hex(8)}.unfinished")
    try:
        unfinished.write_text(text, "utf-8", errors="replace")
        os.replace(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)


def show(inputs: Any, maps: Any, *, height: int = 720, **told: Any) -> Any:
    """Return a report as a notebook displays it, in a frame of its own.

    Parameters
    ----------
    inputs, maps
        As `write` takes them.
    height
        Of the frame, in pixels.
    told
        The other parameters of `write`.

    Returns
    -------
    display
        An object that a notebook shows; it needs no extension and no network.

    Raises
    ------
    InvalidInputError, InvalidParameterError, ImportError
        As `write` does.

    Examples
    --------
    >>> report.show(images, {"Saliency": maps}, class_names=names)  # doctest: +SKIP
    """
    return Frame(_page(inputs, maps, **told), integer("height", height))


class Frame:
    """A page in a frame, for a notebook."""

    def __init__(self, page: str, height: int) -> None:
        self._page, self._height = page, height

    def _repr_html_(self) -> str:
        escape: Any = optional("markupsafe", "Reports need", "cli").escape
        return (
            f'<iframe title="Saliency report" sandbox="allow-scripts allow-modals" width="100%" '
            f'height="{self._height}" style="border:0" srcdoc="{escape(self._page)}"></iframe>'
        )


def _page(inputs: Any, maps: Any, **told: Any) -> str:
    """Return the page."""
    tokens = told.get("tokens")
    kind = samples.kind_of(told.get("kind"), inputs, tokens)
    shown: Any = tokens if kind == "text" else inputs
    named = samples.maps_by_name(maps, len(shown))
    methods, size = [*named], integer("size", told.get("size", 224), 8)
    rows = samples.contents(kind, shown, named, size)
    count = len(rows)
    fields = {"n": "names", "c": "classes", "s": "scores", "p": "predictions", "t": "labels"}
    for key, name in fields.items():
        for row, value in zip(rows, samples.column(name, told.get(name), count), strict=True):
            if value is not None:
                row[key] = str(value) if key == "n" else value
    values = samples.values_of(told.get("metrics"), methods, count)
    curves = _add_metrics(rows, values)
    better = told.get("better") or {}
    data = {
        "kind": kind,
        "methods": methods,
        "metrics": [{"name": name, "better": better.get(name, "")} for name in values],
        "curves": curves,
        "classes": [*map(str, told.get("class_names") or [])],
        "features": [*map(str, told.get("feature_names") or [])],
        "colours": {
            "sequential": pictures.SEQUENTIAL.split(),
            "diverging": pictures.DIVERGING.split(),
        },
        "samples": rows,
    }
    return _rendered(data, told)


def _add_metrics(rows: list[dict[str, Any]], values: Mapping[str, list[Any]]) -> dict[str, Any]:
    """Add the values and curves of metrics to samples; return where the curves' points are."""
    at: dict[str, Any] = {}
    for name, of_methods in values.items():
        for place, found in enumerate(of_methods):
            if found is None:
                continue
            points = getattr(found, "curves", None)
            if points is not None and getattr(found, "at", None) is not None:
                at[name] = [round(float(x), 4) for x in found.at]
            for number, value in enumerate(np.asarray(found, np.float64)):
                held = rows[number].setdefault("q", {})
                held.setdefault(name, [None] * len(of_methods))[place] = _finite(value)
                if name in at and points is not None:
                    lines = rows[number].setdefault("k", {})
                    line = [_finite(y) for y in points[number]]
                    lines.setdefault(name, [None] * len(of_methods))[place] = line
    return at


def _finite(value: Any) -> float | None:
    return float(f"{float(value):.5g}") if np.isfinite(value) else None


def _rendered(data: dict[str, Any], told: Mapping[str, Any]) -> str:
    jinja2: Any = optional("jinja2", "Reports need", "cli")
    safe: Any = optional("markupsafe", "Reports need", "cli").Markup
    folder = importlib.resources.files("xplique_sal.report") / "assets"
    template, style, script = (
        (folder / name).read_text("utf-8") for name in ("page.html", "style.css", "script.js")
    )
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    # Where a page reads text of a user as data, no sign of it may end the script around it.
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for sign, escaped in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(sign, escaped)
    settings = [(name, _said(value)) for name, value in (told.get("settings") or {}).items()]
    facts = [(name, _said(value)) for name, value in (told.get("facts") or {}).items()]
    return str(
        environment.from_string(template).render(
            title=told.get("title", "Saliency maps"),
            count=len(data["samples"]),
            methods=data["methods"],
            settings=[pair for pair in settings if pair[1]],
            facts=[pair for pair in facts if pair[0] != "versions" and pair[1]],
            versions=[*(told.get("versions") or {}).items()],
            warnings=[*told.get("warnings", ())],
            unreadable=[*told.get("unreadable", ())],
            style=safe(style),
            script=safe(script),
            data=safe(text),
        )
    )


def _said(value: Any) -> str:
    """Return a value in words; nothing for what was not set."""
    if value is None or value in ([], {}, (), ""):
        return ""
    return value if isinstance(value, str) else json.dumps(value, default=str)
