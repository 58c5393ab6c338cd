"""What `SaliencyCallback` draws, and that training does not notice it; pictures alone are below."""

import copy
import random
import weakref

import numpy as np
import pytest
import tensorflow as tf

from xplique_sal import Saliency
from xplique_sal._tracing import programs
from xplique_sal.attributions import GuidedBackprop
from xplique_sal.callbacks import SaliencyCallback, picture
from xplique_sal.callbacks.writers import Folder
from xplique_sal.errors import (
    InvalidInputError,
    InvalidModelError,
    InvalidParameterError,
    InvalidTargetError,
    LayerNotFoundError,
    NoGradientError,
)

SIZE = 12


def samples(count=24, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, SIZE, SIZE, 3)).astype("float32"), rng.integers(0, 3, count)


def network(keras, noisy=True):
    """A model with running statistics, random numbers and states."""
    keras.utils.set_random_seed(1)
    layers = keras.layers
    noise = [layers.Dropout(0.3), layers.GaussianNoise(0.1)] if noisy else []
    return keras.Sequential(
        [
            layers.Input((SIZE, SIZE, 3)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.BatchNormalization(),
            *noise,
            layers.Flatten(),
            layers.Dense(3),
        ]
    )


def quiet(keras):
    """One without random numbers: compiled by XLA, tf-keras's differ from run to run."""
    return network(keras, noisy=False)


def compiled(keras, model, **options):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    options.setdefault("jit_compile", False)  # Keras 3 does it by itself, which takes seconds
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"], **options)
    return model


def recorder(keras, record):
    """A callback that calls `record(model)` at the end of each epoch."""
    return keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: record(epoch))


def decoded(path):
    return tf.io.decode_png(tf.io.read_file(str(path))).numpy()


def lightness(pixels):
    """CIE L* of sRGB bytes."""
    shares = np.asarray(pixels) / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    return np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)


def values_of(pixels):
    """The values in [-1, 1] that colours stand for, read off their lightness and hue."""
    pixels = pixels.astype(int)
    return np.where(pixels[..., 2] > pixels[..., 0], -1, 1) * lightness(pixels) / 100


