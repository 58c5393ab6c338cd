"""How much of a score is found in maps: ``python tests/benchmarks/conservation.py``.

Propagation hands a score back to the values that it was computed from, so that a map adds up to it
(LRP) or to its change from a baseline (DeepLIFT). The share that is found, Σ map ÷ whole, is
measured twice for each network:

- without biases, where no value but the input has a part in the score, so that rules that conserve
  relevance have to find 1;
- with biases (and with normalisations that shift), which take their share along under LRP.

Weights are random and of a scale that keeps activations and scores at about 1; normalisations have
the statistics of the samples. All is computed in float64, so that what is missing is no rounding.

Transformers of keras-hub need that package, and are left out where it is missing.
"""

import argparse
import importlib
import importlib.util
import json
import statistics
import sys
import warnings
from pathlib import Path

import numpy as np
from process import KERASES, fresh, keras_of
from report import environment, replaced

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "conservation.md"
COUNT, CLASSES, SIDE, TOKENS, EPSILON = 4, 5, 64, 12, 1e-9
#: How far from 1 a share may be of what adds up: sums of activations keep an ε of their own.
MOST = 1e-3

IMAGES = ["ResNet50", "VGG16", "MobileNetV2", "EfficientNetB0", "DenseNet121"]
HUB = ["BERT-like", "GPT-like"]
NETWORKS = [*IMAGES, "U-Net", "ViT", *HUB, "LSTM", "GRU"]

#: The columns: what each is called, and the settings of `LRP`; `None` is `DeepLift`.
COLUMNS = {
    "LRP ε → 0": {"rule": "epsilon", "epsilon": EPSILON},
    "z⁺": {"rule": "zplus"},
    "ε, z⁺": {"rule": "epsilon_plus", "epsilon": EPSILON},
    "ε, α2β1": {"rule": "epsilon_alpha2_beta1", "epsilon": EPSILON},
    "ε, γ, zᴮ": {"rule": "epsilon_gamma_box", "epsilon": EPSILON, "input_range": (-2, 2)},
    "attention": {"rule": "attention", "epsilon": EPSILON},
    "DeepLift": None,
}
RECURRENT = ["LRP ε → 0", "z⁺", "DeepLift"]
ATTENTION = ["attention", "DeepLift"]
CONVOLUTIONAL = [column for column in COLUMNS if column != "attention"]


