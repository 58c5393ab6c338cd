"""The gradient of a score, from operator to reduced map in one compiled function."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from xplique_sal._data.structures import Layout
from xplique_sal._engine.finish import MapMaker
from xplique_sal._engine.forward_pass import Facts, ForwardPass
from xplique_sal._engine.question import Question, Settings
from xplique_sal._engine.recipe import PairsRecipe, PointsRecipe
from xplique_sal._engine.request import Request
from xplique_sal._models.devices import Device
from xplique_sal._models.traced import TracedModel
from xplique_sal._tracing import loops


class GradientProgram:
    """What is traced to answer a question about samples of one layout.

    It takes inputs; targets, unless outputs are explained; and `settings`. It returns maps for
    each source, scores, and numbers about each sample (see `MapMaker.finish`).

    Attributes
    ----------
    key
        What tells it from the other programs of its view.
    specs
        Of inputs and targets, without the batch axis.
    """

    def __init__(
        self, question: Question, settings: Settings, request: Request, device: Device
    ) -> None:
        layout = request.layout
        if request.outputs is not None:
            layout = layout._replace(for_targets=None, target_specs=())
        self._question, self._layout, self._device = question, layout, device
        self._settings = settings
        self.specs = layout.specs
        kind = "score" if request.outputs is None else "outputs"
        asked = (kind, settings.with_largest, layout.for_user, layout.for_targets)
        self.key = (*asked, device.name, *question.key)

    def trace(self, *tensors: tf.Tensor) -> tuple[list[tf.Tensor], Facts]:
        """Return maps, scores and numbers of all samples, and what was seen."""
        nb_arrays = len(self.specs)
        arrays, settings = tensors[:nb_arrays], self._settings.read(tensors[nb_arrays:])
        question, layout = self._question, self._layout

        explain = functools.partial(explained, question, layout, settings, None)
        with self._device.used():
            if arrays[0].shape[0] is not None or not loops.is_small(layout):
                return explain(0, *arrays)
            types = [tf.float32] * (question.nb_sources(layout) + 2)
            return loops.in_batches(explain, arrays, settings.rows, types)


def explained(
    question: Question,
    layout: Layout,
    settings: Settings,
    given: list[TracedModel] | None,
    first: Any,
    *arrays: tf.Tensor,
) -> tuple[list[tf.Tensor], Facts]:
    """Return what a question is answered about some samples, while it is traced.

    Parameters
    ----------
    question, layout, settings
        What is asked of which samples.
    given
        The model is added to it, as it was given these samples, unless they went through it with
        others, or only points near them did.
    first
        The position of the first sample among all that the program is given.
    arrays
        Inputs and targets.

    Returns
    -------
    results
        Maps of each source; scores; numbers of each sample (see `MapMaker.finish`).
    facts
        What was seen.
    """
    here = settings._replace(first=settings.first + tf.cast(first, tf.int64))
    if isinstance(question.recipe, PointsRecipe):
        from xplique_sal._engine.point_loop import PointLoop  # not needed by others

        return PointLoop(question, layout, here, arrays).explain()
    if isinstance(question.recipe, PairsRecipe):
        from xplique_sal._engine.pairs import PairedPass  # not needed by others

        return PairedPass(question, layout, here, arrays).explain()
    forward, maker = ForwardPass(question, layout, here, arrays), MapMaker(question, here)
    if given is not None:
        given.append(forward.f)
    with forward.differentiated():
        if here.explained is None:
            scores = forward.scores
            maps, numbers = _finished(maker, forward, scores, forward.gradients())
        else:
            scores = tf.gather(forward.scores, here.explained, axis=1)
            maps, numbers = maker.for_each_output(
                lambda output: _finished(
                    maker, forward, forward.scores[:, output], forward.gradients(output)
                ),
                here.explained,
                [source.shape.rank for source in forward.sources],
            )
    return [*maps, tf.cast(scores, tf.float32), numbers], forward.facts


def _finished(
    maker: MapMaker,
    forward: ForwardPass,
    scores: tf.Tensor,
    gradients: Sequence[tf.Tensor | None],
) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Return maps and numbers by the gradient at each sample itself."""
    states = [None if gradient is None else [gradient] for gradient in gradients]
    columns = scores[:, tf.newaxis]
    return maker.finish(states, forward.sources, forward.inputs, columns, forward.largest())