def cell(sheet, index, height, width):
    top = (index // 8) * (height + 4)
    left = (index % 8) * (width + 4)
    return sheet[top : top + height, left : left + width]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def signed(model):
    return Saliency(model, grad_modifier=None, reducer="mean")


@pytest.mark.parametrize("explainer", [Saliency, GuidedBackprop, signed])
def test_every_epoch_shows_the_maps_of_its_weights(keras, tmp_path, explainer):
    x, y = samples()
    model = compiled(keras, network(keras))
    weights = []
    shown = SaliencyCallback(x[:10], y[:10], explainer=explainer, directory=tmp_path, at_start=True)
    weights.append(model.get_weights())
    other = recorder(keras, lambda epoch: weights.append(model.get_weights()))
    model.fit(x, y, epochs=3, verbose=0, callbacks=[shown, other])

    assert names(tmp_path) == [f"epoch_{epoch:04d}.png" for epoch in range(4)]
    by_hand = network(keras)
    for epoch, then in enumerate(weights):
        by_hand.set_weights(then)
        maps = explainer(by_hand).explain(x[:10], y[:10]).numpy()[..., 0]
        sheet = decoded(tmp_path / f"epoch_{epoch:04d}.png")
        zoom = 8  # 12 · 8 = 96
        height, width = 2 * SIZE * zoom + 4, SIZE * zoom
        assert sheet.shape == (2 * height + 4, 8 * width + 7 * 4, 3)
        assert (cell(sheet, 10, height, width) == 255).all()  # two rows, the second with two
        for index in range(10):
            tile = cell(sheet, index, height, width)
            map_ = tile[-SIZE * zoom :: zoom, ::zoom]
            assert (map_.repeat(zoom, 0).repeat(zoom, 1) == tile[-SIZE * zoom :]).all()
            expected = maps[index] / np.abs(maps[index]).max()
            assert np.abs(expected).max() > 0
            # White has no hue, and a byte is 1/255 of a colour.
            difference = np.abs(np.abs(values_of(map_)) - np.abs(expected))
            assert difference.max() < 0.006
            clear = (np.abs(expected) > 0.05) & (np.abs(expected) < 0.97)
            assert (np.sign(values_of(map_)) == np.sign(expected))[clear].all()
            sample = x[index].astype(float)
            grey = (sample - sample.min()) / (sample.max() - sample.min()) * 255
            assert np.abs(tile[: SIZE * zoom : zoom, ::zoom] - grey).max() <= 0.5001


class Drawing:
    """A layer that draws from TensorFlow's global generator, at inference too."""

    @staticmethod
    def of(keras):
        class Drawn(keras.layers.Layer):
            def call(self, inputs, training=None):
                noise = tf.random.get_global_generator().normal(tf.shape(inputs))
                return inputs + 0.01 * noise

        return Drawn()


def subclassed(keras):
    keras.utils.set_random_seed(1)

    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.first = keras.layers.Conv2D(4, 3, activation="relu")
            self.norm = keras.layers.BatchNormalization()
            self.drop = keras.layers.Dropout(0.3)
            self.last = keras.layers.Dense(3)

        def call(self, inputs, training=False):
            hidden = self.norm(self.first(inputs), training=training)
            hidden = self.drop(hidden, training=training)
            return self.last(tf.reduce_mean(hidden, (1, 2)))

    return Net()


def with_global_generator(keras):
    keras.utils.set_random_seed(1)
    inputs = keras.layers.Input((SIZE, SIZE, 3))
    hidden = keras.layers.Flatten()(Drawing.of(keras)(inputs))
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Dropout(0.3)(hidden)))


def trained(keras, build, callbacks, as_dataset, **options):
    tf.random.set_global_generator(tf.random.Generator.from_seed(3))
    x, y = samples(24)
    model = compiled(keras, build(keras), **options)
    data = {"x": x, "y": y, "batch_size": 8, "shuffle": True}
    if as_dataset:
        dataset = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(24).batch(8)
        data = {"x": dataset}
    # Three steps: Keras 3.0 cannot evaluate fewer than `steps_per_execution`.
    validation = {"validation_data": samples(24, seed=1), "validation_batch_size": 8}
    history = model.fit(**data, **validation, epochs=2, verbose=0, callbacks=callbacks)
    return {
        "weights": model.get_weights(),
        "variables": [np.asarray(variable) for variable in model.variables],
        "optimizer": [np.asarray(variable) for variable in model.optimizer.variables],
        "history": [np.float64(values) for _, values in sorted(history.history.items())],
        "drawn": [
            tf.random.uniform((3,)).numpy(),
            tf.random.get_global_generator().state.numpy(),
            np.random.random(3),
            np.array(random.random()),
            np.asarray(keras.layers.Dense(2)(np.ones((1, 3)))),
        ],
    }


@pytest.mark.networks
@pytest.mark.parametrize(
    ("build", "options", "as_dataset"),
    [
        (network, {"steps_per_execution": 3}, True),
        (quiet, {"jit_compile": True}, False),
        (network, {"run_eagerly": True}, False),
        (subclassed, {}, True),
        (with_global_generator, {}, False),
    ],
    ids=["dataset", "jit", "eager", "subclassed", "global generator"],
)
def test_training_is_the_same_to_the_last_bit(keras, tmp_path, build, options, as_dataset):
    x, y = samples(6, seed=5)
    alone = trained(keras, build, [], as_dataset, **options)
    shown = SaliencyCallback(x, y, directory=tmp_path / "maps", log_dir=tmp_path / "log")
    beside = trained(keras, build, [shown], as_dataset, **options)
    assert len(names(tmp_path / "maps")) == 2
    for part, arrays in alone.items():
        assert len(arrays) == len(beside[part]) > 0
        for one, other in zip(arrays, beside[part], strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other, err_msg=part)


