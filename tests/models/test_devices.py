"""Work that several devices share comes back as that of one."""

from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from xplique_sal import Saliency
from xplique_sal._tracing import programs
from xplique_sal.errors import InvalidParameterError

IMAGE, ROW = (40, 36, 3), (7,)


@pytest.fixture(scope="module")
def strategy():
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def network(keras, shape, seen=None):
    keras.utils.set_random_seed(0)
    layers = keras.layers

    class Look(layers.Layer):
        def call(self, x):
            if seen is None:
                return x
            look = tf.numpy_function(lambda a: seen(len(a)), [x], tf.float32)
            return x + tf.ensure_shape(look, [])

    inner = [layers.Conv2D(4, 3, activation="relu"), layers.BatchNormalization()]
    outer = [layers.Flatten(), layers.Dense(5, activation="tanh")]
    return keras.Sequential(
        [layers.Input(shape), Look(), *(inner if len(shape) > 1 else []), *outer]
    )


def data(rng, shape, count=37):
    return rng.normal(size=(count, *shape)).astype("float32"), np.arange(count) % 5


@pytest.mark.parametrize("shape", [IMAGE, ROW], ids=["images", "rows"])
@pytest.mark.parametrize("made_in_scope", [True, False])
def test_maps_are_those_of_one_device(keras, rng, strategy, shape, made_in_scope):
    single = network(keras, shape)
    if made_in_scope:
        with strategy.scope():
            model = network(keras, shape)
        shared = Saliency(model, batch_size=8)
    else:
        shared = Saliency(single, batch_size=8, strategy=strategy)
    alone = Saliency(single, batch_size=8)
    x, y = data(rng, shape)  # the last batch has five samples
    before = programs.trace_count()
    maps, scores = shared.explain_with_scores(x, y)
    assert programs.trace_count() - before == 2  # one for each device
    expected, wanted = alone.explain_with_scores(x, y)
    np.testing.assert_allclose(maps, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(scores, wanted, rtol=1e-5, atol=1e-6)
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(7)
    np.testing.assert_allclose(shared.explain(dataset), expected, rtol=1e-5, atol=1e-7)
    parts = list(shared.iter_explain(x, y))
    np.testing.assert_allclose(np.concatenate(parts), expected, rtol=1e-5, atol=1e-7)
    several = shared.explain_outputs(x, [0, 3])
    np.testing.assert_allclose(several, alone.explain_outputs(x, [0, 3]), rtol=1e-5, atol=1e-7)
    assert programs.trace_count() - before == 8  # the labels of a dataset are read in another way


def test_each_device_has_its_share_and_its_copy(keras, rng, strategy):
    sizes = []

    def seen(size):
        sizes.append(size)
        return np.zeros((), np.float32)

    with strategy.scope():
        model = network(keras, IMAGE, seen)
    x, y = data(rng, IMAGE)
    graphs = []

    def score(f, x, y):
        graphs.append(tf.compat.v1.get_default_graph())
        return f(x)[:, 0]

    Saliency(model, batch_size=8, operator=score).explain(x, y)
    assert sorted(sizes) == [2, 3, *[4] * 8]
    mostly = {
        Counter(handle.device[-5:] for handle in graph.external_captures).most_common()[0][0]
        for graph in graphs
    }
    # But for moving statistics, which tf-keras reads as the mean of all copies.
    assert mostly == {"CPU:0", "CPU:1"}


def test_new_weights_reach_every_device(keras, rng, strategy):
    with strategy.scope():
        model = network(keras, IMAGE)
    x, y = data(rng, IMAGE)
    shared = Saliency(model, batch_size=8)
    before = shared.explain(x, y)
    model.set_weights([weight / 2 for weight in model.get_weights()])
    single = network(keras, IMAGE)
    single.set_weights(model.get_weights())
    after = shared.explain(x, y)
    assert np.abs(after - before).max() > 1e-4
    np.testing.assert_allclose(after, Saliency(single).explain(x, y), rtol=1e-5, atol=1e-7)


def test_a_model_with_a_state_uses_one_device(keras, rng, strategy):
    layers = keras.layers
    inputs = layers.Input(batch_shape=(4, 6, 3))
    model = keras.Model(inputs, layers.Dense(2)(layers.LSTM(5, stateful=True)(inputs)))
    x = rng.normal(size=(12, 6, 3)).astype("float32")
    shared = Saliency(model, strategy=strategy).explain(x, 1)
    np.testing.assert_allclose(shared, Saliency(model).explain(x, 1), rtol=1e-5)


def test_errors_are_those_of_one_device(keras, rng, strategy):
    model = network(keras, IMAGE)
    x, _ = data(rng, IMAGE)
    model.layers[-1].kernel.assign(np.full(model.layers[-1].kernel.shape, np.nan))
    with pytest.raises(ValueError, match="sample 0"):
        Saliency(model, strategy=strategy).explain(x, 1)


@pytest.mark.parametrize("strategy", ["mirrored", 2, tf.distribute.get_strategy()])
def test_what_is_no_strategy_of_devices(keras, strategy):
    with pytest.raises(InvalidParameterError, match="MirroredStrategy"):
        Saliency(network(keras, ROW), strategy=strategy)


def test_a_model_that_is_built_when_it_is_explained(keras, rng, strategy):
    layers = [keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(2)]
    x, _ = data(rng, ROW)
    with strategy.scope():
        explainer = Saliency(keras.Sequential(layers))
        before = programs.trace_count()
        maps = explainer.explain(x, 1)
    assert programs.trace_count() - before == 2
    alone = keras.Sequential([keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(2)])
    alone.build((None, *ROW))
    alone.set_weights([np.asarray(weights) for weights in explainer.model.model.get_weights()])
    np.testing.assert_allclose(maps, Saliency(alone).explain(x, 1), rtol=1e-5)
