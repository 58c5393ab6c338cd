"""Boxes in every format, and the targets that are made of them, by hand and by properties."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from xplique_sal import Saliency
from xplique_sal.detection import FORMATS, box_targets, convert_boxes
from xplique_sal.errors import InvalidInputError, InvalidParameterError, InvalidTargetError

SIZE = (100, 200)  # height and width
#: One box in every format.
SAME = {
    "xyxy": [20, 10, 60, 40],
    "yxyx": [10, 20, 40, 60],
    "xywh": [20, 10, 40, 30],
    "cxcywh": [40, 25, 40, 30],
    "rel_xyxy": [0.1, 0.1, 0.3, 0.4],
    "rel_yxyx": [0.1, 0.1, 0.4, 0.3],
    "rel_xywh": [0.1, 0.1, 0.2, 0.3],
    "rel_cxcywh": [0.2, 0.25, 0.2, 0.3],
}


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("target", FORMATS)
def test_one_box_in_every_format(source, target):
    found = convert_boxes(SAME[source], source, target, image_size=SIZE)
    np.testing.assert_allclose(found, SAME[target], rtol=1e-12)


@given(
    corners=arrays(np.float64, (3, 2, 2), elements=st.floats(0, 1)),
    source=st.sampled_from(FORMATS),
    between=st.sampled_from(FORMATS),
    size=st.tuples(st.integers(1, 2000), st.integers(1, 2000)),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_there_and_back_again(corners, source, between, size):
    relative = np.sort(corners, axis=1).reshape(3, 4)
    boxes = convert_boxes(relative, "rel_xyxy", source, image_size=size)
    there = convert_boxes(boxes, source, between, image_size=size)
    back = convert_boxes(there, between, source, image_size=size)
    np.testing.assert_allclose(back, boxes, rtol=1e-9, atol=1e-9 * max(size))


@given(
    boxes=arrays(np.float64, (4,), elements=st.floats(0, 50)),
    offset=arrays(np.float64, (2,), elements=st.floats(-100, 100)),
    source=st.sampled_from(["xywh", "cxcywh"]),
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_a_shift_shifts_the_corners_and_keeps_the_area(boxes, offset, source):
    assume(boxes[2:].min() > 1e-3)
    shifted = boxes + np.r_[offset, 0, 0]
    first, second = (convert_boxes(array, source) for array in (boxes, shifted))
    np.testing.assert_allclose(second - first, np.tile(offset, 2), atol=1e-9)
    np.testing.assert_allclose(first[2:] - first[:2], boxes[2:], atol=1e-9)


def test_the_shape_is_kept_and_the_boxes_are_not_changed(rng):
    boxes = rng.uniform(0, 50, (2, 3, 4))
    before = boxes.copy()
    found = convert_boxes(boxes, "xywh", "xyxy")
    assert found.shape == (2, 3, 4) and found.dtype == np.float64
    np.testing.assert_array_equal(boxes, before)
    found = convert_boxes(tf.constant(boxes, tf.float32), "xywh", "xyxy")
    np.testing.assert_allclose(found[..., 2], boxes[..., 0] + boxes[..., 2], rtol=1e-6)
    same = convert_boxes(found, "xyxy", "xyxy")
    same[:] = 0
    assert found.all()
    np.testing.assert_array_equal(
        convert_boxes(np.zeros((2, 4)), "rel_cxcywh", "xyxy", image_size=SIZE), np.zeros((2, 4))
    )


BOXES = [np.array([[1, 2, 5, 9], [3, 0, 4, 8]]), np.array([[0, 0, 2, 2]])]


def test_targets_by_hand():
    found = box_targets(BOXES, [[2, 0], [1]], [[0.9, 0.8], [0.5]], num_classes=3)
    assert found.dtype == np.float32
    expected = [
        [[1, 2, 5, 9, 0.9, 0, 0, 1], [3, 0, 4, 8, 0.8, 1, 0, 0]],
        [[0, 0, 2, 2, 0.5, 0, 1, 0], [0, 0, 0, 0, 0, 0, 0, 0]],
    ]
    np.testing.assert_array_equal(found, np.float32(expected))


def test_without_scores_they_are_one_and_class_scores_stay():
    classes = [np.array([[0.2, 0.7], [0.9, 0.0]]), np.array([[0.1, 0.3]])]
    found = box_targets(BOXES, classes)
    np.testing.assert_array_equal(found[..., 4], [[1, 1], [1, 0]])
    np.testing.assert_array_equal(found[0, :, 5:], np.float32(classes[0]))
    np.testing.assert_array_equal(found[1, :, 5:], np.float32([[0.1, 0.3], [0, 0]]))
    np.testing.assert_array_equal(box_targets(BOXES, classes, num_classes=2), found)


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("target", ["xyxy", "yxyx", "rel_xyxy", "rel_yxyx", None])
def test_targets_from_every_format(source, target):
    found = box_targets(
        [[SAME[source]]], [[1]], num_classes=2, source=source, target=target, image_size=SIZE
    )
    expected = target or ("rel_xyxy" if source.startswith("rel_") else "xyxy")
    np.testing.assert_allclose(found, [[[*SAME[expected], 1, 0, 1]]], rtol=1e-6)


def test_one_array_with_padding_is_the_list_of_its_boxes():
    """What stands beside rows of zeros, such as class −1 or NaN, is not read."""
    boxes = np.zeros((2, 4, 4))
    boxes[0, :2], boxes[1, 1] = BOXES[0], BOXES[1][0]
    classes = np.array([[2, 0, -1, -1], [-1, 1, 7, -1]])
    scores = np.array([[0.9, 0.8, 0, np.nan], [np.nan, 0.5, 1, 1]])
    found = box_targets(boxes, classes, scores, num_classes=3)
    expected = box_targets(BOXES, [[2, 0], [1]], [[0.9, 0.8], [0.5]], num_classes=3)
    assert found.shape == (2, 4, 8)
    np.testing.assert_array_equal(found[0, :2], expected[0])
    np.testing.assert_array_equal(found[1, 1], expected[1, 0])
    assert not found[0, 2:].any() and not found[1, [0, 2, 3]].any()
    one_hot = np.where(classes[..., None] == np.arange(3), 1.0, np.nan)
    one_hot[boxes.any(-1)] = np.nan_to_num(one_hot[boxes.any(-1)])
    np.testing.assert_array_equal(box_targets(boxes, one_hot, scores), found)


def test_tensors_and_ragged_tensors():
    expected = box_targets(BOXES, [[2, 0], [1]], num_classes=3)
    tensors = [tf.constant(boxes, tf.float32) for boxes in BOXES]
    np.testing.assert_array_equal(box_targets(tensors, [[2, 0], [1]], num_classes=3), expected)
    ragged = tf.ragged.constant([boxes.tolist() for boxes in BOXES], ragged_rank=1)
    classes = tf.ragged.constant([[2, 0], [1]])
    np.testing.assert_array_equal(box_targets(ragged, classes, num_classes=3), expected)


@pytest.mark.parametrize(
    ("operator", "factor"),
    [
        ("object detection", 0.5 * 0.8),
        ("object detection box position", 1.0),
        ("object detection box proba", 0.5),
        ("object detection box class", 0.8),
    ],
)
def test_a_detectors_own_box_matches_itself(keras, operator, factor):
    """A detector that returns its input scores its own boxes by their objectness and class."""
    own = np.array([[[1, 2, 5, 9, 0.5, 0.6, 0.8], [20, 20, 30, 25, 0.5, 0.8, 0.6]]], np.float32)
    identity = keras.Sequential([keras.Input((2, 7)), keras.layers.Activation("linear")])
    targets = box_targets(
        [[[3, 5.5, 4, 7], [25, 22.5, 10, 5]]], [[1, 0]], num_classes=2, source="cxcywh"
    )
    explainer = Saliency(identity, operator=operator, grad_modifier=None)
    maps, scores = explainer.explain_with_scores(own, targets)
    np.testing.assert_allclose(scores, [factor], rtol=1e-6)
    # The first box, explained alone: its objectness counts by what it is multiplied with.
    maps = explainer.explain(own, targets[:, :1]).numpy()
    weighted = operator in ("object detection", "object detection box proba")
    np.testing.assert_allclose(maps[0, 0, 4], factor / 0.5 if weighted else 0, rtol=1e-6)
    np.testing.assert_array_equal(maps[0, 1], 0)


@pytest.mark.parametrize(
    ("box", "source", "message"),
    [
        ([5, 0, 3, 1], "xyxy", r"x2 >= x1.*5, 0, 3, 1\..*'xyxy'"),
        ([0, 5, 1, 3], "xyxy", "y2 >= y1"),
        ([0, 5, 1, 3], "yxyx", "x2 >= x1"),
        ([0, 0, -1, 3], "xywh", "sizes of at least 0"),
        ([5, 5, 3, -1], "cxcywh", "sizes of at least 0"),
        ([np.nan, 0, 1, 1], "xyxy", "finite"),
        ([0, 0, np.inf, 1], "xywh", "finite"),
        ([10, 10, 20, 20], "rel_xyxy", "between 0 and 1.*pixels"),
        ([0.5, 0.5, 0.6, 0.2], "rel_xywh", "between 0 and 1"),
        ([0.1, 0.5, 0.3, 0.2], "rel_cxcywh", "between 0 and 1"),
        ([0, 0, 1], "xyxy", r"\(\.\.\., 4\)"),
        (["a", "b", "c", "d"], "xyxy", r"\(\.\.\., 4\)"),
    ],
)
def test_malformed_boxes_are_refused(box, source, message):
    with pytest.raises(InvalidInputError, match=message):
        convert_boxes([box], source, "xyxy", image_size=SIZE)


def test_a_box_in_pixels_that_leaves_the_image_is_not_relative():
    np.testing.assert_array_equal(convert_boxes([-5, 0, 5, 5], "xyxy", "xywh"), [-5, 0, 10, 5])
    with pytest.raises(InvalidInputError, match="Clip"):
        convert_boxes([-5, 0, 5, 5], "xyxy", "rel_xyxy", image_size=SIZE)
    rounded = np.float32([0.15, 0.1, 0.30000001, 0.2])
    assert convert_boxes(rounded, "rel_cxcywh", "rel_xyxy").min() < 1e-6


@pytest.mark.parametrize("image_size", [None, 5, (3, 0), (4, 5, 3), ("a", "b"), (None, None)])
def test_an_image_size_that_is_missing_or_wrong(image_size):
    with pytest.raises(InvalidParameterError, match=r"image_size.*images\.shape\[1:3\]"):
        convert_boxes([0.0, 0, 1, 1], "rel_xyxy", "xyxy", image_size=image_size)


@pytest.mark.parametrize("name", ["xy", "XYXY", "rel", None, 4])
def test_a_format_that_does_not_exist(name):
    with pytest.raises(InvalidParameterError, match="among 'xyxy', 'yxyx'"):
        convert_boxes([0, 0, 1, 1], name)
    with pytest.raises(InvalidParameterError, match="among 'xyxy', 'yxyx'"):
        convert_boxes([0, 0, 1, 1], "xyxy", name)
    with pytest.raises(InvalidParameterError, match="source"):
        box_targets(BOXES, [[2, 0], [1]], num_classes=3, source=name)


def test_targets_are_corners():
    with pytest.raises(InvalidParameterError, match="among 'xyxy', 'yxyx', 'rel_xyxy', 'rel_yxyx'"):
        box_targets(BOXES, [[2, 0], [1]], num_classes=3, target="xywh")


@pytest.mark.parametrize(
    ("boxes", "classes", "message"),
    [
        (BOXES, [[2, 3], [1]], r"from 0 to 2.*3 \(image 0\)"),
        (BOXES, [[2, 0], [-1]], r"from 0 to 2.*-1 \(image 1\)"),
        (BOXES, [[2.0, 0.0], [1.0]], r"integers.*float64"),
        (BOXES, [[2, 0]], "2 images.*1 in"),
        (BOXES, [[2], [1]], r"each of 2 boxes.*\(1,\)"),
        (BOXES[0], [[2, 0], [1]], r"boxes\[None\]"),
        ([BOXES[0], []], [[2, 0], []], r"a box to explain.*image 1.*Leave that image out"),
        ([BOXES[0], np.zeros((2, 4))], [[2, 0], [0, 0]], "a box to explain.*image 1"),
        ([], [], "at least one image"),
        (3, [[1]], "at least one image.*'int'"),
    ],
    ids=[
        *("too large", "negative", "float", "images", "boxes", "rank", "no box", "padding"),
        *("nothing", "number"),
    ],
)
def test_what_is_no_target_is_refused(boxes, classes, message):
    with pytest.raises(InvalidTargetError, match=message):
        box_targets(boxes, classes, num_classes=3)


def test_boxes_without_area_are_refused():
    with pytest.raises(InvalidInputError, match=r"an area.*1, 1, 1, 4 \(image 1\).*padding"):
        box_targets([BOXES[0], [[1, 1, 1, 4]]], [[2, 0], [1]], num_classes=3)
    with pytest.raises(InvalidInputError, match=r"x2 >= x1.*\(image 1\)"):
        box_targets([BOXES[0], [[3, 3, 1, 4]]], [[2, 0], [1]], num_classes=3)


def test_scores_that_fit_nothing_are_refused():
    classes = [[2, 0], [1]]
    with pytest.raises(InvalidTargetError, match="finite scores"):
        box_targets(BOXES, classes, [[0.5, np.nan], [1]], num_classes=3)
    with pytest.raises(InvalidTargetError, match="each of 2 boxes"):
        box_targets(BOXES, classes, [[0.5], [1]], num_classes=3)
    with pytest.raises(InvalidTargetError, match="not all of them zero"):
        box_targets(BOXES, [np.eye(3)[:2], np.zeros((1, 3))])
    with pytest.raises(InvalidTargetError, match="same number of classes"):
        box_targets(BOXES, [np.eye(3)[:2], np.ones((1, 4))])
    with pytest.raises(InvalidTargetError, match="num_classes"):
        box_targets(BOXES, [np.eye(3)[:2], np.ones((1, 3))], num_classes=4)


@pytest.mark.parametrize("num_classes", [None, 0, 2.5])
def test_class_indices_need_their_number(num_classes):
    with pytest.raises(InvalidParameterError, match="num_classes"):
        box_targets(BOXES, [[0, 0], [0]], num_classes=num_classes)