class Calls(list):
    """A list to which there can be a weak reference."""


def test_nothing_is_traced_again(keras, tmp_path):
    calls = Calls()
    # What a layer's code holds is compared: a list that grows with each call would be a change.
    seen = weakref.ref(calls)

    class Counted(keras.layers.Layer):
        def call(self, inputs, training=None):
            seen().append(bool(training))
            return inputs

    def model():
        keras.utils.set_random_seed(1)
        inputs = keras.layers.Input((SIZE, SIZE, 3))
        hidden = keras.layers.Flatten()(Counted()(inputs))
        return compiled(keras, keras.Model(inputs, keras.layers.Dense(3)(hidden)))

    x, y = samples(21)
    alone = model()
    calls.clear()
    alone.fit(x, y, batch_size=8, epochs=6, verbose=0)
    without = calls.count(True)
    assert without > 0

    beside = model()
    calls.clear()
    before = programs.trace_count()
    shown = SaliencyCallback(x[:5], y[:5], directory=tmp_path)
    beside.fit(x, y, batch_size=8, epochs=6, verbose=0, callbacks=[shown])
    assert calls.count(True) == without
    assert calls.count(False) == 1
    assert programs.trace_count() == before + 1

    beside.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[shown])
    assert programs.trace_count() == before + 1


def test_no_python_runs_between_batches(keras, tmp_path):
    hooks = [name for name in dir(keras.callbacks.Callback) if name.startswith("on_")]
    assert len(hooks) >= 16
    shown = SaliencyCallback(np.zeros((1, 3)), directory=tmp_path)
    for name in hooks:
        assert name in dir(shown)
        is_empty = getattr(getattr(shown, name), "_is_default", False)
        used = ("on_train_begin", "on_epoch_begin", "on_epoch_end", "on_train_end")
        assert is_empty == (name not in used)
    together = keras.callbacks.CallbackList([shown])
    if keras.__name__ == "tf_keras":
        assert not together._should_call_train_batch_hooks
        assert not together._should_call_test_batch_hooks
        assert not together._should_call_predict_batch_hooks
        assert together._supports_tf_logs
    assert shown.on_something_new(1, logs={}) is None
    with pytest.raises(AttributeError, match="no attribute 'off'"):
        _ = shown.off


def test_a_list_of_callbacks_in_any_order(keras, tmp_path):
    x, y = samples()
    model = compiled(keras, network(keras))
    first = SaliencyCallback(x[:2], y[:2], directory=tmp_path / "a")
    second = SaliencyCallback(x[:2], y[:2], directory=tmp_path / "b", explainer=GuidedBackprop)
    stop = keras.callbacks.EarlyStopping("loss", patience=0, min_delta=100.0)
    together = keras.callbacks.CallbackList(
        [first, stop, second], model=model, epochs=9, steps=3, verbose=0, add_history=True
    )
    model.fit(x, y, epochs=9, verbose=0, callbacks=together)
    assert names(tmp_path / "a") == names(tmp_path / "b") == ["epoch_0001.png", "epoch_0002.png"]
    assert first.params["epochs"] == 9
    model.evaluate(x, y, verbose=0, callbacks=[first])
    model.predict(x, verbose=0, callbacks=[first])
    assert len(names(tmp_path / "a")) == 2


def test_a_model_of_a_distribution_strategy(keras, tmp_path):
    x, y = samples()
    strategy = tf.distribute.MirroredStrategy(["/cpu:0"])
    with strategy.scope():
        model = compiled(keras, network(keras))
    shown = SaliencyCallback(x[:2], y[:2], directory=tmp_path / "a", log_dir=tmp_path / "log")
    model.fit(x, y, epochs=2, verbose=0, callbacks=[shown])
    single = compiled(keras, network(keras))
    single.set_weights(model.get_weights())
    after = SaliencyCallback(x[:2], y[:2], directory=tmp_path / "b", at_start=True, every=9)
    single.fit(x, y, epochs=1, verbose=0, callbacks=[after])
    expected = decoded(tmp_path / "b" / "epoch_0000.png")
    difference = np.abs(decoded(tmp_path / "a" / "epoch_0002.png").astype(int) - expected)
    assert difference.max() <= 1


