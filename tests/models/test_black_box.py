"""A method that needs only a model's outputs gets everything else from the base."""

import numpy as np
import pytest
import tensorflow as tf
from reference import central_differences

from xplique_sal.attributions import Occlusion, Rise
from xplique_sal.attributions.base import BlackBoxExplainer
from xplique_sal.errors import (
    InvalidInputError,
    InvalidModelError,
    InvalidParameterError,
    InvalidTargetError,
)


class CentralDifferences(BlackBoxExplainer):
    """The gradient by differences: the smallest method there is."""

    def explain_batch(self, score, inputs, targets):
        return central_differences(score, np.asarray(inputs, np.float64), step=1e-2)


def network(keras):
    return keras.Sequential(
        [
            keras.layers.Input((4,)),
            keras.layers.Dense(5, activation="tanh"),
            keras.layers.Dense(3),
        ]
    )


def rows(rng):
    return rng.normal(size=(7, 4)).astype("float32"), rng.integers(0, 3, 7)


def assert_close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=2e-3)


def test_a_method_for_keras_models(keras, rng):
    model, (x, y) = network(keras), rows(rng)
    explainer = CentralDifferences(model, 3)
    with tf.GradientTape() as tape:
        tensor = tf.constant(x)
        tape.watch(tensor)
        score = tf.gather(model(tensor), y, batch_dims=1)
    expected = tape.gradient(score, tensor)
    assert_close(explainer(x, y), expected)
    assert_close(explainer(tf.data.Dataset.from_tensor_slices((x, y)).batch(2)), expected)
    assert_close(np.concatenate(list(explainer.iter_explain(x, y))), expected)
    np.testing.assert_allclose(explainer.explain_with_scores(x, y)[1], score, rtol=1e-4, atol=1e-5)


def test_several_outputs(keras, rng):
    model, (x, _) = network(keras), rows(rng)
    explainer = CentralDifferences(model, 3)
    maps = explainer.explain_outputs(x)
    assert maps.shape == (7, 3, 4)
    for output in range(3):
        assert_close(maps[:, output], explainer(x, output))
    assert_close(explainer.explain_outputs(x, [2, 0]), np.stack([maps[:, 2], maps[:, 0]], 1))


def test_any_callable_is_a_model(rng):
    x, y = rows(rng)
    weights = rng.normal(size=(4, 3)).astype("float32")
    explainer = CentralDifferences(lambda x: np.asarray(x) @ weights)
    assert_close(explainer(x, y), weights.T[y])


def test_what_cannot_be_called_is_no_model():
    with pytest.raises(InvalidModelError, match="callable"):
        CentralDifferences(3)


def breast_cancer(count):
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    return x[:count], y[:count]


@pytest.mark.parametrize("name", ["RandomForestClassifier", "GradientBoostingClassifier"])
def test_ensembles_of_trees(name):
    from sklearn import ensemble

    x, y = breast_cancer(300)
    forest = getattr(ensemble, name)(n_estimators=10, random_state=0).fit(x, y)
    rows, labels = x[:6], y[:6]
    means = x.mean(0)
    explainer = Occlusion(forest, 50, None, 1, 1, means)
    maps, scores = explainer.explain_with_scores(rows, labels)
    of_class = lambda rows: forest.predict_proba(rows)[np.arange(6), labels]  # noqa: E731
    expected = np.zeros((6, 30))
    for feature in range(30):
        replaced = rows.copy()
        replaced[:, feature] = means[feature]
        expected[:, feature] = of_class(rows) - of_class(replaced)
    assert np.abs(expected).max() > 0.05
    np.testing.assert_allclose(scores, of_class(rows), rtol=1e-6)
    np.testing.assert_allclose(maps, expected, atol=1e-6)
    both = explainer.explain_outputs(rows)
    np.testing.assert_allclose(both[:, 0], -both[:, 1], atol=1e-6)  # two probabilities add up to 1

    seen = []

    def noting(rows):
        seen.append(rows)
        return forest.predict_proba(rows)

    options = {"nb_samples": 100, "mask_value": means, "seed": 0}
    maps = Rise(forest, 64, **options)(rows, labels)
    np.testing.assert_allclose(Rise(noting, 64, **options)(rows, labels), maps, atol=1e-6)
    masked = np.concatenate(seen[1:]).reshape(100, 6, 30)
    kept = (masked[:, 0] != means).astype(float)
    scores = np.stack([of_class(rows) for rows in masked])
    expected = np.einsum("kn,kj->nj", scores, kept) / (kept.sum(0) + 1e-4)
    np.testing.assert_allclose(maps, expected, atol=1e-5)


