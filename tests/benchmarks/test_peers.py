"""On flat Keras 3 models, the maps equal those of Xplique 2.0.2.

They run in an environment of their own: ``make test-peers``.
"""

import numpy as np
import pytest

xplique = pytest.importorskip("xplique.attributions", reason="run by `make test-peers`")

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

from xplique_sal import attributions  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The gradient is zero everywhere"),
]

SHAPES = {"table": (12,), "series": (10, 4), "image": (16, 16, 3)}


def network(kind):
    keras.utils.set_random_seed(0)
    convolutions = {
        "table": [],
        "series": [keras.layers.Conv1D(8, 3, activation="relu")],
        "image": [
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(8, 3, activation="relu"),
        ],
    }
    inputs = keras.layers.Input(SHAPES[kind])
    hidden = inputs
    for layer in convolutions[kind]:
        hidden = layer(hidden)
    hidden = keras.layers.Dense(16, activation="relu")(keras.layers.Flatten()(hidden))
    return keras.Model(inputs, keras.layers.Dense(5)(hidden))


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("name", ["Saliency", "GuidedBackprop", "DeconvNet"])
def test_maps_are_those_of_xplique(kind, name):
    model = network(kind)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, *SHAPES[kind])).astype("float32")
    y = tf.one_hot(rng.integers(0, 5, 20), 5)
    expected = np.asarray(getattr(xplique, name)(model, batch_size=8).explain(x, y))
    maps = np.asarray(getattr(attributions, name)(model, batch_size=8).explain(x, y))
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(maps.reshape(expected.shape), expected, rtol=0, atol=1e-6)
