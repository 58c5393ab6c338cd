"""The commands, with what each option means to somebody who does not program.

What a command needs is imported when it runs: none waits for what another needs.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from xplique_sal import attributions, versions
from xplique_sal.cli import methods, preprocessing
from xplique_sal.cli.asked import Asked
from xplique_sal.errors import XpliqueSalError

#: What the process ends with.
SOME_BAD, REFUSED, INTERRUPTED, TERMINATED = 1, 2, 130, 143

_HELP = """Show which parts of an input the answer of a TensorFlow model depends on.

Start with [bold]inspect[/bold] to see what your model is made of, [bold]methods[/bold] to choose
how to explain it, [bold]explain[/bold] to make maps, and [bold]report[/bold] to look at them."""

app = typer.Typer(
    help=_HELP, rich_markup_mode="rich", no_args_is_help=True, pretty_exceptions_enable=False
)
_told = Console(stderr=True)


class Format(str, Enum):
    """How maps are written."""

    npy = "npy"
    npz = "npz"
    png = "png"
    overlay = "overlay"


class Engine(str, Enum):
    """What does the work."""

    local = "local"
    ray = "ray"


_Model = Annotated[
    Path, typer.Argument(help="The model: a .keras, .h5 or .tflite file, or a SavedModel's folder.")
]
_Inputs = Annotated[
    Path,
    typer.Argument(
        help="What it is shown: a folder of pictures, or a .npy, .npz, .csv, .parquet or .tfrecord "
        "file."
    ),
]
_MODEL, _INPUTS, _EXPLAINED = "How the model is read", "How inputs are read", "What is explained"
_MACHINES = "Which machines do it"


def _option(help_: str, panel: str, *names: str, **settings: Any) -> Any:
    return typer.Option(*names, help=help_, rich_help_panel=panel, **settings)


Target = Annotated[
    str,
    _option(
        "Which class to explain: argmax (the model's own answer), an index, a name from --labels, "
        "folder (the name of the folder that a picture is in) or column:NAME.",
        _EXPLAINED,
    ),
]
Truth = Annotated[
    str | None,
    _option("What inputs really are, for the report: folder or column:NAME.", _EXPLAINED),
]
Labels = Annotated[
    Path | None,
    _option("A file with the name of each class on its own line (or in JSON).", _EXPLAINED),
]
Layer = Annotated[
    str | None, _option("Explain this layer's output instead: see inspect.", _EXPLAINED)
]
Output = Annotated[
    str | None, _option("Of a model with several outputs, the one to explain.", _EXPLAINED)
]
Logits = Annotated[
    bool,
    _option("Explain the score before a final softmax or sigmoid: usually better.", _EXPLAINED),
]
Preprocess = Annotated[
    str | None,
    _option(
        "How pixels were prepared when the model learnt: "
        f"{', '.join(preprocessing.NAMES[:7])}, or the name of a model of keras.applications.",
        _INPUTS,
    ),
]
Mean = Annotated[str | None, _option("For mean-std: numbers with commas between.", _INPUTS)]
Std = Annotated[str | None, _option("For mean-std: numbers with commas between.", _INPUTS)]
Size = Annotated[
    str | None, _option("HEIGHTxWIDTH of pictures, for a model that takes any.", _INPUTS)
]
Key = Annotated[
    str | None,
    _option("Which array, column or feature of a file, if it has several.", _INPUTS),
]
NotFeatures = Annotated[
    str | None, _option("Columns of a table that the model does not get.", _INPUTS)
]
Megapixels = Annotated[float, _option("Refuse larger pictures.", _INPUTS)]
Gigabytes = Annotated[float, _option("Refuse files that unpack to more.", _INPUTS)]
Unsafe = Annotated[
    bool,
    _option("Let the model's file run code of its own. Only if you trust who made it.", _MODEL),
]
Keras = Annotated[
    int | None,
    _option("2 or 3: which Keras reads it; by default the one that wrote it.", _MODEL, "--keras"),
]
Signature = Annotated[str | None, _option("Of a SavedModel, the function to run.", _MODEL)]
Import = Annotated[
    list[str] | None,
    _option("A Python module that registers layers of your own.", _MODEL, "--import"),
]
BatchSize = Annotated[
    str, typer.Option(help="Inputs at once: fewer need less memory; auto finds the fastest.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any other parameter of the method, such as nb_samples=20."),
]
Modifier = Annotated[
    str | None, typer.Option(help="What happens at ReLUs on the way back: guided or deconv.")
]
Rule = Annotated[str | None, typer.Option(help="For LRP: its rule, such as epsilon_plus.")]


def _asked(local: dict[str, Any]) -> Asked:
    """Return what the options of a command say together."""
    options = {
        "layer": _index_or_name(local["layer"]),
        "output": _index_or_name(local["output"]),
        "logits": local["logits"] or None,
        "modifier": local.get("modifier"),
        "rule": local.get("rule"),
        **methods.settings_of(local.get("set_") or []),
    }
    size, batch = local["batch_size"], _numbers(local["size"], "--size", "x", int)
    if size != "auto":
        (size,) = _numbers(size, "--batch-size", ",", int) or (64,)
    not_features = local["not_features"]
    return Asked(
        model=str(local["model"]),
        inputs=str(local["inputs"]),
        target=local["target"],
        truth=local["truth"],
        labels=None if local["labels"] is None else str(local["labels"]),
        options={name: value for name, value in options.items() if value is not None},
        preprocess=local["preprocess"],
        mean=_numbers(local["mean"], "--mean", ",", float),
        std=_numbers(local["std"], "--std", ",", float),
        size=batch,
        key=local["key"],
        not_features=[] if not_features is None else not_features.split(","),
        batch_size=size,
        unsafe=local["unsafe"],
        keras=local["reader"],
        signature=local["signature"],
        imports=local["import_"] or [],
        most_megapixels=local["most_megapixels"],
        most_gigabytes=local["most_gigabytes"],
    )


def _index_or_name(text: str | None) -> int | str | None:
    try:
        return None if text is None else int(text)
    except ValueError:
        return text


def _numbers(text: str | None, option: str, sign: str, kind: Any) -> list[Any] | None:
    try:
        return None if text is None else [kind(part) for part in str(text).lower().split(sign)]
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} are no numbers", param_hint=option) from error


@app.command()
def explain(
    model: _Model,
    inputs: _Inputs,
    out: Annotated[Path, typer.Option(help="The folder of the maps. Made if it is missing.")],
    method: Annotated[str, typer.Option(help="How: see methods.")] = "Saliency",
    target: Target = "argmax",
    truth: Truth = None,
    labels: Labels = None,
    layer: Layer = None,
    output: Output = None,
    logits: Logits = False,
    modifier: Modifier = None,
    rule: Rule = None,
    set_: Set = None,
    format_: Annotated[
        Format,
        typer.Option(
            "--format",
            help="npy or npz: numbers, for a report; png: the map as a picture; overlay: over the "
            "input.",
        ),
    ] = Format.npy,
    engine: Annotated[
        Engine,
        _option(
            "local: this process; ray: processes of Ray, here or on the cluster of RAY_ADDRESS, "
            "whose machines all see the model, the inputs and the folder.",
            _MACHINES,
        ),
    ] = Engine.local,
    actors: Annotated[
        int | None, _option("For ray: how many processes; all CPUs but one by default.", _MACHINES)
    ] = None,
    cpus: Annotated[float, _option("For ray: CPUs of each process.", _MACHINES)] = 1,
    gpus: Annotated[
        float | None, _option("For ray: GPUs of each process, or which share of one.", _MACHINES)
    ] = None,
    batch_size: BatchSize = "64",
    preprocess: Preprocess = None,
    mean: Mean = None,
    std: Std = None,
    size: Size = None,
    key: Key = None,
    not_features: NotFeatures = None,
    most_megapixels: Megapixels = 100,
    most_gigabytes: Gigabytes = 8,
    unsafe: Unsafe = False,
    reader: Keras = None,
    signature: Signature = None,
    import_: Import = None,
) -> None:
    """Make a map of each input: which parts of it speak for the model's answer.

    A run that was stopped goes on with the same command, and does only what is missing. What
    cannot be read is named at the end and in manifest.jsonl; the exit code is 1 then.
    """
    from xplique_sal.cli import work

    asked, kind = _asked(locals()), methods.method_of(method).__name__
    about = {"started": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "versions": dict(versions().here)}
    elsewhere = None
    if engine is Engine.ray:
        from xplique_sal.cli import cluster

        elsewhere = cluster.pool(
            asked, kind, format_.value, actors=actors, num_cpus=cpus, num_gpus=gpus
        )
    with _bar() as progress:
        good, bad = work.explain(asked, kind, out, format_.value, progress, about, elsewhere)
    _told.print(f"{good} maps in {out}", highlight=False, markup=False)
    if bad:
        _say_bad(out, bad)
        raise typer.Exit(SOME_BAD)


def _say_bad(out: Path, bad: int) -> None:
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_bytes().splitlines()]
    broken = [line for line in lines if line["status"] != "ok"]
    for line in broken[:10]:
        _told.print(f"  {line['input']}: {line['error']}", highlight=False, markup=False)
    _told.print(f"{bad} inputs could not be explained: see {out / 'manifest.jsonl'}", markup=False)


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """Show a bar with the rate and the time that is left; return what moves it."""
    columns = (
        *(TextColumn("explained"), BarColumn(), MofNCompleteColumn()),
        *(TextColumn("{task.fields[rate]}"), TimeElapsedColumn()),
        *(TextColumn("left"), TimeRemainingColumn()),
    )
    with Progress(*columns, console=_told) as shown:
        task, start, before = shown.add_task("", total=None, rate=""), time.monotonic(), None

        def move(done: int, of: int) -> None:
            nonlocal before
            before = done if before is None else before
            seconds = time.monotonic() - start
            rate = f"{(done - before) / seconds:.1f} a second" if done > before else ""
            shown.update(task, completed=done, total=of, rate=rate)

        yield move


@app.command("methods")
def list_methods() -> None:
    """Say which methods there are, and what each of them shows."""
    table = Table(show_lines=False, box=None)
    table.add_column("method", style="bold", no_wrap=True)
    table.add_column("what its map shows")
    for name in attributions.__all__:
        table.add_row(name, methods.summary(name))
    Console().print(table)


@app.command()
def inspect(
    model: _Model,
    size: Size = None,
    unsafe: Unsafe = False,
    reader: Keras = None,
    signature: Signature = None,
    import_: Import = None,
    most_gigabytes: Gigabytes = 8,
) -> None:
    """Say what a model is made of, what its maps need, and what they cost."""
    from xplique_sal.cli import facts

    asked = Asked(
        str(model),
        "",
        unsafe=unsafe,
        keras=reader,
        signature=signature,
        imports=import_ or [],
        most_gigabytes=most_gigabytes,
    )
    loaded = asked.load()
    pixels = _numbers(size, "--size", "x", int)
    console = Console()
    layers = facts.layers(loaded)
    if layers:
        table = Table("layer (for --layer)", "kind", "weights", box=None)
        table.columns[2].justify = "right"
        for row in layers:
            table.add_row(*row)
        console.print(table)
        console.print()
    table = Table(box=None, show_header=False)
    for name, text in facts.facts(
        loaded, None if pixels is None else (pixels[0], pixels[1])
    ).items():
        table.add_row(f"[bold]{name}[/bold]", text)
    console.print(table)


@app.command()
def compare(
    model: _Model,
    inputs: _Inputs,
    methods_: Annotated[
        str, typer.Option("--methods", help="Names of methods, with commas between.")
    ] = "Saliency,GradientInput,GradCAM",
    metrics: Annotated[
        str, typer.Option(help="Names of metrics, with commas between.")
    ] = "Deletion,Insertion,MuFidelity",
    steps: Annotated[int, typer.Option(help="Points of the curves of deletion.")] = 10,
    html: Annotated[
        Path | None, typer.Option(help="Write a report with all maps and curves, too.")
    ] = None,
    target: Target = "argmax",
    truth: Truth = None,
    labels: Labels = None,
    layer: Layer = None,
    output: Output = None,
    logits: Logits = False,
    batch_size: BatchSize = "64",
    preprocess: Preprocess = None,
    mean: Mean = None,
    std: Std = None,
    size: Size = None,
    key: Key = None,
    not_features: NotFeatures = None,
    most_megapixels: Megapixels = 100,
    most_gigabytes: Gigabytes = 8,
    unsafe: Unsafe = False,
    reader: Keras = None,
    signature: Signature = None,
    import_: Import = None,
) -> None:
    """Say which method can be believed on this model: a table of methods and metrics.

    A random map and the model with random weights stand beside: a method has to beat both.
    """
    from xplique_sal.cli import tables

    asked = _asked(locals())
    names = [methods.method_of(name).__name__ for name in methods_.split(",")]
    table, bad = tables.compare(asked, names, metrics.split(","), steps, html)
    print(table)
    for name, error in bad:
        _told.print(f"  {name}: {error}", highlight=False, markup=False)
    if bad:
        raise typer.Exit(SOME_BAD)


@app.command()
def report(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders that explain made, of one method each.")
    ],
    to: Annotated[
        Path | None, typer.Option(help="The file; report.html in the first folder by default.")
    ] = None,
    metrics: Annotated[
        str, typer.Option(help="Metrics to compute of the maps, such as Deletion,Insertion.")
    ] = "",
    steps: Annotated[int, typer.Option(help="Points of the curves of deletion.")] = 10,
    title: Annotated[str | None, typer.Option(help="The report's title.")] = None,
    pixels: Annotated[int, typer.Option(help="The longer side of pictures in it.")] = 224,
    most: Annotated[int | None, typer.Option(help="The most inputs to show.")] = None,
) -> None:
    """Write one HTML file with all inputs and maps, to look at in a browser, offline."""
    from xplique_sal.cli import tables

    path = to or folders[0] / "report.html"
    wanted = [name for name in metrics.split(",") if name]
    count = tables.report_of(
        folders, path, wanted=wanted, steps=steps, title=title, size=pixels, most=most
    )
    _told.print(f"{count} inputs in {path}", highlight=False, markup=False)


def _stopped(number: int, _: Any) -> None:
    if number == signal.SIGINT:
        _told.print("Stopped. The same command goes on from here.")
        raise SystemExit(INTERRUPTED)
    raise SystemExit(TERMINATED)


def run() -> None:
    """Run the command that the process was given, and end the process with its exit code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stopped)
    try:
        app(prog_name="xplique-sal")
    except XpliqueSalError as error:
        _told.print(str(error), style="red", highlight=False, markup=False)
    except (ImportError, OSError) as error:
        _told.print(f"{type(error).__name__}: {error}", style="red", highlight=False, markup=False)
    sys.exit(REFUSED)
