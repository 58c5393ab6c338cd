"""The package's layers: who may import whom, and who knows what."""

import ast
import importlib
import inspect
import os
import pathlib
import re
import subprocess
import sys

import pytest

import xplique_sal

PACKAGE = pathlib.Path(xplique_sal.__file__).parent

#: A room (a folder, or a module at the top) imports from lower floors and from itself, never from
#: its neighbours on the same floor. A leading underscore says that a room is private.
FLOORS = [
    {"errors"},
    {"_parameters", "_versions", "_runs"},
    {"_data"},
    {"_tracing"},
    {"_models"},
    {"operators", "grad_modifiers", "losses"},
    {"_engine"},
    {"attributions"},
    {"visualization", "callbacks", "metrics", "quantus", "ray", "sequences"},
    {""},  # the package's own `__init__`
    {"cli", "demo"},
    {"__main__"},
]
#: Rooms that know arrays only. They are used from the package's `__init__` up.
ARRAYS = {"plots", "segmentation", "detection", "localization", "targets", "report", "text"}
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
    "tf.function": {
        "_tracing.programs",
        "_tracing.saving",
        "_tracing.substitutes",
        "_tracing.wrapping",
    },
    "tensorflow.python": {"_models.rules.rewiring"},
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


def known_to(tree):
    """Return every dotted name that a module uses, imports or holds as a text, with its parents.

    A text counts because ``importlib`` imports what it names.
    """
    found = attributes(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and re.fullmatch(r"\w+(\.\w+)+", str(node.value)):
            found.add(str(node.value))
    return {".".join(name.split(".")[:end]) for name in found for end in range(1, 9)}


def test_the_package_was_found():
    assert {"", "errors", "_tracing.programs", "attributions", "attributions.base"} <= set(MODULES)


def test_rooms_are_few():
    folders = {room(name) for name in MODULES if "." in name}
    assert len(folders) <= 12
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
    assert {name for name in OF_THE_PACKAGE if known in known_to(MODULES[name])} == ONLY[known]


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
        "import xplique_sal.plots, xplique_sal.metrics, xplique_sal.report, xplique_sal.cli\n"
        "assert 'xplique_sal.callbacks' not in sys.modules and xplique_sal.callbacks\n"
        "tops = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "heavy = {'keras', 'tf_keras', 'matplotlib', 'sklearn', 'pandas'}\n"
        "heavy |= {'typer', 'rich', 'jinja2', 'PIL', 'pyarrow'}\n"
        "print(sorted(tops & heavy))\n"
    )
    assert run(code).split() == ["[]"]


def test_importing_the_package_imports_no_rules_that_only_some_methods_need():
    code = (
        "import sys, xplique_sal\n"
        "some = ('_models.relevance', '_models.rules.deeplift', '_engine.pairs')\n"
        "print([name for name in some if f'xplique_sal.{name}' in sys.modules])\n"
    )
    assert run(code).split() == ["[]"]


#: All that a user may import: the modules without an underscore, and their names.
PUBLIC = {
    "xplique_sal": [
        *("DeconvNet", "DeepLift", "GradCAM", "GradCAMPP", "GradientInput", "GradientShap"),
        *("GuidedBackprop", "IntegratedGradients", "LRP", "LayerCAM", "Occlusion", "Rise"),
        *("Saliency", "ScoreCAM", "SmoothGrad", "SquareGrad"),
        *("Tasks", "VarGrad", "__version__", "attributions", "callbacks", "detection", "errors"),
        *("forget", "grad_modifiers", "localization", "losses", "metrics", "operators", "plots"),
        *("quantus", "ray", "report", "segmentation", "sequences", "targets", "text", "versions"),
        "visualization",
    ],
    "xplique_sal.attributions": [
        *("DeconvNet", "DeepLift", "GradCAM", "GradCAMPP", "GradientInput", "GradientShap"),
        *("GuidedBackprop", "IntegratedGradients", "LRP", "LayerCAM", "Occlusion", "Rise"),
        *("Saliency", "ScoreCAM", "SmoothGrad", "SquareGrad"),
        "VarGrad",
    ],
    "xplique_sal.attributions.base": ["BlackBoxExplainer", "WhiteBoxExplainer"],
    "xplique_sal.callbacks": ["SaliencyCallback"],
    "xplique_sal.cli": ["main"],
    "xplique_sal.detection": ["box_targets", "convert_boxes"],
    "xplique_sal.errors": [
        *("ExportError", "InvalidInputError", "InvalidModelError", "InvalidOperatorError"),
        *("InvalidParameterError", "InvalidTargetError", "LayerNotFoundError", "NoGradientError"),
        *("NothingRewiredError", "XpliqueSalError"),
    ],
    "xplique_sal.grad_modifiers": [
        *("absolute", "compose", "invert", "negate", "relu", "resolve", "small_values"),
    ],
    "xplique_sal.localization": ["bounding_boxes", "intersection_over_union"],
    "xplique_sal.losses": [
        *("ActivationMaximization", "LPNorm", "Loss", "TotalVariation", "WeightedSum"),
    ],
    "xplique_sal.metrics": [
        *("AverageDrop", "AverageGain", "AverageIncrease", "AverageStability", "Comparison"),
        *("Complexity", "Cost", "Deletion", "Estimate", "Insertion", "Localization"),
        *("ModelRandomization", "MuFidelity", "Row", "SampleValues", "Sparseness", "compare"),
    ],
    "xplique_sal.operators": [
        *("ScoreFunction", "Tasks", "classification", "detection_score", "filter_activation"),
        *("object_detection", "object_detection_box_class", "object_detection_box_position"),
        *("object_detection_box_proba", "register", "regression", "resolve"),
        "semantic_segmentation",
    ],
    "xplique_sal.plots": [
        "TextPicture",
        *("plot_attribution", "plot_attributions", "plot_boxes", "plot_comparison", "plot_curves"),
        *("plot_feature_impact", "plot_mean_feature_impact", "plot_sequence_logo"),
        *("plot_spectrogram", "plot_text", "plot_timeseries_attributions", "plot_volume"),
    ],
    "xplique_sal.quantus": ["explain_func"],
    "xplique_sal.ray": ["explain", "run"],
    "xplique_sal.report": ["show", "write"],
    "xplique_sal.segmentation": [
        *("class_zone", "common_border", "connected_zone", "separate_zones", "zone_border"),
    ],
    "xplique_sal.sequences": ["ShuffledReferences"],
    "xplique_sal.targets": ["contrast"],
    "xplique_sal.text": ["tokens"],
    "xplique_sal.visualization": [
        *("visualize_class", "visualize_saliency", "visualize_saliency_with_losses"),
    ],
}


