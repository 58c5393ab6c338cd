"""The scores that metrics ask for: read, checked and batched as an explainer's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xplique_sal._data.samples import Batch
from xplique_sal._data.structures import (
    Labels,
    Operator,
    Skeleton,
    Structure,
    leaves,
    pack,
    skeleton_of,
)
from xplique_sal._engine.masks import Filling, with_hidden
from xplique_sal._engine.request import Explained, Request
from xplique_sal._engine.score_runner import SettledScore
from xplique_sal.attributions.base import BlackBoxExplainer
from xplique_sal.errors import InvalidInputError, InvalidParameterError
from xplique_sal.metrics.reading import (
    Maps,
    apart,
    by_position,
    in_order_of,
    ranks_of,
    read_maps,
    side_by_side,
    without_channels,
)


class Baseline:
    """What stands in hidden parts: numbers, or what a function makes of the samples.

    Parameters
    ----------
    value
        The parameter `baseline_mode`.
    """

    def __init__(self, value: Any) -> None:
        self._value = value
        #: What tells it from others.
        self.key: Any = id(value)
        if not callable(value):
            parts = leaves(value)
            for part in parts:
                Filling(part, "baseline_mode")  # refuses now what is no number
            known = [(np.shape(part), np.asarray(part).tobytes()) for part in parts]
            self.key = (str(skeleton_of(value)), *known)

    def of(self, inputs: Sequence[tf.Tensor], skeleton: Skeleton, channel_axis: int) -> list[Any]:
        """Return it for each input so that it can be broadcast to its samples."""
        if callable(self._value):
            given = self._value(pack(skeleton, [x.numpy() for x in inputs]))
            values = in_order_of(skeleton, given, "a `baseline_mode` that returns arrays")
            return [_checked(np.asarray(v), x) for v, x in zip(values, inputs, strict=True)]
        values = [self._value] * len(inputs)
        if isinstance(self._value, Mapping) or (
            len(inputs) > 1 and isinstance(self._value, (list, tuple))
        ):
            values = in_order_of(skeleton, self._value, "a `baseline_mode`")
        fillings = [Filling(value, "baseline_mode") for value in values]
        return [
            filling.within(x, channel_axis) for filling, x in zip(fillings, inputs, strict=True)
        ]


def _checked(value: np.ndarray, x: tf.Tensor) -> np.ndarray:
    if value.shape != tuple(x.shape) or not np.isfinite(value).all():
        raise InvalidParameterError(
            f"a `baseline_mode` that returns finite numbers of the shape {tuple(x.shape)}",
            f"the shape {value.shape}, or values that are not finite",
            "Return what stands in for each of the samples that it is given.",
        )
    return value


class Evaluation:
    """A batch of samples with the maps that are judged, and what metrics share of them.

    Parameters
    ----------
    score
        The score of the batch.
    start
        The index of its first sample in the whole data.
    channel_axis
        Of the samples.
    subjects
        What is judged: the maps of all samples, (all, ...), for each input, or explainers.

    Attributes
    ----------
    inputs
        The samples, (N, ...), of each input.
    skeleton
        How they are packed.
    """

    def __init__(
        self, score: SettledScore, start: int, channel_axis: int, subjects: Sequence[Any]
    ) -> None:
        self.inputs: list[tf.Tensor] = leaves(score.inputs)
        self.skeleton = skeleton_of(score.inputs)
        self.score = score
        self.start = start
        self.channel_axis = channel_axis
        self.subjects = subjects
        self._shared: dict[Any, Any] = {}
        self._first = start

    def of(self, subjects: Sequence[Any]) -> Evaluation:
        """Return the same with other subjects: maps of the batch alone, or explainers."""
        other = Evaluation(self.score, self.start, self.channel_axis, subjects)
        other._first = 0
        return other

    @property
    def size(self) -> int:
        """The number of samples."""
        return len(self.inputs[0])

    @property
    def explained_inputs(self) -> list[int]:
        """The numbers of the inputs that some subject has maps of: those that are changed."""
        maps: list[Maps] = [subject for subject in self.subjects if not callable(subject)]
        numbers = range(len(self.inputs))
        return [i for i in numbers if any(parts[i] is not None for parts in maps)]

    def changed_inputs(self) -> list[tf.Tensor]:
        """Return the samples of the inputs that are changed."""
        return [self.inputs[number] for number in self.explained_inputs]

    def once(self, key: Any, compute: Callable[[], Any]) -> Any:
        """Return what `compute` returns, computed for the first who asks for that key."""
        if key not in self._shared:
            self._shared[key] = compute()
        return self._shared[key]

    def maps(self, subject: int, absolute: bool = False) -> list[np.ndarray]:
        """Return the maps of a subject for each of the inputs that are changed.

        They are (N, ...), with axes that can be broadcast to the samples'. The channels of images
        and volumes are averaged; `absolute` takes absolute values first.
        """
        return [self._maps_of_input(subject, i, absolute) for i in self.explained_inputs]

    def _maps_of_input(self, subject: int, number: int, absolute: bool) -> np.ndarray:
        maps, x = self.subjects[subject][number], self.inputs[number]
        if maps is None:  # of an input that another subject explains
            return np.zeros((self.size, *[1] * (x.shape.rank - 1)), np.float32)
        if len(maps) < self._first + self.size:
            raise InvalidInputError(
                "one map for each sample", f"{len(maps)} maps", "Pass the maps of these inputs."
            )
        some = maps[self._first : self._first + self.size]
        some = by_position(some, tuple(x.shape[1:]), self.channel_axis)
        return without_channels(np.abs(some) if absolute else some, self.channel_axis)

    def ranks(self, subject: int, seed: int) -> list[np.ndarray]:
        """Return the rank of each position among all of a subject's maps, 0 the largest."""

        def ranked() -> list[np.ndarray]:
            maps = self.maps(subject)
            shapes = [part.shape[1:] for part in maps]
            return apart(ranks_of(side_by_side(maps), seed), shapes)

        return self.once(("ranks", subject, seed), ranked)

    def scores(self, changed: Sequence[tf.Tensor]) -> np.ndarray:
        """Return the scores of changed copies of the inputs that are changed, (copies, N)."""
        copies = len(changed[0]) // self.size
        given = dict(zip(self.explained_inputs, changed, strict=True))
        rows = [
            given[i] if i in given else tf.tile(x, [copies, *[1] * (x.shape.rank - 1)])
            for i, x in enumerate(self.inputs)
        ]
        return self.score(pack(self.skeleton, rows)).reshape(-1, self.size)

    def scores_where(
        self, hidden: Callable[[slice], Sequence[Any]], count: int, baseline: Baseline
    ) -> np.ndarray:
        """Return the scores of copies with parts hidden, (copies, N), some copies at a time.

        Parameters
        ----------
        hidden
            Which values of some of the copies are hidden: truth values (copies, N, ...) for each of
            the inputs that are changed.
        count
            How many copies.
        baseline
            What stands there.
        """
        if not count:
            return np.empty((0, self.size))
        every = baseline.of(self.inputs, self.skeleton, self.channel_axis)
        values = [every[number] for number in self.explained_inputs]
        inputs = self.changed_inputs()
        at_once = self.score.copies_at_once(count)
        some = [slice(first, min(first + at_once, count)) for first in range(0, count, at_once)]
        scores = [self.scores([*map(with_hidden, inputs, hidden(part), values)]) for part in some]
        return np.concatenate(scores)

    def scores_of(self, baseline: Baseline) -> np.ndarray:
        """Return the scores of the baseline in place of the samples, (N,)."""

        def hidden() -> np.ndarray:
            ones = [tf.ones([1] * (x.shape.rank + 1), tf.bool) for x in self.changed_inputs()]
            return self.scores_where(lambda part: ones, 1, baseline)[0]

        return self.once(("baseline", baseline.key), hidden)

    def explained(self, explainer: Any, inputs: Sequence[tf.Tensor]) -> Maps:
        """Return an explainer's maps of copies of the samples, (copies · N, ...), of each input.

        What is explained of a copy is what is explained of its sample.
        """
        targets = self.score.targets
        count = len(inputs[0])
        copies = count // self.size
        packed = pack(self.skeleton, inputs)
        if targets is None or self.score.is_of_only_output:
            return read_maps(explainer(packed, None), self.skeleton)
        parts = [np.asarray(part) for part in leaves(targets)]
        tiled = [np.tile(part, (copies, *[1] * (part.ndim - 1))) for part in parts]
        targets = pack(skeleton_of(targets), tiled)
        if isinstance(targets, Labels):  # of a dataset, which are not a user's targets
            # Of a list a dataset would make one tensor.
            packed = tuple(packed) if isinstance(packed, list) else packed
            dataset = tf.data.Dataset.from_tensor_slices((packed, targets.values))
            return read_maps(explainer(dataset.batch(count), None), self.skeleton)
        return read_maps(explainer(packed, targets), self.skeleton)


