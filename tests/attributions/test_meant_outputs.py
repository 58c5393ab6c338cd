"""What a target can not mean is refused or warned of: labels of inner layers, one sigmoid."""

import warnings

import numpy as np
import pytest
import tensorflow as tf
from reference import saliency

from xplique_sal import Saliency
from xplique_sal.attributions import Occlusion
from xplique_sal.errors import InvalidModelError, InvalidOperatorError, InvalidTargetError


def deep(keras, outputs=3, activation="softmax"):
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((4,)),
            layers.Dense(6, activation="tanh", name="hidden"),
            layers.Dense(outputs, name="scores"),
            layers.Activation(activation),
        ]
    )


def dataset(x, y):
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(2)


@pytest.fixture
def x(rng):
    return rng.normal(size=(5, 4)).astype("float32")


@pytest.mark.parametrize("method", [Saliency, Occlusion])
def test_labels_say_nothing_of_a_hidden_layer(keras, x, method):
    sizes = {"patch_size": 1, "patch_stride": 1} if method is Occlusion else {}
    explainer = method(deep(keras), output_layer="hidden", **sizes)
    with pytest.raises(InvalidTargetError, match="pass `targets`"):
        explainer(dataset(x, [0, 1, 2, 0, 1]))
    with pytest.raises(InvalidTargetError, match="pass `targets`"):
        explainer(dataset(x, np.eye(3, dtype="float32")[[0, 1, 2, 0, 1]]))
    unlabelled = dataset(x, [0, 1, 2, 0, 1]).map(lambda x, y: x)
    np.testing.assert_allclose(explainer(unlabelled, 5), explainer(x, 5), rtol=1e-6)


def test_labels_choose_among_the_scores_before_a_softmax(keras, x):
    model, y = deep(keras), np.array([0, 1, 2, 0, 1])
    head = keras.Model(model.inputs, model.get_layer("scores").output)
    expected = saliency(lambda x: tf.gather(head(x), y, batch_dims=1), x)
    maps = Saliency(model, output_layer="scores")(dataset(x, y))
    np.testing.assert_allclose(maps, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("targets", [0, np.zeros(5, int)])
@pytest.mark.parametrize("logits", [True, False])
@pytest.mark.parametrize("method", [Saliency, Occlusion])
def test_an_index_of_the_only_output_of_a_sigmoid_is_warned_of(keras, x, method, logits, targets):
    sizes = {"patch_size": 1, "patch_stride": 1} if method is Occlusion else {}
    explainer = method(deep(keras, 1, "sigmoid"), logits=logits, **sizes)
    with pytest.warns(UserWarning, match=r"weights of -1, of shape \(N, 1\)"):
        maps = explainer(x, targets)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explainer(x, targets)  # once for each explainer
        np.testing.assert_array_equal(maps, explainer(x))


@pytest.mark.parametrize("given", ["none", "labels", "weights", "linear"])
def test_no_other_target_of_one_output_is_warned_of(keras, x, given):
    model = deep(keras, 1, "linear" if given == "linear" else "sigmoid")
    y = {"weights": -np.ones((5, 1), int), "linear": 0}.get(given)
    inputs = dataset(x, [0, 1, 0, 1, 1]) if given == "labels" else x
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Saliency(model)(inputs, y)


@pytest.mark.parametrize("place", ["output_layer", "wrt_layer"])
@pytest.mark.parametrize("count", [3, 5])
def test_an_inner_tensor_without_a_batch_axis(keras, rng, place, count):
    class Prototypes(keras.layers.Layer):
        def build(self, shape):
            self.kept = self.add_weight(shape=(5, 4), initializer="ones", name="kept")

        def call(self, x):
            return self.kept * 2.0

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.prototypes = Prototypes(name="prototypes")

        def call(self, x):
            return tf.matmul(x, self.prototypes(x), transpose_b=True)

    model, x = Model(), rng.normal(size=(count, 4)).astype("float32")
    model(x)
    with pytest.raises(InvalidModelError, match=r"'prototypes', .* \(5, 4\) for any number"):
        Saliency(model, **{place: "prototypes"})(x, 0)


def saved_for_one(weights, squeeze):
    """Return a module that runs a graph as TensorFlow 1 froze it, of an input (1, 1, 1, 4)."""
    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph:
        given = v1.placeholder(tf.float32, (1, 1, 1, 4), "in")
        flat = tf.squeeze(given, [1, 2]) if squeeze else tf.reshape(given, [1, 4])
        tf.identity(flat * weights, name="out")
    definition = graph.as_graph_def()
    whole = v1.wrap_function(lambda: tf.import_graph_def(definition, name=""), [])
    tensor = whole.graph.get_tensor_by_name
    function = whole.prune(tensor("in:0"), tensor("out:0"))

    class Frozen(tf.Module):
        def __call__(self, x):
            return function(x)

    return Frozen()


@pytest.mark.parametrize("squeeze", [True, False])
def test_a_graph_that_was_saved_for_one_sample(rng, squeeze):
    weights = np.array([1.0, -2.0, 3.0, 4.0], "float32")
    x = rng.normal(size=(3, 1, 1, 4)).astype("float32")
    model = saved_for_one(weights, squeeze)
    with pytest.raises(InvalidModelError, match="batch_size=1"):
        Saliency(model)(x, 1)
    maps = Saliency(model, batch_size=1, reducer=None)(x, 1)
    np.testing.assert_array_equal(maps, np.broadcast_to([0, 2, 0, 0], x.shape))


def test_what_is_wrong_with_one_sample_is_no_matter_of_the_batch(keras):
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(2)])

    def checked(f, x, y):
        with tf.control_dependencies([tf.debugging.assert_less(x, 9.0)]):
            return f(x)[:, 0] * 1.0

    with pytest.raises(tf.errors.InvalidArgumentError):
        Saliency(model, operator=checked)(np.array([[1, 2], [3, 99]], "float32"))


@pytest.mark.parametrize("method", [Saliency, Occlusion])
def test_targets_in_another_dtype_than_the_scores(keras, x, method):
    def operator(f, x, y):
        return f(x)[:, 1] * y

    sizes = {"patch_size": 1, "patch_stride": 1} if method is Occlusion else {}
    model, y = deep(keras, activation="linear"), np.full(5, 2.0)
    explainer = method(model, operator=operator, **sizes)
    with pytest.raises(InvalidOperatorError, match="astype"):
        explainer(x, y)
    expected = 2 * np.asarray(method(model, **sizes)(x, 1))
    np.testing.assert_allclose(explainer(x, y.astype("float32")), expected, rtol=1e-4, atol=1e-6)