def test_regressors_have_one_output(rng):
    from sklearn.linear_model import LinearRegression

    x = rng.normal(size=(50, 4))
    model = LinearRegression().fit(x, x @ [1.0, -2.0, 0.5, 3.0] + 4)
    for targets in (None, 0, np.ones((50, 1))):
        maps = Occlusion(model, 16, None, 1, 1)(x, targets)
        np.testing.assert_allclose(maps, x * [1.0, -2.0, 0.5, 3.0], atol=1e-5)
    assert Occlusion(model).explain_outputs(x).shape == (50, 1, 4)
    with pytest.raises(InvalidTargetError, match="targets=None"):
        Occlusion(model)(x, 1)


class Boosted:
    """As XGBoost's and LightGBM's models are: not callable, float32, no class of scikit-learn."""

    def __init__(self, weights):
        self._weights = np.asarray(weights, "float32")

    def predict(self, rows):
        assert type(rows) is np.ndarray
        return rows.astype("float32") @ self._weights


class WithProbabilities(Boosted):
    def predict_proba(self, rows):
        return np.stack([-super().predict(rows), super().predict(rows)], axis=1)

    def predict(self, rows):
        raise AssertionError("the probabilities are preferred")


class Labelling(Boosted):
    def predict(self, rows):
        return super().predict(rows) > 0


def test_probabilities_then_a_call_then_predictions(rng):
    x, weights = rng.normal(size=(5, 4)), rng.normal(size=4)
    expected = x * weights
    np.testing.assert_allclose(Occlusion(Boosted(weights), 3, None, 1, 1)(x), expected, atol=1e-5)
    maps = Occlusion(WithProbabilities(weights), 3, None, 1, 1)(x, 1)
    np.testing.assert_allclose(maps, expected, atol=1e-5)

    class Called(Boosted):
        def __call__(self, rows):
            return 2 * rows @ weights

    maps = Occlusion(Called(weights), 3, None, 1, 1)(x)
    np.testing.assert_allclose(maps, 2 * expected, atol=1e-5)


def test_labels_are_no_scores(rng):
    from sklearn.svm import LinearSVC

    x = rng.normal(size=(20, 4))
    model = LinearSVC().fit(x, x[:, 0] > 0)
    with pytest.raises(InvalidModelError, match="decision_function"):
        Occlusion(model)
    maps = Occlusion(model.decision_function, 64, None, 1, 1)(x)
    np.testing.assert_allclose(maps, x * model.coef_, atol=1e-5)
    with pytest.raises(InvalidModelError, match="labels"):
        Occlusion(Labelling(np.ones(4)))(x)
    with pytest.raises(InvalidModelError, match="string"):
        Occlusion(lambda rows: np.array(["cat"] * len(rows)))(x)


