"""Explainers as SavedModels: the values of `explain`, from TensorFlow alone."""

import importlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from reference import built_once

import xplique_sal
from xplique_sal.attributions.base import WhiteBoxExplainer
from xplique_sal.errors import ExportError, InvalidInputError

METHODS = {
    "Saliency": {},
    "GradientInput": {},
    "SmoothGrad": {"seed": 3, "nb_samples": 5},
    "IntegratedGradients": {"steps": 5},
    "GuidedBackprop": {},
    "GradCAM": {},
    "LRP": {},
}

#: What a server does: it knows where the SavedModels and the inputs are, and no Python of ours.
SERVER = """
import json, sys
sys.modules["xplique_sal"] = sys.modules["tf_keras"] = sys.modules["keras"] = None
import numpy as np, tensorflow as tf
folder, names = sys.argv[1], sys.argv[2:]
try:
    import xplique_sal
except ImportError:
    pass
else:
    raise SystemExit("the package is there")
given = np.load(f"{folder}/given.npz")
for name in names:
    signatures = tf.saved_model.load(f"{folder}/{name}").signatures
    x, y = tf.constant(given["x"]), tf.constant(given["y"])
    found = signatures["serving_default"](inputs=x)
    chosen = signatures["explain_class"](inputs=x, class_index=y)
    one = signatures["explain_class"](inputs=x[2:3], class_index=y[2:3])
    np.savez(f"{folder}/{name}.npz", one=one["maps"], chosen=chosen["maps"], **found)
"""


@built_once
def network(keras, size=8):
    return keras.Sequential(
        [
            keras.layers.Input((size, size, 3)),
            keras.layers.Conv2D(4, 3, strides=2, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Conv2D(6, 2, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(4, activation="softmax"),
        ]
    )


def images(count=7, size=8):
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, size, size, 3)).astype("float32")


def assert_same(actual, expected, tolerance=1e-6):
    expected = np.asarray(expected)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def loaded(explainer, path, *given, **options):
    explainer.export(path, *given, **options)
    return tf.saved_model.load(str(path)).signatures


@pytest.mark.timeout(300)
def test_a_process_without_the_package_gives_the_same(tmp_path):
    """Of both Kerases: TensorFlow is imported once."""
    x, y = images(), np.arange(7, dtype=np.int32) % 4
    explainers = {}
    for kind in ("tf_keras", "keras"):
        model = network(importlib.import_module(kind))
        for method, options in METHODS.items():
            explainer = getattr(xplique_sal, method)(model, logits=True, **options)
            explainer.export(tmp_path / f"{method}-{kind}")
            explainers[f"{method}-{kind}"] = model, explainer
    np.savez(tmp_path / "given.npz", x=x, y=y)
    command = [sys.executable, "-c", SERVER, str(tmp_path), *explainers]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name, (model, explainer) in explainers.items():
        found = np.load(tmp_path / f"{name}.npz")
        outputs = model.predict(x, verbose=0)
        # By its index, so that one trace serves both signatures.
        maps, scores = explainer.explain_with_scores(x, outputs.argmax(1).astype(np.int32))
        assert_same(found["maps"], maps)
        assert_same(found["scores"], scores)
        assert_same(found["outputs"], outputs)
        assert_same(found["chosen"], explainer.explain_with_scores(x, y)[0])
        assert np.abs(found["chosen"] - found["maps"]).max() > 1e-3 * np.abs(found["maps"]).max()
        # Noise is drawn for a position in the batch, which is another for a batch of one.
        if "SmoothGrad" not in name:
            assert_same(found["one"], found["chosen"][2:3])


def test_what_explain_refuses_is_nan(keras, tmp_path):
    x, y = images(4), np.array([0, 4, -1, 1], np.int32)
    x[3, 0, 0, 0] = np.inf
    signature = loaded(xplique_sal.Saliency(network(keras), logits=True), tmp_path)["explain_class"]
    found = signature(inputs=x, class_index=y)
    is_nan = np.isnan(found["maps"].numpy())
    assert is_nan[1:].all() and not is_nan[0].any()
    np.testing.assert_array_equal(np.isnan(found["scores"]), [False, True, True, True])


