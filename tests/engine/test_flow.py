"""The way of a batch is short, looks up its program once a call, and leaves what it reads."""

import inspect
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from reference import saliency

import xplique_sal
from xplique_sal import Occlusion, Saliency
from xplique_sal._data.samples import Samples
from xplique_sal._tracing import programs
from xplique_sal.attributions.base import WhiteBoxExplainer

PACKAGE = str(pathlib.Path(xplique_sal.__file__).parent)
#: One more would be one too many to keep in mind.
MOST_FRAMES = 13
SMALL, LARGE = (4,), (40, 40, 3)  # looped over inside the graph, and not


def network(keras, shape=SMALL):
    layers = keras.layers
    return keras.Sequential(
        [layers.Input(shape), layers.Flatten(), layers.Dense(5, activation="tanh"), layers.Dense(3)]
    )


def samples(rng, shape=SMALL, count=7):
    return rng.normal(size=(count, *shape)).astype("float32"), np.arange(count) % 3


def frames():
    """Return the functions of the package that are being run, from the outermost."""
    stack = reversed(inspect.stack())
    return [frame.function for frame in stack if frame.filename.startswith(PACKAGE)]


@pytest.mark.parametrize("shape", [SMALL, LARGE])
def test_few_frames_from_explain_to_the_tape(keras, rng, shape):
    seen = {}

    @tf.custom_gradient
    def probe(scores):
        def gradient(upstream):
            seen["gradient"] = frames()
            return upstream

        return scores, gradient

    def operator(f, x, y):
        seen["operator"] = frames()
        return probe(tf.gather(f(x), y, batch_dims=1))

    x, y = samples(rng, shape)
    Saliency(network(keras, shape), operator=operator).explain(x, y)
    for stack in seen.values():
        assert stack[0] == "explain"
        assert len(stack) <= MOST_FRAMES, stack
    assert seen["gradient"][-1] == "gradients"


@pytest.mark.parametrize("explainer", [Saliency, Occlusion])
def test_a_program_is_looked_up_once_a_call(keras, rng, monkeypatch, explainer):
    model, (x, y) = network(keras), samples(rng)
    explainer = explainer(model, batch_size=2)
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(2)
    explainer.explain(dataset)
    asked = []
    compiled = programs.compiled

    def counted(*args):
        asked.append(args)
        return compiled(*args)

    monkeypatch.setattr(programs, "compiled", counted)
    explainer.explain(dataset)  # in four batches, of seven patches each
    assert len(asked) == 1


def change(model):
    model.layers[1].activation = tf.nn.relu


def test_a_change_between_two_calls_is_noticed(keras, rng):
    model, (x, y) = network(keras), samples(rng)
    explainer = Saliency(model)
    before = explainer.explain(x, y)
    change(model)
    after = explainer.explain(x, y)
    expected = saliency(lambda inputs: tf.gather(model(inputs), y, batch_dims=1), x)
    np.testing.assert_allclose(after, expected, atol=1e-6)
    assert np.abs(before - after).max() > 1e-3


def test_a_change_between_two_batches_is_noticed(keras, rng):
    model, (x, y) = network(keras), samples(rng, count=4)
    batches = Saliency(model, batch_size=2).iter_explain(x, y)
    next(batches)
    change(model)
    expected = saliency(lambda inputs: tf.gather(model(inputs), y[2:], batch_dims=1), x[2:])
    np.testing.assert_allclose(next(batches), expected, atol=1e-6)


def test_samples_are_left_as_they_were_read(keras, rng, monkeypatch):
    model, (x, y) = network(keras), samples(rng)
    explainer = Saliency(model, batch_size=2)
    request = explainer._request(x, y)
    public = {n: v for n, v in vars(request.samples).items() if not n.startswith("_")}
    request.with_scores = True
    assert [*explainer._results(request, 2)]
    after = {n: v for n, v in vars(request.samples).items() if not n.startswith("_")}
    assert after == public
    assert isinstance(request.samples, Samples)


class Halves(WhiteBoxExplainer):
    """The mean of the gradients at the sample and at half of it."""

    def explain_batch(self, score, inputs, targets):
        there = super().explain_batch(score, inputs, targets)
        return (there + super().explain_batch(score, inputs / 2, targets)) / 2


@pytest.mark.parametrize("targets", [True, False])
def test_a_white_box_of_ones_own(keras, rng, targets):
    model, (x, y) = network(keras), samples(rng)
    chosen = y if targets else np.argmax(model(x), 1)
    explainer = Halves(model, batch_size=3)
    plain = WhiteBoxExplainer(model)
    expected = (plain.explain(x, chosen) + plain.explain(x / 2, chosen)) / 2
    maps, scores = explainer.explain_with_scores(x, y if targets else None)
    np.testing.assert_allclose(maps, expected, atol=1e-6)
    np.testing.assert_allclose(scores, np.asarray(model(x))[range(7), chosen], atol=1e-6)
    several = explainer.explain_outputs(x, [2, 0])
    np.testing.assert_allclose(several[:, 0], explainer.explain(x, 2), atol=1e-6)
