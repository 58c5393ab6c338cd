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

#: A room (a folder, or a module at the top) imports from lower floors and from itself, never from
#: its neighbours on the same floor. A leading underscore says that a room is private.
FLOORS = [
    {"errors"},
    {"_parameters", "_versions"},
    {"_data"},
    {"_tracing"},
    {"_models"},
    {"operators", "grad_modifiers", "losses"},
    {"_engine"},
    {"attributions"},
    {"visualization", "callbacks"},
    {""},  # the package's own `__init__`
    {"demo"},
]
#: Rooms that know arrays only. They are used from the package's `__init__` up.
ARRAYS = {"plots", "segmentation", "detection", "localization"}
BELOW_ARRAYS = {"errors", "_parameters"}
#: What methods may share: the bases of all and of families, and how their signatures are shown.
SHARED_BY_METHODS = {"signatures"}
#: Which modules may know what.
ONLY = {
    "tf.GradientTape": {
        "_engine.forward_pass",
        "_models.view",
        "_models.traced",
        "_models.rules.rewiring",
    },
    "tf.function": {"_tracing.programs", "_tracing.wrapping"},
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


def room(name):
    return name.split(".")[0]


def floor(name):
    found = [number for number, rooms in enumerate(FLOORS) if room(name) in rooms]
    assert found or room(name) in ARRAYS, f"{name!r} has no place in the house"
    return found[0] if found else FLOORS.index({""}) - 0.5


def imports(tree):
    """Return the package's modules that a module imports, anywhere in it.

    What is imported for annotations alone, under ``if TYPE_CHECKING``, is no dependence.
    """
    found = set()
    checks = [node for node in ast.walk(tree) if isinstance(node, ast.If)]
    typing = [node for node in checks if ast.unparse(node.test) == "TYPE_CHECKING"]
    skipped = {id(inner) for node in typing for part in node.body for inner in ast.walk(part)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
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
    assert {"", "errors", "_tracing.programs", "attributions", "attributions.base"} <= set(MODULES)


def test_rooms_are_few():
    folders = {room(name) for name in MODULES if "." in name}
    assert len(folders) <= 10
    known = set().union(*FLOORS) | ARRAYS
    assert known == {room(name) for name in MODULES}


@pytest.mark.parametrize("name", MODULES)
def test_a_room_imports_only_from_lower_floors(name):
    others = {other for other in imports(MODULES[name]) if room(other) != room(name)}
    if room(name) in ARRAYS:
        wrong = {other for other in others if room(other) not in BELOW_ARRAYS}
    else:
        wrong = {other for other in others if floor(other) >= floor(name)}
    assert not wrong, f"{name} imports {wrong}"


def test_modules_of_a_room_import_each_other_in_no_circle():
    arrows = {
        name: {o for o in imports(tree) if o != name and room(o) == room(name)}
        for name, tree in MODULES.items()
        if "." in name
    }
    while arrows:
        leaves = {name for name, others in arrows.items() if not others & set(arrows)}
        assert leaves, f"a circle among {sorted(arrows)}"
        for name in leaves:
            del arrows[name]


def test_methods_import_only_their_bases():
    methods = [name for name in MODULES if room(name) == "attributions" and "." in name]
    assert len(methods) > 12
    for name in methods:
        others = {o.split(".")[1] for o in imports(MODULES[name]) if o.startswith("attributions.")}
        assert all(o.endswith("base") or o in SHARED_BY_METHODS for o in others), name


@pytest.mark.parametrize(
    "name", [name for name in MODULES if name != "_tracing.keras_compat" and not is_demo(name)]
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
        assert others <= BELOW_ARRAYS
        assert "tensorflow" not in outside_imports(MODULES[name])


@pytest.mark.parametrize("known", ONLY)
def test_only_these_modules_know(known):
    assert {name for name in OF_THE_PACKAGE if known in attributes(MODULES[name])} <= ONLY[known]


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
    "xplique_sal": ["Saliency", "Tasks", "versions"],
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
