"""Demos that measure what pages of the guide show, and draw it.

Run one in a checkout with ``make demo WHAT=localisation``, or with ``python -m demos --what
localisation`` and the folder ``docs`` on ``PYTHONPATH``:

- ``class_visualisation``: are the images that it finds for each class classified as that class?
- ``localisation``: do boxes that are made from saliency alone overlap the digits' boxes?
- ``regression``: what increases, decreases and maintains a steering angle?
- ``segmentation``: why does the blank end of a plate belong to the class of its digit?
- ``detection``: do maps of a detected box lie in the box, and those of its class on what tells it?
- ``metrics``: which explainer can be believed, by what each metric says?
- ``callback``: what does a network look at, epoch by epoch, while it learns?

Each is a module with a function ``run(keras, seed, output)``, as that of `xplique_sal.demo`, the
demo of the first page, whose digits and pictures some of them share.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from xplique_sal import demo

NAMES = (
    "class_visualisation",
    "localisation",
    "regression",
    "segmentation",
    "detection",
    "metrics",
    "callback",
)


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
    parser = demo.command_line("python -m demos")
    parser.add_argument("--what", choices=NAMES, required=True, help="the demo to run")
    options = parser.parse_args(arguments)
    chosen = importlib.import_module(f"demos.{options.what}")
    return demo.started(chosen.run, options, picture=f"{options.what}.png")
