"""Every error comes as its class and as the right builtin, early, and says what to do."""

import contextlib
import copy
import importlib
import pickle
import re

import numpy as np
import pytest
import tensorflow as tf
from reference import built_once

from xplique_sal import Saliency, errors
from xplique_sal.errors import (
    InvalidInputError,
    InvalidModelError,
    InvalidOperatorError,
    InvalidParameterError,
    InvalidTargetError,
    LayerNotFoundError,
    NoGradientError,
)

BUILTINS = {
    InvalidInputError: ValueError,
    InvalidTargetError: ValueError,
    InvalidParameterError: ValueError,
    InvalidOperatorError: TypeError,
    InvalidModelError: TypeError,
    LayerNotFoundError: ValueError,
    NoGradientError: ValueError,
}
FORMS = ("array", "dataset", "several inputs")
DATASETS = ("dataset", "batched dataset")
ALL_FORMS = (*FORMS, "batched dataset")
BESIDE = ("array", "several inputs")  # where targets are no labels of a dataset
WIDTH, OUTPUTS, COUNT = 3, 2, 5


@contextlib.contextmanager
def raises(error, *words):
    """Expect an error of exactly that class whose message has all `words`."""
    with pytest.raises(BUILTINS[error]) as caught:
        yield
    raised = caught.value
    assert type(raised) is error, repr(raised)
    for part in (raised.expected, raised.actual, raised.remedy):
        assert part.strip() and part in str(raised)
    for word in words:
        assert word in str(raised), f"{word!r} is missing in: {raised}"
    again = pickle.loads(pickle.dumps(raised))
    assert (type(again), str(again)) == (error, str(raised))


@built_once
def one_input(keras, shape=(WIDTH,), outputs=OUTPUTS, activation=None):
    inputs = keras.Input(shape, name="left")
    flat = keras.layers.Flatten()(inputs)
    return keras.Model(inputs, keras.layers.Dense(outputs, activation=activation)(flat))


@built_once
def two_inputs(keras, shape=(WIDTH,), outputs=OUTPUTS, activation=None):
    inputs = [keras.Input(shape, name="left"), keras.Input((2,), name="right")]
    flat = keras.layers.Concatenate()([keras.layers.Flatten()(inputs[0]), inputs[1]])
    return keras.Model(inputs, keras.layers.Dense(outputs, activation=activation)(flat))


def model_for(form, keras, anew=False, **options):
    build = two_inputs if form == "several inputs" else one_input
    return (build.anew if anew else build)(keras, **options)


def given(form, x, y=None):
    """Return the arguments of `explain` that hold `x` and `y` in one of `ALL_FORMS`."""
    if form == "array":
        return x, y
    if form == "several inputs":
        return [x, np.ones((len(x), 2), np.float32)], y
    dataset = tf.data.Dataset.from_tensor_slices(x if y is None else (x, y))
    return (dataset.batch(2) if form == "batched dataset" else dataset,)


def good(*shape):
    return np.arange(np.prod(shape or (COUNT, WIDTH)), dtype=np.float32).reshape(
        shape or (COUNT, WIDTH)
    )


# --- the classes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("error", BUILTINS)
def test_errors_are_the_builtins_that_fit(error):
    assert issubclass(error, errors.XpliqueSalError)
    assert issubclass(error, BUILTINS[error])


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))]
)
@pytest.mark.parametrize("error", BUILTINS)
def test_errors_survive_copies(error, copied):
    again = copied(error("a cat", "a dog", "Get a cat."))
    assert type(again) is error
    assert (again.expected, again.actual, again.remedy) == ("a cat", "a dog", "Get a cat.")
    assert str(again) == "Expected a cat, but got a dog. Get a cat."


# --- InvalidInputError ---------------------------------------------------------------------------


@pytest.mark.parametrize("form", ALL_FORMS)
def test_input_of_a_wrong_rank(keras, form):
    remedy = "Map the dataset" if form in DATASETS else "Reshape"
    with raises(InvalidInputError, "(N, 3)", "3, 1, 1)", remedy):
        Saliency(model_for(form, keras)).explain(*given(form, good(COUNT, 3, 1, 1)))


@pytest.mark.parametrize("form", FORMS)
def test_input_of_a_wrong_shape(keras, form):
    with raises(InvalidInputError, "(N, 3)", "4)", "Resize or reorder"):
        Saliency(model_for(form, keras)).explain(*given(form, good(COUNT, 4)))


@pytest.mark.parametrize("form", ["array", "several inputs"])
def test_a_sample_without_its_batch_axis(keras, form):
    with raises(InvalidInputError, "(N, 3)", "(3,)", "inputs[None]"):
        Saliency(model_for(form, keras)).explain(*given(form, good(3)))


@pytest.mark.parametrize("dtype", ["<U3", "complex64"])
@pytest.mark.parametrize("form", FORMS)
def test_input_that_is_not_numbers(keras, form, dtype):
    name = "complex64" if dtype == "complex64" else "string"
    with raises(InvalidInputError, "numbers", name, "Convert them to a number type"):
        Saliency(model_for(form, keras)).explain(*given(form, good().astype(dtype)))


@pytest.mark.parametrize("dtype", ["datetime64[s]", "timedelta64[s]", [("a", "f4"), ("b", "f4")]])
@pytest.mark.parametrize("form", ["array", "several inputs"])
def test_input_of_a_dtype_that_tensorflow_does_not_have(keras, form, dtype):
    with raises(InvalidInputError, "numbers", "Convert"):
        Saliency(model_for(form, keras)).explain(*given(form, np.zeros((COUNT, WIDTH), dtype)))


@pytest.mark.parametrize("form", ["array", "several inputs"])
def test_input_of_python_objects(keras, form):
    with raises(InvalidInputError, "numbers"):
        Saliency(model_for(form, keras)).explain(*given(form, good().astype(object)))


