"""What a network looks at, epoch by epoch, while it learns to read digits."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from demos.drawing import new_figure, save
from xplique_sal import Saliency
from xplique_sal.callbacks import SaliencyCallback
from xplique_sal.demo.digits import Canvases, build_network, digit_canvases
from xplique_sal.demo.saliency import pointing_ratio

EPOCHS = 8
SHOWN = (0, 1, 2, 4, 8)
"""After how many epochs there is a row in the picture."""


def _logits(model: Any) -> Saliency:
    return Saliency(model, logits=True)


def run(keras: Any, seed: int, output: str | Path) -> dict[str, float]:
    """Train with a `SaliencyCallback`, write some of its pictures as one, and print how maps learn.

    Returns
    -------
    dict
        The share of the saliency of 200 test canvases that is inside the digit's box, over the
        box's share of the area, after ``epoch 0``, before any training, to ``epoch 8``.
    """
    train, test = digit_canvases(seed)
    some = Canvases(*(part[:200] for part in test))
    model = build_network(keras, seed)
    ratios: dict[str, float] = {}
    print("share of saliency inside the digit's box / the box's share of the area:")

    def measure(finished: int) -> None:
        maps = _logits(model).explain(some.images, some.labels)
        ratios[f"epoch {finished}"] = pointing_ratio(maps, some.boxes)
        print(f"  after epoch {finished}  {ratios[f'epoch {finished}']:.2f}")

    with tempfile.TemporaryDirectory() as folder:
        shown = SaliencyCallback(
            *(test.images[:8], test.labels[:8]),
            directory=folder,
            explainer=_logits,
            at_start=True,
        )
        measured = keras.callbacks.LambdaCallback(
            on_train_begin=lambda logs: measure(0),
            on_epoch_end=lambda epoch, logs: measure(epoch + 1),
        )
        model.fit(
            *(train.images, train.labels),
            epochs=EPOCHS,
            batch_size=64,
            verbose=0,
            callbacks=[shown, measured],
        )
        picture = save_picture(output, Path(folder))
    print(f"picture: {picture}")
    return ratios


def save_picture(path: str | Path, folder: Path) -> Path:
    """Write one picture with the maps of some epochs below their samples.

    Parameters
    ----------
    path : str or pathlib.Path
        The file to write; missing folders are made.
    folder : pathlib.Path
        What a `SaliencyCallback` has written, with at most eight samples.

    Returns
    -------
    pathlib.Path
        The file that was written.
    """
    sheets = [
        tf.io.decode_png((folder / f"epoch_{epoch:04d}.png").read_bytes()).numpy()
        for epoch in SHOWN
    ]
    middle = sheets[0].shape[0] // 2
    rows = [("samples", sheets[0][: middle - 2])]
    rows += [
        (f"epoch {epoch}", sheet[middle + 2 :]) for epoch, sheet in zip(SHOWN, sheets, strict=True)
    ]
    figure = new_figure(9.2, 1.15 * len(rows))
    figure.get_layout_engine().set(w_pad=0.1)
    for axes, (name, row) in zip(figure.subplots(len(rows)), rows, strict=True):
        axes.imshow(np.asarray(row), interpolation="nearest")
        axes.set_ylabel(name, rotation=0, ha="right", va="center")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    return save(figure, path)
