"""What an explainer is made from: seen in the source, kept, shown, copied and pickled."""

import ast
import copy
import functools
import inspect
import pickle
import textwrap

import numpy as np
import pytest
import tensorflow as tf

import xplique_sal
from xplique_sal import attributions
from xplique_sal.attributions import (
    GradCAM,
    GradientShap,
    IntegratedGradients,
    Occlusion,
    Rise,
    Saliency,
    SmoothGrad,
)
from xplique_sal.attributions.base import BlackBoxExplainer, WhiteBoxExplainer
from xplique_sal.attributions.signatures import parameters_of

EXPLAINERS = [getattr(attributions, name) for name in attributions.__all__]
every_explainer = pytest.mark.parametrize(
    "explainer", [*EXPLAINERS, BlackBoxExplainer, WhiteBoxExplainer], ids=lambda e: e.__name__
)
X = np.random.default_rng(0).normal(size=(2, 6, 6, 1)).astype(np.float32)


@pytest.fixture(params=["keras", "tf_keras"])
def model(request):
    keras = pytest.importorskip(request.param)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(2, 3, activation="relu", bias_initializer="ones"),
            layers.Flatten(),
            layers.Dense(3),
        ],
        name="net",
    )


def written(cls):
    """Return names and defaults of the nearest ``__init__`` as an editor reads them."""
    owner = next(base for base in cls.__mro__ if "__init__" in vars(base))
    tree = ast.parse(textwrap.dedent(inspect.getsource(owner)))
    init = next(node for node in ast.walk(tree) if getattr(node, "name", "") == "__init__")
    arguments = init.args
    assert arguments.vararg is None and arguments.kwarg is None and not init.decorator_list
    names = [argument.arg for argument in [*arguments.args, *arguments.kwonlyargs]]
    defaults = [*arguments.defaults, *arguments.kw_defaults]
    padded = [None] * (len(names) - len(defaults)) + defaults
    return {
        name: inspect.Parameter.empty if default is None else ast.literal_eval(default)
        for name, default in zip(names[1:], padded[1:], strict=True)
    }


@every_explainer
def test_what_an_editor_reads_is_what_a_call_takes(explainer):
    at_run_time = inspect.signature(explainer).parameters
    assert written(explainer) == {name: p.default for name, p in at_run_time.items()}
    assert list(written(explainer)) == list(at_run_time) == list(parameters_of(explainer))
    assert not hasattr(explainer.__init__, "__signature__")


@pytest.mark.parametrize("explainer", EXPLAINERS, ids=attributions.__all__)
def test_parameters_are_attributes_of_their_names(explainer, model):
    made = explainer(model, **({"baselines": X} if "baselines" in written(explainer) else {}))
    for name, parameter in parameters_of(explainer).items():
        value = getattr(made, name)
        if name in ("patch_size", "patch_stride"):
            assert value == (3, 3)  # one for each axis of the model's images
        elif parameter.default is not parameter.empty and name not in ("seed", "reducer"):
            assert value == parameter.default, name
    assert made.model.model is model


def test_parameters_are_kept_as_given_or_in_one_form(model):
    assert Occlusion(model, patch_size=[2, 3], patch_stride=2).patch_size == (2, 3)
    assert Occlusion(model, patch_stride=np.int64(2)).patch_stride == (2, 2)
    assert Occlusion(lambda x: x, patch_size=2).patch_size == 2  # of any number of axes
    rise = Rise(model, nb_samples=np.int32(5), grid_size=[2, 3], seed=4)
    assert (rise.nb_samples, rise.grid_size, rise.seed) == (5, (2, 3), 4)
    assert rise.preservation_probability == 0.5 and rise.mask_value == 0.0
    saliency = Saliency(model, -1, grad_modifier=tf.abs, logits=1)
    assert saliency.output_layer == -1 and saliency.grad_modifier is tf.abs
    assert saliency.logits is True and saliency.reducer == "max"
    noisy = SmoothGrad(model, noise=1)
    assert noisy.noise == 1.0 and noisy.relative_noise is False and isinstance(noisy.seed, int)


