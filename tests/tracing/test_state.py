"""The model and TensorFlow are after an explanation what they were before it."""

import numpy as np
import pytest
import tensorflow as tf

from xplique_sal import Saliency
from xplique_sal.errors import InvalidModelError, InvalidOperatorError, NoGradientError


def everything(model):
    """All variables of a model, also those that `get_weights` leaves out."""
    return [np.array(variable) for variable in model.variables]


def attributes(model):
    """The attributes of every layer, by identity."""
    layers = [model, *model._flatten_layers(include_self=False)]
    return {
        (layer.name, name): id(value)
        for layer in layers
        for name, value in vars(layer).items()
        if name not in ("_call_context_args", "_thread_local")
    }


def settings(keras):
    return (
        tf.config.functions_run_eagerly(),
        tf.executing_eagerly(),
        tf.config.optimizer.get_jit(),
        tf.config.optimizer.get_experimental_options(),
        keras.backend.floatx(),
        keras.backend.image_data_format(),
        keras.mixed_precision.global_policy().name
        if keras.__name__ == "tf_keras"
        else keras.config.dtype_policy().name,
    )


def network(keras):
    return keras.Sequential(
        [
            keras.layers.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3, activation="relu", activity_regularizer="l2"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5, seed=1),
            keras.layers.Flatten(),
            keras.layers.Dense(3, activation="softmax", name="scores"),
        ]
    )


def failing(f, x, y):
    f(x)
    raise ArithmeticError("on purpose")


def without_gradient(f, x, y):
    return tf.cast(tf.argmax(f(x), -1), tf.float32)


@pytest.mark.parametrize(
    "options, error",
    [
        ({"logits": True}, None),
        ({"output_layer": "scores", "wrt_layer": 0, "logits": True}, None),
        ({"operator": failing}, ArithmeticError),
        ({"operator": without_gradient}, NoGradientError),
        ({"operator": lambda f, x, y: f(x), "wrt_layer": 0}, InvalidOperatorError),
    ],
    ids=["success", "layers", "exception", "no_gradient", "wrong_score"],
)
def test_nothing_is_changed(keras, rng, options, error):
    model = network(keras)
    x = rng.normal(size=(5, 8, 8, 3)).astype("float32")
    model(x)
    losses = [loss.numpy() for loss in model.losses]
    before = everything(model), attributes(model), settings(keras)
    seed = tf.random.get_global_generator().state.numpy()
    explainer = Saliency(model, **options)
    if error is None:
        explainer(x, 1)
        explainer.explain_outputs(x)
    else:
        with pytest.raises(error):
            explainer(x, 1)
    for was, now in zip(before[0], everything(model), strict=True):
        np.testing.assert_array_equal(was, now)
    assert attributes(model) == before[1]
    assert settings(keras) == before[2]
    assert [loss.numpy() for loss in model.losses] == losses
    np.testing.assert_array_equal(tf.random.get_global_generator().state.numpy(), seed)
    assert all("call" not in vars(layer) for layer in model.layers)


def test_attributes_set_by_call_are_as_before(keras, rng):
    class Keeping(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = keras.layers.Dense(3)
            self.calls = 0

        def call(self, inputs):
            self.calls += 1
            self.last = self.inner(inputs)
            return tf.tanh(self.last)

    model, x = Keeping(), rng.normal(size=(5, 4)).astype("float32")
    model(x)
    last, calls = model.last, model.calls
    Saliency(model)(x, 1)
    assert model.calls == calls
    assert model.last is last


def test_a_call_that_the_user_replaced_is_kept(keras, rng):
    model, x = network(keras), rng.normal(size=(5, 8, 8, 3)).astype("float32")
    own = lambda inputs, **options: 2.0 * inputs  # noqa: E731
    model.layers[2].call = own
    Saliency(model, 2)(x, 0)
    assert vars(model.layers[2])["call"] is own


def test_a_stateful_lstm_keeps_its_state(keras, rng):
    inputs = keras.layers.Input(batch_shape=(4, 5, 2))
    lstm = keras.layers.LSTM(3, stateful=True)
    model = keras.Model(inputs, keras.layers.Dense(2)(lstm(inputs)))
    x = rng.normal(size=(8, 5, 2)).astype("float32")
    model(tf.constant(x[:4]))
    before = everything(model) + [np.array(state) for state in lstm.states]
    assert any(np.abs(state).max() > 0 for state in before[-2:])
    maps = Saliency(model)(x, 1)
    after = everything(model) + [np.array(state) for state in lstm.states]
    for was, now in zip(before, after, strict=True):
        np.testing.assert_array_equal(was, now)

    def reset():
        for state, value in zip(lstm.states, before[-2:], strict=True):
            state.assign(value)

    for start in (0, 4):
        reset()
        batch = tf.constant(x[start : start + 4])
        with tf.GradientTape() as tape:
            tape.watch(batch)
            score = model(batch)[:, 1]
        expected = np.abs(tape.gradient(score, batch))
        np.testing.assert_allclose(maps[start : start + 4], expected, rtol=1e-5, atol=1e-7)


def test_random_layers_leave_their_seeds(keras, rng):
    class Noisy(keras.Model):
        def __init__(self):
            super().__init__()
            self.noise = keras.layers.GaussianNoise(0.1, seed=3)
            self.scores = keras.layers.Dense(3)

        def call(self, inputs):
            return self.scores(self.noise(inputs, training=True))

    model, x = Noisy(), rng.normal(size=(5, 4)).astype("float32")
    model(x)
    before = everything(model)
    maps = Saliency(model)(x, 1)
    np.testing.assert_allclose(
        maps, np.tile(np.abs(np.array(model.scores.kernel)[:, 1]), (5, 1)), rtol=1e-5
    )
    for was, now in zip(before, everything(model), strict=True):
        np.testing.assert_array_equal(was, now)


def test_counters_and_generators_of_a_module_are_restored(rng):
    class Counting(tf.Module):
        def __init__(self):
            super().__init__()
            self.count = tf.Variable(0)
            self.generator = tf.random.Generator.from_seed(1)
            self.weight = tf.Variable(tf.random.normal([4, 3]))

        @tf.function
        def count_up(self):
            self.count.assign_add(1)

        def __call__(self, x):
            if tf.reduce_sum(x) > -1e9:
                self.count_up()
            return (x + self.generator.normal([4])) @ self.weight

    module, x = Counting(), rng.normal(size=(5, 4)).astype("float32")
    state = module.generator.state.numpy()
    maps = Saliency(module, batch_size=2)(x, 1)
    np.testing.assert_allclose(maps, np.tile(np.abs(module.weight[:, 1]), (5, 1)), rtol=1e-5)
    assert module.count.numpy() == 0
    np.testing.assert_array_equal(module.generator.state.numpy(), state)


def test_state_that_cannot_be_restored_is_refused(rng):
    class Writing(tf.Module):
        def __init__(self):
            super().__init__()
            self.table = tf.lookup.experimental.MutableHashTable(tf.int64, tf.int64, 0)

        def __call__(self, x):
            self.table.insert([1], [2])
            return x

    with pytest.raises(InvalidModelError, match="tables"):
        Saliency(Writing())(rng.normal(size=(5, 4)).astype("float32"), 1)


def test_a_loop_that_fails_leaves_strategies_usable():
    def function(x):
        return tf.map_fn(lambda row: row.no_such_attribute, x)

    with pytest.raises(AttributeError):
        Saliency(function).explain(np.ones((2, 4), "float32"), 0)
    with tf.distribute.MirroredStrategy(
        ["CPU:0"]
    ).scope():  # TensorFlow refuses, if a loop left its mark
        pass
