"""Names, positions and defaults are a contract."""

import inspect

import pytest

from xplique_sal import Saliency, attributions
from xplique_sal.attributions import Occlusion, Rise
from xplique_sal.attributions.base import BlackBoxExplainer, WhiteBoxExplainer

REQUIRED = inspect.Parameter.empty


def parameters(function, kind):
    return {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is kind and name != "self"
    }


@pytest.mark.parametrize(
    "explainer, positional",
    [
        (BlackBoxExplainer, {"model": REQUIRED, "batch_size": 64, "operator": None}),
        (
            WhiteBoxExplainer,
            {
                "model": REQUIRED,
                "output_layer": None,
                "batch_size": 64,
                "operator": None,
                "reducer": "mean",
            },
        ),
        (
            Saliency,
            {
                "model": REQUIRED,
                "output_layer": None,
                "batch_size": 64,
                "operator": None,
                "reducer": "max",
            },
        ),
        (
            Occlusion,
            {
                "model": REQUIRED,
                "batch_size": 64,
                "operator": None,
                "patch_size": 3,
                "patch_stride": 3,
                "occlusion_value": 0.0,
            },
        ),
        (
            Rise,
            {
                "model": REQUIRED,
                "batch_size": 64,
                "operator": None,
                "nb_samples": 4000,
                "grid_size": 7,
                "preservation_probability": 0.5,
                "mask_value": 0.0,
            },
        ),
    ],
)
def test_positional_parameters(explainer, positional):
    found = parameters(explainer, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    assert list(found.items()) == list(positional.items())


@pytest.mark.parametrize(
    "explainer, grad_modifier", [(WhiteBoxExplainer, None), (Saliency, "absolute")]
)
def test_keyword_parameters(explainer, grad_modifier):
    found = parameters(explainer, inspect.Parameter.KEYWORD_ONLY)
    assert found == {
        "output": None,
        "logits": False,
        "wrt_layer": None,
        "grad_modifier": grad_modifier,
        "backprop_modifier": None,
        "fold_batch_norm": True,
        "strategy": None,
        "channel_axis": None,
    }


def test_keyword_parameters_of_black_boxes():
    of_all = {"output_layer": None, "output": None, "logits": False}
    assert parameters(BlackBoxExplainer, inspect.Parameter.KEYWORD_ONLY) == of_all
    hiding = {**of_all, "groups": None}
    replacing = {**hiding, "replacement": None}
    assert parameters(Occlusion, inspect.Parameter.KEYWORD_ONLY) == replacing
    assert parameters(Rise, inspect.Parameter.KEYWORD_ONLY) == {"seed": None, **hiding}


WHITE_BOX = {"model": REQUIRED, "output_layer": None, "batch_size": 64, "operator": None}
CAM = {**WHITE_BOX, "conv_layer": None}
NOISE = {**WHITE_BOX, "reducer": "mean", "nb_samples": 50, "noise": 0.2}


@pytest.mark.parametrize(
    "name, positional, own",
    [
        ("GradientInput", {**WHITE_BOX, "reducer": "mean"}, {}),
        ("SmoothGrad", NOISE, {"seed": None, "relative_noise": False}),
        ("VarGrad", NOISE, {"seed": None, "relative_noise": False}),
        ("SquareGrad", NOISE, {"seed": None, "relative_noise": False}),
        (
            "IntegratedGradients",
            {**WHITE_BOX, "reducer": "mean", "steps": 50, "baseline_value": 0.0},
            {"quadrature": "trapezoidal", "hypothetical": False},
        ),
        (
            "GradientShap",
            {**WHITE_BOX, "reducer": "sum"},
            {
                **{"baselines": REQUIRED, "nb_samples": 50, "noise": 0.0, "seed": None},
                "hypothetical": False,
            },
        ),
        (
            "DeepLift",
            {**WHITE_BOX, "reducer": "sum"},
            {"baseline_value": 0.0, "max_pooling": "exact", "hypothetical": False},
        ),
        ("GradCAM", CAM, {"interpolation": "bicubic", "relu": True}),
        ("GradCAMPP", CAM, {"interpolation": "bicubic", "relu": True}),
        ("LayerCAM", CAM, {"interpolation": "bicubic", "relu": True}),
        ("ScoreCAM", CAM, {"interpolation": "bicubic", "relu": True, "nb_channels": None}),
    ],
)
def test_parameters_of_the_gradient_methods(name, positional, own):
    method = getattr(attributions, name)
    found = parameters(method, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    assert list(found.items()) == list(positional.items())
    inherited = parameters(WhiteBoxExplainer, inspect.Parameter.KEYWORD_ONLY)
    if "conv_layer" in positional:  # which is what it differentiates to, and no gradient is shown
        del inherited["wrt_layer"], inherited["grad_modifier"]
    if name == "DeepLift":  # which has its own rules
        del inherited["backprop_modifier"]
    assert parameters(method, inspect.Parameter.KEYWORD_ONLY) == {**inherited, **own}


def test_hierarchy():
    assert issubclass(Saliency, WhiteBoxExplainer)
    assert issubclass(WhiteBoxExplainer, BlackBoxExplainer)
    assert inspect.isabstract(BlackBoxExplainer)
    for explainer in (Occlusion, Rise):
        assert issubclass(explainer, BlackBoxExplainer)
        assert not issubclass(explainer, WhiteBoxExplainer)


def test_calls():
    explain = {"inputs": REQUIRED, "targets": None}
    for name in ("explain", "__call__", "explain_with_scores"):
        method = getattr(Saliency, name)
        assert parameters(method, inspect.Parameter.POSITIONAL_OR_KEYWORD) == explain
        assert parameters(method, inspect.Parameter.KEYWORD_ONLY) == {"verbose": 0}
    found = parameters(Saliency.iter_explain, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    assert found == explain
    found = parameters(Saliency.explain_outputs, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    assert found == {"inputs": REQUIRED, "outputs": None}
