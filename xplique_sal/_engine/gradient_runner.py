"""Running a compiled gradient over the batches of samples, and judging what it gives."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow as tf

from xplique_sal._data.outputs import TargetCheck, number_of_outputs
from xplique_sal._data.samples import Batch, Samples, concatenate, padded
from xplique_sal._data.structures import Explained, pack
from xplique_sal._engine.complaints import (
    carried_state,
    chosen_outputs,
    folded_axes,
    not_finite,
    wrong_length,
)
from xplique_sal._engine.finish import NOT_FINITE, ZERO
from xplique_sal._engine.forward_pass import Facts
from xplique_sal._engine.gradient_program import ScoreGradient
from xplique_sal._models import devices
from xplique_sal._models.devices import Device
from xplique_sal._models.traced import TracedModel
from xplique_sal._tracing import programs
from xplique_sal._tracing.loops import is_small
from xplique_sal._tracing.programs import Program
from xplique_sal.errors import InvalidOperatorError

#: What a score in float16 is multiplied by first, as a loss is in training, and what the factor is
#: divided by where a gradient then overflows.
_HALF_SCALE = 2.0**16
_HALF_STEP = 2.0**8

#: How many points of samples are evaluated at once, if there is no bound and there are few samples.
_AT_ONCE = 64

#: How many numbers small samples are given to the graph at once, to be looped over there.
_CHUNK = 1 << 21


def rows_at_once(samples: Samples, batch_size: int | None) -> int | None:
    """Return how many samples are best handed over at once: whole batches."""
    if batch_size is None or not is_small(samples) or samples.fixed_batch:
        return batch_size
    numbers = sum(spec.shape.num_elements() for spec in samples.input_specs)
    return batch_size * max(1, _CHUNK // (batch_size * numbers))


class GradientRun:
    """A gradient, run batch by batch.

    Parameters
    ----------
    gradient
        What is compiled and run.
    check
        The check of the operator's targets, if it has one.
    inner
        Whether an inner layer is explained, or differentiated to.
    strategy
        Among whose devices each batch is shared; ``None`` is that of the model, if it has one.
    """

    def __init__(
        self,
        gradient: ScoreGradient,
        check: TargetCheck | None,
        inner: bool,
        strategy: tf.distribute.Strategy | None,
    ) -> None:
        self._gradient = gradient
        self._check = check
        devices.check(strategy)
        self._strategy = strategy
        self._inner = inner

    def of_score(self, samples: Samples, batch: Batch, most: int | None) -> Explained:
        """Return the maps and scores of a batch, giving the model `most` samples at once."""
        return self._explain(samples, batch, most, None)

    def of_outputs(
        self, samples: Samples, batch: Batch, most: int | None, outputs: np.ndarray | None
    ) -> Explained:
        """Return maps (N, K, ...) and values (N, K) of several outputs from one forward pass."""
        return self._explain(samples, batch, most, outputs if outputs is not None else "all")

    def _explain(self, samples: Samples, batch: Batch, most: int | None, outputs: Any) -> Explained:
        several = outputs is not None
        program = self._program(samples, batch, most, several)
        facts = program.facts
        if program.has_state and self._gradient.looks_around:
            raise carried_state()
        if outputs is None:
            self._check_targets(samples, batch, facts)
        extra = []
        if several:
            known = number_of_outputs(facts.output_shape, facts.channel_axis)
            extra = [chosen_outputs(outputs, known)]
        fixed = samples.fixed_batch
        size = fixed or most or max(batch.size, _AT_ONCE)
        if facts.is_scalar:
            if fixed not in (None, 1):
                raise InvalidOperatorError(
                    "a score for each sample, (N,), of a model with a fixed batch size",
                    "one scalar for the whole batch",
                    "Reduce over all axes but the first.",
                )
            size = 1
        # Only a program that loops over batches by itself may be given more than one.
        at_once = batch.size if is_small(samples) and not program.has_state and not fixed else size
        parts = self._shared(samples, batch, several, at_once, size, extra, program)
        zeros = [part.zero_sample for part in parts if part.zero_sample is not None]
        return Explained(
            concatenate([part.maps for part in parts]),
            concatenate([[part.scores] for part in parts])[0],
            min(zeros, default=None),
            facts.activation,
            facts.is_scalar,
            facts.rewiring,
            facts.bytes_per_sample,
            concatenate([[part.details] for part in parts])[0],
        )

    @functools.cached_property
    def _devices(self) -> list[Device]:
        # When the first batch is there, the model has been built, and its variables are somewhere.
        return devices.of(self._strategy, self._gradient.model)

    def _shared(
        self,
        samples: Samples,
        batch: Batch,
        several: bool,
        at_once: int,
        size: int,
        extra: Sequence[Any],
        program: Program,
    ) -> list[Explained]:
        """Return what `program` gives of a batch, in parts, each by one of the devices."""
        fixed = samples.fixed_batch
        # A state that several devices change at once would be that of none of them.
        chosen = self._devices if not program.has_state else self._devices[:1]
        if len(chosen) == 1:
            return [self._run(program, samples, part, extra, size) for part in batch.split(at_once)]
        if fixed is None:
            at_once = -(-min(at_once, batch.size) // len(chosen))
            size = -(-size // len(chosen))
        programs = [program]
        for device in chosen[1:]:
            programs.append(self._gradient.program(samples, fixed, several, [], device))

        def run(numbered: tuple[int, Batch]) -> Explained:
            number, part = numbered
            return self._run(programs[number % len(chosen)], samples, part, extra, size)

        with ThreadPoolExecutor(len(chosen)) as pool:
            return list(pool.map(run, enumerate(batch.split(at_once))))

    def _check_targets(self, samples: Samples, batch: Batch, f: Facts | TracedModel) -> None:
        if self._check is None:
            return
        check = self._check

        def on_host(arrays: list[Any], first: int) -> None:
            targets = None if samples.for_targets is None else pack(samples.for_targets, arrays)
            check(targets, first, f.output_shape, f.channel_axis)

        samples.check_targets(batch, on_host)

    def _program(self, samples: Samples, batch: Batch, most: int | None, several: bool) -> Program:
        """Return the compiled gradient for these samples."""
        traced: list[TracedModel] = []

        def make(size: int | None) -> Program:
            return self._gradient.program(samples, size, several, traced, self._devices[0])

        def on_failure() -> None:
            # Targets of a wrong shape make an operator fail while it is traced.
            if traced and not several and traced[-1].output_shape.rank is not None:
                self._check_targets(samples, batch, traced[-1])

        size = min(batch.size, most or batch.size)
        program, samples.fixed_batch = programs.of_batches(
            make, samples.fixed_batch, size, on_failure
        )
        return program

    def _run(
        self,
        program: Program,
        samples: Samples,
        batch: Batch,
        extra: Sequence[Any],
        at_once: int,
    ) -> Explained:
        size, fixed = batch.size, samples.fixed_batch
        tensors = [*batch.inputs, *([] if extra else batch.targets)]
        if fixed is not None and size < fixed:
            # The last sample stands in for those that are missing.
            tensors = [padded(array, fixed) for array in tensors]
        scale = _HALF_SCALE if program.facts.in_float16 else 1.0
        while True:
            settings = self._gradient.settings(samples, batch.start, scale, at_once)
            arguments = map(tf.convert_to_tensor, (*tensors, *extra, *settings))
            try:
                maps, scores, status, details = program(*arguments)
            except tf.errors.InvalidArgumentError as error:
                if self._inner:
                    raise folded_axes(error) from error
                raise
            codes = status.numpy()
            if scale == 1.0 or not (codes == NOT_FINITE).any():
                break
            scale = max(scale / _HALF_STEP, 1.0)
        given = tensors[0].shape[0]
        has_gradient = program.facts.has_gradient
        maps = [map_ for map_, known in zip(maps, has_gradient, strict=True) if known]
        for tensor in (scores, *maps):
            if tensor.shape.rank == 0 or tensor.shape[0] != given:
                raise wrong_length(scores, maps, given, self._inner)
        if size < given:
            maps, scores, codes = [map_[:size] for map_ in maps], scores[:size], codes[:size]
            details = details[:size]
        codes = codes.reshape(size, -1).max(axis=1)
        if (codes == NOT_FINITE).any():
            raise not_finite(
                batch.start + int((codes == NOT_FINITE).argmax()), program.facts.in_float16
            )
        zero = batch.start + int((codes == ZERO).argmax()) if (codes == ZERO).any() else None
        found = iter(maps)
        everything = [next(found) if known else None for known in has_gradient]
        return Explained(everything, scores, zero, details=details)
