"""LSTM layers that are computed by one operation give the same map."""

import numpy as np
import pytest
import tensorflow as tf

from tests import reference
from xplique_sal import GuidedBackprop, Saliency, SmoothGrad

STEPS, WIDTH = 7, 3


def network(keras, layer, *others, steps=STEPS):
    inputs = x = keras.layers.Input((steps, WIDTH))
    for each in (layer, *others):
        x = each(x)
    if len(x.shape) == 3:
        x = keras.layers.GlobalMaxPooling1D()(x)
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    rng = np.random.default_rng(5)
    for variable in model.trainable_variables:  # also biases
        variable.assign(rng.normal(scale=0.5, size=variable.shape))
    return model


def assert_right(model, x):
    maps, scores = Saliency(
        model, batch_size=None, reducer=None, grad_modifier=None
    ).explain_with_scores(x, 1)
    expected = reference.gradient(reference.class_score(model, [1] * len(x)), x)
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(scores, model(x, training=False)[:, 1], rtol=1e-5, atol=1e-6)


@pytest.fixture
def looped_over(monkeypatch):
    """Count the calls of the operation: a program of small samples hides it in a loop."""
    calls = []
    original = tf.raw_ops.BlockLSTMV2

    def counted(**given):
        calls.append(given)
        return original(**given)

    monkeypatch.setattr(tf.raw_ops, "BlockLSTMV2", counted)
    return calls


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"return_sequences": True},
        {"go_backwards": True},
        {"go_backwards": True, "return_sequences": True},
        {"use_bias": False},
        {"dropout": 0.5, "recurrent_dropout": 0.5},
    ],
    ids=str,
)
def test_lstm(keras, rng, looped_over, options):
    model = network(keras, keras.layers.LSTM(5, **options))
    assert_right(model, rng.normal(size=(4, STEPS, WIDTH)).astype("float32"))
    assert len(looped_over) == 1


def test_stacked_and_in_both_directions(keras, rng, looped_over):
    layers = keras.layers
    both = layers.Bidirectional(layers.LSTM(4, return_sequences=True))
    model = network(keras, both, layers.LSTM(5))
    assert_right(model, rng.normal(size=(4, STEPS, WIDTH)).astype("float32"))
    assert len(looped_over) == 3


def test_sequences_of_any_length(keras, rng, looped_over):
    model = network(keras, keras.layers.LSTM(5), steps=None)
    for steps in (3, 9):
        assert_right(model, rng.normal(size=(4, steps, WIDTH)).astype("float32"))
    assert looped_over


@pytest.mark.parametrize(
    "options",
    [
        {"activation": "relu"},
        {"recurrent_activation": "hard_sigmoid"},
        {"unroll": True},
        {"dtype": "float64"},
        {"dtype": "mixed_bfloat16"},
    ],
    ids=str,
)
def test_others_are_left_to_keras(keras, rng, looped_over, options):
    model = network(keras, keras.layers.LSTM(5, **options))
    x = rng.normal(size=(4, STEPS, WIDTH)).astype("float32")
    if "dtype" in options:
        assert np.abs(Saliency(model).explain(x, 1)).max() > 1e-3
    else:
        assert_right(model, x)
    assert not looped_over


def test_masked_steps_are_left_to_keras(keras, rng, looped_over):
    model = network(keras, keras.layers.Masking(), keras.layers.LSTM(5))
    x = rng.normal(size=(4, STEPS, WIDTH)).astype("float32")
    x[:, 4:] = 0
    assert_right(model, x)
    assert not looped_over


def test_a_state_to_begin_with_is_left_to_keras(keras, rng, looped_over):
    layers = keras.layers
    inputs = layers.Input((STEPS, WIDTH))
    states = [layers.Dense(5)(inputs[:, 0]), layers.Dense(5)(inputs[:, 1])]
    hidden = layers.LSTM(5)(inputs, initial_state=states)
    model = keras.Model(inputs, layers.Dense(3)(hidden))
    assert_right(model, rng.normal(size=(4, STEPS, WIDTH)).astype("float32"))
    assert not looped_over


def test_a_layer_of_ones_own_is_left_alone(keras, rng, looped_over):
    class Doubled(keras.layers.LSTM):
        def call(self, sequences, initial_state=None, mask=None, training=None):
            return 2 * super().call(sequences, mask=mask, training=training)

    model = network(keras, Doubled(5))
    assert_right(model, rng.normal(size=(4, STEPS, WIDTH)).astype("float32"))
    assert not looped_over


def test_gradients_of_gradients(keras, rng, looped_over):
    model = network(keras, keras.layers.LSTM(5, return_sequences=True), keras.layers.LSTM(4))

    def slope(f, x, y):
        with tf.GradientTape() as tape:
            tape.watch(x)
            score = f(x)[:, 1]
        return tf.reduce_sum(tape.gradient(score, x) ** 2, [1, 2])

    x = rng.normal(size=(3, STEPS, WIDTH)).astype("float32")
    maps = Saliency(model, operator=slope, reducer=None, grad_modifier=None).explain(x, 1)
    assert looped_over
    expected = reference.gradient(lambda x: slope(model, x, None), x)
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-6)


def test_an_operator_may_differentiate_to_weights(keras, rng, looped_over):
    """The gradient to kernels and bias is TensorFlow's, too."""
    model = network(keras, keras.layers.LSTM(5))

    def of_weights(f, x, y):
        with tf.GradientTape() as tape:
            score = tf.reduce_sum(f(x)[:, 1])
        found = tape.gradient(score, model.trainable_variables[:3])
        total = tf.add_n([tf.reduce_sum(tf.stop_gradient(part) ** 2) for part in found])
        return f(x)[:, 1] * total

    x = rng.normal(size=(3, STEPS, WIDTH)).astype("float32")
    explainer = Saliency(model, operator=of_weights, reducer=None, grad_modifier=None)
    maps = explainer.explain(x, 1)
    assert looped_over
    plain = lambda x: of_weights(lambda x: model(x, training=False), x, None)  # noqa: E731
    np.testing.assert_allclose(maps, reference.gradient(plain, x), rtol=1e-3, atol=1e-6)


def test_points_near_a_sample(keras, rng, looped_over):
    model = network(keras, keras.layers.LSTM(5))
    x = rng.normal(size=(3, STEPS, WIDTH)).astype("float32")
    maps = SmoothGrad(model, nb_samples=4, noise=0.0, reducer=None, grad_modifier=None).explain(
        x, 1
    )
    assert looped_over
    expected = reference.gradient(reference.class_score(model, [1] * 3), x)
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-6)


def test_a_rule_for_rectifiers_tells_that_an_lstm_stays_as_it_is(keras, rng, looped_over):
    layers = keras.layers
    model = network(keras, layers.LSTM(5), layers.Dense(64, activation="relu"))
    x = rng.normal(size=(3, STEPS, WIDTH)).astype("float32")
    with pytest.warns(UserWarning, match="tanh"):
        GuidedBackprop(model).explain(x, 1)
    assert looped_over
