"""What a page holds: values by a plain reading of its data, and text as text."""

import base64
import io
import json
import re

import numpy as np
import pytest

pytest.importorskip("jinja2", reason="the extra cli is not installed")
pytest.importorskip("PIL", reason="the extra cli is not installed")
from PIL import Image

from xplique_sal import report
from xplique_sal.errors import InvalidInputError, InvalidParameterError
from xplique_sal.metrics import SampleValues

EVIL = "</script><script>alert(1)</script><b>&amp;"


def page(tmp_path, *arguments, **told):
    report.write(tmp_path / "page.html", *arguments, **told)
    return (tmp_path / "page.html").read_text("utf-8")


def data(text):
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])


def picture(url):
    kind, _, content = url.partition(",")
    assert re.fullmatch(r"data:image/(png|webp);base64", kind)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


def test_images_and_maps_are_kept_as_levels(tmp_path, rng):
    images = rng.integers(0, 256, (3, 9, 8, 3), dtype=np.uint8)
    plain, signed = rng.random((3, 9, 8, 1)), rng.normal(size=(3, 9, 8))
    signed[1] = np.abs(signed[1])
    held = data(page(tmp_path, images, {"A": plain, "B": signed}))
    assert held["kind"] == "image" and held["methods"] == ["A", "B"]
    for number, sample in enumerate(held["samples"]):
        assert (sample["w"], sample["h"]) == (8, 9)
        np.testing.assert_array_equal(picture(sample["u"]), images[number])
        a, b = sample["m"]
        most = np.abs(signed[number]).max()
        assert (a["g"], b["g"]) == (False, True)  # one scale for all maps of a method
        np.testing.assert_allclose([a["x"], b["x"]], [plain[number].max(), most], rtol=1e-4)
        values = picture(a["u"]) / 255 * plain[number].max()
        np.testing.assert_allclose(values, plain[number, ..., 0], atol=plain.max() / 500)
        values = (picture(b["u"]) - 128.0) / 127 * most
        np.testing.assert_allclose(values, signed[number], atol=most / 250)


def test_large_images_become_smaller_and_floats_are_scaled(tmp_path, rng):
    images = [rng.random((50, 100, 1)), rng.normal(size=(300, 200, 3))]
    maps = [rng.random((50, 100)), rng.random((300, 200, 3))]
    held = data(page(tmp_path, images, maps, size=80))
    assert [(s["w"], s["h"]) for s in held["samples"]] == [(80, 40), (53, 80)]
    small = [rng.random((4, 4, 1)), np.array([[[-1.0], [3]]])]
    held = data(page(tmp_path, small, [np.ones((4, 4)), np.ones((1, 2))]))
    expected = np.rint(small[0][..., 0] * 255)
    np.testing.assert_array_equal(picture(held["samples"][0]["u"]), expected)
    np.testing.assert_array_equal(picture(held["samples"][1]["u"]), [[0, 255]])


def test_what_is_told_of_samples_is_there(tmp_path, rng):
    curves = rng.random((2, 3))
    values = SampleValues(curves.mean(1), curves, np.array([0, 0.5, 1]))
    held = data(
        page(
            *(tmp_path, rng.random((2, 4)), {"A": rng.normal(size=(2, 4)), "B": np.ones((2, 4))}),
            names=["one", EVIL],
            classes=np.array([1, 0]),
            scores=np.array([0.25, 2.0]),
            predictions=[1, None],
            labels=[0, 0],
            class_names=["x", "y"],
            feature_names=list("abcd"),
            metrics={"Deletion": {"A": values}, "Length": [3.0, float("nan")]},
            better={"Deletion": "lower"},
        )
    )
    first, second = held["samples"]
    assert (first["n"], first["c"], first["s"], first["p"], first["t"]) == ("one", 1, 0.25, 1, 0)
    assert second["n"] == EVIL and "p" not in second
    assert held["metrics"] == [
        *({"name": "Deletion", "better": "lower"}, {"name": "Length", "better": ""})
    ]
    np.testing.assert_allclose(first["k"]["Deletion"][0], curves[0], rtol=1e-4)
    assert held["curves"] == {"Deletion": [0, 0.5, 1]} and first["k"]["Deletion"][1] is None
    np.testing.assert_allclose(second["q"]["Deletion"][0], curves[1].mean(), rtol=1e-4)
    assert first["q"]["Length"] == [3, None] and second["q"]["Length"] == [None, None]


def test_text_of_users_is_text(tmp_path):
    text = page(
        *(tmp_path, None, {EVIL: [[1.0, 2]]}),
        tokens=[[EVIL, "é"]],
        names=[EVIL],
        classes=[0],
        class_names=[EVIL],
        title=EVIL,
        settings={EVIL: EVIL},
        facts={"what": [EVIL]},
        versions={"python": EVIL},
        warnings=[EVIL],
        unreadable=[(EVIL, EVIL)],
        metrics={EVIL: [1.0]},
    )
    assert text.count("<script") == 2 and "<b>&amp;" not in text and "alert(1)</script>" not in text
    held = data(text)
    assert held["methods"] == [EVIL] and held["samples"][0]["v"] == [EVIL, "é"]
    assert held["samples"][0]["m"] == [{"v": [1, 2], "g": False}]
    assert "http" not in re.sub(r"http://www\.w3\.org/2000/svg|http-equiv", "", text)


def test_series_and_tables_keep_their_numbers(tmp_path, rng):
    x, maps = rng.random((2, 6, 3)), rng.normal(size=(2, 6, 3))
    held = data(page(tmp_path, x, maps))
    assert held["kind"] == "series"
    np.testing.assert_allclose(held["samples"][1]["v"], x[1], rtol=1e-4)
    np.testing.assert_allclose(held["samples"][1]["m"][0]["v"], maps[1], rtol=1e-4)


def test_what_does_not_belong_together_is_refused(tmp_path, rng):
    images = rng.random((3, 4, 4, 3))
    maps = rng.random((3, 4, 4, 1))
    for wrong in (
        {"maps": maps[:2]},
        {"maps": {}},
        {"maps": np.full((3, 4, 4), np.nan)},
        {"maps": rng.random((3, 2, 4, 4, 1))},
        {"names": ["a"]},
        {"metrics": {"A": [1.0, 2]}},
        {"inputs": rng.random((3, 4, 4, 2))},
        {"inputs": rng.random((3, 4, 4, 4, 1))},
    ):
        with pytest.raises(InvalidInputError):
            report.write(tmp_path / "no.html", **{"inputs": images, "maps": maps, **wrong})
    for wrong in ({"kind": "sound"}, {"size": 1}):
        with pytest.raises(InvalidParameterError):
            report.write(tmp_path / "no.html", images, maps, **wrong)
    assert not [*tmp_path.iterdir()]
    grey = data(page(tmp_path, images[..., 0], maps, kind="image"))
    assert grey["kind"] == "image"


def test_a_notebook_shows_it_in_a_frame(rng):
    shown = report.show(rng.random((1, 3)), rng.random((1, 3)), height=300, title=EVIL)
    html = shown._repr_html_()
    assert html.startswith("<iframe") and 'height="300"' in html and "<script" not in html
