"""Boxes from maps, against plain twins and known answers."""

import importlib

import numpy as np
import pytest
import tensorflow as tf

from xplique_sal.errors import InvalidInputError, InvalidParameterError
from xplique_sal.localization import bounding_boxes, intersection_over_union


def largest_part(mask):
    """A slow twin: the box of the largest part of a mask, by flood fill."""
    left = {tuple(index) for index in np.argwhere(mask)}
    best = []
    for start in sorted(left):
        if start not in left:
            continue
        part, waiting = [], [start]
        left.discard(start)
        while waiting:
            row, column = waiting.pop()
            part.append((row, column))
            for step in np.ndindex(3, 3):
                near = (row + step[0] - 1, column + step[1] - 1)
                if near in left:
                    left.discard(near)
                    waiting.append(near)
        if len(part) > len(best):
            best = part
    if not best:
        return [0, 0, 0, 0]
    rows, columns = np.array(best).T
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def smoothed(map_, deviation):
    """A slow twin of the Gaussian, cut off where SciPy cuts it off."""
    reach = int(4 * deviation + 0.5)
    steps = np.arange(-reach, reach + 1)
    kernel = np.exp(-(steps**2) / (2 * deviation**2))
    kernel /= kernel.sum()
    for axis in (0, 1):
        map_ = np.apply_along_axis(np.convolve, axis, map_, kernel, "full")
        map_ = np.take(map_, range(reach, map_.shape[axis] - reach), axis)
    return map_


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("smoothing", [0, 1.0, 2.5])
def test_boxes_equal_a_slow_twin(rng, threshold, smoothing):
    maps = rng.exponential(size=(6, 17, 23)) * (rng.uniform(size=(6, 17, 23)) < 0.3)
    found = bounding_boxes(maps, threshold, smoothing=smoothing)
    assert found.shape == (6, 4) and found.dtype.kind == "i"
    for box, map_ in zip(found, maps, strict=True):
        map_ = smoothed(map_, smoothing) if smoothing else map_
        np.testing.assert_array_equal(box, largest_part(map_ > threshold * map_.max()))


def test_the_box_is_x1_y1_x2_y2_with_the_end_excluded():
    maps = np.zeros((3, 10, 12, 1))
    maps[0, 2:5, 4:11] = 1
    maps[1, 9, 0] = 1
    maps[2, 1:4, 1:4] = 1
    maps[2, 6:8, 6:12] = 1  # more pixels, though not brighter
    found = bounding_boxes(maps, 0.5, smoothing=0)
    np.testing.assert_array_equal(found, [[4, 2, 11, 5], [0, 9, 1, 10], [6, 6, 12, 8]])
    x1, y1, x2, y2 = found[0]
    assert maps[0, y1:y2, x1:x2].sum() == maps[0].sum()
    assert x2 - x1 == 7 and y2 - y1 == 3


def test_corners_connect_and_scale_does_not_matter(rng):
    diagonal = np.eye(6)[None]
    np.testing.assert_array_equal(bounding_boxes(diagonal, smoothing=0), [[0, 0, 6, 6]])
    maps = rng.uniform(size=(3, 9, 9)) ** 4
    expected = bounding_boxes(maps)
    np.testing.assert_array_equal(bounding_boxes(maps * 1e-12), expected)
    np.testing.assert_array_equal(bounding_boxes(tf.constant(maps[..., None])), expected)
    np.testing.assert_array_equal(bounding_boxes(maps[1:2]), expected[1:2])


def test_a_map_without_anything_has_the_empty_box():
    maps = np.zeros((2, 5, 5))
    maps[1, 2, 3] = 1
    found = bounding_boxes(maps, smoothing=0)
    np.testing.assert_array_equal(found, [[0, 0, 0, 0], [3, 2, 4, 3]])
    np.testing.assert_array_equal(intersection_over_union(found, [0, 0, 5, 5]), [0, 1 / 25])


def test_intersection_over_union_of_known_boxes():
    box = [2, 3, 6, 5]
    others = np.array([[2, 3, 6, 5], [4, 3, 8, 5], [6, 5, 9, 9], [3, 4, 4, 5], [0, 0, 9, 9]])
    expected = [1, 4 / 12, 0, 1 / 8, 8 / 81]
    np.testing.assert_allclose(intersection_over_union(box, others), expected)
    np.testing.assert_allclose(intersection_over_union(others, box), expected)
    assert intersection_over_union([0, 0, 0, 0], [0, 0, 0, 0]) == 0
    assert intersection_over_union([5, 5, 3, 3], [0, 0, 9, 9]) == 0  # upside down, so empty


def test_intersection_over_union_of_all_pairs_equals_counted_pixels(rng):
    corners = rng.integers(0, 8, (7, 2))
    boxes = np.hstack([corners, corners + rng.integers(1, 6, (7, 2))])

    def pixels(box):
        mask = np.zeros((14, 14), bool)
        mask[box[1] : box[3], box[0] : box[2]] = True
        return mask

    masks = np.array([pixels(box) for box in boxes])
    shared = (masks[:, None] & masks[None]).sum((2, 3))
    covered = (masks[:, None] | masks[None]).sum((2, 3))
    found = intersection_over_union(boxes[:, None], boxes[None])
    np.testing.assert_allclose(found, shared / covered)


@pytest.mark.parametrize(
    "maps",
    [
        np.ones((4, 4)),
        np.ones((2, 4, 4, 3)),
        np.ones((0, 4, 4)),
        -np.ones((1, 4, 4)),
        np.full((1, 4, 4), np.nan),
        np.full((1, 4, 4), np.inf),
    ],
)
def test_what_is_no_map_is_refused(maps):
    with pytest.raises(InvalidInputError, match="maps"):
        bounding_boxes(maps)


@pytest.mark.parametrize("threshold", [-0.1, 1.0, float("nan"), "half", True])
def test_what_is_no_threshold_is_refused(threshold):
    with pytest.raises(InvalidParameterError, match="threshold"):
        bounding_boxes(np.ones((1, 4, 4)), threshold)


@pytest.mark.parametrize("smoothing", [-1, float("inf"), float("nan"), "much"])
def test_what_is_no_smoothing_is_refused(smoothing):
    with pytest.raises(InvalidParameterError, match="smoothing"):
        bounding_boxes(np.ones((1, 4, 4)), smoothing=smoothing)


@pytest.mark.parametrize(
    ("boxes", "others"),
    [([1, 2, 3], [1, 2, 3]), (3, [1, 2, 3, 4]), (np.ones((2, 4)), np.ones((3, 4)))],
)
def test_what_are_no_boxes_is_refused(boxes, others):
    with pytest.raises(InvalidInputError, match="shapes"):
        intersection_over_union(boxes, others)


def test_a_missing_scipy_is_named(monkeypatch):
    def load(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", load)
    with pytest.raises(ImportError, match=r'SciPy.*pip install "xplique-sal\[localization\]"'):
        bounding_boxes(np.ones((1, 4, 4)))
