"""Scores by forward passes alone: of a compiled model, or of a function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from xplique_sal._data.outputs import per_output
from xplique_sal._data.structures import Layout, Operator
from xplique_sal._engine.complaints import checked_scores
from xplique_sal._engine.forward_pass import check_labels
from xplique_sal._models.black_box import PlainFunction
from xplique_sal._models.invoke import call_with_autograph
from xplique_sal._models.traced import TracedModel
from xplique_sal._models.view import ModelView
from xplique_sal._tracing import loops
from xplique_sal._tracing.held import HeldCallable
from xplique_sal._tracing.programs import Program, TraceFailed


class ScoreQuery(NamedTuple):
    """What forward passes compute: the score of an operator, or (without one) each output.

    Attributes
    ----------
    operator
        g; ``None`` asks for each output.
    layout
        How inputs and targets are packed.
    """

    operator: Operator | None
    layout: Layout


class ScoreFacts(NamedTuple):
    """What was seen while scores were traced."""

    output_shape: tf.TensorShape
    channel_axis: int
    is_scalar: bool
    activation: str | None = None


class RecordedFunction:
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
    f: TracedModel | RecordedFunction, query: ScoreQuery, arrays: Sequence[tf.Tensor]
) -> tuple[tf.Tensor, bool]:
    """Return the scores of rows in float64, and whether g gave one scalar for all of them.

    Raises
    ------
    TraceFailed
        From the error of an operator.
    """
    x, y = query.layout.packed(arrays)
    if query.operator is None:
        return tf.cast(per_output(f(x), f.channel_axis), tf.float64), False
    try:
        if tf.executing_eagerly():
            scores = query.operator(f, x, y)
        else:
            scores = call_with_autograph(query.operator, f, x, y)
    except Exception as error:
        if isinstance(f, TracedModel):
            check_labels(f, y)
        raise TraceFailed(f.output_shape, f.channel_axis) from error
    if isinstance(f, TracedModel):
        check_labels(f, y)
    dtype = getattr(scores, "dtype", None)
    if dtype is not None and (tf.as_dtype(dtype).is_integer or tf.as_dtype(dtype).is_bool):
        scores = tf.cast(scores, tf.float64)  # without a gradient, and none is needed
    scores, is_scalar = checked_scores(scores, arrays[0].shape[0])
    return tf.cast(scores, tf.float64), is_scalar


def compiled(
    view: ModelView,
    query: ScoreQuery,
    arrays: Sequence[Any],
    needed: int | None,
    likely: int,
) -> tuple[Program, int | None]:
    """Return the compiled scores of rows, and the only batch size that they take, if any.

    The program takes inputs and targets of the dtypes of `arrays`, and how many rows the model is
    given at once.
    """
    layout = query.layout

    def score(first: Any, *arrays: tf.Tensor) -> tuple[list[tf.Tensor], ScoreFacts]:
        f = TracedModel(view)
        scores, is_scalar = scores_of(f, query, arrays)
        return [scores], ScoreFacts(f.output_shape, f.channel_axis, is_scalar, f.activation)

    def build(*tensors: tf.Tensor) -> tuple[tf.Tensor, ScoreFacts]:
        *arrays, size = tensors
        if arrays[0].shape[0] is None and loops.is_small(layout):
            (scores,), facts = loops.in_batches(score, arrays, size, [tf.float64])
        else:
            (scores,), facts = score(0, *arrays)
        return scores, facts

    held = None if query.operator is None else HeldCallable(query.operator)
    return view.compiled(
        ("scores", held, layout.for_user, layout.for_targets),
        build,
        [
            tf.TensorSpec(spec.shape, array.dtype)
            for spec, array in zip(layout.specs, arrays, strict=True)
        ],
        [tf.TensorSpec([], tf.int32)],
        needed=needed,
        likely=likely,
    )
