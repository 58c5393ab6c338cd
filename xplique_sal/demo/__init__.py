"""Demos that measure what the package promises, and draw it.

Run one with ``python -m xplique_sal.demo``; ``--what`` chooses which:

- ``saliency``: does the saliency of a digit classifier fall on the digit?
- ``class_visualisation``: are the images that it finds for each class classified as that class?
- ``localisation``: do boxes that are made from saliency alone overlap the digits' boxes?
- ``regression``: what increases, decreases and maintains a steering angle?
- ``segmentation``: why does the blank end of a plate belong to the class of its digit?
- ``detection``: do maps of a detected box lie in the box, and those of its class on what tells it?
- ``callback``: what does a network look at, epoch by epoch, while it learns?

Each is a module with a function ``run(keras, seed, output)``, which returns the figures that it
prints: `keras` is the module ``tf_keras`` or ``keras``, `seed` that of data, weights, training and
all else that is drawn, `output` the picture to write. Nothing is downloaded. The functions can be
imported on their own.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence

from xplique_sal.demo.digits import (
    CANVAS,
    DIGIT,
    NOISE,
    Canvases,
    build_network,
    digit_canvases,
    require,
    train,
    trained_network,
)
from xplique_sal.demo.saliency import pointing_ratio, save_picture

__all__ = [
    "CANVAS",
    "DIGIT",
    "NOISE",
    "Canvases",
    "build_network",
    "digit_canvases",
    "main",
    "pointing_ratio",
    "save_picture",
    "train",
    "trained_network",
]

#: What can be shown, each a module with a function `run`, with the picture that it writes.
_PICTURES = {
    "saliency": "demo.png",
    "class_visualisation": "class_visualisation.png",
    "localisation": "localisation.png",
    "regression": "regression.png",
    "segmentation": "segmentation.png",
    "detection": "detection.png",
    "callback": "callback.png",
}


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Run a demo from the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Command-line arguments; ``sys.argv`` by default.

    Returns
    -------
    dict
        The figures that were printed.

    Raises
    ------
    SystemExit
        If an argument does not exist, or the demo's extra is not installed.
    """
    parser = argparse.ArgumentParser(
        prog="python -m xplique_sal.demo", description="Measure what saliency maps show."
    )
    parser.add_argument("--what", choices=_PICTURES, default="saliency", help="the demo to run")
    parser.add_argument("--keras", type=int, choices=(2, 3), default=2, help="Keras version")
    parser.add_argument("--output", help="the picture to write, by default named as the demo")
    parser.add_argument("--seed", type=int, default=0, help="seed of data, weights and training")
    options = parser.parse_args(arguments)

    for module in ("matplotlib.figure", "sklearn.datasets"):
        require(module)  # before the training, not after it
    keras = importlib.import_module("tf_keras" if options.keras == 2 else "keras")
    demo = importlib.import_module(f"xplique_sal.demo.{options.what}")
    return demo.run(keras, options.seed, options.output or _PICTURES[options.what])