def unet(keras):
    """Return a U-Net, of which one position of the output is the model's."""
    layers, down = keras.layers, []
    x = image = keras.Input((SIDE, SIDE, 3))
    for filters in (8, 16):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        down.append(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(32, 3, padding="same", activation="relu")(x)
    for filters, skip in zip((16, 8), reversed(down), strict=True):
        x = layers.Conv2DTranspose(filters, 2, strides=2)(x)
        x = layers.Concatenate()([x, skip])
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
    classes = layers.Conv2D(CLASSES, 1)(x)
    middle = layers.Cropping2D(((SIDE // 2, SIDE // 2 - 1),) * 2)(classes)
    return keras.Model(image, layers.Flatten()(middle))


def vit(keras):
    """Return a transformer of patches of an image, and its layer of which maps are made."""
    layers = keras.layers
    side, width = SIDE // 16, 32
    image = keras.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(width, 16, strides=16, name="patches")(image)
    x = layers.Reshape((side * side, width))(x)
    for _ in range(2):
        inner = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(2, width // 2)(inner, inner)])
        inner = layers.Dense(2 * width, activation="gelu")(layers.LayerNormalization()(x))
        x = layers.Add()([x, layers.Dense(width)(inner)])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(image, layers.Dense(CLASSES)(x))


def of_hub(keras, name):
    """Return an encoder or a decoder of keras-hub with few small layers."""
    models = importlib.import_module("keras_hub").models
    make = models.BertBackbone if name == "BERT-like" else models.GPT2Backbone
    backbone = make(
        vocabulary_size=50,
        num_layers=2,
        num_heads=2,
        hidden_dim=32,
        intermediate_dim=64,
        max_sequence_length=TOKENS,
        dropout=0.0,
    )
    if name == "BERT-like":
        hidden = backbone.output["sequence_output"][:, 0]
    else:
        hidden = backbone.output[:, -1]
    return keras.Model(backbone.inputs, keras.layers.Dense(CLASSES)(hidden))


def recurrent(keras, name):
    """Return a recurrent network of series."""
    series = keras.Input((TOKENS, 6))
    hidden = getattr(keras.layers, name)(16)(series)
    return keras.Model(series, keras.layers.Dense(CLASSES)(hidden))


def case(kind, name):
    """Return a network, its samples, the columns that there are of it, and where maps are."""
    keras = keras_of(kind)
    rng = np.random.default_rng(0)
    if name in HUB:
        x = {
            "token_ids": rng.integers(1, 50, (COUNT, TOKENS)),
            "padding_mask": np.ones((COUNT, TOKENS), int),
        }
        if name == "BERT-like":
            x["segment_ids"] = np.zeros((COUNT, TOKENS), int)
        return of_hub(keras, name), x, ATTENTION, {"wrt_layer": "embeddings_add"}
    if name in ("LSTM", "GRU"):
        return recurrent(keras, name), rng.normal(size=(COUNT, TOKENS, 6)), RECURRENT, {}
    x = rng.uniform(-1, 1, (COUNT, SIDE, SIDE, 3))
    if name == "EfficientNetB0":
        x = 255 * (x + 1) / 2  # it scales its images by itself
    if name == "U-Net":
        return unet(keras), x, CONVOLUTIONAL, {}
    if name == "ViT":
        return vit(keras), x, ATTENTION, {}
    make = getattr(keras.applications, name)
    shape = (SIDE, SIDE, 3)
    settings = {"weights": None, "classes": CLASSES, "classifier_activation": None}
    return make(input_shape=shape, **settings), x, CONVOLUTIONAL, {}


def draw(model, x, biases):
    """Draw the weights of a model: of the scale of He's, beside normalisations of the samples.

    Without `biases`, all is 0 that is added or subtracted anywhere but in the samples' own scaling.
    """
    rng = np.random.default_rng(1)
    normalisations = []
    for layer in every_layer(model):
        if hasattr(layer, "moving_variance"):
            normalisations.append((layer, layer.momentum))
            layer.momentum = 0.0
    for variable in model.trainable_variables:
        kind = name_of(variable)
        if kind in ("bias", "beta"):
            variable.assign(0.1 * biases * rng.normal(size=variable.shape))
        elif kind == "gamma":
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif kind in ("kernel", "depthwise_kernel") and len(variable.shape) in (2, 4):
            inputs = variable.shape[:2] if kind == "depthwise_kernel" else variable.shape[:-1]
            scale = np.sqrt(2 / np.prod(inputs))
            variable.assign(rng.normal(0, scale, variable.shape))
    if normalisations:
        model(x, training=True)
    for layer, momentum in normalisations:
        layer.momentum = momentum
        if not biases:
            layer.moving_mean.assign(np.zeros(layer.moving_mean.shape))


def name_of(variable):
    """Return the last part of a variable's name."""
    return getattr(variable, "path", variable.name).split("/")[-1].split(":")[0]


def every_layer(model):
    """Return all layers, those inside others too."""
    if hasattr(model, "_flatten_layers"):
        return list(model._flatten_layers(include_self=False))
    return list(model.submodules)


def measured(kind, name):
    """Return {"with" or "without": {"score": median of |score|, column: [Σ map ÷ whole]}}."""
    warnings.simplefilter("ignore")
    keras = keras_of(kind)
    keras.backend.set_floatx("float64")
    keras.utils.set_random_seed(0)
    model, x, columns, settings = case(kind, name)
    classes = np.arange(COUNT)
    baseline = baseline_of(name)
    explainers = {
        column: explainer(model, x, COLUMNS[column], settings, baseline) for column in columns
    }
    found = {}
    for what in ("without", "with"):
        draw(model, x, biases=what == "with")
        scores = np.asarray(model(x, training=False))[classes, classes]
        found[what] = {"score": float(np.median(np.abs(scores)))}
        for column, each in explainers.items():
            found[what][column] = shares(each, x, classes, scores)
    return found


def baseline_of(name):
    """Return what DeepLIFT compares samples with.

    Layer normalisation divides zeros by the root of its own epsilon, so that it multiplies changes
    from 0 by up to 1e6, in each layer. Transformers are compared with another sample instead.
    """
    if name not in ("ViT", *HUB):
        return 0.0
    shape = (SIDE, SIDE, 3) if name == "ViT" else (TOKENS, 32)
    return np.random.default_rng(2).uniform(-1, 1, shape)


def explainer(model, x, rule, settings, baseline=0.0):
    """Return what makes the maps of a column."""
    from xplique_sal import LRP, DeepLift

    if rule is None:
        return DeepLift(model, baseline_value=baseline, **settings)
    if "input_range" in rule:
        rule = {**rule, "input_range": (float(np.min(x)), float(np.max(x)))}
    return LRP(model, **rule, **settings)


def shares(each, x, classes, scores):
    """Return Σ map ÷ whole of each sample."""
    from xplique_sal import LRP

    _, gaps, wholes = each.explain_with_gaps(x, classes)
    gaps, wholes = np.asarray(gaps, "float64"), np.asarray(wholes, "float64")
    if isinstance(each, LRP):
        np.testing.assert_allclose(wholes, scores, rtol=1e-3)
    return (1 + gaps / wholes).tolist()


def initial(kind):
    """Return the score of a MobileNetV2 as Keras initialises it, and the shares that are found."""
    warnings.simplefilter("ignore")
    keras = keras_of(kind)
    keras.utils.set_random_seed(0)
    settings = {"weights": None, "classes": CLASSES, "classifier_activation": None}
    model = keras.applications.MobileNetV2(input_shape=(SIDE, SIDE, 3), **settings)
    x = np.random.default_rng(0).uniform(-1, 1, (COUNT, SIDE, SIDE, 3)).astype("float32")
    classes = np.arange(COUNT)
    rules = {
        "ε = 1e-6": {"rule": "epsilon"},
        "0": {"rule": "zero"},
        "z⁺": {"rule": "zplus"},
        "γ": {"rule": "gamma"},
    }
    scores = np.asarray(model(x, training=False))[classes, classes]
    found = {
        rule: shares(explainer(model, x, given, {}), x, classes, scores)
        for rule, given in rules.items()
    }
    return {"score": float(np.median(np.abs(scores))), **found}


def shown(values):
    """Return the median share, and the range where it can be seen."""
    middle, low, high = (pick(values) for pick in (statistics.median, min, max))
    text = number(middle)
    if number(low) != number(high):
        text += f" ({number(low)} to {number(high)})"
    return text


def number(value):
    """Return a share with three digits behind the point; large ones with fewer."""
    return f"{value:.3f}" if abs(value) < 99.5 else f"{value:.0f}"


def table(found, what, columns):
    """Return a table of the networks of which there is its first column."""
    rows = [["network", "Keras", "score", *columns], ["---"] * 2 + ["---:"] * (1 + len(columns))]
    for name, kind, each in found:
        if columns[0] in each[what]:
            cells = [shown(each[what][key]) if key in each[what] else "" for key in columns]
            rows.append([name, kind, f"{each[what]['score']:.2g}", *cells])
    return lines(rows)


def table_of_initial(found):
    """Return the table of networks with a score far below ε."""
    columns = [key for key in found[0][1] if key != "score"]
    rows = [["MobileNetV2, initial", "score", *columns], ["---"] + ["---:"] * (1 + len(columns))]
    rows += [
        [kind, f"{each['score']:.1e}", *(shown(each[key]) for key in columns)]
        for kind, each in found
    ]
    return lines(rows)


def lines(rows):
    """Return a table in markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def main():
    """Measure every network, and fail where a rule that conserves has lost something."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument(
        "--output", type=Path, help="a JSON file for every share; what is in it is kept"
    )
    parser.add_argument(
        "--write", action="store_true", help="put the tables into the documentation"
    )
    asked = parser.parse_args()
    has_hub = importlib.util.find_spec("keras_hub") is not None
    if asked.write and not (has_hub and asked.networks == NETWORKS):
        parser.error("--write needs every network, and keras-hub")
    found = []
    if asked.output and asked.output.exists():
        found = json.loads(asked.output.read_text())["found"]
    known = {(name, kind) for name, kind, _ in found}
    for name in asked.networks:
        if name in HUB and not has_hub:
            print(f"{name}: left out, keras-hub is not installed", file=sys.stderr)
            continue
        for kind in ["Keras 3"] if name in HUB else KERASES:
            if (name, kind) in known:
                continue
            each = fresh(measured, kind, name=name)
            found.append((name, kind, each))
            if asked.output:  # after each, so that a run that is stopped goes on
                asked.output.write_text(json.dumps({"found": found}, indent=1) + "\n")
            print(name, kind, each, file=sys.stderr, flush=True)
    found.sort(key=lambda each: (NETWORKS.index(each[0]), [*KERASES].index(each[1])))
    broken = [f"{name}, {kind}: {what}" for name, kind, each in found for what in lost(each)]
    of_initial = [(kind, fresh(initial, kind)) for kind in KERASES]
    versions = environment()["versions"]
    heading = (
        f"Measured with TensorFlow {versions['tensorflow']}, tf-keras {versions['tf-keras']} and "
        f"Keras {versions['keras']}."
    )
    of_rules = [column for column in COLUMNS if column != "attention"]
    text = {
        "without": f"{heading}\n\n{table(found, 'without', of_rules)}",
        "with": table(found, "with", of_rules),
        "attention": "\n\n".join(
            f"{what} biases:\n\n{table(found, what.lower(), ATTENTION)}"
            for what in ("Without", "With")
        ),
        "initial": table_of_initial(of_initial),
    }
    if asked.output:
        asked.output.write_text(
            json.dumps({"found": found, "initial": of_initial}, indent=1) + "\n"
        )
    print(*text.values(), sep="\n\n")
    if asked.write:
        page = PAGE.read_text("utf-8")
        for name, part in text.items():
            page = replaced(page, name, part)
        PAGE.write_text(page, "utf-8")
    print(*broken, sep="\n", file=sys.stderr)
    return 1 if broken else 0


def lost(each):
    """Return what does not add up though it has to.

    ε → 0 conserves relevance where nothing is added, and DeepLIFT adds up everywhere.
    """
    held = [("without", "LRP ε → 0"), ("without", "DeepLift"), ("with", "DeepLift")]
    for what, column in held:
        if column in each[what] and np.abs(np.subtract(each[what][column], 1)).max() > MOST:
            yield f"{column}, {what} biases"


if __name__ == "__main__":
    sys.exit(main())
