"""Zones and borders, against plain twins, hand-made pictures, and what is explained with them."""

import importlib

import numpy as np
import pytest
import tensorflow as tf
from reference import saliency

from xplique_sal import Saliency
from xplique_sal.errors import InvalidInputError, InvalidParameterError, InvalidTargetError
from xplique_sal.segmentation import (
    class_zone,
    common_border,
    connected_zone,
    separate_zones,
    zone_border,
)

#: Three classes: two parts of class 1 that touch at a corner, a part of class 2, the rest class 0.
PICTURE = np.array(
    [
        [1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 2, 2],
        [0, 0, 1, 0, 2, 2],
        [0, 0, 1, 2, 2, 2],
        [0, 0, 1, 2, 2, 2],
    ]
)


def scores_of(labels, rng, nb_classes=3):
    """Return scores of which the argmax is the labels."""
    scores = rng.uniform(0, 1, (*np.shape(labels), nb_classes))
    return scores + 2 * (np.asarray(labels)[..., None] == np.arange(nb_classes))


def in_channel(mask, channel, nb_classes=3):
    zone = np.zeros((*np.shape(mask), nb_classes), np.float32)
    zone[..., channel] = mask
    return zone


def slow_part(mask, start, connectivity):
    """The pixels that can be reached from one, by flood fill."""
    part, waiting = np.zeros_like(mask), [start]
    while waiting:
        row, column = waiting.pop()
        inside = 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1]
        if not inside or not mask[row, column] or part[row, column]:
            continue
        part[row, column] = True
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                if connectivity == 8 or 0 in (down, right):
                    waiting.append((row + down, column + right))
    return part


def slow_border(mask, width):
    """1 inside and −1 outside, by the distance (of a king's steps) to the other side."""
    border = np.zeros(mask.shape)
    for pixel in np.ndindex(mask.shape):
        others = np.argwhere(mask != mask[pixel])
        if len(others) and np.abs(others - pixel).max(1).min() <= width:
            border[pixel] = 1 if mask[pixel] else -1
    return border


def test_a_class_zone_by_hand(rng):
    found = class_zone(scores_of(PICTURE, rng), 2)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, in_channel(PICTURE == 2, 2))


def test_class_zones_of_many_images(rng):
    labels = rng.integers(0, 3, (6, 7, 8))
    scores = scores_of(labels, rng)
    expected = in_channel(labels == 1, 1)
    np.testing.assert_array_equal(class_zone(scores, 1), expected)
    np.testing.assert_array_equal(class_zone(tf.constant(scores), 1), expected)
    half = tf.cast(scores, tf.bfloat16)  # not every argmax survives the rounding, this one does
    np.testing.assert_array_equal(class_zone(half, 1), expected)
    first = class_zone(np.moveaxis(scores, -1, 1), 1, channel_axis=-3)
    np.testing.assert_array_equal(first, np.moveaxis(expected, -1, 1))


def test_the_first_of_equal_scores_is_predicted():
    np.testing.assert_array_equal(
        class_zone(np.zeros((2, 2, 3)), 0), in_channel(np.ones((2, 2)), 0)
    )


def test_a_threshold_serves_one_output_and_classes_that_overlap(rng):
    sigmoid = rng.uniform(0, 1, (4, 5, 6, 1)).astype("float32")
    np.testing.assert_array_equal(class_zone(sigmoid, 0, threshold=0.5), sigmoid > 0.5)
    several = rng.normal(size=(5, 6, 3))
    expected = in_channel(several[..., 2] > 0, 2)
    np.testing.assert_array_equal(class_zone(several, 2, threshold=0), expected)
    with pytest.raises(InvalidInputError, match=r"always the largest.*threshold"):
        class_zone(sigmoid, 0)
    with pytest.raises(InvalidInputError, match=r"always the largest.*threshold"):
        connected_zone(sigmoid, (0, 0))


@pytest.mark.parametrize("connectivity", [4, 8])
def test_a_connected_zone_by_hand(rng, connectivity):
    scores = scores_of(PICTURE, rng)
    square, bar = np.zeros((2, 5, 6), bool)
    square[:2, :2] = bar[2:, 2] = True
    expected = square | bar if connectivity == 8 else square
    found = connected_zone(scores, (0, 1), connectivity=connectivity)
    np.testing.assert_array_equal(found, in_channel(expected, 1))
    found = connected_zone(scores, (4, 2), 1, connectivity=connectivity)
    np.testing.assert_array_equal(
        found, in_channel(expected | bar if connectivity == 8 else bar, 1)
    )


