"""The networks that are measured, with weights and images that resemble real ones."""

from typing import NamedTuple

import numpy as np
from process import keras_of


class Network(NamedTuple):
    """How a network of ``keras.applications`` is measured.

    Attributes
    ----------
    module
        Where its ``preprocess_input`` is.
    size
        The side of its images.
    count
        How many of them make a batch: fewer for slow networks.
    small
        A side for comparing gradients. The more units there are, the more images have one that
        rounding flips; where that is every second image, the median error is a matter of chance.
    """

    module: str
    size: int
    count: int
    small: int


NETWORKS = {
    "ResNet50": Network("resnet50", 224, 8, 32),
    "MobileNetV2": Network("mobilenet_v2", 224, 16, 64),
    "EfficientNetB0": Network("efficientnet", 224, 16, 64),
    "DenseNet121": Network("densenet", 224, 8, 48),
    "VGG16": Network("vgg16", 224, 4, 64),
    "InceptionV3": Network("inception_v3", 299, 4, 75),
    "ConvNeXtTiny": Network("convnext", 224, 2, 64),
}


def photographs(size, count, seed=0):
    """Return crops (count, size, size, 3) of scikit-learn's two photographs, from 0 to 255."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(seed)
    whole = load_sample_images().images
    crops = []
    for number in range(count):
        image = whole[number % len(whole)]
        top, left = (rng.integers(0, length - size + 1) for length in image.shape[:2])
        crop = image[top : top + size, left : left + size]
        crops.append(crop[:, ::-1] if rng.random() < 0.5 else crop)
    return np.stack(crops).astype("float32")


def preprocessed(kind, name, images):
    """Return images as a network of ``keras.applications`` takes them."""
    module = getattr(keras_of(kind).applications, NETWORKS[name].module)
    return np.asarray(module.preprocess_input(images.copy()))


def build(kind, name, size=None):
    """Return a network with its initial weights, and without the final softmax."""
    size = size or NETWORKS[name].size
    make = getattr(keras_of(kind).applications, name)
    return make(weights=None, input_shape=(size, size, 3), classifier_activation=None)


def randomised(model, images, seed=0):
    """Give a model normalisations as after training, and return it.

    Every gamma and beta is drawn; then the statistics of batch normalisation are set to those of
    `images`, so that the activations are neither vanishing nor exploding.
    """
    rng = np.random.default_rng(seed)
    normalisations = []
    for layer in model.layers:
        if getattr(layer, "gamma", None) is not None:
            layer.gamma.assign(rng.uniform(0.5, 1.5, layer.gamma.shape))
        if getattr(layer, "beta", None) is not None:
            layer.beta.assign(rng.normal(0, 0.3, layer.beta.shape))
        if hasattr(layer, "moving_variance"):
            normalisations.append((layer, layer.momentum))
            layer.momentum = 0.0
    if normalisations:
        model(images, training=True)
    for layer, momentum in normalisations:
        layer.momentum = momentum
    return model


def prepared(kind, name, count, size=None, seed=0):
    """Return a randomised network, and images for it."""
    keras_of(kind).utils.set_random_seed(seed)
    size = size or NETWORKS[name].size
    images = preprocessed(kind, name, photographs(size, max(count, 8), seed))
    return randomised(build(kind, name, size), images[:8], seed), images[:count]
