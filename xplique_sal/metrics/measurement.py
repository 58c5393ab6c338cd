"""The scores that metrics ask for: read, checked and batched as an explainer's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xplique_sal._data.samples import Batch
from xplique_sal._data.structures import Labels, Operator, Structure, leaves, pack, skeleton_of
from xplique_sal._engine.masks import Filling, with_hidden
from xplique_sal._engine.request import Explained, Request
from xplique_sal._engine.score_runner import SettledScore
from xplique_sal.attributions.base import BlackBoxExplainer
from xplique_sal.errors import InvalidInputError, InvalidParameterError
from xplique_sal.metrics.reading import by_position, finite_maps, ranks_of, without_channels


class Baseline:
    """What stands in hidden parts: numbers, or what a function makes of the samples.

    Parameters
    ----------
    value
        The parameter `baseline_mode`.
    """

    def __init__(self, value: Any) -> None:
        self._function = value if callable(value) else None
        self._filling = None if callable(value) else Filling(value, "baseline_mode")
        #: What tells it from others.
        self.key = id(value) if callable(value) else (np.shape(value), np.asarray(value).tobytes())

    def of(self, x: tf.Tensor, channel_axis: int) -> Any:
        """Return it so that it can be broadcast to the samples x."""
        if self._filling is not None:
            return self._filling.within(x, channel_axis)
        assert self._function is not None
        value = np.asarray(self._function(x.numpy()))
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
        What is judged: the maps of all samples, (all, ...), or explainers.

    Attributes
    ----------
    x
        The samples, (N, ...).
    """

    def __init__(
        self, score: SettledScore, start: int, channel_axis: int, subjects: Sequence[Any]
    ) -> None:
        flat = leaves(score.inputs)
        if len(flat) != 1:
            raise InvalidInputError(
                "a model with one input, of which parts can be hidden",
                f"{len(flat)} inputs",
                "Pass a function of one of them that holds the others fixed.",
            )
        self.score = score
        self.start = start
        self.channel_axis = channel_axis
        self.x: tf.Tensor = flat[0]
        self.subjects = subjects
        self._shared: dict[Any, Any] = {}
        self._first = start

    def of(self, subjects: Sequence[Any]) -> Evaluation:
        """Return the same with other subjects: maps of the batch alone, (N, ...), or explainers."""
        other = Evaluation(self.score, self.start, self.channel_axis, subjects)
        other._first = 0
        return other

    def once(self, key: Any, compute: Callable[[], Any]) -> Any:
        """Return what `compute` returns, computed for the first who asks for that key."""
        if key not in self._shared:
            self._shared[key] = compute()
        return self._shared[key]

    def maps(self, subject: int, absolute: bool = False) -> np.ndarray:
        """Return the maps of a subject, (N, ...), with axes that can be broadcast to x.

        The channels of images and volumes are averaged; `absolute` takes absolute values first.
        """
        maps = self.subjects[subject]
        size = len(self.x)
        if len(maps) < self._first + size:
            raise InvalidInputError(
                "one map for each sample", f"{len(maps)} maps", "Pass the maps of these inputs."
            )
        some = maps[self._first : self._first + size]
        some = by_position(some, tuple(self.x.shape[1:]), self.channel_axis)
        return without_channels(np.abs(some) if absolute else some, self.channel_axis)

    def ranks(self, subject: int, seed: int) -> np.ndarray:
        """Return the rank of each position of a subject's maps, 0 the largest, shaped as they."""

        def ranked() -> np.ndarray:
            maps = self.maps(subject)
            return ranks_of(maps.reshape(len(maps), -1), seed).reshape(maps.shape)

        return self.once(("ranks", subject, seed), ranked)

    def scores(self, changed: tf.Tensor) -> np.ndarray:
        """Return the scores of changed copies of the samples, (copies, N)."""
        return self.score.of_rows([changed]).reshape(-1, len(self.x))

    def scores_where(
        self, hidden: Callable[[slice], Any], count: int, baseline: Baseline
    ) -> np.ndarray:
        """Return the scores of copies with parts hidden, (copies, N), some copies at a time.

        Parameters
        ----------
        hidden
            Which values of some of the copies are hidden: truth values (copies, N, ...).
        count
            How many copies.
        baseline
            What stands there.
        """
        if not count:
            return np.empty((0, len(self.x)))
        value = baseline.of(self.x, self.channel_axis)
        at_once = self.score.copies_at_once(count)
        some = [slice(first, min(first + at_once, count)) for first in range(0, count, at_once)]
        scores = [self.scores(with_hidden(self.x, hidden(part), value)) for part in some]
        return np.concatenate(scores)

    def scores_of(self, baseline: Baseline) -> np.ndarray:
        """Return the scores of the baseline in place of the samples, (N,)."""

        def hidden() -> np.ndarray:
            everything = tf.ones([1, 1, *[1] * (self.x.shape.rank - 1)], tf.bool)
            return self.scores_where(lambda part: everything, 1, baseline)[0]

        return self.once(("baseline", baseline.key), hidden)

    def explained(self, explainer: Any, x: tf.Tensor) -> np.ndarray:
        """Return an explainer's maps of copies of the samples, (copies · N, ...).

        What is explained of a copy is what is explained of its sample.
        """
        targets = self.score.targets
        copies = len(x) // len(self.x)
        packed = pack(skeleton_of(self.score.inputs), [x])
        if targets is None:
            return finite_maps(explainer(packed, None))
        parts = [np.asarray(part) for part in leaves(targets)]
        tiled = [np.tile(part, (copies, *[1] * (part.ndim - 1))) for part in parts]
        targets = pack(skeleton_of(targets), tiled)
        if isinstance(targets, Labels):  # of a dataset, which are not a user's targets
            dataset = tf.data.Dataset.from_tensor_slices((packed, targets.values))
            return finite_maps(explainer(dataset.batch(len(x)), None))
        return finite_maps(explainer(packed, targets))


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
        results = [*self._results(request, self._rows_at_once(request))]
        found = np.concatenate([explained.details for _, explained in results])
        for maps in self._subjects:
            if hasattr(maps, "shape") and len(maps) != len(found):
                raise InvalidInputError(
                    f"one map for each of {len(found)} samples",
                    f"{len(maps)} maps",
                    "Pass the maps of these inputs.",
                )
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


def in_turn(asked: Sequence[Asked]) -> Asked:
    """Return what asks several things of each batch, one after the other."""

    def all_of_them(evaluation: Evaluation) -> list[np.ndarray]:
        return [part for ask in asked for part in ask(evaluation)]

    return all_of_them
