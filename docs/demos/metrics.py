"""Every explainer judged on the digit network, and which of them notice its weights."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from demos.drawing import save
from xplique_sal import attributions, metrics
from xplique_sal.demo.digits import Network, trained_network
from xplique_sal.plots import plot_comparison

NB_IMAGES = 100
"""How many test canvases are explained."""

NB_BASELINES = 20
"""How many training canvases are baselines of expected gradients."""

Explainers = dict[str, Callable[[Network], Any]]


def _of(name: str, **options: Any) -> Callable[[Network], Any]:
    """Return what makes an explainer of logits by its name."""
    return lambda network: getattr(attributions, name)(network.model, logits=True, **options)


EXPLAINERS: Explainers = {
    "Saliency": _of("Saliency"),
    "GradientInput": _of("GradientInput", reducer="sum"),
    "SmoothGrad": _of("SmoothGrad", nb_samples=20, seed=0),
    "VarGrad": _of("VarGrad", nb_samples=20, seed=0),
    "SquareGrad": _of("SquareGrad", nb_samples=20, seed=0),
    "IntegratedGradients": _of("IntegratedGradients", steps=20, reducer="sum"),
    "GradientShap": lambda network: attributions.GradientShap(
        network.model,
        logits=True,
        nb_samples=20,
        seed=0,
        reducer="sum",
        baselines=network.train.images[:NB_BASELINES],
    ),
    "DeepLift": _of("DeepLift"),
    "LRP": _of("LRP"),
    "GradCAM": _of("GradCAM"),
    "GradCAMPP": _of("GradCAMPP"),
    "LayerCAM": _of("LayerCAM"),
    "ScoreCAM": _of("ScoreCAM"),
    "GuidedBackprop": _of("GuidedBackprop"),
    "DeconvNet": _of("DeconvNet"),
    "Occlusion": _of("Occlusion", patch_size=5, patch_stride=5),
    "Rise": _of("Rise", nb_samples=400, seed=0),
}
"""What is judged: each takes the trained network."""


def run(
    keras: Any, seed: int, output: str | Path, explainers: Explainers = EXPLAINERS
) -> dict[str, float]:
    """Train, judge the maps of explainers, draw and print the table.

    Returns
    -------
    dict
        The mean of each metric for each row, by ``"row metric"``.
    """
    network = trained_network(keras, seed)
    images, labels = network.test.images[:NB_IMAGES], network.test.labels[:NB_IMAGES]
    boxes = network.test.boxes[:NB_IMAGES, [1, 0, 3, 2]]
    table = metrics.compare(
        {name: make(network) for name, make in explainers.items()},
        images,
        labels,
        {
            "Deletion": "Deletion",
            "Insertion": "Insertion",
            "µFidelity": metrics.MuFidelity,
            "on the digit": metrics.Localization(boxes),
            "random weights": functools.partial(
                metrics.ModelRandomization, similarity="ssim", steps=None
            ),
        },
        seed=seed,
    )
    print(table)
    figure = plot_comparison(table, cols=3, img_size=2.2)[0].get_figure()
    print(f"picture: {save(figure, output)}")
    return {
        f"{row.name} {metric}": estimate.mean
        for row in table
        for metric, estimate in row.estimates.items()
    }
