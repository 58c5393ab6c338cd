"""One number for each token: reducers of maps of an embedding."""

import numpy as np
import pytest
import tensorflow as tf
from reference import built_once

from xplique_sal import attributions
from xplique_sal.attributions.base import WhiteBoxExplainer
from xplique_sal.errors import InvalidParameterError

#: Methods that attribute to vectors, with what they need. Those of feature maps have no vectors.
METHODS = {
    name: {"seed": 3} if "Grad" in name and name[0] in "SV" else {}
    for name in attributions.__all__
    if issubclass(getattr(attributions, name), WhiteBoxExplainer)
    and "CAM" not in name
    and name != "GradientShap"
} | {"GradientShap": {"seed": 3, "baselines": np.zeros((2, 6, 5), "float32")}}
REDUCED = {
    "token_sum": lambda maps: maps.sum(-1),
    "token_norm": lambda maps: np.linalg.norm(maps.astype(np.float64), axis=-1),
}


@built_once
def network(keras):
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((6,), dtype="int32"),
            layers.Embedding(20, 5, name="vectors"),
            layers.Conv1D(7, 3, activation="relu"),
            layers.GlobalAveragePooling1D(),
            layers.Dense(3),
        ]
    )


@pytest.fixture
def model(keras):
    return network(keras)


@pytest.fixture
def ids(rng):
    return rng.integers(1, 20, (4, 6)).astype("int32")


@pytest.mark.parametrize(
    ("name", "reducer"),
    [*((name, "token_sum") for name in METHODS)]
    + [(name, "token_norm") for name in ("Saliency", "SmoothGrad", "LRP")],
)
@pytest.mark.filterwarnings("ignore:The attributions of some sample")
def test_every_method_gives_one_number_a_token(model, ids, name, reducer):
    def explainer(reducer):
        options = {"wrt_layer": "vectors", "reducer": reducer, "batch_size": 3, **METHODS[name]}
        return getattr(attributions, name)(model, **options)

    whole, reduced = explainer(None), explainer(reducer)
    expected = REDUCED[reducer](whole.explain_outputs(ids, [1, 2]).numpy())
    assert np.ptp(expected) > 0
    found = reduced.explain(ids, 1)
    assert found.shape == (4, 6)
    np.testing.assert_allclose(found, expected[:, 0], rtol=1e-4, atol=1e-6)
    outputs = reduced.explain_outputs(ids, [1, 2])
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-7)


def test_contributions_of_tokens_add_up(model, ids):
    explainer = attributions.DeepLift(model, wrt_layer="vectors", reducer="token_sum")
    maps, gaps, wholes = explainer.explain_with_gaps(ids, 2)
    np.testing.assert_allclose(maps.numpy().sum(1), wholes, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(gaps, 0, atol=1e-6)


def test_one_number_for_each_step_of_a_series(keras, rng):
    """Vectors may also be the model's input."""
    model = keras.Sequential(
        [keras.layers.Input((6, 5)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    kernel = model.layers[-1].get_weights()[0][:, 1].reshape(6, 5)
    x = rng.normal(size=(3, 6, 5)).astype("float32")
    maps = attributions.Saliency(model, reducer="token_norm").explain(x, 1)
    np.testing.assert_allclose(maps, [np.linalg.norm(kernel, axis=1)] * 3, rtol=1e-5)
    maps = attributions.GradientInput(model, reducer="token_sum").explain(x, 1)
    np.testing.assert_allclose(maps, (x * kernel).sum(-1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_lengths_of_vectors_whose_squares_are_no_numbers(keras, size):
    def model(x):
        return tf.reduce_sum(x * tf.constant([3.0, -4.0]) * size, [1, 2])[:, tf.newaxis]

    x = np.ones((2, 3, 2), "float32")
    maps = attributions.Saliency(model, reducer="token_norm").explain(x)
    np.testing.assert_allclose(maps, np.full((2, 3), 5 * size), rtol=1e-5)


@pytest.mark.parametrize("shape", [(4,), (4, 4, 2)])
@pytest.mark.parametrize("reducer", REDUCED)
def test_what_has_no_tokens_is_refused(keras, shape, reducer):
    model = keras.Sequential(
        [keras.layers.Input(shape), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    x = np.ones((2, *shape), "float32")
    explainer = attributions.Saliency(model, reducer=reducer)
    with pytest.raises(InvalidParameterError, match=r"\(N, T, E\).*wrt_layer"):
        explainer.explain(x, 0)
    with pytest.raises(InvalidParameterError, match=reducer):
        explainer.explain_outputs(x)


def test_texts_of_any_length(keras, rng):
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((None,), dtype="int32"),
            layers.Embedding(20, 5, name="vectors"),
            layers.GlobalAveragePooling1D(),
            layers.Dense(2),
        ]
    )
    explainer = attributions.GradientInput(model, wrt_layer="vectors", reducer="token_sum")
    weights = model.layers[0].get_weights()[0] @ model.layers[-1].get_weights()[0]
    for length in (4, 9):
        ids = rng.integers(0, 20, (3, length)).astype("int32")
        expected = weights[ids] / length
        np.testing.assert_allclose(explainer(ids, 1), expected[..., 1], rtol=1e-4, atol=1e-6)
        found = explainer.explain_outputs(ids)
        np.testing.assert_allclose(found, expected.transpose(0, 2, 1), rtol=1e-4, atol=1e-6)


def test_a_service_gives_tokens_too(model, ids, tmp_path):
    explainer = attributions.IntegratedGradients(
        model, wrt_layer="vectors", reducer="token_sum", steps=8
    )
    explainer.export(tmp_path / "served", ids)
    served = tf.saved_model.load(str(tmp_path / "served")).signatures["explain_class"]
    found = served(inputs=tf.constant(ids), class_index=tf.constant([1] * 4))["maps"]
    np.testing.assert_allclose(found, explainer.explain(ids, 1), rtol=1e-5, atol=1e-7)
