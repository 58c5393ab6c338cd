"""Model randomisation: maps of random weights by a slow twin, and a model that stays as it is."""

import threading

import numpy as np
import pytest
import tensorflow as tf
from reference import built_once

from xplique_sal import GradCAM, GuidedBackprop, IntegratedGradients, Occlusion, Saliency
from xplique_sal._tracing.programs import trace_count
from xplique_sal.errors import InvalidInputError, InvalidModelError, InvalidParameterError
from xplique_sal.metrics import ModelRandomization
from xplique_sal.metrics.similarity import SIMILARITIES


@built_once
def network(keras):
    """A model with a nested one, a normalisation and a custom layer, and weights of all sizes."""
    layers = keras.layers

    class Scale(layers.Layer):
        def build(self, shape):
            self.factor = self.add_weight(name="factor", shape=(shape[-1],), initializer="uniform")

        def call(self, x):
            return x * (1.0 + self.factor)

    inner = keras.Sequential(
        [keras.Input((8, 8, 2)), layers.Conv2D(4, 3), layers.BatchNormalization(), layers.ReLU()],
        name="inner",
    )
    inputs = keras.Input((8, 8, 2))
    hidden = layers.Flatten()(Scale(name="scale")(inner(inputs)))
    model = keras.Model(inputs, layers.Dense(3, name="top")(hidden))
    rng = np.random.default_rng(0)
    weights = model.get_weights()
    model.set_weights([rng.uniform(0.1, 1, w.shape) - 0.4 * (w.ndim > 1) for w in weights])
    return model


def samples(rng, count=5):
    return rng.normal(size=(count, 8, 8, 2)).astype("float32"), rng.integers(0, 3, count)


EXPLAINERS = {
    "saliency": Saliency,
    "integrated": lambda m: IntegratedGradients(m, steps=5),
    "occlusion": Occlusion,
    "grad_cam": GradCAM,
}


@pytest.mark.parametrize("name", EXPLAINERS)
def test_each_point_is_the_map_of_a_model_whose_weights_were_set(keras, rng, name):
    model, (x, y) = network(keras), samples(rng)
    maps = []

    def explainer(x, y):
        maps.append(EXPLAINERS[name](model)(x, y).numpy())
        return maps[-1]

    metric = ModelRandomization(model, x, y, steps=None, seed=3)
    found = metric.detailed_evaluate(explainer)
    assert metric.layers()[:2] == ["top", "scale"]
    assert all(path.startswith("inner/") for path in metric.layers()[2:])
    assert len(metric.layers()) == 4 and len(maps) == 5
    np.testing.assert_allclose(found.at, [0, 0.25, 0.5, 0.75, 1])
    copy = network.anew(keras)
    for count in (1, 4):
        copy.set_weights(model.get_weights())
        shuffled = {path: pairs for path, pairs in metric._layers[:count]}
        assert len(shuffled) == count
        own = {variable.name: other for pairs in shuffled.values() for variable, other in pairs}
        variables = [getattr(v, "_value", v) for v in model.variables]
        values = [own[v.name].numpy() if v.name in own else v.numpy() for v in variables]
        for value, before in zip(values, model.get_weights(), strict=True):
            np.testing.assert_array_equal(np.sort(value.ravel()), np.sort(before.ravel()))
        copy.set_weights(values)
        expected = EXPLAINERS[name](copy)(x, y).numpy()
        assert np.abs(expected - maps[0]).max() > 1e-3
        np.testing.assert_allclose(maps[count], expected, rtol=1e-4, atol=1e-5)
        for number in range(5):
            pair = maps[0][number : number + 1], expected[number : number + 1]
            similarity = SIMILARITIES["spearman"](*pair)[0]
            assert found.curves[number, count] == pytest.approx(similarity, abs=1e-2)
    np.testing.assert_allclose(found.values, found.curves[:, 1:].mean(axis=1))


def test_every_weight_is_the_same_bit_for_bit_also_after_an_interruption(keras, rng):
    model, (x, y) = network(keras), samples(rng)
    before = [value.tobytes() for value in model.get_weights()]
    saliency, calls, elsewhere = Saliency(model), [], []
    expected = saliency(x, y).numpy()

    def interrupted(x, y):
        calls.append(saliency(x, y).numpy())
        assert [value.tobytes() for value in model.get_weights()] == before
        thread = threading.Thread(target=lambda: elsewhere.append(saliency(x, y).numpy()))
        thread.start()
        thread.join()
        if len(calls) == 3:
            raise KeyboardInterrupt
        return calls[-1]

    with pytest.raises(KeyboardInterrupt):
        ModelRandomization(model, x, y)(interrupted)
    assert [value.tobytes() for value in model.get_weights()] == before
    assert np.abs(calls[2] - expected).max() > 1e-3
    for maps in (*elsewhere, saliency(x, y).numpy()):
        np.testing.assert_array_equal(maps, expected)