@pytest.mark.parametrize("connectivity", [4, 8])
def test_connected_zones_equal_a_slow_twin(rng, connectivity):
    labels = rng.integers(0, 2, (8, 9, 10))
    scores, pixels = scores_of(labels, rng), rng.integers(0, 9, (8, 2))
    found = connected_zone(scores, pixels, connectivity=connectivity)
    for zone, of_image, (row, column) in zip(found, labels, pixels, strict=True):
        chosen = of_image[row, column]
        part = slow_part(of_image == chosen, (row, column), connectivity)
        np.testing.assert_array_equal(zone, in_channel(part, chosen))
    same = connected_zone(scores, (3, 4), connectivity=connectivity)  # one pixel for all
    alone = connected_zone(scores[5], (3, 4), connectivity=connectivity)
    np.testing.assert_array_equal(same[5], alone)
    first = connected_zone(
        np.moveaxis(scores, -1, 1), pixels, connectivity=connectivity, channel_axis=-3
    )
    np.testing.assert_array_equal(np.moveaxis(first, 1, -1), found)


def test_a_connected_zone_above_a_threshold(rng):
    sigmoid = np.where(PICTURE == 2, 0.9, 0.4)[..., None]
    found = connected_zone(sigmoid, (2, 4), threshold=0.5)
    np.testing.assert_array_equal(found[..., 0], PICTURE == 2)
    with pytest.raises(InvalidTargetError, match="not of class 0"):
        connected_zone(sigmoid, (0, 0), threshold=0.5)


def test_separate_zones_are_the_connected_ones(rng):
    scores = scores_of(PICTURE, rng)
    found = separate_zones(scores, 1, connectivity=4)
    expected = [connected_zone(scores, pixel, connectivity=4) for pixel in ((0, 0), (2, 2))]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(separate_zones(scores, 1), class_zone(scores, 1)[None])
    large = separate_zones(scores, 1, connectivity=4, min_size=4)
    np.testing.assert_array_equal(large, expected[:1])
    first = separate_zones(np.moveaxis(scores, -1, 0), 1, connectivity=4, channel_axis=-3)
    np.testing.assert_array_equal(np.moveaxis(first, 1, -1), found)
    with pytest.raises(InvalidTargetError, match=r"at least 5 pixels.*at most 4"):
        separate_zones(scores, 1, connectivity=4, min_size=5)
    with pytest.raises(InvalidInputError, match="one image"):
        separate_zones(scores[None], 1)


def test_a_border_by_hand():
    zone = [[0, 0, 0, 0, 0], [0, 0, 0, 1, 1], [0, 0, 1, 1, 1], [0, 0, 1, 1, 1], [0, 1, 1, 1, 1]]
    border = [
        [0, 0, -1, -1, -1],
        [0, -1, -1, 1, 1],
        [0, -1, 1, 1, 0],
        [-1, -1, 1, 0, 0],
        [-1, 1, 1, 0, 0],
    ]
    found = zone_border(in_channel(zone, 1))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, in_channel(border, 1))


@pytest.mark.parametrize("width", [1, 2, 3])
def test_borders_equal_a_slow_twin(rng, width):
    masks = rng.uniform(size=(6, 9, 11)) < 0.2
    masks[0] = False
    masks[0, 4, 5] = True  # a pixel alone is its own inner border
    masks[1] = ~masks[0]  # and a hole of one its outer border
    expected = in_channel([slow_border(mask, width) for mask in masks], 2)
    zones = in_channel(masks, 2)
    np.testing.assert_array_equal(zone_border(zones, width), expected)
    np.testing.assert_array_equal(
        zone_border(zones, width, part="inner"), expected * (expected > 0)
    )
    np.testing.assert_array_equal(
        zone_border(zones, width, part="outer"), expected * (expected < 0)
    )
    np.testing.assert_array_equal(zone_border(zones[3].astype(bool), width), expected[3])
    first = zone_border(np.moveaxis(zones, -1, 1), width, channel_axis=-3)
    np.testing.assert_array_equal(np.moveaxis(first, 1, -1), expected)


