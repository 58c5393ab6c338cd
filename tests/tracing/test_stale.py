"""What code reads from outside of itself is compared before a compiled function is used again."""

import functools
import gc
import sys
import types
import weakref

import numpy as np
import pytest
import tensorflow as tf
from reference import saliency

import xplique_sal
from xplique_sal import Saliency
from xplique_sal._tracing import named
from xplique_sal._tracing.programs import trace_count
from xplique_sal.attributions import GuidedBackprop, IntegratedGradients, Occlusion

SCALE = 1.0
SCALES = [1.0]
CONFIG = types.SimpleNamespace(scale=1.0)


@pytest.fixture(autouse=True)
def scales_as_they_were():
    yield
    globals()["SCALE"] = 1.0
    SCALES[:] = [1.0]
    CONFIG.scale = Settings.scale = Parent.scale = 1.0
    vars(Scaled).get("scale") and delattr(Scaled, "scale")
    outer.config.scale = 1.0
    globals()["helper"] = plain_helper
    Scaled.inner = scaled_inner


class Settings:
    scale = 1.0


#: A package of two modules, of which the inner one holds a setting.
outer = types.ModuleType("outer_of_test")
outer.config = types.ModuleType("outer_of_test.config")
outer.config.scale = 1.0
sys.modules["outer_of_test"] = outer
sys.modules["outer_of_test.config"] = outer.config


def plain_helper():
    return SCALES[0]


helper = plain_helper


class Parent:
    scale = 1.0

    @property
    def doubled(self):
        return 2.0 * self.scale

    @staticmethod
    def of_class():
        return Parent.scale


class Scaled(Parent):
    """Ways in which a function comes to a number from outside of itself."""

    def inner(self):
        return self.scale

    def by_class(self):
        return self.inner()

    def by_property(self):
        return self.doubled

    def by_static_method(self):
        return self.of_class()


scaled_inner = Scaled.inner
scaled = Scaled()


def set_global(value):
    globals()["SCALE"] = value


def set_helper(value):
    globals()["helper"] = lambda: value


def set_method(value):
    Scaled.inner = lambda self: value


def imported():
    from outer_of_test import config

    return config.scale


def closing():
    value = 1.0

    def read():
        return value

    def put(new):
        nonlocal value
        value = new

    return read, put


WAYS = {
    "global": lambda: (lambda: SCALE, set_global),
    "item of a global": lambda: (lambda: SCALES[0], lambda value: SCALES.__setitem__(0, value)),
    "attribute of a global": lambda: (
        lambda: CONFIG.scale,
        lambda value: setattr(CONFIG, "scale", value),
    ),
    "class": lambda: (lambda: Settings.scale, lambda value: setattr(Settings, "scale", value)),
    "module": lambda: (
        lambda: outer.config.scale,
        lambda value: setattr(outer.config, "scale", value),
    ),
    "import": lambda: (imported, lambda value: setattr(outer.config, "scale", value)),
    "nonlocal": closing,
    "function": lambda: (lambda: helper(), set_helper),
    "global of a function": lambda: (
        lambda: plain_helper(),
        lambda value: SCALES.__setitem__(0, value),
    ),
    "class of an object": lambda: (
        lambda: scaled.by_class(),
        lambda value: setattr(Scaled, "scale", value),
    ),
    "class of a base": lambda: (
        lambda: scaled.by_property(),
        lambda value: setattr(Parent, "scale", value),
    ),
    "static method": lambda: (
        lambda: scaled.by_static_method(),
        lambda value: setattr(Parent, "scale", value),
    ),
    "method": lambda: (lambda: scaled.by_class(), set_method),
    "comprehension": lambda: ((lambda: sum(SCALE for _ in range(1))), set_global),
    "partial": lambda: (functools.partial(lambda one: one * SCALE, 1.0), set_global),
}


def table(rng, count=5):
    return rng.normal(size=(count, 4)).astype("float32")


def plain(keras):
    return keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])


def model_reading(keras, read, kind):
    """A model whose output is scaled by what `read` returns, in one of several ways."""

    class Layer(keras.layers.Layer):
        def call(self, x):
            return x * read()

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.scores = keras.layers.Dense(3)

        def call(self, x):
            return self.scores(x) * read()

    scores = [keras.layers.Input((4,)), keras.layers.Dense(3)]
    if kind == "lambda":
        return keras.Sequential([*scores, keras.layers.Lambda(lambda x: x * read())])
    if kind == "activation":
        return keras.Sequential([*scores, keras.layers.Activation(lambda x: x * read())])
    if kind == "layer":
        return keras.Sequential([*scores, Layer()])
    return Model()


