"""Every form of inputs gives the maps of plain arrays, lazily."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from reference import built_once, class_score, gradient

from xplique_sal import Saliency
from xplique_sal._data.samples import read_samples
from xplique_sal._data.structures import InputSpec, ModelInputs
from xplique_sal.errors import InvalidInputError, InvalidTargetError

COUNT, WIDTH, OUTPUTS = 7, 3, 4
X = np.random.default_rng(1).normal(size=(COUNT, WIDTH)).astype("float32")
Y = np.array([0, 3, 1, 2, 2, 0, 1])
IMAGES = np.random.default_rng(2).normal(size=(COUNT, 4, 5, 2)).astype("float32")
VOLUMES = np.random.default_rng(3).normal(size=(COUNT, 2, 3, 2, 2)).astype("float32")
SERIES = np.random.default_rng(4).normal(size=(COUNT, 6, 2)).astype("float32")


def layers_of(keras):
    return [
        keras.layers.Flatten(),
        keras.layers.Dense(5, activation="tanh"),
        keras.layers.Dense(OUTPUTS),
    ]


@built_once
def network(keras, *shape):
    return keras.Sequential([keras.layers.Input(shape), *layers_of(keras)])


def functional(keras, x=X):
    """Return a model that knows its input's shape and whose gradient depends on the sample."""
    return network(keras, *x.shape[1:])


def new_subclassed(keras):
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.all = layers_of(keras)[1:]

        def call(self, inputs):
            if inputs.shape.rank > 2:
                inputs = tf.reshape(inputs, [-1, int(np.prod(inputs.shape[1:]))])
            for layer in self.all:
                inputs = layer(inputs)
            return inputs

    return Subclassed()


@built_once
def called(keras, *shape):
    model = new_subclassed(keras)
    model(np.ones((2, *shape), np.float32))
    return model


def subclassed(keras, x=None):
    """Return a model that was called on samples like `x`, so that it knows its rank, or never."""
    return new_subclassed(keras) if x is None else called(keras, *x.shape[1:])


def expected(model, x=X, y=Y):
    """Return the maps by a plain tape."""
    maps = np.abs(gradient(class_score(model, y), np.asarray(x, np.float32)))
    return maps.max(-1, keepdims=True) if maps.ndim > 3 else maps


def assert_maps(maps, reference):
    assert maps.dtype == tf.float32
    assert maps.shape == reference.shape
    assert np.ptp(reference) > 0.01
    np.testing.assert_allclose(maps, reference, rtol=1e-4, atol=1e-6)


# --- arrays --------------------------------------------------------------------------------------


@pytest.mark.parametrize("x", [X, SERIES, IMAGES, VOLUMES], ids=["table", "series", "2-D", "3-D"])
@pytest.mark.parametrize("kind", ["functional", "called", "never called"])
def test_maps_are_those_of_a_plain_tape(keras, x, kind):
    make = functional if kind == "functional" else subclassed
    model = make(keras, None if kind == "never called" else x)
    maps = Saliency(model, batch_size=3).explain(x, Y)
    assert_maps(maps, expected(model, x))


FORMS = {
    "tensor": lambda x: tf.constant(x),
    "variable": lambda x: tf.Variable(x),
    "list of arrays": list,
    "tuple of arrays": tuple,
    "list of tensors": lambda x: list(tf.constant(x)),
    "nested lists": lambda x: x.tolist(),
    "array in a list": lambda x: [x],
    "Fortran order": np.asfortranarray,
    "view": lambda x: np.repeat(x, 2, axis=0)[::2],
    "negative strides": lambda x: x[::-1].copy()[::-1],
    "float64": lambda x: x.astype(np.float64),
    "big-endian": lambda x: x.astype(">f4"),
    "read-only": lambda x: np.frombuffer(x.tobytes(), np.float32).reshape(x.shape),
    "masked": lambda x: np.ma.masked_array(x),
}


@pytest.mark.parametrize("x", [X, IMAGES], ids=["table", "images"])
@pytest.mark.parametrize("form", FORMS)
def test_any_form_of_an_array(keras, form, x):
    model = functional(keras, x)
    maps = Saliency(model, batch_size=3).explain(FORMS[form](x), Y)
    assert_maps(maps[0] if isinstance(maps, (list, tuple)) else maps, expected(model, x))


def test_an_array_on_disk(keras, tmp_path):
    on_disk = np.memmap(tmp_path / "x", np.float32, "w+", shape=X.shape)
    on_disk[:] = X
    model = functional(keras)
    assert_maps(Saliency(model, batch_size=3).explain(on_disk, Y), expected(model))


def test_a_data_frame(keras):
    pandas = pytest.importorskip("pandas")
    model = functional(keras)
    labels = pandas.Series(Y, index=range(10, 10 + COUNT))
    frame = pandas.DataFrame(X, index=range(10, 10 + COUNT), columns=list("abc"))
    assert_maps(Saliency(model, batch_size=3).explain(frame, labels), expected(model))


