"""Losses by value, against NumPy twins, with gradients that are finite everywhere."""

import gc
import itertools
import types
import weakref

import numpy as np
import pytest
import tensorflow as tf
from reference import built_once, central_differences, gradient, saliency

from xplique_sal import Saliency
from xplique_sal._tracing.programs import trace_count
from xplique_sal.errors import (
    InvalidInputError,
    InvalidOperatorError,
    InvalidParameterError,
    InvalidTargetError,
    LayerNotFoundError,
)
from xplique_sal.losses import ActivationMaximization, Loss, LPNorm, TotalVariation, WeightedSum

SHAPES = [(5,), (6, 2), (5, 4, 3), (4, 3, 5, 2)]


def no_layers(layer):
    raise AssertionError("a loss of the image alone asked for a layer")


def lp_norm(x, p):
    """A slow twin of LPNorm: one image after the other, in float64."""
    values = [np.abs(np.asarray(image, np.float64)).ravel() for image in x]
    if np.isinf(p):
        return np.array([flat.max() / flat.size for flat in values])
    return np.array([(flat**p).sum() ** (1 / p) / flat.size for flat in values])


def total_variation(x, beta):
    """A slow twin of TotalVariation: pixel by pixel, in float64."""
    result = np.zeros(len(x))
    positions = [range(size - 1) for size in x.shape[1:-1]]
    for sample, image in enumerate(np.asarray(x, np.float64)):
        for channel, index in itertools.product(range(x.shape[-1]), itertools.product(*positions)):
            squares = 0.0
            for axis in range(len(index)):
                step = list(index)
                step[axis] += 1
                squares += (image[(*step, channel)] - image[(*index, channel)]) ** 2
            result[sample] += squares ** (beta / 2)
        result[sample] /= image.size
    return result


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("p", [1, 2.0, 6.0, float("inf")])
def test_lp_norm_equals_its_twin_with_its_gradient(rng, shape, p):
    x = rng.normal(size=(3, *shape))
    loss = LPNorm(p)
    np.testing.assert_allclose(loss(tf.constant(x), no_layers), lp_norm(x, p), rtol=1e-12)
    expected = central_differences(lambda x: lp_norm(x, p), x)
    np.testing.assert_allclose(
        gradient(lambda x: loss(x, no_layers), x), expected, rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize("shape", SHAPES[1:])
@pytest.mark.parametrize("beta", [1, 1.5, 2.0, 3.0])
def test_total_variation_equals_its_twin_with_its_gradient(rng, shape, beta):
    x = rng.normal(size=(2, *shape))
    loss = TotalVariation(beta)
    expected = total_variation(x, beta)
    np.testing.assert_allclose(loss(tf.constant(x), no_layers), expected, rtol=1e-12)
    expected = central_differences(lambda x: total_variation(x, beta), x)
    np.testing.assert_allclose(
        gradient(lambda x: loss(x, no_layers), x), expected, rtol=1e-5, atol=1e-8
    )


def test_the_defaults_are_those_of_keras_vis():
    assert LPNorm() == LPNorm(6.0)
    assert TotalVariation() == TotalVariation(2.0)
    image = np.array([[0.0, 3.0], [4.0, 0.0]])[None, :, :, None]
    assert float(LPNorm(2)(image, no_layers)[0]) == pytest.approx(5 / 4)
    # Of the four pixels one has a neighbour below and to the right.
    assert float(TotalVariation()(image, no_layers)[0]) == pytest.approx((9 + 16) / 4)


@pytest.mark.parametrize("level", [0.0, 1.0, -2.5])
@pytest.mark.parametrize(
    "loss",
    [LPNorm(), LPNorm(1), LPNorm(float("inf")), TotalVariation(), TotalVariation(1)],
    ids=repr,
)
def test_the_gradient_of_a_constant_image_is_finite(loss, level):
    x = np.full((2, 4, 4, 3), level, np.float32)
    x[1, 0, 0, 0] += 1  # beside an image that is not constant
    found = gradient(lambda x: loss(x, no_layers), x)
    assert np.isfinite(found).all()
    assert np.isfinite(loss(tf.constant(x), no_layers)).all()
    if level == 0 or isinstance(loss, TotalVariation):
        assert not found[0].any()
    assert found[1].any()


def test_no_power_of_a_large_value_overflows():
    x = np.full((1, 2, 2, 1), 1e30, np.float32)
    assert float(LPNorm(6)(tf.constant(x), no_layers)[0]) == pytest.approx(1e30 * 4 ** (1 / 6) / 4)
    assert np.isfinite(gradient(lambda x: LPNorm(6)(x, no_layers), x)).all()


def images(rng, count=3):
    return rng.normal(size=(count, 8, 8, 3)).astype("float32")


@built_once
def network(keras):
    return keras.Sequential(
        [
            keras.layers.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3, activation="tanh", name="conv"),
            keras.layers.Flatten(),
            keras.layers.Dense(5, name="scores"),
        ]
    )


