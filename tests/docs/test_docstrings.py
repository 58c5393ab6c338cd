"""`help` of an explainer says all that is needed to use it, and its examples run."""

import doctest
import inspect
import pydoc
import re

import numpy as np
import pytest
import tensorflow as tf

from xplique_sal import attributions, errors
from xplique_sal.attributions.base import BlackBoxExplainer, WhiteBoxExplainer
from xplique_sal.attributions.signatures import with_inherited_sections

EXPLAINERS = [getattr(attributions, name) for name in attributions.__all__]
every_explainer = pytest.mark.parametrize("explainer", EXPLAINERS, ids=attributions.__all__)
CALLS = ("explain", "__call__", "iter_explain", "explain_with_scores", "explain_outputs")


def section(docstring, title):
    """Return the text of one section of a numpydoc docstring."""
    found = re.search(rf"^{title}\n-+\n(.*?)(?=^[A-Z]\w+\n---|\Z)", docstring, re.M | re.S)
    assert found, f"no section {title}"
    return found[1]


def entries(text):
    """Return the texts of a section's entries, by their headings."""
    found = re.finditer(r"^(\S.*)\n((?:    .*\n|\n)+)", text + "\n", re.M)
    return {match[1]: match[2].strip() for match in found}


@every_explainer
def test_every_parameter_is_named_with_its_default(explainer):
    documented = entries(section(inspect.getdoc(explainer), "Parameters"))
    expected = []
    for name, parameter in inspect.signature(explainer).parameters.items():
        if parameter.default is parameter.empty:
            expected.append(name)
        else:
            expected.append(f"{name} : {parameter.annotation}, default {parameter.default!r}")
    assert list(documented) == expected
    assert all(len(text) > 10 for text in documented.values())


@every_explainer
def test_errors_and_shapes_are_named(explainer):
    raised = entries(section(inspect.getdoc(explainer), "Raises"))
    assert {"InvalidModelError", "InvalidOperatorError", "InvalidParameterError"} <= raised.keys()
    assert "LayerNotFoundError" in raised or not issubclass(explainer, WhiteBoxExplainer)
    raised_later = entries(section(inspect.getdoc(explainer.explain), "Raises"))
    assert {"InvalidInputError", "InvalidTargetError", "NoGradientError"} <= raised_later.keys()
    for name in (*raised, *raised_later):
        assert issubclass(getattr(errors, name), errors.XpliqueSalError)

    text = pydoc.render_doc(explainer, renderer=pydoc.plaintext)
    for shape in ("(N, W)", "(N, T, W)", "(N, H, W, C)", "(N, D, H, W, C)", "(N, H, W, 1)"):
        assert shape in text
    assert section(inspect.getdoc(explainer), "References").strip()


@pytest.mark.parametrize("call", CALLS)
def test_every_parameter_of_a_call_is_documented_or_that_of_explain(call):
    documentation = inspect.getdoc(getattr(BlackBoxExplainer, call))
    parameters = inspect.signature(getattr(BlackBoxExplainer, call)).parameters
    if "Parameters\n---" not in documentation:
        assert "those of `explain`" in " ".join(documentation.split())
        parameters = []
    else:
        documented = entries(section(documentation, "Parameters"))
        assert list(documented) == [name for name in parameters if name != "self"]
    if "verbose" in parameters and call != "explain_outputs":
        assert "default" in documented["verbose"] and "default" in documented["targets"]


@every_explainer
def test_examples_run(explainer, rng):
    import tf_keras as keras

    model = keras.Sequential(
        [
            keras.Input((9, 9, 1)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    images, labels = rng.normal(size=(2, 9, 9, 1)).astype("float32"), np.array([0, 2])
    dataset = tf.data.Dataset.from_tensor_slices((images, labels))
    known = dict(model=model, images=images, labels=labels, dataset=dataset)
    known[explainer.__name__] = explainer
    parser = doctest.DocTestParser()
    own = section(inspect.getdoc(explainer), "Examples")
    assert f"{explainer.__name__}(" in own
    for example in parser.get_examples(own):
        exec(example.source, known)
    assert known["explanations"].shape == (2, 9, 9, 1)

    is_white_box = issubclass(explainer, WhiteBoxExplainer)
    options = {"logits": True} if is_white_box else {}
    if "baselines" in inspect.signature(explainer).parameters:
        options["baselines"] = images
    known["explainer"] = explainer(model, **options)
    for example in parser.get_examples(section(inspect.getdoc(explainer.explain), "Examples")):
        exec(example.source.replace(", verbose=1", ""), known)
    assert known["maps"].shape == (2, 9, 9, 1)


def test_sections_are_merged_with_the_defaults_and_the_name_of_the_class():
    class Base:
        """A base.

        Parameters
        ----------
        a
            First, a.
        b
            Then b.

        Examples
        --------
        >>> Base(1)
        """

        def __init__(self, a: int, b: "str | None" = None):
            pass

    Base.__doc__ = with_inherited_sections(Base)

    class Derived(Base):
        """Another.

        Parameters
        ----------
        c
            Of its own.
        """

        def __init__(self, c, a: int = 2, b="x"):
            pass

    assert with_inherited_sections(Derived) == (
        "Another.\n\nParameters\n----------\nc\n    Of its own.\n"
        f"a : {int}, default 2\n    First, a.\nb : default 'x'\n    Then b.\n\n"
        "Examples\n--------\n>>> Derived(1)\n"
    )
    assert "b : str | None, default None\n" in Base.__doc__
