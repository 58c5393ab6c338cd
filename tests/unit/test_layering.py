"""The package's layers: who may import whom, and who knows what."""

import ast
import importlib
import inspect
import os
import pathlib
import subprocess
import sys

import pytest

import xplique_sal

PACKAGE = pathlib.Path(xplique_sal.__file__).parent

#: A module imports only from those above its own.
LAYERS = [
    "errors",
    "number",
    *("plots.reading", "plots.scale", "plots.canvas", "plots.caption"),
    *("plots.image", "plots.series", "plots.table", "plots"),
    "ascent",
    "localization",
    "zone_reading",
    "segmentation",
    "box_format",
    "detection",
    "types",
    "keras_compat",
    "layer_paths",
    "layer_calls",
    "model_structure",
    "interception",
    "graph_reading",
    "graph_rectifiers",
    "compilation",
    "backprop_modifiers",
    "arrangement",
    "model_call",
    "interpreter",
    "plain_function",
    "loss",
    "rewiring",
    "image_convolution",
    "normalization",
    "equivalents",
    "devices",
    "model_view",
    "targets",
    "validation",
    "target_reading",
    "losses",
    "batching",
    "batch_size",
    "operators",
    "grad_modifiers",
    "reducers",
    "gradient_checks",
    "statistic",
    "sampling",
    "noise",
    "graph_loops",
    "feature_maps",
    "score_pass",
    "map_making",
    "point_loop",
    "gradients",
    "gradient_run",
    "forward",
    "score_run",
    "masking",
    "inheritance",
    "attributions.base",
    "attributions.masking_base",
    "attributions.noise_base",
    "attributions.feature_map_base",
    "attributions.<method>",
    "attributions",
    "class_visualization",
    "visualization",
    "callbacks.hook",
    "callbacks.picture",
    "callbacks.sample",
    "callbacks.album",
    "callbacks.saliency_callback",
    "callbacks",
    "",
    "demo",
]
#: What methods may share: the base of all, and those of families.
BASES = {name for name in LAYERS if name.startswith("attributions.") and name.endswith("base")}
MOST_LINES = 320
#: Longer files, with the most lines that they may have, and why they are not split.
LONGER = {
    "keras_compat": (420, "all that differs between the two Kerases"),
    "attributions.base": (490, "half of it is the documentation that every explainer inherits"),
    "model_view": (400, "everything that can be chosen of a model"),
}
KERASES = {"keras", "tf_keras"}


def modules():
    """Return the name and the syntax tree of every module; the package's own name is ''."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


MODULES = modules()


def is_demo(name):
    """Tell whether a module is a user of the package: it makes models, and so chooses a Keras."""
    return name.split(".")[0] == "demo"


OF_THE_PACKAGE = [name for name in MODULES if not is_demo(name)]


def layer(name):
    if name.startswith("attributions.") and name not in BASES:
        name = "attributions.<method>"
    if is_demo(name):
        name = "demo"
    assert name in LAYERS, f"{name!r} has no place in the layers"
    return LAYERS.index(name)


def imports(tree):
    """Return the package's modules that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            if node.module and node.module.split(".")[0] == "xplique_sal":
                base = node.module.removeprefix("xplique_sal").removeprefix(".")
                for alias in node.names:
                    inner = f"{base}.{alias.name}".removeprefix(".")
                    found.add(inner if inner in MODULES else base)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "xplique_sal":
                    found.add(alias.name.removeprefix("xplique_sal").removeprefix("."))
    return found


def outside_imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)