@pytest.mark.parametrize("form", ALL_FORMS)
def test_no_samples(keras, form):
    with raises(InvalidInputError, "at least one sample", "none", "Check how the inputs"):
        Saliency(model_for(form, keras)).explain(*given(form, good(0, WIDTH)))


@pytest.mark.parametrize("empty", [[], ()])
def test_an_empty_list(keras, empty):
    with raises(InvalidInputError):
        Saliency(one_input(keras)).explain(empty)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("form", ALL_FORMS)
def test_values_that_are_not_finite(keras, form, value):
    x = good()
    x[3, 1] = value
    with raises(InvalidInputError, "finite", "sample 3", "Remove or fill them in"):
        Saliency(model_for(form, keras), batch_size=2).explain(*given(form, x))


def test_values_that_are_not_finite_in_a_second_input(keras):
    x = np.ones((COUNT, 2), np.float32)
    x[4, 0] = np.nan
    with raises(InvalidInputError, "'right'", "sample 4"):
        Saliency(two_inputs(keras)).explain([good(), x])


def test_values_that_are_not_finite_in_an_array_on_disk(keras, tmp_path):
    x = np.memmap(tmp_path / "x", np.float32, "w+", shape=(COUNT, WIDTH))
    x[3, 1] = np.nan
    with raises(InvalidInputError, "sample 3"):
        Saliency(one_input(keras), batch_size=2).explain(x)


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16"])
def test_values_that_are_not_finite_of_other_dtypes(keras, dtype):
    x = good()
    x[3, 1] = np.nan
    with raises(InvalidInputError, "sample 3"):
        Saliency(one_input(keras)).explain(tf.cast(x, dtype))


def test_inputs_of_different_lengths(keras):
    with raises(InvalidInputError, "same number", "5, 4", "one row of each input"):
        Saliency(two_inputs(keras)).explain([good(), np.ones((4, 2), np.float32)])


@pytest.mark.parametrize("count", [1, 3])
def test_another_number_of_inputs(keras, count):
    with raises(InvalidInputError, "2 inputs", "'left'", "'right'", str(count), "a list or a dict"):
        Saliency(two_inputs(keras)).explain([good()] * count)


@pytest.mark.parametrize("keys", [("left",), ("left", "wrong"), ("left", "right", "more")])
def test_inputs_of_other_names(keras, keys):
    with raises(InvalidInputError, "'left', 'right'", repr(keys[-1]), "Name each input"):
        Saliency(two_inputs(keras)).explain({key: good(COUNT, 2) for key in keys})


def test_dataset_inputs_of_other_names(keras):
    dataset = tf.data.Dataset.from_tensor_slices({"left": good(), "wrong": good()})
    with raises(InvalidInputError, "'left', 'right'", "'wrong'", "Name each input"):
        Saliency(two_inputs(keras)).explain(dataset)


def test_a_dataset_of_two_inputs_is_read_as_a_pair(keras):
    dataset = tf.data.Dataset.from_tensor_slices((good(), good(COUNT, 2)))
    with raises(InvalidInputError, "2 inputs", "1"):
        Saliency(two_inputs(keras)).explain(dataset)


def test_a_list_where_the_model_takes_a_dict(keras):
    inputs = {"b": keras.Input((WIDTH,), name="b"), "a": keras.Input((WIDTH,), name="a")}
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Add()(list(inputs.values()))))
    with raises(InvalidInputError, "'a'", "'b'", "order", "Pass a dict"):
        Saliency(model).explain([good(), good()])


@pytest.mark.parametrize(
    ("inputs", "kind"),
    [
        (tf.ragged.constant([[1.0], [1.0, 2.0]]), "RaggedTensor"),
        (tf.sparse.from_dense([[1.0, 0.0, 0.0]]), "SparseTensor"),
    ],
)
def test_inputs_that_are_not_dense(keras, inputs, kind):
    with raises(InvalidInputError, "dense", kind, "Convert it"):
        Saliency(one_input(keras)).explain(inputs)
    with raises(InvalidInputError, "dense", kind, "Convert it"):
        Saliency(two_inputs(keras)).explain([inputs, good()])
    with raises(InvalidInputError, "dense", kind, "Map its elements to dense tensors"):
        Saliency(one_input(keras)).explain(tf.data.Dataset.from_tensor_slices(inputs))


@pytest.mark.parametrize(
    "inputs",
    [
        pytest.param([[1.0, 2.0, 3.0], [1.0]], id="numbers"),
        pytest.param([np.ones(3), np.ones(2)], id="arrays"),
        pytest.param([tf.ones(3), tf.ones(2)], id="tensors"),
    ],
)
def test_samples_of_different_shapes(keras, inputs):
    with raises(InvalidInputError, "same shape"):
        Saliency(one_input(keras)).explain(inputs)


@pytest.mark.parametrize("inputs", [None, "abc", 3.0, {1, 2}, iter([1.0])], ids=type)
def test_inputs_that_are_no_array(keras, inputs):
    with raises(InvalidInputError):
        Saliency(one_input(keras)).explain(inputs)


def test_symbolic_inputs(keras):
    explainer = Saliency(one_input(keras))

    with raises(InvalidInputError, "eager", "inside of `tf.function`", "outside of it"):
        tf.function(explainer.explain, autograph=False)(tf.constant(good()))


def test_a_dataset_of_four_parts(keras):
    dataset = tf.data.Dataset.from_tensor_slices((good(),) * 4)
    with raises(InvalidInputError, "(x, y, w)", "4", "((a, b), y)"):
        Saliency(one_input(keras)).explain(dataset)


def test_a_dataset_of_unknown_rank(keras):
    dataset = tf.data.Dataset.from_generator(lambda: iter(good()), output_types=tf.float32)
    with raises(InvalidInputError, "known rank", "tf.ensure_shape"):
        Saliency(one_input(keras)).explain(dataset)


def test_a_dataset_that_never_ends(keras):
    dataset = tf.data.Dataset.from_tensor_slices(good()).repeat()
    with raises(InvalidInputError, "ends", "for ever", "take(n)"):
        Saliency(one_input(keras)).explain(dataset)