def test_epochs_are_counted_from_where_fit_goes_on(keras, tmp_path):
    x, y = samples()
    cases = {
        "all": ({}, [4, 5, 6, 7]),
        "every third": ({"every": 3}, [6]),
        "and at the start": ({"every": 3, "at_start": True}, [3, 6]),
        "none": ({"every": 20}, []),
    }
    shown = [
        SaliencyCallback(x[:2], y[:2], directory=tmp_path / name, **options)
        for name, (options, _) in cases.items()
    ]
    model = compiled(keras, network(keras))
    model.fit(x, y, initial_epoch=3, epochs=7, verbose=0, callbacks=shown)
    for name, (_, expected) in cases.items():
        assert names(tmp_path / name) == [f"epoch_{epoch:04d}.png" for epoch in expected]


def nan(x):
    x = x.copy()
    x[1, 2, 3] = np.nan
    return x


@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        (lambda x, y: (x[:4, :5], y[:4]), {}, InvalidInputError),
        (lambda x, y: (x[0], None), {}, InvalidInputError),
        (lambda x, y: (nan(x[:4]), y[:4]), {}, InvalidInputError),
        (lambda x, y: (x[:4], y[:3]), {}, InvalidTargetError),
        (lambda x, y: (x[:4], y[:4] + 7), {}, InvalidTargetError),
        (
            lambda x, y: (x[:4], y[:4]),
            {"explainer": lambda model: Saliency(model, "nowhere")},
            LayerNotFoundError,
        ),
        (
            lambda x, y: (x[:4], y[:4]),
            {"explainer": lambda model: Saliency(model, reducer=None)},
            InvalidParameterError,
        ),
        (lambda x, y: (x[:4], y[:4]), {"explainer": lambda model: 3}, InvalidParameterError),
    ],
)
@pytest.mark.parametrize("on_error", ["raise", "warn"])
def test_what_is_wrong_is_said_before_training(
    keras, tmp_path, arguments, options, error, on_error
):
    x, y = samples()
    model = compiled(keras, network(keras))
    before = model.get_weights()
    shown = SaliencyCallback(
        *arguments(x, y), directory=tmp_path, every=50, on_error=on_error, **options
    )
    with pytest.raises(error):
        model.fit(x, y, epochs=2, verbose=0, callbacks=[shown])
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_is_said_before_training(keras, tmp_path):
    x, y = samples()
    (tmp_path / "file").write_text("")
    model = compiled(keras, network(keras))
    before = model.get_weights()
    shown = SaliencyCallback(x[:4], y[:4], directory=tmp_path / "file")
    with pytest.raises(InvalidParameterError, match="directory"):
        model.fit(x, y, verbose=0, callbacks=[shown])
    np.testing.assert_array_equal(before[0], model.get_weights()[0])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"directory": "maps", "every": 0},
        {"directory": "maps", "every": True},
        {"directory": "maps", "zoom": 1.5},
        {"directory": "maps", "vmax": 0},
        {"directory": "maps", "vmax": float("inf")},
        {"directory": "maps", "on_error": "ignore"},
        {"directory": "maps", "explainer": 3},
    ],
)
def test_parameters_are_checked_at_once(options):
    with pytest.raises(InvalidParameterError):
        SaliencyCallback(np.zeros((1, 3)), **options)


