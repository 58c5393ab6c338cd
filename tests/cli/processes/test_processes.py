"""The command line as a process: exit codes, signals, and runs that were killed and go on."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("typer", reason="the extra cli is not installed")
from pictures_of_shapes import make_model, read_pictures, write_pictures

from xplique_sal import SmoothGrad

pytestmark = pytest.mark.processes

PACKAGE = Path(__file__).parents[3]
BROKEN = (17, 90, 143)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    write_pictures(folder / "images", 200, broken=BROKEN)
    make_model().save(folder / "model.keras")
    return folder


def command(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.Popen(
        [sys.executable, "-m", "xplique_sal", *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def explain(place, out):
    return command(
        *("explain", place / "model.keras", place / "images", "--out", out),
        *("--preprocess", "0-1", "--logits", "--method", "SmoothGrad"),
        *("--set", "nb_samples=200", "--batch-size", "4"),
    )


def told(out):
    with contextlib.suppress(FileNotFoundError):
        return (out / "manifest.jsonl").read_bytes().splitlines()
    return []


def stop_half_way(process, out, number):
    """Send a signal when a part of the inputs is told of; return whether it was still at work."""
    deadline = time.monotonic() + 120
    while len(told(out)) < 60 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(number)
    said = process.communicate(timeout=60)
    assert 60 <= len(told(out)) < 200, said
    return process.returncode


def content(out):
    """Return every map, as bytes, by its name, when it was written, and no half-written file."""
    files = [path for path in out.rglob("*") if path.is_file()]
    assert not [path for path in files if path.name.startswith(".")]
    maps = [path for path in files if path.suffix == ".npy"]
    return (
        {str(path.relative_to(out)): path.read_bytes() for path in maps},
        {str(path.relative_to(out)): path.stat().st_mtime_ns for path in maps},
    )


def test_a_killed_run_goes_on_and_ends_as_one_that_was_not(place, tmp_path):
    whole = explain(place, tmp_path / "whole")
    said = whole.communicate(timeout=240)
    assert whole.returncode == 1, said
    lines = [json.loads(line) for line in told(tmp_path / "whole")]
    good = [line for line in lines if line["status"] == "ok"]
    bad = {line["input"] for line in lines if line["status"] == "error"}
    assert len(good) == 197 and {int(name[-8:-4]) for name in bad} == set(BROKEN)
    assert all(name in said[1] for name in bad) and "3 inputs could not be explained" in said[1]

    out = tmp_path / "out"
    assert stop_half_way(explain(place, out), out, signal.SIGKILL) == -signal.SIGKILL
    before = {json.loads(line)["input"] for line in told(out)}
    finished = {path: path.stat().st_mtime_ns for path in (out / "maps").rglob("[!.]*.npy")}
    again = explain(place, out)
    said = again.communicate(timeout=240)
    assert again.returncode == 1, said
    maps, times = content(out)
    expected, _ = content(tmp_path / "whole")
    assert maps == expected and len(maps) == 197
    assert told(out) == told(tmp_path / "whole")
    for path, when in finished.items():  # none was made twice
        assert times[str(path.relative_to(out))] == when
    notes = json.loads((out / "notes.json").read_text())
    done_before = len(before - bad)
    assert notes["explained"] == 200 - done_before  # what was missing, broken ones again

    third = explain(place, out)
    third.communicate(timeout=240)
    assert third.returncode == 1 and content(out)[1] == times

    x = read_pictures([place / "images" / line["input"] for line in good])
    model = make_model()
    made = SmoothGrad(model, nb_samples=200, batch_size=4, logits=True, seed=0).explain(x)
    for line, map_ in zip(good, made.numpy(), strict=True):
        # Another process may add up in another order: `test_commands` compares bit by bit.
        np.testing.assert_allclose(np.load(out / line["file"]), map_, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
def test_a_stopped_run_says_so(place, tmp_path, number, code):
    assert stop_half_way(explain(place, tmp_path / "out"), tmp_path / "out", number) == code


def test_what_does_not_exist_is_refused(place, tmp_path):
    cases = [
        ("explain", place / "missing.keras", place / "images", "--out", tmp_path / "a"),
        ("explain", place / "model.keras", place / "images", "--out", tmp_path / "a", "--metod"),
        ("inspect", place / "images" / "disc" / "0001.png"),
    ]
    for process in [command(*case) for case in cases]:
        out, error = process.communicate(timeout=120)
        assert process.returncode == 2, (out, error)
        assert "Traceback" not in error
    assert not (tmp_path / "a").exists()