def test_a_dataset_of_which_only_one_input_is_batched(keras):
    dataset = tf.data.Dataset.from_tensors(((good(), np.ones(2, np.float32)),))
    with raises(InvalidInputError, "batched", "mixture", "Batch the dataset after"):
        Saliency(two_inputs(keras)).explain(dataset)


def test_a_dataset_that_can_be_read_both_ways(keras):
    class Unknown(keras.Model):
        def call(self, x):
            return tf.reduce_mean(x, [1, 2])

    dataset = tf.data.Dataset.from_tensor_slices(good(2, 4, 4, 3))
    with raises(InvalidInputError, "batched", "(4, 4, 3)", "Call the model once"):
        Saliency(Unknown()).explain(dataset)


def test_a_rank_that_no_explanation_has(keras):
    model = tf.Module()
    model.__class__ = type("Sum", (tf.Module,), {"__call__": lambda self, x: x})
    with raises(InvalidInputError, "(N, W), (N, T, W)", "(4,)", "inputs[None]"):
        Saliency(model).explain(good(4))
    with raises(InvalidInputError, "(N, D, H, W, C)", "(1, 1, 1, 1, 1, 1)"):
        Saliency(model).explain(good(1, 1, 1, 1, 1, 1))


# --- InvalidTargetError --------------------------------------------------------------------------


def labels(wrong, index=3):
    y = np.zeros(COUNT, np.int64)
    y[index] = wrong
    return y


@pytest.mark.parametrize("wrong", [-1, OUTPUTS, 255])
@pytest.mark.parametrize("form", ALL_FORMS)
def test_a_class_out_of_range(keras, form, wrong):
    with raises(InvalidTargetError, "0 and at most 1", f"{wrong} for sample 3", "counted from 0"):
        Saliency(model_for(form, keras), batch_size=2).explain(*given(form, good(), labels(wrong)))


@pytest.mark.parametrize("wrong", [-1, OUTPUTS])
@pytest.mark.parametrize("form", FORMS)
def test_one_class_for_all_out_of_range(keras, form, wrong):
    inputs = given(form, good())[0]
    with raises(InvalidTargetError, "at most 1", str(wrong), "counted from 0"):
        Saliency(model_for(form, keras)).explain(inputs, wrong)


@pytest.mark.parametrize("count", [1, COUNT - 1, COUNT + 1])
@pytest.mark.parametrize("form", ALL_FORMS)
def test_another_number_of_targets_than_inputs(keras, form, count):
    inputs = given(form, good())[0]
    with raises(InvalidTargetError, "as many targets", str(count), "one target for each sample"):
        Saliency(model_for(form, keras), batch_size=2).explain(inputs, np.zeros(count, int))


def test_a_target_without_its_batch_axis(keras):
    with raises(InvalidTargetError, "targets[None]"):
        Saliency(one_input(keras)).explain(good(1, WIDTH), np.array([0.0, 1.0]))


@pytest.mark.parametrize("width", [1, OUTPUTS + 1])
@pytest.mark.parametrize("form", BESIDE)
def test_targets_of_another_width(keras, form, width):
    y = np.ones((COUNT, width), np.float32)
    with raises(InvalidTargetError, "width 2", f"{width})", "weights for each output, (N, L)"):
        Saliency(model_for(form, keras), batch_size=2).explain(*given(form, good(), y))


def test_targets_with_positions_that_the_outputs_do_not_have(keras):
    with raises(InvalidTargetError, "(5, 2, 2)", "(N, L)"):
        Saliency(one_input(keras)).explain(good(), np.ones((COUNT, 2, 2), np.float32))


@pytest.mark.parametrize("form", ALL_FORMS)
def test_a_row_of_zeros(keras, form):
    y = np.ones((COUNT, OUTPUTS), np.float32)
    y[3] = 0
    with raises(InvalidTargetError, "only zeros for sample 3", "index of the output"):
        Saliency(model_for(form, keras), batch_size=2).explain(*given(form, good(), y))


@pytest.mark.parametrize("form", DATASETS)
def test_one_hot_labels_of_another_width(keras, form):
    y = np.eye(OUTPUTS + 1, dtype=np.float32)[[0, 1, 1, 0, 1]]
    with raises(InvalidTargetError, "width 2", "3)", "weights for each output, (N, L)"):
        Saliency(one_input(keras), batch_size=2).explain(*given(form, good(), y))


@pytest.mark.parametrize("form", BESIDE)
def test_the_labels_of_a_model_with_one_output(keras, form):
    y = np.array([[1], [1], [1], [0], [1]])
    model = model_for(form, keras, outputs=1)
    with raises(InvalidTargetError, "sample 3", "pass None for the class 1", "-1 for the class 0"):
        Saliency(model, batch_size=2).explain(*given(form, good(), y))


@pytest.mark.parametrize("form", BESIDE)
def test_the_flat_labels_of_a_model_with_one_output(keras, form):
    model = model_for(form, keras, outputs=1)
    with raises(InvalidTargetError, "1 for sample 3", "targets=None"):
        Saliency(model, batch_size=2).explain(*given(form, good(), labels(1)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("form", BESIDE)
def test_weights_that_are_not_finite(keras, form, value):
    y = np.ones((COUNT, OUTPUTS), np.float32)
    y[3, 1] = value
    with raises(InvalidTargetError, "finite", "sample 3"):
        Saliency(model_for(form, keras), batch_size=2).explain(*given(form, good(), y))


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.5])
@pytest.mark.parametrize("form", DATASETS)
def test_labels_that_are_values_to_predict(keras, form, value):
    y = np.ones((COUNT, OUTPUTS), np.float32)
    y[3, 1] = value
    with raises(
        InvalidTargetError, f"{value:g} for sample 3, a value to predict", "pass `targets`"
    ):
        Saliency(one_input(keras), batch_size=2).explain(*given(form, good(), y))