def test_a_model_that_training_builds(keras, tmp_path):
    x, y = samples()
    shown = SaliencyCallback(x[:4], y[:4] + 9, directory=tmp_path, every=5)
    model = compiled(keras, subclassed(keras))
    with pytest.raises(InvalidTargetError, match="after epoch 1 of `fit`"):
        model.fit(x, y, epochs=3, verbose=0, callbacks=[shown])

    model = compiled(keras, subclassed(keras))
    shown = SaliencyCallback(nan(x[:4]), y[:4], directory=tmp_path)
    with pytest.raises(InvalidInputError, match="sample 1"):
        model.fit(x, y, epochs=3, verbose=0, callbacks=[shown])
    assert not model.built

    shown = SaliencyCallback(x[:4], y[:4], directory=tmp_path, at_start=True)
    model = compiled(keras, subclassed(keras))
    with pytest.raises(InvalidModelError, match="Call the model once"):
        model.fit(x, y, epochs=1, verbose=0, callbacks=[shown])
    model(x[:1])
    model.fit(x, y, epochs=1, verbose=0, callbacks=[shown])
    assert names(tmp_path) == ["epoch_0000.png", "epoch_0001.png"]


def test_weights_that_are_not_finite_end_training_or_are_told(keras, tmp_path):
    x, y = samples()

    def fit(**options):
        model = compiled(keras, network(keras))

        def spoil(epoch):
            if epoch == 1:
                model.set_weights([weight * np.nan for weight in model.get_weights()])

        shown = SaliencyCallback(x[:4], y[:4], directory=tmp_path, **options)
        model.fit(x, y, epochs=3, verbose=0, callbacks=[recorder(keras, spoil), shown])

    with pytest.raises(NoGradientError, match="after epoch 2 of `fit`"):
        fit()
    assert names(tmp_path) == ["epoch_0001.png"]
    with pytest.warns(UserWarning, match="no picture of the maps after epoch [23]") as caught:
        fit(on_error="warn")
    assert len([one for one in caught if "no picture" in str(one.message)]) == 2
    assert names(tmp_path) == ["epoch_0001.png"]


def test_an_error_that_is_not_ours_is_raised_as_it_is(keras, tmp_path):
    x, y = samples()

    class Failing:
        calls = 0

        def explain(self, inputs, targets):
            Failing.calls += 1
            if Failing.calls == 3:
                raise ArithmeticError("on purpose")
            return np.ones((4, SIZE, SIZE, 1))

    shown = SaliencyCallback(
        x[:4], y[:4], directory=tmp_path, explainer=lambda model: Failing(), show_inputs=False
    )
    model = compiled(keras, network(keras))
    with pytest.raises(ArithmeticError, match="on purpose"):
        model.fit(x, y, epochs=5, verbose=0, callbacks=[shown])
    assert names(tmp_path) == ["epoch_0001.png"]
    # Interrupted, and used again.
    model.fit(x, y, epochs=2, verbose=0, callbacks=[shown])
    assert names(tmp_path) == ["epoch_0001.png", "epoch_0002.png"]


def test_a_file_is_whole_or_not_there(tmp_path, monkeypatch):
    folder = Folder(tmp_path / "new" / "folder")
    black, white = np.zeros((2, 5, 4, 3), np.uint8), np.full((2, 5, 4, 3), 255, np.uint8)
    folder.write(3, "", black)
    (tmp_path / "new/folder/epoch_0009.png").write_bytes(b"of an earlier run")

    def fails(*args, **kwargs):
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(tf.io.gfile, "rename", fails)
        with pytest.raises(OSError, match="disk full"):
            folder.write(3, "", white)
        with pytest.raises(OSError, match="disk full"):
            folder.write(4, "", white)
    path = tmp_path / "new/folder"
    assert names(path) == ["epoch_0003.png", "epoch_0009.png"]
    assert decoded(path / "epoch_0003.png")[0, 0].tolist() == [0, 0, 0]
    folder.write(3, "", white)
    assert decoded(path / "epoch_0003.png").min() == 255
    assert (path / "epoch_0009.png").read_bytes() == b"of an earlier run"
    folder.write(12345, "b", white)
    assert "epoch_12345_b.png" in names(path)


