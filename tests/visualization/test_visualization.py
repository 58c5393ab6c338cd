"""keras-vis's entry points, and class visualisation, by value."""

import gc
import warnings
import weakref

import numpy as np
import pytest
import tensorflow as tf
from reference import built_once, gradient

from xplique_sal._tracing.programs import trace_count
from xplique_sal.errors import (
    InvalidInputError,
    InvalidModelError,
    InvalidParameterError,
    InvalidTargetError,
    LayerNotFoundError,
)
from xplique_sal.losses import ActivationMaximization, Loss, LPNorm, TotalVariation
from xplique_sal.visualization import (
    visualize_class,
    visualize_saliency,
    visualize_saliency_with_losses,
)


@built_once
def network(keras, activation="linear"):
    return keras.Sequential(
        [
            keras.layers.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3, activation="tanh", name="conv"),
            keras.layers.Flatten(),
            keras.layers.Dense(5, activation=activation, name="scores"),
        ]
    )


@built_once
def nested(keras):
    backbone = keras.Sequential(
        [keras.layers.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, activation="tanh", name="conv")],
        name="backbone",
    )
    inputs = keras.layers.Input((8, 8, 3))
    features = keras.layers.Flatten()(backbone(inputs))
    return keras.Model(inputs, keras.layers.Dense(5, name="scores")(features))


def subclassed(keras):
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.conv = keras.layers.Conv2D(4, 3, activation="tanh", name="conv")
            self.flatten = keras.layers.Flatten()
            self.scores = keras.layers.Dense(5, name="scores")

        def call(self, inputs):
            return self.scores(self.flatten(self.conv(inputs)))

    return Subclassed()


def image(rng):
    return rng.normal(size=(8, 8, 3)).astype("float32")


def scaled(map_):
    return (map_ - map_.min()) / (map_.max() - map_.min())


def outputs_mean(model, filters):
    return lambda x: tf.reduce_mean(tf.gather(model(x, training=False), filters, axis=-1), axis=-1)


def close(found, expected):
    assert isinstance(found, np.ndarray) and found.dtype == np.float32
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("build", [network, nested, subclassed])
@pytest.mark.parametrize("filters", [2, [2], [0, 4], None])
def test_saliency_equals_a_plain_tape(keras, rng, build, filters):
    model, x = build(keras), image(rng)
    chosen = range(5) if filters is None else np.atleast_1d(filters)
    found = visualize_saliency(model, "scores", filters, x)  # before the model is called
    slope = gradient(outputs_mean(model, list(chosen)), x[None])[0]
    close(found, scaled(np.abs(slope).max(-1)))
    assert found.min() == 0 and found.max() == 1
    close(visualize_saliency(model, -1, filters, x[None]), found)
    losses = [(ActivationMaximization("scores", filters), -1)]
    close(visualize_saliency_with_losses(model, losses, x), found)


@pytest.mark.parametrize(
    ("modifier", "keepdims"),
    [
        *((name, False) for name in ("absolute", "relu", "negate", "small_values", None, tf.sin)),
        ("negate", True),  # which channels are kept does not depend on the modifier
        (tf.sin, True),
    ],
)
def test_the_modifier_comes_before_the_channels(keras, rng, modifier, keepdims):
    model, x = network(keras), image(rng)
    slope = gradient(outputs_mean(model, [1]), x[None])[0].astype(np.float64)
    modified = {
        "absolute": np.abs(slope),
        "relu": np.maximum(slope, 0),
        "negate": -slope,
        "small_values": np.abs(1 / (slope + 1e-7)),
        None: slope,
        tf.sin: np.sin(slope),
    }[modifier]
    expected = scaled(modified if keepdims else modified.max(-1))
    options = {"grad_modifier": modifier, "keepdims": keepdims}
    losses = [(ActivationMaximization(-1, 1), -1)]
    # The reciprocal of a small gradient multiplies its rounding error.
    tolerance = {"atol": 2e-3 if modifier == "small_values" else 2e-5}
    for found in (
        visualize_saliency(model, -1, 1, x, **options),
        visualize_saliency_with_losses(model, losses, x, **options),
    ):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, **tolerance)


