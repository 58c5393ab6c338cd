"""Functions are compiled once, never stale, and gone with their model."""

import functools
import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf
from reference import class_score, saliency

from xplique_sal import Saliency
from xplique_sal._tracing import fingerprint, programs
from xplique_sal._tracing.programs import trace_count


def network(keras):
    return keras.Sequential(
        [
            keras.layers.Input((4,)),
            keras.layers.Dense(6, activation="tanh", name="hidden"),
            keras.layers.Dense(3, name="scores"),
        ]
    )


def table(rng, count=10):
    return rng.normal(size=(count, 4)).astype("float32"), rng.integers(0, 3, count)


def assert_explains(model, x, y, **options):
    expected = saliency(class_score(model, y), x)
    np.testing.assert_allclose(Saliency(model, **options)(x, y), expected, rtol=1e-5, atol=2e-6)


def linear_score(f, x, y):
    return tf.reduce_sum(f(x), -1)


class Scores:
    def method(self, f, x, y):
        return tf.reduce_sum(f(x), -1)

    __call__ = method


def test_one_trace_for_any_batch_and_call(keras, rng):
    model = network(keras)
    x, y = table(rng)
    before = trace_count()
    explainer = Saliency(model)
    explainer(x, y)
    assert trace_count() == before + 1
    explainer(x[:3], y[:3])
    for batch_size in (1, 3, 4, None):
        Saliency(model, batch_size=batch_size)(x, y)
    list(explainer.iter_explain(x, y))
    explainer.explain_with_scores(x, y)
    assert trace_count() == before + 1
    # The labels of a dataset are read otherwise than targets, by one trace of their own.
    for batch_size in (3, 4):
        Saliency(model)(tf.data.Dataset.from_tensor_slices((x, y)).batch(batch_size))
    assert trace_count() == before + 2


@pytest.mark.parametrize("kind", ["function", "method", "callable", "partial"])
def test_one_trace_for_an_operator(keras, rng, kind):
    scores, partial = Scores(), functools.partial(linear_score)
    operators = {
        "function": lambda: linear_score,
        "method": lambda: scores.method,
        "callable": lambda: scores,
        "partial": lambda: partial,
    }
    model, (x, y) = network(keras), table(rng)
    before = trace_count()
    for _ in range(3):
        Saliency(model, operator=operators[kind]())(x, y)
    assert trace_count() == before + 1


def test_different_questions_are_different_traces(keras, rng):
    model, (x, y) = network(keras), table(rng)
    before = trace_count()
    plain = Saliency(model)(x, y)
    assert not np.allclose(plain, Saliency(model, "hidden")(x, y))
    assert not np.allclose(plain, Saliency(model, grad_modifier="small_values")(x, y))
    assert not np.allclose(plain, Saliency(model, operator=linear_score)(x, y))
    assert trace_count() == before + 4


def test_a_thousand_calls_trace_once_and_keep_no_memory(keras, rng):
    import tracemalloc

    model, (x, y) = network(keras), table(rng, 3)
    explainer = Saliency(model)
    for _ in range(20):
        explainer(x, y)
    before = trace_count()
    gc.collect()
    tracemalloc.start()
    start = tracemalloc.get_traced_memory()[0]
    for _ in range(1000):
        explainer(x, y)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - start
    tracemalloc.stop()
    assert trace_count() == before
    assert grown < 100_000


def test_another_activation_is_seen(keras, rng):
    model = keras.Sequential(
        [keras.layers.Input((4,)), keras.layers.Dense(3, activation="softmax")]
    )
    x, y = table(rng)
    with pytest.warns(UserWarning, match="softmax"):
        before = Saliency(model)(x, y)
    model.layers[-1].activation = keras.activations.linear
    assert_explains(model, x, y)
    np.testing.assert_allclose(
        Saliency(model)(x, y), np.abs(model.layers[-1].kernel.numpy().T[y]), rtol=1e-5
    )
    assert not np.allclose(before, Saliency(model)(x, y))


