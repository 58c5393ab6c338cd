"""What yields batches in Python is explained as the arrays that it yields."""

import numpy as np
import pytest
import tensorflow as tf

from xplique_sal import Saliency
from xplique_sal.errors import InvalidInputError

X = np.random.default_rng(0).normal(size=(7, 4)).astype("float32")
Y = np.array([0, 2, 1, 1, 0, 2, 2])


def network(keras):
    layers = [keras.layers.Dense(5, activation="tanh"), keras.layers.Dense(3)]
    return keras.Sequential([keras.Input((4,)), *layers])


def batches(*arrays):
    return [tuple(array[i : i + 3] for array in arrays) for i in range(0, 7, 3)]


def keras_dataset(keras, *arrays):
    base = getattr(keras.utils, "PyDataset", None) or keras.utils.Sequence

    class Batches(base):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            part = batches(*arrays)[index]
            return part if len(part) > 1 else part[0]

    return Batches()


STREAMS = {
    "Keras's dataset": keras_dataset,
    "generator": lambda keras, *arrays: (batch for batch in batches(*arrays)),
    "iterator": lambda keras, *arrays: iter(batches(*arrays)),
    "of samples": lambda keras, *arrays: zip(*arrays, strict=True),
    "iterator of a dataset": lambda keras, *arrays: iter(
        tf.data.Dataset.from_tensor_slices(arrays).batch(3)
    ),
    "NumPy iterator": lambda keras, *arrays: (
        tf.data.Dataset.from_tensor_slices(arrays).batch(3).as_numpy_iterator()
    ),
}


@pytest.mark.parametrize("stream", STREAMS)
def test_a_stream_gives_the_maps_of_its_arrays(keras, stream):
    model = network(keras)
    maps = Saliency(model, batch_size=2).explain(STREAMS[stream](keras, X, Y))
    np.testing.assert_allclose(maps, Saliency(model).explain(X, Y), rtol=1e-5, atol=1e-7)


def test_weights_are_left_aside(keras):
    model = network(keras)
    stream = STREAMS["generator"](keras, X, Y, np.full(7, 9.0))
    np.testing.assert_allclose(
        Saliency(model).explain(stream), Saliency(model).explain(X, Y), rtol=1e-5, atol=1e-7
    )


def test_targets_beside_a_stream_of_inputs(keras):
    model = network(keras)
    reference = Saliency(model).explain(X, Y)
    for stream in (keras_dataset(keras, X), (x for (x,) in batches(X))):
        maps = Saliency(model).explain(stream, Y)
        np.testing.assert_allclose(maps, reference, rtol=1e-5, atol=1e-7)


def test_a_model_that_was_never_called_is_built_without_losing_a_sample(keras):
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(3, activation="tanh")

        def call(self, x):
            return self.dense(x)

    model = Subclassed()
    maps = Saliency(model).explain(zip(X, Y, strict=True))
    np.testing.assert_allclose(maps, Saliency(model).explain(X, Y), rtol=1e-5, atol=1e-7)


def test_several_inputs_in_a_list(keras):
    inputs = [keras.Input((4,)), keras.Input((1,))]
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Concatenate()(inputs)))
    column = np.ones((7, 1), "float32")
    stream = (([x, c], y) for x, c, y in batches(X, column, Y))
    maps = Saliency(model).explain(stream)
    for map_, reference in zip(maps, Saliency(model).explain([X, column], Y), strict=True):
        np.testing.assert_allclose(map_, reference, rtol=1e-5, atol=1e-7)


def test_a_generator_is_read_as_it_is_explained(keras):
    read = []

    def endless():
        while True:
            read.append(1)
            yield X[:3], Y[:3]

    maps = Saliency(network(keras), batch_size=3).iter_explain(endless())
    assert [len(next(maps)) for _ in range(3)] == [3, 3, 3]
    assert len(read) < 20


@pytest.mark.parametrize("stream", [iter([]), iter([("a", object())])])
def test_streams_of_nothing_and_of_no_arrays(keras, stream):
    with pytest.raises(InvalidInputError):
        Saliency(network(keras)).explain(stream)