def two_inputs(keras):
    keras.utils.set_random_seed(0)
    layers = keras.layers
    inputs = {
        "image": layers.Input((6, 6, 2), name="image"),
        "row": layers.Input((5,), name="row"),
        "category": layers.Input((2,), dtype="int32", name="category"),
    }
    parts = [
        layers.Flatten()(inputs["image"]),
        inputs["row"],
        layers.Flatten()(layers.Embedding(4, 2)(inputs["category"])),
    ]
    hidden = layers.Dense(8, activation="relu")(layers.Concatenate()(parts))
    outputs = {
        "kind": layers.Dense(3, name="kind")(hidden),
        "size": layers.Dense(1, name="size")(hidden),
    }
    model = keras.Model(inputs, outputs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", {"kind": loss, "size": "mse"})
    return model


def test_several_inputs_and_outputs_as_dicts(keras, tmp_path, rng):
    model = two_inputs(keras)
    x = {
        "image": rng.normal(size=(20, 6, 6, 2)).astype("float32"),
        "row": rng.normal(size=(20, 5)).astype("float32"),
        "category": rng.integers(0, 4, (20, 2)),
    }
    y = {"kind": rng.integers(0, 3, 20), "size": rng.normal(size=(20, 1))}
    fixed = {name: array[:3] for name, array in x.items()}

    def explainer(model):
        return Saliency(model, output="kind")

    shown = SaliencyCallback(fixed, 1, explainer=explainer, directory=tmp_path, zoom=2)
    model.fit(x, y, epochs=2, verbose=0, callbacks=[shown])
    assert names(tmp_path) == [
        *("epoch_0001_image.png", "epoch_0001_row.png"),
        *("epoch_0002_image.png", "epoch_0002_row.png"),
    ]
    maps = explainer(model).explain(fixed, 1)
    image = decoded(tmp_path / "epoch_0002_image.png")
    assert image.shape == (12 + 4 + 12, 3 * 12 + 2 * 4, 3)
    row = decoded(tmp_path / "epoch_0002_row.png")
    assert row.shape == (2 + 4 + 2, 3 * 10 + 2 * 4, 3)
    for index in range(3):
        expected = maps["row"][index].numpy() / maps["row"][index].numpy().max()
        found = values_of(row[-1, 14 * index : 14 * index + 10 : 2])
        np.testing.assert_allclose(np.abs(found), expected, atol=0.006)
        expected = maps["image"][index].numpy()[..., 0]
        found = values_of(image[-12::2, 16 * index : 16 * index + 12 : 2])
        np.testing.assert_allclose(np.abs(found), expected / expected.max(), atol=0.006)


def test_inner_layers_are_drawn_without_samples_of_another_size(keras, tmp_path):
    x, y = samples()
    model = compiled(keras, network(keras))
    first = model.layers[0].name

    def explainer(model):
        return Saliency(model, wrt_layer=[first])

    shown = SaliencyCallback(x[:2], y[:2], explainer=explainer, directory=tmp_path, zoom=1)
    model.fit(x, y, epochs=1, verbose=0, callbacks=[shown])
    assert decoded(tmp_path / "epoch_0001.png").shape == (10, 24, 3)


@pytest.mark.parametrize("batched", [True, False])
def test_samples_are_read_once(keras, tmp_path, batched):
    x, y = samples()
    fixed, labels = x[:5].copy(), y[:5].copy()
    read = []

    def seen(image, label):
        read.append(1)
        return image, label

    dataset = tf.data.Dataset.from_tensor_slices((fixed, labels)).map(
        lambda image, label: tf.numpy_function(seen, [image, label], [tf.float32, tf.int64])
    )
    dataset = dataset.map(
        lambda image, label: (tf.ensure_shape(image, x.shape[1:]), tf.ensure_shape(label, ()))
    )
    dataset = dataset.shuffle(5).batch(2) if batched else dataset.shuffle(5)
    callbacks = [
        SaliencyCallback(fixed, labels, directory=tmp_path / "arrays"),
        SaliencyCallback(tf.constant(fixed), labels, directory=tmp_path / "tensor"),
        SaliencyCallback(list(fixed), list(labels), directory=tmp_path / "list"),
        SaliencyCallback(dataset, directory=tmp_path / "dataset"),
    ]
    fixed[:], labels[:] = 0, 0
    model = compiled(keras, network(keras))
    model.fit(x, y, epochs=3, verbose=0, callbacks=callbacks)
    assert len(read) == 5
    width = SIZE * 8
    orders = []
    for epoch in ("epoch_0001.png", "epoch_0003.png"):
        expected = decoded(tmp_path / "arrays" / epoch)
        for other in ("tensor", "list"):
            np.testing.assert_array_equal(decoded(tmp_path / other / epoch), expected)
        shuffled = decoded(tmp_path / "dataset" / epoch)
        cells = [cell(expected, i, len(expected), width).tobytes() for i in range(5)]
        order = [cells.index(cell(shuffled, i, len(expected), width).tobytes()) for i in range(5)]
        assert sorted(order) == list(range(5))
        orders.append(order)
    assert orders[0] == orders[1]


def test_an_endless_dataset_is_refused(tmp_path):
    dataset = tf.data.Dataset.from_tensors(tf.zeros((1, 3))).repeat()
    with pytest.raises(InvalidInputError, match="take"):
        SaliencyCallback(dataset, directory=tmp_path)


@pytest.mark.parametrize("shape", [(7, 2), (6,)])
def test_series_and_tables(keras, tmp_path, rng, shape):
    x, y = rng.normal(size=(16, *shape)).astype("float32"), np.arange(16) % 2
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential([layers.Input(shape), layers.Flatten(), layers.Dense(2)])
    compiled(keras, model)
    shown = SaliencyCallback(x[:3], 1, explainer=signed, directory=tmp_path, vmax=0.5, zoom=1)
    model.fit(x, y, epochs=1, verbose=0, callbacks=[shown])
    sheet = decoded(tmp_path / "epoch_0001.png")
    height, width = shape if len(shape) == 2 else (1, *shape)
    assert sheet.shape == (2 * height + 4, 3 * width + 8, 3)
    # A linear model: every map is its weights, and `vmax` is the same for all.
    weights = np.asarray(model.layers[-1].get_weights()[0])[:, 1].reshape(height, width)
    expected = np.clip(weights / 0.5, -1, 1)
    for index in range(3):
        map_ = sheet[height + 4 :, index * (width + 4) :][:, :width]
        found = values_of(map_)
        np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=0.006)
        clear = (np.abs(expected) > 0.05) & (np.abs(expected) < 0.97)
        assert clear.any() and (np.sign(found) == np.sign(expected))[clear].all()


