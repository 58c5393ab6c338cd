"""Errors of gradients, modifiers and operators name the cause, and their remedies work."""

import re
import warnings

import numpy as np
import pytest
import tensorflow as tf
from reference import saliency

from xplique_sal import Saliency
from xplique_sal.attributions import IntegratedGradients
from xplique_sal.errors import InvalidOperatorError, InvalidParameterError, NoGradientError


def plain(keras):
    return keras.Sequential([keras.layers.Input((6,)), keras.layers.Dense(3)])


@pytest.fixture
def x(rng):
    return rng.normal(size=(5, 6)).astype("float32")


def nothing(gradient):
    gradient + 1.0


MODIFIERS = {
    "returns nothing": (nothing, "a NoneType"),
    "numpy()": (lambda g: g.numpy(), "converts gradients to NumPy"),
    "NumPy's function": (lambda g: np.maximum(np.asarray(g), 0), "converts gradients to NumPy"),
    "text": (lambda g: "absolute", "the dtype string"),
    "a mask": (lambda g: g > 0, "the dtype bool"),
    "complex": (lambda g: tf.cast(g, tf.complex64), "the dtype complex64"),
    "another shape": (lambda g: tf.reduce_sum(g, -1), "keeps the gradient's shape"),
    "NaN": (tf.math.log, "of which the gradient is finite"),
}


@pytest.mark.parametrize("kind", MODIFIERS)
def test_a_modifier_that_returns_something_else(keras, x, kind):
    modifier, words = MODIFIERS[kind]
    with pytest.raises(InvalidParameterError, match=f"grad_modifier.*{re.escape(words)}"):
        Saliency(plain(keras), grad_modifier=modifier)(x, 1)


def test_an_error_of_a_modifier_of_its_own_is_shown_as_it_is(keras, x):
    def failing(gradient):
        raise ValueError("my own")

    with pytest.raises(ValueError, match="my own"):
        Saliency(plain(keras), grad_modifier=failing)(x, 1)


def test_the_remedy_for_a_logarithm_works(keras, x):
    model = plain(keras)
    maps = Saliency(model, grad_modifier=lambda g: tf.math.log(tf.abs(g) + 1e-7))(x, 1)
    np.testing.assert_allclose(
        maps, np.log(np.abs(model.get_weights()[0][:, 1]) + 1e-7) * np.ones_like(x), rtol=1e-4
    )


def test_a_gradient_that_is_not_finite_is_not_blamed_on_the_modifier(keras, x):
    model = keras.Sequential(
        [keras.layers.Input((6,)), keras.layers.Lambda(lambda x: tf.sqrt(0.0 * x))]
    )
    with pytest.raises(NoGradientError, match=r"sample 0.*sqrt\(0\)"):
        Saliency(model, grad_modifier=tf.abs)(x, 1)


@pytest.mark.parametrize(
    ("operator", "words"),
    [
        (lambda f, x, y: None, "NoneType"),
        (lambda f, x, y: tf.cast(f(x)[:, 1], tf.complex64), "complex64.*tf.math.real"),
    ],
    ids=["None", "complex"],
)
def test_an_operator_that_returns_something_else(keras, x, operator, words):
    with pytest.raises(InvalidOperatorError, match=words):
        Saliency(plain(keras), operator=operator)(x)


@pytest.mark.parametrize("dtype", ["float32", "int32"])
@pytest.mark.parametrize("nested", [False, True])
def test_an_embedding_is_named_and_can_be_differentiated_to(keras, rng, dtype, nested):
    tokens = keras.Input((4,), dtype=dtype)
    table = keras.layers.Embedding(20, 3, name="words")
    if nested:
        inner = keras.Input((4,), dtype=dtype)
        features = keras.Model(inner, table(inner), name="encoder")(tokens)
    else:
        features = table(tokens)
    model = keras.Model(tokens, keras.layers.Dense(1)(keras.layers.Flatten()(features)))
    x = rng.integers(0, 20, (5, 4)).astype(dtype)
    with pytest.raises(NoGradientError, match="embedding looks numbers up") as caught:
        Saliency(model).explain(x)
    path = re.search(r"wrt_layer='([^']+)'", str(caught.value))[1]
    assert path == ("encoder/words" if nested else "words")
    maps = Saliency(model, wrt_layer=path).explain(x)
    weights = np.abs(model.get_weights()[1][:, 0]).reshape(4, 3)
    np.testing.assert_allclose(maps, np.broadcast_to(weights, (5, 4, 3)), rtol=1e-5)


def siamese(keras):
    encoder = keras.Sequential([keras.layers.Input((6,)), keras.layers.Dense(4)])
    first, second = keras.Input((6,)), keras.Input((6,))
    distance = keras.layers.Lambda(
        lambda v: tf.sqrt(tf.reduce_sum((v[0] - v[1]) ** 2, 1, keepdims=True)), output_shape=(1,)
    )
    return keras.Model([first, second], distance([encoder(first), encoder(second)]))


def test_a_gradient_that_is_not_finite_at_the_baseline_only(keras, rng):
    model = siamese(keras)
    x = [rng.normal(size=(2, 6)).astype("float32") for _ in range(2)]
    with pytest.raises(NoGradientError, match=r"from the baseline.*another `baseline_value`"):
        IntegratedGradients(model)(x)
    for map_, expected in zip(Saliency(model)(x), saliency_of_all(model, x), strict=True):
        np.testing.assert_allclose(map_, expected, rtol=1e-4)
    _, gaps, changes = IntegratedGradients(
        model, baseline_value=[np.zeros(6), np.ones(6)], steps=200
    ).explain_with_gaps(x)
    assert np.abs(gaps / changes).max() < 0.05
    with pytest.raises(NoGradientError, match="sample 0"):  # at the samples themselves, too
        IntegratedGradients(model, baseline_value=1.0)([x[0], x[0]])


def saliency_of_all(model, x):
    x = [*map(tf.constant, x)]
    return [
        saliency(lambda one, place=place: model([*x[:place], one, *x[place + 1 :]])[:, 0], x[place])
        for place in range(len(x))
    ]


def test_a_gap_says_what_the_sums_are(keras, x):
    steep = keras.Sequential(
        [
            keras.layers.Input((6,)),
            keras.layers.Lambda(lambda x: tf.sigmoid(30.0 * (tf.reduce_sum(x, 1, True) - 0.3))),
        ]
    )
    ones = np.ones_like(x)
    with pytest.warns(
        UserWarning, match=r"add up to .* changes from the baseline by 0.9999: 5 points"
    ):
        IntegratedGradients(steep, steps=5)(ones)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        IntegratedGradients(steep, steps=5000)(ones)  # the remedy


def test_no_gap_is_seen_in_rounding(keras, x):
    model = keras.Sequential(
        [keras.layers.Input((6,)), keras.layers.Lambda(lambda x: 1000.0 + 1e-4 * x)]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        IntegratedGradients(model)(x, 1)
