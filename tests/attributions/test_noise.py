"""SmoothGrad, VarGrad and SquareGrad: gradients around a sample, by noise that can be repeated."""

import numpy as np
import pytest
import tensorflow as tf
from reference import built_once, class_score, gradient

from xplique_sal._tracing.programs import trace_count
from xplique_sal.attributions import SmoothGrad, SquareGrad, VarGrad
from xplique_sal.attributions.base import WhiteBoxExplainer
from xplique_sal.errors import InvalidParameterError, NoGradientError

METHODS = {
    SmoothGrad: lambda g: g.mean(0),
    VarGrad: lambda g: g.var(0, ddof=1),
    SquareGrad: lambda g: (g**2).mean(0),
}
every_method = pytest.mark.parametrize("method", METHODS)


def noise(shape, seed, point, source=0):
    """The noise of a point of all samples, drawn at once outside."""
    size = int(np.prod(shape[1:]))
    drawn = tf.random.stateless_normal(
        (shape[0], -(-size // 4) * 4),
        tf.constant([seed, point + (source << 32)], tf.int64),
        alg="philox",
    )
    return drawn.numpy()[:, :size].reshape(shape)


def twin(score, x, points, deviation, seed):
    """The gradients at all points, one point after the other."""
    return np.array(
        [
            gradient(score, (x + deviation * noise(x.shape, seed, k)).astype("float32"))
            for k in range(points)
        ]
    )


@built_once
def curved(keras, shape=(5,), outputs=3):
    layers = [keras.layers.Input(shape)]
    if len(shape) == 3:
        layers.append(keras.layers.Conv2D(4, 2, activation="tanh"))
    layers += [keras.layers.Flatten(), keras.layers.Dense(8, activation="tanh")]
    return keras.Sequential([*layers, keras.layers.Dense(outputs)])


def quadratic(f, x, y):
    """Return Σ x²·(1, 2, 3, …): the gradient is 2·x·(1, 2, 3, …)."""
    return tf.reduce_sum(x**2 * tf.range(1.0, 6), 1) + 0 * f(x)[:, 0]


def assert_close(actual, expected, tolerance=1e-5):
    expected = np.asarray(expected)
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@every_method
@pytest.mark.parametrize("shape", [(5,), (4, 4, 3)], ids=["table", "image"])
def test_the_map_is_the_statistic_of_a_slow_twins_gradients(keras, rng, method, shape):
    model, x = curved(keras, shape), rng.normal(size=(6, *shape)).astype("float32")
    y = rng.integers(0, 3, 6)
    expected = METHODS[method](twin(class_score(model, y), x, 7, 0.3, 11))
    explainer = method(model, nb_samples=7, noise=0.3, seed=11, reducer=None, batch_size=4)
    assert_close(explainer.explain(x, y), expected)


def test_smoothgrad_of_a_linear_model_is_its_gradient(keras, rng):
    model = keras.Sequential([keras.layers.Input((5,)), keras.layers.Dense(3)])
    x = rng.normal(size=(6, 5)).astype("float32")
    kernel = model.layers[-1].get_weights()[0]
    maps = SmoothGrad(model, noise=2.0).explain(x, 1)
    np.testing.assert_allclose(maps, np.tile(kernel[:, 1], (6, 1)), rtol=1e-6)


def test_vargrad_of_a_linear_model_is_zero_and_that_is_no_zero_gradient(keras, rng):
    model = keras.Sequential([keras.layers.Input((5,)), keras.layers.Dense(3)])
    x = rng.normal(size=(6, 5)).astype("float32")
    maps = VarGrad(model, noise=2.0).explain(x, 1)  # a warning would be an error
    np.testing.assert_allclose(maps, np.zeros((6, 5)), atol=1e-12)


def test_a_quadratic_in_closed_form(keras, rng):
    """With g = Σ c x², the gradient at x + ε is 2c(x + ε): its statistics are known."""
    model, x = curved(keras), rng.normal(size=(3, 5)).astype("float32")
    c, points, deviation = np.arange(1.0, 6), 4000, 0.5
    options = {"operator": quadratic, "nb_samples": points, "noise": deviation, "seed": 3}
    spread = 2 * c * deviation  # the standard deviation of the gradient
    error = 5 / np.sqrt(points)
    smooth = SmoothGrad(model, **options).explain(x).numpy()
    assert (np.abs(smooth - 2 * c * x) < error * spread).all()
    assert np.abs(smooth - 2 * c * x).max() > 0
    variance = VarGrad(model, **options).explain(x).numpy()
    assert (np.abs(variance - spread**2) < np.sqrt(2) * error * spread**2).all()
    square = SquareGrad(model, **options).explain(x).numpy()
    expected = spread**2 + (2 * c * x) ** 2
    bound = error * np.sqrt(2 * spread**4 + 4 * spread**2 * (2 * c * x) ** 2)
    assert (np.abs(square - expected) < bound).all()
    # One is the other plus the square of the mean, exactly, with the same seed.
    shrunk = variance * (points - 1) / points
    np.testing.assert_allclose(square, shrunk + smooth**2, rtol=1e-4)


def test_without_noise_it_is_the_gradient(keras, rng):
    model, x = curved(keras), rng.normal(size=(6, 5)).astype("float32")
    expected = WhiteBoxExplainer(model).explain(x, 1)
    assert_close(SmoothGrad(model, noise=0, nb_samples=3).explain(x, 1), expected, 1e-6)
    assert_close(SquareGrad(model, noise=0, nb_samples=3).explain(x, 1), expected**2, 1e-6)


@every_method
def test_noise_relative_to_the_range_of_each_sample(keras, rng, method):
    model = curved(keras, (4, 4, 3))
    x = (rng.normal(size=(3, 4, 4, 3)) * np.array([1, 3, 0.2])[:, None, None, None]).astype("f4")
    deviation = 0.1 * (x.max((1, 2, 3)) - x.min((1, 2, 3)))[:, None, None, None]
    expected = METHODS[method](twin(class_score(model, [1] * 3), x, 5, deviation, 2))
    explainer = method(model, nb_samples=5, noise=0.1, seed=2, reducer=None, relative_noise=True)
    assert_close(explainer.explain(x, 1), expected)


@every_method
@pytest.mark.parametrize("shape", [(5,), (40, 40, 3)], ids=["looped in the graph", "large"])
def test_a_seed_gives_the_same_map_however_samples_are_passed(keras, rng, method, shape):
    model, x = curved(keras, shape), rng.normal(size=(7, *shape)).astype("float32")
    y = rng.integers(0, 3, 7)
    options = {"nb_samples": 6, "seed": 5}
    expected = method(model, **options).explain(x, y).numpy()
    for batch_size in (1, 2, 3, 7, 20, None, "auto"):
        assert_close(method(model, batch_size=batch_size, **options).explain(x, y), expected)
    dataset = tf.data.Dataset.from_tensor_slices((x, y))
    explainer = method(model, batch_size=3, **options)
    assert_close(explainer.explain(dataset), expected)
    assert_close(explainer.explain(dataset.batch(2)), expected)
    assert_close(np.concatenate(list(explainer.iter_explain(dataset.batch(5)))), expected)
    # The noise of a sample is that of its place, whatever is at the others.
    other = np.concatenate([x[:1] + 1, x[1:4]])
    assert_close(explainer.explain(other, y[:4])[1:], expected[1:4])


@every_method
def test_another_seed_gives_another_map(keras, rng, method):
    model, x = curved(keras), rng.normal(size=(7, 5)).astype("float32")
    maps = [method(model, seed=seed).explain(x, 1).numpy() for seed in (0, 1, -1, 0)]
    np.testing.assert_array_equal(maps[0], maps[3])
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(maps[one] - maps[other]).max() > 1e-4


def test_without_a_seed_one_is_drawn_and_told(keras, rng):
    model, x = curved(keras), rng.normal(size=(7, 5)).astype("float32")
    first, second = SmoothGrad(model), SmoothGrad(model)
    assert first.seed != second.seed
    maps = first.explain(x, 1).numpy()
    np.testing.assert_array_equal(first.explain(x, 1), maps)
    np.testing.assert_array_equal(SmoothGrad(model, seed=first.seed).explain(x, 1), maps)
    assert np.abs(second.explain(x, 1) - maps).max() > 1e-4


def test_the_users_random_numbers_stay_as_they_are(keras, rng):
    model, x = curved(keras), rng.normal(size=(3, 5)).astype("float32")
    tf.random.set_seed(1)
    np.random.seed(1)
    expected = tf.random.normal([3]).numpy(), tf.random.normal([3]).numpy(), np.random.rand()
    tf.random.set_seed(1)
    np.random.seed(1)
    before = tf.random.normal([3]).numpy()
    SmoothGrad(model).explain(x, 1)
    after = tf.random.normal([3]).numpy(), np.random.rand()
    np.testing.assert_array_equal(before, expected[0])
    np.testing.assert_array_equal(after[0], expected[1])
    assert after[1] == expected[2]


def test_samples_points_and_inputs_have_noise_of_their_own(keras, rng):
    """x is the same for all samples and both inputs: equal noise would give equal maps."""
    left, right = keras.layers.Input((5,)), keras.layers.Input((5,))
    model = keras.Model([left, right], keras.layers.Concatenate()([left, right]))

    def square(f, x, y):
        return tf.reduce_sum(f(x) ** 2, 1)

    x = np.zeros((4, 5), "float32")
    explainer = SmoothGrad(model, operator=square, nb_samples=1, noise=1.0, seed=9, batch_size=3)
    maps = np.stack([part.numpy() for part in explainer.explain([x, x])])
    np.testing.assert_allclose(maps[0], 2 * noise((4, 5), 9, 0), rtol=1e-5)
    np.testing.assert_allclose(maps[1], 2 * noise((4, 5), 9, 0, source=1), rtol=1e-5)
    assert len(np.unique(maps.round(4))) == maps.size


@every_method
def test_all_outputs_see_the_same_noise(keras, rng, method):
    model, x = curved(keras), rng.normal(size=(7, 5)).astype("float32")
    explainer = method(model, nb_samples=6, seed=4, batch_size=3)
    expected = np.stack([explainer.explain(x, output) for output in range(3)], 1)
    assert_close(explainer.explain_outputs(x), expected)
    assert_close(explainer.explain_outputs(x, [2, 0]), expected[:, [2, 0]])


def test_scores_are_those_of_the_samples_themselves(keras, rng):
    model, x = curved(keras), rng.normal(size=(7, 5)).astype("float32")
    explainer = SmoothGrad(model, noise=3.0, nb_samples=4, batch_size=3, seed=0)
    maps, scores = explainer.explain_with_scores(x, 2)
    np.testing.assert_allclose(scores, model(x)[:, 2], rtol=1e-5, atol=1e-6)
    assert_close(maps, explainer.explain(x, 2), 1e-6)


def test_without_a_target_it_is_the_samples_own_largest_output(keras, rng):
    model, x = curved(keras), rng.normal(size=(20, 5)).astype("float32")
    largest = model(x).numpy().argmax(1)
    explainer = SmoothGrad(model, noise=3.0, seed=0)
    elsewhere = model(x + 3 * noise(x.shape, 0, 0)).numpy().argmax(1)
    assert (largest != elsewhere).any()  # or the test could not fail
    assert_close(explainer.explain(x), explainer.explain(x, largest), 1e-6)


class Recorder:
    """Notes how many samples reach a model at once, and how often."""

    def __init__(self, keras):
        recorder = self
        self.sizes = []

        class Recording(keras.layers.Layer):
            def call(self, inputs):
                noted = tf.py_function(recorder.note, [tf.shape(inputs)[0]], [])
                with tf.control_dependencies([noted]):
                    return tf.identity(inputs)

        self.layer = Recording()

    def note(self, size):
        self.sizes.append(int(size))


@pytest.mark.parametrize("shape", [(5,), (40, 40, 3)], ids=["looped in the graph", "large"])
@pytest.mark.parametrize(
    "count, batch_size, points, sizes",
    [
        (1, 64, 50, [50]),
        (1, 20, 50, [20, 20, 10]),
        (3, 8, 5, [6, 6, 3]),
        (9, 4, 3, [4] * 6 + [3]),
        (2, 1, 3, [1] * 6),
    ],
)
def test_the_model_gets_whole_batches_and_never_more(
    keras, rng, shape, count, batch_size, points, sizes
):
    recorder = Recorder(keras)
    model = keras.Sequential(
        [keras.layers.Input(shape), recorder.layer, keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    x = rng.normal(size=(count, *shape)).astype("float32")
    explainer = SmoothGrad(model, nb_samples=points, batch_size=batch_size)
    explainer.explain(x, 1)
    recorder.sizes.clear()
    explainer.explain(x, 1)
    assert recorder.sizes == sizes  # of nine, the last is alone: its three points make one batch
    assert max(recorder.sizes) <= batch_size
    assert sum(recorder.sizes) == count * points


def test_one_trace_serves_all_sizes_seeds_and_numbers_of_points(keras, rng):
    model, x = curved.anew(keras, (4, 4, 3)), rng.normal(size=(9, 4, 4, 3)).astype("float32")
    SmoothGrad(model, seed=0).explain(x, 1)
    before = trace_count()
    for options in ({"batch_size": 2}, {"nb_samples": 7}, {"noise": 0.5}, {"seed": 1}):
        SmoothGrad(model, **options).explain(x, 1)
    SmoothGrad(model).explain(x[:1], 1)
    SmoothGrad(model).explain_with_scores(x, 1)
    assert trace_count() == before
    VarGrad(model).explain(x, 1)
    SmoothGrad(model, relative_noise=True).explain(x, 1)
    assert trace_count() == before + 2


def test_a_fixed_batch_size_is_kept(keras, rng):
    recorder = Recorder(keras)
    inputs = keras.layers.Input(batch_shape=(4, 5))
    outputs = keras.layers.Dense(3)(
        keras.layers.Dense(8, activation="tanh")(recorder.layer(inputs))
    )
    model, free = keras.Model(inputs, outputs), curved.anew(keras)
    free.set_weights(model.get_weights())
    x = rng.normal(size=(6, 5)).astype("float32")
    maps, scores = SmoothGrad(model, nb_samples=5, seed=1).explain_with_scores(x, 1)
    expected, scores_expected = SmoothGrad(free, nb_samples=5, seed=1).explain_with_scores(x, 1)
    assert_close(maps, expected)
    np.testing.assert_allclose(scores, scores_expected, rtol=1e-5)
    assert set(recorder.sizes) == {4}


def test_with_respect_to_a_layer_the_noise_is_added_there(keras, rng):
    model, x = curved(keras), rng.normal(size=(6, 5)).astype("float32")
    hidden, last = model.layers[-2], model.layers[-1]
    inner = hidden(x)
    expected = twin(lambda z: tf.square(last(z)[:, 1]), np.asarray(inner), 5, 0.3, 8).mean(0)

    def squared(f, x, y):
        return tf.square(f(x)[:, 1])

    explainer = SmoothGrad(
        model, operator=squared, nb_samples=5, noise=0.3, seed=8, wrt_layer=hidden.name
    )
    assert_close(explainer.explain(x), expected)


def test_integers_beside_floats_get_no_noise(keras, rng):
    numbers = keras.layers.Input((3,))
    kinds = keras.layers.Input((1,), dtype="int32")
    embedded = keras.layers.Flatten()(keras.layers.Embedding(4, 3)(kinds))
    product = keras.layers.Multiply()([numbers, embedded])
    model = keras.Model([numbers, kinds], keras.layers.Dense(2)(product))
    x = rng.normal(size=(5, 3)).astype("float32"), rng.integers(0, 4, (5, 1)).astype("int32")
    maps = SmoothGrad(model, seed=0).explain(x, 1)
    assert maps[1] is None
    assert_close(maps[0], WhiteBoxExplainer(model).explain(x, 1)[0])


def test_half_precision(keras, rng):
    """Gradients far below what float16 can hold are found by scaling the score."""
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = keras.Sequential([keras.layers.Input((5,)), keras.layers.Dense(2)])
    finally:
        keras.mixed_precision.set_global_policy("float32")
    x = rng.normal(size=(4, 5)).astype("float32")
    kernel = model.layers[-1].get_weights()[0]

    def tiny(f, x, y):
        return tf.cast(f(x), tf.float16)[:, 1] * tf.constant(1e-6, tf.float16)

    expected = np.tile(kernel[:, 1], (4, 1)) * 1e-6
    assert_close(SmoothGrad(model, operator=tiny).explain(x), expected, 0.05)
    assert_close(SquareGrad(model, operator=tiny).explain(x), expected**2, 0.1)


def test_a_gradient_that_is_not_finite_anywhere_around_is_an_error(keras, rng):
    model, x = curved(keras), np.full((3, 5), 0.1, "float32")

    def root(f, x, y):
        return tf.reduce_sum(tf.sqrt(x), 1) + 0 * f(x)[:, 0]

    with pytest.raises(NoGradientError, match="sample 0"):
        SmoothGrad(model, operator=root, noise=1.0).explain(x)


@every_method
@pytest.mark.parametrize(
    "options",
    [
        {"nb_samples": 0},
        {"nb_samples": 2.5},
        {"nb_samples": True},
        {"noise": -0.1},
        {"noise": float("nan")},
        {"noise": "much"},
        {"seed": 0.5},
        {"seed": "a"},
    ],
    ids=str,
)
def test_parameters_that_do_not_exist(keras, method, options):
    with pytest.raises(InvalidParameterError, match=next(iter(options))):
        method(curved(keras), **options)


def test_a_variance_needs_two_points(keras):
    with pytest.raises(InvalidParameterError, match="at least 2"):
        VarGrad(curved(keras), nb_samples=1)


def test_several_devices_share_the_work(keras, rng):
    model, x = curved(keras), rng.normal(size=(7, 5)).astype("float32")
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    expected = SmoothGrad(model, seed=1).explain(x, 1).numpy()
    maps = SmoothGrad(model, seed=1, batch_size=4, strategy=strategy).explain(x, 1)
    assert_close(maps, expected)