def test_the_positions_are_those_of_keras_vis(keras, rng):
    model, x = network(keras), image(rng)
    by_position = visualize_saliency(model, -1, 0, x, "conv", None, "negate", True)
    by_name = visualize_saliency(
        model=model,
        layer_idx=-1,
        filter_indices=0,
        seed_input=x,
        wrt_tensor="conv",
        backprop_modifier=None,
        grad_modifier="negate",
        keepdims=True,
    )
    np.testing.assert_array_equal(by_position, by_name)
    losses = [(ActivationMaximization(-1, 0), -1)]
    by_position = visualize_saliency_with_losses(model, losses, x, "conv", "negate", True)
    np.testing.assert_array_equal(by_position, by_name)


@pytest.mark.parametrize("filters", [3, [0, 3], None])
def test_filters_of_a_convolution(keras, rng, filters):
    model, x = nested(keras), image(rng)
    conv = model.get_layer("backbone")
    chosen = list(range(4) if filters is None else np.atleast_1d(filters))

    def score(x):
        return tf.reduce_mean(tf.gather(conv(x), chosen, axis=-1), [1, 2, 3])

    expected = scaled(np.abs(gradient(score, x[None])[0]).max(-1))
    close(visualize_saliency(model, "backbone/conv", filters, x), expected)


def test_with_respect_to_an_inner_layer(keras, rng):
    model, x = network(keras), image(rng)
    features = model.layers[0](x[None])
    kernel = model.layers[-1].get_weights()[0][:, 2].reshape(6, 6, 4)
    assert features.shape[1:] == kernel.shape
    close(visualize_saliency(model, -1, 2, x, wrt_tensor="conv"), scaled(np.abs(kernel).max(-1)))
    kept = visualize_saliency(model, -1, 2, x, wrt_tensor="conv", keepdims=True)
    close(kept, scaled(np.abs(kernel)))


def test_channels_first_are_reduced(keras, rng):
    model = keras.Sequential(
        [
            keras.layers.Input((3, 4, 5)),
            keras.layers.Flatten(data_format="channels_first"),
            keras.layers.Dense(2),
        ]
    )
    x = rng.normal(size=(3, 4, 5)).astype("float32")
    slope = gradient(outputs_mean(model, [1]), x[None])[0]
    close(visualize_saliency(model, -1, 1, x), scaled(np.abs(slope).max(0)))
    close(visualize_saliency(model, -1, 1, x, keepdims=True), scaled(np.abs(slope)))


def test_the_map_of_a_grey_image_is_its_gradient(keras, rng):
    model, weights = linear(keras, (5, 4, 1))
    x = rng.normal(size=(5, 4, 1)).astype("float32")
    found = visualize_saliency(model, -1, 2, x)
    close(found, scaled(np.abs(weights[2, :, :, 0])))
    close(visualize_saliency(model, -1, 2, x, keepdims=True)[..., 0], found)