class Frame:
    """Behaves like a pandas frame: rows by label, values by conversion."""

    iloc = None
    dtype = X.dtype
    shape = X.shape

    def __array__(self, dtype=None, copy=None):
        return X.astype(dtype or X.dtype)

    def __getitem__(self, key):
        raise KeyError(key)

    def __len__(self):
        return COUNT


def test_what_is_sliced_by_labels_is_converted(keras):
    model = functional(keras)
    assert_maps(Saliency(model, batch_size=3).explain(Frame(), Y), expected(model))


def test_columns_of_texts_are_converted_and_mixed_ones_are_refused(keras):
    class Columns(Frame):
        def __init__(self, *values):
            self.values = np.array([values] * COUNT, object)

        def __array__(self, dtype=None, copy=None):
            return self.values

    layers = keras.layers
    city, numbers = layers.Input((1,), dtype="string", name="city"), layers.Input((3,), name="x")
    known = layers.Embedding(4, 3)(layers.StringLookup(vocabulary=["a", "b"])(city))
    outputs = layers.Dense(2)(layers.Concatenate()([layers.Flatten()(known), numbers]))
    explainer = Saliency(keras.Model({"city": city, "x": numbers}, outputs))
    texts = np.full((COUNT, 1), "b", object)
    expected = explainer({"city": texts, "x": X}, 1)["x"]
    np.testing.assert_array_equal(explainer({"city": Columns("b"), "x": X}, 1)["x"], expected)
    with pytest.raises(InvalidInputError, match="are two inputs"):
        explainer({"city": Columns("b", 1.0), "x": X}, 1)


@pytest.mark.parametrize(
    "dtype",
    ["float16", "float64", "bfloat16", "bool", "int8", "int16", "int64", "uint8", "uint16"],
)
@pytest.mark.parametrize("kind", ["functional", "never called"])
def test_images_of_any_dtype(keras, dtype, kind):
    x = (np.abs(IMAGES) * 2).astype(tf.as_dtype(dtype).as_numpy_dtype)
    as_float = x.astype(np.float32)
    model = functional(keras, x) if kind == "functional" else subclassed(keras)
    maps = Saliency(model, batch_size=3).explain(x, Y)
    assert_maps(maps, expected(model, as_float))


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "bool", "int64", "uint8"])
def test_tables_of_any_dtype(keras, dtype):
    x = (np.abs(X) * 2).astype(tf.as_dtype(dtype).as_numpy_dtype)
    model = functional(keras)
    assert_maps(Saliency(model).explain(x, Y), expected(model, x.astype(np.float32)))


@pytest.mark.parametrize("dtype", ["float64", "float32", "int32"])
def test_a_model_of_float64_computes_in_it(keras, dtype):
    inputs = keras.Input((WIDTH,), dtype="float64")
    outputs = keras.layers.Dense(1, activation="tanh", dtype="float64")(inputs)
    model = keras.Model(inputs, outputs)
    x = np.array([[1, 2, 3]], dtype)
    seen = []

    def score(f, x, y):
        seen.append((x.dtype, f(x).dtype))
        return f(x)[:, 0]

    maps = Saliency(model, operator=score).explain(x)
    assert set(seen) == {(tf.float64, tf.float64)}
    assert maps.dtype == tf.float32


def test_two_calls_with_different_dtypes_agree(keras):
    model = functional(keras)
    explainer = Saliency(model)
    first = explainer.explain(X, Y)
    np.testing.assert_allclose(explainer.explain(X.astype(np.float64), Y), first, rtol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 2, 3, COUNT, COUNT + 1, 64, None, np.int64(3)])
def test_any_batch_size(keras, batch_size):
    model = functional(keras)
    assert_maps(Saliency(model, batch_size=batch_size).explain(X, Y), expected(model))


@pytest.mark.parametrize("count", [1, 2])
def test_few_samples(keras, count):
    model = functional(keras)
    maps = Saliency(model).explain(X[:count], Y[:count])
    assert_maps(maps, expected(model, X[:count], Y[:count]))


def test_no_sample_is_changed(keras):
    x = X.copy()
    Saliency(functional(keras)).explain(x, Y)
    np.testing.assert_array_equal(x, X)


# --- several inputs ------------------------------------------------------------------------------


@built_once
def two_inputs(keras, form="list"):
    inputs = [keras.Input((WIDTH,), name="a"), keras.Input((4, 5, 2), name="b")]
    features = keras.layers.Concatenate()([keras.layers.Flatten()(tensor) for tensor in inputs])
    features = keras.layers.Dense(5, activation="tanh")(features)
    outputs = keras.layers.Dense(OUTPUTS)(features)
    return keras.Model(inputs if form == "list" else dict(zip("ab", inputs, strict=True)), outputs)


