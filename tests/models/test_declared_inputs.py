"""Functions that declare what they take: the dtype, the packing and the number of samples."""

import numpy as np
import pytest
import tensorflow as tf

from xplique_sal import Occlusion, Saliency
from xplique_sal.errors import InvalidInputError, InvalidModelError

WEIGHTS = np.random.default_rng(0).normal(size=(4, 3))
X = np.random.default_rng(1).normal(size=(5, 4))


def kinds_of(function, *specs, folder):
    """Return models that are the same function, by name."""

    class Module(tf.Module):
        @tf.autograph.experimental.do_not_convert
        def call(self, *args):
            return function(*args)

        __call__ = tf.function(call, input_signature=specs)

    module = Module()
    tf.saved_model.save(module, str(folder))
    loaded = tf.saved_model.load(str(folder))
    compiled = tf.function(function, input_signature=specs)
    return {
        "tf.function": compiled,
        "concrete function": compiled.get_concrete_function(),
        "module": module,
        "method": module.__call__,
        "SavedModel": loaded,
        "its method": loaded.__call__,
    }


@pytest.mark.parametrize("dtype", [tf.float64, tf.float16, tf.bfloat16, tf.float32])
def test_inputs_are_cast_to_the_dtype_that_is_declared(dtype, tmp_path):
    weights = tf.constant(WEIGHTS, dtype)
    models = kinds_of(
        lambda x: tf.tanh(x @ weights), tf.TensorSpec([None, 4], dtype), folder=tmp_path
    )
    x = tf.cast(X, dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        score = tf.tanh(x @ weights)[:, 1]
    expected = np.abs(tf.cast(tape.gradient(score, x), tf.float64))
    tolerance = {tf.float64: 1e-6, tf.float32: 1e-6, tf.float16: 3e-3, tf.bfloat16: 3e-2}[dtype]
    for name, model in models.items():
        maps = Saliency(model).explain(X, 1)
        np.testing.assert_allclose(maps, expected, atol=tolerance, err_msg=name)
        hidden = Occlusion(model, patch_size=1, patch_stride=1).explain(X[:, :4], 1)
        assert np.isfinite(hidden).all(), name


def test_indices_are_cast_to_the_integers_that_are_declared(tmp_path):
    table = tf.constant(np.random.default_rng(0).normal(size=(9, 3)), tf.float32)
    models = kinds_of(
        lambda x: tf.reduce_sum(tf.gather(table, x), 1),
        tf.TensorSpec([None, 4], tf.int32),
        folder=tmp_path,
    )
    x = np.random.default_rng(1).integers(0, 9, (5, 4))  # int64
    expected = (tf.gather(table, x) - table[0])[..., 1]  # 0 is the value that hides
    for name, model in models.items():
        maps = Occlusion(model, patch_size=1, patch_stride=1).explain(x, 1)
        np.testing.assert_allclose(maps, expected, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("packing", [list, tuple])
def test_several_arguments_are_several_inputs(packing, tmp_path):
    specs = tf.TensorSpec([None, 4], tf.float64), tf.TensorSpec([None, 2])
    models = kinds_of(
        lambda a, b: a * tf.cast(tf.reduce_sum(b, 1, keepdims=True), tf.float64),
        *specs,
        folder=tmp_path,
    )
    b = np.random.default_rng(2).random((5, 2))
    for name, model in models.items():
        of_a, of_b = Saliency(model).explain(packing([X, b]), 1)
        np.testing.assert_allclose(of_a[:, 1], np.abs(b.sum(1)), rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(of_b[:, 0], np.abs(X[:, 1]), rtol=1e-5, err_msg=name)


def test_a_dict_that_is_declared_is_asked_for_by_its_keys(tmp_path):
    specs = {key: tf.TensorSpec([None, 4], tf.float64) for key in "ab"}
    models = kinds_of(lambda x: x["a"] * 2 + x["b"], specs, folder=tmp_path)
    for name, model in models.items():
        maps = Saliency(model).explain({"a": X, "b": X}, 1)
        np.testing.assert_allclose(maps["a"][:, 1], 2, err_msg=name)
        np.testing.assert_allclose(maps["b"][:, 1], 1, err_msg=name)
        with pytest.raises(InvalidInputError, match="'a', 'b'"):
            Saliency(model).explain({"a": X, "c": X}, 1)


def test_flags_are_no_inputs():
    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 4]), tf.TensorSpec([], tf.bool)])
        def __call__(self, x, training=False):
            return tf.cond(training, lambda: tf.zeros_like(x), lambda: x * 3)

    np.testing.assert_allclose(Saliency(Module()).explain(X, 1)[:, 1], 3)


def test_a_number_of_samples_that_is_declared_is_kept_to(tmp_path):
    weights = tf.constant(WEIGHTS, tf.float32)
    models = kinds_of(lambda x: x @ weights, tf.TensorSpec([2, 4]), folder=tmp_path)
    for name, model in models.items():
        maps = Saliency(model).explain(X, 1)  # five: the last batch has one
        expected = np.broadcast_to(np.abs(WEIGHTS[:, 1]), X.shape)
        np.testing.assert_allclose(maps, expected, rtol=1e-5, err_msg=name)


def test_a_shape_that_is_not_the_declared_one_is_an_error(tmp_path):
    models = kinds_of(lambda x: x * 2, tf.TensorSpec([None, 4]), folder=tmp_path)
    for model in models.values():
        with pytest.raises(InvalidInputError, match="4"):
            Saliency(model).explain(np.zeros((5, 6), "float32"), 1)


@pytest.mark.parametrize("method", [Saliency, Occlusion])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_function_of_float64_that_does_not_say_so_is_told_how(method, compiled):
    function = (tf.function if compiled else lambda f: f)(lambda x: x @ tf.constant(WEIGHTS))
    with pytest.raises(InvalidModelError, match="input_signature"):
        method(function).explain(X, 1)


def test_a_wrong_type_of_another_kind_is_the_functions_own_error():
    def function(x):
        return x + "a"

    with pytest.raises((TypeError, ValueError, tf.errors.InvalidArgumentError)) as raised:
        Saliency(function).explain(X, 1)
    assert not isinstance(raised.value, InvalidModelError)