@built_once
def cut(keras, model, layer):
    return keras.Model(model.inputs[0], model.get_layer(layer).output)


def explain(losses, model, x, **options):
    return Saliency(model, operator=WeightedSum(losses), **options).explain_with_scores(x)


@pytest.mark.parametrize("filters", [1, [1], [0, 3], (2, 0, 1), np.array([3]), None])
def test_activation_maximization_of_filters(keras, rng, filters):
    model, x = network(keras), images(rng)
    conv = cut(keras, model, "conv")
    chosen = range(4) if filters is None else np.atleast_1d(filters)

    def score(x):
        return tf.add_n([tf.reduce_mean(conv(x)[..., k], [1, 2]) for k in chosen]) / len(chosen)

    for layer in ("conv", 0, model.get_layer("conv"), np.int64(0)):
        maps, losses = explain([(ActivationMaximization(layer, filters), 1)], model, x)
        np.testing.assert_allclose(losses, -score(x), rtol=1e-4, atol=1e-6)
        expected = saliency(score, x)
        np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-5 * expected.max())


def test_activation_maximization_of_units(keras, rng):
    model, x = network(keras), images(rng)
    _, losses = explain([(ActivationMaximization(-1, [4, 1]), -2.0)], model, x)
    scores = np.asarray(model(x))
    np.testing.assert_allclose(losses, scores[:, 1] + scores[:, 4], rtol=1e-4, atol=1e-5)


def test_channels_first_is_the_models_own(keras, rng):
    model = keras.Sequential(
        [
            keras.layers.Input((3, 6, 4)),
            keras.layers.Permute((1, 2, 3), name="same"),
            keras.layers.GlobalAveragePooling2D(data_format="channels_first", name="pooled"),
            keras.layers.Dense(2),
        ]
    )
    x = rng.normal(size=(2, 3, 6, 4)).astype("float32")
    _, found = explain([(TotalVariation(), 1)], model, x)
    np.testing.assert_allclose(found, total_variation(np.moveaxis(x, 1, -1), 2), rtol=1e-5)


class Distance(Loss):
    """The five lines of a user's own."""

    def __init__(self, level):
        self.level = level

    def __call__(self, x, f):
        return tf.reduce_mean(tf.square(x - self.level), axis=[1, 2, 3])


class ConvEnergy(Loss):
    def __call__(self, x, f):
        energy = tf.reduce_mean(tf.square(f("conv")), axis=[1, 2, 3])
        if tf.reduce_sum(x) > 1e9:  # a branch on a tensor: traced under autograph
            energy = tf.zeros_like(energy)
        return energy


