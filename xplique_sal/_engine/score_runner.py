"""The scores of samples and of changed copies of them, in batches: forward passes only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xplique_sal._data.outputs import check_classes, number_of_outputs, weighted_score
from xplique_sal._data.samples import Batch, Samples, padded
from xplique_sal._data.structures import pack
from xplique_sal._engine.batch_size import BatchSize
from xplique_sal._engine.complaints import chosen_outputs
from xplique_sal._engine.gradient_runner import rows_at_once
from xplique_sal._engine.score_program import CalledFunction, Question, compiled, scores_of
from xplique_sal._models.black_box import PlainFunction
from xplique_sal._models.traced import TracedModel
from xplique_sal._models.view import ModelView
from xplique_sal._tracing import programs
from xplique_sal._tracing.loops import is_small
from xplique_sal._tracing.programs import Program
from xplique_sal.errors import InvalidModelError, InvalidOperatorError
from xplique_sal.operators import ScoreFunction

#: Looks at the shape of f(x) and its channel axis, and raises if what is asked does not fit it.
Judge = Callable[[tf.TensorShape, int], None]


class Score:
    """What is explained of a batch's samples, settled by the samples as they are.

    Parameters
    ----------
    run
        Computes it.
    samples, batch
        What is explained.
    question, targets
        The operator, and what it is given.
    chosen
        Which outputs, where there is no operator.
    """

    def __init__(
        self,
        run: ScoreRun,
        samples: Samples,
        batch: Batch,
        question: Question,
        targets: Sequence[Any],
        chosen: np.ndarray | None = None,
    ) -> None:
        self._run = run
        self._samples = samples
        self._batch = batch
        self._question = question
        self._targets = [np.asarray(target) for target in targets]
        self._chosen = chosen

    def of(self, inputs: Sequence[tf.Tensor], copies: int, judge: Judge | None = None) -> Any:
        """Return the scores (copies, N), or (copies, N, K) of several outputs, in float64.

        Parameters
        ----------
        inputs
            The first changed copy of all samples, then the second, ...: (copies · N, ...).
        copies
            How many.
        judge
            Is called before anything is computed, where the model tells the shape of f(x).

        Raises
        ------
        InvalidModelError
            If a score is not finite.
        """
        targets = [np.tile(t, (copies, *[1] * (t.ndim - 1))) for t in self._targets]
        values = self._run.values(self._samples, self._question, inputs, targets, judge)
        return self.finite(values if self._chosen is None else values[:, self._chosen])

    def finite(self, values: np.ndarray) -> np.ndarray:
        """Return values by copy and sample, all of which must be finite."""
        values = values.reshape(-1, self._batch.size, *values.shape[1:])
        wrong = ~np.isfinite(values).all(axis=(0, *range(2, values.ndim)))
        if wrong.any():
            raise InvalidModelError(
                "finite scores",
                f"NaN or infinite values for sample {self._batch.start + int(wrong.argmax())} "
                "or changed copies of it",
                "Check the model for steps such as log(0) or a division by zero, which a part "
                "that was replaced by a constant can cause, and choose another value for it.",
            )
        return values


class ScoreRun:
    """Runs g(f, x, y), or f, on any number of rows, of which a model gets a batch at once.

    Models that TensorFlow knows are compiled, once for all sizes; other functions are called.

    Parameters
    ----------
    f
        The model.
    operator
        g, and the check of its targets.
    bound
        How many samples f is given at once.

    Attributes
    ----------
    one_by_one
        Whether g was seen to return a scalar for its batch, so that it is given each row alone.
    """

    def __init__(
        self, f: ModelView | PlainFunction, operator: ScoreFunction, bound: BatchSize
    ) -> None:
        self._f = f
        self._operator = operator
        self._bound = bound
        self._has_state = False
        self.one_by_one = False

    def rows_at_once(self, samples: Samples) -> int | None:
        """Return how many rows are best handed over at once: whole batches; ``None`` is all."""
        most = self._bound.most
        return rows_at_once(samples, most) if isinstance(self._f, ModelView) else most

    def copies_at_once(self, samples: Samples, size: int, count: int) -> int:
        """Return how many of `count` changed copies of `size` samples are best made at once."""
        if self._has_state:
            return 1  # what a state is of one row, it is not of another
        return max(1, (self.rows_at_once(samples) or max(size, count)) // size)

    def score(
        self, samples: Samples, batch: Batch, inputs: Sequence[tf.Tensor]
    ) -> tuple[Score, np.ndarray]:
        """Return what is explained of a batch, and its value for the samples as they are, (N,).

        Without targets that is the largest output of each sample as it is, also where it is
        changed; an operator of one's own gets ``None`` as it was given.
        """
        check = self._operator.check_targets
        if check is check_classes and samples.for_targets is None:
            return self._largest(samples, batch, inputs)

        def judge(shape: tf.TensorShape, channel_axis: int) -> None:
            if check is None:
                return

            def on_host(arrays: list[Any], first: int) -> None:
                skeleton = samples.for_targets
                given = None if skeleton is None else pack(skeleton, arrays)
                check(given, first, shape, channel_axis)

            samples.check_targets(batch, on_host)

        question = Question(self._operator.function, samples.target_specs, samples.for_targets)
        score = Score(self, samples, batch, question, batch.targets)
        return score, score.of(inputs, 1, judge)[0]

    def _largest(
        self, samples: Samples, batch: Batch, inputs: Sequence[tf.Tensor]
    ) -> tuple[Score, np.ndarray]:
        def judge(shape: tf.TensorShape, channel_axis: int) -> None:
            if (shape.rank or 0) > 2:  # refuses positions
                weighted_score(tf.zeros([size or 1 for size in shape]), None, channel_axis)

        values = self.values(samples, Question(None, [], None), inputs, [], judge)
        classes = values.argmax(axis=1)
        question = Question(self._operator.function, [tf.TensorSpec([], tf.int64)], 0)
        score = Score(self, samples, batch, question, [classes])
        return score, score.finite(values)[0].max(axis=1)

    def outputs(
        self,
        samples: Samples,
        batch: Batch,
        inputs: Sequence[tf.Tensor],
        outputs: np.ndarray | None,
    ) -> tuple[Score, np.ndarray]:
        """Return several outputs, and their values for the samples as they are, (N, K)."""
        wanted: Any = "all" if outputs is None else outputs

        def judge(shape: tf.TensorShape, channel_axis: int) -> None:
            known = number_of_outputs(shape, channel_axis)
            if known is not None:
                chosen_outputs(wanted, known)

        question = Question(None, [], None)
        values = self.values(samples, question, inputs, [], judge)
        chosen = chosen_outputs(wanted, values.shape[1])
        score = Score(self, samples, batch, question, [], chosen)
        return score, score.finite(values[:, chosen])[0]

    def values(
        self,
        samples: Samples,
        question: Question,
        inputs: Sequence[tf.Tensor],
        targets: Sequence[np.ndarray],
        judge: Judge | None,
    ) -> np.ndarray:
        """Return the scores of all rows, (rows,), or their outputs, (rows, L), in float64."""
        given = [*inputs, *targets]
        if isinstance(self._f, ModelView):
            values = np.concatenate(self._traced(self._f, samples, question, given, judge))
        else:
            values = np.concatenate(self._called(self._f, samples, question, given, judge))
        rows = len(inputs[0])
        if len(values) != rows:
            raise InvalidOperatorError(
                f"scores of shape (N,), here ({rows},)",
                f"the shape {values.shape}",
                "Return one score for each sample: reduce over all axes but the first.",
            )
        return values

    def _called(
        self,
        function: PlainFunction,
        samples: Samples,
        question: Question,
        rows: Sequence[Any],
        judge: Judge | None,
    ) -> list[np.ndarray]:
        count = len(rows[0])
        f = CalledFunction(function)
        values: list[np.ndarray] = []
        size = 1 if self.one_by_one else self._bound.most or count
        start = 0
        while start < count:
            part = rows if size >= count else [array[start : start + size] for array in rows]
            part = list(map(tf.convert_to_tensor, part))
            try:
                scores, is_scalar = scores_of(f, samples, question, part)
            except Exception:
                # Targets of a wrong shape make an operator fail.
                if judge is not None and f.output_shape.rank is not None:
                    judge(f.output_shape, f.channel_axis)
                raise
            if judge is not None:
                judge(f.output_shape, f.channel_axis)
                judge = None
            if is_scalar and len(part[0]) > 1:
                self.one_by_one, size = True, 1
                continue
            values.append(scores.numpy())
            start += size
        return values

    def _traced(
        self,
        view: ModelView,
        samples: Samples,
        question: Question,
        rows: Sequence[Any],
        judge: Judge | None,
    ) -> list[np.ndarray]:
        count = len(rows[0])
        program = self._program(view, samples, question, rows, judge)
        facts = program.facts
        if judge is not None:
            judge(facts.output_shape, facts.channel_axis)
        fixed = samples.fixed_batch
        if facts.is_scalar and fixed not in (None, 1):
            raise InvalidOperatorError(
                "a score for each sample, (N,), of a model with a fixed batch size",
                "one scalar for the whole batch",
                "Reduce over all axes but the first.",
            )
        self.one_by_one |= facts.is_scalar
        self._has_state = program.has_state
        size = 1 if facts.is_scalar else fixed or self._bound.most or count
        loops = is_small(samples) and not program.has_state and not fixed
        step = count if loops else size
        values = []
        for start in range(0, count, step):
            part = [array[start : start + step] for array in rows]
            length = len(part[0])
            if fixed:
                part = [padded(array, fixed) for array in part]
            values.append(program(*map(tf.convert_to_tensor, part), size).numpy())
            if fixed and len(values[-1]) == fixed:
                values[-1] = values[-1][:length]
        return values

    def _program(
        self,
        view: ModelView,
        samples: Samples,
        question: Question,
        rows: Sequence[Any],
        judge: Judge | None,
    ) -> Program:
        """Return the compiled scores."""
        traced: list[TracedModel] = []

        def make(size: int | None) -> Program:
            return compiled(view, samples, question, rows, size, traced)

        def on_failure() -> None:
            # Targets of a wrong shape make an operator fail while it is traced.
            f = traced[-1] if traced else None
            if judge is not None and f is not None and f.output_shape.rank is not None:
                judge(f.output_shape, f.channel_axis)

        size = self._bound.most or len(rows[0])
        program, samples.fixed_batch = programs.of_batches(
            make, samples.fixed_batch, size, on_failure
        )
        return program
