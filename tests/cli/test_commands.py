"""The commands in this process: what they write and say, and their exit codes."""

import importlib
import json
import re

import numpy as np
import pytest

pytest.importorskip("typer", reason="the extra cli is not installed")
pytest.importorskip("PIL", reason="the extra cli is not installed")
from pictures_of_shapes import make_model, read_pictures, write_pictures
from PIL import Image
from typer.testing import CliRunner

from xplique_sal import GradCAM, Saliency, SmoothGrad, _runs, attributions
from xplique_sal.cli import work
from xplique_sal.cli.app import app
from xplique_sal.cli.methods import make, method_of, settings_of
from xplique_sal.errors import InvalidInputError, InvalidParameterError, InvalidTargetError

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with pictures, of which one is broken, and a model of each Keras."""
    folder = tmp_path_factory.mktemp("place")
    write_pictures(folder / "images", 11, broken=[4])
    make_model("keras").save(folder / "model.keras")
    make_model("tf_keras").save(folder / "model.h5")
    for name, file in (("keras", "half.keras"), ("tf_keras", "half.h5")):
        policies = importlib.import_module(f"{name}.mixed_precision")
        before = policies.global_policy() if name == "tf_keras" else policies.dtype_policy()
        policies.set_global_policy("mixed_float16")
        try:
            make_model(name).save(folder / file)
        finally:
            policies.set_global_policy(before)
    return folder


def run(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)])


def explain(place, out, *more, model="model.keras"):
    return run(
        *("explain", place / model, place / "images", "--out", out, "--preprocess", "0-1"), *more
    )


def told(out):
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("model", ["model.keras", "model.h5", "half.keras", "half.h5"])
def test_maps_are_those_of_explain_bit_by_bit(place, tmp_path, model):
    done = explain(place, tmp_path / "out", "--logits", "--batch-size", "4", model=model)
    assert done.exit_code == 1
    lines = told(tmp_path / "out")
    names = [f"disc/{n:04}.png" for n in (1, 3, 5, 7, 9)]
    names += [f"square/{n:04}.png" for n in (0, 2, 4, 6, 8, 10)]
    assert [line["input"] for line in lines] == names
    (bad,) = (line for line in lines if line["status"] == "error")
    assert bad["input"] == "square/0004.png" and "picture" in bad["error"] and not bad["file"]
    good = [line for line in lines if line["status"] == "ok"]
    from xplique_sal._models.files import load

    loaded = load(place / model).model
    x = read_pictures([place / "images" / line["input"] for line in good])
    maps, scores = Saliency(loaded, batch_size=4, logits=True).explain_with_scores(x)
    found = np.stack([np.load(tmp_path / "out" / line["file"]) for line in good])
    np.testing.assert_array_equal(found, maps)
    np.testing.assert_array_equal([line["score"] for line in good], scores.numpy().astype(float))
    classes = np.asarray(loaded(x)).argmax(1)
    assert [line["class"] for line in good] == [line["prediction"] for line in good]
    np.testing.assert_array_equal([line["class"] for line in good], classes)


def test_a_second_run_does_only_what_is_missing(place, tmp_path, monkeypatch):
    monkeypatch.setattr(work, "_AT_ONCE", 1)  # told of batch by batch, as larger pictures are
    more = ("--method", "smoothgrad", "--set", "nb_samples=3", "--batch-size", "4", "--logits")
    assert explain(place, tmp_path / "whole", *more).exit_code == 1
    assert explain(place, tmp_path / "out", *more).exit_code == 1
    before = (tmp_path / "out" / "manifest.jsonl").read_bytes()
    kept = before.splitlines(keepends=True)[:4]  # as if it had been killed after a batch
    for line in before.splitlines()[4:]:
        if (file := json.loads(line)["file"]) is not None:
            (tmp_path / "out" / file).unlink()
    (tmp_path / "out" / "manifest.jsonl").write_bytes(b"".join(kept))
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "maps").rglob("*.npy")}
    assert len(times) == 4
    assert explain(place, tmp_path / "out", *more).exit_code == 1
    assert (tmp_path / "out" / "manifest.jsonl").read_bytes() == before
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    for path in (tmp_path / "whole" / "maps").rglob("*.npy"):
        again = tmp_path / "out" / path.relative_to(tmp_path / "whole")
        assert path.read_bytes() == again.read_bytes()
    x = read_pictures([place / "images" / line["input"] for line in told(tmp_path / "out")[:4]])
    first = SmoothGrad(make_model(), nb_samples=3, batch_size=4, logits=True, seed=0).explain(x)
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "maps/disc/0001.png.npy"), first[0])


def test_what_cannot_be_written_stops_the_run_with_whole_batches(place, tmp_path, monkeypatch):
    monkeypatch.setattr(work, "_AT_ONCE", 1)
    stage, left = _runs.Run.stage, iter(range(6))

    def full(self, file, content):
        if next(left, None) is None:
            raise OSError("No space left on device")
        stage(self, file, content)

    monkeypatch.setattr(_runs.Run, "stage", full)
    done = explain(place, tmp_path / "out", "--batch-size", "4")
    assert isinstance(done.exception, OSError)
    lines = [line["status"] for line in told(tmp_path / "out")]
    assert lines.count("ok") == 4  # of the second batch, half was written
    monkeypatch.undo()
    assert explain(place, tmp_path / "out", "--batch-size", "4").exit_code == 1
    assert sorted(line["status"] for line in told(tmp_path / "out")) == ["error"] + ["ok"] * 10


def test_other_settings_are_refused_and_changed_inputs_explained_again(place, tmp_path):
    write_pictures(tmp_path / "images", 3)
    command = ("explain", place / "model.keras", tmp_path / "images", "--out", tmp_path / "out")
    assert run(*command, "--preprocess", "0-1").exit_code == 0
    with pytest.raises(InvalidParameterError, match="preprocess='none' instead of '0-1'"):
        raise run(*command, "--preprocess", "none").exception
    with pytest.raises(InvalidParameterError, match="--preprocess for pictures"):
        raise run(*command).exception
    old = np.load(tmp_path / "out" / "maps" / "disc" / "0001.png.npy")
    scores = [line["score"] for line in told(tmp_path / "out")]
    Image.new("RGB", (40, 40), (200, 10, 10)).save(tmp_path / "images" / "disc" / "0001.png")
    assert run(*command, "--preprocess", "0-1").exit_code == 0
    assert np.abs(np.load(tmp_path / "out" / "maps" / "disc" / "0001.png.npy") - old).max() > 0
    again = [line["score"] for line in told(tmp_path / "out")]
    assert again[0] != scores[0] and again[1:] == scores[1:]


def test_pictures_of_maps(place, tmp_path):
    from xplique_sal.report.pictures import coloured, overlaid

    for kind in ("png", "overlay", "npz"):
        explain(place, tmp_path / kind, "--format", kind, "--method", "GradCAM", "--logits")
    x = read_pictures([place / "images" / "disc" / "0001.png"])
    map_ = GradCAM(make_model(), logits=True).explain(x).numpy()[0, :, :, 0]
    png = np.asarray(Image.open(tmp_path / "png" / "maps" / "disc" / "0001.png.png"))
    assert np.abs(png.astype(int) - coloured(map_)).max() <= 2
    over = np.asarray(Image.open(tmp_path / "overlay" / "maps" / "disc" / "0001.png.png"))
    assert np.abs(over.astype(int) - overlaid(map_, x[0])).max() <= 2
    with np.load(tmp_path / "npz" / "maps" / "disc" / "0001.png.npz") as held:
        np.testing.assert_allclose(held["map"][..., 0], map_, atol=1e-6)
        assert held["class"] == told(tmp_path / "npz")[0]["class"]


def test_targets(place, tmp_path):
    (tmp_path / "names.txt").write_text("disc\nsquare\n")
    cases = {
        "folder": ("--target", "folder"),
        "name": ("--target", "square", "--labels", tmp_path / "names.txt"),
        "index": ("--target", "1", "--truth", "folder", "--labels", tmp_path / "names.txt"),
    }
    found = {}
    for name, more in cases.items():
        explain(place, tmp_path / name, "--logits", *more)
        found[name] = [line for line in told(tmp_path / name) if line["status"] == "ok"]
    is_square = [int(line["input"].startswith("square")) for line in found["folder"]]
    assert [line["class"] for line in found["folder"]] == is_square
    assert {line["class"] for line in found["name"]} == {1}
    assert [line["truth"] for line in found["index"]] == is_square
    assert [line["score"] for line in found["name"]] == [line["score"] for line in found["index"]]
    with pytest.raises(InvalidTargetError, match="a class for --target"):
        raise explain(place, tmp_path / "x", "--target", "cat").exception
    with pytest.raises(InvalidTargetError, match="column"):
        raise explain(place, tmp_path / "x", "--target", "column:y").exception
    with pytest.raises(InvalidTargetError, match="7"):
        raise explain(place, tmp_path / "y", "--target", "7").exception


def test_a_table_with_a_row_that_cannot_be_read(tmp_path, rng):
    import keras

    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(3)])
    model.save(tmp_path / "model.keras")
    (tmp_path / "x.csv").write_text("a,b,y\n1,2,0\n3,?,1\n5,6,2\n")
    command = ("explain", tmp_path / "model.keras", tmp_path / "x.csv", "--out", tmp_path / "out")
    assert run(*command, "--target", "column:y").exit_code == 1
    lines = told(tmp_path / "out")
    assert [line["status"] for line in lines] == ["ok", "error", "ok"]
    weights = np.abs(model.get_weights()[0])
    for line, label in zip((lines[0], lines[2]), (0, 2), strict=True):
        assert line["class"] == label
        np.testing.assert_allclose(np.load(tmp_path / "out" / line["file"]), weights[:, label])


def test_inspect_says_what_maps_need(place):
    shown = run("inspect", place / "model.h5").stdout
    assert re.search(r"features\s+Conv2D\s+112", shown)
    assert "a softmax: explain with --logits" in shown and "the layer 'features'" in shown
    assert "1 rectifiers" in shown and "times a forward pass" in shown


def test_methods_are_named_and_explained():
    shown = run("methods").stdout
    assert all(name in shown for name in attributions.__all__)
    assert method_of("grad-cam") is GradCAM and method_of("gradcam++").__name__ == "GradCAMPP"
    with pytest.raises(InvalidParameterError, match="Saliency"):
        method_of("Salience")
    assert settings_of(["a=3", "b=x", "c=(1, 2)"]) == {"a": 3, "b": "x", "c": (1, 2)}
    with pytest.raises(InvalidParameterError, match="steps"):
        make("IntegratedGradients", make_model(), {"stepss": 3})
    assert make("SmoothGrad", make_model(), {"modifier": None}).seed == 0


def test_compare_and_report(place, tmp_path):
    common = ("--preprocess", "0-1", "--target", "folder", "--logits")
    html = tmp_path / "compare.html"
    done = run(
        *("compare", place / "model.keras", place / "images", "--methods", "saliency,gradcam"),
        *("--metrics", "Deletion", "--steps", "3", "--html", html, *common),
    )
    assert done.exit_code == 1 and "random map" in done.stdout and "GradCAM" in done.stdout
    for method in ("Saliency", "GradCAM"):
        explain(place, tmp_path / method, "--method", method, "--target", "folder", "--logits")
    both = (tmp_path / "Saliency", tmp_path / "GradCAM")
    made = run("report", *both, "--metrics", "Deletion", "--steps", "3")
    assert made.exit_code == 0, made.exception
    pages = [html, tmp_path / "Saliency" / "report.html"]
    datas = []
    for page in pages:
        text = page.read_text()
        assert "square/0004.png" in text.partition("How this was made")[2]
        held = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1]
        datas.append(json.loads(held))
    for one, other in zip(*(data["samples"] for data in datas), strict=True):
        assert one["n"] == other["n"] and one["c"] == other["c"] and one["t"] == one["c"]
        np.testing.assert_allclose(one["q"]["Deletion"], other["q"]["Deletion"], rtol=1e-3)
        assert one["m"] == other["m"]
    run_of = tmp_path / "png"
    explain(place, run_of, "--format", "png")
    with pytest.raises(InvalidParameterError, match="--format npy"):
        raise run("report", run_of).exception
    with pytest.raises(InvalidParameterError, match="a run has made"):
        raise run("report", place / "images").exception


def test_a_sample_that_no_gradient_can_be_taken_at_is_told_and_the_others_go_on(tmp_path):
    import keras

    x = keras.Input((2,))
    keras.Model(x, keras.ops.sqrt(x)).save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", np.array([[1.0, 4], [0, 1], [9, 4], [np.nan, 1]], "float32"))
    command = ("explain", tmp_path / "model.keras", tmp_path / "x.npy", "--out", tmp_path / "out")
    assert run(*command, "--target", "0").exit_code == 1
    lines = told(tmp_path / "out")
    assert [line["status"] for line in lines] == ["ok", "error", "ok", "error"]
    assert "finite" in lines[1]["error"] and "NaN" in lines[3]["error"]
    np.testing.assert_allclose(np.load(tmp_path / "out" / lines[2]["file"]), [1 / 6, 0], rtol=1e-6)
    with pytest.raises(InvalidInputError, match="one input"):
        pair = keras.Model([x, y := keras.Input((2,))], keras.ops.add(x, y))
        pair.save(tmp_path / "pair.keras")
        raise run(
            *("explain", tmp_path / "pair.keras", tmp_path / "x.npy", "--out", tmp_path / "p")
        ).exception