def test_a_common_border_by_hand():
    # Class 1 meets class 2 on the left; class 0 below touches both.
    labels = np.array([[1, 1, 2, 2], [1, 1, 2, 2], [1, 1, 2, 2], [0, 0, 0, 0], [0, 0, 0, 0]])
    one, two = (in_channel(labels == label, label) for label in (1, 2))
    expected = np.zeros((5, 4, 3))
    expected[:3, 1] = [0, 1, -1]
    expected[:3, 2] = [0, -1, 1]
    expected[3, 1:3] = [0, -1, -1]  # beside both, and outside of both
    np.testing.assert_array_equal(common_border(one, two), expected)
    np.testing.assert_array_equal(common_border(two, one), expected)


@pytest.mark.parametrize("width", [1, 2])
def test_common_borders_equal_a_slow_twin(rng, width):
    labels = rng.integers(0, 3, (5, 8, 9))
    borders = [
        in_channel([slow_border(of_image == label, width) for of_image in labels], label)
        for label in (0, 2)
    ]
    both = borders[0].any(-1, keepdims=True) & borders[1].any(-1, keepdims=True)
    zones = [in_channel(labels == label, label) for label in (0, 2)]
    found = common_border(*zones, width)
    np.testing.assert_array_equal(found, (borders[0] + borders[1]) * both)
    first = common_border(*(np.moveaxis(zone, -1, 1) for zone in zones), width, channel_axis=-3)
    np.testing.assert_array_equal(np.moveaxis(first, 1, -1), found)


def test_a_wider_border_reaches_zones_that_are_apart():
    labels = np.array([[1, 0, 0, 2]] * 3)
    one, two = (in_channel(labels == label, label) for label in (1, 2))
    with pytest.raises(InvalidTargetError, match="no common pixel in image 0"):
        common_border(one, two)
    assert common_border(one, two, width=2).any()


def targets(scores):
    """Every kind of target that is made from predictions, with its name."""
    one, two = (class_zone(scores, label) for label in (1, 2))
    yield "class zone", one
    yield "connected zone", connected_zone(scores, np.argwhere(one[0, ..., 1])[0], 1)
    yield "border", zone_border(two, 2)
    yield "inner", zone_border(two, part="inner")
    yield "outer", zone_border(two, part="outer")
    yield "common border", common_border(one, two)


def test_what_they_explain_equals_a_slow_twin(keras, rng):
    """Each target is accepted by the operator, and its map is that of Σ f·y over its pixels."""
    segmenter = keras.Sequential(
        [
            keras.Input((8, 9, 2)),
            keras.layers.Conv2D(6, 3, padding="same", activation="tanh"),
            keras.layers.Conv2D(3, 3, padding="same"),
        ]
    )
    images = rng.normal(size=(1, 8, 9, 2)).astype("float32")
    scores = segmenter.predict(images, verbose=0)
    scores = scores_of(scores.argmax(-1), rng)  # a seed's prediction holds all three classes
    for name, target in targets(scores):
        pixels = np.argwhere(target[0])

        def score(x, pixels=pixels, target=target):
            outputs = segmenter(x, training=False)
            total = sum(outputs[:, i, j, k] * target[0, i, j, k] for i, j, k in pixels)
            return total / len(pixels)

        explainer = Saliency(segmenter, operator="semantic segmentation")
        maps, found = explainer.explain_with_scores(images, target)
        np.testing.assert_allclose(found, score(images), rtol=1e-4, atol=1e-6, err_msg=name)
        expected = saliency(score, images)
        assert expected.max() > 0
        np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-7, err_msg=name)


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        (np.ones((4, 4)), r"\(H, W, L\).*\(4, 4\)"),
        (np.ones((1, 2, 4, 4, 3)), r"\(H, W, L\)"),
        (np.ones((0, 4, 4, 3)), r"\(H, W, L\)"),
        (np.full((4, 4, 3), np.nan), "finite"),
        (np.full((4, 4, 3), "a"), "numbers"),
    ],
    ids=["classes", "rank", "none", "NaN", "text"],
)
def test_what_is_no_prediction_is_refused(predictions, message):
    for make in (
        lambda: class_zone(predictions, 0),
        lambda: connected_zone(predictions, (0, 0)),
        lambda: zone_border(predictions),
        lambda: common_border(predictions, predictions),
    ):
        with pytest.raises(InvalidInputError, match=message):
            make()


