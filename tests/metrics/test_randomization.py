"""Model randomisation: maps of random weights by a slow twin, and a model that stays as it is."""

import threading

import numpy as np
import pytest
import tensorflow as tf
from reference import built_once

from xplique_sal import (
    GradCAM,
    GuidedBackprop,
    IntegratedGradients,
    Occlusion,
    Saliency,
    ScoreCAM,
)
from xplique_sal._tracing.programs import trace_count
from xplique_sal.errors import InvalidInputError, InvalidModelError, InvalidParameterError
from xplique_sal.metrics import ModelRandomization
from xplique_sal.metrics.randomized import randomized
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
    "score_cam": ScoreCAM,
}


#: Each explainer in one of the orders.
ORDERS = dict(zip(EXPLAINERS, ["cascading", "independent"] * 3, strict=False))


@pytest.mark.parametrize("name", EXPLAINERS)
def test_each_point_is_the_map_of_a_model_whose_weights_were_set(keras, rng, name):
    model, (x, y) = network(keras), samples(rng)
    maps = []

    def explainer(x, y):
        maps.append(EXPLAINERS[name](model)(x, y).numpy())
        return maps[-1]

    metric = ModelRandomization(model, x, y, order=ORDERS[name], steps=None, seed=3)
    found = metric.detailed_evaluate(explainer)
    assert metric.layers()[:2] == ["top", "scale"]
    assert all(path.startswith("inner/") for path in metric.layers()[2:])
    assert len(metric.layers()) == 4 and len(maps) == 5
    np.testing.assert_allclose(found.at, [0, 0.25, 0.5, 0.75, 1])
    copy = network.anew(keras)
    for count in (1, 4):
        copy.set_weights(model.get_weights())
        first = 0 if ORDERS[name] == "cascading" else count - 1
        layers = metric._layers[first:count]
        own = {variable.name: other for layer in layers for variable, other in layer.pairs}
        variables = [getattr(v, "_value", v) for v in model.variables]
        values = [own[v.name].numpy() if v.name in own else v.numpy() for v in variables]
        copy.set_weights(values)
        expected = EXPLAINERS[name](copy)(x, y).numpy()
        assert np.abs(expected - maps[0]).max() > 1e-3
        np.testing.assert_allclose(maps[count], expected, rtol=1e-4, atol=1e-5)
        for number in range(5):
            pair = maps[0][number : number + 1], expected[number : number + 1]
            similarity = SIMILARITIES["spearman"](*pair)[0]
            assert found.curves[number, count] == pytest.approx(similarity, abs=1e-2)
    np.testing.assert_allclose(found.values, found.curves[:, 1:].mean(axis=1))


def initial(keras):
    """Layers with every kind of weight and the shape of their inputs, beside one that is built."""
    layers = keras.layers
    return {
        (8,): [
            layers.Dense(6),
            layers.PReLU(alpha_initializer="ones"),
            layers.BatchNormalization(),
        ],
        (5, 4): [layers.LSTM(3), layers.GRU(3, recurrent_initializer="he_normal"), layers.LSTM(2)],
        (6, 6, 3): [
            layers.DepthwiseConv2D(3),
            layers.SeparableConv2D(4, 3, bias_initializer=keras.initializers.Constant(0.3)),
            layers.Conv2D(5, 3, kernel_initializer=keras.initializers.RandomNormal(2.0, 0.1)),
        ],
    }


def test_weights_are_drawn_by_each_layers_own_initialiser(keras, rng):
    for shape, layers in initial(keras).items():
        for layer in layers:
            layer.build((None, *shape))
            fresh = [value.numpy() for value in layer.weights]
            for value in layer.weights:
                value.assign(rng.uniform(0.5, 0.9, value.shape))
            variables = [getattr(value, "_value", value) for value in layer.weights]
            before = tf.random.get_global_generator().state.numpy()
            pairs = [pair for own in randomized(layer, variables, 1) for pair in own.pairs]
            again = [pair for own in randomized(layer, variables, 1) for pair in own.pairs]
            other = [pair for own in randomized(layer, variables, 2) for pair in own.pairs]
            np.testing.assert_array_equal(before, tf.random.get_global_generator().state.numpy())
            by_id = {id(variable): new.numpy() for variable, new in pairs}
            for first, same in zip(pairs, again, strict=True):
                np.testing.assert_array_equal(first[1], same[1])
            moved = [
                (a[1].numpy() != b[1].numpy()).any() for a, b in zip(pairs, other, strict=True)
            ]
            assert any(moved) or len(shape) == 1
            for variable, expected in zip(variables, fresh, strict=True):
                if id(variable) not in by_id:  # running statistics
                    assert "moving" in variable.name
                    continue
                value = by_id[id(variable)]
                assert value.shape == expected.shape
                if np.unique(expected).size < 3:  # constants, and what is forgotten of a state
                    np.testing.assert_array_equal(value, expected)
                else:
                    assert 0.5 < value.std() / expected.std() < 2
                    assert abs(value.mean() - expected.mean()) < 1


def test_weights_of_other_initialisers_are_shuffled(keras, rng):
    def of_ones_own(shape, dtype=None):
        raise AssertionError("was called")

    layer = keras.layers.Dense(4)
    layer.build((None, 3))
    layer.kernel_initializer = of_ones_own
    layer.kernel.assign(rng.normal(size=(3, 4)))
    variables = [getattr(value, "_value", value) for value in layer.weights]
    (found,) = randomized(layer, variables, 0)
    own, other = (value.numpy() for value in found.pairs[0])
    assert (own != other).any()
    np.testing.assert_array_equal(np.sort(own.ravel()), np.sort(other.ravel()))
    np.testing.assert_array_equal(found.pairs[1][1], 0)


@pytest.mark.parametrize("order", ["cascading", "independent"])
def test_every_weight_is_the_same_bit_for_bit_also_after_an_interruption(keras, rng, order):
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
        ModelRandomization(model, x, y, order=order)(interrupted)
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
    for wrong in ("similarity", "order"):
        with pytest.raises(InvalidParameterError, match=wrong):
            ModelRandomization(model, x, y, **{wrong: "cosine"})
    assert GuidedBackprop(model)(x, y).shape == (5, 8, 8, 1)  # nothing is left behind
