"""Batches that do not fit are halved, and the best size is found by measuring."""

import types
import warnings
import weakref

import numpy as np
import pytest
import tensorflow as tf

from xplique_sal import Saliency, attributions
from xplique_sal._engine import batch_size
from xplique_sal.errors import InvalidParameterError

SHAPE = (20, 20, 12)  # more numbers than are looped over inside the graph
WATCHING = []  # what would else be gone before its model


class Watched:
    """A model that tells a function of each batch that it is given."""

    def __init__(self, keras, seen, shape=SHAPE):
        # What a function closes over is compared before each call, and a record of the batches
        # differs each time: a weak reference is not looked into.
        self.seen = seen
        WATCHING.append(self)
        watched = weakref.ref(self)

        def look(array):
            watched().seen(len(array))
            return np.zeros((), np.float32)

        class Look(keras.layers.Layer):
            def call(self, x):
                return x + tf.ensure_shape(tf.numpy_function(look, [x], tf.float32), [])

        layers = keras.layers
        self.model = keras.Sequential(
            [layers.Input(shape), Look(), layers.Flatten(), layers.Dense(3, activation="tanh")]
        )


def limited(most, sizes):
    def seen(size):
        sizes.append(size)
        if size > most:
            raise MemoryError("on purpose")

    return seen


@pytest.fixture
def data(rng):
    return rng.normal(size=(100, *SHAPE)).astype("float32"), np.arange(100) % 3


def as_array(x, y):
    return (x, y)


def as_dataset(x, y):
    return (tf.data.Dataset.from_tensor_slices((x, y)).batch(40),)


@pytest.mark.parametrize("form, found_size", [(as_array, 8), (as_dataset, 10)])
def test_batches_that_do_not_fit_are_halved(keras, data, form, found_size):
    sizes = []
    model = Watched(keras, limited(10, sizes)).model
    expected, scores = Saliency(model, batch_size=10).explain_with_scores(*data)
    sizes.clear()
    explainer = Saliency(model, batch_size=64)
    with pytest.warns(UserWarning, match=f"at most {found_size} samples") as caught:
        maps, found = explainer.explain_with_scores(*form(*data))
    assert len(caught) == 1
    np.testing.assert_array_equal(maps, expected)
    np.testing.assert_array_equal(found, scores)
    assert explainer.batch_size == found_size
    assert sum(size for size in sizes if size <= 10) == 100
    sizes.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explainer.explain(*form(*data))  # neither tried nor said again
    assert max(sizes) == found_size


def test_small_samples_that_do_not_fit(keras, rng):
    sizes = []
    model = Watched(keras, limited(10, sizes), shape=(5,)).model
    x = rng.normal(size=(200, 5)).astype("float32")
    expected = Saliency(model, batch_size=10).explain(x, 1)
    with pytest.warns(UserWarning, match="at most 8"):
        np.testing.assert_array_equal(Saliency(model).explain(x, 1), expected)


def test_every_call_survives(keras, data):
    model = Watched(keras, limited(10, [])).model
    x, y = data
    roomy = Saliency(model, batch_size=10)
    with pytest.warns(UserWarning, match="Memory ran out"):
        maps = np.concatenate(list(Saliency(model).iter_explain(x, y)))
    np.testing.assert_array_equal(maps, roomy.explain(x, y))
    with pytest.warns(UserWarning, match="Memory ran out"):
        maps = Saliency(model).explain_outputs(x, [0, 2])
    np.testing.assert_array_equal(maps, roomy.explain_outputs(x, [0, 2]))


def test_one_sample_that_does_not_fit(keras, data):
    model = Watched(keras, limited(0, [])).model
    with pytest.raises(tf.errors.ResourceExhaustedError):
        Saliency(model).explain(*data)


def test_a_model_that_takes_one_size_only(keras, data):
    layers = keras.layers
    look = Watched(keras, limited(10, [])).model
    inputs = layers.Input(batch_shape=(16, *SHAPE))
    model = keras.Model(inputs, look(inputs))
    with pytest.raises(tf.errors.ResourceExhaustedError):
        Saliency(model).explain(*data)


def test_a_model_that_was_traced_for_one_size(keras, data):
    sizes = []
    look = Watched(keras, limited(20, sizes)).model

    class Static(keras.Model):
        def call(self, x):
            return tf.reshape(look(x), (int(x.shape[0]), 3))

    model = Static()
    model(data[0][:2])
    sizes.clear()
    expected = Saliency(look, batch_size=20).explain(*data)
    with pytest.warns(UserWarning, match="at most 16"):
        maps = Saliency(model).explain(*data)
    np.testing.assert_allclose(maps, expected, rtol=1e-6)


class Clock:
    """A clock that goes on only by what batches cost."""

    def __init__(self, cost):
        self.now = 0.0
        self.sizes = []
        self._cost = cost

    def __call__(self, size):
        self.sizes.append(size)
        self.now += self._cost(size)

    def perf_counter(self):
        return self.now