@pytest.mark.parametrize("class_idx", [-1, 3, 1.0, True, "cat"])
def test_what_is_no_class_is_refused(rng, class_idx):
    scores = scores_of(PICTURE, rng)
    for make in (
        lambda: class_zone(scores, class_idx),
        lambda: connected_zone(scores, (0, 0), class_idx),
        lambda: separate_zones(scores, class_idx),
    ):
        with pytest.raises(InvalidTargetError, match="from 0 to 2"):
            make()


def test_a_class_that_is_predicted_nowhere_is_named(rng):
    labels = np.stack([PICTURE, np.minimum(PICTURE, 1)])
    with pytest.raises(InvalidTargetError, match=r"class 2.*image 1\. Leave that image out"):
        class_zone(scores_of(labels, rng), 2)


@pytest.mark.parametrize("position", [(5, 0), (0, 6), (-1, 0), [[0, 0], [0, 9]]])
def test_a_pixel_outside_is_refused(rng, position):
    scores = scores_of(np.stack([PICTURE] * 2), rng)
    with pytest.raises(InvalidTargetError, match="5 rows and 6 columns"):
        connected_zone(scores, position)


@pytest.mark.parametrize("position", [3, (1, 2, 3), (1.0, 2.0), [[0, 0]] * 3, None])
def test_what_is_no_pixel_is_refused(rng, position):
    scores = scores_of(np.stack([PICTURE] * 2), rng)
    with pytest.raises(InvalidTargetError, match="two integers, row and column"):
        connected_zone(scores, position)


def test_a_pixel_of_another_class_is_refused(rng):
    with pytest.raises(InvalidTargetError, match=r"row 0, column 0 of image 0, .* not of class 2"):
        connected_zone(scores_of(PICTURE, rng), (0, 0), 2)


def test_zones_without_a_border_are_refused():
    zones = in_channel(np.stack([PICTURE == 1] * 3), 1)
    zones[1] = 0
    with pytest.raises(InvalidTargetError, match="no pixel of image 1"):
        zone_border(zones)
    zones[1, ..., 1] = 1
    with pytest.raises(InvalidTargetError, match="fills image 1"):
        zone_border(zones)
    with pytest.raises(InvalidTargetError, match=r"zeros and ones.*-1\.0 to 1\.0"):
        zone_border(zone_border(zones[0]))


def test_zones_without_a_common_border_are_refused():
    one, two = (in_channel(label == PICTURE, label) for label in (1, 2))
    with pytest.raises(InvalidTargetError, match="share a class"):
        common_border(one, one)
    with pytest.raises(InvalidTargetError, match="overlap"):
        common_border(one, in_channel(PICTURE > 0, 2))
    with pytest.raises(InvalidInputError, match="one shape"):
        common_border(one, two[None, :, :, :2])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"width": 0}, "width"),
        ({"width": 1.5}, "width"),
        ({"width": True}, "width"),
        ({"part": "middle"}, "'both', 'inner', 'outer'"),
        ({"channel_axis": 1}, "channel_axis"),
    ],
)
def test_parameters_of_a_border_that_do_not_exist(parameters, message):
    with pytest.raises(InvalidParameterError, match=message):
        zone_border(in_channel(PICTURE == 1, 1), **parameters)


def test_a_connectivity_that_does_not_exist(rng):
    with pytest.raises(InvalidParameterError, match="among 4, 8"):
        connected_zone(scores_of(PICTURE, rng), (0, 0), connectivity=6)


def test_a_missing_scipy_is_named(monkeypatch, rng):
    def load(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    scores = scores_of(PICTURE, rng)
    monkeypatch.setattr(importlib, "import_module", load)
    zone = class_zone(scores, 1)  # needs none
    for make in (
        lambda: connected_zone(scores, (0, 0)),
        lambda: separate_zones(scores, 1),
        lambda: zone_border(zone),
    ):
        with pytest.raises(ImportError, match=r'pip install "xplique-sal\[segmentation\]"'):
            make()
