"""DeepLIFT and DeepSHAP: reference values, closed forms, sums that are the change of the score."""

import functools
import pathlib
import threading

import numpy as np
import pytest
import tensorflow as tf
from reference import built_once, class_score, gradient

from xplique_sal._tracing.programs import trace_count
from xplique_sal.attributions import DeepLift, GuidedBackprop, IntegratedGradients
from xplique_sal.errors import InvalidModelError, InvalidParameterError, NothingRewiredError

#: What captum 0.9 makes of a small network of convolutions and poolings: weights, inputs and maps.
GOLDEN = pathlib.Path(__file__).parents[1] / "models" / "propagation.npz"


def assert_close(actual, expected, tolerance=1e-5):
    expected = np.asarray(expected)
    assert np.shape(actual) == expected.shape and np.abs(expected).max() > 0
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def drawn(rng, *shape, dtype="float32"):
    return rng.normal(size=shape).astype("float32").astype(dtype)


@functools.cache
def golden():
    return dict(np.load(GOLDEN))


def golden_layers(keras):
    layers = keras.layers
    return [
        layers.Conv2D(6, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Conv2D(8, 3, activation="relu"),
        layers.AveragePooling2D(2),
        layers.Flatten(),
        layers.Dense(12, activation="relu"),
        layers.Dense(5),
    ]


@built_once
def golden_network(keras, kind="flat"):
    layers = golden_layers(keras)
    if kind == "flat":
        model = keras.Sequential([keras.layers.Input((18, 18, 3)), *layers])
    elif kind == "nested":
        inner = keras.Sequential([keras.layers.Input((18, 18, 3)), *layers[:4]])
        x = keras.layers.Input((18, 18, 3))
        y = inner(x)
        for layer in layers[4:]:
            y = layer(y)
        model = keras.Model(x, y)
    else:

        class Subclassed(keras.Model):
            def __init__(self):
                super().__init__()
                self.parts = layers

            def call(self, x):
                for layer in self.parts:
                    x = layer(x)
                return x

        model = Subclassed()
        model(np.zeros((1, 18, 18, 3), "float32"))
    model.set_weights([golden()[name] for name in ("k1", "b1", "k2", "b2", "kd", "bd", "ko", "bo")])
    return model


@pytest.mark.parametrize("kind", ["flat", "nested", "subclassed"])
def test_reference_values(keras, kind):
    """Those to `base` leave the gradient of max pooling as it is, and so do not add up."""
    model, data = golden_network(keras, kind), golden()
    x, y, base = data["x"], data["c"], data["base"]
    assert_close(model(x), data["logits"], 1e-5)
    assert_close(DeepLift(model, reducer=None).explain(x, y), data["deeplift_zero"], 1e-4)
    as_captum = DeepLift(model, reducer=None, baseline_value=base, max_pooling="gradient")
    maps, gaps, _ = as_captum.explain_with_gaps(x, y)
    assert_close(maps, data["deeplift_base"], 1e-4)
    assert np.abs(gaps).max() > 0.1
    if kind != "flat":
        return
    exact = DeepLift(model, reducer=None, baseline_value=base)
    maps, gaps, changes = exact.explain_with_gaps(x, y)
    scores = lambda z: model(z).numpy()[:, y]  # noqa: E731
    np.testing.assert_allclose(changes, (scores(x) - scores(base)).diagonal(), atol=1e-5)
    assert np.abs(gaps).max() < 1e-5
    assert_close(tf.reduce_sum(maps, [1, 2, 3]), changes)
    for batch_size in (1, 3, None):
        assert_close(DeepLift(model, None, batch_size, None, None, baseline_value=base)(x, y), maps)


def test_a_linear_model_in_closed_form(keras, rng):
    model = keras.Sequential([keras.layers.Input((5,)), keras.layers.Dense(3)])
    x, references = drawn(rng, 6, 5), drawn(rng, 4, 5)
    kernel = model.layers[-1].get_weights()[0][:, 1]
    found = DeepLift(model, baseline_value=references).explain(x, 1)
    assert_close(found, (x - references.mean(0)) * kernel)


@built_once
def network(keras):
    x = keras.layers.Input((5,))
    twice = keras.layers.Dense(5, activation="tanh")  # a module that is used twice
    return keras.Model(x, keras.layers.Dense(3)(twice(twice(x))))


@pytest.mark.parametrize("activation", ["softplus", "tanh", "sigmoid", "elu", "gelu"])
def test_of_one_nonlinearity_it_is_integrated_gradients(keras, rng, activation):
    layers = [keras.layers.Input((5,)), keras.layers.Dense(1, activation=activation)]
    model, x = keras.Sequential(layers), drawn(rng, 6, 5)
    options = {"baseline_value": drawn(rng, 5)}
    expected = IntegratedGradients(model, steps=2000, **options).explain(x)
    assert_close(DeepLift(model, **options).explain(x), expected, 2e-3)


def test_several_baselines_are_the_mean_of_each(keras, rng):
    model, x, references = network.anew(keras), drawn(rng, 6, 5), drawn(rng, 3, 5)
    each = [DeepLift(model, baseline_value=one).explain(x, 1) for one in references]
    before = trace_count()
    maps = DeepLift(model, baseline_value=references).explain(x, 1)
    assert_close(maps, np.mean(each, 0))
    assert_close(each[0], DeepLift(model, baseline_value=references[:1]).explain(x, 1))
    # Of a function, each sample has its own: once as rows of all, once as a row each.
    known = tf.constant(references)
    by_function = DeepLift(
        model, baseline_value=lambda z: tf.stack([known] * 1, 0) + 0 * z[:, None]
    )
    for batch_size in (2, 64):
        again = DeepLift(model, None, batch_size, baseline_value=by_function.baseline_value)
        assert_close(again.explain(x, 1), maps)
    outputs = DeepLift(model, baseline_value=references).explain_outputs(x)
    assert_close(outputs[:, 1], maps)
    assert_close(DeepLift(model, baseline_value=references)(x, np.eye(3)[[1] * 6]), maps)
    assert trace_count() <= before + 6


@pytest.mark.parametrize("size", [2, 3, 5, 64])
def test_whichever_are_fewer_are_looped_over(keras, rng, size):
    """Samples, or baselines: with poolings, and a baseline of which all maxima are ties."""
    model, x = golden_network(keras), golden()["x"]
    x = np.concatenate([x, drawn(rng, 7 - len(x), *x.shape[1:])])
    references = np.concatenate([np.zeros_like(x[:1]), drawn(rng, 2, *x.shape[1:])])
    each = [DeepLift(model, baseline_value=one).explain_outputs(x) for one in references]
    expected = np.mean(each, 0)
    explainer = DeepLift(model, None, size, baseline_value=references)
    assert_close(explainer.explain_outputs(x), expected)
    classes = np.arange(7) % 5
    maps, gaps, changes = explainer.explain_with_gaps(x, classes)
    assert_close(maps, expected[np.arange(7), classes])
    np.testing.assert_allclose(gaps, 0, atol=1e-4 * np.abs(changes).max())


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_overlapping_maxima_are_those_of_volumes(keras, rng, padding):
    """In volumes, maxima are led back by TensorFlow's own derivatives."""
    layers = keras.layers
    flat = [layers.MaxPooling2D(3, strides=2, padding=padding), layers.Flatten()]
    deep = [layers.MaxPooling3D((1, 3, 3), (1, 2, 2), padding), layers.Flatten()]
    x, reference = drawn(rng, 4, 7, 6, 2), drawn(rng, 7, 6, 2)
    images = keras.Sequential([layers.Input((7, 6, 2)), *flat])
    volumes = keras.Sequential([layers.Input((1, 7, 6, 2)), *deep])
    weights = drawn(rng, *images.output_shape[1:])
    found = [
        DeepLift(model, reducer=None, baseline_value=baselines, operator=weighted(weights))(data)
        for model, baselines, data in (
            (images, reference, x),
            (volumes, reference[None], x[:, None]),
        )
    ]
    assert_close(found[0], found[1][:, 0])


def weighted(weights):
    return lambda f, x, y: tf.reduce_sum(f(x) * weights, -1)


@pytest.mark.parametrize("mixed", [False, True], ids=["alone", "among others"])
def test_a_map_does_not_depend_on_the_batch(keras, rng, mixed):
    model, x, references = network(keras), drawn(rng, 6, 5), drawn(rng, 3, 5)
    maps = DeepLift(model, baseline_value=references).explain(x, 1)
    some = slice(2, 3) if not mixed else slice(None, None, -1)
    assert_close(DeepLift(model, baseline_value=references)(x[some], 1), maps.numpy()[some], 1e-6)


def gated(keras):
    """A gate of squeezed features, swish and max pooling."""
    layers, x = keras.layers, keras.layers.Input((6, 6, 3))
    h = layers.Conv2D(4, 3, activation="swish")(x)
    gate = layers.Conv2D(4, 1, activation="sigmoid")(
        layers.GlobalAveragePooling2D(keepdims=True)(h)
    )
    h = layers.MaxPooling2D(2, strides=1)(layers.Multiply()([h, gate]))
    return keras.Model(x, layers.Dense(3)(layers.Flatten()(h)))


def attention(keras):
    layers, x = keras.layers, keras.layers.Input((4, 6))
    h = layers.Add()([x, layers.MultiHeadAttention(2, 3)(x, x)])
    h = layers.Dense(6, activation="gelu")(layers.LayerNormalization()(h))
    return keras.Model(x, layers.Dense(3)(layers.GlobalMaxPooling1D()(h)))


def recurrent(keras, name):
    layers = keras.layers
    return keras.Sequential([layers.Input((4, 3)), getattr(layers, name)(3), layers.Dense(3)])


MODELS = {
    "gates": gated,
    "attention": attention,
    "LSTM": lambda keras: recurrent(keras, "LSTM"),
    "GRU": lambda keras: recurrent(keras, "GRU"),
    "softmax": lambda keras: keras.Sequential(
        [keras.layers.Input((5,)), keras.layers.Dense(4, activation="softmax")]
    ),
}


@pytest.mark.parametrize("kind", MODELS)
def test_contributions_add_up_to_the_change_of_the_score(keras, rng, kind):
    """In the precision of the model: of tf-keras that is float64, where nothing is left."""
    double = keras.__name__ == "tf_keras"
    before = keras.backend.floatx()
    keras.backend.set_floatx("float64" if double else before)
    try:
        model = MODELS[kind](keras)
    finally:
        keras.backend.set_floatx(before)
    shape, dtype = model.input_shape[1:], tf.as_dtype(model.inputs[0].dtype).as_numpy_dtype
    x, references = drawn(rng, 3, *shape, dtype=dtype), drawn(rng, 2, *shape)
    explainer = DeepLift(model, reducer=None, baseline_value=references)
    with pytest.warns(UserWarning) if kind == "softmax" else _nothing():
        maps, gaps, changes = explainer.explain_with_gaps(x, 1)
    expected = model(x).numpy()[:, 1] - model(references.astype(dtype)).numpy()[:, 1].mean()
    np.testing.assert_allclose(changes, expected, rtol=1e-4, atol=1e-6)
    assert np.abs(changes).max() > 1e-3
    assert np.abs(gaps).max() < (1e-12 if double else 1e-6)
    assert_close(maps.numpy().reshape(3, -1).sum(1), changes, 1e-4)


class _nothing:
    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None


def test_words_by_their_embedding(keras, rng):
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((4,), dtype="int32"),
            layers.Embedding(9, 3, name="words"),
            layers.GlobalMaxPooling1D(),
            layers.Dense(3, activation="tanh"),
        ]
    )
    tokens, table = rng.integers(1, 9, (5, 4)), model.layers[0].get_weights()[0]
    for baseline, count in ((table[0], 1), (drawn(rng, 4, 3), 1), (drawn(rng, 2, 4, 3), 2)):
        explainer = DeepLift(model, wrt_layer="words", baseline_value=baseline)
        maps, gaps, changes = explainer.explain_with_gaps(tokens, 1)
        assert maps.shape == (5, 4, 3) and np.abs(gaps).max() < 1e-6 < np.abs(changes).max()
        rows = np.broadcast_to(baseline, (count, 4, 3)).astype("float32")
        at = tf.tanh(rows.max(1) @ model.layers[2].get_weights()[0])[:, 1]
        np.testing.assert_allclose(
            changes, model(tokens).numpy()[:, 1] - at.numpy().mean(), atol=1e-6
        )