def expected_of_two(model):
    arrays = dict(zip("ab", map(tf.constant, (X, IMAGES)), strict=True))
    with tf.GradientTape() as tape:
        tape.watch(arrays)
        packed = arrays if isinstance(model.input, dict) else list(arrays.values())
        score = tf.gather(model(packed), Y, batch_dims=1)
    gradients = tape.gradient(score, arrays)
    return [np.abs(gradients["a"]), np.abs(gradients["b"]).max(-1, keepdims=True)]


TWO = {
    "list": lambda: [X, IMAGES],
    "tuple": lambda: (X, IMAGES),
    "dict": lambda: {"a": X, "b": IMAGES},
    "unsorted dict": lambda: {"b": IMAGES, "a": X},
    "tensors": lambda: [tf.constant(X), tf.constant(IMAGES)],
    "mixed": lambda: [X.tolist(), tf.constant(IMAGES)],
}


@pytest.mark.parametrize("form", TWO)
def test_two_inputs(keras, form):
    model = two_inputs(keras)
    inputs = TWO[form]()
    maps = Saliency(model, batch_size=3).explain(inputs, Y)
    assert type(maps) is type(inputs)
    if isinstance(maps, dict):
        assert list(maps) == list(inputs)
        maps = [maps["a"], maps["b"]]
    for map_, reference in zip(maps, expected_of_two(model), strict=True):
        assert_maps(map_, reference)


def test_two_inputs_in_a_dict_of_the_models_own(keras):
    model = two_inputs(keras, "dict")
    maps = Saliency(model, batch_size=3).explain({"b": IMAGES, "a": X}, Y)
    for name, reference in zip("ab", expected_of_two(model), strict=True):
        assert_maps(maps[name], reference)


TWO_DATASETS = {
    "((a, b), y)": lambda: ((X, IMAGES), Y),
    "((a, b), y, w)": lambda: ((X, IMAGES), Y, np.ones(COUNT)),
    "({a, b}, y)": lambda: ({"b": IMAGES, "a": X}, Y),
}


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("form", TWO_DATASETS)
def test_two_inputs_in_a_dataset(keras, form, batched):
    model = two_inputs(keras)
    dataset = tf.data.Dataset.from_tensor_slices(TWO_DATASETS[form]())
    maps = Saliency(model, batch_size=3).explain(dataset.batch(4) if batched else dataset)
    maps = [maps["a"], maps["b"]] if "{" in form else maps
    for map_, reference in zip(maps, expected_of_two(model), strict=True):
        assert_maps(map_, reference)


@pytest.mark.parametrize("elements", [((X, IMAGES),), {"a": X, "b": IMAGES}], ids=["tuple", "dict"])
def test_two_inputs_in_a_dataset_without_targets(keras, elements):
    model = two_inputs(keras)
    dataset = tf.data.Dataset.from_tensor_slices(elements).batch(4)
    maps = Saliency(model).explain(dataset, Y)
    maps = [maps["a"], maps["b"]] if isinstance(elements, dict) else maps
    for map_, reference in zip(maps, expected_of_two(model), strict=True):
        assert_maps(map_, reference)


def test_an_input_without_a_gradient_has_none(keras):
    inputs = [keras.Input((WIDTH,), name="x"), keras.Input((1,), dtype="int32", name="category")]
    embedded = keras.layers.Flatten()(keras.layers.Embedding(4, WIDTH)(inputs[1]))
    outputs = keras.layers.Dense(OUTPUTS)(keras.layers.Multiply()([inputs[0], embedded]))
    model = keras.Model(inputs, outputs)
    maps = Saliency(model, batch_size=3).explain([X, Y[:, None]], Y)
    assert maps[1] is None
    x = tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(x)
        score = tf.gather(model([x, tf.constant(Y[:, None])]), Y, batch_dims=1)
    assert_maps(maps[0], np.abs(tape.gradient(score, x)))
    together = Saliency(model).explain_outputs({"category": Y[:, None], "x": X}, [1, 2])
    assert together["category"] is None
    assert together["x"].shape == (COUNT, 2, WIDTH)


# --- datasets ------------------------------------------------------------------------------------


def slices():
    return tf.data.Dataset.from_tensor_slices((X, Y))


def batches():
    return slices().batch(3)


def generated(*batch):
    """Return samples (or batches) whose shapes are not declared beyond their rank."""
    shape = [None] * (len(batch) + 1)
    signature = (
        tf.TensorSpec(shape, tf.float32),
        tf.TensorSpec(shape[1:], tf.int64),
    )
    source = slices().batch(batch[0]) if batch else slices()
    return tf.data.Dataset.from_generator(
        lambda: ((x.numpy(), y.numpy()) for x, y in source), output_signature=signature
    )


def generated_with_shapes():
    signature = (tf.TensorSpec([WIDTH], tf.float32), tf.TensorSpec([], tf.int64))
    return tf.data.Dataset.from_generator(
        lambda: zip(X, Y, strict=True), output_signature=signature
    )


