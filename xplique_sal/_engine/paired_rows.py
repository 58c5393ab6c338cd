"""Rows of samples and, below them, of their baselines: what an operator is given of them."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from xplique_sal._data.outputs import per_output
from xplique_sal._models.rules.deeplift import CHOSEN


class PairedRows(abc.ABC):
    """How the rows of a batch are samples and baselines, for one forward pass.

    Parameters
    ----------
    samples
        The number n of samples: the first rows.
    baselines
        The number K of baselines of each.
    takes_outputs
        Whether a target of the operator is an output, the largest of the sample where there is
        none.

    Attributes
    ----------
    at_samples, at_baselines
        The scores there, (n,) or (n, L), the second averaged over baselines; once they are known.
    is_scalar
        Whether the operator returned one score for all rows.
    """

    is_scalar = False

    def __init__(self, samples: tf.Tensor, baselines: int, takes_outputs: bool) -> None:
        self.samples, self.baselines, self.takes_outputs = samples, baselines, takes_outputs
        self.at_samples = self.at_baselines = tf.zeros([])

    @abc.abstractmethod
    def of_outputs(self, scores: tf.Tensor) -> tf.Tensor:
        """Return the rows of (rows, L) that are differentiated."""

    @abc.abstractmethod
    def of_operator(self, call: Callable[..., Any], g: Any, f: Any, x: Any, y: Any) -> tf.Tensor:
        """Return the scores g(f, x, y) that are differentiated.

        Parameters
        ----------
        call
            Calls its first argument with the others.
        g, f
            The operator and the model.
        x
            The inputs, all rows.
        y
            Their targets.
        """

    def _first(self, rows: Any) -> Any:
        return tf.nest.map_structure(lambda tensor: tensor[: self.samples], rows)

    def _target(self, output: Any, y: Any) -> Any:
        """Return the targets of samples: where there are none, their largest outputs."""
        chooses = y is None and self.takes_outputs and output.shape.rank is not None
        if chooses and output.shape.rank <= 2:
            largest = tf.argmax(per_output(output[: self.samples]), -1)
            return tf.identity(largest, name=CHOSEN)
        return y


class SharedBaselines(PairedRows):
    """Rows [samples; baselines], of K baselines that are those of all samples.

    The operator must be linear in f(x), and look at nothing else. What is differentiated are the
    scores of the samples and, where there are several baselines, those of the baselines below them:
    multipliers are then in the rows of whichever are more.
    """

    def of_outputs(self, scores: tf.Tensor) -> tf.Tensor:
        """Return the scores of all rows."""
        self.at_samples, self._of_operator = scores[: self.samples], False
        mean = tf.reduce_mean(scores[self.samples :], 0, keepdims=True)
        self.at_baselines = tf.broadcast_to(mean, tf.shape(self.at_samples))
        return scores if self.baselines > 1 else self.at_samples

    def counted(self, number: tf.Tensor, at_baselines: bool | tf.Tensor) -> tf.Tensor | None:
        """Return which scores count, of those that are differentiated; ``None`` is all.

        They are those of all samples, which are compared with one baseline, or those of all
        baselines, which are compared with the sample of this number.
        """
        if self.baselines == 1:
            return None
        baselines = self.baselines * (self.samples if self._of_operator else 1)
        rows = tf.range(self.samples + baselines)
        of_sample = rows >= self.samples
        if self._of_operator:
            of_sample &= rows % self.samples == number
        return tf.where(at_baselines, of_sample, rows < self.samples)

    def of_operator(self, call: Callable[..., Any], g: Any, f: Any, x: Any, y: Any) -> tf.Tensor:
        """Return the scores of the samples, and those of each baseline for all samples."""
        output = f(x)
        axis, y, x = getattr(f, "channel_axis", -1), self._target(output, y), self._first(x)
        self.at_samples = call(g, _Known(self._first(output), axis), x, y)
        each = tf.repeat(output[self.samples :], self.samples, axis=0)
        scores = call(g, _Known(each, axis), x, _tiled(y, self.baselines))
        self.at_baselines = tf.reduce_mean(tf.reshape(scores, [self.baselines, -1]), 0)
        self._of_operator = True
        return tf.concat([self.at_samples, scores], 0) if self.baselines > 1 else self.at_samples


class OwnBaselines(PairedRows):
    """Rows [samples; first baseline of each; second of each; …]."""

    def of_outputs(self, scores: tf.Tensor) -> tf.Tensor:
        """Return the rows of the baselines."""
        self.at_samples, others = scores[: self.samples], scores[self.samples :]
        shape = tf.concat([[self.baselines], tf.shape(self.at_samples)], 0)
        self.at_baselines = tf.reduce_mean(tf.reshape(others, shape), 0)
        return others

    def of_operator(self, call: Callable[..., Any], g: Any, f: Any, x: Any, y: Any) -> tf.Tensor:
        """Return the scores of the baselines."""
        once: Any = _Once(f)
        if y is None and self.takes_outputs:
            output = once(x)
            y = _tiled(self._target(output, y), 1 + self.baselines)
            once = _Known(output, getattr(f, "channel_axis", -1))
        scores = tf.convert_to_tensor(call(g, once, x, y))
        if scores.shape.rank == 0:
            self.is_scalar = True  # each sample is alone, and so is each of its baselines
            scores = tf.stack(
                [
                    call(g, _Known(self._block(once.output, number), once.channel_axis), *rows)
                    for number in range(1 + self.baselines)
                    if (rows := (self._block(x, number), self._block(y, number)))
                ]
            )
        return self.of_outputs(scores)

    def _block(self, rows: Any, number: int) -> Any:
        if rows is None:
            return None
        first = number * self.samples
        return tf.nest.map_structure(lambda part: part[first : first + self.samples], rows)


class _Known:
    """f of which the output is known."""

    def __init__(self, output: Any, channel_axis: int) -> None:
        self.output, self.channel_axis = output, channel_axis

    def __call__(self, inputs: Any) -> Any:
        return self.output


class _Once:
    """f, with the output of its last call."""

    output: Any = None

    def __init__(self, f: Any) -> None:
        self._f, self.channel_axis = f, getattr(f, "channel_axis", -1)

    def __call__(self, inputs: Any) -> Any:
        self.output = self._f(inputs)
        return self.output


def _tiled(rows: Any, times: int) -> Any:
    """Return rows several times, all of them before the first comes again."""
    if rows is None:
        return None
    return tf.nest.map_structure(
        lambda part: tf.tile(part, [times, *[1] * (part.shape.rank - 1)]), rows
    )