def searched(keras, monkeypatch, cost, x, shape=SHAPE, calls=1):
    clock = Clock(cost)
    monkeypatch.setattr(batch_size, "time", types.SimpleNamespace(perf_counter=clock.perf_counter))
    model = Watched(keras, clock, shape).model
    explainer = Saliency(model, batch_size="auto")
    for _ in range(calls):
        clock.sizes.clear()
        maps = explainer.explain(x, 1)
    return explainer, clock.sizes, maps, model


@pytest.mark.parametrize("best", [8, 16, 32])
def test_auto_finds_the_fastest_size(keras, rng, monkeypatch, best):
    x = rng.normal(size=(400, *SHAPE)).astype("float32")

    def cost(size):
        return 1.0 + 0.01 * size if size <= best else 2.0 * size

    explainer, sizes, maps, model = searched(keras, monkeypatch, cost, x)
    assert explainer.batch_size == best
    assert sum(sizes) == len(x)  # nothing is explained twice
    assert sizes[-2:] in ([best, best], [best, sizes[-1]])
    np.testing.assert_array_equal(maps, Saliency(model, batch_size=8).explain(x, 1))


def test_auto_goes_on_where_it_stopped(keras, rng, monkeypatch):
    x = rng.normal(size=(30, *SHAPE)).astype("float32")
    explainer, sizes, _, _ = searched(
        keras, monkeypatch, lambda size: 1.0 + (size > 32) * size, x, calls=9
    )
    assert explainer.batch_size == 32
    assert sizes == [30]


def test_auto_keeps_memory_bounded(keras, rng, monkeypatch):
    x = rng.normal(size=(300, *SHAPE)).astype("float32")
    # Larger is always faster here; one sample takes 4 bytes for each number at least.
    monkeypatch.setattr(batch_size, "_MOST_BYTES", 40 * 4 * np.prod(SHAPE))
    explainer, sizes, _, _ = searched(keras, monkeypatch, lambda size: 1.0, x)
    assert explainer.batch_size < 40
    assert max(sizes) < 40


def test_auto_for_small_samples(keras, rng, monkeypatch):
    x = rng.normal(size=(5000, 5)).astype("float32")
    explainer, _, maps, model = searched(
        keras, monkeypatch, lambda size: 1.0 + (size > 128) * size, x, shape=(5,)
    )
    assert explainer.batch_size == 128
    np.testing.assert_allclose(maps, Saliency(model).explain(x, 1), rtol=1e-6)


def test_auto_of_a_dataset_and_of_a_fixed_batch(keras, data):
    model = Watched(keras, lambda size: None).model
    x, y = data
    expected = Saliency(model).explain(x, y)
    maps = Saliency(model, batch_size="auto").explain(*as_dataset(x, y))
    np.testing.assert_array_equal(maps, expected)
    inputs = keras.layers.Input(batch_shape=(16, *SHAPE))
    fixed = keras.Model(inputs, model(inputs))
    np.testing.assert_array_equal(Saliency(fixed, batch_size="auto").explain(x, y), expected)


def test_auto_when_memory_runs_out(keras, data):
    sizes = []
    model = Watched(keras, limited(10, sizes)).model
    expected = Saliency(model, batch_size=10).explain(*data)
    explainer = Saliency(model, batch_size="auto")
    with pytest.warns(UserWarning, match="at most 8"):
        np.testing.assert_array_equal(explainer.explain(*data), expected)
    assert explainer.batch_size == 8


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "automatic", [8]])
def test_sizes_that_do_not_exist(keras, size):
    model = Watched(keras, lambda size: None).model
    with pytest.raises(InvalidParameterError, match='"auto"'):
        Saliency(model, batch_size=size)


@pytest.mark.parametrize(
    "method, options, found_size",
    [
        # 3 images behind 4 masks are 12 at once, however many are asked for.
        ("Occlusion", {"patch_size": 10, "patch_stride": 10}, 6),
        ("Rise", {"nb_samples": 40, "seed": 1}, 6),  # 48, 24, 12
    ],
)
def test_masked_copies_that_do_not_fit(keras, rng, method, options, found_size):
    x = rng.normal(size=(3, *SHAPE)).astype("float32")
    sizes = []
    model = Watched(keras, limited(10, sizes)).model
    explainer = getattr(attributions, method)
    expected = explainer(model, batch_size=10, **options).explain(x, 1)
    sizes.clear()
    reduced = explainer(model, batch_size=48, **options)
    with pytest.warns(UserWarning, match="Memory ran out"):
        maps = reduced.explain(x, 1)
    assert max(sizes) > 10 and sizes[-1] <= 10
    assert reduced.batch_size == found_size
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-5)
    maps = explainer(model, batch_size="auto", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        np.testing.assert_allclose(maps.explain(x, 1), expected, rtol=1e-4, atol=1e-5)