@pytest.mark.parametrize("shape", [(6,), (7, 3)])
def test_tables_and_series_keep_their_shape(keras, rng, shape):
    model = keras.Sequential(
        [keras.layers.Input(shape), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    weights = model.layers[-1].get_weights()[0][:, 1].reshape(shape)
    x = rng.normal(size=shape).astype("float32")
    close(visualize_saliency(model, -1, 1, x), scaled(np.abs(weights)))
    close(visualize_saliency(model, -1, 1, x[None]), scaled(np.abs(weights)))


def test_several_inputs_give_several_maps(keras, rng):
    a, b = keras.layers.Input((4,), name="a"), keras.layers.Input((3,), name="b")
    joined = keras.layers.Concatenate()([a, b])
    model = keras.Model({"a": a, "b": b}, keras.layers.Dense(2, name="scores")(joined))
    weights = np.abs(model.get_layer("scores").get_weights()[0][:, 1])
    sample = {"a": np.ones(4, "float32"), "b": np.ones((1, 3), "float32")}
    found = visualize_saliency(model, "scores", 1, sample)
    close(found["a"], scaled(weights[:4]))
    close(found["b"], scaled(weights[4:]))


def test_a_map_of_equal_values_is_zero_without_a_warning(keras):
    model = keras.Sequential(
        [keras.layers.Input((4,)), keras.layers.Dense(1, kernel_initializer="ones")]
    )
    assert not visualize_saliency(model, -1, 0, np.ones(4, "float32")).any()


def test_tiny_gradients_fill_the_range(keras, rng):
    model, x = network.anew(keras), image(rng)
    expected = visualize_saliency(model, -1, 1, x)
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([1e-12 * kernel, bias])
    close(visualize_saliency(model, -1, 1, x), expected)


def test_a_backprop_modifier_is_passed_on(keras, rng):
    model = keras.Sequential(
        [
            keras.layers.Input((6,)),
            keras.layers.Dense(40, activation="relu"),
            keras.layers.Dense(1),
        ]
    )
    x = rng.normal(size=6).astype("float32")
    (kernel, bias), (last, _) = (layer.get_weights() for layer in model.layers)
    active = x @ kernel + bias > 0
    slopes = {
        None: kernel @ (last[:, 0] * active),
        "guided": kernel @ (np.maximum(last[:, 0], 0) * active),
        "relu": kernel @ np.maximum(last[:, 0], 0),
    }
    assert not np.allclose(slopes["guided"], slopes["relu"])
    for rule, slope in slopes.items():
        found = visualize_saliency(model, -1, 0, x, backprop_modifier=rule)
        close(found, scaled(np.abs(slope)))


def test_a_loop_over_images_traces_nothing(keras, rng):
    model = network.anew(keras)

    def each():
        for filters in (0, 3, [0, 1], [3, 4]):
            visualize_saliency(model, -1, filters, image(rng))
        losses = [(ActivationMaximization(-1, [1, 2]), -1), (LPNorm(), 0.1)]
        visualize_saliency_with_losses(model, losses, image(rng))

    each()
    before = trace_count()
    for _ in range(3):
        gc.collect()
        each()
    assert trace_count() == before


def test_replacing_the_softmax_as_in_keras_vis(keras, rng):
    model, x = network.anew(keras, "softmax"), image(rng)
    with pytest.warns(UserWarning, match="softmax"):
        of_softmax = visualize_saliency(model, -1, 1, x)
    model.layers[-1].activation = keras.activations.linear
    found = visualize_saliency(model, -1, 1, x)
    close(found, scaled(np.abs(gradient(outputs_mean(model, [1]), x[None])[0]).max(-1)))
    assert not np.allclose(found, of_softmax)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"filter_indices": 5}, InvalidTargetError, "at most 4"),
        ({"filter_indices": [1, 5]}, InvalidTargetError, "between 0 and 4"),
        ({"filter_indices": -1}, InvalidTargetError, "at least 0"),
        ({"filter_indices": 1.5}, InvalidTargetError, "filter_indices"),
        ({"layer_idx": "score"}, LayerNotFoundError, "scores"),
        ({"layer_idx": 4}, LayerNotFoundError, "between -3 and 2"),
        ({"wrt_tensor": "con"}, LayerNotFoundError, "conv"),
        ({"seed_input": np.ones((8, 8), "float32")}, InvalidInputError, "rank 3"),
        ({"seed_input": np.ones((8, 9, 3), "float32")}, InvalidInputError, "shape"),
        ({"seed_input": np.ones((2, 8, 8, 3), "float32")}, InvalidInputError, "batch of 2"),
        ({"grad_modifier": "abs"}, InvalidParameterError, "grad_modifier"),
    ],
)
def test_saliency_says_what_is_wrong(keras, rng, change, error, message):
    arguments = {"layer_idx": -1, "filter_indices": 0, "seed_input": image(rng), **change}
    with pytest.raises(error, match=message):
        visualize_saliency(network(keras), **arguments)


# Class visualisation.


@built_once
def linear_model(keras, shape, classes, activation):
    return keras.Sequential(
        [
            keras.layers.Input(shape),
            keras.layers.Flatten(),
            keras.layers.Dense(classes, activation=activation),
        ]
    )


def linear(keras, shape=(6,), classes=3, activation="linear"):
    model = linear_model(keras, shape, classes, activation)
    weights = model.layers[-1].get_weights()[0]
    return model, weights.T.reshape(classes, *shape)


@pytest.mark.parametrize("activation", ["linear", "softmax", "sigmoid", tf.nn.log_softmax])
def test_the_best_image_of_a_linear_model_is_known(keras, activation):
    model, weights = linear(keras, (4, 5, 2), activation=activation)
    found = visualize_class(model, 1, l2=0.5)
    assert found.shape == (4, 5, 2) and found.dtype == np.float32
    np.testing.assert_allclose(found, weights[1], atol=2e-4)
    np.testing.assert_allclose(visualize_class(model, [2, 0], l2=2), weights[[2, 0]] / 4, atol=2e-4)