def test_a_function_gets_arrays_in_the_precision_that_they_came_in(rng):
    seen = set()

    def f(rows):
        seen.add((type(rows), rows.dtype.name))
        return rows.sum(1)

    for dtype in ("float64", "float32", "int64"):
        Occlusion(f)(rng.normal(size=(3, 4)).astype(dtype))
    Occlusion(f)(tf.constant(rng.normal(size=(3, 4))))
    assert seen == {(np.ndarray, name) for name in ("float64", "float32", "int64")}
    # The difference of large float64 scores would be lost in float32.
    maps = Occlusion(lambda rows: 1e9 + rows.sum(1), 64, None, 1, 1)(np.full((2, 3), 0.125))
    np.testing.assert_allclose(maps, np.full((2, 3), 0.125))


@pytest.mark.parametrize(
    "output, message",
    [
        (lambda x: [np.zeros((len(x), 2)), np.zeros((len(x), 3))], "`output=`, one of 0 to 1"),
        (lambda x: {"a": np.zeros(len(x)), "b": np.zeros(len(x))}, "`output=`, one of 'a', 'b'"),
        (lambda x: np.zeros((2, len(x))), "one row of outputs"),
        (lambda x: 1.0, "one row of outputs"),
        (lambda x: None, "numbers"),
        (lambda x: np.array([None] * len(x)), "numbers"),
    ],
)
def test_functions_that_return_something_else(rng, output, message):
    with pytest.raises(InvalidModelError, match=message):
        Occlusion(output)(rng.normal(size=(5, 4)))


@pytest.mark.parametrize("model", [3, None, "model", Boosted, tf.Module()])
def test_what_is_no_model(model):
    with pytest.raises(InvalidModelError):
        Rise(model)


def test_modules_are_compiled_and_several_outputs_are_refused(keras, rng):
    x = rng.normal(size=(5, 4)).astype("float32")

    class Doubling(tf.Module):
        def __init__(self):
            super().__init__()
            self.weight = tf.Variable(2.0)

        def __call__(self, x):
            return self.weight * x

    np.testing.assert_allclose(Occlusion(Doubling(), 3, None, 1, 1)(x, 2)[:, 2], 2 * x[:, 2])
    inputs = keras.layers.Input((4,))
    both = keras.Model(inputs, [keras.layers.Dense(2)(inputs), keras.layers.Dense(3)(inputs)])
    with pytest.raises(InvalidModelError, match="2 outputs"):
        Occlusion(both)(x, 1)
    maps = Occlusion(lambda x: both(x)[1], 64, None, 1, 1)(x, 1)
    weights = both.layers[-1].get_weights()[0]
    np.testing.assert_allclose(maps, x * weights[:, 1], atol=1e-5)


def test_the_model_runs_as_at_inference(keras, rng):
    x = rng.normal(size=(5, 4)).astype("float32")
    model = keras.Sequential(
        [
            keras.layers.Input((4,)),
            keras.layers.Dropout(0.5),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(1, use_bias=False),
        ]
    )
    weights = model.get_weights()
    maps = Occlusion(model, 3, None, 1, 1)(x)
    expected = x * model.layers[-1].get_weights()[0][:, 0] / np.sqrt(1.001)
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-6)
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def interpreter_of(keras_model, **options):
    converter = tf.lite.TFLiteConverter.from_keras_model(keras_model)
    for name, value in options.items():
        setattr(converter, name, value)
    return tf.lite.Interpreter(model_content=converter.convert())


lite = pytest.mark.filterwarnings(
    r"ignore:\s*Warning. tf.lite.Interpreter is deprecated:UserWarning",
    "ignore:Statistics for quantized inputs were expected:UserWarning",
)


def small_model():
    import tf_keras as keras

    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.layers.Input((6, 6, 2)),
            keras.layers.Conv2D(3, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(4),
        ]
    )


def output_of(interpreter):
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