def test_several_inputs_and_outputs_by_name(keras, tmp_path):
    left, right = keras.layers.Input((5,), name="left"), keras.layers.Input((3,), name="right")
    both = keras.layers.Concatenate()([left, right])
    outputs = {"one": keras.layers.Dense(2)(both), "two": keras.layers.Dense(3)(both**2)}
    model = keras.Model({"left": left, "right": right}, outputs)
    rng = np.random.default_rng(0)
    given = {"left": rng.normal(size=(4, 5)), "right": rng.normal(size=(4, 3))}
    given = {key: value.astype("float32") for key, value in given.items()}
    explainer = xplique_sal.GradientInput(model, output="two")
    signatures = loaded(explainer, tmp_path)
    index = np.array([2, 0, 1, 2], np.int32)
    found = signatures["explain_class"](**given, class_index=index)
    expected = explainer(given, index)
    for name in given:
        assert_same(found[f"maps_{name}"], expected[name])
    for name, value in model(given).items():
        assert_same(found[f"outputs_{name}"], value)


def test_several_layers_have_the_mean_of_their_maps(keras, tmp_path):
    explainer = xplique_sal.LayerCAM(network(keras), conv_layer=[0, 2], logits=True)
    found = loaded(explainer, tmp_path)["serving_default"](inputs=images())
    assert_same(found["maps"], explainer(images()))


def test_integers_and_half_precision(keras, tmp_path):
    """Pixels of a camera; a score whose gradient overflows at the first scale."""
    model = keras.Sequential(
        [
            keras.layers.Input((4, 4, 3)),
            keras.layers.Rescaling(300.0, dtype="float32"),
            keras.layers.Conv2D(4, 3, activation="relu", dtype="mixed_float16"),
            keras.layers.Flatten(dtype="mixed_float16"),
            keras.layers.Dense(3, dtype="mixed_float16"),
        ]
    )
    x = np.random.default_rng(0).integers(0, 5, (6, 4, 4, 3)).astype("uint8")
    explainer = xplique_sal.Saliency(model)
    found = loaded(explainer, tmp_path, x[:1])["serving_default"]
    assert found.structured_input_signature[1]["inputs"].dtype == tf.uint8
    assert_same(found(inputs=x)["maps"], explainer(x))


def scaled(f, x, y):
    """An operator that gives the model something else than the samples, last."""
    return tf.reduce_sum(f(x) * y, -1) + tf.reduce_sum(f(2 * x) * y, -1)


def test_an_operator_with_targets_of_its_own(keras, tmp_path):
    model, x = network(keras), images()
    y = np.random.default_rng(1).normal(size=(7, 4)).astype("float32")
    explainer = xplique_sal.Saliency(model, operator=scaled, logits=True)
    signatures = loaded(explainer, tmp_path, None, y[:1])
    assert list(signatures) == ["serving_default"]
    found = signatures["serving_default"](inputs=x, targets=y)
    assert_same(found["maps"], explainer(x, y))
    assert_same(found["outputs"], model(x))


def test_tokens_and_a_table(keras, tmp_path):
    """A lookup table is saved with the graph that reads it."""
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(tf.range(9), tf.range(9)[::-1]), 0
    )

    class Reversed(tf.Module):
        def __init__(self):
            self.table, self.weights = (
                table,
                tf.Variable(tf.random.stateless_normal([9, 4], [1, 2])),
            )

        def __call__(self, x):
            tokens = self.table.lookup(tf.cast(tf.clip_by_value(x, 0, 8), tf.int32))
            return tf.reduce_sum(x[..., None] * tf.gather(self.weights, tokens), 1)

    x = np.random.default_rng(0).uniform(0, 8, (5, 6)).astype("float32")
    explainer = xplique_sal.Saliency(Reversed())
    found = loaded(explainer, tmp_path, x[:1])["serving_default"](inputs=x)
    assert_same(found["maps"], explainer(x))
    assert np.ptp(found["maps"]) > 0.1