@pytest.mark.parametrize("dtype", ["float32", "bool"])
@pytest.mark.parametrize("form", BESIDE)
def test_class_indices_that_are_no_integers(keras, form, dtype):
    y = np.ones(COUNT, dtype)
    with raises(InvalidTargetError, "integers", dtype, "class index for each sample"):
        Saliency(model_for(form, keras)).explain(*given(form, good(), y))


@pytest.mark.parametrize("form", FORMS)
def test_one_target_for_all_that_is_no_integer(keras, form):
    inputs = given(form, good())[0]
    with raises(InvalidTargetError, "integers", "float", "class index"):
        Saliency(model_for(form, keras)).explain(inputs, 0.5)


@pytest.mark.parametrize(
    "targets",
    [
        pytest.param(["cat"] * COUNT, id="strings"),
        pytest.param(np.array([None] * COUNT), id="objects"),
        pytest.param([[1, 0], [1], [1, 0], [1, 0], [1, 0]], id="ragged"),
        pytest.param([[1, 0], [1, 0], None, [1, 0], [1, 0]], id="missing"),
    ],
)
def test_targets_that_are_not_numbers(keras, targets):
    with raises(InvalidTargetError, "numbers", "Pass class indices"):
        Saliency(one_input(keras)).explain(good(), targets)


@pytest.mark.parametrize("form", DATASETS)
def test_targets_beside_a_dataset_that_has_its_own(keras, form):
    y = np.zeros(COUNT, int)
    with raises(InvalidTargetError, "its own", "both", "dataset.map(lambda x, y: x)"):
        Saliency(one_input(keras)).explain(*given(form, good(), y), y)


@pytest.mark.parametrize("form", FORMS)
def test_targets_in_a_dataset_of_their_own(keras, form):
    with raises(InvalidTargetError, "an array", "a dataset", "Dataset.zip"):
        Saliency(model_for(form, keras)).explain(
            given(form, good())[0], tf.data.Dataset.range(COUNT)
        )


@pytest.mark.parametrize("form", ["array", "dataset", "several inputs"])
def test_targets_for_several_outputs(keras, form):
    y = np.zeros(COUNT, int)
    with raises(InvalidTargetError, "one array", "dict", "Choose one output with `output=`"):
        if form == "dataset":
            y = {"one": y, "two": y}
            dataset = tf.data.Dataset.from_tensor_slices((good(), y))
            Saliency(model_for(form, keras)).explain(dataset)
        else:
            inputs = given(form, good())[0]
            Saliency(model_for(form, keras)).explain(inputs, {"one": y, "two": y})


@pytest.mark.parametrize("count", [COUNT - 1, COUNT + 1])
def test_targets_beside_a_dataset_of_unknown_length(keras, count):
    dataset = tf.data.Dataset.from_tensor_slices(good()).filter(lambda x: True)
    with raises(InvalidTargetError, "as many targets", str(count), "one target for each sample"):
        Saliency(one_input(keras), batch_size=2).explain(dataset, np.zeros(count, int))


@pytest.mark.parametrize("outputs", [OUTPUTS, -1, [0, OUTPUTS]])
@pytest.mark.parametrize("form", FORMS)
def test_outputs_that_do_not_exist(keras, form, outputs):
    wrong = outputs if isinstance(outputs, int) else outputs[-1]
    with raises(InvalidTargetError, "between 0 and 1", str(wrong), "counted from 0"):
        Saliency(model_for(form, keras)).explain_outputs(given(form, good())[0], outputs)


@pytest.mark.parametrize("outputs", [[], 0.5, [[0]], "first", True, [True, False]], ids=repr)
def test_outputs_that_are_no_indices(keras, outputs):
    with raises(InvalidTargetError, "one index or a list", "Pass integers"):
        Saliency(one_input(keras)).explain_outputs(good(), outputs)


# --- InvalidParameterError -----------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [0, -1, 2.0, True, "64", [2]])
def test_a_batch_size_that_does_not_exist(keras, batch_size):
    with raises(InvalidParameterError, "`batch_size` of at least 1", repr(batch_size), "Pass"):
        Saliency(one_input(keras), batch_size=batch_size)


@pytest.mark.parametrize("reducer", ["maximum", "", 1, tf.reduce_max, ["max"]])
def test_a_reducer_that_does_not_exist(keras, reducer):
    with raises(InvalidParameterError, "'max', 'mean', 'min', 'sum'", repr(reducer), "Pass one"):
        Saliency(one_input(keras), reducer=reducer)


@pytest.mark.parametrize("modifier", ["abs", "", 1, ["relu"]])
def test_a_gradient_modifier_that_does_not_exist(keras, modifier):
    with raises(InvalidParameterError, "'absolute'", "'small_values'", repr(modifier), "Pass one"):
        Saliency(one_input(keras), grad_modifier=modifier)


@pytest.mark.parametrize("output", [True, 1.0, ["a"], b"a"])
def test_an_output_that_is_neither_index_nor_name(keras, output):
    with raises(InvalidParameterError, "`output`", repr(output), "Pass an int, a string"):
        Saliency(one_input(keras), output=output)


@pytest.mark.parametrize("parameter", ["output_layer", "wrt_layer"])
@pytest.mark.parametrize("layer", [True, 1.5, b"dense", {"a": 1}])
def test_a_layer_that_is_neither_index_nor_path(keras, parameter, layer):
    with raises(InvalidParameterError, "index, name or path", repr(layer), "'backbone/conv5'"):
        Saliency(one_input(keras), **{parameter: layer})


def test_no_layer_to_differentiate_to(keras):
    with raises(InvalidParameterError, "at least one layer", "empty", "Pass None"):
        Saliency(one_input(keras), wrt_layer=[])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("output", [2, -3, "three"])
def test_an_output_that_the_model_does_not_have(keras, form, output):
    model = model_for(form, keras)
    features = model.output
    heads = [keras.layers.Dense(1, name=name)(features) for name in ("one", "two")]
    model = keras.Model(model.inputs, heads)
    with raises(InvalidParameterError, "2 outputs", repr(output), "Pass `output=`"):
        Saliency(model, output=output).explain(given(form, good())[0])