def events(folder):
    (path,) = folder.iterdir()
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        event = tf.compat.v1.Event.FromString(record)
        for value in event.summary.value:
            yield event.step, value


def test_tensorboard_gets_every_sample(keras, tmp_path):
    x, y = samples()
    model = compiled(keras, network(keras))
    shown = SaliencyCallback(
        *(x[:3], y[:3]), log_dir=tmp_path / "log", directory=tmp_path / "maps", at_start=True
    )
    off = tf.summary.record_if(False)  # as another callback does between its steps
    with off:
        model.fit(x, y, epochs=2, verbose=0, callbacks=[shown])
    found = list(events(tmp_path / "log"))
    assert [(step, value.tag) for step, value in found] == [
        (step, "saliency") for step in (-1, 0, 1)
    ]
    for epoch, (_, value) in enumerate(found):
        assert value.metadata.plugin_data.plugin_name == "images"
        width, height, *pictures = tf.make_ndarray(value.tensor)
        assert (width, height, len(pictures)) == (b"96", b"196", 3)
        sheet = decoded(tmp_path / "maps" / f"epoch_{epoch:04d}.png")
        for index, encoded in enumerate(pictures):
            expected = cell(sheet, index, 196, 96)
            np.testing.assert_array_equal(tf.io.decode_png(encoded).numpy(), expected)