def expected_of(model, x):
    return saliency(lambda x: model(x)[:, 1], x)


KINDS = [("lambda", "nonlocal"), ("activation", "nonlocal"), ("model", "global")]


@pytest.mark.parametrize(("kind", "way"), [*(("layer", way) for way in WAYS), *KINDS])
def test_what_a_model_reads_is_seen(keras, rng, kind, way):
    read, put = WAYS[way]()
    model, x = model_reading(keras, read, kind), table(rng)
    model(x)
    explainer = Saliency(model)
    once = explainer(x, 1).numpy()
    np.testing.assert_allclose(once, expected_of(model, x), rtol=1e-5)
    before = trace_count()
    np.testing.assert_array_equal(explainer(x, 1), once)
    assert trace_count() == before
    put(3.0)
    for each in (explainer, Saliency(model)):
        np.testing.assert_allclose(each(x, 1), expected_of(model, x), rtol=1e-5)
    assert trace_count() == before + 1
    assert not np.allclose(explainer(x, 1), once)


@pytest.mark.parametrize("way", ["global", "nonlocal", "class of a base"])
def test_what_an_operator_and_modifiers_read_is_seen(keras, rng, way):
    read, put = WAYS[way]()
    model, x = plain(keras), table(rng)
    rectified = keras.Sequential(
        [keras.layers.Input((4,)), keras.layers.Dense(6, activation="relu"), keras.layers.Dense(3)]
    )
    explainers = [
        Saliency(model, operator=lambda f, x, y: f(x)[:, 1] * read()),
        Saliency(model, grad_modifier=lambda g: abs(g) * read()),
        Saliency(rectified, backprop_modifier=lambda x, y, g: tf.where(x > 0, g, 0.0) * read()),
        IntegratedGradients(model, baseline_value=lambda x: 0.0 * x - read()),
        Occlusion(
            model, operator=lambda f, x, y: f(x)[:, 1] * read(), patch_size=1, patch_stride=1
        ),
    ]
    once = [explainer(x, 1).numpy() for explainer in explainers]
    before = trace_count()
    for explainer, found in zip(explainers, once, strict=True):
        np.testing.assert_array_equal(explainer(x, 1), found)
    assert trace_count() == before
    earlier = read()
    put(3.0)
    factor = read() / earlier
    for number, (explainer, found) in enumerate(zip(explainers, once, strict=True)):
        if number == 3:  # (x − b)·w, with another b
            weights = model.get_weights()[0][:, 1]
            np.testing.assert_allclose(explainer(x, 1), (x + read()) * weights, rtol=1e-4)
        else:
            np.testing.assert_allclose(explainer(x, 1), factor * found, rtol=1e-4)


def test_a_model_that_an_operator_names_is_looked_into(keras, rng):
    model, other, x = plain(keras), plain(keras), table(rng)
    wrapped = types.SimpleNamespace(other=other)

    def operator(f, x, y):
        return f(x)[:, 1] * wrapped.other(x)[:, 0]

    explainer = Saliency(model, operator=operator)

    def check():
        expected = saliency(lambda x: model(x)[:, 1] * other(x)[:, 0], x)
        np.testing.assert_allclose(explainer(x), expected, rtol=1e-4)

    check()
    before = trace_count()
    other.set_weights([3.0 * weight for weight in other.get_weights()])
    check()
    assert trace_count() == before
    other.layers[-1].activation = tf.tanh
    check()
    assert trace_count() == before + 1


def test_a_model_that_an_operator_names_is_left_as_it_was(keras, rng):
    class Other(keras.Model):
        def __init__(self):
            super().__init__()
            self.scores = keras.layers.Dense(3)
            self.last = None
            self.power = 1

        def call(self, x):
            self.last = self.scores(x) ** self.power
            return self.last

    other, x = Other(), table(rng)
    other(x)
    other.last = None

    def twice(x):
        return 2.0 * other(x)

    explainer = Saliency(plain(keras), operator=lambda f, x, y: f(x)[:, 1] * twice(x)[:, 1])
    first = explainer(x)
    assert other.last is None  # and not a tensor of a trace
    object.__setattr__(other, "power", 2)
    assert not np.allclose(explainer(x), first)
    assert other.last is None


