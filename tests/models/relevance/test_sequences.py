"""Attention, layer normalisation and recurrent cells, each beside a slow twin."""

import numpy as np
import pytest
from reference import built_once

from xplique_sal.attributions import LRP
from xplique_sal.errors import NothingRewiredError

pytestmark = pytest.mark.filterwarnings("ignore:The attributions of some sample add up")

STEPS, WIDTH, UNITS = 4, 3, 5


def series(rng, count=2):
    return rng.normal(size=(count, STEPS, WIDTH)).astype("float32")


def safe(values):
    return values + 1e-6 * np.where(values < 0, -1, 1)


def linear(x, weights, z, relevance):
    """Return Σ_k x w_jk / z_k R_k."""
    return x * ((relevance / safe(z)) @ weights.T)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@built_once
def recurrent(keras, cell, unroll=False):
    layers = keras.layers
    layer = getattr(layers, cell)(UNITS, unroll=unroll, name="cell")
    model = keras.Sequential([layers.Input((STEPS, WIDTH)), layer])
    rng = np.random.default_rng(3)
    model.set_weights([0.6 * rng.normal(size=weight.shape) for weight in model.get_weights()])
    return model


def lstm(x, kernel, recurrent_kernel, bias, started):
    """Return the relevance of one sample's steps; gates get none."""
    hidden = cell = np.zeros(UNITS)
    steps = []
    for value in x:
        z = value @ kernel + hidden @ recurrent_kernel + bias
        i, f, g, o = np.split(z, 4)
        new = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        steps.append((value, hidden, sigmoid(f) * cell, sigmoid(i) * np.tanh(g), g, new))
        cell, hidden = new, sigmoid(o) * np.tanh(new)
    of_cell, of_hidden, result = 0, hidden * started, []
    own, recurrent_own = (w[:, 2 * UNITS : 3 * UNITS] for w in (kernel, recurrent_kernel))
    for value, before, kept, added, g, new in reversed(steps):
        of_cell = of_cell + of_hidden
        of_g = added / safe(new) * of_cell
        of_cell = kept / safe(new) * of_cell
        result.append(linear(value, own, g, of_g))
        of_hidden = linear(before, recurrent_own, g, of_g)
    return result[::-1]


def gru(x, kernel, recurrent_kernel, bias, started):
    hidden, steps = np.zeros(UNITS), []
    for value in x:
        given, inner = value @ kernel + bias[0], hidden @ recurrent_kernel + bias[1]
        (z_given, r_given, a), (z_inner, r_inner, b) = np.split(given, 3), np.split(inner, 3)
        z, r = sigmoid(z_given + z_inner), sigmoid(r_given + r_inner)
        candidate = np.tanh(a + r * b)
        new = z * hidden + (1 - z) * candidate
        steps.append((value, hidden, z * hidden, (1 - z) * candidate, a, b, r * b, new))
        hidden = new
    of_hidden, result = hidden * started, []
    own, recurrent_own = (w[:, 2 * UNITS :] for w in (kernel, recurrent_kernel))
    for value, before, kept, added, a, b, gated, new in reversed(steps):
        share = of_hidden / safe(new)
        of_candidate = added * share / safe(a + gated)
        result.append(linear(value, own, a, a * of_candidate))
        of_hidden = kept * share + linear(before, recurrent_own, b, gated * of_candidate)
    return result[::-1]


TWINS = {"LSTM": lstm, "GRU": gru}


@pytest.mark.parametrize("cell, unroll", [("LSTM", False), ("GRU", False), ("LSTM", True)])
def test_a_gate_of_a_recurrent_cell_gets_nothing(keras, rng, cell, unroll):
    model, x = recurrent(keras, cell, unroll), series(rng)
    y = rng.uniform(0.5, 1.5, (2, UNITS)).astype("float32")
    weights = [weight.astype("float64") for weight in model.get_weights()]
    pairs = zip(x, y, strict=True)
    expected = np.array([TWINS[cell](sample, *weights, target) for sample, target in pairs])
    found = LRP(model, rule="epsilon").explain(x, y).numpy()
    assert np.abs(expected).max() > 0.05
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-3 * np.abs(expected).max())


@built_once
def attention(keras):
    layers = keras.layers
    inputs = layers.Input((STEPS, WIDTH))
    layer = layers.MultiHeadAttention(2, 4, use_bias=False, name="attention")
    model = keras.Model(inputs, layers.Flatten()(layer(inputs, inputs)))
    rng = np.random.default_rng(5)
    model.set_weights([rng.normal(size=weight.shape) for weight in model.get_weights()])
    return model


