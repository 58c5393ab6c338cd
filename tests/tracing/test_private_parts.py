"""A version of Keras or TensorFlow that changes its own parts costs speed, or is an error of ours.

Each test takes one thing away that `docs/maintainers/private_parts.md` lists.
"""

import re
import types

import numpy as np
import pytest
import tensorflow as tf
from reference import class_score, saliency

from xplique_sal import Saliency
from xplique_sal._models.cheaper import batch_norm
from xplique_sal._tracing import keras_compat, restoring, wrapping
from xplique_sal._tracing.programs import trace_count
from xplique_sal.attributions import GuidedBackprop
from xplique_sal.errors import InvalidModelError, NothingRewiredError

# Few units: the map of a sample may be nothing.
pytestmark = pytest.mark.filterwarnings("ignore:The gradient is zero everywhere")

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


# What is done without an object does not depend on which others there are: all are missing with
# each kind of model, and each one with one kind.
MISSING = {
    **{
        f"all-{kind}": (kind, BARE)
        for kind in ("functional", "sequential", "subclassed", "deferred")
    },
    **{name: ("functional", (name,)) for name in BARE},
}


@pytest.mark.parametrize(("kind", "missing"), MISSING.values(), ids=MISSING)
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


def assert_close(found, expected):
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_losses_under_another_name(keras, rng, monkeypatch):
    monkeypatch.setattr(keras_compat, "_LOSSES", frozenset({"_eager_losses"}))  # not in `vars`
    model, x = models(keras)["functional"], rng.normal(size=(6, 3)).astype("float32")
    model(x, training=True)
    before = [float(loss) for loss in model.losses]
    assert before
    assert_close(Saliency(model)(x), expected(model, x))
    assert [float(loss) for loss in model.losses] == before


def test_another_progress_bar(keras, rng, monkeypatch):
    model, x = models(keras)["functional"], rng.normal(size=(6, 3)).astype("float32")
    for module in keras_compat._kerases():
        monkeypatch.setattr(module.utils, "Progbar", lambda total: None)
    assert_close(Saliency(model)(x, verbose=1), expected(model, x))


def test_a_normalisation_with_other_parts(keras, rng, monkeypatch):
    normal = keras.layers.BatchNormalization()
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(4), normal])
    normal.set_weights([rng.uniform(0.5, 2, weight.shape) for weight in normal.get_weights()])
    x, classes = rng.normal(size=(6, 3)).astype("float32"), np.arange(6) % 4
    wanted = saliency(class_score(model, classes), x)
    original = keras.layers.BatchNormalization.call

    def call(self, x, training=None, mask=None):
        return original(self, x, training=training, mask=mask)

    monkeypatch.setattr(keras.layers.BatchNormalization, "call", call)
    assert_close(Saliency(model)(x, classes), wanted)
    monkeypatch.undo()

    def renamed(layer, args, kwargs):
        raise AttributeError("epsilon")

    monkeypatch.setattr(batch_norm, "_inference_parts", renamed)
    assert_close(Saliency(model, fold_batch_norm=True, batch_size=5)(x, classes), wanted)


@pytest.mark.parametrize("missing", ["negative_slope", "threshold", "max_value"])
def test_settings_of_rectifiers_under_other_names(keras, rng, monkeypatch, missing):
    relu = keras.layers.ReLU()
    layers = [keras.layers.Input((3,)), keras.layers.Dense(8), relu, keras.layers.Dense(3)]
    model = keras.Sequential(layers)
    x = rng.normal(size=(6, 3)).astype("float32")
    monkeypatch.setattr(keras.layers.ReLU, "call", lambda self, inputs: tf.nn.relu(inputs))
    object.__delattr__(relu, missing)
    assert keras_compat.is_composite_rectifier(relu)
    found = Saliency(model, backprop_modifier="guided", grad_modifier=None)(x, 1)
    (w, b), v = model.layers[0].get_weights(), model.layers[-1].get_weights()[0]
    assert_close(found, ((x @ w + b > 0) * np.maximum(v[:, 1], 0)) @ w.T)


def registry_of(**parts):
    from tensorflow.python.framework import ops

    return types.SimpleNamespace(lookup=ops.gradient_registry.lookup, **parts)


