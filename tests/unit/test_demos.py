"""What the demos promise, on both Kerases; `test_demo` has the first of them."""

import numpy as np
import pytest

from xplique_sal import demo
from xplique_sal.demo import regression


def figures(what, keras, tmp_path, capsys, seed):
    picture = tmp_path / f"{what}.png"
    found = demo.main(
        ["--what", what, "--keras", str(keras), "--seed", str(seed), "--output", str(picture)]
    )
    assert picture.read_bytes().startswith(b"\x89PNG")
    return found, capsys.readouterr().out


@pytest.mark.parametrize("keras", [2, 3])
def test_every_class_image_is_classified_as_its_class(keras, tmp_path, capsys):
    found, printed = figures("class_visualisation", keras, tmp_path, capsys, 1)
    assert found["p"] > 0.99
    assert found["gain"] > 0
    assert f"{found['p']:.4f}" in printed


@pytest.mark.parametrize("keras", [2, 3])
def test_boxes_made_from_saliency_overlap_the_digits(keras, tmp_path, capsys):
    found, printed = figures("localisation", keras, tmp_path, capsys, 1)
    assert found["trained"] > 0.95
    assert found["trained"] > found["untrained"] > found["centre"]
    assert f"{found['trained']:.3f}" in printed


@pytest.mark.parametrize("keras", [2, 3])
def test_what_increases_an_angle_is_not_what_decreases_or_maintains_it(keras, tmp_path, capsys):
    found, printed = figures("regression", keras, tmp_path, capsys, 1)
    assert found["error"] < 0.05
    assert found["increase_far"] > 0.5 > found["increase_close"]
    assert found["decrease_far"] < 0.5 < found["decrease_close"]
    assert found["maintain"] < 0.3
    assert f"{found['maintain']:.2f}" in printed


def test_shares_of_known_maps():
    size = regression.SIZE
    columns = np.full((2, size), size / 2 - 0.5)
    maps = np.zeros((2, size, size))
    maps[:, : size // 2, size // 2 :] = 1  # far ahead, to the right
    maps[:, size // 2 :] = 1
    assert regression.share_on_the_right(maps, columns) == (1.0, 0.5)
    near = np.ones((2, size, size))
    near[:, :, size // 2 - 3 : size // 2 + 3] = 0.25
    assert regression.near_over_elsewhere(near, columns) == 0.25


def test_a_demo_that_does_not_exist_is_named(capsys):
    with pytest.raises(SystemExit):
        demo.main(["--what", "everything"])
    assert "localisation" in capsys.readouterr().err
