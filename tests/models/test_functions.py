"""Any function of tensors is a model: it gives what a plain tape gives, and is never stale."""

import functools
import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf
from reference import class_score, gradient, saliency

from xplique_sal import Saliency
from xplique_sal._tracing.programs import trace_count
from xplique_sal.attributions import GradCAM, GuidedBackprop, IntegratedGradients, Occlusion
from xplique_sal.errors import InvalidInputError, InvalidModelError, LayerNotFoundError


def preprocess(x):
    return x / 2.0 - 1.0


def classifier(keras):
    return keras.Sequential(
        [
            keras.layers.Input((6, 6, 2)),
            keras.layers.Conv2D(4, 3, name="conv"),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(max_value=3.0, name="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(3, name="scores"),
        ],
        name="classifier",
    )


def images(rng):
    return rng.normal(size=(4, 6, 6, 2)).astype("float32")


def assert_close(map_, expected, rtol=1e-4):
    scale = np.abs(expected).max()
    assert scale > 0
    np.testing.assert_allclose(map_, expected, rtol=rtol, atol=rtol * scale)


class Holder(tf.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def score(self, x):
        return self.model(preprocess(x))


class Plain:
    def __init__(self, model):
        self.models = {"one": [model]}

    def __call__(self, x):
        return self.models["one"][0](preprocess(x))


FORMS = {
    "lambda": lambda model: lambda x: model(preprocess(x)),
    "tf.function": lambda model: tf.function(lambda x: model(preprocess(x))),
    "concrete": lambda model: tf.function(lambda x: model(preprocess(x))).get_concrete_function(
        tf.TensorSpec([None, 6, 6, 2])
    ),
    "partial": lambda model: functools.partial(lambda model, x: model(preprocess(x)), model),
    "method": lambda model: Holder(model).score,
    "object": Plain,
    "default": lambda model: lambda x, model=model: model(preprocess(x)),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_function_is_traced_once_and_equals_a_tape(keras, rng, form):
    model, x, classes = classifier(keras), images(rng), np.array([0, 2, 1, 1])
    function = FORMS[form](model)
    expected = saliency(class_score(lambda x, training: model(preprocess(x)), classes), x)
    explainer = Saliency(function)
    before = trace_count()
    assert_close(explainer(x, classes), expected)
    assert_close(explainer(x[:3], classes[:3]), expected[:3])
    assert_close(Saliency(function, batch_size=3)(x, classes), expected)
    assert trace_count() == before + 1
    model.set_weights([2 * weight for weight in model.get_weights()])
    assert_close(
        explainer(x, classes),
        saliency(class_score(lambda x, training: model(preprocess(x)), classes), x),
    )
    assert trace_count() == before + 1


@pytest.mark.parametrize("form", [form for form in FORMS if form != "concrete"])
def test_a_model_that_changed_inside_a_function_is_seen(keras, rng, form):
    model, x = classifier(keras), images(rng)
    function = FORMS[form](model)
    if form == "tf.function":
        pytest.skip("TensorFlow itself keeps what it traced of a user's tf.function")
    explainer = Saliency(function)
    explainer(x, 1)
    model.layers[-1].activation = keras.activations.tanh
    assert_close(explainer(x, 1), saliency(lambda x: model(preprocess(x))[:, 1], x))


SCALE = [2.0]


def scaled(x):
    return tf.reduce_sum(x**2, 1) * SCALE[0]


def test_what_a_function_names_and_closes_over_is_seen(rng):
    x = rng.normal(size=(4, 3)).astype("float32")
    weight = np.ones(3, np.float32)
    explainer = Saliency(lambda x: scaled(x) + tf.reduce_sum(x * weight, 1), grad_modifier=None)
    for factor in (2.0, 3.0):
        SCALE[0] = factor
        for entry in (1.0, 5.0):
            weight[0] = entry
            np.testing.assert_allclose(explainer(x), 2 * factor * x + weight, rtol=1e-5)


def test_a_function_that_counts_its_calls_is_traced_once(rng):
    calls = []

    def counting(x):
        calls.append(1)
        return tf.reduce_sum(x**2, 1)

    x = rng.normal(size=(4, 3)).astype("float32")
    explainer = Saliency(counting)
    for _ in range(3):
        np.testing.assert_allclose(explainer(x), np.abs(2 * x), rtol=1e-6)
    assert len(calls) == 1


@pytest.mark.parametrize("form", FORMS)
def test_a_dropped_function_is_freed_with_what_it_holds(keras, rng, form):
    def explained():
        model = classifier(keras)
        function = FORMS[form](model)
        Saliency(function)(images(rng), 1)
        Occlusion(function)(images(rng), 1)
        return weakref.ref(model)

    reference = explained()
    gc.collect()
    assert reference() is None


def test_methods_reach_the_layers_of_the_model_in_a_function(keras, rng):
    model, x = classifier(keras), images(rng)
    function = lambda x: model(preprocess(x))  # noqa: E731
    inputs = keras.layers.Input((6, 6, 2))
    whole = keras.Model(inputs, model(keras.layers.Rescaling(0.5, -1.0)(inputs)))
    for method, options in (
        (GuidedBackprop, {}),
        (IntegratedGradients, {"steps": 5}),
        (Occlusion, {}),
    ):
        assert_close(method(function, **options)(x, 1), method(whole, **options)(x, 1))
    of_function, of_whole = GradCAM(function), GradCAM(whole)
    maps = of_function.explain_outputs(x)
    np.testing.assert_allclose(maps, of_whole.explain_outputs(x), rtol=1e-4, atol=1e-6)
    assert (of_function.conv_layer, of_whole.conv_layer) == ("relu", "classifier/relu")
    for path in ("conv", "model/conv", "classifier/conv", 0, model.layers[0]):
        maps = Saliency(function, output_layer=path)(x, 2)
        assert_close(maps, Saliency(whole, output_layer="classifier/conv")(x, 2))
    maps = Saliency(function, wrt_layer="relu", reducer=None)(x, 2)
    assert_close(maps, Saliency(model, wrt_layer="relu", reducer=None)(preprocess(x), 2))


def test_a_path_that_several_models_have_begins_with_what_holds_the_model(keras, rng):
    one, two, x = classifier(keras), classifier(keras), images(rng)
    function = lambda x: one(x) + two(x)  # noqa: E731
    with pytest.raises(LayerNotFoundError, match="'one/conv', 'two/conv'"):
        Saliency(function, output_layer="conv")
    with pytest.raises(LayerNotFoundError, match=r"'one/\.\.\.', 'two/\.\.\.'"):
        Saliency(function, output_layer=0)
    maps = Saliency(function, output_layer="two/conv")(x, 1)
    assert_close(maps, Saliency(two, output_layer="conv")(x, 1))
    with pytest.raises(InvalidModelError, match="made of Keras layers"):
        Saliency(lambda x: x, output_layer="conv")


def test_signatures_and_saved_models_without_a_call(keras, rng, tmp_path):
    inputs = keras.layers.Input((5,), name="rows")
    outputs = {
        "kind": keras.layers.Dense(3, name="kind")(inputs),
        "age": keras.layers.Dense(2, name="age")(inputs),
    }
    model, path = keras.Model({"rows": inputs}, outputs), str(tmp_path / "exported")
    if keras.__name__ == "keras":
        model.export(path)
    else:
        tf.saved_model.save(model, path)
    loaded = tf.saved_model.load(path)
    x = rng.normal(size=(4, 5))
    signature = loaded.signatures["serving_default"]
    signatures = tf.Module()
    signatures.loaded, signatures.run = loaded, signature
    tf.saved_model.save(signatures, path + "2", signatures={"only": signature})
    bare = tf.saved_model.load(path + "2")
    assert not callable(bare)
    for name, weights in ((name, model.get_layer(name).get_weights()[0]) for name in outputs):
        for run in (signature, bare):
            for given in (x, {"rows": x}):
                maps = Saliency(run, output=name)(given, 1)
                maps = maps["rows"] if isinstance(given, dict) else maps
                np.testing.assert_allclose(maps, np.tile(np.abs(weights[:, 1]), (4, 1)), rtol=1e-5)
        maps = Occlusion(signature, output=name, patch_size=1, patch_stride=1)(x, 1)
        np.testing.assert_allclose(maps, x * weights[:, 1], rtol=1e-4, atol=1e-5)
    with pytest.raises(InvalidModelError, match="`output=`, one of 'age', 'kind'"):
        Saliency(signature)(x, 1)


def test_black_boxes_compile_functions_of_tensors_and_call_others(keras, rng):
    model, x = classifier(keras), images(rng)
    expected = Occlusion(model)(preprocess(x), 1)
    shapes = []

    def seen(value):
        shapes.append(value)
        return value

    options = {"occlusion_value": 2.0}  # which `preprocess` makes 0
    compiled = Occlusion(lambda x: model(preprocess(seen(x))), **options)
    for _ in range(2):
        assert_close(compiled(x, 1), expected)
    assert [isinstance(value, tf.Tensor) for value in shapes] == [True]
    for function in (
        lambda x: np.asarray(model(preprocess(x))),
        lambda x: model(preprocess(x)).numpy(),
        lambda x: model.predict(preprocess(x), verbose=0),
        lambda x: model(preprocess(np.asarray(x).astype("float32"))),
    ):
        assert_close(Occlusion(function, **options)(x, 1), expected)


def test_a_keras_model_that_needs_values_is_for_black_boxes(keras, rng):
    class Eager(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(3)

        def call(self, x):
            return self.dense(x) * float(np.asarray(x).mean())

    model, x = Eager(), rng.uniform(size=(4, 5)).astype("float32")
    model(x)
    model.compile(run_eagerly=True)
    with pytest.raises(InvalidModelError, match="as NumPy does"):
        Saliency(model)(x, 1)
    maps = Occlusion(model, 1, patch_size=1, patch_stride=1)(x, 1)
    plain = lambda x: np.concatenate([model(row[None]) for row in x])  # noqa: E731
    np.testing.assert_allclose(
        maps, Occlusion(plain, patch_size=1, patch_stride=1)(x, 1), rtol=1e-4, atol=1e-6
    )


class Pair:
    @staticmethod
    def of(keras, named=False):
        class Multiplied(keras.Model):
            def __init__(self):
                super().__init__()
                self.dense = keras.layers.Dense(4, activation="tanh")
                self.out = keras.layers.Dense(1)

            def call(self, a, b):
                return self.out(self.dense(a) * self.dense(b))

        class Masked(Multiplied):
            def call(self, a, b=None):
                return super().call(a, a if b is None else b)

        return Masked() if named else Multiplied()


@pytest.mark.parametrize("built", [True, False])
def test_several_arguments_of_a_call(keras, rng, built):
    a, b = (rng.normal(size=(3, 5)).astype("float32") for _ in range(2))
    model = Pair.of(keras)
    if built:
        model(a, b)
    of_list = Saliency(model)([a, b])
    of_dict = Saliency(model)({"b": b, "a": a})
    np.testing.assert_allclose(of_list[0], np.abs(gradient(lambda a: model(a, b), a)), rtol=1e-4)
    np.testing.assert_allclose(of_list[1], np.abs(gradient(lambda b: model(a, b), b)), rtol=1e-4)
    np.testing.assert_array_equal(of_list[0], of_dict["a"])
    np.testing.assert_array_equal(of_list[1], of_dict["b"])
    with pytest.raises(InvalidModelError, match=r"'a', 'b'.*lambda x: model\(x, b="):
        Saliency(model)(a)


def test_an_argument_with_a_default(keras, rng):
    a, b = (rng.normal(size=(3, 5)).astype("float32") for _ in range(2))
    model = Pair.of(keras, named=True)
    model(a)
    np.testing.assert_allclose(
        Saliency(model)(a), np.abs(gradient(lambda a: model(a), a)), rtol=1e-4
    )
    maps = Saliency(model)({"a": a, "b": b})
    np.testing.assert_allclose(maps["b"], np.abs(gradient(lambda b: model(a, b), b)), rtol=1e-4)
    maps = Saliency(lambda a, b: model(a, b=b))([a, b])
    np.testing.assert_allclose(maps[1], np.abs(gradient(lambda b: model(a, b), b)), rtol=1e-4)


@pytest.mark.filterwarnings("ignore:Layer 'sequential.*passed an input with a mask:UserWarning")
def test_the_mask_of_an_input_is_not_lost(keras, rng):
    tokens = rng.integers(1, 20, (5, 7))
    tokens[:, 4:] = 0
    embedding = keras.layers.Embedding(20, 4, mask_zero=True)
    vectors = embedding(tokens)
    tail = keras.Sequential(
        [keras.layers.Input((7, 4)), keras.layers.LSTM(4), keras.layers.Dense(3)]
    )
    with pytest.raises(InvalidInputError, match=r"lambda x, mask: model\(x, mask=mask\)"):
        Saliency(tail)(vectors, 1)
    whole = keras.Sequential([keras.layers.Input((7,), dtype="int32"), embedding, *tail.layers])
    expected = Saliency(whole, wrt_layer=0)(tokens, 1)
    function = lambda x, mask: tail(x, mask=mask)  # noqa: E731
    maps = Saliency(function)([vectors.numpy(), tokens != 0], 1)
    assert_close(maps[0], expected)
    assert not np.any(maps[0][:, 4:])
    assert np.any(Saliency(tail)(vectors.numpy(), 1)[:, 4:])


def test_an_operator_of_ones_own_gets_all_outputs(keras, rng):
    inputs = keras.layers.Input((5,))
    outputs = {name: keras.layers.Dense(3, name=name)(inputs) for name in ("note", "onset")}
    model, x = keras.Model(inputs, outputs), rng.normal(size=(4, 5)).astype("float32")
    weights = {name: model.get_layer(name).get_weights()[0] for name in outputs}

    def both(f, x, y):
        return f(x)["note"][:, 0] + f(x)["onset"][:, 1]

    expected = weights["note"][:, 0] + weights["onset"][:, 1]
    for given in (model, lambda x: model(x)):
        maps = Saliency(given, operator=both, grad_modifier=None)(x)
        np.testing.assert_allclose(maps, np.tile(expected, (4, 1)), rtol=1e-5)
        maps = Occlusion(given, operator=both, patch_size=1, patch_stride=1)(x)
        np.testing.assert_allclose(maps, x * expected, rtol=1e-4, atol=1e-5)
    chosen = lambda f, x, y: f(x)[:, 0]  # noqa: E731
    maps = Saliency(model, output="note", operator=chosen, grad_modifier=None)(x)
    np.testing.assert_allclose(maps, np.tile(weights["note"][:, 0], (4, 1)), rtol=1e-5)


def test_layers_by_their_attributes_and_inside_a_users_tf_function(keras, rng):
    class Encoder(keras.layers.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.blocks = [keras.layers.Dense(4), keras.layers.Dense(4)]

        def call(self, x):
            return self.blocks[1](tf.tanh(self.blocks[0](x)))

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.encoder = Encoder()
            self.head = keras.layers.Dense(2)

        @tf.function
        def call(self, x):
            return self.head(tf.tanh(self.encoder(x)))

    model, x = Model(), rng.normal(size=(4, 5)).astype("float32")
    before = model(x).numpy()
    inner = model.encoder.blocks[0]
    for path in ("encoder.blocks.0", "encoder/blocks.0", inner):
        maps = Saliency(model, output_layer=path)(x, 1)
        np.testing.assert_allclose(
            maps, np.tile(np.abs(inner.get_weights()[0][:, 1]), (4, 1)), rtol=1e-5
        )
    maps = Saliency(model, wrt_layer="encoder")(x, 1)
    features = model.encoder(x)
    assert_close(maps, np.abs(gradient(lambda v: model.head(tf.tanh(v))[:, 1], features)))
    np.testing.assert_array_equal(model(x), before)


def test_an_input_layer_among_the_layers_that_are_differentiated_to(keras, rng):
    tokens = keras.layers.Input((6,), dtype="int32", name="tokens")
    numbers = keras.layers.Input((3,), name="numbers")
    vectors = keras.layers.Embedding(10, 4, name="words")(tokens)
    joined = keras.layers.Concatenate()([keras.layers.Flatten()(vectors), numbers])
    model = keras.Model([tokens, numbers], keras.layers.Dense(2, name="scores")(joined))
    given = [rng.integers(0, 10, (4, 6)), rng.normal(size=(4, 3)).astype("float32")]
    of_words, of_numbers = Saliency(model, wrt_layer=["words", "numbers"])(given, 1)
    weights = np.abs(model.get_layer("scores").get_weights()[0][:, 1])
    np.testing.assert_allclose(of_words, np.tile(weights[:24].reshape(6, 4), (4, 1, 1)), rtol=1e-5)
    np.testing.assert_allclose(of_numbers, np.tile(weights[24:], (4, 1)), rtol=1e-5)


def test_a_python_function_inside_a_model(rng):
    def squared(x):
        return tf.ensure_shape(tf.py_function(lambda x: x * x, [x], tf.float32), x.shape)

    x = rng.normal(size=(4, 5)).astype("float32")
    maps = Saliency(lambda x: tf.reduce_sum(squared(x), 1))(x)
    np.testing.assert_allclose(maps, np.abs(2 * x), rtol=1e-6)


@pytest.mark.filterwarnings("ignore:The gradient is zero:UserWarning")  # of rounding to integers
@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have a .quantize:UserWarning")
def test_layers_of_a_quantised_model(rng):
    import keras

    if not hasattr(keras.Model, "quantize"):
        pytest.skip("Keras quantises models since 3.4")
    model = keras.Sequential(
        [keras.layers.Input((6,)), keras.layers.Dense(8, "tanh", name="h"), keras.layers.Dense(3)]
    )
    x = rng.normal(size=(4, 6)).astype("float32")
    model.quantize("int8")
    _, scores = Saliency(model, output_layer="h").explain_with_scores(x, 1)
    np.testing.assert_allclose(scores, model.layers[0](x)[:, 1], rtol=1e-4, atol=1e-5)
    assert Saliency(model, wrt_layer="h")(x, 1).shape == (4, 8)
    assert "quantized_call" not in vars(model.layers[0])


def conv(model, x):
    return model.layers[0](x)[..., 1]


def test_a_sequential_model_that_was_built_by_a_call(keras, rng):
    model = keras.Sequential(
        [
            keras.layers.Conv2D(4, 3, activation="relu", name="conv"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2, name="scores"),
        ]
    )
    x = rng.normal(size=(4, 8, 8, 3)).astype("float32")
    maps = Saliency(model, wrt_layer="conv", reducer=None, grad_modifier=None)(x, 1)
    weights = model.get_layer("scores").get_weights()[0][:, 1]
    np.testing.assert_allclose(maps, np.broadcast_to(weights / 36, (4, 6, 6, 4)), rtol=1e-5)
    for _ in range(2):
        filters = Saliency(model, output_layer="conv")(x, 1)
        assert_close(filters, saliency(lambda x: tf.reduce_mean(conv(model, x), [1, 2]), x))
    assert GradCAM(model).explain(x, 1).shape == (4, 8, 8, 1)
