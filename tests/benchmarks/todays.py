"""Networks as they are built today, of random weights, with samples of random numbers."""

from typing import NamedTuple

import numpy as np
from process import keras_of


class Sized(NamedTuple):
    """What is measured of a network.

    Attributes
    ----------
    shape
        Of one sample.
    count
        How many samples make a batch.
    most
        What a map may cost, in forward passes; ``None`` if nothing was promised.
    """

    shape: tuple
    count: int
    most: float | None


NETWORKS = {
    "ViT": Sized((224, 224, 3), 8, 2.3),
    "ConvNeXtTiny": Sized((224, 224, 3), 4, 2.4),
    "EfficientNetV2B0": Sized((224, 224, 3), 4, 2.2),
    "LSTM": Sized((100, 16), 64, 2.5),
    "GRU": Sized((100, 16), 64, None),
    "Conv1D": Sized((1000, 12), 32, 2.1),
    "U-Net": Sized((128, 128, 3), 4, 2.1),
    "MLP": Sized((30,), 64, None),
}


def build(kind, name):
    """Return a network of one of these names, or of ``keras.applications``."""
    keras = keras_of(kind)
    keras.utils.set_random_seed(0)
    makers = {
        "ViT": vision_transformer,
        "LSTM": lambda keras, shape: recurrent(keras, shape, "LSTM"),
        "GRU": lambda keras, shape: recurrent(keras, shape, "GRU"),
        "Conv1D": convolutions_of_series,
        "U-Net": u_net,
        "MLP": dense,
        "SpliceAI-like": dilated,
    }
    if name in makers:
        shape = NETWORKS[name].shape if name in NETWORKS else (5000, 4)
        return with_drawn_normalisation(makers[name](keras, shape))
    make = getattr(keras.applications, name)
    shape = NETWORKS[name].shape if name in NETWORKS else (224, 224, 3)
    return make(weights=None, input_shape=shape, classifier_activation=None)


def samples(name, model, count=None):
    """Return samples and one-hot targets of random numbers."""
    rng = np.random.default_rng(0)
    shape, count = model.input_shape[1:], count or NETWORKS[name].count
    x = rng.normal(size=(count, *shape)).astype("float32")
    outputs = model.output_shape[1:]
    if len(outputs) > 1:
        return x, np.ones((count, *outputs), "float32")
    return x, np.eye(outputs[0], dtype="float32")[rng.integers(0, outputs[0], count)]


def with_drawn_normalisation(model):
    """Draw gamma, beta and the statistics of every normalisation, and return the model."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        for name, low, high in (("gamma", 0.5, 1.5), ("beta", -0.3, 0.3)):
            if getattr(layer, name, None) is not None:
                variable = getattr(layer, name)
                variable.assign(rng.uniform(low, high, variable.shape))
        if hasattr(layer, "moving_variance"):
            layer.moving_mean.assign(rng.uniform(-0.3, 0.3, layer.moving_mean.shape))
            layer.moving_variance.assign(rng.uniform(0.5, 1.5, layer.moving_variance.shape))
    return model


def vision_transformer(keras, shape, width=192, blocks=6, heads=3, patch=16):
    """Return a transformer of patches, normalised before each part, with GELU."""
    layers = keras.layers
    inputs = layers.Input(shape)
    x = layers.Conv2D(width, patch, patch)(inputs)
    x = layers.Reshape((-1, width))(x)
    for _ in range(blocks):
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        x = x + layers.MultiHeadAttention(heads, width // heads)(y, y)
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        y = layers.Dense(4 * width, activation="gelu")(y)
        x = x + layers.Dense(width)(y)
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(10)(x))


def recurrent(keras, shape, name):
    """Return one recurrent layer of 64 units, and a dense one."""
    layers = keras.layers
    return keras.Sequential([layers.Input(shape), getattr(layers, name)(64), layers.Dense(5)])


def convolutions_of_series(keras, shape):
    """Return three convolutions of series, each normalised."""
    layers = keras.layers
    inputs = x = layers.Input(shape)
    for filters in (64, 128, 64):
        x = layers.Conv1D(filters, 9, padding="same")(x)
        x = layers.Activation("relu")(layers.BatchNormalization()(x))
    return keras.Model(inputs, layers.Dense(5)(layers.GlobalAveragePooling1D()(x)))


def u_net(keras, shape, width=32):
    """Return a U-Net of three levels, with normalisation."""
    layers = keras.layers

    def twice(x, filters):
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding="same")(x)
            x = layers.Activation("relu")(layers.BatchNormalization()(x))
        return x

    inputs = x = layers.Input(shape)
    kept = []
    for level in range(3):
        kept.append(x := twice(x, width * 2**level))
        x = layers.MaxPooling2D()(x)
    x = twice(x, width * 8)
    for level in reversed(range(3)):
        x = layers.Conv2DTranspose(width * 2**level, 2, 2)(x)
        x = twice(layers.Concatenate()([x, kept[level]]), width * 2**level)
    return keras.Model(inputs, layers.Conv2D(3, 1)(x))


def dense(keras, shape):
    """Return two dense layers."""
    layers = keras.layers
    inputs = layers.Input(shape)
    hidden = layers.Dense(32, activation="relu")(inputs)
    return keras.Model(inputs, layers.Dense(2)(hidden))


def dilated(keras, shape, filters=32):
    """Return residual blocks of dilated convolutions of series, as SpliceAI is made of."""
    layers = keras.layers
    inputs = layers.Input(shape)
    x = skip = layers.Conv1D(filters, 1)(inputs)
    for length, dilation in ((11, 1), (11, 4), (21, 10), (41, 25)):
        for _ in range(4):
            y = x
            for _ in range(2):
                y = layers.Activation("relu")(layers.BatchNormalization()(y))
                y = layers.Conv1D(filters, length, dilation_rate=dilation, padding="same")(y)
            x = layers.Add()([x, y])
        skip = layers.Add()([skip, layers.Conv1D(filters, 1)(x)])
    return keras.Model(inputs, layers.Conv1D(3, 1)(layers.Cropping1D(1000)(skip)))
