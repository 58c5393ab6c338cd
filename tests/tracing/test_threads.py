"""Explaining from several threads, and while another trains, disturbs neither."""

import threading

import numpy as np
import tensorflow as tf

from xplique_sal import Saliency
from xplique_sal._tracing.programs import trace_count


def network(keras):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.layers.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3, activation="relu", name="conv"),
            keras.layers.BatchNormalization(momentum=0.5, name="norm"),
            keras.layers.Flatten(),
            keras.layers.Dense(3, name="scores"),
        ]
    )


def in_threads(*functions):
    """Run functions side by side, and raise what any of them raised."""
    errors = []

    def run(function):
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=[function]) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_several_threads_explain_one_model(keras, rng):
    model, x = network(keras), rng.normal(size=(20, 8, 8, 3)).astype("float32")
    questions = [{}, {"output_layer": "conv"}, {"wrt_layer": "norm"}, {"batch_size": 3}] * 2
    expected = [Saliency(model, **question)(x, 1).numpy() for question in questions]
    fresh = network(keras)
    fresh.set_weights(model.get_weights())
    found = {}

    def explain(number):
        for _ in range(3):
            found[number] = Saliency(fresh, **questions[number])(x, 1).numpy()

    before = trace_count()
    in_threads(*(lambda number=number: explain(number) for number in range(len(questions))))
    assert trace_count() == before + 3
    for number, maps in enumerate(expected):
        np.testing.assert_allclose(found[number], maps, rtol=1e-4, atol=1e-6)


def test_training_and_explaining_at_once(keras, rng):
    x = rng.normal(size=(32, 8, 8, 3)).astype("float32")
    y = rng.integers(0, 3, 32)

    def train(model):
        optimizer = keras.optimizers.SGD(0.05)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        for _ in range(30):
            with tf.GradientTape() as tape:
                value = loss(y, model(x, training=True))
            weights = model.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(value, weights), weights, strict=True))

    alone = network(keras)
    train(alone)

    model = network(keras)
    done = threading.Event()

    def train_and_tell():
        try:
            train(model)
        finally:
            done.set()

    def explain():
        # Each explainer asks another question, so that the model is traced again and again.
        number = 0
        while not done.is_set():
            number += 1
            Saliency(model, "norm", operator=lambda f, x, y: tf.reduce_mean(f(x), [1, 2, 3]))(x[:4])

    in_threads(train_and_tell, explain)
    for trained, expected in zip(model.variables, alone.variables, strict=True):
        np.testing.assert_allclose(np.array(trained), np.array(expected), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(Saliency(model)(x, 1), Saliency(alone)(x, 1), rtol=1e-3, atol=1e-4)
    assert all("call" not in vars(layer) for layer in model.layers)


def test_fit_while_explaining(keras, rng):
    x = rng.normal(size=(64, 8, 8, 3)).astype("float32")
    y = rng.integers(0, 3, 64)

    def fit(model):
        model.compile(
            keras.optimizers.SGD(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )
        model.fit(x, y, epochs=4, batch_size=16, shuffle=False, verbose=0)

    alone = network(keras)
    fit(alone)
    model = network(keras)
    done = threading.Event()

    def fit_and_tell():
        try:
            fit(model)
        finally:
            done.set()

    def explain():
        while not done.is_set():
            Saliency(model, "norm", operator=lambda f, x, y: tf.reduce_mean(f(x), [1, 2, 3]))(x[:4])

    in_threads(fit_and_tell, explain)
    for trained, expected in zip(model.variables, alone.variables, strict=True):
        np.testing.assert_allclose(np.array(trained), np.array(expected), rtol=1e-4, atol=1e-5)
