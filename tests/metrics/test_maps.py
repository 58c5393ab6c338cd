"""Complexity, sparseness and localisation: closed forms, slow twins and errors."""

import numpy as np
import pytest
import tensorflow as tf

from xplique_sal.errors import InvalidInputError, InvalidParameterError
from xplique_sal.metrics import Complexity, Localization, Sparseness


def test_entropy_by_a_loop(rng):
    maps = rng.normal(size=(4, 5, 6, 3))
    sizes = np.abs(maps).mean(-1).reshape(4, -1)
    expected = [-sum(p * np.log(p) for p in row / row.sum()) for row in sizes]
    np.testing.assert_allclose(Complexity().detailed_evaluate(maps).values, expected, rtol=1e-12)
    assert Complexity()(tf.constant(maps)) == np.mean(Complexity().detailed_evaluate(maps))
    in_single = Complexity().detailed_evaluate(maps.astype("float32")).values
    np.testing.assert_allclose(in_single, expected, rtol=1e-6)


def test_gini_is_half_the_mean_difference_of_all_pairs(rng):
    maps = rng.normal(size=(4, 30))
    sizes = np.abs(maps)
    differences = np.abs(sizes[:, :, None] - sizes[:, None]).mean(axis=(1, 2))
    found = Sparseness().detailed_evaluate(maps).values
    np.testing.assert_allclose(found, differences / (2 * sizes.mean(axis=1)), rtol=1e-12)


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_the_ends_of_the_scales(size):
    one, equal = np.zeros((2, 50), "float32"), np.full((2, 50), size, "float32")
    one[:, 7] = -size
    assert Complexity()(one) == 0
    assert Sparseness()(one) == pytest.approx(1 - 1 / 50)
    for flat in (equal, np.zeros((2, 50))):
        assert Complexity()(flat) == pytest.approx(np.log(50), rel=1e-6)
        assert Sparseness()(flat) == pytest.approx(0, abs=1e-6)


def test_the_epsilon_of_another_definition():
    maps = np.array([[1.0, 3.0]])
    shares = np.array([0.25, 0.75]) * 4 / 4.5
    expected = -(shares * np.log(shares + 0.5)).sum()
    assert Complexity(epsilon=0.5)(maps) == pytest.approx(expected)


def boxes_and_masks():
    boxes = np.array([[1, 0, 3, 2], [0, 2, 4, 3]])
    masks = np.zeros((2, 3, 4), bool)
    masks[0, 0:2, 1:3] = True
    masks[1, 2, :] = True
    return boxes, masks


def test_energy_inside_boxes_and_masks(rng):
    boxes, masks = boxes_and_masks()
    maps = rng.normal(size=(2, 3, 4, 1))
    positive = np.maximum(maps[..., 0], 0)
    expected = (positive * masks).sum(axis=(1, 2)) / positive.sum(axis=(1, 2))
    several = np.stack([boxes, np.zeros_like(boxes)], axis=1)
    for regions in (boxes, masks, several, masks.astype("float32")):
        found = Localization(regions).detailed_evaluate(maps).values
        np.testing.assert_allclose(found, expected)
    # Negative everywhere: the share of the pixels.
    np.testing.assert_allclose(Localization(boxes).detailed_evaluate(-np.ones((2, 3, 4))), 1 / 3)


def test_the_pointing_game():
    boxes, _ = boxes_and_masks()
    maps = np.zeros((2, 3, 4))
    maps[0, 0, 1] = maps[1, 0, 0] = 1  # inside, and two rows above
    for tolerance, expected in ((0, [1, 0]), (1, [1, 0]), (2, [1, 1])):
        found = Localization(boxes, "pointing", tolerance=tolerance).detailed_evaluate(maps)
        np.testing.assert_array_equal(found.values, expected)


def test_of_equal_values_chance_says_which_is_the_largest():
    mask = np.zeros((1, 8, 8))
    mask[:, :, :4] = 1
    zeros = np.zeros((1, 8, 8))
    hits = [Localization(mask, "pointing", seed=seed)(zeros) for seed in range(60)]
    assert 0.25 < np.mean(hits) < 0.75
    again = Localization(mask, "pointing", seed=3)
    assert again(zeros) == again(zeros) == hits[3]


def test_errors():
    boxes = boxes_and_masks()[0]
    for wrong in ("boxes", np.ones((2, 3)), np.ones((2, 3, 4, 5))):
        with pytest.raises(InvalidInputError, match="regions"):
            Localization(wrong)
    with pytest.raises(InvalidParameterError, match="measure"):
        Localization(boxes, "share")
    with pytest.raises(InvalidInputError, match="regions"):
        Localization(boxes)(np.ones((3, 3, 4)))
    with pytest.raises(InvalidInputError, match="sample 1"):
        Localization(np.array([[0, 0, 1, 1], [2, 2, 2, 2]]))(np.ones((2, 3, 4)))
    with pytest.raises(InvalidInputError, match="finite"):
        Complexity()(np.full((2, 3), np.inf))
    with pytest.raises(InvalidInputError, match="shape"):
        Sparseness()(np.ones(3))
    with pytest.raises(InvalidParameterError, match="epsilon"):
        Complexity(epsilon=-1)