#: Returns what is found of a batch: arrays (N, ...) with samples on the first axis.
Asked = Callable[[Evaluation], Sequence[np.ndarray]]


class Measurement(BlackBoxExplainer):
    """The scores of samples and of changed copies of them, batch by batch.

    It reads inputs and targets, chooses what is explained and bounds memory as every explainer
    does; in place of maps there is what was asked of each batch.

    Parameters
    ----------
    asked
        What is asked.
    subjects
        What is judged.
    """

    def __init__(
        self,
        model: Any,
        batch_size: int | str | None,
        operator: Operator | str | None,
        asked: Asked | None = None,
        subjects: Sequence[Any] = (),
        **settings: Any,
    ) -> None:
        super().__init__(model, batch_size, operator, **settings)
        self._asked = asked
        self._subjects = subjects

    def found(self, inputs: Structure, targets: Structure | None) -> list[np.ndarray]:
        """Return what is found of all samples, (N, columns) for each thing that was asked."""
        request = self._request(inputs, targets)
        self._subjects = [
            subject if callable(subject) else read_maps(subject, request.samples.for_user)
            for subject in self._subjects
        ]
        results = [*self._results(request, self._rows_at_once(request))]
        found = np.concatenate([explained.details for _, explained in results])
        for subject in self._subjects:
            if not callable(subject):
                check_count(subject, len(found), "")
        return np.split(found, np.cumsum(self._widths)[:-1], axis=1)

    def _explain_batch(self, request: Request, batch: Batch) -> Explained:
        score = self._scores.settled(request, batch)
        assert self._asked is not None
        evaluation = Evaluation(score, batch.start, self.model.channel_axis, self._subjects)
        parts = [part.reshape(batch.size, -1) for part in self._asked(evaluation)]
        self._widths = [part.shape[1] for part in parts]
        one_by_one = self._scores.one_by_one
        return Explained([], score.values, one_by_one=one_by_one, details=np.hstack(parts))

    def explain_batch(
        self, score: SettledScore, inputs: Structure, targets: Structure | None
    ) -> Structure:
        """Return the scores themselves: nothing is explained here."""
        return score.values


def check_count(maps: Maps, count: int, name: str) -> None:
    """Refuse maps of another number of samples.

    Raises
    ------
    InvalidInputError
        If there are too few or too many of an input.
    """
    for part in maps:
        if part is not None and len(part) != count:
            raise InvalidInputError(
                f"one map for each of {count} samples",
                f"{len(part)} maps{name}",
                "Pass the maps of these inputs.",
            )


def in_turn(asked: Sequence[Asked]) -> Asked:
    """Return what asks several things of each batch, one after the other."""

    def all_of_them(evaluation: Evaluation) -> list[np.ndarray]:
        return [part for ask in asked for part in ask(evaluation)]

    return all_of_them
