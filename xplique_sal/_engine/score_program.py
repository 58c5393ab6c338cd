"""One forward pass: what is asked of f, on a compiled model or on a function that is called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from xplique_sal._data.outputs import per_output
from xplique_sal._data.samples import Samples
from xplique_sal._data.structures import Operator, Skeleton, pack
from xplique_sal._engine.complaints import checked_scores
from xplique_sal._models.black_box import PlainFunction
from xplique_sal._models.invoke import call_with_autograph
from xplique_sal._models.traced import TracedModel
from xplique_sal._models.view import ModelView
from xplique_sal._tracing import loops, programs
from xplique_sal._tracing.held import HeldCallable
from xplique_sal._tracing.programs import Program


class Question(NamedTuple):
    """What is asked of f: the score of an operator, or (without one) each output."""

    operator: Operator | None
    target_specs: Sequence[tf.TensorSpec]
    for_targets: Skeleton | None


class ScoreFacts(NamedTuple):
    """What was seen while scores were traced."""

    output_shape: tf.TensorShape
    channel_axis: int
    is_scalar: bool


class CalledFunction:
    """f as an operator calls it, with a note of what it returned."""

    def __init__(self, function: PlainFunction) -> None:
        self._function = function
        self.channel_axis = function.channel_axis
        self.output_shape = tf.TensorShape(None)

    def __call__(self, inputs: Any) -> tf.Tensor:
        """Return f(x)."""
        output = self._function(inputs)
        self.output_shape = output.shape
        return output


def scores_of(
    f: Any, samples: Samples, question: Question, tensors: Sequence[tf.Tensor]
) -> tuple[tf.Tensor, bool]:
    """Return the scores of rows in float64, and whether g gave one scalar for all of them."""
    count = len(samples.input_specs)
    x = pack(samples.for_user, tensors[:count])
    if question.operator is None:
        return tf.cast(per_output(f(x), f.channel_axis), tf.float64), False
    y = None
    if question.for_targets is not None:
        y = pack(question.for_targets, tensors[count:])
    if tf.executing_eagerly():
        scores = question.operator(f, x, y)
    else:
        scores = call_with_autograph(question.operator, f, x, y)
    dtype = getattr(scores, "dtype", None)
    if dtype is not None and (tf.as_dtype(dtype).is_integer or tf.as_dtype(dtype).is_bool):
        scores = tf.cast(scores, tf.float64)  # without a gradient, and none is needed
    scores, is_scalar = checked_scores(scores, tensors[0].shape[0])
    return tf.cast(scores, tf.float64), is_scalar


def compiled(
    view: ModelView,
    samples: Samples,
    question: Question,
    rows: Sequence[Any],
    fixed: int | None,
    traced: list[TracedModel],
) -> Program:
    """Return the compiled scores of rows, which takes their tensors and the size of a batch."""
    count = len(samples.input_specs)
    specs = (*samples.input_specs, *question.target_specs)
    signature = [
        tf.TensorSpec([fixed, *spec.shape], row.dtype)
        for spec, row in zip(specs, rows, strict=True)
    ]
    signature.append(tf.TensorSpec([], tf.int32))
    is_looped = fixed is None and loops.is_small(samples)
    request = (
        "forward scores",
        *view.key,
        None if question.operator is None else HeldCallable(question.operator),
        samples.for_user,
        question.for_targets,
        is_looped,
    )

    def build(*tensors: tf.Tensor) -> tuple[tf.Tensor, ScoreFacts]:
        facts: list[ScoreFacts] = []

        def score(first: Any, *part: tf.Tensor) -> list[tf.Tensor]:
            traced.append(f := TracedModel(view))
            cast = [view.cast(position, part[position]) for position in range(count)]
            tensors = [*cast, *part[count:]]
            scores, is_scalar = scores_of(f, samples, question, tensors)
            facts.append(ScoreFacts(f.output_shape, f.channel_axis, is_scalar))
            return [scores]

        *arrays, size = tensors
        if is_looped:
            found = loops.in_batches(score, arrays, size, [tf.float64])
        else:
            found = score(0, *arrays)
        return found[0], facts[-1]

    return programs.program(view.model, request, build, signature)
