"""An explainer as a graph by itself: the model's outputs and maps of any samples, for serving."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from xplique_sal._data.outputs import number_of_outputs
from xplique_sal._data.structures import Layout, Skeleton, Structure, leaves, pack, skeleton_of
from xplique_sal._engine.finish import MODIFIED_TO_NAN
from xplique_sal._engine.forward_pass import Facts, largest_of
from xplique_sal._engine.gradient_program import explained
from xplique_sal._engine.gradient_runner import AT_ONCE, HALF_SCALE, HALF_STEP
from xplique_sal._engine.question import Question, Settings
from xplique_sal._engine.recipe import PointsRecipe
from xplique_sal._engine.request import Request
from xplique_sal._models.traced import TracedModel
from xplique_sal.errors import ExportError

#: What the signatures are called, and their parts.
DEFAULT, BY_CLASS = "serving_default", "explain_class"
INPUTS, TARGETS, CLASS = "inputs", "targets", "class_index"
OUTPUTS, MAPS, SCORES = "outputs", "maps", "scores"


class Signature(NamedTuple):
    """One way to ask.

    Attributes
    ----------
    function
        What is run: a concrete function.
    names
        What each tensor is called that it takes.
    facts
        What was seen while it was traced.
    """

    function: Any
    names: list[str]
    facts: Facts


class Service:
    """What an explainer is exported as: its signatures, by name.

    Parameters
    ----------
    question
        What is asked of any sample.
    request
        Some samples: of their shapes and dtypes are those that are taken.
    packed
        Returns the maps of all sources, ``None`` where there is none, as the user wants them.
    rows
        The most rows that the model is given at once at points of samples.
    size
        How many samples are taken at once; ``None`` is any number.
    """

    def __init__(
        self,
        question: Question,
        request: Request,
        packed: Callable[[Sequence[tf.Tensor | None]], Any],
        rows: int | None,
        size: int | None = None,
    ) -> None:
        self._question, self._request, self._packed = question, request, packed
        self._size = size
        # Beside maps, the score of the sample itself.
        request.with_scores = True
        self._settings = Settings.of(question, request)._replace(rows=np.int32(rows or AT_ONCE))

    def signatures(self) -> dict[str, Signature]:
        """Return the signatures, traced.

        Raises
        ------
        ExportError
            If the explainer cannot be asked without Python.
        """
        layout = self._request.layout
        if not self._question.takes_outputs:
            return {DEFAULT: self._signature(layout, TARGETS, None)}
        by_largest = layout._replace(for_targets=None, target_specs=())
        found = {DEFAULT: self._signature(by_largest, TARGETS, None)}
        facts = found[DEFAULT].facts
        outputs = number_of_outputs(facts.output_shape, facts.channel_axis)
        by_class = layout._replace(for_targets=0, target_specs=[tf.TensorSpec([], tf.int32)])
        return found | {BY_CLASS: self._signature(by_class, CLASS, outputs)}

    def _signature(self, layout: Layout, targets: str, outputs: int | None) -> Signature:
        """Return one that takes targets of a layout: indices below `outputs`, if it is known."""
        names = [
            *_names(INPUTS, layout.for_user),
            *([] if layout.for_targets is None else _names(targets, layout.for_targets)),
        ]
        if len(set(names)) < len(names):
            raise ExportError(
                f"inputs by other names than {targets!r}",
                f"the names {names}",
                "Rename the input.",
            )
        trace = _Trace(self._question, layout, self._settings, self._packed, outputs)
        declared = self._request.needed_batch
        program, needed = self._question.view.compiled(
            trace.key, trace, layout.specs, needed=declared or self._size
        )
        if needed != self._size:
            raise ExportError(
                "a model that takes any number of samples",
                f"one that takes {needed} at once",
                "Make the model without a batch size of its own.",
            )
        if program.has_state:
            raise ExportError(
                "a model whose outputs depend on its inputs alone",
                "one that changes variables which its outputs depend on, as a recurrent layer that "
                "is stateful or a generator of random numbers does",
                "Two requests would share that state: make the model without it.",
            )
        if program.facts.is_scalar:
            raise ExportError(
                "an operator that returns one score for each sample, (N,)",
                "one that returns a scalar for its whole batch",
                "Reduce over all axes but the first.",
            )
        return Signature(program.function, names, program.facts)


class _Trace:
    """What is traced of one signature: tensors by name from inputs and targets.

    A sample of which `explain` would raise an error has a map of NaN: in a graph that answers
    others at the same time there is no other way to say so.
    """

    def __init__(
        self,
        question: Question,
        layout: Layout,
        settings: Settings,
        packed: Callable[[Sequence[tf.Tensor | None]], Any],
        outputs: int | None,
    ) -> None:
        self._question, self._layout, self._settings = question, layout, settings
        self._packed, self._outputs = packed, outputs
        values = tuple(np.asarray(value).tobytes() for value in settings.flat)
        shown = (layout.for_user, layout.for_targets, outputs)
        self.key = ("served", *shown, values, *question.key)

    def __call__(self, *arrays: tf.Tensor) -> tuple[dict[str, tf.Tensor], Facts]:
        """Return the tensors, and what was seen."""
        layout, view = self._layout, self._question.view
        count = len(layout.input_specs)
        inputs = view.cast_all(arrays[:count])
        arrays = (*inputs, *arrays[count:])
        is_right = _are_finite(inputs)
        if self._outputs is not None:
            index = arrays[count]
            is_right &= (index >= 0) & (index < self._outputs)
        f: TracedModel | None = None
        if isinstance(self._question.recipe, PointsRecipe):
            # The pass for the model's outputs also tells the largest of them.
            f, fx = self._given(inputs)
            largest = None
            if self._question.takes_outputs and layout.for_targets is None:
                largest = largest_of(fx, f.channel_axis)
            if largest is not None:
                arrays, layout = (*arrays, largest), layout._replace(for_targets=0)
        maps, scores, numbers, outputs, facts = self._answered(layout, arrays, f)
        found = numbers[:, 0]
        is_right &= tf.math.is_finite(found) & (found != MODIFIED_TO_NAN)
        known = [map_ if has else None for map_, has in zip(maps, facts.has_gradient, strict=True)]
        shown = {
            name: _where(is_right, map_)
            for name, map_ in _named(MAPS, self._packed(known))
            if map_ is not None
        }
        returned = dict(_named(OUTPUTS, outputs))
        return {**returned, **shown, SCORES: _where(is_right, scores)}, facts

    def _given(self, inputs: Sequence[tf.Tensor]) -> tuple[TracedModel, tf.Tensor]:
        """Return the model as it was given the samples, and f(x)."""
        f = TracedModel(self._question.view)
        layout = self._layout._replace(for_targets=None)
        return f, f(layout.packed(inputs)[0])

    def _answered(
        self, layout: Layout, arrays: Sequence[tf.Tensor], given: TracedModel | None
    ) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor, Any, Facts]:
        """Return maps, scores, numbers, the model's outputs, and what was seen."""
        settings = self._settings.read([tf.constant(value) for value in self._settings.flat])
        returned: Any = None

        def at(scale: Any) -> tuple[list[tf.Tensor], Facts]:
            nonlocal returned
            here = settings._replace(scale=tf.cast(scale, tf.float32))
            # Tensors of this graph, which may be the body of a loop.
            rows = [tf.identity(array) for array in arrays]
            seen: list[TracedModel] = []
            results, facts = explained(self._question, layout, here, seen, 0, *rows)
            f = seen[0] if seen else None
            if f is None or any(one is not row for one, row in zip(f.given, rows, strict=False)):
                # The samples were not what the model was given last.
                f = given or self._given(rows[: len(layout.input_specs)])[0]
            returned = skeleton_of(f.whole_output)
            return [*results, *leaves(f.whole_output)], facts

        if self._question.view.computes_in_float16:
            results, facts = at(HALF_SCALE)
            results = _without_overflow(lambda scale: at(scale)[0], results, facts)
        else:
            results, facts = at(1.0)
        end = len(facts.has_gradient)
        maps, (scores, numbers), outputs = results[:end], results[end : end + 2], results[end + 2 :]
        return maps, scores, numbers, pack(returned, outputs), facts