@pytest.mark.parametrize("start", ["black", "given"])
@pytest.mark.parametrize("kind", ["adam", "sgd", "rmsprop"])
def test_any_optimizer_finds_it(keras, rng, kind, start):
    model, weights = linear(keras)
    optimizer = {
        "adam": lambda: keras.optimizers.Adam(0.1, beta_1=0.5),
        "sgd": lambda: keras.optimizers.SGD(0.3, momentum=0.5, clipnorm=10.0),
        "rmsprop": lambda: keras.optimizers.RMSprop(
            keras.optimizers.schedules.ExponentialDecay(0.3, 8, 0.5)
        ),
    }[kind]()
    options = {"optimizer": optimizer, "l2": 0.5, "steps": 100}
    if start == "given":
        options["image"] = rng.normal(size=6)
    for _ in range(2):  # the optimiser's state is not carried over
        found = visualize_class(model, [0, 2], **options)
        np.testing.assert_allclose(found, weights[[0, 2]], atol=1e-3)
    assert int(optimizer.iterations.numpy()) == 0


def test_losses_and_clipping_of_a_linear_model(keras):
    model, weights = linear(keras, (8, 1))
    found = visualize_class(model, 0, l2=0.1, value_range=(-0.2, 0.5), steps=400)
    np.testing.assert_allclose(found, np.clip(weights[0] / 0.2, -0.2, 0.5), atol=1e-3)

    class Energy(Loss):
        def __call__(self, x, f):
            return tf.reduce_sum(tf.square(x - 1), [1, 2])

    # w − 2·(I − 1)·2 = 0, and with the total variation a linear system.
    found = visualize_class(model, 0, l2=0, regularizers=[(Energy(), 2.0)], steps=400)
    np.testing.assert_allclose(found, 1 + weights[0] / 4, atol=1e-3)
    differences = np.diff(np.eye(8), axis=0)
    system = 2 * 0.5 * np.eye(8) + 2 * 3.0 / 8 * differences.T @ differences
    expected = np.linalg.solve(system, weights[0][:, 0])
    found = visualize_class(model, 0, l2=0.5, regularizers=[(TotalVariation(), 3.0)], steps=400)
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-3)