def test_equal_lambdas_are_traced_once(keras, rng):
    model, x = plain(keras), table(rng)
    before = trace_count()
    for _ in range(3):
        Saliency(model, operator=lambda f, x, y: f(x)[:, 1])(x)
        gc.collect()
    assert trace_count() == before + 1
    for _ in range(3):
        Saliency(model, grad_modifier=lambda g: 2.0 * g)(x, 1)
    assert trace_count() == before + 2
    for _ in range(3):
        operator = functools.partial(lambda factor, f, x, y: factor * f(x)[:, 1], 2.0)
        Saliency(model, operator=operator)(x)
    assert trace_count() == before + 3


def test_equal_rules_are_traced_once(keras, rng):
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3, activation="relu")])
    x = table(rng)
    before = trace_count()
    for _ in range(3):
        GuidedBackprop(model, backprop_modifier=lambda x, y, g: g)(x, 1)
    assert trace_count() == before + 1


def test_a_lambda_that_closes_over_another_value_is_another(keras, rng):
    model, x = plain(keras), table(rng)
    once = Saliency(model)(x, 1).numpy()
    before = trace_count()
    for _ in range(2):
        for factor in (2.0, 3.0, np.array(4.0, "float32")):
            for operator in (
                lambda f, x, y: factor * f(x)[:, 1],  # noqa: B023
                lambda f, x, y, factor=factor: factor * f(x)[:, 1],
            ):
                found = Saliency(model, operator=operator)(x)
                np.testing.assert_allclose(found, factor * once, rtol=1e-5)
    assert trace_count() == before + 6


def test_equal_lambdas_of_different_variables_are_different(keras, rng):
    model, x = plain(keras), table(rng)
    once = Saliency(model)(x, 1).numpy()

    def scaled_by(variable):
        return lambda f, x, y: variable * f(x)[:, 1]

    for value in (2.0, 3.0):
        variable = tf.Variable(value)
        found = Saliency(model, operator=scaled_by(variable))(x)
        np.testing.assert_allclose(found, value * once, rtol=1e-5)
        before = trace_count()
        variable.assign(5.0)
        found = Saliency(model, operator=scaled_by(variable))(x)
        np.testing.assert_allclose(found, 5.0 * once, rtol=1e-5)
        assert trace_count() == before
        del variable
        gc.collect()


def test_a_model_that_counts_in_a_global_is_traced_once_for_each_question(keras, rng):
    calls = []

    class Counting(keras.layers.Layer):
        def call(self, x):
            calls.append(1)
            return x * 2.0

    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3), Counting()])
    x, explainers = table(rng), []
    explainers = [Saliency(model), Saliency(model, grad_modifier=None), Saliency(model, -2)]
    before = trace_count()
    for _ in range(3):
        for explainer in explainers:
            explainer(x, 1)
    assert trace_count() == before + 3


def looked_up():
    return globals()["SC" + "ALE"]


def test_what_cannot_be_seen_is_forgotten_on_demand(keras, rng):
    model, other, x = plain(keras), plain(keras), table(rng)

    def operator(f, x, y):
        return f(x)[:, 1] * looked_up()

    explainer, another = Saliency(model, operator=operator), Saliency(other, operator=operator)
    once, first = explainer(x).numpy(), another(x).numpy()
    set_global(3.0)
    np.testing.assert_array_equal(explainer(x), once)  # stale: nothing names it
    xplique_sal.forget(model)
    np.testing.assert_allclose(explainer(x), 3.0 * once, rtol=1e-5)
    np.testing.assert_array_equal(another(x), first)
    xplique_sal.forget()
    np.testing.assert_allclose(another(x), 3.0 * first, rtol=1e-5)
    xplique_sal.forget(plain(keras))  # one that was never explained


def test_a_model_that_code_names_is_freed(keras, rng):
    def explained():
        other = plain(keras)
        model = keras.Sequential(
            [keras.layers.Input((4,)), keras.layers.Lambda(lambda x: x * other(x)[:, :1])]
        )
        Saliency(model, operator=lambda f, x, y: f(x)[:, 1] + other(x)[:, 0])(table(rng))
        return weakref.ref(model), weakref.ref(other)

    references = explained()
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def test_what_code_names():
    def function(x):
        import outer_of_test.config as config

        return [SCALE * x.real * config.scale for _ in range(3)]

    names = named.names_in(function.__code__)
    assert set(names.variables) == {"SCALE", "range"}
    assert names.modules == ("outer_of_test.config",)
    assert {"real", "scale"} <= names.attributes