def test_nothing_is_traced_for_a_further_layer_or_another_seed(keras, rng):
    model, (x, y) = network(keras), samples(rng)
    explainer = Saliency(model)
    first = ModelRandomization(model, x, y, 2, steps=2)(explainer)
    before = trace_count()
    assert ModelRandomization(model, x, y, 3, steps=2)(explainer) == pytest.approx(first, abs=1e-6)
    assert abs(ModelRandomization(model, x, y, steps=2, seed=5)(explainer) - first) > 1e-4
    assert trace_count() == before


def test_without_targets_what_is_explained_stays_the_same(keras, rng):
    model, (x, _) = network(keras), samples(rng)
    largest = model(x).numpy().argmax(axis=1)
    expected = ModelRandomization(model, x, largest)(Saliency(model))
    assert ModelRandomization(model, x)(Saliency(model)) == expected


def test_functions_and_modules_of_variables(rng):
    class Linear(tf.Module):
        def __init__(self):
            super().__init__()
            self.weights = tf.Variable(rng.normal(size=(6, 3)).astype("float32"), name="weights")
            self.scale = tf.Variable(2.0)
            self.shift = tf.Variable(np.arange(3.0, dtype="float32"), name="scope/shift")

        def __call__(self, x):
            return tf.matmul(x, self.weights) * self.scale + self.shift

    model = Linear()
    x = rng.normal(size=(4, 6)).astype("float32")
    metric = ModelRandomization(model, x, 1)
    found = metric.detailed_evaluate(Saliency(model, grad_modifier=None))
    assert metric.layers() == ["scope", "weights:0"]
    own, other = (w.numpy()[:, 1] for w in metric._layers[1].pairs[0])
    ranks = np.argsort(np.argsort(own)), np.argsort(np.argsort(other))
    np.testing.assert_allclose(found.curves[:, 1], 1)  # a shift has no gradient
    np.testing.assert_allclose(found.curves[:, 2], np.corrcoef(*ranks)[0, 1], atol=1e-6)
    assert ModelRandomization(lambda x: model(x), x, 1)(Saliency(lambda x: model(x))) < 1


def test_similarities(rng):
    maps = rng.normal(size=(3, 16, 16, 1))
    for similarity in SIMILARITIES.values():
        np.testing.assert_allclose(similarity(maps, 3 * maps + 1), 1, atol=1e-5)
        assert np.abs(similarity(maps, rng.normal(size=maps.shape))).max() < 0.3
    assert SIMILARITIES["ssim"](maps[..., 0], np.zeros((3, 16, 16))).max() < 1
    with pytest.raises(InvalidInputError, match="SSIM"):
        SIMILARITIES["ssim"](np.ones((2, 3)), np.ones((2, 3)))


def test_what_can_not_be_randomised_is_refused(keras, rng):
    model, (x, y) = network(keras), samples(rng)
    with pytest.raises(InvalidModelError, match="only called"):
        ModelRandomization(lambda x: np.ones((len(x), 3)), x, y)(Saliency(model))
    with pytest.raises(InvalidModelError, match="no weights among them"):
        ModelRandomization(lambda x: tf.reduce_sum(x, [1, 2]), x, 1)(Saliency(model))
    other = keras.Sequential([keras.Input((8, 8, 2)), keras.layers.Flatten()])
    other.add(keras.layers.Dense(3))
    with pytest.raises(InvalidModelError, match="reads none of those"):
        ModelRandomization(model, x, y)(Saliency(other))
    with pytest.raises(InvalidModelError, match="only called"):
        ModelRandomization(model, x, y)(Occlusion(lambda x: model.predict(x, verbose=0)))
    inner = Saliency(model, "inner")
    with pytest.raises(InvalidModelError, match="output_layer"):
        ModelRandomization(model, x, 1)(inner)
    assert ModelRandomization(model, x, 1, output_layer="inner")(inner) < 1
    with pytest.raises(InvalidParameterError, match="explainer itself"):
        ModelRandomization(model, x, y)(np.ones((5, 8, 8, 1)))
    with pytest.raises(InvalidParameterError, match="similarity"):
        ModelRandomization(model, x, y, similarity="cosine")
    assert GuidedBackprop(model)(x, y).shape == (5, 8, 8, 1)  # nothing is left behind