DATASETS = {
    "from_tensor_slices": slices,
    "batch": batches,
    "batch of one": lambda: slices().batch(1),
    "one batch": lambda: slices().batch(100),
    "from_tensors": lambda: tf.data.Dataset.from_tensors((X, Y)),
    "prefetch": lambda: batches().prefetch(tf.data.AUTOTUNE),
    "map": lambda: slices().map(lambda x, y: (x + 0, y)),
    "map after batch": lambda: batches().map(lambda x, y: (x + 0, y), num_parallel_calls=2),
    "unbatch": lambda: batches().unbatch(),
    "padded batch": lambda: slices().padded_batch(3),
    "drop remainder": lambda: slices().batch(1, drop_remainder=True),
    "rebatch": lambda: batches().unbatch().batch(4),
    "rebatch by itself": lambda: slices().batch(2).rebatch(5),
    "ragged rebatch": lambda: slices().batch(4).rebatch([1, 3]),
    "cache": lambda: batches().cache(),
    "generator": generated,
    "generator with shapes": generated_with_shapes,
    "generator of batches": lambda: generated(3),
    "zip": lambda: tf.data.Dataset.zip(
        (tf.data.Dataset.from_tensor_slices(X), tf.data.Dataset.from_tensor_slices(Y))
    ),
    "concatenate": lambda: slices().take(3).concatenate(slices().skip(3)),
    "interleave": lambda: tf.data.Dataset.range(COUNT).interleave(
        lambda i: slices().skip(i).take(1), cycle_length=1
    ),
    "flat map": lambda: batches().flat_map(lambda *xy: tf.data.Dataset.from_tensor_slices(xy)),
    "filter": lambda: slices().filter(lambda x, y: True),
    "shuffle of one": lambda: slices().shuffle(1),
    "repeat once": lambda: batches().repeat(1),
    "window": lambda: (
        slices().window(3).flat_map(lambda x, y: tf.data.Dataset.zip((x.batch(3), y.batch(3))))
    ),
    "weights": lambda: tf.data.Dataset.from_tensor_slices((X, Y, np.full(COUNT, 7.0))).batch(3),
    "options": lambda: batches().with_options(tf.data.Options()),
    "one-hot": lambda: tf.data.Dataset.from_tensor_slices((X, np.eye(OUTPUTS)[Y])).batch(3),
    "one-hot, not batched": lambda: tf.data.Dataset.from_tensor_slices((X, np.eye(OUTPUTS)[Y])),
    "float64": lambda: batches().map(lambda x, y: (tf.cast(x, tf.float64), y)),
}


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("make", [functional, subclassed], ids=["functional", "called"])
def test_a_dataset_gives_the_maps_of_its_arrays(keras, make, dataset):
    model = make(keras, X)
    maps = Saliency(model, batch_size=2).explain(DATASETS[dataset]())
    assert_maps(maps, expected(model))


@pytest.mark.parametrize("dataset", ["from_tensor_slices", "map", "unbatch", "generator", "zip"])
def test_a_dataset_of_samples_builds_a_model_that_was_never_called(keras, dataset):
    model = subclassed(keras)
    assert_maps(Saliency(model, batch_size=2).explain(DATASETS[dataset]()), expected(model))


@pytest.mark.parametrize("dataset", ["batch", "padded batch", "generator of batches", "rebatch"])
def test_batches_of_tables_for_a_model_that_was_never_called_are_refused(keras, dataset):
    """They could be time series."""
    model = subclassed(keras)
    with pytest.raises(InvalidInputError, match="Call the model once"):
        Saliency(model).explain(DATASETS[dataset]())
    assert not model.built


IMAGE_DATASETS = {
    "slices": lambda x: tf.data.Dataset.from_tensor_slices(x),
    "batches": lambda x: tf.data.Dataset.from_tensor_slices(x).batch(3),
    "prefetched": lambda x: tf.data.Dataset.from_tensor_slices(x).batch(3).prefetch(1),
    "uint8": lambda x: (
        tf.data.Dataset.from_tensor_slices(x).map(lambda x: tf.cast(x, tf.uint8)).batch(3)
    ),
}


@pytest.mark.parametrize("x", [SERIES, IMAGES, VOLUMES], ids=["series", "2-D", "3-D"])
@pytest.mark.parametrize("dataset", IMAGE_DATASETS)
def test_a_dataset_beside_targets(keras, dataset, x):
    if dataset == "uint8":
        x = np.round(np.abs(x) * 5)
    model = functional(keras, x)
    maps = Saliency(model, batch_size=2).explain(IMAGE_DATASETS[dataset](x), Y)
    assert_maps(maps, expected(model, x))


