"""Recurrent networks, attention and text: every gradient method, against plain tapes and twins."""

import warnings

import numpy as np
import pytest
import tensorflow as tf
from reference import built_once, class_score, gradient

from xplique_sal.attributions import GradientInput, IntegratedGradients, Saliency, SmoothGrad
from xplique_sal.errors import InvalidModelError, NoGradientError

STEPS, WIDTH, WORDS = 4, 4, 20


def lstm(keras):
    return [keras.layers.LSTM(5), keras.layers.Dense(3)]


def stacked_gru(keras):
    return [
        keras.layers.Bidirectional(keras.layers.GRU(5, return_sequences=True)),
        keras.layers.GRU(4),
        keras.layers.Dense(3),
    ]


def attention(keras):
    class Block(keras.layers.Layer):
        def __init__(self):
            super().__init__(name="block")
            self.attention = keras.layers.MultiHeadAttention(2, 3)
            self.norm = keras.layers.LayerNormalization()
            self.dense = keras.layers.Dense(WIDTH, activation="gelu")

        def call(self, inputs):
            hidden = self.norm(inputs + self.attention(inputs, inputs))
            return hidden + self.dense(hidden)

    return [Block(), keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(3)]


RECURRENT_AND_ATTENTION = {"lstm": lstm, "gru": stacked_gru, "attention": attention}
every_body = pytest.mark.parametrize("body", RECURRENT_AND_ATTENTION)


@built_once
def series_model(keras, body):
    layers = RECURRENT_AND_ATTENTION[body](keras)
    return keras.Sequential([keras.layers.Input((STEPS, WIDTH)), *layers])


@built_once
def text_model(keras, body):
    embedding = keras.layers.Embedding(WORDS, WIDTH, name="embedding")
    tokens = keras.layers.Input((STEPS,), dtype="int32")
    hidden = embedding(tokens)
    for layer in RECURRENT_AND_ATTENTION[body](keras):
        hidden = layer(hidden)
    model = keras.Model(tokens, hidden)
    # A wider spread than Keras's makes the words tell on the score.
    table = np.random.default_rng(1).normal(size=(WORDS, WIDTH))
    embedding.set_weights([table])
    return model


def vision_transformer(keras):
    class Patches(keras.layers.Layer):
        def __init__(self):
            super().__init__(name="patches")
            self.convolution = keras.layers.Conv2D(8, 4, strides=4, name="embedding")
            self.place = keras.layers.Embedding(4, 8)

        def call(self, images):
            hidden = self.convolution(images)
            hidden = tf.reshape(hidden, [tf.shape(hidden)[0], 4, 8])
            return hidden + self.place(tf.range(4))

    inputs = keras.layers.Input((8, 8, 3))
    hidden = Patches()(inputs)
    attended = keras.layers.MultiHeadAttention(2, 4)(hidden, hidden)
    hidden = keras.layers.LayerNormalization()(keras.layers.Add()([hidden, attended]))
    hidden = keras.layers.Dense(8, activation="gelu")(hidden)
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(hidden)))


def assert_close(actual, expected, tolerance=1e-4):
    expected = np.asarray(expected)
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def noise(shape, point):
    """The noise of seed 0 at a point; the samples have a number of values that 4 divides."""
    size = int(np.prod(shape[1:]))
    assert size % 4 == 0
    key = tf.constant([0, point], tf.int64)
    return tf.random.stateless_normal((shape[0], size), key, alg="philox").numpy().reshape(shape)


def check_all(model, score, inputs, source, targets, **options):
    """Compare four methods with plain gradients of a score of the source and its classes."""
    steps = 5
    # From a baseline where no normalisation is at its limit.
    baseline = np.random.default_rng(2).normal(size=source.shape[1:]).astype("float32")
    way = source - baseline
    points = [source, *(source + 0.2 * noise(source.shape, k) for k in range(3))]
    points += [baseline + share * way for share in np.linspace(0, 1, steps, dtype="float32")]
    classes, points = np.tile(targets, len(points)), np.concatenate(points)
    gradients = gradient(lambda x: score(x, classes), points)
    plain, *around = np.split(gradients[: 4 * len(source)], 4)
    along = np.reshape(gradients[4 * len(source) :], (steps, *source.shape))

    options = {"batch_size": 3, **options}
    unreduced = {"reducer": None, **options}
    maps = Saliency(model, **unreduced).explain(inputs, targets)
    assert_close(maps, np.abs(plain))
    maps = GradientInput(model, **unreduced).explain(inputs, targets)
    assert_close(maps, source * plain)
    maps = SmoothGrad(model, nb_samples=3, seed=0, **unreduced).explain(inputs, targets)
    assert_close(maps, np.mean(around, 0))
    explainer = IntegratedGradients(model, steps=steps, baseline_value=baseline, **unreduced)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The attributions of some sample add up")
        maps, gaps, changes = explainer.explain_with_gaps(inputs, targets)
    expected = way * (along[:-1] + along[1:]).mean(0) / 2
    assert_close(maps, expected)
    ends = score(tf.constant(source), targets) - score(tf.constant(source - way), targets)
    np.testing.assert_allclose(changes, ends, rtol=0, atol=1e-4 * np.abs(ends).max())
    total = expected.sum(tuple(range(1, expected.ndim)))
    np.testing.assert_allclose(gaps, total - ends, rtol=0, atol=1e-4 * np.abs(expected).sum())


