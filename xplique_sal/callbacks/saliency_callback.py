"""Maps of the same samples after every few epochs of ``fit``."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from xplique_sal._data.samples import read_samples
from xplique_sal._data.structures import Structure, leaves, skeleton_of
from xplique_sal._models.view import ModelView
from xplique_sal._parameters import integer, number, one_of
from xplique_sal.attributions.saliency import Saliency
from xplique_sal.callbacks import picture, sample
from xplique_sal.callbacks.hook import Callback
from xplique_sal.callbacks.writers import writers
from xplique_sal.errors import (
    InvalidModelError,
    InvalidParameterError,
    XpliqueSalError,
)


class SaliencyCallback(Callback):
    """Draw what a model looks at while it is trained, for ``fit`` of tf-keras and of Keras 3.

    After every few epochs the same samples are explained and drawn, each above its map, into a
    folder, into TensorBoard, or both. Training goes on as if there were no callback: weights,
    optimizer, metrics, states and random numbers are the same to the last bit, the training step is
    not traced again, and nothing is done between batches. The explainer's program is traced once,
    for all epochs.

    Before the first epoch the samples are explained once on trial, so that a sample, a target or a
    parameter that is wrong ends `fit` before it has begun. A model that has no variables by then (a
    subclassed one that was never called, a `Sequential` without an input) is left to be built by
    its training: what needs the model is tried after its first epoch, whatever `every` is.

    Parameters
    ----------
    inputs
        The samples, as `explain` takes them. They are read once, here: a dataset is not read again,
        and arrays may be written to afterwards.
    targets
        What is explained of them, as `explain` takes them.
    directory
        A folder for PNG files, made if it is missing: ``epoch_0005.png`` after five epochs, with
        all samples in rows of eight; ``epoch_0005_name.png`` for each of several inputs. A file
        appears when it is whole. Those of an earlier run are replaced where their names recur,
        and left where not.
    log_dir
        A folder for TensorBoard, with one picture for each sample. Its step is that of Keras's own
        callback, which counts epochs from 0. TensorBoard need not be installed to write it.
    explainer
        A function from the model to an explainer, or an explainer's class; it is called once in
        each `fit`. What it returns needs a method ``explain(inputs, targets)``.
    every
        Draw after each `every` epochs: epochs 3, 6, 9, ..., for 3.
    at_start
        Also draw before the first epoch: ``epoch_0000.png``, or the epoch where `fit` goes on, and
        in TensorBoard the step before it, -1.
    name
        What the pictures are called in TensorBoard.
    show_inputs
        Draw each sample above its map, its values spread from black to white, where it has the
        height and width of its map.
    vmax
        The size of a map's value that is white. ``None`` is the largest in each map, so that the
        colours of two maps say nothing of which is larger; a number makes epochs comparable.
    zoom
        How many pixels wide and high each value is drawn. ``None`` is the smallest number that
        makes the longer side 96 pixels or more.
    on_error
        ``"raise"`` ends `fit` with an error if there is no map of an epoch, say because
        the weights are not finite any more; ``"warn"`` goes on without the picture. What fails
        on trial is always raised.

    Notes
    -----
    Colours: 0 is black; positive values go over orange, negative ones over blue, to white at
    `vmax`. Lightness grows evenly with size (CIE L*). Of a time series time runs downwards.

    Raises
    ------
    InvalidParameterError
        If there is nowhere to draw to, or a parameter has a value that does not exist; from `fit`,
        also if the maps cannot be drawn.
    InvalidInputError
        If the samples are a dataset that repeats for ever.

    From `fit`, before the first epoch, what `explain` and the explainer raise.
    """

    def __init__(
        self,
        inputs: Structure,
        targets: Structure | None = None,
        *,
        directory: str | os.PathLike[str] | None = None,
        log_dir: str | os.PathLike[str] | None = None,
        explainer: Callable[[Any], Any] = Saliency,
        every: int = 1,
        at_start: bool = False,
        name: str = "saliency",
        show_inputs: bool = True,
        vmax: float | None = None,
        zoom: int | None = None,
        on_error: str = "raise",
    ) -> None:
        if directory is None and log_dir is None:
            raise InvalidParameterError(
                "`directory` or `log_dir`, to draw to",
                "neither",
                "Pass directory='maps' for a folder of PNG files, or the log_dir of TensorBoard.",
            )
        if not callable(explainer):
            raise InvalidParameterError(
                "`explainer` as a function from the model to an explainer, or its class",
                f"a {type(explainer).__name__}",
                "Pass explainer=lambda model: Saliency(model, logits=True), say.",
            )
        one_of("on_error", on_error, ("raise", "warn"))
        self._inputs, self._targets = sample.copied(inputs), sample.copied(targets)
        self._places = (directory, log_dir, name)
        self._make_explainer = explainer
        self._every = integer("every", every)
        self._at_start = bool(at_start)
        self._show_inputs = bool(show_inputs)
        self._zoom = None if zoom is None else integer("zoom", zoom)
        remedy = "None is the largest value of each map."
        self._vmax = None if vmax is None else number("vmax", vmax, "()", remedy=remedy)
        self._on_error = on_error
        self._begun = self._tried = False
        self._end()

    def _end(self) -> None:
        self._explainer: Any = None
        self._view: ModelView | None = None
        self._shown: Structure = None
        self._writers: list[Any] = []

    def on_train_begin(self, logs: Any = None) -> None:
        """Forget the training before, which may have been interrupted."""
        self._end()
        self._begun = self._tried = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Try everything before the first epoch; later, do nothing.

        It is after every callback's `on_train_begin`, one of which may restore weights.
        """
        if self._begun:
            return
        self._begun = True
        self._view = ModelView(self.model)
        self._writers = writers(*self._places)
        if self._view.is_built:
            pictures = list(self._draw())
            self._tried = True
            if self._at_start:
                self._write(epoch, pictures)
        elif self._at_start:
            raise InvalidModelError(
                "a model with its variables, to draw before the first epoch",
                "one that its training has yet to build",
                "Call the model once on a batch before `fit`, or leave `at_start` out.",
            )
        elif not isinstance(self._inputs, (list, tuple)):
            read_samples(self._inputs, self._targets, self._view.inputs_for(self._inputs))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Explain and draw, if it is the epoch's turn."""
        finished = epoch + 1
        is_due = finished % self._every == 0
        if not is_due and self._tried:
            return
        try:
            pictures = list(self._draw())
            if is_due:
                self._write(finished, pictures)
        except Exception as error:
            if self._on_error == "warn" and self._tried:
                warnings.warn(
                    f"There is no picture of the maps after epoch {finished}: {error}",
                    UserWarning,
                    stacklevel=2,
                )
            elif isinstance(error, XpliqueSalError):
                actual = f"{error.actual}, after epoch {finished} of `fit`"
                raise type(error)(error.expected, actual, error.remedy) from error
            else:
                raise
        self._tried = True

    def on_train_end(self, logs: Any = None) -> None:
        """Close what was written."""
        for writer in self._writers:
            writer.close()
        self._end()

    def _write(self, finished: int, pictures: list[tuple[str, np.ndarray]]) -> None:
        for writer in self._writers:
            for name, pictures_of_input in pictures:
                writer.write(finished, name, pictures_of_input)

    def _draw(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield, for each input that has maps, its name and its pictures (N, H, W, 3)."""
        assert self._view is not None
        if self._explainer is None:
            self._explainer = self._explainer_of_model()
            self._inputs, self._targets, self._shown = sample.read(
                self._inputs, self._targets, self._view.inputs_for(self._inputs)
            )
        axis = self._view.channel_axis
        maps = self._explainer.explain(self._inputs, self._targets)
        samples = self._samples_of(maps)
        for position, (name, map_) in enumerate(sample.named(maps)):
            if map_ is None:
                continue
            values = picture.sheet_of_maps(map_, axis)
            pictures = picture.enlarged(picture.colours(values, self._vmax), self._zoom)
            if samples:
                shown = picture.sheet_of_samples(samples[position], values.shape, axis)
                if shown is not None:
                    pictures = picture.beneath(picture.enlarged(shown, self._zoom), pictures)
            yield name, pictures

    def _samples_of(self, maps: Structure) -> list[Any]:
        """Return the samples in the order of their maps; none where a map is of something else."""
        # Of inner layers there can be as many maps as there are inputs, by chance.
        inner = getattr(getattr(self._explainer, "model", None), "wrt_layer", None) is not None
        samples = leaves(self._shown)
        of_inputs = skeleton_of(maps) == skeleton_of(self._shown) and not (inner and samples[1:])
        return samples if self._show_inputs and of_inputs else []

    def _explainer_of_model(self) -> Any:
        explainer = self._make_explainer(self.model)
        if not callable(getattr(explainer, "explain", None)):
            raise InvalidParameterError(
                "an `explainer` that returns an object with a method `explain`",
                f"one that returns a {type(explainer).__name__}",
                "Pass an explainer's class, or a function that makes one of the model.",
            )
        return explainer
