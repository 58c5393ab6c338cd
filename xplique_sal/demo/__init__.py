"""A demo that measures what the package promises: saliency falls on what a network looks at.

Run it with ``python -m xplique_sal.demo``: a digit classifier is trained, and its saliency is
compared with where the digits are. Nothing is downloaded. The functions can be imported on their
own.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Sequence
from typing import Any

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
from xplique_sal.demo.saliency import pointing_ratio, run

__all__ = [
    "CANVAS",
    "DIGIT",
    "NOISE",
    "Canvases",
    "build_network",
    "command_line",
    "digit_canvases",
    "main",
    "pointing_ratio",
    "run",
    "started",
    "train",
    "trained_network",
]


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Run the demo from the command line.

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
    options = command_line("python -m xplique_sal.demo").parse_args(arguments)
    return started(run, options, picture="demo.png")


def command_line(prog: str) -> argparse.ArgumentParser:
    """Return a parser of the options that every demo has: ``keras``, ``output`` and ``seed``."""
    parser = argparse.ArgumentParser(prog=prog, description="Measure what saliency maps show.")
    parser.add_argument("--keras", type=int, choices=(2, 3), default=2, help="Keras version")
    parser.add_argument("--output", help="the picture to write, by default named as the demo")
    parser.add_argument("--seed", type=int, default=0, help="seed of data, weights and training")
    return parser


def started(
    demo: Callable[..., dict[str, float]], options: argparse.Namespace, picture: str
) -> dict[str, float]:
    """Run a demo with the options of a command line.

    Parameters
    ----------
    demo : callable
        ``demo(keras, seed, output)`` returns the figures that it prints: `keras` is the module
        ``tf_keras`` or ``keras``, `seed` that of data, weights, training and all else that is
        drawn, `output` the picture to write.
    options : argparse.Namespace
        What `command_line` has parsed.
    picture : str
        The picture to write if the options name none.
    """
    for module in ("matplotlib.figure", "sklearn.datasets"):
        require(module)  # before the training, not after it
    keras: Any = importlib.import_module("tf_keras" if options.keras == 2 else "keras")
    return demo(keras, options.seed, options.output or picture)
