"""The scores of samples and of changed copies of them, in batches: forward passes only."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from xplique_sal._data.outputs import check_classes, number_of_outputs, weighted_score
from xplique_sal._data.samples import Batch
from xplique_sal._data.structures import Structure, leaves
from xplique_sal._engine import in_batches, passes
from xplique_sal._engine.batch_size import BatchSize
from xplique_sal._engine.complaints import chosen_outputs, other_dtype
from xplique_sal._engine.request import Request
from xplique_sal._engine.score_program import RecordedFunction, ScoreQuery, compiled, scores_of
from xplique_sal._models.black_box import PlainFunction
from xplique_sal._models.view import ModelView
from xplique_sal._tracing import substitutes
from xplique_sal._tracing.programs import Program, TraceFailed
from xplique_sal.errors import InvalidModelError, InvalidOperatorError
from xplique_sal.operators import ScoreFunction

#: Looks at the shape of f(x) and its channel axis, and raises if what is asked does not fit it.
OutputCheck = Callable[[tf.TensorShape, int], None]


class SettledScore:
    """The score that is explained of a batch, to be asked of changed copies of its samples.

    The unchanged samples say which output is explained: without targets it is the largest output
    of each sample, also for a changed copy whose largest output is another.

    Attributes
    ----------
    inputs
        The samples, packed as the user packed them, as tensors of the dtypes that the model takes.
    targets
        What is explained of each: as the user passed it, or the index of its largest output;
        ``None`` if an operator of one's own got none.
    values
        The scores of the samples as they are, (N,), or (N, K) of several outputs, in float64.
    is_of_only_output
        Whether no targets were passed and the model has one output.
    """

    inputs: Structure
    targets: Structure | None
    values: np.ndarray
    is_of_only_output: bool = False

    def __init__(
        self,
        runner: ScoreRunner,
        request: Request,
        batch: Batch,
        query: ScoreQuery,
        targets: Sequence[Any],
        chosen: np.ndarray | None = None,
    ) -> None:
        self._runner = runner
        self._request = request
        self._batch = batch
        self._query = query
        self._targets = [np.asarray(target) for target in targets]
        self._chosen = chosen
        self.inputs, self.targets = query.layout.packed([*batch.inputs, *self._targets])

    def __call__(self, inputs: Structure) -> np.ndarray:
        """Return the scores of changed copies of the samples, in float64.

        Parameters
        ----------
        inputs
            Packed as the samples are: the first copy of all of them, then the second, …
            (copies · N, ...). The model is given a batch at once, however many there are.

        Returns
        -------
        scores
            (copies · N,), or (copies · N, K) of several outputs.

        Raises
        ------
        InvalidInputError
            If they are not whole copies.
        InvalidModelError
            If a score is not finite.
        """
        skeleton = self._query.layout.for_user
        by_position = dict(zip(leaves(skeleton), leaves(inputs), strict=True))
        return self.of_rows([by_position[position] for position in range(len(by_position))])

    def of_rows(self, rows: Sequence[Any], check: OutputCheck | None = None) -> np.ndarray:
        """Return the scores of changed copies, a flat list in the model's order of inputs.

        `check` is called before anything is computed, where the model tells the shape of f(x).
        """
        rows = self._runner.cast(rows)
        copies = len(rows[0]) // self._batch.size
        targets = [np.tile(t, (copies, *[1] * (t.ndim - 1))) for t in self._targets]
        values = self._runner.values(self._request, self._query, [*rows, *targets], check)
        return self.finite(values if self._chosen is None else values[:, self._chosen])

    def finite(self, values: np.ndarray) -> np.ndarray:
        """Return scores of rows, all of which must be finite."""
        wrong = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        if wrong.any():
            sample = self._batch.start + (wrong.argmax() % self._batch.size)
            raise InvalidModelError(
                "finite scores",
                f"NaN or infinite values for sample {sample} or changed copies of it",
                "Check the model for steps such as log(0) or a division by zero, which a part "
                "that was replaced by a constant can cause, and choose another value for it.",
            )
        return values

    def each_output(self) -> Iterator[SettledScore]:
        """Yield the score of each output by itself: (copies · N,) in place of (copies · N, K)."""
        assert self._chosen is not None
        for column, output in enumerate(self._chosen):
            one = copy.copy(self)
            one._chosen = output
            one.targets = np.full(self._batch.size, output)
            one.values = self.values[:, column]
            yield one

    @property
    def variables(self) -> list[tf.Variable]:
        """The variables that the score depends on, in the order in which the model reads them.

        Raises
        ------
        InvalidModelError
            If the model is one that is only called.
        """
        programs: list[Program] = [*self._request.programs.values()]
        if not programs:
            raise _not_substituted()
        return programs[0].variables

    @property
    def start(self) -> int:
        """How many samples of the call come before those of this batch."""
        return self._batch.start

    @property
    def seed(self) -> int:
        """A random integer, the same for all batches of a call."""
        return self._request.seed

    def copies_at_once(self, count: int) -> int:
        """Return how many of `count` changed copies of all samples are best made at once."""
        self._request.rows_per_sample = count
        return self._runner.copies_at_once(self._request, self._batch.size, count)


class ScoreRunner:
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
    activation
        The type of the activation that makes f(x), as far as the model tells.
    """

    def __init__(
        self, f: ModelView | PlainFunction, operator: ScoreFunction, bound: BatchSize
    ) -> None:
        self._f = f
        self._operator = operator
        self._bound = bound
        self._has_state = False
        self.one_by_one = False
        self.activation: str | None = None

    def cast(self, rows: Sequence[Any]) -> list[tf.Tensor]:
        """Return inputs as tensors of the dtypes that the model takes."""
        return self._f.cast_all(rows)

    def rows_at_once(self, request: Request) -> int | None:
        """Return how many rows are best handed over at once: whole batches; ``None`` is all."""
        most = self._bound.most
        is_compiled = isinstance(self._f, ModelView)
        return in_batches.rows_at_once(request, most) if is_compiled else most

    def copies_at_once(self, request: Request, size: int, count: int) -> int:
        """Return how many of `count` changed copies of `size` samples are best made at once."""
        if self._has_state:
            return 1  # what a state is of one row, it is not of another
        return max(1, (self.rows_at_once(request) or max(size, count)) // size)

    def settled(self, request: Request, batch: Batch) -> SettledScore:
        """Return the score that is explained of a batch, with its values for the samples.

        Without targets it is the largest output of each sample as it is; an operator of one's own
        gets ``None`` as it was given.
        """
        batch = batch._replace(inputs=self.cast(batch.inputs))
        if request.outputs is not None:
            return self._of_outputs(request, batch, request.outputs)
        takes_outputs = self._operator.check_targets is check_classes
        if takes_outputs and request.samples.for_targets is None:
            return self._of_largest(request, batch)

        def check(shape: tf.TensorShape, channel_axis: int) -> None:
            request.check_targets(batch, self._operator.check_targets, shape, channel_axis)

        query = ScoreQuery(self._operator.function, request.layout)
        score = SettledScore(self, request, batch, query, batch.targets)
        score.values = score.of_rows(batch.inputs, check)
        return score

    def _of_largest(self, request: Request, batch: Batch) -> SettledScore:
        def check(shape: tf.TensorShape, channel_axis: int) -> None:
            if (shape.rank or 0) > 2:  # refuses positions
                weighted_score(tf.zeros([size or 1 for size in shape]), None, channel_axis)

        layout = request.layout
        outputs = self.values(request, ScoreQuery(None, layout), batch.inputs, check)
        largest = layout._replace(for_targets=0, target_specs=[tf.TensorSpec([], tf.int64)])
        query = ScoreQuery(self._operator.function, largest)
        score = SettledScore(self, request, batch, query, [outputs.argmax(axis=1)])
        score.values = score.finite(outputs).max(axis=1)
        score.is_of_only_output = outputs.shape[1] == 1
        return score

    def _of_outputs(
        self, request: Request, batch: Batch, outputs: np.ndarray | Literal["all"]
    ) -> SettledScore:
        def check(shape: tf.TensorShape, channel_axis: int) -> None:
            known = number_of_outputs(shape, channel_axis)
            if known is not None:
                chosen_outputs(outputs, known)

        query = ScoreQuery(None, request.layout._replace(for_targets=None, target_specs=[]))
        values = self.values(request, query, batch.inputs, check)
        chosen = chosen_outputs(outputs, values.shape[1])
        score = SettledScore(self, request, batch, query, [], chosen)
        score.values = score.finite(values[:, chosen])
        return score

    def values(
        self,
        request: Request,
        query: ScoreQuery,
        arrays: Sequence[Any],
        check: OutputCheck | None = None,
    ) -> np.ndarray:
        """Return the scores of all rows, (rows,), or their outputs, (rows, L), in float64.

        Parameters
        ----------
        request
            The call of which they are a part.
        query
            What is asked.
        arrays
            Inputs in the model's dtypes and order, and targets.
        check
            See `OutputCheck`; called before anything is computed, if the model is compiled.

        Raises
        ------
        InvalidOperatorError
            If there is not one score for each row.
        """
        passes.add(len(arrays[0]))
        try:
            if isinstance(self._f, ModelView):
                try:
                    parts = self._compiled(self._f, request, query, arrays, check)
                except Exception as error:
                    function = self._f.called(error)
                    if function is None:
                        raise
                    self._f = function
            if isinstance(self._f, PlainFunction):
                parts = self._called(self._f, query, arrays, check)
        except TraceFailed as failure:
            # Targets of a wrong shape make an operator fail.
            if check is not None and failure.output_shape.rank is not None:
                check(failure.output_shape, failure.channel_axis)
            other_dtype(failure.reason, query.layout.target_specs)
            raise failure.reason from failure.reason.__cause__
        values, rows = np.concatenate(parts), len(arrays[0])
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
        query: ScoreQuery,
        arrays: Sequence[Any],
        check: OutputCheck | None,
    ) -> list[np.ndarray]:
        if substitutes.is_active():
            raise _not_substituted()
        f, count = RecordedFunction(function), len(arrays[0])
        values: list[np.ndarray] = []
        size = 1 if self.one_by_one else self._bound.most or count
        start = 0
        while start < count:
            part = arrays if size >= count else [array[start : start + size] for array in arrays]
            part = list(map(tf.convert_to_tensor, part))
            scores, is_scalar = scores_of(f, query, part)
            if check is not None:
                check(f.output_shape, f.channel_axis)
                check = None
            if is_scalar and len(part[0]) > 1:
                self.one_by_one, size = True, 1
                continue
            values.append(scores.numpy())
            start += size
        return values

    def _compiled(
        self,
        view: ModelView,
        request: Request,
        query: ScoreQuery,
        arrays: Sequence[Any],
        check: OutputCheck | None,
    ) -> list[np.ndarray]:
        count = len(arrays[0])
        program = self._program(view, request, query, arrays)
        if check is not None:
            check(program.facts.output_shape, program.facts.channel_axis)
        size = in_batches.rows_of_model(request, program, self._bound.most or count)
        self.one_by_one |= program.facts.is_scalar
        self.activation = program.facts.activation
        self._has_state = program.has_state
        at_once = in_batches.rows_of_program(request, program, size, count)
        is_inner = view.output_layer is not None
        return [
            rows.own(in_batches.run(program, rows, [tf.constant(size)], is_inner).numpy())
            for rows in in_batches.split(arrays, at_once, request.needed_batch)
        ]

    def _program(
        self, view: ModelView, request: Request, query: ScoreQuery, arrays: Sequence[Any]
    ) -> Program:
        """Return the compiled scores: looked up once a call for each kind of query."""
        name = "outputs" if query.operator is None else "score"
        if name not in request.programs:
            request.programs[name], request.needed_batch = compiled(
                view, query, arrays, request.needed_batch, self._bound.most or len(arrays[0])
            )
        return request.programs[name]


def _not_substituted() -> InvalidModelError:
    return InvalidModelError(
        "a model that TensorFlow runs, whose variables can be replaced",
        "a function that is only called",
        "Pass the model itself, or a function of TensorFlow operations.",
    )
