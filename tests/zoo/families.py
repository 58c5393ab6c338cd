"""Models that people take: applications of either Keras, and keras-hub's backbones, at random."""

import importlib
import inspect

import numpy as np

CLASSES = 5
#: The smallest of each family of keras.applications.
SMALLEST = [
    *("ConvNeXtTiny", "DenseNet121", "EfficientNetB0", "EfficientNetV2B0", "InceptionResNetV2"),
    *("InceptionV3", "MobileNet", "MobileNetV2", "MobileNetV3Small", "NASNetMobile", "ResNet50"),
    *("ResNet50V2", "VGG16", "Xception", "RegNetX002", "RegNetY002", "ResNetRS50"),
]
TEXT = {"vocabulary_size": 60, "num_layers": 2, "num_heads": 2, "hidden_dim": 16}
TEXT["intermediate_dim"] = 32
KEY_VALUE = {
    **{"vocabulary_size": 60, "num_layers": 2, "num_query_heads": 4, "num_key_value_heads": 2},
    **{"hidden_dim": 16, "intermediate_dim": 32},
}
#: Backbones of keras-hub, with settings that make them small.
BACKBONES = {
    "Albert": {**TEXT, "embedding_dim": 8},
    "Bert": TEXT,
    "Bloom": TEXT,
    "DebertaV3": {**TEXT, "bucket_size": 8},
    "DistilBert": TEXT,
    "Electra": {**TEXT, "vocab_size": 60, "embedding_dim": 8},
    "FNet": {key: value for key, value in TEXT.items() if key != "num_heads"},
    "GPT2": TEXT,
    "GPTNeoX": TEXT,
    "Llama": KEY_VALUE,
    "Mistral": KEY_VALUE,
    "Gemma": {**KEY_VALUE, "head_dim": 4},
    "OPT": TEXT,
    "Roberta": TEXT,
    "XLMRoberta": TEXT,
    "ViT": {
        **{"image_shape": (32, 32, 3), "patch_size": 8, "num_layers": 2, "num_heads": 2},
        **{"hidden_dim": 16, "mlp_dim": 32},
    },
    "ResNet": {
        **{"input_conv_filters": [64], "input_conv_kernel_sizes": [3]},
        **{"stackwise_num_filters": [64, 64], "stackwise_num_blocks": [1, 1]},
        **{"stackwise_num_strides": [1, 2], "block_type": "basic_block"},
        **{"image_shape": (32, 32, 3)},
    },
    "MiT": {
        **{"layerwise_depths": [1, 1], "num_layers": 2, "layerwise_num_heads": [1, 2]},
        **{"layerwise_sr_ratios": [2, 1], "max_drop_path_rate": 0.0},
        **{"layerwise_patch_sizes": [7, 3], "layerwise_strides": [4, 2]},
        **{"image_shape": (32, 32, 3), "hidden_dims": [8, 16]},
    },
    "DenseNet": {
        **{"stackwise_num_repeats": [2, 2], "compression_ratio": 0.5, "growth_rate": 8},
        **{"image_shape": (32, 32, 3)},
    },
    "VGG": {
        **{"stackwise_num_repeats": [1, 1], "stackwise_num_filters": [8, 16]},
        **{"image_shape": (32, 32, 3)},
    },
}


def applications(keras, every):
    """Return the names of a Keras's applications: the smallest of each family, or all."""
    known = {
        name
        for name, made in vars(keras.applications).items()
        if inspect.isfunction(made) and name[0].isupper()
    }
    return sorted(known) if every else [name for name in SMALLEST if name in known]


def application(keras, name):
    """Return an application with random weights, and images for it."""
    side = {"Inception": 75, "Xception": 71}
    size = next((value for key, value in side.items() if name.startswith(key)), 64)
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(size, size, 3), classes=CLASSES, classifier_activation=None
    )
    return model, np.random.default_rng(0).uniform(0, 255, (2, size, size, 3))


def backbone(keras, name):
    """Return a backbone with a head upon it, and its inputs."""
    hub = importlib.import_module("keras_hub")
    made = getattr(hub.models, f"{name}Backbone")(**_accepted(hub, name))
    output = made.output
    if isinstance(output, dict):
        output = output.get("sequence_output", next(iter(output.values())))
    axes = tuple(range(1, len(output.shape) - 1))
    pooled = keras.ops.mean(output, axis=axes)
    model = keras.Model(made.inputs, keras.layers.Dense(CLASSES)(pooled))
    random = np.random.default_rng(0)
    given = []
    for tensor in made.inputs:
        if "token" in tensor.name:
            # All ids are different, so that the row of each in the table is a position's.
            given.append(np.stack([random.permutation(np.arange(1, 60))[:12] for _ in range(2)]))
        elif "segment" in tensor.name:
            given.append(np.zeros((2, 12), int))
        elif "mask" in tensor.name:
            given.append(np.ones((2, 12), int))
        else:
            given.append(random.uniform(0, 1, (2, *tensor.shape[1:])))
    return model, given if len(given) > 1 else given[0]


def _accepted(hub, name):
    """Return the settings that this version's backbone takes."""
    known = inspect.signature(getattr(hub.models, f"{name}Backbone")).parameters
    return {key: value for key, value in BACKBONES[name].items() if key in known}
