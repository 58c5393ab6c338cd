"""What is made of the outputs of inner layers, by the part of a model that leads to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from xplique_sal._data.samples import concatenate
from xplique_sal._engine import in_batches
from xplique_sal._engine.finish import MapMaker
from xplique_sal._engine.forward_pass import sources_of
from xplique_sal._engine.question import Question, Settings
from xplique_sal._engine.recipe import Source
from xplique_sal._engine.request import Request
from xplique_sal._tracing import substitutes


def made_of_layers(
    question: Question,
    request: Request,
    make: Callable[[tf.Tensor, Source], tuple[tf.Tensor, Any]],
    key: tuple[Any, ...],
    most: int | None,
) -> tuple[list[tf.Tensor], list[Any]]:
    """Return what `make` returns of each layer that a question differentiates to.

    Parameters
    ----------
    question
        Its view names the layers.
    request
        All samples are run.
    make
        Called while it is traced, with a layer's output and which it is; returns a tensor with
        a row for each sample, and what is known of it.
    key
        What tells `make` from others.
    most
        How many samples the model is given at once.
    """
    view, layout = question.view, request.layout
    settings = Settings.of(question, request)

    def build(*tensors: tf.Tensor) -> tuple[list[tf.Tensor], list[Any]]:
        inputs = view.cast_all(tensors)
        maker = MapMaker(question, settings)
        sources = sources_of(view, layout, inputs)
        made = [make(one, maker.source(place, inputs)) for place, one in enumerate(sources)]
        return [tensor for tensor, _ in made], [facts for _, facts in made]

    key = ("inner outputs", layout.for_user, question.channel_axis, *key)
    parts: list[list[tf.Tensor | None]] = []
    for batch in request.samples.batches(request.needed_batch or most):
        program, request.needed_batch = view.compiled(
            key,
            build,
            layout.input_specs,
            needed=request.needed_batch,
            likely=min(batch.size, most or batch.size),
        )
        size = request.needed_batch or most or batch.size
        for rows in in_batches.split(batch.inputs, size, request.needed_batch):
            with substitutes.of_a_part():
                found = in_batches.run(program, rows, [], True)
            parts.append([rows.own(part) for part in found])
    return [part for part in concatenate(parts) if part is not None], program.facts