@pytest.mark.parametrize("target", [Y, 2, np.eye(OUTPUTS)[Y], tf.constant(Y), Y.tolist(), None])
@pytest.mark.parametrize("batched", [True, False])
def test_a_dataset_beside_targets_of_any_form(keras, target, batched):
    model = functional(keras)
    dataset = tf.data.Dataset.from_tensor_slices(X)
    given = Saliency(model, batch_size=2).explain(dataset.batch(3) if batched else dataset, target)
    assert_maps(given, Saliency(model).explain(X, target).numpy())


def test_scalar_targets_tell_that_a_dataset_is_not_batched(keras):
    model = subclassed(keras)
    dataset = tf.data.Dataset.from_tensor_slices((IMAGES, Y))
    assert_maps(Saliency(model).explain(dataset), expected(model, IMAGES))


@pytest.mark.parametrize("shape", [(4, 5, 2), (6, 2), (COUNT, WIDTH)])
def test_a_dataset_that_can_be_read_both_ways_is_refused(keras, shape):
    dataset = tf.data.Dataset.from_tensor_slices(np.ones((3, *shape), np.float32))
    with pytest.raises(InvalidInputError, match="Call the model once"):
        Saliency(subclassed(keras)).explain(dataset)


def test_a_model_that_was_called_reads_batches_and_samples(keras):
    model = subclassed(keras, IMAGES)
    dataset = tf.data.Dataset.from_tensor_slices(IMAGES)
    for given in (dataset, dataset.batch(3)):
        assert_maps(Saliency(model).explain(given, Y), expected(model, IMAGES))


def test_samples_of_different_sizes_one_by_one(keras):
    """A fully convolutional model takes images of any size, in batches of one."""
    convolution = keras.layers.Conv2D(2, 1, use_bias=False)
    model = keras.Sequential(
        [keras.layers.Input((None, None, 1)), convolution, keras.layers.GlobalAveragePooling2D()]
    )
    convolution.set_weights([np.array([[[[2.0, 3.0]]]])])
    signature = tf.TensorSpec([1, None, None, 1], tf.float32)
    dataset = tf.data.Dataset.from_generator(
        lambda: (np.ones((1, side, side, 1), np.float32) for side in (2, 3)),
        output_signature=signature,
    )
    maps = list(Saliency(model).iter_explain(dataset, 1))
    np.testing.assert_allclose(maps[0], np.full((1, 2, 2, 1), 3 / 4), rtol=1e-6)
    np.testing.assert_allclose(maps[1], np.full((1, 3, 3, 1), 3 / 9), rtol=1e-6)


# --- calls ---------------------------------------------------------------------------------------


def dataset_or_array(form):
    return (X, Y) if form == "array" else (slices(),) if form == "samples" else (batches(),)


@pytest.mark.parametrize("form", ["array", "samples", "batches"])
def test_every_call_gives_the_same_maps(keras, form):
    model = functional(keras)
    explainer = Saliency(model, batch_size=2)
    reference = expected(model)
    assert_maps(explainer(*dataset_or_array(form)), reference)
    maps, scores = explainer.explain_with_scores(*dataset_or_array(form))
    assert_maps(maps, reference)
    np.testing.assert_allclose(scores, model(X).numpy()[range(COUNT), Y], rtol=1e-4, atol=1e-6)
    assert_maps(tf.concat(list(explainer.iter_explain(*dataset_or_array(form))), 0), reference)
    outputs = explainer.explain_outputs(dataset_or_array(form)[0])
    assert outputs.shape == (COUNT, OUTPUTS, WIDTH)
    assert_maps(tf.gather(outputs, Y, batch_dims=1), reference)


@pytest.mark.parametrize("outputs", [None, [2, 0], 1, np.array([3]), (0, 0)])
def test_chosen_outputs_in_their_order(keras, outputs):
    model = functional(keras)
    maps = Saliency(model, batch_size=2).explain_outputs(X, outputs)
    chosen = range(OUTPUTS) if outputs is None else np.atleast_1d(outputs)
    assert maps.shape == (COUNT, len(chosen), WIDTH)
    for position, output in enumerate(chosen):
        assert_maps(maps[:, position], expected(model, y=np.full(COUNT, output)))


@pytest.mark.parametrize("form", ["array", "samples", "batches"])
def test_a_progress_bar_changes_nothing(keras, form, capsys):
    model = functional(keras)
    assert_maps(
        Saliency(model, batch_size=2).explain(*dataset_or_array(form), verbose=1), expected(model)
    )
    assert f"{COUNT}/" in capsys.readouterr().out


def test_iter_explain_gives_one_tensor_a_batch(keras):
    explainer = Saliency(functional(keras), batch_size=3)
    assert [len(maps) for maps in explainer.iter_explain(X, Y)] == [3, 3, 1]
    assert [len(maps) for maps in explainer.iter_explain(slices())] == [3, 3, 1]
    assert [len(maps) for maps in explainer.iter_explain(slices().batch(2))] == [2, 2, 2, 1]
    assert [len(maps) for maps in explainer.iter_explain(slices().batch(4))] == [3, 1, 3]