def attention_twin(x, weights, relevance):
    """Return the relevance of one sample (steps, width) by that of the outputs, alike."""
    kernels = {"q": weights[0], "k": weights[1], "v": weights[2]}
    q, k, v = (np.einsum("td,dhe->hte", x, kernels[name]) for name in "qkv")
    logits = 0.5 * q @ k.transpose(0, 2, 1)
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    y = p @ v
    output = np.einsum("hte,hed->td", y, weights[3])
    of_y = y * np.einsum("td,hed->hte", relevance / safe(output), weights[3])
    share = of_y / safe(2 * y)
    of_p, of_v = p * (share @ v.transpose(0, 2, 1)), v * (p.transpose(0, 2, 1) @ share)
    of_logits = logits * (of_p - p * of_p.sum(-1, keepdims=True))
    share = of_logits / safe(2 * logits)
    of_q, of_k = 0.5 * q * (share @ k), 0.5 * k * (share.transpose(0, 2, 1) @ q)
    result = 0
    for name, values, own in (("q", q, of_q), ("k", k, of_k), ("v", v, of_v)):
        result += x * np.einsum("hte,dhe->td", own / safe(values), kernels[name])
    return result


def test_attention(keras, rng):
    model, x = attention(keras), series(rng)
    y = rng.uniform(0.5, 1.5, (2, STEPS * WIDTH)).astype("float32")
    weights = [weight.astype("float64") for weight in model.get_weights()]
    started = (np.asarray(model(x)) * y).reshape(x.shape).astype("float64")
    pairs = zip(x.astype("float64"), started, strict=True)
    expected = np.array([attention_twin(sample, weights, given) for sample, given in pairs])
    found = LRP(model, rule="attention").explain(x, y).numpy()
    assert np.abs(found - expected).max() < 2e-3 * np.abs(expected).max()
    with pytest.raises(NothingRewiredError, match="in the layer 'attention'"):
        LRP(model, rule="epsilon").explain(x, y)


def test_layer_normalisation_passes_nothing_through_its_deviation(keras, rng):
    layers = keras.layers
    layer = layers.LayerNormalization()
    model = keras.Sequential([layers.Input((6,)), layer, layers.Dense(1, use_bias=False)])
    drawn = [rng.normal(size=weight.shape) for weight in model.get_weights()]
    model.set_weights(drawn)
    gamma, beta, kernel = drawn
    x = rng.normal(size=(3, 6)).astype("float32")
    centred = x - x.mean(1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(1, keepdims=True) + layer.epsilon) * gamma
    np.testing.assert_allclose(model(x), (scaled + beta) @ kernel, rtol=1e-4, atol=1e-5)
    share = scaled * kernel[:, 0] / centred  # of the outputs' relevance, what β does not take
    expected = x * (share - share.mean(1, keepdims=True))
    found = LRP(model, rule="epsilon", epsilon=0).explain(x).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-3 * np.abs(expected).max())


@built_once
def encoder(keras):
    """Words, positions, attention that masks, feed-forward layers, both with residual sums."""
    layers = keras.layers
    tokens = layers.Input((STEPS,), dtype="int32")
    words = layers.Embedding(20, 8, name="words")(tokens)
    x = layers.Add()([words, layers.Embedding(STEPS, 8)(tokens * 0)])
    inner = layers.LayerNormalization()(x)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 4)(inner, inner, use_causal_mask=True)])
    inner = layers.Dense(8)(layers.Dense(12, activation="gelu")(layers.LayerNormalization()(x)))
    x = layers.Add()([x, inner])
    return keras.Model(tokens, layers.Dense(3)(x[:, -1]))


def test_an_encoder_of_words(keras, rng):
    tokens = rng.integers(0, 20, (2, STEPS))
    explainer = LRP(encoder(keras), rule="attention", wrt_layer="words")
    maps, gaps, scores = explainer.explain_with_gaps(tokens, 1)
    assert maps.shape == (2, STEPS, 8)
    assert np.isfinite(maps).all() and (np.abs(maps).sum(-1) > 0).all()
    np.testing.assert_allclose(np.sum(maps, (1, 2)) - gaps, scores, rtol=1e-3, atol=1e-5)
