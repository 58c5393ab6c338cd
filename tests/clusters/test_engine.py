"""The command line on Ray: its folder is that of one process, and either ends the other's."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

ray = pytest.importorskip("ray", reason="Ray is not installed: `make test-ray` has it")
pytest.importorskip("ray.data", reason="Ray Data is not installed: `make test-ray` has it")
pytest.importorskip("typer", reason="the extra cli is not installed")
pytest.importorskip("PIL", reason="the extra cli is not installed")

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "cli"))

from pictures_of_shapes import make_model, write_pictures  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from xplique_sal.cli.app import app  # noqa: E402
from xplique_sal.errors import XpliqueSalError  # noqa: E402

pytestmark = [pytest.mark.timeout(600), pytest.mark.filterwarnings("default")]
SMOOTH = ("--method", "SmoothGrad", "--set", "nb_samples=3")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Pictures, of which one is broken, a model, and a Ray of three CPUs."""
    if ray.is_initialized():
        ray.shutdown()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = str(HERE.parents[1])
    small = {"object_store_memory": 100 << 20, "include_dashboard": False}
    ray.init(address="local", num_cpus=3, **small)
    folder = tmp_path_factory.mktemp("place")
    write_pictures(folder / "images", 11, broken=[4])
    write_pictures(folder / "whole", 10)
    make_model().save(folder / "model.keras")
    yield folder
    ray.shutdown()


def explain(place, out, *more, images="images"):
    command = ("explain", place / "model.keras", place / images, "--out", out)
    options = ("--preprocess", "0-1", "--logits", "--batch-size", "4", *more)
    return CliRunner().invoke(app, [*map(str, (*command, *options))])


def told(out):
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def assert_same(one, other):
    """Compare folders: every line but its score is the same, and scores and maps to rounding."""
    lines, others = told(one), told(other)
    scores = [[line.pop("score") for line in each] for each in (lines, others)]
    assert lines == others
    known = [[score for score in each if score is not None] for each in scores]
    np.testing.assert_allclose(*known, rtol=1e-5)
    names = {str(path.relative_to(one)) for path in one.rglob("*") if path.is_file()}
    assert names == {str(path.relative_to(other)) for path in other.rglob("*") if path.is_file()}
    for name in (name for name in names if name.endswith(".npy")):
        found, expected = np.load(other / name), np.load(one / name)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("more", [(), SMOOTH], ids=["Saliency", "SmoothGrad"])
def test_the_folder_is_that_of_one_process(place, tmp_path, more):
    images = "whole" if more else "images"
    local = explain(place, tmp_path / "local", *more, images=images)
    more = (*more, "--engine", "ray", "--actors", "2")
    found = explain(place, tmp_path / "ray", *more, images=images)
    assert found.exit_code == local.exit_code == (0 if images == "whole" else 1), found.output
    assert_same(tmp_path / "local", tmp_path / "ray")
    settings = [
        json.loads((tmp_path / name / "settings.json").read_text())["settings"]
        for name in ("local", "ray")
    ]
    assert settings[0] == settings[1]


def test_a_run_of_one_process_is_ended_by_actors_and_nothing_is_done_twice(place, tmp_path):
    out = tmp_path / "out"
    assert explain(place, tmp_path / "local").exit_code == 1
    assert explain(place, out).exit_code == 1
    lines = (out / "manifest.jsonl").read_bytes().splitlines(keepends=True)
    (out / "manifest.jsonl").write_bytes(b"".join(lines[:3] + lines[8:9]))
    kept = {json.loads(line)["file"] for line in lines[:3] + lines[8:9]}
    for line in map(json.loads, lines):
        if line["file"] and line["file"] not in kept:
            (out / line["file"]).unlink()
    times = {file: (out / file).stat().st_mtime_ns for file in kept}
    assert explain(place, out, "--engine", "ray", "--actors", "1").exit_code == 1
    assert_same(tmp_path / "local", out)
    assert times == {file: (out / file).stat().st_mtime_ns for file in kept}
    before = (out / "manifest.jsonl").read_bytes()
    assert explain(place, out, "--engine", "ray", "--actors", "1").exit_code == 1
    assert (out / "manifest.jsonl").read_bytes() == before


def test_what_does_not_fit_is_the_error_of_one_process(place, tmp_path):
    more = ("--layer", "nowhere")
    local = explain(place, tmp_path / "local", *more).exception
    found = explain(place, tmp_path / "ray", *more, "--engine", "ray", "--actors", "1").exception
    assert isinstance(found, XpliqueSalError)
    assert type(found) is type(local) and str(found) == str(local)