def test_activations_that_take_each_others_place_in_memory_are_seen(keras, rng):
    model = network(keras)
    x, y = table(rng)
    for factor in range(1, 5):
        # The function before is freed by this, and its address may be used again.
        model.layers[0].activation = lambda x, factor=factor: tf.tanh(factor * x)
        assert_explains(model, x, y)


def test_an_explainer_made_before_the_change_sees_it(keras, rng):
    model, (x, y) = network(keras), table(rng)
    explainer = Saliency(model)
    explainer(x, y)
    explainer.model(x)
    model.layers[0].activation = keras.activations.relu
    expected = saliency(class_score(model, y), x)
    np.testing.assert_allclose(explainer(x, y), expected, rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(explainer.model(x), model(x), rtol=1e-5)


def test_an_added_layer_is_seen(keras, rng):
    model = network(keras)
    x, y = table(rng)
    Saliency(model)(x, y)
    model.add(keras.layers.Dense(3, activation="tanh"))
    assert_explains(model, x, y)
    model.pop()
    assert_explains(model, x, y)


def changing(keras):
    class Changing(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = keras.layers.Dense(3, name="inner")
            self.settings = {"power": 1, "scale": np.array([1.0, 2.0, 3.0], "float32")}
            self._private = tf.tanh
            self.factor = tf.constant(1.0)

        def call(self, inputs):
            values = self._private(self.inner(inputs)) ** self.settings["power"]
            return values * self.settings["scale"] * self.factor

    return Changing()


def test_changes_of_a_subclassed_model_are_seen(keras, rng):
    model, (x, y) = changing(keras), table(rng)
    assert_explains(model, x, y)
    before = trace_count()
    assert_explains(model, x, y)
    assert trace_count() == before

    # Keras 3 refuses a new layer of a built model where it can.
    object.__setattr__(model, "inner", keras.layers.Dense(3))
    model(x)
    assert_explains(model, x, y)
    model.settings["power"] = 2
    assert_explains(model, x, y)
    model.settings["scale"][0] = 7.0
    assert_explains(model, x, y)
    model._private = tf.sin
    assert_explains(model, x, y)
    model.factor = tf.constant(-3.0)
    assert_explains(model, x, y)
    name = "kernel" if keras.__name__ == "tf_keras" else "_kernel"
    object.__setattr__(model.inner, name, keras_variable(keras, rng.normal(size=(4, 3))))
    assert_explains(model, x, y)
    model.inner.call = lambda inputs, **options: 2.0 * inputs[:, :3]
    assert_explains(model, x, y)
    assert trace_count() == before + 7


class Slots:
    """An object to which there can be no weak reference."""

    __slots__ = ("power",)

    def __init__(self, power):
        self.power = power


SETTINGS = {
    "number": lambda value: float(value),
    "number of NumPy": lambda value: np.float32(value),
    "tuple of numbers": lambda value: (float(value),),
    "text": lambda value: str(value),
    "set": lambda value: {value},
    "object with slots": Slots,
    "function": lambda value: lambda: value,
    "tensor": lambda value: tf.constant(float(value)),
}


def number_in(setting):
    """The number that a setting was made of."""
    while not isinstance(setting, (str, float, np.float32, tf.Tensor)):
        if isinstance(setting, Slots):
            setting = float(setting.power)
        elif callable(setting):
            setting = float(setting())
        else:
            (setting,) = map(float, setting)
    return float(setting)


@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_that_take_each_others_place_in_memory_are_seen(keras, rng, setting):
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = keras.layers.Dense(3)

        def call(self, inputs):
            return self.inner(inputs) * number_in(self.setting)

    model, (x, y) = Model(), table(rng)
    object.__setattr__(model, "setting", SETTINGS[setting](1))
    model(x)
    once = Saliency(model)(x, y).numpy()
    for value in (2, 3, 4):
        # The old value goes before the new one is made, which may get its address.
        object.__delattr__(model, "setting")
        object.__setattr__(model, "setting", SETTINGS[setting](value))
        before = trace_count()
        np.testing.assert_allclose(Saliency(model)(x, y), value * once, rtol=1e-5)
        assert trace_count() == before + 1
        np.testing.assert_allclose(Saliency(model)(x, y), value * once, rtol=1e-5)
        assert trace_count() == before + 1


def test_another_method_of_the_class_is_seen(keras, rng):
    class Twice(keras.layers.Layer):
        def call(self, x):
            return 2.0 * x

    model = keras.Sequential([keras.layers.Input((4,)), Twice(), keras.layers.Dense(3)])
    x, y = table(rng)
    assert_explains(model, x, y)
    Twice.call = lambda self, x: 5.0 * x
    assert_explains(model, x, y)


def test_a_model_that_did_not_change_is_not_walked_through(keras, rng, monkeypatch):
    model, (x, y) = changing(keras), table(rng)
    model(x)
    nested = keras.Sequential(
        [keras.layers.Input((4,)), network(keras), keras.layers.Activation("tanh")]
    )
    for each in (model, nested):
        Saliency(each)(x, y)
    walks = []
    monkeypatch.setattr(
        fingerprint,
        "owners",
        lambda model, owners=fingerprint.owners: walks.append(model) or owners(model),
    )
    for each in (model, nested):
        assert_explains(each, x, y)
        each.predict(x, verbose=0)
        Saliency(each)(x, y)  # Keras has made attributes for predictions
        walks.clear()
        assert_explains(each, x, y)
        assert not walks
    model.settings["power"] = 3
    assert_explains(model, x, y)
    assert walks


def keras_variable(keras, value):
    make = tf.Variable if keras.__name__ == "tf_keras" else keras.Variable
    return make(value.astype("float32"))


def test_changes_of_a_module_are_seen(rng):
    class Module(tf.Module):
        def __init__(self):
            super().__init__()
            self.weight = tf.Variable(tf.random.normal([4, 3]))
            self.activation = tf.tanh

        def __call__(self, x):
            return self.activation(x @ self.weight)

    module, (x, y) = Module(), table(rng)
    first = Saliency(module)(x, y)
    module.activation = tf.sin
    second = Saliency(module)(x, y)
    expected = saliency(lambda x: tf.gather(module(x), y, batch_dims=1), x)
    np.testing.assert_allclose(second, expected, rtol=1e-5)
    assert not np.allclose(first, second)


def test_new_weights_are_seen_without_a_trace(keras, rng):
    model, (x, y) = network(keras), table(rng)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    first = Saliency(model)(x, y)
    before = trace_count()
    model.fit(x, y, epochs=3, verbose=0)
    assert_explains(model, x, y)
    model.set_weights([np.ones_like(weight) for weight in model.get_weights()])
    assert_explains(model, x, y)
    assert not np.allclose(first, Saliency(model)(x, y))
    assert trace_count() == before


def test_a_model_that_keeps_what_it_computed_costs_no_second_trace(keras, rng):
    class Keeping(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = keras.layers.Dense(3)
            self.last = None
            self.calls = 0

        def call(self, inputs):
            self.calls += 1
            self.last = self.inner(inputs)
            return tf.tanh(self.last)

    model, (x, y) = Keeping(), table(rng)
    model(x)
    Saliency(model)(x, y)
    before = trace_count()
    Saliency(model)(x, y)
    assert trace_count() == before


def explained_and_dropped(keras, rng, options_for=lambda model: {}):
    """A weak reference to a model that was explained in every way, and its key."""
    # In a function of its own: before Python 3.13, a frame that autograph has looked at keeps its
    # variables for as long as it runs.
    model, (x, y) = network(keras), table(rng)
    explainer = Saliency(model, **options_for(model))
    explainer(x, y)
    if explainer._operator.check_targets is not None:
        explainer.explain_outputs(x)
    explainer.model(x)
    assert id(model) in programs._programs
    return weakref.ref(model), id(model)


def test_a_dropped_model_is_freed(keras, rng):
    reference, key = explained_and_dropped(keras, rng)
    gc.collect()
    assert reference() is None
    assert key not in programs._programs


class Slotted:
    __slots__ = ("model",)

    def __init__(self, model):
        self.model = model

    def __call__(self, f, x, y):
        return tf.reduce_sum(f(x) + self.model(x), -1)


class Holder(Slotted):
    def score(self, f, x, y):
        return self(f, x, y)


def closure(model):
    def score(f, x, y):
        return tf.reduce_sum(f(x) * model(x), -1)

    return {"operator": score}


@pytest.mark.parametrize(
    "options_for",
    [
        closure,
        lambda model: {"operator": Holder(model).score},
        lambda model: {"operator": Slotted(model)},
        lambda model: {"grad_modifier": lambda g: g * len(model.layers)},
    ],
    ids=["closure", "method", "slots", "modifier"],
)
def test_a_dropped_model_is_freed_though_an_operator_closed_over_it(keras, rng, options_for):
    reference, _ = explained_and_dropped(keras, rng, options_for)
    gc.collect()
    assert reference() is None


def test_programs_of_a_model_are_bounded(keras, rng, monkeypatch):
    monkeypatch.setattr(programs, "MOST_PROGRAMS", 4)
    model, (x, _) = network(keras), table(rng, 2)
    kept = [lambda f, x, y, i=i: f(x)[:, 0] * (i + 1) for i in range(programs.MOST_PROGRAMS + 5)]
    for operator in kept:
        Saliency(model, operator=operator, grad_modifier=None)
    for operator in kept:
        Saliency(model, operator=operator, batch_size=1)(x + 1)
    before = trace_count()
    for operator in kept[-programs.MOST_PROGRAMS :]:
        Saliency(model, operator=operator)(x + 1)
    assert trace_count() == before
    Saliency(model, operator=kept[-programs.MOST_PROGRAMS - 1])(x + 1)
    assert trace_count() == before + 1


def test_programs_of_dead_operators_are_dropped(keras, rng):
    model, (x, y), graphs = network(keras), table(rng, 2), []

    def score(f, x, y, held):
        graphs.append(weakref.ref(tf.compat.v1.get_default_graph()))
        return held(f, x, y)

    for _ in range(4):
        closed_over = Scores()  # nothing that is made later can be equal to what names this one
        Saliency(model, operator=lambda f, x, y, held=closed_over: score(f, x, y, held))(x)
        del closed_over
        gc.collect()
    assert graphs[-1]() is not None
    Saliency(model)(x, y)
    gc.collect()
    assert len(graphs) == 4 and all(graph() is None for graph in graphs)


class Power:
    def __init__(self, power):
        self.power = power

    def __call__(self, f, x, y):
        return f(x)[:, 0] ** self.power

    def score(self, f, x, y):
        return self(f, x, y)


@pytest.mark.parametrize("kind", ["attribute", "method", "closure", "array"])
def test_an_operator_that_changed_is_seen(keras, rng, kind):
    model, (x, _) = network(keras), table(rng)
    state = Power(1)
    factor = np.ones(3, "float32")
    power = 1

    def closing(f, x, y):
        return f(x)[:, 0] ** power

    def scaled(f, x, y):
        return tf.reduce_sum(f(x) * factor, -1)

    operator = {"attribute": state, "method": state.score, "closure": closing, "array": scaled}[
        kind
    ]
    explainer = Saliency(model, operator=operator)
    first = explainer(x)
    before = trace_count()
    np.testing.assert_array_equal(explainer(x), first)
    assert trace_count() == before
    state.power, power, factor[1] = 2, 2, 5.0
    second = explainer(x)
    assert trace_count() == before + 1
    if kind == "array":
        expected = saliency(lambda x: tf.reduce_sum(model(x) * factor, -1), x)
    else:
        expected = saliency(lambda x: model(x)[:, 0] ** 2, x)
    np.testing.assert_allclose(second, expected, rtol=1e-4, atol=1e-5)


def test_an_operator_that_counts_its_calls_is_traced_once(keras, rng):
    model, (x, _) = network(keras), table(rng)
    calls = []

    def counting(f, x, y):
        calls.append(1)
        return f(x)[:, 0]

    for _ in range(3):
        Saliency(model, operator=counting)(x)
    assert len(calls) == 1