class OfOnesOwn(WhiteBoxExplainer):
    def explain_batch(self, score, inputs, targets):
        return super().explain_batch(score, inputs, targets)


def python(x):
    return tf.ensure_shape(tf.numpy_function(lambda a: a, [x], tf.float32), x.shape)


def test_what_cannot_be_exported_says_why(keras, tmp_path):
    model = network(keras)
    with pytest.raises(ExportError, match=r"Occlusion, which asks .* from Python"):
        xplique_sal.Occlusion(model, patch_size=2, patch_stride=2).export(tmp_path)
    with pytest.raises(ExportError, match="ScoreCAM"):
        xplique_sal.ScoreCAM(model).export(tmp_path)
    with pytest.raises(ExportError, match="OfOnesOwn"):
        OfOnesOwn(model).export(tmp_path)
    with pytest.raises(ExportError, match="scalar for its whole batch"):
        xplique_sal.Saliency(model, operator=lambda f, x, y: tf.reduce_sum(f(x))).export(tmp_path)
    with pytest.raises(ExportError, match="calls Python"):
        xplique_sal.Saliency(lambda x: x * tf.stop_gradient(python(x))).export(
            tmp_path, np.ones((2, 3), "float32")
        )
    with pytest.raises(InvalidInputError, match="does not tell the shapes"):
        xplique_sal.Saliency(lambda x: x * 2).export(tmp_path)
    recurrent = keras.layers.GRU(3, stateful=True)
    stateful = keras.Sequential([keras.layers.Input((4, 2), batch_size=1), recurrent])
    with pytest.raises(ExportError):
        xplique_sal.Saliency(stateful).export(tmp_path)
    state = tf.Variable(1.0)
    with pytest.raises(ExportError, match="Two requests"):
        xplique_sal.Saliency(lambda x: x * state.assign_add(1.0)).export(
            tmp_path, np.ones((2, 3), "float32")
        )
    assert not list(tmp_path.iterdir())


# Some versions of TensorFlow say that their interpreter will move to a package of its own.
@pytest.mark.filterwarnings(r"ignore:\s*Warning. tf.lite.Interpreter is deprecated:UserWarning")
def test_a_tflite_file_gives_the_same(keras, tmp_path):
    model, x, path = network(keras), images(2), tmp_path / "saliency.tflite"
    explainer = xplique_sal.Saliency(model, logits=True)
    explainer.export(path, format="tflite")
    interpreter = tf.lite.Interpreter(str(path))
    by_largest = interpreter.get_signature_runner("serving_default")
    by_class = interpreter.get_signature_runner("explain_class")
    for row, map_, chosen in zip(x, explainer(x), explainer(x, 2), strict=True):
        found = by_largest(inputs=row[None])
        assert_same(found["maps"][0], map_)
        assert_same(found["outputs"], model(row[None]))
        index = np.array([2], np.int32)
        assert_same(by_class(inputs=row[None], class_index=index)["maps"][0], chosen)


def test_what_tflite_lacks_is_named(keras, tmp_path):
    layers = [keras.layers.Input((4, 4, 1)), keras.layers.MaxPooling2D(), keras.layers.Flatten()]
    path = tmp_path / "maximum.tflite"
    with pytest.raises(ExportError, match="MaxPoolGrad"):
        xplique_sal.Saliency(keras.Sequential(layers)).export(path, format="tflite")
    assert not path.exists()


def test_the_model_is_warned_of_as_in_explain(keras, tmp_path):
    with pytest.warns(UserWarning, match="softmax is explained"):
        xplique_sal.Saliency(network(keras)).export(tmp_path)