def _without_overflow(
    at: Callable[[tf.Tensor], list[tf.Tensor]], results: list[tf.Tensor], facts: Facts
) -> list[tf.Tensor]:
    """Return the results at the largest scale of the score at which no gradient overflows.

    `results` are those at the first scale; `at` computes those at another.
    """
    place = len(facts.has_gradient) + 1

    def overflows(scale: tf.Tensor, *results: tf.Tensor) -> tf.Tensor:
        return (scale > 1) & ~tf.reduce_all(tf.math.is_finite(results[place][:, 0]))

    def again(scale: tf.Tensor, *results: tf.Tensor) -> tuple[tf.Tensor, ...]:
        scale = tf.maximum(scale / HALF_STEP, 1.0)
        anew = zip(at(scale), results, strict=True)
        return scale, *(tf.ensure_shape(new, old.shape) for new, old in anew)

    start = (tf.constant(HALF_SCALE, tf.float32), *results)
    shapes = tuple(tensor.shape for tensor in start)
    _, *found = tf.while_loop(overflows, again, start, shapes, parallel_iterations=1)
    return found


def _are_finite(inputs: Sequence[tf.Tensor]) -> tf.Tensor:
    """Return whether all numbers of each sample are finite, (N,)."""
    known = tf.ones(tf.shape(inputs[0])[:1], tf.bool)
    for tensor in inputs:
        if tensor.dtype.is_floating:
            known &= tf.reduce_all(tf.math.is_finite(tensor), list(range(1, tensor.shape.rank)))
    return known


def _where(is_right: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Return the values (N, ...) of samples that could be explained, and NaN of others."""
    rows = tf.reshape(is_right, [-1] + [1] * (values.shape.rank - 1))
    return tf.where(rows, values, np.nan)


def _named(prefix: str, structure: Structure) -> list[tuple[str, Any]]:
    """Return each leaf of a structure with a name: the prefix, and where the leaf is."""
    if isinstance(structure, Mapping):
        parts = [(str(key), part) for key, part in structure.items()]
    elif isinstance(structure, (list, tuple)):
        fields = getattr(structure, "_fields", range(len(structure)))
        parts = [(str(key), part) for key, part in zip(fields, structure, strict=True)]
    else:
        return [(prefix, structure)]
    return [pair for key, part in parts for pair in _named(f"{prefix}_{key}", part)]


def _names(prefix: str, skeleton: Skeleton) -> list[str]:
    """Return a name for each input or target, by position; those of a dict are its keys."""
    named = _named(prefix, skeleton)
    if isinstance(skeleton, Mapping):
        named = [pair for key, part in skeleton.items() for pair in _named(str(key), part)]
    return [name for name, _ in sorted(named, key=lambda pair: pair[1])]
