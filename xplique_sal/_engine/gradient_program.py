"""The gradient of a score, from operator to reduced map in one compiled function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xplique_sal._data.samples import Samples
from xplique_sal._data.structures import GradientModifier, Operator
from xplique_sal._engine.finish import MapMaking
from xplique_sal._engine.forward_pass import Call, Facts, ScorePass
from xplique_sal._engine.point_loop import PointLoop
from xplique_sal._engine.recipe import Attribution, Sampling
from xplique_sal._models.devices import Device
from xplique_sal._models.traced import TracedModel
from xplique_sal._models.view import ModelView
from xplique_sal._tracing import loops, programs
from xplique_sal._tracing.held import HeldCallable
from xplique_sal._tracing.programs import Program


class ScoreGradient:
    """What a method makes of ∂g/∂x of an operator g on a model, modified and reduced.

    Parameters
    ----------
    view
        f.
    operator
        g.
    modifier
        An elementwise function on what the method makes of the gradient.
    reducer
        The name of a channel reduction.
    attribution
        At which points gradients are taken, and what is made of them.
    takes_outputs
        Whether a target of the operator is an output, the largest where there is no target.
    """

    def __init__(
        self,
        view: ModelView,
        operator: Operator,
        modifier: GradientModifier | None,
        reducer: str | None,
        attribution: Attribution,
        takes_outputs: bool,
    ) -> None:
        self._view = view
        self.model = view.model
        self._operator = operator
        self._modifier = modifier
        self._reducer = reducer
        self._attribution = attribution
        self._takes_outputs = takes_outputs
        self._making = MapMaking(view, attribution, modifier, reducer)

    @property
    def looks_around(self) -> bool:
        """Whether gradients are taken at several points of each sample."""
        return isinstance(self._attribution, Sampling)

    def program(
        self,
        samples: Samples,
        fixed: int | None,
        several: bool,
        traced: list[TracedModel],
        device: Device,
    ) -> Program:
        """Return the compiled gradient, which is traced for these samples unless it is known.

        It takes inputs; targets, or the indices of outputs; and what `settings` returns. It
        returns maps, scores, what was found of each sample's gradient, and the method's details.

        Parameters
        ----------
        samples
            Their shapes, and how they are packed.
        fixed
            A batch size that the model needs to know; ``None`` leaves it open, so that one trace
            serves all.
        several
            Whether to explain several outputs rather than one score.
        traced
            Gets f as it was while it was traced, also if that fails.
        device
            Where it runs, and reads the model's variables.
        """
        targets = [] if several else samples.target_specs
        signature = [
            tf.TensorSpec([fixed, *spec.shape], spec.dtype)
            for spec in (*samples.input_specs, *targets)
        ]
        per_sample = len(signature)
        if several:
            signature.append(tf.TensorSpec([None], tf.int32))
        settings = self.settings(samples, 0, 1.0, 1)
        signature += [tf.TensorSpec(value.shape, value.dtype) for value in settings]
        request = (
            "outputs" if several else "score",
            *self._view.key,
            HeldCallable(self._operator),
            None if self._modifier is None else HeldCallable(self._modifier),
            self._reducer,
            samples.for_user,
            samples.for_targets,
            device.name,
            self._takes_outputs,
            *self._attribution.key,
        )
        is_looped = fixed is None and loops.is_small(samples)

        def build(*tensors: tf.Tensor) -> Any:
            facts: list[Facts] = []
            outputs = tensors[per_sample] if several else None
            rest = tensors[per_sample + several :]
            call = Call(outputs, rest[:-6], *rest[-6:])

            def explain(first: Any, *arrays: tf.Tensor) -> Any:
                here = call._replace(first=call.first + tf.cast(first, tf.int64))
                parts, seen = self._trace(samples, here, arrays, fixed, traced)
                facts.append(seen)
                return parts

            count = self._maps(samples)
            with device.used():
                arrays = tensors[:per_sample]
                if is_looped:
                    types = [tf.float32] * (count + 2 + (self._attribution.nb_details > 0))
                    parts = loops.in_batches(explain, arrays, call.size, types)
                else:
                    parts = explain(0, *arrays)
                maps, (scores, magnitude, *details) = parts[:count], parts[count:]
                known = [m for m, has in zip(maps, facts[-1].has_gradient, strict=True) if has]
                status = self._making.status(known, magnitude)
                details = details or [tf.zeros([tf.shape(scores)[0], 0])]
            return (maps, scores, status, *details), facts[-1]

        return programs.program(self._view.model, request, build, signature)

    def settings(self, samples: Samples, first: int, scale: float, size: int) -> list[np.ndarray]:
        """Return what a program takes beside samples and outputs.

        Parameters
        ----------
        samples
            All samples.
        first
            The index of the first of those that the program is given.
        scale
            What the score is multiplied by.
        size
            How many samples the model may be given at once.
        """
        sampling = self._attribution if isinstance(self._attribution, Sampling) else None
        skeleton = self._view.arrangement_of_maps(samples.for_user)
        scored = (-1,) if sampling is None else sampling.scored
        # The sample itself is one point more, unless it is among the others.
        begin = -1 if samples.wants_scores and scored[0] < 0 else 0
        own = self._attribution.arguments(skeleton, self._maps(samples))
        values: list[tuple[Any, Any]] = [
            (first, np.int64),
            (begin, np.int32),
            (1 if sampling is None else sampling.points, np.int32),
            (scored, np.int32),
            (scale, np.float32),
            (size, np.int32),
        ]
        return [*own, *(np.asarray(value, dtype) for value, dtype in values)]

    def _trace(
        self,
        samples: Samples,
        call: Call,
        arrays: Sequence[tf.Tensor],
        fixed: int | None,
        traced: list[TracedModel],
    ) -> tuple[list[tf.Tensor], Facts]:
        """Return maps, scores, magnitude and details, if any, of some samples, as a flat list."""
        if isinstance(self._attribution, Sampling):
            explained = PointLoop(
                self._view,
                self._operator,
                self._attribution,
                self._making,
                samples,
                call,
                arrays,
                self._maps(samples),
                fixed,
                traced,
                self._takes_outputs,
            ).explain()
        else:
            explained = self._at_samples(samples, call, arrays, traced)
        (maps, magnitude, details), scores, facts = explained
        parts = [*maps, tf.cast(scores, tf.float32), magnitude]
        return [*parts, details] if self._attribution.nb_details else parts, facts

    def _at_samples(
        self,
        samples: Samples,
        call: Call,
        arrays: Sequence[tf.Tensor],
        traced: list[TracedModel],
    ) -> Any:
        """Explain by the gradient at each sample itself."""
        forward = ScorePass(
            self._view, self._operator, samples, call, arrays, samples.for_targets, traced
        )
        sources, scores = forward.sources, forward.scores

        def explain(output: tf.Tensor | None) -> Any:
            gradients = forward.gradients(output)
            kept = [None if gradient is None else [gradient] for gradient in gradients]
            value = scores if output is None else scores[:, output]
            return self._making.finish(kept, sources, forward.inputs, value[:, tf.newaxis], call)

        with forward.differentiated():
            ranks = [source.shape.rank for source in sources]
            result = self._making.of_each(explain, call.outputs, ranks)
        if call.outputs is not None:
            scores = tf.gather(scores, call.outputs, axis=1)
        return result, scores, forward.facts

    def _maps(self, samples: Samples) -> int:
        _, wrt = self._view.chosen_layers()
        return len(wrt) or len(samples.input_specs)