def test_maxima_go_to_where_they_are(keras):
    """The numbers of captum's own test of max pooling."""
    layers = [keras.layers.Input((2, 4, 1)), keras.layers.GlobalMaxPooling2D()]
    model, x = keras.Sequential(layers), np.ones((1, 2, 4, 1), "float32")
    reference = np.array([[1, 2, 3, 9], [4, 8, 6, 7]], "float32")[..., None]
    maps = DeepLift(model, reducer=None, baseline_value=reference).explain(x)
    assert_close(maps[0, ..., 0], [[0, 0, 0, -8], [0, 0, 0, 0]])
    pooled = keras.Sequential([layers[0], keras.layers.MaxPooling2D(2), keras.layers.Flatten()])
    weights = np.ones((1, 2), "float32")
    maps = DeepLift(pooled, reducer=None, baseline_value=reference).explain(x, weights)
    assert_close(maps[0, ..., 0], [[0, 0, 0, -8], [0, -7, 0, 0]])


def product(f, x, y):
    """Return a score that is not linear in f(x), and sees x itself."""
    scores = f(x)
    return scores[:, 0] * scores[:, 1] + tf.reduce_sum(x**2, 1)


def test_an_operator_is_followed_too(keras, rng):
    model, x, references = network(keras), drawn(rng, 4, 5), drawn(rng, 2, 5)
    explainer = DeepLift(model, operator=product, baseline_value=references, batch_size=2)
    maps, gaps, changes = explainer.explain_with_gaps(x)
    at = lambda z: product(model, tf.constant(z), None).numpy()  # noqa: E731
    np.testing.assert_allclose(changes, at(x) - at(references).mean(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(maps.numpy().sum(1), changes, rtol=1e-4, atol=1e-5)
    assert np.abs(gaps).max() < 1e-5


def held(x):
    return tf.reduce_sum(tf.stop_gradient(x) * x, 1, keepdims=True)


def test_what_is_not_followed_is_told(keras, rng):
    def stepped(x):
        return tf.reduce_sum(x * tf.cast(x > 0.1, x.dtype), 1, keepdims=True)

    x = drawn(rng, 4, 5)
    with pytest.raises(NothingRewiredError, match="in jumps"):
        DeepLift(stepped).explain(x)
    sort = keras.layers.Lambda(
        lambda x: tf.math.top_k(x, 3).values, name="sorted", output_shape=(3,)
    )
    with pytest.raises(NothingRewiredError, match=r"TopKV2.*in the layer 'sorted'"):
        DeepLift(keras.Sequential([keras.layers.Input((5,)), sort])).explain(x, 1)
    with pytest.raises(NothingRewiredError, match="in jumps"):
        DeepLift(held).explain(x)
    with tf.GradientTape() as tape:  # f itself has its derivative
        tape.watch(z := tf.constant(x))
        score = tf.reduce_sum(DeepLift(network(keras)).model(z)[:, 1])
    assert_close(tape.gradient(score, z), gradient(class_score(network(keras), [1] * 4), x))
    model = network(keras)
    fixed = lambda x: tf.reshape(model(x), [int(x.shape[0]), 3])  # noqa: E731
    with pytest.raises(InvalidModelError, match="any number of samples"):
        DeepLift(fixed).explain(x, 1)
    for wrong in ("black", np.nan, np.zeros(4), np.zeros((2, 4))):
        with pytest.raises(InvalidParameterError, match="baseline_value"):
            DeepLift(network(keras), baseline_value=wrong).explain(x, 1)
    with pytest.raises(InvalidParameterError, match="max_pooling"):
        DeepLift(network(keras), max_pooling="plain")


def test_rules_of_two_threads_are_their_own(keras, rng):
    """Two rule sets on one model at the same time: none sees the other's, nothing traced twice."""
    layers = [keras.layers.Dense(6, activation="relu", bias_initializer="ones")]
    model = keras.Sequential([keras.layers.Input((5,)), *layers, keras.layers.Dense(3)])
    x, found = drawn(rng, 4, 5), {}
    makes = {"deep": DeepLift, "guided": GuidedBackprop}

    def explain(name):
        found[name] = makes[name](model, reducer=None).explain(x, 1)

    before = trace_count()
    threads = [threading.Thread(target=explain, args=(name,)) for name in makes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert trace_count() == before + 2
    for name in makes:
        assert_close(found[name], makes[name](model, reducer=None).explain(x, 1), 1e-7)
    assert trace_count() == before + 2
    assert np.abs(found["deep"] - found["guided"] * x).max() > 1e-3
