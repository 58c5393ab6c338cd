"""From a batch to its maps: running a compiled gradient, and judging what it gives."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from xplique_sal._data.outputs import number_of_outputs
from xplique_sal._data.samples import Batch, concatenate
from xplique_sal._engine import in_batches, passes
from xplique_sal._engine.complaints import (
    carried_state,
    chosen_outputs,
    modified_to_nan,
    not_finite,
    other_dtype,
    wrong_length,
)
from xplique_sal._engine.finish import MODIFIED_TO_NAN
from xplique_sal._engine.forward_pass import Facts
from xplique_sal._engine.gradient_program import GradientProgram
from xplique_sal._engine.in_batches import Rows
from xplique_sal._engine.question import Question, Settings
from xplique_sal._engine.recipe import PointsRecipe
from xplique_sal._engine.request import Explained, Request
from xplique_sal._models import devices
from xplique_sal._models.devices import Device
from xplique_sal._tracing.programs import Program, TraceFailed

#: What a score in float16 is multiplied by first, as a loss is in training, and what the factor is
#: divided by where a gradient then overflows.
HALF_SCALE = 2.0**16
HALF_STEP = 2.0**8

#: How many points of samples are evaluated at once, if there is no bound and there are few samples.
AT_ONCE = 64


class Compiled(NamedTuple):
    """What a call runs: a program for each device, and the settings that hold for all batches."""

    programs: list[Program]
    settings: Settings


class GradientRunner:
    """Answers a question about samples, batch by batch.

    Parameters
    ----------
    question
        What is asked.
    strategy
        Among whose devices each batch is shared; ``None`` is that of the model, if it has one.

    Attributes
    ----------
    question
        What is asked.
    """

    def __init__(self, question: Question, strategy: tf.distribute.Strategy | None) -> None:
        self.question = question
        self._strategy = strategy
        view = question.view
        self._is_inner = view.wrt_layer is not None or view.output_layer is not None

    @functools.cached_property
    def _devices(self) -> list[Device]:
        # When the first batch is there, the model has been built, and its variables are somewhere.
        return devices.of(self._strategy, self.question.view.model)

    @functools.cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(len(self._devices))

    def compiled(self, request: Request, batch: Batch, most: int | None) -> Compiled:
        """Return what a call runs: looked up, or traced, at its first batch."""
        known: Compiled | None = request.programs.get("gradient")
        if known is not None:
            return known
        question, programs = self.question, []
        settings = Settings.of(question, request)
        for device in self._devices:
            traced = GradientProgram(question, settings, request, device)
            try:
                program, request.needed_batch = question.view.compiled(
                    traced.key,
                    traced.trace,
                    traced.specs,
                    settings.specs,
                    needed=request.needed_batch,
                    likely=min(batch.size, most or batch.size),
                )
            except TraceFailed as failure:
                # Targets of a wrong shape make an operator fail.
                if failure.output_shape.rank is not None:
                    shape, axis = failure.output_shape, failure.channel_axis
                    request.check_targets(batch, question.score.check_targets, shape, axis)
                other_dtype(failure.reason, request.layout.target_specs)
                raise failure.reason from failure.reason.__cause__
            programs.append(program)
            if program.has_state:
                break  # a state that several devices change at once would be that of none of them
        facts = programs[0].facts
        if programs[0].has_state and isinstance(question.recipe, PointsRecipe):
            raise carried_state()
        if request.outputs is not None:
            known_outputs = number_of_outputs(facts.output_shape, facts.channel_axis)
            settings = settings._replace(outputs=[chosen_outputs(request.outputs, known_outputs)])
        request.programs["gradient"] = Compiled(programs, settings)
        return request.programs["gradient"]

    def explain(
        self, request: Request, compiled: Compiled, batch: Batch, most: int | None
    ) -> Explained:
        """Return the maps of a batch, giving the model at most `most` rows at once.

        Of several outputs, maps (N, K, ...) and values (N, K) come from one forward pass.
        """
        programs, settings = compiled
        facts, share = programs[0].facts, len(programs)
        arrays = batch.inputs
        if request.outputs is None:
            check = self.question.score.check_targets
            request.check_targets(batch, check, facts.output_shape, facts.channel_axis)
            arrays = [*batch.inputs, *batch.targets]
        size = in_batches.rows_of_model(request, programs[0], most or max(batch.size, AT_ONCE))
        at_once = in_batches.rows_of_program(request, programs[0], size, batch.size)
        if share > 1 and not request.needed_batch:
            size, at_once = -(-size // share), -(-min(at_once, batch.size) // share)
        settings = settings._replace(rows=np.int32(size))
        passes.add(_rows_of_model(settings, facts, batch.size, min(size, at_once)))

        def run(numbered: tuple[int, Rows]) -> Explained:
            number, rows = numbered
            return self._run(programs[number % share], settings, rows, batch.start + rows.first)

        pieces = enumerate(in_batches.split(arrays, at_once, request.needed_batch))
        if share == 1:
            parts = [run(piece) for piece in pieces]
        else:  # each thread runs in the context of this one: what stands in for variables, say
            calls = [(copy_context().run, run, piece) for piece in pieces]
            parts = [*self._pool.map(lambda call: call[0](*call[1:]), calls)]
        zeros = [part.zero_sample for part in parts if part.zero_sample is not None]
        return Explained(
            maps=concatenate([part.maps for part in parts]),
            scores=np.concatenate([part.scores for part in parts]),
            details=np.concatenate([part.details for part in parts]),
            largest=np.concatenate([part.largest for part in parts])
            if settings.with_largest
            else None,
            zero_sample=min(zeros, default=None),
            activation=facts.activation,
            one_by_one=facts.is_scalar,
            rewiring=facts.rewiring,
            bytes_per_sample=facts.bytes_per_sample,
        )

    def _run(self, program: Program, settings: Settings, rows: Rows, start: int) -> Explained:
        """Return the explanations of rows, of which the first is sample `start`."""
        facts = program.facts
        scale = HALF_SCALE if facts.in_float16 else 1.0
        while True:
            given = settings._replace(first=np.int64(start), scale=np.float32(scale))
            flat = [*map(tf.convert_to_tensor, given.flat)]
            results = in_batches.run(program, rows, flat, self._is_inner)
            *maps, scores, numbers = results
            numbers = numbers.numpy()
            found = numbers[..., 0]
            if scale == 1.0 or np.isfinite(found).all():
                break
            scale = max(scale / HALF_STEP, 1.0)
        known = [map_ for map_, has in zip(maps, facts.has_gradient, strict=True) if has]
        for tensor in (scores, *known):
            if tensor.shape.rank == 0 or tensor.shape[0] != rows.given:
                raise wrong_length(scores, known, rows.given, self._is_inner)
        found = rows.own(found).reshape(rows.size, -1)
        if not np.isfinite(found).all():
            raise not_finite(start + _first(~np.isfinite(found)), facts.in_float16)
        if (found == MODIFIED_TO_NAN).any():
            raise modified_to_nan(start + _first(found == MODIFIED_TO_NAN))
        is_zero = found == 0
        return Explained(
            maps=[
                rows.own(map_) if has else None
                for map_, has in zip(maps, facts.has_gradient, strict=True)
            ],
            scores=rows.own(scores).numpy(),
            details=rows.own(numbers)[..., 1 : 1 + self.question.recipe.nb_details],
            largest=rows.own(numbers)[..., -1] if settings.with_largest else None,
            zero_sample=start + _first(is_zero) if is_zero.any() else None,
        )


def _rows_of_model(settings: Settings, facts: Facts, count: int, at_once: int) -> int:
    """Return how many rows the model is given for `count` samples, `at_once` at a time."""
    rows = count * int(settings.points - settings.begin)
    if facts.baselines is None:
        return rows
    beside, is_shared = facts.baselines
    return rows + beside * (-(-count // at_once) if is_shared else count)


def _first(found: np.ndarray) -> int:
    """Return the first row that has something in it."""
    return int(found.any(axis=1).argmax())
