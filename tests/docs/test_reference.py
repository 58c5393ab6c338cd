"""Every public name is in the reference, and every name that the reference asks for exists."""

import importlib
import inspect
import re
import sys
from pathlib import Path

import pytest

import xplique_sal

DOCS = Path(__file__).parents[2] / "docs"
DIRECTIVE = re.compile(r"^::: (\S+)$((?:\n    .*|\n(?=    ))*)", re.M)


@pytest.fixture(scope="module")
def method_pages():
    """The hook of the documentation's build that makes a page for each method."""
    spec = importlib.util.spec_from_file_location("method_pages", DOCS / "method_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def public_names(module):
    """Yield what a module offers: its `__all__`, or what is defined in it without an underscore."""
    names = getattr(module, "__all__", None)
    if names is None:
        names = [
            name
            for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
        ]
    yield from names


def public_modules():
    """Return the public modules by name."""
    found = {"xplique_sal": xplique_sal}
    for name in xplique_sal.__all__:
        if inspect.ismodule(getattr(xplique_sal, name)):
            found[f"xplique_sal.{name}"] = getattr(xplique_sal, name)
    return {**found, "xplique_sal.attributions.base": sys.modules[BASE]}


BASE = "xplique_sal.attributions.base"


def resolved(path):
    """Return the object of a dotted path."""
    parts = path.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(path)


def shown_in(text):
    """Return the objects that the directives of a page show."""
    for path, _ in DIRECTIVE.findall(text):
        thing = resolved(path)
        yield thing
        if inspect.ismodule(thing):
            yield from (getattr(thing, name) for name in public_names(thing))


@pytest.fixture(scope="module")
def shown(method_pages):
    """The ids of all objects that the reference and the pages of methods show."""
    pages = [method_pages.page_of(explainer) for explainer in method_pages.explainers()]
    pages.append((DOCS / "reference.md").read_text("utf-8"))
    return {id(thing) for page in pages for thing in shown_in(page)}


@pytest.mark.parametrize(
    "module, name",
    [
        (module, name)
        for module, found in public_modules().items()
        for name in public_names(found)
        if name != "__version__" and not inspect.ismodule(getattr(found, name))
    ],
)
def test_every_public_name_is_in_the_reference(shown, module, name):
    thing = getattr(public_modules()[module], name)
    assert id(thing) in shown, f"{module}.{name} is in no page"
    # mkdocstrings leaves out what has no docstring.
    assert inspect.getdoc(thing)


def test_modules_are_found():
    assert {"xplique_sal.attributions", "xplique_sal.plots", BASE} <= public_modules().keys()
    assert set(public_names(xplique_sal.plots)) == set(xplique_sal.plots.__all__)
    assert "XpliqueSalError" in set(public_names(xplique_sal.errors))
    text = "::: xplique_sal.errors\n    options:\n      a: b\n\n::: xplique_sal.Saliency\n"
    assert [path for path, _ in DIRECTIVE.findall(text)] == [
        "xplique_sal.errors",
        "xplique_sal.Saliency",
    ]


def test_a_method_that_is_exported_has_a_page(method_pages):
    from xplique_sal import attributions

    explainers = method_pages.explainers()
    assert {cls.__name__ for cls in explainers} == set(attributions.__all__)
    assert explainers[0] is xplique_sal.Saliency
    assert len({method_pages.file_of(cls) for cls in explainers}) == len(explainers)
    for cls in explainers:
        page = method_pages.page_of(cls)
        assert page.count(f"::: xplique_sal.attributions.{cls.__name__}\n") == 1
        assert method_pages.opening_of(cls) in page
        # The formula is set apart.
        assert re.search(r"^    \S.*=", method_pages.opening_of(cls), re.M)
        assert f"({method_pages.file_of(cls)}.md)" in method_pages.table("")


def test_the_code_of_a_page_makes_its_maps(method_pages, rng):
    import numpy as np
    import tf_keras

    from xplique_sal.attributions import Saliency

    tf_keras.utils.set_random_seed(0)
    softmax = tf_keras.Sequential(
        [tf_keras.Input((6, 6, 1)), tf_keras.layers.Flatten(), tf_keras.layers.Dense(3, "softmax")]
    )
    images, labels = rng.normal(size=(2, 6, 6, 1)).astype("float32"), np.array([0, 2])
    maps = method_pages.maps_of(Saliency, softmax, None, images, labels)
    weights = softmax.layers[-1].get_weights()[0][:, labels].T.reshape(2, 6, 6, 1)
    np.testing.assert_allclose(maps, np.abs(weights), rtol=1e-5)