# --- lazily --------------------------------------------------------------------------------------


class Recorded:
    """An array that writes down which rows were taken of it, and refuses to be read as a whole."""

    def __init__(self, array):
        self.array = array
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim
        self.taken = []

    def __len__(self):
        return len(self.array)

    def __array__(self, *args, **kwargs):
        raise AssertionError("the whole array was read")

    def __getitem__(self, rows):
        assert isinstance(rows, slice)
        self.taken.append(rows.indices(len(self.array))[:2])
        return self.array[rows]


#: Rows so long that they are handed over batch by batch; of short rows it may be several at once.
LONG = np.tile(X, (1, 2000))


def rows_in_order(taken):
    """Tell whether slices follow one another and cover all samples once."""
    ends = [0, *(end for _, end in taken)]
    return [start for start, _ in taken] == ends[:-1] and ends[-1] == COUNT


def test_an_array_is_sliced_batch_by_batch(keras):
    x = Recorded(LONG)
    model = functional(keras, LONG)
    assert_maps(Saliency(model, batch_size=3).explain(x, Y), expected(model, LONG))
    assert x.taken == [(0, 3), (3, 6), (6, 7)]


def test_short_rows_are_taken_once_in_order(keras):
    x = Recorded(X)
    model = functional(keras)
    assert_maps(Saliency(model, batch_size=3).explain(x, Y), expected(model))
    assert rows_in_order(x.taken)


def test_iter_explain_slices_a_batch_when_it_is_due(keras):
    x = Recorded(X)
    maps = Saliency(functional(keras), batch_size=2).iter_explain(x, Y)
    assert x.taken == []
    next(maps)
    assert len(x.taken) <= 2
    assert max(end for _, end in x.taken) <= 4


def test_only_the_first_sample_builds_a_model(keras):
    x = Recorded(LONG)
    model = keras.Sequential(layers_of(keras))
    Saliency(model, batch_size=3).explain(x, Y)
    assert x.taken == [(0, 1), (0, 3), (3, 6), (6, 7)]


def test_two_inputs_are_sliced_together(keras):
    x, images = Recorded(X), Recorded(IMAGES)
    model = two_inputs(keras)
    maps = Saliency(model, batch_size=3).explain([x, images], Y)
    for map_, reference in zip(maps, expected_of_two(model), strict=True):
        assert_maps(map_, reference)
    assert rows_in_order(x.taken)
    assert x.taken == images.taken


def counting_dataset(read, count=10_000):
    def samples():
        for index in range(count):
            read.append(index)
            yield X[index % COUNT]

    return tf.data.Dataset.from_generator(
        samples, output_signature=tf.TensorSpec([WIDTH], tf.float32)
    )


@pytest.mark.parametrize("batched", [True, False])
def test_iter_explain_reads_little_ahead_of_a_dataset(keras, batched):
    read = []
    dataset = counting_dataset(read)
    maps = Saliency(functional(keras), batch_size=4).iter_explain(
        dataset.batch(4) if batched else dataset, 0
    )
    assert not read
    for _ in range(3):
        next(maps)
    maps.close()
    assert len(read) <= 200


def test_an_endless_dataset_is_iterated(keras):
    model = functional(keras)
    maps = Saliency(model, batch_size=COUNT).iter_explain(slices().repeat())
    reference = expected(model)
    for map_ in itertools.islice(maps, 3):
        assert_maps(map_, reference)


@pytest.mark.parametrize("batch_size", [2, None])
def test_a_dataset_is_read_once(keras, batch_size):
    read = []
    dataset = counting_dataset(read, COUNT)
    Saliency(functional(keras), batch_size=batch_size).explain(dataset, 0)
    assert read == list(range(COUNT))


# --- models with a batch size of their own -------------------------------------------------------


@pytest.mark.parametrize("form", ["array", "samples", "batches"])
def test_a_model_that_takes_one_batch_size_only(keras, form):
    inputs = keras.Input(batch_shape=(3, WIDTH))
    features = keras.layers.Dense(5, activation="tanh")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(OUTPUTS)(features))
    twin_input = keras.Input((WIDTH,))
    twin = keras.Model(twin_input, model.layers[2](model.layers[1](twin_input)))
    for batch_size in (1, 3, 64):
        explainer = Saliency(model, batch_size=batch_size)
        assert_maps(explainer.explain(*dataset_or_array(form)), expected(twin))


@pytest.mark.parametrize("form", ["array", "samples", "batches"])
def test_a_model_that_needs_a_static_batch_size(keras, form):
    class Static(keras.Model):
        def __init__(self):
            super().__init__()
            self.all = layers_of(keras)

        def call(self, x):
            x = tf.reshape(x, [int(x.shape[0]), WIDTH])
            for layer in self.all:
                x = layer(x)
            return x

    model = Static()
    model(X[:2])
    for batch_size in (2, 3, 64):
        maps = Saliency(model, batch_size=batch_size).explain(*dataset_or_array(form))
        assert_maps(maps, expected(model))