def attributes(tree):
    """Return every dotted name that a module uses, such as 'tf.function'."""
    return {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def test_the_package_was_found():
    assert {"", "errors", "gradients", "attributions", "attributions.base"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_from_layers_above(name):
    below = {other for other in imports(MODULES[name]) if layer(other) >= layer(name)}
    if is_demo(name):
        below = {other for other in below if not is_demo(other)}
    assert not below, f"{name} imports {below}"


def test_methods_do_not_import_each_other():
    for name in MODULES:
        if layer(name) == LAYERS.index("attributions.<method>"):
            siblings = {other for other in imports(MODULES[name]) if other.startswith("attrib")}
            assert siblings <= BASES


@pytest.mark.parametrize(
    "name", [name for name in MODULES if name != "keras_compat" and not is_demo(name)]
)
def test_only_keras_compat_knows_that_there_are_two_kerases(name):
    tree = MODULES[name]
    assert not KERASES & set(outside_imports(tree))
    assert not any(attribute.startswith("tf.keras") for attribute in attributes(tree))
    strings = {
        node.value.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert not KERASES & strings


@pytest.mark.parametrize("name", OF_THE_PACKAGE)
def test_only_the_demo_and_one_module_of_the_plots_import_what_draws(name):
    draws = {"matplotlib"} if name == "plots.canvas" else set()
    assert {"matplotlib", "sklearn", "pandas"} & set(outside_imports(MODULES[name])) == draws


def test_the_plots_know_arrays_only():
    plots = [name for name in MODULES if name.split(".")[0] == "plots"]
    assert len(plots) > 1
    for name in plots:
        others = {other for other in imports(MODULES[name]) if other.split(".")[0] != "plots"}
        assert others <= {"errors", "number", "types"}
        assert "tensorflow" not in outside_imports(MODULES[name])


@pytest.mark.parametrize("name", MODULES)
def test_only_these_modules_record_gradients(name):
    if name not in ("score_pass", "model_view", "rewiring"):
        assert "tf.GradientTape" not in attributes(MODULES[name])


@pytest.mark.parametrize("name", MODULES)
def test_only_these_modules_know_compiled_functions(name):
    if name not in ("model_view", "compilation", "interception"):
        assert "tf.function" not in attributes(MODULES[name])


@pytest.mark.parametrize("name", MODULES)
def test_no_file_is_long(name):
    path = PACKAGE.joinpath(*name.split(".")) if name else PACKAGE
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    lines = len(path.read_text(encoding="utf-8").splitlines())
    most, _ = LONGER.get(name, (MOST_LINES, ""))
    assert lines <= most


def test_long_files_are_few_and_still_there():
    assert len(LONGER) <= 5
    assert set(LONGER) <= set(MODULES)


def run(code):
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_imports_neither_a_keras_nor_what_draws():
    """TensorFlow may import a Keras by itself, which counts as its user's."""
    code = (
        "import sys, numpy, tensorflow\n"
        "before = set(sys.modules)\n"
        "import xplique_sal, xplique_sal.attributions, xplique_sal.operators, xplique_sal.errors\n"
        "import xplique_sal.plots\n"
        "assert 'xplique_sal.callbacks' not in sys.modules and xplique_sal.callbacks\n"
        "tops = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(tops & {'keras', 'tf_keras', 'matplotlib', 'sklearn', 'pandas'}))\n"
    )
    assert run(code).split() == ["[]"]


PUBLIC = {
    "xplique_sal": ["Saliency", "Tasks"],
    "xplique_sal.attributions": [
        *("Saliency", "GradientInput", "GuidedBackprop", "DeconvNet", "SmoothGrad", "VarGrad"),
        *("SquareGrad", "IntegratedGradients", "GradCAM", "GradCAMPP", "Occlusion", "Rise"),
    ],
    "xplique_sal.attributions.base": ["BlackBoxExplainer", "WhiteBoxExplainer"],
    "xplique_sal.operators": [
        *("classification", "regression", "semantic_segmentation", "object_detection"),
        *("object_detection_box_position", "object_detection_box_proba"),
        *("object_detection_box_class", "filter_activation", "register", "resolve", "Tasks"),
    ],
    "xplique_sal.segmentation": [
        *("class_zone", "connected_zone", "separate_zones", "zone_border", "common_border"),
    ],
    "xplique_sal.detection": ["box_targets", "convert_boxes"],
    "xplique_sal.visualization": [
        *("visualize_saliency", "visualize_saliency_with_losses", "visualize_class"),
    ],
    "xplique_sal.callbacks": ["SaliencyCallback"],
    "xplique_sal.losses": ["ActivationMaximization", "LPNorm", "TotalVariation", "Loss"],
    "xplique_sal.plots": [
        *("plot_attribution", "plot_attributions", "plot_timeseries_attributions"),
        *("plot_feature_impact", "plot_mean_feature_impact"),
    ],
    "xplique_sal.errors": [
        *("XpliqueSalError", "InvalidInputError", "InvalidTargetError", "InvalidParameterError"),
        *("InvalidOperatorError", "InvalidModelError", "LayerNotFoundError", "NoGradientError"),
        "NothingRewiredError",
    ],
}
NOW = ["xplique_sal", "xplique_sal.attributions", "xplique_sal.attributions.base"]
NOW += ["xplique_sal.operators", "xplique_sal.errors"]


def public_objects():
    for module_name, names in PUBLIC.items():
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError:
            assert module_name not in NOW
            continue
        for name in names:
            if hasattr(module, name):
                yield f"{module_name}.{name}", getattr(module, name)


@pytest.mark.parametrize(
    "thing", [pytest.param(thing, id=name) for name, thing in public_objects()]
)
def test_every_public_name_is_documented(thing):
    documentation = thing.__doc__ or ""  # its own: an enumeration would inherit that of `str`
    assert len(documentation.strip()) > 20
    if inspect.isclass(thing) and hasattr(thing, "explain"):
        for method in ("explain", "__call__", "iter_explain", "explain_with_scores"):
            assert len(inspect.getdoc(getattr(thing, method)) or "") > 20


def test_the_version_is_told():
    assert xplique_sal.__version__.count(".") == 2


@pytest.mark.parametrize("name", ["Saliency", "WhiteBoxExplainer"])
def test_the_parameters_are_those_of_the_contract(name):
    module = importlib.import_module("xplique_sal.attributions.base")
    explainer = getattr(module, name, None) or xplique_sal.Saliency
    parameters = list(inspect.signature(explainer).parameters.values())
    shown = {parameter.name: parameter.default for parameter in parameters}
    expected = {
        "model": inspect.Parameter.empty,
        "output_layer": None,
        "batch_size": 64,
        "operator": None,
        "reducer": "max" if name == "Saliency" else "mean",
        "output": None,
        "logits": False,
        "wrt_layer": None,
        "grad_modifier": "absolute" if name == "Saliency" else None,
    }
    assert {key: shown[key] for key in expected} == expected
    assert list(shown)[:5] == list(expected)[:5]
    by_keyword = {p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    assert by_keyword >= set(list(expected)[5:])