def test_a_weighted_sum_of_all_kinds(keras, rng):
    model, x = network(keras), images(rng)
    conv = cut(keras, model, "conv")
    losses = [
        (ActivationMaximization("scores", 2), 0.5),
        (LPNorm(), 10.0),
        (TotalVariation(), -2.0),
        (Distance(0.3), 3),
        (ConvEnergy(), 7.0),
    ]

    def score(x):
        return (
            -0.5 * model(x)[:, 2]
            + 10 * LPNorm()(x, None)
            - 2 * TotalVariation()(x, None)
            + 3 * tf.reduce_mean(tf.square(x - 0.3), [1, 2, 3])
            + 7 * tf.reduce_mean(tf.square(conv(x)), [1, 2, 3])
        )

    maps, values = explain(losses, model, x)
    np.testing.assert_allclose(values, score(tf.constant(x)), rtol=1e-4)
    expected = saliency(score, x)
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-5 * expected.max())


class HeldLevel(Loss):
    def __init__(self, held):
        self.held = held

    def __call__(self, x, f):
        return tf.reduce_mean(tf.square(x - self.held.value), axis=[1, 2, 3])


def test_losses_are_values():
    assert LPNorm(6) == LPNorm(6.0) and hash(LPNorm(6)) == hash(LPNorm(6.0))
    assert LPNorm(6) != LPNorm(5) and LPNorm(2) != TotalVariation(2)
    assert ActivationMaximization(-1, 3) == ActivationMaximization(-1, [3])
    assert ActivationMaximization(-1, 3) != ActivationMaximization(-1, None)
    assert Distance(np.arange(3)) == Distance(np.arange(3))
    assert Distance(np.arange(3)) != Distance(np.arange(3.0))
    assert Distance([1, (2, "a")]) == Distance([1, (2, "a")])
    thing = object()
    assert Distance(thing) == Distance(thing) and Distance(thing) != Distance(object())
    assert repr(LPNorm(2)) == "LPNorm(p=2.0)"
    assert WeightedSum([(LPNorm(), 1)]) == WeightedSum([(LPNorm(), 1.0)])
    assert WeightedSum([(LPNorm(), 1)]) != WeightedSum([(LPNorm(), 2)])


def test_nothing_is_set_on_the_users_loss(keras, rng):
    loss = Distance(np.zeros(1))
    held = dict(vars(loss))
    explain([(loss, 1.0)], network(keras), images(rng))
    assert vars(loss) == held


def test_equal_sums_are_traced_once(keras, rng):
    model, x = network.anew(keras), images(rng)
    before = trace_count()
    for _ in range(3):
        explain([(ActivationMaximization("conv", [0, 1]), -1), (LPNorm(), 10)], model, x)
        gc.collect()
    assert trace_count() == before + 1
    explain([(ActivationMaximization("conv", [0, 2]), -1), (LPNorm(), 10)], model, x)
    explain([(ActivationMaximization("conv", [0, 1]), -1), (LPNorm(), 11)], model, x)
    assert trace_count() == before + 3


def test_a_users_loss_that_is_kept_is_traced_once(keras, rng):
    model, x = network.anew(keras), images(rng)
    loss, by_layer = Distance(0.5), ActivationMaximization(model.layers[0], 1)
    before = trace_count()
    for _ in range(3):
        explain([(loss, 1.0)], model, x)
        explain([(by_layer, 1.0), (LPNorm(), 2.0)], model, x)
        gc.collect()
    assert trace_count() == before + 2


def test_a_loss_that_changes_is_never_stale(keras, rng):
    model, x = network(keras), images(rng)
    loss = Distance(0.0)
    for level in (0.0, 1.0, 0.0, 2.0):
        loss.level = level
        _, values = explain([(loss, 1.0)], model, x)
        np.testing.assert_allclose(values, np.square(x - level).mean((1, 2, 3)), rtol=1e-5)
    loss.level = np.zeros(3, "float32")
    for level in (0.0, 1.0):
        loss.level[:] = level  # in place
        _, values = explain([(loss, 1.0)], model, x)
        np.testing.assert_allclose(values, np.square(x - level).mean((1, 2, 3)), rtol=1e-5)
    loss.level = types.SimpleNamespace(value=0.0)
    held = HeldLevel(loss.level)
    for level in (0.0, 1.0):
        loss.level.value = level  # inside of what it holds
        _, values = explain([(held, 1.0)], model, x)
        np.testing.assert_allclose(values, np.square(x - level).mean((1, 2, 3)), rtol=1e-5)
    builtin = LPNorm(2)
    _, first = explain([(builtin, 1.0)], model, x)
    builtin.p = 1.0
    _, second = explain([(builtin, 1.0)], model, x)
    _, third = explain([(LPNorm(2), 1.0)], network(keras), x)
    np.testing.assert_allclose(first, lp_norm(x, 2), rtol=1e-5)
    np.testing.assert_allclose(second, lp_norm(x, 1), rtol=1e-5)
    np.testing.assert_allclose(third, lp_norm(x, 2), rtol=1e-5)