@pytest.mark.parametrize("output", [1, "two"])
def test_an_output_of_a_model_that_has_one(keras, output):
    with raises(InvalidParameterError, "one tensor", repr(output), "Leave `output` out"):
        Saliency(one_input(keras), output=output).explain(good())


@pytest.mark.parametrize("form", FORMS)
def test_logits_of_an_activation_that_cannot_be_found(keras, form):
    def handwritten(x):
        return tf.exp(x) / tf.reduce_sum(tf.exp(x), -1, keepdims=True)

    model = model_for(form, keras, activation=handwritten)
    with raises(InvalidParameterError, "logits=True", "`output_layer`", "logits=False"):
        Saliency(model, logits=True).explain(given(form, good() / 100)[0])


# --- InvalidOperatorError ------------------------------------------------------------------------


@pytest.mark.parametrize("operator", [3, [], b"classification", {"a": 1}])
def test_an_operator_that_is_not_callable(keras, operator):
    with raises(InvalidOperatorError, "callable", repr(operator), "Pass a function"):
        Saliency(one_input(keras), operator=operator)


@pytest.mark.parametrize(
    "operator",
    [
        lambda: None,
        lambda f, x: None,
        lambda f, x, y, z: None,
        lambda f, x, *, y: None,
        lambda f, x, y, *, z: None,
    ],
)
def test_an_operator_that_does_not_take_three_arguments(keras, operator):
    with raises(InvalidOperatorError, "three arguments", "signature (", "g(f, x, y)"):
        Saliency(one_input(keras), operator=operator)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("clasification", "'classification'"),
        ("CLASSIFICATION", "'classification'"),
        ("segmentation", "'semantic segmentation'"),
        ("object_detection", "'object detection'"),
        ("zzz", "'classification'"),
        ("", "'classification'"),
    ],
)
def test_an_unknown_operator_name(keras, name, near):
    with raises(InvalidOperatorError, "name of an operator", repr(name), "Choose one of", near):
        Saliency(one_input(keras), operator=name)


@pytest.mark.parametrize(
    "score",
    [
        pytest.param(lambda f, x, y: f(x)[:, :1], id="(N, 1)"),
        pytest.param(lambda f, x, y: f(x), id="(N, L)"),
        pytest.param(lambda f, x, y: tf.reduce_sum(f(x), 0), id="(L,)"),
        pytest.param(lambda f, x, y: tf.reduce_sum(f(x))[tf.newaxis], id="(1,)"),
        pytest.param(lambda f, x, y: f(x)[1:, 0], id="(N - 1,)"),
        pytest.param(lambda f, x, y: tf.tile(f(x)[:, 0], [2]), id="(2 N,)"),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_a_score_that_is_not_one_per_sample(keras, form, score):
    explainer = Saliency(model_for(form, keras), operator=score)
    with raises(InvalidOperatorError, "(N,)", "shape (", "over all axes but the first"):
        explainer.explain(*given(form, good()))


def test_a_score_as_long_as_the_batch_has_outputs(keras):
    """(L,) is refused also where L equals N."""

    def over_samples(f, x, y):
        return tf.reduce_sum(f(x), 0)

    with raises(InvalidOperatorError, "(N,)", "(2,)"):
        Saliency(one_input(keras), operator=over_samples).explain(good(2, WIDTH))


@pytest.mark.parametrize("form", FORMS)
def test_a_score_that_is_no_tensor(keras, form):
    explainer = Saliency(model_for(form, keras), operator=lambda f, x, y: None)
    with raises(InvalidOperatorError, "a tensor", "NoneType", "Return one score for each sample"):
        explainer.explain(*given(form, good()))


def test_several_maps_of_an_operator_of_its_own(keras):
    explainer = Saliency(one_input(keras), operator=lambda f, x, y: f(x)[:, 0])
    with raises(InvalidOperatorError, "default operator", "leave `operator` out"):
        explainer.explain_outputs(good())


def test_an_operator_that_calls_f_twice_beside_an_inner_layer(keras):
    model = keras.Sequential(
        [keras.layers.Input((3,)), keras.layers.Dense(4, name="inner"), keras.layers.Dense(2)]
    )
    explainer = Saliency(model, wrt_layer="inner", operator=lambda f, x, y: f(x)[:, 0] * f(x)[:, 1])
    with raises(InvalidOperatorError, "calls f once", "several times", "use the result"):
        explainer.explain(good())


@pytest.mark.parametrize("error", [KeyError("mine"), ValueError("mine"), ZeroDivisionError("mine")])
def test_an_operators_own_error_comes_through(keras, error):
    def failing(f, x, y):
        raise error

    with pytest.raises(type(error), match="mine"):
        Saliency(one_input(keras), operator=failing).explain(good())


# --- InvalidModelError ---------------------------------------------------------------------------


@pytest.mark.parametrize("model", [None, 3, "model", np.ones(3), tf.Module(), {"a": 1}], ids=type)
def test_what_is_no_model(model):
    with raises(InvalidModelError, "tf-keras or Keras 3 model", type(model).__name__):
        Saliency(model)


def test_a_class_instead_of_a_model(keras):
    with raises(InvalidModelError, "the class Sequential", "Pass an instance"):
        Saliency(keras.Sequential)


def by_hand(x):
    return np.asarray(x).sum(1)


@pytest.mark.parametrize("model", [by_hand, np.sum, lambda x: tf.reduce_sum(x).numpy()])
def test_what_has_no_gradient(model):
    with raises(InvalidModelError, "TensorFlow operations", "as NumPy does", "black-box"):
        Saliency(model).explain(good())


def test_a_model_of_another_backend(monkeypatch):
    keras3, keras2 = importlib.import_module("keras"), importlib.import_module("tf_keras")
    of_keras3, of_keras2 = one_input(keras3), one_input(keras2)
    monkeypatch.setattr(keras3.config, "backend", lambda: "jax")
    with raises(InvalidModelError, "TensorFlow backend", "'jax'", "KERAS_BACKEND=tensorflow"):
        Saliency(of_keras3)
    assert Saliency(of_keras2).explain(good()).shape == (COUNT, WIDTH)


@pytest.mark.parametrize("form", FORMS)
def test_several_outputs_and_none_chosen(keras, form):
    model = model_for(form, keras)
    heads = [keras.layers.Dense(1, name=name)(model.output) for name in ("one", "two")]
    model = keras.Model(model.inputs, heads)
    with raises(InvalidModelError, "2 outputs", "none", "Pass `output=`", "'one'", "'two'"):
        Saliency(model).explain(given(form, good())[0])


def called_twice(keras, parameter):
    inputs = keras.Input((WIDTH,))
    twice = keras.layers.Dense(WIDTH, name="twice")
    model = keras.Model(inputs, twice(twice(inputs)))
    return Saliency(model, **{parameter: "twice"})


@pytest.mark.parametrize("parameter", ["output_layer", "wrt_layer"])
@pytest.mark.parametrize("form", ["array", "dataset"])
def test_a_layer_that_is_called_twice(keras, form, parameter):
    with raises(InvalidModelError, "once", "2 calls", "'twice:0' to 'twice:1'"):
        called_twice(keras, parameter).explain(*given(form, good()))


@pytest.mark.parametrize("parameter", ["output_layer", "wrt_layer"])
def test_a_layer_in_a_loop(keras, parameter):
    cell = keras.layers.SimpleRNNCell(4, name="cell")
    model = keras.Sequential(
        [keras.layers.Input((6, 2)), keras.layers.RNN(cell, name="rnn"), keras.layers.Dense(2)]
    )
    explainer = Saliency(model, **{parameter: "rnn/cell"})
    with raises(InvalidModelError, "'rnn/cell'", "loop", "contains the loop"):
        explainer.explain(good(COUNT, 6, 2))


@pytest.mark.parametrize("parameter", ["output_layer", "wrt_layer"])
def test_a_layer_that_is_never_called(keras, parameter):
    class Idle(keras.Model):
        def __init__(self):
            super().__init__()
            self.used = keras.layers.Dense(2, name="used")
            self.idle = keras.layers.Dense(2, name="idle")
            self.idle.build((None, WIDTH))

        def call(self, x):
            return self.used(x)

    model = Idle()
    model(good())
    with raises(InvalidModelError, "'idle'", "does not call it", "another layer"):
        Saliency(model, **{parameter: "idle"}).explain(good())


def test_layers_of_a_model_that_has_none():
    class Doubled(tf.Module):
        def __call__(self, x):
            return 2 * x

    with raises(InvalidModelError, "Keras model", "Doubled", "Leave `output_layer`"):
        Saliency(Doubled(), output_layer="dense")


# --- LayerNotFoundError --------------------------------------------------------------------------


@built_once
def nested(keras):
    inner = keras.Sequential(
        [
            keras.layers.Input((WIDTH,)),
            keras.layers.Dense(4, name="first"),
            keras.layers.Dense(4, name="second"),
        ],
        name="backbone",
    )
    return keras.Sequential(
        [keras.layers.Input((WIDTH,)), inner, keras.layers.Dense(2, name="head")]
    )


@pytest.mark.parametrize("parameter", ["output_layer", "wrt_layer"])
@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("haed", "'head'"),
        ("first", "'backbone/first'"),
        ("backbone/secnd", "'backbone/second'"),
        ("spine/second", "'backbone/second'"),
        ("zzzzzz", "'head'"),
    ],
)
def test_an_unknown_layer(keras, parameter, path, near):
    with raises(LayerNotFoundError, "layer of the model", repr(path), "nearest", near):
        Saliency(nested(keras), **{parameter: path})


