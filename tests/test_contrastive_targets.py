"""Targets that contrast two classes: by their weights, and by what is explained with them."""

import numpy as np
import pytest
import tensorflow as tf
from reference import gradient

from xplique_sal import Saliency
from xplique_sal.errors import InvalidInputError, InvalidTargetError
from xplique_sal.targets import contrast

OUTPUTS = np.array([[0.1, 0.7, 0.2], [0.5, 0.1, 0.4], [0.2, 0.3, 0.5]])


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (0, 2, [[1, 0, -1]] * 3),
        (None, None, [[0, 1, -1], [1, 0, -1], [0, -1, 1]]),
        ([2, 2, 2], None, [[0, -1, 1], [-1, 0, 1], [0, -1, 1]]),
        (None, [0, 1, 0], [[-1, 1, 0], [1, -1, 0], [-1, 0, 1]]),
        (np.array([[1], [0], [0]]), 2, [[0, 1, -1], [1, 0, -1], [1, 0, -1]]),
    ],
)
def test_weights_are_one_for_the_class_and_minus_one_for_the_other(a, b, expected):
    before = OUTPUTS.copy()
    targets = contrast(a, b, outputs=OUTPUTS)
    assert targets.dtype == np.float32
    np.testing.assert_array_equal(targets, expected)
    np.testing.assert_array_equal(OUTPUTS, before)


def test_a_map_is_that_of_the_difference_of_two_scores(rng):
    weights = tf.constant(rng.normal(size=(5, 3)), tf.float32)
    x = rng.normal(size=(4, 5)).astype("float32")

    def f(x):
        return tf.tanh(x @ weights)

    labels, foils = [0, 1, 2, 0], [2, 0, 1, 1]
    maps = Saliency(f, grad_modifier=None).explain(x, contrast(labels, foils, outputs=f(x)))
    expected = gradient(
        lambda x: tf.gather(f(x), labels, batch_dims=1) - tf.gather(f(x), foils, batch_dims=1), x
    )
    np.testing.assert_allclose(maps, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("a", "b", "outputs", "error", "said"),
    [
        (0, 0, OUTPUTS, InvalidTargetError, "class 0 as both of sample 0"),
        (3, 0, OUTPUTS, InvalidTargetError, "at most 2"),
        (0, -1, OUTPUTS, InvalidTargetError, "at least 0"),
        (0.5, 1, OUTPUTS, InvalidTargetError, "float64"),
        ([0, 1], 2, OUTPUTS, InvalidTargetError, "each of 3 samples"),
        (0, 1, OUTPUTS[:, :1], InvalidInputError, "at least two"),
        (0, 1, OUTPUTS[0], InvalidInputError, r"\(N, L\)"),
        (0, 1, OUTPUTS * np.nan, InvalidInputError, "NaN"),
        (0, 1, "no", InvalidInputError, "str"),
    ],
)
def test_what_is_no_contrast_is_refused(a, b, outputs, error, said):
    with pytest.raises(error, match=said):
        contrast(a, b, outputs=outputs)