class OfModel(Loss):
    def __init__(self, model):
        self.model = model

    def __call__(self, x, f):
        return tf.reduce_sum(f(self.model.layers[-1]), -1)


def explained_and_dropped(keras, rng):
    # In a function of its own: before Python 3.13, a frame that autograph has looked at keeps its
    # variables for as long as it runs.
    model, x = network.anew(keras), images(rng)
    loss = OfModel(model)
    explain([(loss, 1.0), (LPNorm(), 1.0)], model, x)
    explain([(ActivationMaximization(model.layers[-1], 0), 1.0)], model, x)
    return [weakref.ref(model), weakref.ref(loss)]


def test_neither_models_nor_losses_are_kept(keras, rng):
    references = explained_and_dropped(keras, rng)
    gc.collect()
    assert [reference() for reference in references] == [None, None]


@pytest.mark.parametrize("p", [0.5, 0, -1, float("nan"), "2", None, True])
def test_what_is_no_norm_is_refused(p):
    with pytest.raises(InvalidParameterError, match="`p` as a number of at least 1"):
        LPNorm(p)


@pytest.mark.parametrize("beta", [0.5, 0, float("inf"), float("nan"), "2"])
def test_what_is_no_variation_is_refused(beta):
    with pytest.raises(InvalidParameterError, match="`beta` as a finite number of at least 1"):
        TotalVariation(beta)


@pytest.mark.parametrize("filters", [-1, 1.5, [], [[1]], "conv", [0, -2]])
def test_what_is_no_filter_is_refused(filters):
    with pytest.raises(InvalidTargetError, match="`filter_indices`"):
        ActivationMaximization(-1, filters)


@pytest.mark.parametrize(
    "losses", [[], None, [LPNorm()], [(LPNorm, 1.0)], [(max, 1.0)], [(LPNorm(), "much")], 3]
)
def test_what_is_no_list_of_losses_is_refused(losses):
    with pytest.raises(InvalidParameterError, match=r"pairs \(loss, weight\)"):
        WeightedSum(losses)


def test_weights_that_are_not_finite_are_refused():
    with pytest.raises(InvalidParameterError, match="finite weights"):
        WeightedSum([(LPNorm(), float("inf"))])


class Scalar(Loss):
    def __call__(self, x, f):
        return tf.reduce_mean(x)


def test_losses_say_what_is_wrong_when_they_run(keras, rng):
    model, x = network(keras), images(rng)
    with pytest.raises(InvalidOperatorError, match="Scalar"):
        explain([(Scalar(), 1.0)], model, x)
    with pytest.raises(InvalidTargetError, match="between 0 and 3"):
        explain([(ActivationMaximization("conv", 4), 1.0)], model, x)
    with pytest.raises(LayerNotFoundError, match="conv"):
        explain([(ActivationMaximization("con", 0), 1.0)], model, x)
    table = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(InvalidInputError, match="neighbours"):
        explain([(TotalVariation(), 1.0)], table, x[:, 0, 0, :1].repeat(4, 1))
    a, b = keras.layers.Input((4,)), keras.layers.Input((4,))
    two = keras.Model([a, b], keras.layers.Dense(1)(keras.layers.Add()([a, b])))
    with pytest.raises(InvalidInputError, match="one input"):
        explain([(LPNorm(), 1.0)], two, [np.ones((2, 4), "float32")] * 2)
