"""What the demos of the guide promise, on both Kerases; `test_demo` has that of the package."""

import importlib

import numpy as np
import pytest

import demos
from demos import detection, metrics, plates, regression, segmentation


def figures(what, keras, tmp_path, capsys, seed):
    picture = tmp_path / f"{what}.png"
    found = demos.main(
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


@pytest.mark.parametrize("keras", [2, 3])
def test_a_blank_end_is_explained_by_the_digit_at_the_other(keras, tmp_path, capsys):
    found, printed = figures("segmentation", keras, tmp_path, capsys, 1)
    assert found["iou"] > 0.8 and found["right"] > 0.8
    area = found["blank_random"]
    assert area == pytest.approx(1 / 9, abs=0.01)
    assert found["blank_trained"] > 1.5 * area > 4 * found["blank_untrained"]
    assert found["plate_trained"] > 2 * area
    assert f"{found['blank_trained']:.3f}" in printed


@pytest.mark.parametrize("keras", [2, 3])
def test_a_detection_is_explained_by_the_plate_and_its_class_by_the_digit(keras, tmp_path, capsys):
    found, printed = figures("detection", keras, tmp_path, capsys, 1)
    assert found["found"] > 0.8
    for what in ("detection", "class"):
        trained, untrained, by_chance = (
            found[f"{what}_plate_{name}"] for name in ("trained", "untrained", "random")
        )
        assert trained > untrained > by_chance
        assert found[f"{what}_other_trained"] < found[f"{what}_other_untrained"]
    assert found["class_digit_trained"] > 1.3 * found["detection_digit_trained"]
    assert found["class_digit_trained"] > 1.3 * found["class_digit_untrained"]
    assert f"{found['class_digit_trained']:.3f}" in printed


@pytest.mark.parametrize("name", ["tf_keras", "keras"])
def test_random_weights_tell_gradients_from_guided_backpropagation(
    name, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(metrics, "NB_IMAGES", 40)
    chosen = {key: metrics.EXPLAINERS[key] for key in ("Saliency", "GuidedBackprop")}
    keras = importlib.import_module(name)
    found = metrics.run(keras, 1, tmp_path / "metrics.png", chosen)
    alike = {key: found[f"{key} random weights"] for key in chosen}
    assert alike["Saliency"] < 0.5 < alike["GuidedBackprop"] - 0.05
    for key in chosen:
        assert found[f"{key} Deletion"] < found["random map Deletion"] - 0.1
        assert found[f"{key} on the digit"] > found["random weights on the digit"] + 0.1
    assert f"{found['Saliency µFidelity']:.3f}" in capsys.readouterr().out


def test_plates_are_what_their_boxes_and_digits_say():
    train, test = plates.plates(seed=2, count=20, test_count=30)
    assert len(train.images) == 20 and len(test.images) == 30
    assert (test.digits[:, 0] != test.digits[:, 1]).all() and test.digits.max() < plates.CLASSES
    inside = plates.masks(test.boxes[:, 0]) | plates.masks(test.boxes[:, 1])
    images = test.images[..., 0]
    assert images[inside].min() > -0.3 and abs(images[~inside].mean()) < 0.01
    for plate in (0, 1):
        boxes, digits = test.boxes[:, plate], test.digit_boxes[:, plate]
        at_an_end = (boxes[:, 0] == digits[:, 0]) | (boxes[:, 2] == digits[:, 2])
        assert at_an_end.all() and (digits[:, 2:] - digits[:, :2] == plates.HEIGHT).all()
        blank = plates.untouched(test, plate)
        assert images[blank].mean() == pytest.approx(0.4, abs=0.01)
        assert blank.sum((1, 2)).min() >= (32 - 16 - 4) * 16
        np.testing.assert_array_equal(
            segmentation.labels(test)[blank],
            np.repeat(1 + test.digits[:, plate], blank.sum((1, 2))),
        )
        rows, columns = segmentation.blank_pixels(test, plate).T
        assert blank[np.arange(30), rows, columns].all()
    np.testing.assert_array_equal(test.digits[plates.one_of_each(test), 0], range(5))
    # The first plate is now above, now below.
    assert 5 < (test.boxes[:, 0, 1] < test.boxes[:, 1, 1]).sum() < 25


def test_masks_and_shares_by_hand():
    mask = plates.masks(np.array([[1, 2, 4, 3]]), 1)[0]
    assert mask.sum() == 5 * 3 and mask[1:4, 0:5].all()
    maps = np.zeros((2, plates.SIZE, plates.SIZE))
    maps[0, 0, :4], maps[1, 5, 5] = 1, 7
    where = np.zeros_like(maps, dtype=bool)
    where[0, 0, 0] = where[1, 5, 5] = True
    assert plates.share(maps, where) == (1 / 4 + 1) / 2


def test_the_cell_of_a_plates_centre_shall_predict_it():
    data = plates.plates(seed=0, count=5, test_count=1)[0]
    cells = detection.cell_targets(data)
    assert cells.shape == (5, 36, 10) and (cells[..., 4].sum(1) == 2).all()
    for rows, boxes, digits in zip(cells, data.boxes, data.digits, strict=True):
        for box, digit in zip(boxes, digits, strict=True):
            cell = (box[1] + box[3]) // 2 // 8 * 6 + (box[0] + box[2]) // 2 // 8
            np.testing.assert_array_equal(rows[cell], [*box, 1, *(np.arange(5) == digit)])
    chosen = detection.best_rows(cells, data.boxes[:, 1])
    np.testing.assert_array_equal(cells[np.arange(5), chosen, :4], data.boxes[:, 1])


def test_the_detectors_layer_by_hand(keras):
    """Zeros are boxes of half the image's size in the middle of their cells."""
    layer = detection.decoding_layer(keras)
    found = np.asarray(layer(np.zeros((1, 6, 6, 10), np.float32)))
    assert found.shape == (1, 36, 10)
    np.testing.assert_allclose(found[0, 8], [8, 0, 32, 24, *[0.5], *[0.2] * 5], rtol=1e-6)
    numbers = np.zeros((1, 6, 6, 10), np.float32)
    numbers[0, 0, 3] = [20, -20, 20, 20, 20, 0, 20, 0, 0, 0]
    found = np.asarray(layer(numbers))[0, 3]
    np.testing.assert_allclose(found, [8, -24, 56, 24, 1, 0, 1, 0, 0, 0], atol=1e-4)


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
        demos.main(["--what", "everything"])
    assert "localisation" in capsys.readouterr().err


@pytest.mark.parametrize("keras", [2, 3])
def test_while_a_network_learns_its_saliency_moves_to_the_digits(keras, tmp_path, capsys):
    found, printed = figures("callback", keras, tmp_path, capsys, 1)
    assert list(found) == [f"epoch {epoch}" for epoch in range(9)]
    assert found["epoch 8"] > 1.2 * found["epoch 0"]
    assert f"after epoch 8  {found['epoch 8']:.2f}" in printed