def test_the_public_modules_are_these():
    doors = {f"xplique_sal.{room(name)}" for name in MODULES if name and name[0] != "_"}
    assert doors - {"xplique_sal.demo"} == set(PUBLIC) - {
        "xplique_sal",
        "xplique_sal.attributions.base",
    }


@pytest.mark.parametrize("module_name", PUBLIC)
def test_the_public_names_are_these(module_name):
    module = importlib.import_module(module_name)
    found = getattr(module, "__all__", None) or [
        name
        for name, thing in vars(module).items()
        if name[0] != "_" and getattr(thing, "__module__", None) == module_name
    ]
    assert sorted(found) == sorted(PUBLIC[module_name])
    assert all(hasattr(module, name) for name in found)


def public_objects():
    for module_name, names in PUBLIC.items():
        for name in names:
            thing = getattr(importlib.import_module(module_name), name)
            if inspect.isclass(thing) or inspect.isfunction(thing):
                yield f"{module_name}.{name}", thing


#: Most parameters of a private function, most lines of code of any, most lines of a file.
MOST_PARAMETERS, MOST_CODE, MOST_LINES = 6, 45, 500
#: The lists may become shorter only.
MANY_PARAMETERS = {
    "_models.view.ModelView.__init__": "what a user says of f, each by its name",
    "plots.image._draw": "what is drawn, each by its name",
}
LONG_FUNCTIONS = {
    "_data.samples.DatasetSamples.__init__": "what is read of a dataset before its first batch",
}
LONG_FILES = {
    "attributions.base": "the public calls, whose documentation stands there for all explainers",
}


def functions(node, prefix=""):
    """Yield every function of a module, or inside of others, with its path."""
    for child in ast.iter_child_nodes(node):
        path = f"{prefix}{child.name}" if hasattr(child, "name") else prefix
        if isinstance(child, ast.FunctionDef):
            yield path, child
        inner = isinstance(child, (ast.ClassDef, ast.FunctionDef))
        yield from functions(child, f"{path}." if inner else prefix)


def code(function, lines):
    """Return how many lines of a function's body are neither documentation nor comments."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    if not body:
        return 0
    text = [line.strip() for line in lines[body[0].lineno - 1 : function.end_lineno]]
    return sum(1 for line in text if line and line[0] != "#")


def source(name):
    folder = PACKAGE.joinpath(*name.split(".")) if name else PACKAGE
    path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    return path.read_text(encoding="utf-8").splitlines()


def test_functions_and_files_are_short_enough_to_be_read():
    many, long, files = set(), set(), set()
    for name in OF_THE_PACKAGE:
        lines = source(name)
        if len(lines) > MOST_LINES:
            files.add(name)
        for path, function in functions(MODULES[name]):
            arguments = function.args
            count = len([*arguments.args, *arguments.kwonlyargs])
            count -= bool(arguments.args) and arguments.args[0].arg in ("self", "cls")
            public = path.removesuffix(".__init__").split(".")
            private = any(part[0] == "_" for part in (*name.split("."), *public) if part)
            if private and count > MOST_PARAMETERS:
                many.add(f"{name}.{path}")
            if code(function, lines) > MOST_CODE:
                long.add(f"{name}.{path}")
    # Also an exception that is none any more fails.
    assert many == set(MANY_PARAMETERS)
    assert long == set(LONG_FUNCTIONS)
    assert files == set(LONG_FILES)


def rooms():
    """Return the table of rooms, as the page on the architecture shows it, from the top down."""
    lines = ["| room | what it is for | imports |", "|---|---|---|"]
    known = {room(name) for name in MODULES}
    for name in sorted(known, key=lambda name: (-floor(name), name)):
        purpose = (ast.get_docstring(MODULES[name]) or "").splitlines()[0]
        inside = [other for other in MODULES if room(other) == name]
        others = {room(other) for module in inside for other in imports(MODULES[module])} - {name}
        shown = ", ".join(f"`{other or 'xplique_sal'}`" for other in sorted(others))
        purpose = purpose.removesuffix(" Private.").rstrip(".:")
        lines.append(f"| `{name or 'xplique_sal'}` | {purpose} | {shown} |")
    return "\n".join(lines)


def test_the_map_of_the_house_is_true():
    page = PACKAGE.parent / "docs" / "maintainers" / "architecture.md"
    text = page.read_text(encoding="utf-8")
    assert rooms() in text, f"put this table into {page.name}:\n{rooms()}"


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
