"""Models from files: by the Keras that wrote them, and nothing that runs code of its own."""

import io
import json
import zipfile

import h5py
import numpy as np
import pytest
import tensorflow as tf

from xplique_sal import Occlusion, Saliency
from xplique_sal._models.files import load
from xplique_sal.errors import InvalidModelError


def build(keras, *layers):
    return keras.Sequential([keras.layers.Input((3,)), *layers, keras.layers.Dense(2)])


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_file_is_read_by_the_keras_that_wrote_it(tmp_path, keras, suffix, rng, recwarn):
    model = build(keras)
    model.save(tmp_path / f"model{suffix}")
    recwarn.clear()
    loaded = load(tmp_path / f"model{suffix}")
    assert isinstance(loaded.model, keras.Model)
    assert loaded.version == keras.__version__
    x = rng.random((4, 3)).astype("float32")
    np.testing.assert_array_equal(Saliency(loaded.model).explain(x), Saliency(model).explain(x))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_code_in_a_file_is_refused(tmp_path, keras, suffix, recwarn):
    model = build(keras, keras.layers.Lambda(lambda x: 2 * x))
    path = tmp_path / f"model{suffix}"
    model.save(path)
    with pytest.raises(InvalidModelError, match="--unsafe"):
        load(path)
    assert isinstance(load(path, unsafe=True).model, keras.Model)
    recwarn.clear()


def test_a_hidden_lambda_is_refused_before_keras_reads_it(tmp_path, recwarn):
    import keras

    path = tmp_path / "model.h5"
    build(keras).save(path)
    with h5py.File(path, "r+") as content:
        config = json.loads(content.attrs["model_config"])
        config["config"]["layers"][1] = {
            "class_name": "TimeDistributed",
            "config": {"layer": {"class_name": "Lambda", "config": {"function": ["4wEA", None]}}},
        }
        text = json.dumps(config).replace("Lambda", "L\\u0061mbda")
        content.attrs["model_config"] = text
    with pytest.raises(InvalidModelError, match="Lambda layer"):
        load(path)
    recwarn.clear()


def test_bombs_are_refused(tmp_path, recwarn):
    import keras

    path = tmp_path / "model.keras"
    build(keras).save(path)
    with pytest.raises(InvalidModelError, match="--most-gigabytes"):
        load(path, most_bytes=1000)
    weights = io.BytesIO()
    with h5py.File(weights, "w") as content:  # says that it is large, and is small
        content.create_dataset("w", shape=(1 << 20, 1 << 20), chunks=(64, 64), dtype="f4")
    bomb = tmp_path / "bomb.keras"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(bomb, "w") as archive:
        for name in source.namelist():
            is_weights = name.endswith(".h5")
            archive.writestr(name, weights.getvalue() if is_weights else source.read(name))
    with pytest.raises(InvalidModelError, match="weights of at most"):
        load(bomb)
    outside = tmp_path / "outside.h5"
    with h5py.File(outside, "w") as content:
        content.create_dataset("w", shape=(4,), dtype="f4", external=[("/etc/hostname", 0, 16)])
    with pytest.raises(InvalidModelError, match="reads other files"):
        load(outside)


def test_a_saved_model_and_its_signature(tmp_path, rng):
    class Module(tf.Module):
        def __init__(self):
            super().__init__()
            self.w = tf.Variable(rng.random((3, 2)), dtype=tf.float32)

        @tf.function(input_signature=[tf.TensorSpec([None, 3])])
        def __call__(self, x):
            return tf.tanh(x @ self.w)

        @tf.function(input_signature=[tf.TensorSpec([None, 3])])
        def linear(self, x):
            return {"out": x @ self.w}

    module = Module()
    tf.saved_model.save(module, str(tmp_path / "m"), signatures={"linear": module.linear})
    x = rng.random((4, 3)).astype("float32")
    whole = Saliency(load(tmp_path / "m").model).explain(x, 1)
    np.testing.assert_allclose(whole, Saliency(module).explain(x, 1), rtol=1e-6)
    linear = Saliency(load(tmp_path / "m", signature="linear").model).explain(x, 1)
    np.testing.assert_allclose(linear, np.abs(module.w.numpy()[:, 1])[None].repeat(4, 0), rtol=1e-6)
    with pytest.raises(InvalidModelError, match="'linear'"):
        load(tmp_path / "m", signature="other")


@pytest.mark.filterwarnings("ignore")
def test_a_tflite_model(tmp_path, rng):
    w = tf.constant(rng.random((3, 2)), tf.float32)
    function = tf.function(lambda x: x @ w, input_signature=[tf.TensorSpec([None, 3])])
    concrete = function.get_concrete_function()
    content = tf.lite.TFLiteConverter.from_concrete_functions([concrete]).convert()
    (tmp_path / "model.tflite").write_bytes(content)
    model = load(tmp_path / "model.tflite").model
    x = rng.random((4, 3)).astype("float32")
    maps = Occlusion(model, patch_size=1, patch_stride=1).explain(x, 1)
    np.testing.assert_allclose(maps, x * w.numpy()[:, 1], rtol=1e-4, atol=1e-6)


def test_what_is_no_model_is_an_error(tmp_path):
    (tmp_path / "model.keras").write_bytes(b"words")
    (tmp_path / "weights.h5").write_bytes(b"words")
    (tmp_path / "model.onnx").write_bytes(b"words")
    for name in ("model.keras", "weights.h5", "model.onnx", "missing.keras"):
        with pytest.raises(InvalidModelError):
            load(tmp_path / name)
