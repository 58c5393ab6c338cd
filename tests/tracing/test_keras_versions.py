"""What a version of Keras may do otherwise with its own parts costs speed, and nothing else."""

import re

import numpy as np
import pytest

from xplique_sal import Saliency
from xplique_sal._tracing import keras_compat
from xplique_sal._tracing.programs import trace_count

BARE = ("_bare_layer", "_bare_model", "_bare_sequential", "_bare_functional")


@pytest.fixture(autouse=True)
def names_read_anew():
    keras_compat._own_names.cache_clear()
    yield
    keras_compat._own_names.cache_clear()


def refused(keras):
    raise ValueError("`inputs` not connected to `outputs`")


def models(keras):
    """A model of each kind, one input with 3 features, and those that are not built last."""

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden = keras.layers.Dense(4, activation="relu")
            self.scores = keras.layers.Dense(2)

        def call(self, x):
            return self.scores(self.hidden(x))

    x = keras.layers.Input((3,))
    hidden = keras.layers.Dense(4, activation="relu", activity_regularizer="l2")(x)
    layers = [keras.layers.Dense(4, activation="relu"), keras.layers.Dense(2)]
    return {
        "functional": keras.Model(x, keras.layers.Dense(2)(hidden)),
        "sequential": keras.Sequential([keras.layers.Input((3,)), *layers]),
        "subclassed": Subclassed(),
        "deferred": keras.Sequential([keras.layers.Dense(4), keras.layers.Dense(2)]),
    }


def expected(model, x):
    """|w| of the class in each sample, through the ReLU where there is one."""
    hidden, scores = [layer for layer in model.layers if layer.weights]
    (w, b), v = hidden.get_weights(), scores.get_weights()[0]
    pre = x @ w + b
    open_units = pre > 0 if hidden.activation.__name__ == "relu" else np.ones_like(pre)
    best = (np.maximum(pre, 0) if hidden.activation.__name__ == "relu" else pre) @ v
    return np.abs((open_units * v[:, best.argmax(-1)].T) @ w.T)


@pytest.mark.parametrize("kind", ["functional", "sequential", "subclassed", "deferred"])
@pytest.mark.parametrize("missing", [*[(name,) for name in BARE], BARE], ids=[*BARE, "all"])
def test_a_bare_object_that_keras_refuses_to_make(keras, rng, monkeypatch, kind, missing):
    for name in missing:
        monkeypatch.setattr(keras_compat, name, refused)
    model = models(keras)[kind]
    x = rng.normal(size=(6, 3)).astype("float32")
    explainer = Saliency(model)
    maps = explainer(x)
    assert model.built
    np.testing.assert_allclose(maps, expected(model, x), rtol=1e-5)
    model.set_weights([2 * weight for weight in model.get_weights()])
    np.testing.assert_allclose(explainer(x), expected(model, x), rtol=1e-5)
    traces = trace_count()
    linear = expected(model, x)
    np.testing.assert_allclose(explainer(x[::-1]), linear[::-1], rtol=1e-5)
    assert trace_count() == traces
    model.layers[-1].activation = keras.activations.softplus  # as rising, and not as steep
    assert np.all(explainer(x) < linear)


@pytest.mark.parametrize("bare", BARE)
def test_each_bare_object_can_be_made(keras, bare):
    assert getattr(keras_compat, bare)(keras)


def test_automatic_names_of_layers_do_not_move(keras):
    def counts():
        layer = keras.layers.Dense(1)
        x = keras.layers.Input((2,))
        made = [layer, keras.Sequential([layer]), keras.layers.Layer(), keras.Model(x, layer(x))]
        return np.array([int(re.sub(r"\D", "", each.name) or 0) for each in [*made, x]])

    counts()
    before, between = counts(), counts()
    keras_compat._own_names(keras)
    np.testing.assert_array_equal(counts() - between, between - before)
