"""The demo: its data, its measure, and its result on both Kerases."""

import numpy as np
import pytest

from xplique_sal import demo


def test_a_canvas_is_noise_plus_its_digit():
    from sklearn.datasets import load_digits

    train, test = demo.digit_canvases(seed=3, train_copies=2, test_share=0.25, noise=0.0)

    assert len(test.images) == 449 and len(train.images) == 2 * (1797 - 449)
    known = {digit.tobytes() for digit in load_digits().images.astype(np.float32)}
    for image, (top, left, bottom, right) in zip(test.images[:50], test.boxes[:50], strict=True):
        inside = image[top:bottom, left:right, 0]
        assert inside.shape == (16, 16)
        np.testing.assert_array_equal(np.repeat(np.repeat(inside[::2, ::2], 2, 0), 2, 1), inside)
        assert (inside[::2, ::2] * 16).tobytes() in known
        assert inside.sum() == pytest.approx(image.sum())


def test_noise_has_the_asked_deviation_and_seeds_repeat():
    once, _ = demo.digit_canvases(seed=1, train_copies=1)
    again, _ = demo.digit_canvases(seed=1, train_copies=1)
    other, _ = demo.digit_canvases(seed=2, train_copies=1)
    clean, _ = demo.digit_canvases(seed=1, train_copies=1, noise=0.0)

    np.testing.assert_array_equal(once.images, again.images)
    assert not np.array_equal(once.images, other.images)
    np.testing.assert_array_equal(once.boxes, clean.boxes)
    assert np.std(once.images - clean.images) == pytest.approx(demo.NOISE, rel=0.01)


def test_no_digit_is_in_both_parts():
    train, test = demo.digit_canvases(seed=0, train_copies=1, noise=0.0)

    def digits(canvases):
        return {
            image[top:bottom, left:right].tobytes()
            for image, (top, left, bottom, right) in zip(
                canvases.images, canvases.boxes, strict=True
            )
        }

    assert not digits(train) & digits(test)


def test_pointing_ratio_of_known_maps():
    boxes = np.array([[0, 0, 2, 2], [1, 2, 3, 4]])
    inside = np.zeros((2, 4, 4, 1))
    inside[0, :2, :2] = inside[1, 1:3, 2:4] = 0.5
    half = inside + 0.5 * (inside == 0) * (4 / 12)

    assert demo.pointing_ratio(inside, boxes) == pytest.approx(4.0)
    assert demo.pointing_ratio(half, boxes) == pytest.approx(2.0)
    assert demo.pointing_ratio(np.ones((2, 4, 4)), boxes) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("maps", "boxes", "message"),
    [
        (np.ones((2, 4, 4, 3)), np.zeros((2, 4)), "shape"),
        (np.ones((2, 4, 4)), np.zeros((3, 4)), "shape"),
        (-np.ones((1, 4, 4)), np.array([[0, 0, 1, 1]]), "non-negative"),
        (np.zeros((1, 4, 4)), np.array([[0, 0, 1, 1]]), "zero everywhere"),
    ],
)
def test_pointing_ratio_refuses_what_it_cannot_measure(maps, boxes, message):
    with pytest.raises(ValueError, match=message):
        demo.pointing_ratio(maps, boxes)


@pytest.mark.parametrize("keras", [2, 3])
def test_saliency_falls_on_the_digits(keras, tmp_path, capsys):
    picture = tmp_path / "folder" / "demo.png"

    figures = demo.main(["--keras", str(keras), "--output", str(picture), "--seed", "1"])

    assert figures["accuracy"] > 0.8
    assert figures["trained"] >= 3
    assert figures["trained"] > figures["untrained"]
    assert figures["random"] == pytest.approx(1.0, abs=0.02)
    assert picture.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert f"{figures['accuracy']:.3f}" in printed and f"{figures['trained']:.2f}" in printed


@pytest.mark.parametrize("missing", ["sklearn", "matplotlib"])
def test_a_missing_extra_is_named(missing, monkeypatch, tmp_path):
    def load(name):
        if name.split(".")[0] == missing:
            raise ModuleNotFoundError(f"No module named {missing!r}")
        return original(name)

    original = demo.importlib.import_module
    monkeypatch.setattr(demo.importlib, "import_module", load)
    with pytest.raises(SystemExit, match=rf'needs {missing}.*pip install "xplique-sal\[demo\]"'):
        demo.main(["--output", str(tmp_path / "demo.png")])