def test_the_log_is_what_tensorflow_writes_itself(tmp_path):
    pytest.importorskip("tensorboard")
    from xplique_sal.callbacks.writers import Log

    pictures = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3)).astype(np.uint8)
    log = Log(tmp_path / "ours", "a")
    log.write(4, "b", pictures)
    log.close()
    with tf.summary.create_file_writer(str(tmp_path / "theirs")).as_default():
        tf.summary.image("a/b", pictures, step=3)
    ((step, ours),), ((other_step, theirs),) = (
        events(tmp_path / "ours"),
        events(tmp_path / "theirs"),
    )
    assert step == other_step == 3
    assert ours.SerializeToString() == theirs.SerializeToString()


def test_a_copy_works_like_the_original(keras, tmp_path):
    x, y = samples()
    shown = SaliencyCallback(x[:2], y[:2], directory=tmp_path)
    model = compiled(keras, network(keras))
    model.fit(x, y, epochs=1, verbose=0, callbacks=[copy.deepcopy(shown)])
    assert names(tmp_path) == ["epoch_0001.png"]
    assert shown.model is None


def test_lightness_grows_evenly_with_size():
    values = np.linspace(-1, 1, 401)
    colours = picture.colours(values[None, None], vmax=1.0)[0, 0]
    np.testing.assert_allclose(lightness(colours), 100 * np.abs(values), atol=0.3)
    middle = (np.abs(values) > 0.02) & (np.abs(values) < 0.98)
    warm = colours[:, 0].astype(int) > colours[:, 2]
    assert (warm == (values > 0))[middle].all()
    assert colours[200].tolist() == [0, 0, 0]
    assert colours[0].tolist() == colours[-1].tolist() == [255, 255, 255]
    assert (picture.colours(np.zeros((2, 3, 4))) == 0).all()
    # Each map by its own largest size, unless one is given.
    both = picture.colours(np.array([[[1.0, -0.5]], [[4.0, -2.0]]]))
    np.testing.assert_array_equal(both[0], both[1])
    cut = picture.colours(np.array([[[1.0, -9.0]]]), vmax=4.0)
    assert cut[0, 0, 0].tolist() == [119, 19, 0] and cut[0, 0, 1].tolist() == [255, 255, 255]


def test_channels_are_where_the_model_has_them(rng):
    maps, images = rng.normal(size=(2, 1, 5, 4)), rng.normal(size=(2, 3, 5, 4))
    values = picture.sheet_of_maps(maps, 1)
    np.testing.assert_array_equal(values, maps[:, 0])
    first = picture.sheet_of_samples(images, values.shape, 1)
    last = picture.sheet_of_samples(np.moveaxis(images, 1, -1), values.shape, -1)
    np.testing.assert_array_equal(first, last)
    assert first.shape == (2, 5, 4, 3)
    assert picture.sheet_of_samples(images, (2, 5, 5), 1) is None
    two = picture.sheet_of_samples(images[:, :2], values.shape, 1)
    assert (two[..., 0] == two[..., 2]).all()
    mean = images[:, :2].mean(1)
    span = mean.max((1, 2), keepdims=True) - mean.min((1, 2), keepdims=True)
    expected = (mean - mean.min((1, 2), keepdims=True)) / span * 255
    assert np.abs(two[..., 1] - expected).max() <= 0.5001
    for wrong in (np.zeros((2, 3, 4, 4, 1)), np.zeros((2, 5, 4, 3)), np.zeros(2)):
        with pytest.raises(InvalidParameterError, match="drawn"):
            picture.sheet_of_maps(wrong, -1)
    with pytest.raises(InvalidInputError, match="finite"):
        picture.sheet_of_maps(np.full((1, 2), np.nan), -1)
