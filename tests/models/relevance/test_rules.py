"""Each rule at each kind of linear step, beside a slow twin with the step's Jacobian as weights."""

import numpy as np
import pytest

from xplique_sal.attributions import LRP

LOW, HIGH = -4.0, 5.0


def share(contributions, total, relevance):
    """Return Σ_k of the contributions (in, out), as a share of their total (out,)."""
    ratio = np.divide(relevance, total, out=np.zeros_like(total), where=total != 0)
    return contributions @ ratio


def signed(values, sign):
    return np.maximum(values, 0) if sign > 0 else np.minimum(values, 0)


def twin(rule, x, weights, bias, relevance):
    """Return the relevance of one sample's inputs (in,) by weights (in, out)."""
    z = x @ weights + bias
    parts = x[:, None] * weights
    if rule == "zero":
        return share(parts, z, relevance)
    if rule == "epsilon":
        return share(parts, z + 0.25 * np.where(z < 0, -1, 1), relevance)
    if rule == "wsquare":
        return share(weights**2, (weights**2).sum(0) + bias**2, relevance)
    if rule == "flat":
        ones = 1.0 * (weights != 0)
        return share(ones, ones.sum(0), relevance)
    if rule == "zbox":
        low, high = (limit * signed(weights, sign) for limit, sign in ((LOW, 1), (HIGH, -1)))
        return share(parts - low - high, (parts - low - high).sum(0), relevance)
    positive, negative = (
        (signed(parts, sign), signed(parts, sign).sum(0) + signed(bias, sign)) for sign in (1, -1)
    )
    if rule == "gamma":
        result = np.zeros_like(x)
        for (favoured, total), chosen in ((positive, z > 0), (negative, z < 0)):
            more = share(parts + 0.25 * favoured, z + 0.25 * total, relevance * chosen)
            result += more
        return result
    beta = {"alpha2_beta1": 1, "alpha1_beta0": 0, "zplus": 0}[rule]
    return (1 + beta) * share(*positive, relevance) - beta * share(*negative, relevance)


RULES = ["zero", "epsilon", "zplus", "gamma", "alpha2_beta1", "alpha1_beta0", "wsquare", "flat"]
RULES.append("zbox")

IMAGE, SERIES, VOLUME = (5, 6, 4), (7, 3), (4, 3, 4, 2)
STEPS = {
    "dense": ((6,), lambda layers: [layers.Dense(5)]),
    "convolution": (IMAGE, lambda layers: [layers.Conv2D(3, (2, 3), strides=2, padding="same")]),
    "dense of a series": (SERIES, lambda layers: [layers.Dense(4)]),
    "one axis": (SERIES, lambda layers: [layers.Conv1D(4, 3, padding="causal")]),
    "dilated": (SERIES, lambda layers: [layers.Conv1D(2, 2, dilation_rate=2, padding="same")]),
    "three axes": (VOLUME, lambda layers: [layers.Conv3D(3, 2)]),
    "depthwise": (IMAGE, lambda layers: [layers.DepthwiseConv2D(3, depth_multiplier=2)]),
    "transposed": (IMAGE, lambda layers: [layers.Conv2DTranspose(2, 3, strides=2)]),
    "einsum": (SERIES, lambda layers: [layers.EinsumDense("abc,cd->abd", (7, 4), bias_axes="d")]),
    "grouped": (IMAGE, lambda layers: [layers.Conv2D(4, 3, groups=2)]),
    "normalised after": (
        IMAGE,
        lambda layers: [layers.Conv2D(3, 3), layers.BatchNormalization()],
    ),
    "normalised before": (
        IMAGE,
        lambda layers: [layers.BatchNormalization(), layers.Conv2D(3, 3, padding="same")],
    ),
    "dense, normalised after": (
        (6,),
        lambda layers: [layers.Dense(5), layers.BatchNormalization()],
    ),
    "one axis, normalised after": (
        SERIES,
        lambda layers: [layers.Conv1D(4, 3, use_bias=False), layers.BatchNormalization()],
    ),
}
EVERY = {"dense", "convolution"}
PAIRS = [(rule, step) for rule in RULES for step in STEPS if step in EVERY]
PAIRS += [(rule, step) for rule in ("alpha2_beta1", "gamma") for step in STEPS if step not in EVERY]
PAIRS += [("wsquare", "normalised before"), ("wsquare", "normalised after")]


def built(keras, step, rng):
    """A model of one step, with drawn weights, statistics and signs."""
    shape, make = STEPS[step]
    layers = [keras.layers.Input(shape), *make(keras.layers), keras.layers.Flatten()]
    model = keras.Sequential(layers)
    for variable in model.variables:
        positive = "variance" in getattr(variable, "path", variable.name)
        drawn = rng.normal(size=variable.shape)
        variable.assign(np.abs(drawn) + 0.5 if positive else drawn)
    return model


def matrix(model, shape):
    """Return the model's weights (in, out) and bias (out,), all of it being linear."""
    size = int(np.prod(shape))
    bias = np.asarray(model(np.zeros((1, *shape), "float32")), "float64")[0]
    rows = np.asarray(model(np.eye(size, dtype="float32").reshape(size, *shape)), "float64")
    weights = rows - bias
    weights[np.abs(weights) < 1e-5] = 0
    return weights, bias


@pytest.mark.filterwarnings("ignore:The attributions of some sample add up")
@pytest.mark.parametrize("rule, step", PAIRS)
def test_a_rule_is_its_twin(keras, rng, rule, step):
    shape = STEPS[step][0]
    model = built(keras, step, rng)
    weights, bias = matrix(model, shape)
    x = rng.uniform(LOW / 2, HIGH / 2, (3, *shape)).astype("float32")
    y = rng.uniform(0.5, 1.5, (3, len(bias))).astype("float32")
    explainer = LRP(model, reducer=None, rule=rule, epsilon=0.25, input_range=(LOW, HIGH))
    found = explainer.explain(x, y).numpy()
    flat = x.reshape(3, -1).astype("float64")
    started = (flat @ weights + bias) * y
    expected = [
        twin(rule, *pair[:1], weights, bias, pair[1]) for pair in zip(flat, started, strict=True)
    ]
    expected = np.reshape(expected, x.shape)
    assert np.abs(expected).max() > 1e-2
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-4 * np.abs(expected).max())