# --- what is read --------------------------------------------------------------------------------


def test_targets_are_sliced_with_their_inputs():
    samples = read_samples(X, Y, None)
    starts = [(batch.start, batch.targets[0].tolist()) for batch in samples.batches(3)]
    assert starts == [(0, [0, 3, 1]), (3, [2, 2, 0]), (6, [1])]


def test_large_batches_of_a_dataset_are_split():
    known = ModelInputs((InputSpec("x", (None, WIDTH), tf.float32),), 0, None)
    parts = list(read_samples(slices().batch(4), None, known).batches(3))
    assert [(part.start, part.size) for part in parts] == [(0, 3), (3, 1), (4, 3)]
    for part in parts:
        rows = slice(part.start, part.start + part.size)
        np.testing.assert_array_equal(part.inputs[0], X[rows])
        np.testing.assert_array_equal(part.targets[0], Y[rows])


def test_one_target_stands_beside_each_sample():
    samples = read_samples(X, 2, None)
    assert [batch.targets[0].tolist() for batch in samples.batches(3)] == [[2] * 3, [2] * 3, [2]]


def test_the_count_is_known_where_it_can_be():
    assert read_samples(X, None, None).count == COUNT
    assert read_samples(tf.data.Dataset.from_tensor_slices(X), None, None).count == COUNT
    filtered = tf.data.Dataset.from_tensor_slices(X).filter(lambda x: True)
    assert read_samples(filtered, None, None).count is None


def test_targets_that_end_before_an_endless_dataset(keras):
    dataset = tf.data.Dataset.from_tensor_slices(X).repeat()
    maps = Saliency(functional(keras), batch_size=4).iter_explain(dataset, Y)
    assert len(next(maps)) == 4
    with pytest.raises(InvalidTargetError, match="as many targets"):
        next(maps)


# --- as Keras takes them -------------------------------------------------------------------------


def with_a_column(keras):
    inputs = [keras.Input((1,), name="a"), keras.Input((2,), name="b")]
    hidden = keras.layers.Dense(5, activation="tanh")(keras.layers.Concatenate()(inputs))
    return keras.Model(inputs, keras.layers.Dense(OUTPUTS)(hidden))


@pytest.mark.parametrize("form", ["array", "list", "dataset", "batched dataset"])
def test_columns_are_inputs_of_one_feature(keras, form):
    model = with_a_column(keras)
    inputs = {"a": X[:, 0], "b": X[:, 1:]}
    given = (inputs, Y) if form != "list" else ({"a": X[:, 0].tolist(), "b": X[:, 1:]}, Y)
    if "dataset" in form:
        dataset = tf.data.Dataset.from_tensor_slices(given)
        given = (dataset.batch(4) if "batched" in form else dataset,)
    maps = Saliency(model, batch_size=3).explain(*given)
    expected = Saliency(model).explain([X[:, :1], X[:, 1:]], Y)
    assert_maps(maps["a"], expected[0].numpy())
    assert_maps(maps["b"], expected[1].numpy())


@pytest.mark.parametrize("form", ["array", "dataset", "batched dataset", "whole batches"])
def test_grey_images_without_their_channel(keras, form):
    grey = IMAGES[..., :1]
    model = functional(keras, grey)
    given = (grey[..., 0], Y)
    if form != "array":
        dataset = tf.data.Dataset.from_tensor_slices(given)
        given = (dataset if form == "dataset" else dataset.batch(7, form == "whole batches"),)
    assert_maps(Saliency(model).explain(*given), expected(model, grey))


def test_one_grey_image_without_its_batch_axis_is_not_taken_for_columns(keras):
    with pytest.raises(InvalidInputError, match=r"inputs\[None\]"):
        Saliency(functional(keras, IMAGES[..., :1])).explain(IMAGES[0, ..., :1], 1)
    open_size = keras.Sequential(
        [keras.Input((None, None, 1)), keras.layers.GlobalAveragePooling2D()]
    )
    with pytest.raises(InvalidInputError, match=r"inputs\[None\]"):
        Saliency(open_size).explain(IMAGES[0, ..., :1])


@pytest.mark.parametrize("structure", [dict, list])
@pytest.mark.parametrize("batched", [True, False])
def test_several_inputs_of_a_subclassed_model_that_was_called(keras, structure, batched):
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(OUTPUTS, activation="tanh")

        def call(self, x):
            a, b = x.values() if isinstance(x, dict) else x
            return self.dense(a) + self.dense(b)

    def packed(a, b):
        return {"a": a, "b": b} if structure is dict else (a, b)

    model = Subclassed()
    model(packed(X, X) if structure is dict else [X, X])
    dataset = tf.data.Dataset.from_tensor_slices((packed(X, 2 * X), Y))
    maps = Saliency(model, batch_size=3).explain(dataset.batch(4) if batched else dataset)
    reference = Saliency(model).explain(packed(X, 2 * X), Y)
    for part in ("a", "b") if structure is dict else (0, 1):
        assert_maps(maps[part], reference[part].numpy())