def score_of(model):
    """The score of a class of each sample, as a function of samples and classes."""
    return lambda x, classes: class_score(model, classes)(x)


@every_body
def test_series(keras, rng, body):
    model = series_model(keras, body)
    x, y = rng.normal(size=(5, STEPS, WIDTH)).astype("float32"), rng.integers(0, 3, 5)
    check_all(model, score_of(model), x, x, y)


@pytest.mark.parametrize("body", ["lstm", "attention"])  # of the series, "gru" is another LSTM
def test_text_by_the_output_of_its_embedding(keras, rng, body):
    model = text_model(keras, body)
    tokens, y = rng.integers(0, WORDS, (5, STEPS)), rng.integers(0, 3, 5)
    vectors = model.get_layer("embedding").get_weights()[0][tokens].astype("float32")

    def score(embedded, classes):
        for layer in model.layers[2:]:
            embedded = layer(embedded, training=False)
        return tf.gather(embedded, classes, batch_dims=1)

    check_all(model, score, tokens, vectors, y, wrt_layer="embedding")


@every_body
def test_words_count_what_they_bring_beside_padding(keras, rng, body):
    """The baseline of a text can be the vector of the padding word: padding then gets nothing."""
    model = text_model(keras, body)
    tokens = rng.integers(1, WORDS, (5, STEPS))
    tokens[:, 3:] = 0
    padding = model.get_layer("embedding").get_weights()[0][0]
    explainer = IntegratedGradients(model, wrt_layer="embedding", baseline_value=padding)
    maps, gaps, changes = explainer.explain_with_gaps(tokens, 1)
    per_word = maps.numpy().sum(-1)
    np.testing.assert_array_equal(per_word[:, 3:], 0)
    assert np.abs(per_word[:, :3]).min() > 0
    expected = model(tokens)[:, 1] - model(np.zeros_like(tokens))[:, 1]
    np.testing.assert_allclose(changes, expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(per_word.sum(1) - gaps, expected, rtol=1e-3, atol=1e-4)


@every_body
@pytest.mark.parametrize("method", [Saliency, GradientInput, SmoothGrad, IntegratedGradients])
def test_tokens_themselves_have_no_gradient(keras, rng, body, method):
    tokens = rng.integers(0, WORDS, (5, STEPS))
    with pytest.raises(NoGradientError, match="wrt_layer"):
        method(text_model(keras, body)).explain(tokens, 1)


def test_a_vision_transformer(keras, rng):
    model = vision_transformer(keras)
    x, y = rng.normal(size=(5, 8, 8, 3)).astype("float32"), rng.integers(0, 3, 5)
    check_all(model, score_of(model), x, x, y)


def test_all_outputs_of_a_recurrent_model(keras, rng):
    model = series_model(keras, "lstm")
    x = rng.normal(size=(4, STEPS, WIDTH)).astype("float32")
    for explainer in (SmoothGrad(model, nb_samples=4, seed=0), IntegratedGradients(model, steps=8)):
        expected = np.stack([explainer.explain(x, output) for output in range(3)], 1)
        assert_close(explainer.explain_outputs(x), expected, 1e-5)


@pytest.mark.parametrize("method", [SmoothGrad, IntegratedGradients])
def test_a_state_does_not_go_from_point_to_point(keras, rng, method):
    inputs = keras.layers.Input(batch_shape=(2, STEPS, WIDTH))
    recurrent = keras.layers.LSTM(5, stateful=True)
    model = keras.Sequential([inputs, recurrent, keras.layers.Dense(3)])
    x = rng.normal(size=(4, STEPS, WIDTH)).astype("float32")
    model(x[:2])
    state = [np.array(value) for value in model.layers[0].states]
    assert np.abs(GradientInput(model).explain(x, 1)).max() > 0
    with pytest.raises(InvalidModelError, match="stateful=False"):
        method(model).explain(x, 1)
    for before, after in zip(state, model.layers[0].states, strict=True):
        np.testing.assert_array_equal(before, np.array(after))