@lite
def test_tflite_interpreters_take_any_number_of_samples(rng):
    model = small_model()
    x, y = rng.normal(size=(5, 6, 6, 2)).astype("float32"), rng.integers(0, 4, 5)
    interpreter = interpreter_of(model)
    options = {"patch_size": 2, "patch_stride": 2}
    expected = Occlusion(model, **options)(x, y)
    for batch_size in (1, 3, 64):
        maps = Occlusion(interpreter, batch_size, **options)(x, y)
        np.testing.assert_allclose(maps, expected, atol=1e-5)
    # An interpreter that its user has at work is given back as it was.
    (detail,) = interpreter.get_input_details()
    interpreter.resize_tensor_input(detail["index"], [2, 6, 6, 2])
    interpreter.allocate_tensors()
    interpreter.set_tensor(detail["index"], x[:2])
    interpreter.invoke()
    before = output_of(interpreter)
    np.testing.assert_allclose(
        Rise(interpreter, 7, nb_samples=20, seed=0)(x),
        Rise(model, 7, nb_samples=20, seed=0)(x),
        atol=1e-5,
    )
    assert tuple(interpreter.get_input_details()[0]["shape"]) == (2, 6, 6, 2)
    np.testing.assert_array_equal(interpreter.get_tensor(detail["index"]), x[:2])
    np.testing.assert_array_equal(output_of(interpreter), before)
    for wrong in (x[:, :5], x[..., 0], [x, x], {"x": x}):
        with pytest.raises(InvalidInputError):
            Occlusion(interpreter)(wrong, y)
    assert tuple(interpreter.get_input_details()[0]["shape"]) == (2, 6, 6, 2)


@lite
def test_a_tflite_interpreter_runs_once_for_each_batch(rng, monkeypatch):
    interpreter, x = interpreter_of(small_model()), rng.normal(size=(5, 6, 6, 2)).astype("float32")
    runs, invoke = [], interpreter.invoke
    monkeypatch.setattr(interpreter, "invoke", lambda: runs.append(1) or invoke())
    Occlusion(interpreter, patch_size=6, patch_stride=6)(x, 1)
    assert len(runs) == 2  # the samples, and their one masked copy each


@lite
def test_a_tflite_model_of_a_fixed_batch(rng):
    model = small_model()
    x = rng.normal(size=(5, 6, 6, 2)).astype("float32")
    function = tf.function(lambda x: model(x, training=False))
    for size in (1, 2):
        concrete = function.get_concrete_function(tf.TensorSpec([size, 6, 6, 2]))
        converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], model)
        interpreter = tf.lite.Interpreter(model_content=converter.convert())
        np.testing.assert_allclose(Occlusion(interpreter)(x, 1), Occlusion(model)(x, 1), atol=1e-5)
        assert interpreter.get_input_details()[0]["shape"][0] == size


@lite
@pytest.mark.parametrize("dtype", [tf.uint8, tf.int8])
def test_a_quantised_tflite_model_is_explained_in_real_numbers(rng, dtype):
    model = small_model()
    calibration = rng.normal(size=(100, 6, 6, 2)).astype("float32")
    x = calibration[:5]
    interpreter = interpreter_of(
        model,
        optimizations=[tf.lite.Optimize.DEFAULT],
        representative_dataset=lambda: ([row[None]] for row in calibration),
        inference_input_type=dtype,
        inference_output_type=dtype,
    )
    expected = np.asarray(Occlusion(model, occlusion_value=0.5)(x, 1))
    maps = np.asarray(Occlusion(interpreter, occlusion_value=0.5)(x, 1))
    assert np.abs(maps - expected).max() < 0.1 * np.abs(expected).max()
    scale, zero = interpreter.get_input_details()[0]["quantization"]
    levels = np.clip(np.rint(x / scale + zero), dtype.min, dtype.max).astype(dtype.as_numpy_dtype)
    of_levels = Occlusion(interpreter, occlusion_value=0.5)(levels, 1)
    np.testing.assert_allclose(of_levels, maps, atol=1e-6)
    with pytest.raises(InvalidInputError, match="levels"):
        Occlusion(interpreter)(levels.astype("int32"), 1)