def of_texts(keras):
    vectorize = keras.layers.TextVectorization(max_tokens=8)
    vectorize.adapt(["a b c d e"])
    inputs = keras.Input((), dtype="string")
    embedded = keras.layers.Embedding(8, 3, mask_zero=True, name="embedding")(vectorize(inputs))
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.LSTM(4)(embedded)))


def test_maps_of_shorter_texts_are_padded_by_zeros(keras):
    model = of_texts(keras)
    texts = np.array(["a b c d e", "b c", "c", "a b"])
    maps = Saliency(model, wrt_layer="embedding", batch_size=2).explain(texts, 1).numpy()
    assert maps.shape == (4, 5, 3)
    together = Saliency(model, wrt_layer="embedding", batch_size=None).explain(texts, 1)
    np.testing.assert_allclose(maps, together, rtol=1e-4, atol=1e-6)
    assert not maps[2:, 2:].any()
    assert maps[3, :2].all()
    batches = Saliency(model, wrt_layer="embedding", batch_size=2).iter_explain(texts, 1)
    assert [batch.shape[1] for batch in batches] == [5, 2]


def test_maps_of_images_of_several_sizes_are_refused(keras):
    model = keras.Sequential(
        [keras.Input((None, None, 2)), keras.layers.Conv2D(3, 1), keras.layers.GlobalMaxPooling2D()]
    )
    dataset = tf.data.Dataset.from_generator(
        lambda: [IMAGES[:1], IMAGES[:1, :3]],
        output_signature=tf.TensorSpec([None, None, None, 2]),
    )
    with pytest.raises(InvalidInputError, match=r"\(4, 5, 1\), \(3, 5, 1\).*iter_explain"):
        Saliency(model).explain(dataset, 1)
    assert [m.shape[1] for m in Saliency(model).iter_explain(dataset, 1)] == [4, 3]


@pytest.mark.parametrize("kind", ["None", "SciPy", "KerasTensor"])
def test_what_is_no_array_is_named(keras, kind):
    if kind == "SciPy":
        given = pytest.importorskip("scipy.sparse").csr_matrix(X)
    else:
        given = keras.Input((WIDTH,)) if kind == "KerasTensor" else None
    message = {"None": "got None", "SciPy": "toarray", "KerasTensor": "symbolic tensor"}[kind]
    with pytest.raises(InvalidInputError, match=message):
        Saliency(functional(keras)).explain(given, 1)


# --- order, and progress --------------------------------------------------------------------------


def test_a_dataset_that_is_shuffled_anew_is_warned_of(keras):
    explainer = Saliency(functional(keras))
    shuffled = slices().shuffle(COUNT).batch(3)
    for call in (explainer.explain, Saliency(functional(keras)).explain_with_scores):
        with pytest.warns(UserWarning, match="shuffled anew.*with_samples=True"):
            call(shuffled)
    with pytest.warns(UserWarning, match="shuffled anew"):
        list(Saliency(functional(keras)).iter_explain(shuffled))
    explainer.explain(slices().shuffle(COUNT, reshuffle_each_iteration=False).batch(3))


@pytest.mark.parametrize("form", ["shuffled", "batched", "arrays", "without targets"])
def test_maps_with_their_samples(keras, form):
    model = functional(keras)
    given = {
        "shuffled": (slices().shuffle(COUNT).batch(4),),
        "batched": (batches(),),
        "arrays": (X, Y),
        "without targets": (X,),
    }[form]
    seen = []
    for x, y, maps in Saliency(model, batch_size=3).iter_explain(*given, with_samples=True):
        assert (y is None) == (form == "without targets")
        chosen = np.asarray(model(x)).argmax(1) if y is None else y
        assert_maps(maps, expected(model, x, chosen))
        seen.extend(np.asarray(x).tolist())
    assert sorted(seen) == sorted(X.tolist())


@pytest.mark.parametrize("kind", ["batched", "filtered", "generator", "arrays"])
def test_a_progress_bar_ends_its_line_and_knows_the_number_of_samples(keras, kind, capsys):
    given = {
        "batched": (batches(),),
        "filtered": (slices().filter(lambda x, y: True),),
        "generator": (iter([(X, Y)]),),
        "arrays": (X, Y),
    }[kind]
    Saliency(functional(keras), batch_size=2).explain(*given, verbose=1)
    shown = capsys.readouterr().out
    assert f"{COUNT}/{COUNT}" in shown
    assert shown.endswith("\n")
    assert ("Unknown" in shown) <= (kind in ("filtered", "generator"))