@pytest.mark.parametrize("parameter", ["output_layer", "wrt_layer"])
@pytest.mark.parametrize("index", [2, -3])
def test_a_layer_index_out_of_range(keras, parameter, index):
    with raises(LayerNotFoundError, "between -2 and 1", str(index), "2 layers"):
        Saliency(nested(keras), **{parameter: index})


def test_an_unknown_layer_in_a_list(keras):
    with raises(LayerNotFoundError, "'haed'", "'head'"):
        Saliency(nested(keras), wrt_layer=["backbone/first", "haed"])


def test_a_call_of_a_layer_that_never_comes(keras):
    inputs = keras.Input((WIDTH,))
    twice = keras.layers.Dense(WIDTH, name="twice")
    model = keras.Model(inputs, twice(twice(inputs)))
    with raises(LayerNotFoundError, "between 0 and 1", "2", "'twice:0' to 'twice:1'"):
        Saliency(model, output_layer="twice:2").explain(good())


def test_an_unknown_layer_of_a_model_that_was_never_built(keras):
    model = keras.Sequential([keras.layers.Dense(2, name="head")])
    with raises(LayerNotFoundError, "'haed'", "'head'"):
        Saliency(model, output_layer="haed").explain(good())


# --- NoGradientError -----------------------------------------------------------------------------


@built_once
def of_tokens(keras):
    inputs = keras.Input((4,), dtype="int32", name="tokens")
    embedded = keras.layers.Embedding(10, 3, name="embedding")(inputs)
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(embedded)))


TOKENS = np.ones((COUNT, 4), np.int32)


@pytest.mark.parametrize("form", ["array", "dataset"])
def test_an_integer_input_has_no_gradient(keras, form):
    with raises(NoGradientError, "embedding looks numbers up", "wrt_layer='"):
        Saliency(of_tokens(keras)).explain(*given(form, TOKENS))


def test_integer_inputs_only_have_no_gradient(keras):
    inputs = [keras.Input((4,), dtype="int32", name=name) for name in ("left", "right")]
    embedding = keras.layers.Embedding(10, 3)
    merged = keras.layers.Concatenate()([embedding(tensor) for tensor in inputs])
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(merged)))
    with raises(NoGradientError, "embedding looks numbers up", "wrt_layer='"):
        Saliency(model).explain([TOKENS, TOKENS])