@built_once
def curved(keras, activation="softmax"):
    return keras.Sequential(
        [
            keras.layers.Input((6, 6, 1)),
            keras.layers.Conv2D(4, 3, activation="elu", name="conv"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(4, activation=activation),
        ]
    )


def test_an_image_does_not_depend_on_the_other_classes(keras):
    model = curved(keras)
    options = {"jitter": 2, "seed": 3, "steps": 30, "regularizers": [(LPNorm(), 1.0)]}
    together = visualize_class(model, [3, 0, 2], **options)
    for index, class_ in enumerate((3, 0, 2)):
        alone = visualize_class(model, class_, **options)
        np.testing.assert_allclose(alone, together[index], rtol=1e-3, atol=1e-4)
    in_parts = visualize_class(model, [3, 0, 2], batch_size=2, **options)
    np.testing.assert_allclose(in_parts, together, rtol=1e-3, atol=1e-4)


def test_a_seed_repeats_and_jitter_depends_on_it(keras):
    model = curved(keras)

    def run(**options):
        return visualize_class(model, [1, 2], steps=20, **options)

    np.testing.assert_array_equal(run(jitter=2, seed=0), run(jitter=2, seed=0))
    assert not np.array_equal(run(jitter=2, seed=0), run(jitter=2, seed=1))
    assert not np.array_equal(run(jitter=2, seed=0), run())
    np.testing.assert_array_equal(run(seed=0), run(seed=1))


def test_the_gradient_of_a_moved_image_is_moved_back(keras, rng):
    """A score that no translation changes has the same ascent with and without jitter."""
    model = keras.Sequential(
        [
            keras.layers.Input((5, 4, 2)),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, activation="tanh"),
        ]
    )
    start = rng.normal(size=(5, 4, 2))
    options = {"image": start, "steps": 20, "l2": 0.01}
    still = visualize_class(model, 1, **options)
    np.testing.assert_allclose(
        visualize_class(model, 1, jitter=3, seed=0, **options), still, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("learning_rate", [0.05, 5.0])
def test_the_objective_never_falls_below_its_start(keras, rng, learning_rate):
    model = curved(keras)
    start = rng.normal(size=(6, 6, 1)).astype("float32")
    logits = keras.Model(model.inputs[0], model.layers[-2].output)

    def objective(images):
        kernel, bias = model.layers[-1].get_weights()
        scores = (np.asarray(logits(images)) @ kernel + bias)[np.arange(4), np.arange(4)]
        return scores - 0.05 * np.square(images).sum((1, 2, 3))

    for jitter in (0, 1):
        images = visualize_class(
            model,
            range(4),
            image=start,
            l2=0.05,
            learning_rate=learning_rate,
            steps=15,
            jitter=jitter,
            seed=0,
        )
        assert (objective(images) >= objective(np.stack([start] * 4)) - 1e-4).all()


def test_the_callback_sees_the_whole_way(keras):
    model, weights = linear(keras)
    seen = []
    found = visualize_class(model, 2, l2=0.5, steps=10, callback=lambda *args: seen.append(args))
    steps, images, scores, regularisers = zip(*seen, strict=True)
    assert list(steps) == list(range(11))
    assert not images[0].any()
    np.testing.assert_allclose(scores, [image @ weights[2] for image in images], atol=1e-6)
    np.testing.assert_allclose(regularisers, [0.5 * image @ image for image in images], atol=1e-6)
    objective = np.subtract(scores, regularisers)
    np.testing.assert_array_equal(found, images[10 - objective[::-1].argmax()])

    seen.clear()
    losses = [(LPNorm(2), 3.0)]
    visualize_class(
        model, [0, 1], steps=2, l2=0, regularizers=losses, callback=lambda *args: seen.append(args)
    )
    step, images, scores, regularisers = seen[-1]
    assert step == 2 and images.shape == (2, 6) and scores.shape == (2,)
    np.testing.assert_allclose(regularisers, 3 * np.linalg.norm(images, axis=1) / 6, rtol=1e-5)
    images[:] = 0  # what the callback gets is its own


def test_filters_and_other_layers(keras):
    model = curved(keras)
    kernel, _ = model.get_layer("conv").get_weights()
    found = visualize_class(model, 3, "conv", l2=1.0, value_range=(-1, 1), image=np.ones((6, 6, 1)))
    conv = keras.Model(model.inputs[0], model.get_layer("conv").output)
    assert kernel.shape[-1] == 4
    best = np.asarray(conv(found[None]))[..., 3].mean() - np.square(found).sum()
    assert best > np.asarray(conv(np.ones((1, 6, 6, 1), "float32")))[..., 3].mean() - 36


def test_two_outputs(keras):
    inputs = keras.layers.Input((5,))
    model = keras.Model(
        inputs, [keras.layers.Dense(2, name="a")(inputs), keras.layers.Dense(3, name="b")(inputs)]
    )
    weights = model.get_layer("b").get_weights()[0][:, 2]
    found = visualize_class(model, 2, l2=0.5, output="b" if keras.__name__ == "tf_keras" else 1)
    np.testing.assert_allclose(found, weights, atol=2e-4)


def test_logits_are_taken_where_there_are_any(keras):
    model = curved(keras, "tanh")
    visualize_class(model, 0, steps=2)  # nothing to take
    with pytest.raises(InvalidParameterError, match="logits"):
        visualize_class(model, 0, steps=2, logits=True)
    model, weights = linear(keras, activation="softmax")
    probability = visualize_class(model, 1, l2=0.5, logits=False)
    assert not np.allclose(probability, weights[1], atol=0.05)


def test_a_subclassed_model_needs_a_start(keras, rng):
    model = subclassed(keras)
    with pytest.raises(InvalidInputError, match="image="):
        visualize_class(model, 0)
    found = visualize_class(model, [0, 4], image=rng.normal(size=(8, 8, 3)), steps=3)
    assert found.shape == (2, 8, 8, 3)
    starts = rng.normal(size=(2, 8, 8, 3)).astype("float32")
    each = visualize_class(model, [0, 4], image=starts, steps=3)
    alone = visualize_class(model, 4, image=starts[1], steps=3)
    np.testing.assert_allclose(alone, each[1], rtol=1e-4, atol=1e-5)


def test_a_model_of_one_sample_at_a_time(keras):
    inputs = keras.layers.Input(batch_shape=(1, 6))
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(inputs))
    weights = model.layers[-1].get_weights()[0].T
    np.testing.assert_allclose(visualize_class(model, [0, 1, 2], l2=0.5), weights, atol=2e-4)