def test_a_parameter_stays_as_it_was_made(model):
    for name, value in (("reducer", "min"), ("operator", None), ("model", model)):
        explainer = Saliency(model)
        with pytest.raises(AttributeError, match=f"`{name}` of a Saliency.*another explainer"):
            setattr(explainer, name, value)
    with pytest.raises(AttributeError):
        Occlusion(model).patch_size = 2
    explainer = Saliency(model)
    explainer.note = 1
    explainer.note = 2  # what is no parameter is the user's


def test_what_differs_from_the_defaults_is_shown(model):
    kind = f"<Sequential {model.name!r}>"
    assert repr(Saliency(model)) == f"Saliency({kind})"
    assert repr(Saliency(model, logits=True)) == f"Saliency({kind}, logits=True)"
    shown = repr(Saliency(model, 0, "auto", reducer=None, wrt_layer=[0, 1], grad_modifier=abs))
    assert shown == (
        f"Saliency({kind}, output_layer=0, batch_size='auto', reducer=None, "
        "wrt_layer=[0, 1], grad_modifier=<builtin_function_or_method 'abs'>)"
    ), shown
    baseline = IntegratedGradients(model, baseline_value=np.zeros((6, 6, 1)), steps=3)
    assert repr(baseline).endswith("steps=3, baseline_value=<ndarray (6, 6, 1)>)")
    assert repr(Occlusion(model, patch_size=3, patch_stride=[3, 3])) == f"Occlusion({kind})"
    assert repr(Rise(model, seed=0)) == f"Rise({kind}, seed=0)"
    several = GradientShap(model, baselines=X, seed=0)
    assert repr(several) == f"GradientShap({kind}, baselines=<ndarray (2, 6, 6, 1)>, seed=0)"
    assert repr(Occlusion(print)) == "Occlusion(<builtin_function_or_method 'print'>)"


@pytest.mark.parametrize("again", [copy.copy, lambda e: pickle.loads(pickle.dumps(e))])
def test_copies_and_pickles_explain_alike(model, again):
    if again is not copy.copy:
        try:
            pickle.dumps(model)
        except AttributeError:
            pytest.skip("a model of this Keras cannot be pickled")
    for make in (
        functools.partial(Saliency, reducer=None, grad_modifier="relu"),
        functools.partial(SmoothGrad, nb_samples=3),
        GradCAM,
        functools.partial(Occlusion, patch_size=9),  # of which there is less along each axis
        functools.partial(Rise, nb_samples=8, seed=1),
    ):
        explainer = make(model)
        maps = explainer(X, 1)
        other = again(explainer)
        assert repr(other) == repr(explainer)
        np.testing.assert_allclose(other(X, 1), maps, rtol=1e-5, atol=1e-6)


def test_a_copy_finds_its_own_feature_map(model):
    explainer = GradCAM(model)
    explainer(X)
    assert explainer.conv_layer is not None and copy.copy(explainer).conv_layer is None
    assert repr(explainer) == f"GradCAM(<Sequential {model.name!r}>)"


def test_what_a_class_does_not_keep_cannot_be_copied(model):
    class Forgetful(Saliency):
        def __init__(self, model, level, **options):
            super().__init__(model, **options)

    assert list(parameters_of(Forgetful))[:3] == ["model", "level", "output_layer"]
    explainer = Forgetful(model, 3, reducer="min")
    assert repr(explainer) == f"Forgetful(<Sequential {model.name!r}>, reducer='min')"
    with pytest.raises(TypeError, match=r"every parameter of Forgetful.*\['level'\]"):
        copy.copy(explainer)


def test_every_explainer_can_be_imported_from_the_package():
    for name in attributions.__all__:
        assert getattr(xplique_sal, name) is getattr(attributions, name)
    assert dir(xplique_sal) == sorted(xplique_sal.__all__)
    assert all(hasattr(xplique_sal, name) for name in xplique_sal.__all__)