def test_an_input_without_a_gradient_is_named(keras):
    with raises(NoGradientError, "'tokens'"):
        Saliency(of_tokens(keras)).explain(TOKENS)


@pytest.mark.parametrize(
    "score",
    [
        pytest.param(lambda f, x, y: tf.argmax(f(x), -1), id="argmax"),
        pytest.param(lambda f, x, y: f(x)[:, 0] > 0, id="comparison"),
        pytest.param(lambda f, x, y: tf.cast(f(x)[:, 0], tf.int32), id="cast"),
        pytest.param(lambda f, x, y: 3, id="number"),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_an_operator_that_ends_in_integers(keras, form, score):
    explainer = Saliency(model_for(form, keras), operator=score)
    with raises(NoGradientError, "floating", "argmax", "return the value before"):
        explainer.explain(*given(form, good()))


@pytest.mark.parametrize(
    "score",
    [
        pytest.param(lambda f, x, y: tf.cast(tf.argmax(f(x), -1), tf.float32), id="argmax"),
        pytest.param(lambda f, x, y: tf.ones_like(f(x)[:, 0]), id="constant"),
        pytest.param(lambda f, x, y: tf.stop_gradient(f(x)[:, 0]), id="stopped"),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_a_step_without_a_gradient(keras, form, score):
    explainer = Saliency(model_for(form, keras), operator=score)
    with raises(NoGradientError, "differentiable", "no gradient", "Look for an argmax"):
        explainer.explain(*given(form, good()))


def test_a_wrt_layer_behind_what_is_explained_is_named(keras):
    explainer = Saliency(nested(keras), output_layer="backbone", wrt_layer="head")
    with raises(NoGradientError, "'head'", "comes after what is explained"):
        explainer.explain(good())


@pytest.mark.parametrize("form", ALL_FORMS)
def test_a_gradient_that_is_not_finite(keras, form):
    x = np.ones((COUNT, WIDTH), np.float32)
    x[3] = 0

    def root(f, x, y):
        first = x[0] if isinstance(x, (list, tuple)) else x
        return tf.reduce_sum(f(x), -1) + tf.reduce_sum(tf.sqrt(first), -1)

    explainer = Saliency(model_for(form, keras), operator=root, batch_size=2)
    with raises(NoGradientError, "finite", "sample 3", "sqrt(0)"):
        explainer.explain(*given(form, x))


@pytest.mark.parametrize("form", FORMS)
def test_half_precision_that_overflows(keras, form):
    model = model_for(form, keras, outputs=1)
    tensor = model.output
    for _ in range(2):
        half = keras.layers.Dense(1, dtype="float16", kernel_initializer=huge)
        tensor = half(tensor)
    model = keras.Model(model.inputs, tensor)
    with raises(NoGradientError, "finite", "sample 0", "bfloat16 or float32"):
        Saliency(model).explain(*given(form, good()))


def huge(shape, dtype=None):
    return tf.fill(shape, tf.cast(6e4, dtype))


# --- before computing ----------------------------------------------------------------------------


def counted(keras, runs, inputs=1):
    """Return a model that writes down the size of each batch that it really computes."""

    def see(size):
        runs.append(int(size))
        return np.float32(0)

    def mark(x):
        zero = tf.numpy_function(see, [tf.shape(x)[0]], tf.float32)
        return x + tf.ensure_shape(zero, [])

    class Counted(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(OUTPUTS)

        def call(self, inputs):
            return self.dense(mark(tf.add_n(tf.nest.flatten(inputs))))

    model = Counted()
    model(good() if inputs == 1 else [good()] * inputs)
    runs.clear()
    return model


def test_batches_that_are_computed_are_counted(keras):
    runs = []
    Saliency(counted(keras, runs), batch_size=2).explain(good(), np.zeros(COUNT, int))
    assert runs == [2, 2, 1]


def last(value, *shape):
    array = np.ones((COUNT, *shape), np.asarray(value).dtype)
    array[-1] = value
    return array


EARLY = {
    "NaN": (InvalidInputError, lambda: (last(np.float32(np.nan), WIDTH),)),
    "no class": (InvalidTargetError, lambda: (good(), last(OUTPUTS))),
    "negative class": (InvalidTargetError, lambda: (good(), last(-1))),
    "zeros": (InvalidTargetError, lambda: (good(), last(0.0, OUTPUTS))),
    "NaN weights": (InvalidTargetError, lambda: (good(), last(np.nan, OUTPUTS))),
    "width": (InvalidTargetError, lambda: (good(), np.ones((COUNT, OUTPUTS + 1)))),
    "too few": (InvalidTargetError, lambda: (good(), np.ones(COUNT - 1, int))),
    "too many": (InvalidTargetError, lambda: (good(), np.ones(COUNT + 1, int))),
    "no number": (InvalidTargetError, lambda: (good(), [[1, 0]] * 4 + [[1]])),
    "rank": (InvalidInputError, lambda: (good(COUNT, 3, 1),)),
    "none": (InvalidInputError, lambda: (good(0, WIDTH),)),
    "both": (
        InvalidTargetError,
        lambda: (*given("dataset", good(), np.ones(COUNT, int)), np.ones(COUNT, int)),
    ),
    "endless": (
        InvalidInputError,
        lambda: (tf.data.Dataset.from_tensor_slices(good()).repeat(),),
    ),
    "beside": (
        InvalidTargetError,
        lambda: (*given("dataset", good()), np.ones(COUNT - 1, int)),
    ),
}


@pytest.mark.parametrize("cause", EARLY)
def test_nothing_is_computed_before_an_error_that_can_be_known(keras, cause):
    error, arguments = EARLY[cause]
    runs = []
    with raises(error):
        Saliency(counted(keras, runs), batch_size=2).explain(*arguments())
    assert runs == []


def test_iter_explain_checks_all_labels_before_the_first_batch(keras):
    runs = []
    maps = Saliency(counted(keras, runs), batch_size=2).iter_explain(good(), last(OUTPUTS))
    with raises(InvalidTargetError, "sample 4"):
        next(maps)
    assert runs == []


@pytest.mark.parametrize("cause", ["NaN", "rank", "none", "too few", "both", "beside"])
def test_iter_explain_does_not_wait_for_the_first_batch_with_an_error(keras, cause):
    error, arguments = EARLY[cause]
    with raises(error):
        Saliency(counted(keras, [])).iter_explain(*arguments())


@pytest.mark.parametrize(
    ("operator", "error"),
    [
        (lambda f, x, y: f(x), InvalidOperatorError),
        (lambda f, x, y: tf.argmax(f(x), -1), NoGradientError),
        (lambda f, x, y: tf.ones_like(f(x)[:, 0]), NoGradientError),
    ],
)
def test_nothing_is_computed_with_an_operator_that_cannot_be_explained(keras, operator, error):
    runs = []
    with raises(error):
        Saliency(counted(keras, runs), operator=operator).explain(good())
    assert runs == []


def test_nothing_is_computed_for_an_output_that_does_not_exist(keras):
    runs = []
    with raises(InvalidTargetError):
        Saliency(counted(keras, runs)).explain_outputs(good(), [0, OUTPUTS])
    assert runs == []


def test_nothing_is_computed_for_a_bad_second_input(keras):
    runs = []
    with raises(InvalidInputError, "sample 4"):
        Saliency(counted(keras, runs, inputs=2), batch_size=2).explain(
            [good(), last(np.float32(np.nan), WIDTH)]
        )
    assert runs == []


@pytest.mark.parametrize("cause", ["NaN", "no class", "zeros"])
def test_a_dataset_is_checked_before_each_batch_is_computed(keras, cause):
    error, arguments = EARLY[cause]
    x, y = (*arguments(), None)[:2]
    runs = []
    with raises(error, "sample 4"):
        Saliency(counted(keras, runs), batch_size=2).explain(*given("dataset", x, y))
    assert runs in ([], [2], [2, 2])


def test_a_model_that_was_never_called_is_not_built_for_wrong_inputs(keras):
    model = keras.Sequential([keras.layers.Dense(2)])
    with raises(InvalidInputError):
        Saliency(model).explain(last(np.float32(np.nan), WIDTH))
    with raises(InvalidTargetError):
        Saliency(model).explain(good(), np.ones(2, int))
    assert not model.built


# --- warnings ------------------------------------------------------------------------------------


def explained_twice(explainer, form, *arguments):
    """Return the warnings of two calls, and of another explainer's."""
    inputs = given(form, *arguments)
    with pytest.warns(UserWarning) as record:
        explainer.explain(*inputs)
        explainer.explain_with_scores(*inputs)
        list(explainer.iter_explain(*inputs))
    return [str(warning.message) for warning in record], {w.filename for w in record}


def assert_warns_once(explainer, form, *words, x=None):
    messages, places = explained_twice(explainer, form, good() if x is None else x)
    assert len(messages) == 1
    for word in words:
        assert word in messages[0]
    assert places == {__file__}


@pytest.mark.parametrize("form", FORMS)
def test_a_softmax_is_warned_of_once(keras, form):
    model = model_for(form, keras, activation="softmax")
    x = good() / 100
    for _ in range(2):  # each explainer anew
        assert_warns_once(Saliency(model, batch_size=2), form, "softmax", "logits=True", x=x)


@pytest.mark.parametrize("form", FORMS)
def test_logits_of_a_softmax_are_not_warned_of(keras, form):
    model = model_for(form, keras, activation="softmax")
    assert Saliency(model, logits=True).explain(*given(form, good())) is not None


def test_a_softmax_before_the_explained_layer_is_warned_of(keras):
    model = keras.Sequential(
        [
            keras.layers.Input((3,)),
            keras.layers.Dense(2),
            keras.layers.Softmax(),
            keras.layers.Dense(2),
        ]
    )
    assert_warns_once(Saliency(model, output_layer=-2), "array", "logits=True", x=good() / 100)
    assert Saliency(model).explain(good() / 100) is not None


@pytest.mark.parametrize("form", FORMS)
def test_a_zero_gradient_is_warned_of_once(keras, form):
    model = model_for(form, keras, anew=True, activation="relu")
    model.layers[-1].set_weights([-np.ones_like(w) for w in model.layers[-1].get_weights()])
    words = ("zero everywhere", "sample 0", "logits=True", "dead ReLU")
    for _ in range(2):
        assert_warns_once(Saliency(model, batch_size=2), form, *words)


@pytest.mark.parametrize("form", ALL_FORMS)
def test_a_zero_gradient_is_warned_of_with_its_sample(keras, form):
    model = model_for(form, keras, anew=True, activation="relu", outputs=1)
    weights = model.layers[-1].get_weights()
    model.layers[-1].set_weights([np.ones_like(weights[0]), np.full_like(weights[1], -2.5)])
    x = np.ones((COUNT, WIDTH), np.float32)
    x[3] = -1
    assert_warns_once(Saliency(model, batch_size=2), form, "zero everywhere", "sample 3", x=x)


@pytest.mark.parametrize("form", FORMS)
def test_a_scalar_score_is_warned_of_once(keras, form):
    model = model_for(form, keras)
    for _ in range(2):
        explainer = Saliency(model, batch_size=2, operator=lambda f, x, y: tf.reduce_sum(f(x)))
        assert_warns_once(explainer, form, "one scalar", "slow", "over all axes but the first")


def test_a_linear_model_is_not_warned_of(keras):
    assert Saliency(one_input(keras)).explain(good(), 0).shape == (COUNT, WIDTH)


def test_messages_are_sentences(keras):
    with pytest.raises(InvalidInputError) as caught:
        Saliency(one_input(keras)).explain(good(COUNT, 4))
    assert re.fullmatch(r"Expected .+, but got .+\. [A-Z].+[.)\]]", str(caught.value))