def test_one_trace_for_all_steps_and_calls(keras):
    model = curved.anew(keras)

    def run(class_idx, steps):
        visualize_class(model, class_idx, steps=steps, regularizers=[(TotalVariation(), 2.0)])
        gc.collect()

    run([0, 1], 3)
    before = trace_count()
    run([0, 1], 5)
    run(2, 3)
    run([0, 1, 2], 3)
    assert trace_count() == before


def visualised_and_dropped(keras):
    # In a function of its own: before Python 3.13, a frame that autograph has looked at keeps its
    # variables for as long as it runs.
    model = curved.anew(keras)
    weights = [weight.copy() for weight in model.get_weights()]
    visualize_class(model, [0, 1], steps=5, regularizers=[(LPNorm(), 1.0)], jitter=1)
    visualize_saliency(model, -2, 0, np.ones((6, 6, 1), "float32"))
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    return weakref.ref(model)


def test_the_model_is_left_alone_and_let_go(keras):
    reference = visualised_and_dropped(keras)
    gc.collect()
    assert reference() is None


def test_a_start_without_a_gradient_is_told(keras):
    model = keras.Sequential(
        [
            keras.layers.Input((4,)),
            keras.layers.Dense(3, activation="relu"),
            keras.layers.Dense(2),
        ]
    )
    with pytest.warns(UserWarning, match="zero for class 1.*`image="):
        found = visualize_class(model, 1, steps=2)
    assert not found.any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        visualize_class(model, 1, steps=2, image=np.linspace(-1, 1, 4))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"class_idx": 3}, InvalidTargetError, "at most 2"),
        ({"class_idx": [0, 3]}, InvalidTargetError, "at most 2"),
        ({"class_idx": -1}, InvalidTargetError, "at least 0"),
        ({"class_idx": []}, InvalidTargetError, "class_idx"),
        ({"class_idx": 0.5}, InvalidTargetError, "class_idx"),
        ({"steps": 0}, InvalidParameterError, "steps"),
        ({"steps": 2.5}, InvalidParameterError, "steps"),
        ({"jitter": -1}, InvalidParameterError, "jitter"),
        ({"jitter": 1}, InvalidParameterError, "jitter=0"),
        ({"l2": -0.1}, InvalidParameterError, "`l2`"),
        ({"l2": "much"}, InvalidParameterError, "`l2`"),
        ({"learning_rate": 0}, InvalidParameterError, "learning_rate"),
        ({"learning_rate": float("nan")}, InvalidParameterError, "learning_rate"),
        ({"value_range": (1, 0)}, InvalidParameterError, "low < high"),
        ({"value_range": 3}, InvalidParameterError, "low < high"),
        ({"value_range": ("a", "b")}, InvalidParameterError, "low < high"),
        ({"optimizer": "adam"}, InvalidParameterError, "optimizer"),
        ({"regularizers": [LPNorm()]}, InvalidParameterError, "pairs"),
        ({"image": np.ones(5)}, InvalidInputError, "shape"),
        ({"image": np.ones((1, 1, 6))}, InvalidInputError, "rank"),
        ({"image": np.ones((2, 6))}, InvalidInputError, "shape"),
        ({"image": np.full(6, np.nan)}, InvalidInputError, "finite"),
        ({"output_layer": "dens"}, LayerNotFoundError, "dens"),
    ],
)
def test_class_visualisation_says_what_is_wrong(keras, change, error, message):
    model, _ = linear(keras)
    with pytest.raises(error, match=message):
        visualize_class(model, **{"class_idx": 0, "steps": 2, **change})


def test_what_cannot_be_ascended_is_refused(keras):
    model, _ = linear(keras)
    with pytest.raises(InvalidParameterError, match="global_clipnorm"):
        visualize_class(model, 0, optimizer=keras.optimizers.SGD(0.1, global_clipnorm=1.0))
    with pytest.raises(InvalidParameterError, match="learning rate"):
        visualize_class(model, 0, optimizer=keras.optimizers.SGD(1e20), l2=1.0)
    a, b = keras.layers.Input((4,)), keras.layers.Input((4,))
    two = keras.Model([a, b], keras.layers.Dense(1)(keras.layers.Add()([a, b])))
    with pytest.raises(InvalidModelError, match="one input"):
        visualize_class(two, 0)