@pytest.mark.parametrize("parts", [{}, {"_registry": {}}, {"_registry": {"Relu": print}}])
def test_another_registry_of_gradients(keras, rng, monkeypatch, parts):
    from tensorflow.python.framework import ops

    model, x = models(keras)["functional"], rng.normal(size=(6, 3)).astype("float32")
    monkeypatch.setattr(ops, "gradient_registry", registry_of(**parts))
    with pytest.raises(NothingRewiredError, match=re.escape(tf.__version__)):
        GuidedBackprop(model)(x)
    assert_close(Saliency(model)(x), expected(model, x))


def test_functions_that_cannot_be_replaced(keras, rng, monkeypatch):
    class Compiled(keras.layers.Layer):
        @tf.function
        def call(self, x):
            return tf.nn.relu(x)

    x = rng.normal(size=(6, 3)).astype("float32")
    model = models(keras)["functional"]
    wanted = GuidedBackprop(model)(x, 1).numpy()
    # The type of an integer, too, has a `__call__` that nobody may set.
    monkeypatch.setattr(wrapping, "FUNCTION_TYPE", int)
    again = keras.Model(model.input, model(model.input))
    assert_close(GuidedBackprop(again)(x, 1), wanted)
    compiled = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(4), Compiled()])
    with pytest.raises(NothingRewiredError, match="compiled"):
        GuidedBackprop(compiled)(x, 1)


def test_a_graph_that_does_not_say_what_it_changes(keras, rng, monkeypatch):
    inputs = keras.layers.Input(batch_shape=(2, 4, 3))
    hidden = keras.layers.LSTM(5, stateful=True)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2)(hidden))
    x = rng.normal(size=(2, 4, 3)).astype("float32")
    model(x)
    before = [np.array(variable) for variable in model.variables]
    wanted = Saliency(model)(x, 1).numpy()

    def renamed(graph):
        raise AttributeError("captures")

    monkeypatch.setattr(restoring, "written_resources", renamed)
    assert_close(Saliency(model, reducer="min", operator=lambda f, x, y: f(x)[:, 1])(x), wanted)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(np.array(variable), value)


def test_a_model_that_does_not_say_what_it_was_built_for(keras, rng, monkeypatch):
    model, x = models(keras)["subclassed"], rng.normal(size=(6, 3)).astype("float32")
    model(x)
    monkeypatch.setattr(keras.layers.Layer, "get_build_config", None, raising=False)
    assert keras_compat.inputs_of(model) is None
    assert_close(Saliency(model)(x), expected(model, x))


@pytest.mark.parametrize("told", ["input_names", "input"])
def test_a_model_that_says_otherwise_what_it_takes(keras, rng, monkeypatch, told):
    model, x = models(keras)["functional"], rng.normal(size=(6, 3)).astype("float32")
    other = {"input_names": ["a", "b"], "input": keras.layers.Input((3,))}[told]
    monkeypatch.setattr(type(model), told, other, raising=False)
    vars(model).pop(told, None)
    assert getattr(model, told) is other
    assert_close(Saliency(model)(x), expected(model, x))


def test_a_keras_that_calls_what_its_classes_define(keras, rng):
    class Dense(keras.layers.Dense):
        def __call__(self, *args, **kwargs):
            wrapper = vars(self).pop("call", None)
            try:
                return super().__call__(*args, **kwargs)
            finally:
                if wrapper is not None:
                    object.__setattr__(self, "call", wrapper)

    hidden = Dense(4, activation="relu", name="hidden")
    model = keras.Sequential([keras.layers.Input((3,)), hidden, keras.layers.Dense(2)])
    x = rng.normal(size=(6, 3)).astype("float32")
    assert_close(Saliency(model)(x), expected(model, x))
    assert_close(GuidedBackprop(model, reducer=None)(x, 1), guided(model, x, 1))
    for wanted in ({"output_layer": "hidden"}, {"wrt_layer": "hidden"}):
        with pytest.raises(InvalidModelError, match="hidden"):
            Saliency(model, **wanted)(x, 1)


def guided(model, x, number):
    """The rule written out, of a model of two layers."""
    (w, b), v = model.layers[-2].get_weights(), model.layers[-1].get_weights()[0]
    return ((x @ w + b > 0) * np.maximum(v[:, number], 0)) @ w.T
