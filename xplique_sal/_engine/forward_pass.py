"""One forward pass of a score while it is traced, and the gradients of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import tensorflow as tf

from xplique_sal._data.outputs import check_labels_of_layer, per_output
from xplique_sal._data.structures import Layout
from xplique_sal._engine.complaints import checked_scores, no_gradient
from xplique_sal._engine.question import Question, Settings
from xplique_sal._models.invoke import with_autograph
from xplique_sal._models.rules.rewiring import Rewiring
from xplique_sal._models.traced import TracedModel
from xplique_sal._models.view import ModelView
from xplique_sal._tracing.graphs import bytes_per_sample
from xplique_sal._tracing.programs import TraceFailed

if TYPE_CHECKING:
    from xplique_sal._engine.paired_rows import PairedRows


class BaselineRows(NamedTuple):
    """How many baselines go through a model with samples, for each or once for all of them."""

    number: int
    is_shared: bool


class Facts(NamedTuple):
    """What was seen while a gradient was traced.

    Attributes
    ----------
    activation
        The type of the activation that makes f(x), where it is explained.
    output_shape, channel_axis
        The static shape of f(x), and where its channels are.
    is_scalar
        Whether the operator returned one score for its whole batch.
    has_gradient
        For each input (or watched layer), whether there is a gradient.
    in_float16
        Whether small gradients may underflow.
    rewiring
        What the backprop modifier did, if there is one.
    bytes_per_sample
        The size of all tensors of the graph for one sample.
    baselines
        How many baselines the model is given beside each sample; ``None`` is none.
    """

    activation: str | None
    output_shape: tf.TensorShape
    channel_axis: int
    is_scalar: bool
    has_gradient: tuple[bool, ...]
    in_float16: bool
    rewiring: Rewiring | None
    bytes_per_sample: int
    baselines: BaselineRows | None = None


class ForwardPass:
    """The score of some rows, as it was traced on construction.

    Parameters
    ----------
    question
        f and g.
    layout
        How inputs and targets are packed.
    settings
        Those of the program.
    arrays
        Inputs and targets.
    at
        Called with the position and the value of each source; what it returns takes its place.
    shown
        Which rows are samples and which are their baselines, if there are any.

    Attributes
    ----------
    f
        The model as it was traced.
    inputs
        What it was given.
    sources
        What is differentiated to: the inputs, or the outputs of the layers of `wrt_layer`.
    scores
        (N,), or (N, L) where outputs are explained.
    has_gradient
        Whether there is a gradient to each source; known when gradients were taken.

    Raises
    ------
    TraceFailed
        From the error of an operator.
    """

    has_gradient: tuple[bool, ...] = ()

    def __init__(
        self,
        question: Question,
        layout: Layout,
        settings: Settings,
        arrays: Sequence[tf.Tensor],
        at: Callable[[int, tf.Tensor], tf.Tensor] | None = None,
        shown: PairedRows | None = None,
    ) -> None:
        self._view, self._settings = question.view, settings
        self._takes_outputs = question.takes_outputs
        count = len(layout.input_specs)
        inputs = self._view.cast_all(arrays[:count])
        several = settings.explained is not None
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            self.f = f = TracedModel(self._view, tape, at)
            if self._view.wrt_layer is None:
                if at is not None:
                    inputs = [at(position, tensor) for position, tensor in enumerate(inputs)]
                tape.watch([tensor for tensor in inputs if tensor.dtype.is_floating])
            x, y = layout.packed([*inputs, *arrays[count:]])
            if several:
                scores, is_scalar = per_output(f(x), f.channel_axis), False
                scores = scores if shown is None else shown.of_outputs(scores)
            else:
                try:
                    call, operator = with_autograph(), question.score.function
                    with f.scoring():
                        if shown is None:
                            scores = call(operator, f, x, y)
                        else:
                            scores = shown.of_operator(call, operator, f, x, y)
                    scores, is_scalar = checked_scores(scores, inputs[0].shape[0])
                    if shown is not None and shown.is_scalar:
                        is_scalar = True
                        if f.rewirer is not None:  # one number has no rows to be compared
                            f.rewirer.reaches_scores = False
                except Exception as error:
                    check_labels(f, y)
                    raise TraceFailed(f.output_shape, f.channel_axis) from error
                check_labels(f, y)
        self._tape, self._is_scalar = tape, is_scalar
        self.inputs, self.sources, self.scores = inputs, f.wrt or inputs, scores

    def differentiated(self) -> contextlib.AbstractContextManager[None]:
        """Return the context for `gradients`: under the backprop modifier, if there is one."""
        return self.f.backward(self.sources, self.scores)

    def gradients(
        self, output: tf.Tensor | None = None, rows: tf.Tensor | None = None
    ) -> list[tf.Tensor | None]:
        """Return the gradient of the score, or of one of several outputs, to each source.

        It is ``None`` for a source to which there is none; where there is none at all, that is an
        error. `rows` tells which of the scores count.
        """
        scores = self.scores
        weights = tf.ones_like(scores)
        if output is not None:
            chosen = tf.one_hot(output, tf.shape(scores)[1], dtype=scores.dtype)
            weights = tf.broadcast_to(chosen, tf.shape(scores))
        if rows is not None:
            counted = tf.reshape(rows, [-1, *[1] * (scores.shape.rank - 1)])
            weights = tf.where(counted, weights, tf.zeros_like(weights))
        gradients = self._tape.gradient(
            scores,
            self.sources,
            output_gradients=weights * tf.cast(self._settings.scale, scores.dtype),
        )
        self.has_gradient = tuple(gradient is not None for gradient in gradients)
        if not any(self.has_gradient):
            names = self._view.names_of_sources(len(gradients))
            raise no_gradient(self.sources, names, self._view.embeddings)
        return [
            None if gradient is None else self._in_full(gradient, source)
            for gradient, source in zip(gradients, self.sources, strict=True)
        ]

    def largest(self) -> tf.Tensor | None:
        """Return the index of the largest output of each row, (N,).

        It is ``None`` if it is not asked for, if f(x) has positions, or if targets are no outputs:
        an operator of one's own may ask f about other inputs than the samples.
        """
        output = self.f.explained
        if not self._settings.with_largest or not self._takes_outputs or output is None:
            return None
        return largest_of(output, self.f.channel_axis)

    def _in_full(self, gradient: Any, source: tf.Tensor) -> tf.Tensor:
        gradient = tf.convert_to_tensor(gradient)  # the gradient of a gather is sparse
        # That of a Python function (`tf.py_function`) does not tell its shape.
        gradient = tf.ensure_shape(gradient, source.shape)
        if gradient.dtype.size < 4:
            gradient = tf.cast(gradient, tf.float32)
        if self._view.computes_in_float16:
            gradient = gradient / tf.cast(self._settings.scale, gradient.dtype)
        return gradient

    @property
    def facts(self) -> Facts:
        """What was seen, once there are gradients."""
        return Facts(
            self.f.activation_of(self.scores),
            self.f.output_shape,
            self.f.channel_axis,
            self._is_scalar,
            self.has_gradient,
            self._view.computes_in_float16,
            self.f.rewiring,
            bytes_per_sample(),
        )


def check_labels(f: TracedModel, targets: Any) -> None:
    """Refuse labels of a dataset that say nothing of the inner layer that is explained."""
    if f.view.output_layer is not None:
        check_labels_of_layer(targets, f.output_shape, f.channel_axis, f.whole_output)


def largest_outputs(
    view: ModelView, layout: Layout, arrays: Sequence[tf.Tensor]
) -> tf.Tensor | None:
    """Return the index of each sample's largest output, (N,); ``None`` if f(x) has positions."""
    x, _ = layout.packed(view.cast_all(arrays))
    return largest_of((f := TracedModel(view))(x), f.channel_axis)


def largest_of(output: tf.Tensor, channel_axis: int) -> tf.Tensor | None:
    """Return the index of the largest output of f(x), (N,); ``None`` if it has positions."""
    if output.shape.rank is None or output.shape.rank > 2:
        return None
    return tf.argmax(per_output(output, channel_axis), -1)


def sources_of(view: ModelView, layout: Layout, arrays: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Return what is differentiated to, of some samples."""
    inputs = view.cast_all(arrays[: len(layout.input_specs)])
    if view.wrt_layer is None:
        return inputs
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        f = TracedModel(view, tape)
        f(layout._replace(for_targets=None).packed(inputs)[0])
    return f.wrt