def two_heads(keras):
    inputs = keras.layers.Input((4,))
    kind = keras.layers.Dense(3, activation="softmax", name="kind")(inputs)
    return keras.Model(inputs, [kind, keras.layers.Dense(2, name="age")(inputs)])


ONE_BY_ONE = {"patch_size": 1, "patch_stride": 1}


def test_one_of_several_outputs_layers_or_the_logits(keras, rng):
    model, x = two_heads(keras), rng.normal(size=(5, 4)).astype("float32")
    kind, age = (model.get_layer(name).get_weights()[0] for name in ("kind", "age"))
    for choice in (1, -1, "age"):
        maps = Occlusion(model, output=choice, **ONE_BY_ONE)(x, 1)
        np.testing.assert_allclose(maps, x * age[:, 1], atol=1e-5)
    maps = Occlusion(model, output_layer="age", **ONE_BY_ONE)(x, 0)
    np.testing.assert_allclose(maps, x * age[:, 0], atol=1e-5)
    maps = Occlusion(model, output="kind", logits=True, **ONE_BY_ONE)(x, 2)
    np.testing.assert_allclose(maps, x * kind[:, 2], atol=1e-5)
    of_kind = Rise(keras.Model(model.input, model.get_layer("kind").output), nb_samples=9, seed=0)
    maps = Rise(model, nb_samples=9, seed=0, output="kind")(x, 1)
    np.testing.assert_allclose(maps, of_kind(x, 1), atol=1e-6)


@pytest.mark.parametrize(
    "outputs, choice",
    [
        (lambda a, b: [a, b], 1),
        (lambda a, b: (a, b), -1),
        (lambda a, b: {"a": a, "b": b}, "b"),
        (lambda a, b: {"b": b}, None),
        (lambda a, b: [tf.constant(a), tf.constant(b)], 1),
        (lambda a, b: b, 0),
    ],
)
def test_one_of_what_a_function_returns(rng, outputs, choice):
    x, weights = rng.normal(size=(5, 4)), rng.normal(size=(4, 3))

    def f(rows):
        rows = np.asarray(rows)
        return outputs(rows @ weights[:, :2], rows @ weights)

    maps = Occlusion(f, output=choice, **ONE_BY_ONE)(x, 2)
    np.testing.assert_allclose(maps, x * weights[:, 2], atol=1e-5)


def test_outputs_that_a_function_does_not_have(rng):
    x = rng.normal(size=(5, 4))
    with pytest.raises(InvalidParameterError, match=r"'c'.*one of 'a', 'b'"):
        Occlusion(lambda x: {"a": x, "b": x}, output="c")(x, 0)
    with pytest.raises(InvalidParameterError, match="Leave `output` out"):
        Occlusion(np.asarray, output=1)(x, 0)
    with pytest.raises(InvalidParameterError, match="an index, a name or a dict key"):
        Occlusion(np.asarray, output=1.5)
    with pytest.raises(InvalidModelError, match="made of Keras layers"):
        Occlusion(np.asarray, output_layer="dense")
    with pytest.raises(InvalidModelError, match="returns what is to be explained"):
        Occlusion(Boosted(np.ones(4)), output_layer="dense")
    with pytest.raises(InvalidModelError, match="as NumPy does"):
        Occlusion(np.asarray, logits=True)(x, 0)


@lite
def test_outputs_of_a_tflite_model_have_the_names_of_its_signature(rng):
    import tf_keras as keras

    model, x = two_heads(keras), rng.normal(size=(5, 4)).astype("float32")
    interpreter = interpreter_of(model)
    weights = model.get_layer("age").get_weights()[0]
    maps = Occlusion(interpreter, output="age", **ONE_BY_ONE)(x, 1)
    np.testing.assert_allclose(maps, x * weights[:, 1], atol=1e-5)
    with pytest.raises(InvalidModelError, match="one of 'age', 'kind'"):
        Occlusion(interpreter, **ONE_BY_ONE)(x, 1)
