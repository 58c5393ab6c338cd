"""What the methods share that compare a sample with baselines: those, and what is missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xplique_sal._data.letters import letters_of
from xplique_sal._data.samples import Batch, Samples
from xplique_sal._data.structures import Skeleton, Structure, leaves
from xplique_sal._engine.recipe import Source
from xplique_sal._engine.request import Explained, Request
from xplique_sal._models.invoke import call_with_autograph
from xplique_sal._tracing.held import HeldCallable, weakly_referable
from xplique_sal.attributions.gap_base import GapExplainer
from xplique_sal.errors import InvalidInputError, InvalidParameterError

_HYPOTHETICAL = "`hypothetical` contributions"
#: In a batch of how many others a baseline function is tried.
_NEIGHBOURS = 8


class Baseline:
    """The baseline of each sample: one for all, one each, or a function of them.

    Parameters
    ----------
    name
        Of the parameter that gives it.
    value
        What the user passed for it.
    is_inner
        Whether it takes the place of a layer's output, and not of an input.
    is_hypothetical
        Whether `contributions` are those that each letter would have.
    """

    def __init__(
        self, name: str, value: Any, is_inner: bool, is_hypothetical: bool = False
    ) -> None:
        if is_hypothetical and is_inner:
            raise InvalidParameterError(
                "inputs of one-hot letters for `hypothetical` contributions",
                "a `wrt_layer`",
                "Leave one of the two away.",
            )
        self.name, self.is_inner, self.is_hypothetical = name, is_inner, is_hypothetical
        if callable(value):
            self.value = weakly_referable(value)
        else:
            self.value = value
            for part in leaves(value):
                self._as_array(part)

    @property
    def is_function(self) -> bool:
        """Whether it is made of the samples by a function of the user's."""
        return callable(self.value)

    @property
    def key(self) -> tuple[Any, ...]:
        """A hashable value, equal for baselines of which the same is traced."""
        held = HeldCallable(self.value) if self.is_function else None
        return (type(self), held, self.is_inner, self.is_hypothetical)

    def arrays(self, skeleton: Skeleton, count: int) -> list[np.ndarray]:
        """Return that of each of so many sources, packed as `skeleton`; none of a function."""
        value = self.value
        if self.is_function:
            return []
        if count == 1 or not isinstance(value, (list, tuple, dict)):
            return [self._as_array(value)] * count
        given = leaves(value)
        if len(given) != count:
            raise InvalidParameterError(
                f"a `{self.name}` for each of {count} inputs",
                f"{len(given)}",
                "Pack them as the inputs, or pass one number for all.",
            )
        by_position = dict(zip(leaves(skeleton), given, strict=True))
        return [self._as_array(by_position[position]) for position in range(count)]

    def contributions(
        self, multipliers: tf.Tensor, source: tf.Tensor, baseline: tf.Tensor
    ) -> tf.Tensor:
        """Return m·(x − b), or of letters (..., A) what each would contribute, m − Σ m·b."""
        if not self.is_hypothetical:
            return multipliers * (source - baseline)
        return multipliers - tf.reduce_sum(multipliers * baseline, -1, keepdims=True)

    def added_up(self, contributions: tf.Tensor, source: tf.Tensor) -> tf.Tensor:
        """Return what the source contributes itself, of what `contributions` returned."""
        if not self.is_hypothetical:
            return contributions
        return contributions * tf.cast(source, contributions.dtype)

    def prepared(
        self, own: Sequence[tf.Tensor], inputs: Sequence[tf.Tensor]
    ) -> Sequence[tf.Tensor]:
        """Return `arrays` of a batch as tensors: of a function of inputs, what it computes."""
        if not self.is_function or self.is_inner:
            return own
        return [
            self._computed(tensor) if tensor.dtype.is_floating else tf.zeros([])
            for tensor in inputs
        ]

    def of(
        self, source: tf.Tensor, place: Source, own: Sequence[tf.Tensor], times: Any = 1
    ) -> tf.Tensor:
        """Return it in a shape that broadcasts to that of a source.

        Parameters
        ----------
        source
            It holds each sample so many `times`, all samples before the first comes again.
        place
            Which source it is.
        own
            `prepared`.
        """
        if self.is_function:
            baseline = own[place.position] if own else self._computed(source)
            is_of_each = bool(baseline.shape.rank)
            self._check_shape(
                baseline.shape[1:] if is_of_each else baseline.shape, source.shape[1:]
            )
            if own and is_of_each and baseline.shape.rank == source.shape.rank:
                copies = tf.shape(source)[0] // tf.shape(baseline)[0]
                baseline = tf.tile(baseline, [copies, *[1] * (source.shape.rank - 1)])
            return baseline
        baseline = own[place.position]
        if self.is_inner or baseline.shape.rank != source.shape.rank:
            self._check_shape(baseline.shape, source.shape[1:])
            return baseline
        self._check_shape(baseline.shape[1:], source.shape[1:])
        rows = place.first + tf.range(tf.shape(source, tf.int64)[0] // tf.cast(times, tf.int64))
        # Rows that only fill a batch of fixed size have no baseline of their own.
        each = tf.gather(baseline, tf.minimum(rows, baseline.shape[0] - 1))
        return tf.tile(each, [times, *[1] * (source.shape.rank - 1)])

    def check(self, samples: Samples, cast: Callable[[int, Any], tf.Tensor]) -> None:
        """Refuse what does not fit the samples of a call; `cast` makes tensors of an input."""
        if self.is_inner:
            return
        if self.is_function:
            for position, value in enumerate(samples.first()):
                self._check_by_sample(cast(position, value))
            return
        specs = samples.layout.input_specs
        for array, spec in zip(
            self.arrays(samples.layout.for_user, len(specs)), specs, strict=True
        ):
            if spec.shape.rank is not None and array.ndim == spec.shape.rank + 1:
                self._check_several(array, samples)

    def _check_several(self, array: np.ndarray, samples: Samples) -> None:
        """Refuse an array of baselines (N, ...) that are not those of the samples."""
        samples.check_one_each(
            self.name,
            array.shape,
            "pass one of the shape of a sample, or a function from samples to their baselines",
        )

    def _computed(self, source: tf.Tensor) -> tf.Tensor:
        return tf.cast(call_with_autograph(self.value, source), tf.float32)

    def _as_array(self, value: Any) -> np.ndarray:
        try:
            array = np.asarray(value, np.float32)
        except (TypeError, ValueError):
            array = np.full(1, np.nan, np.float32)
        if not np.isfinite(array).all():
            raise InvalidParameterError(
                f"a `{self.name}` of finite numbers", repr(value), "Pass a number or an array."
            )
        return array

    def _check_by_sample(self, x: tf.Tensor) -> None:
        """Refuse a function that gives a sample another baseline in another batch, or another time.

        A function that cannot be called outside of a trace is left to it.
        """
        if not x.dtype.is_floating:
            return
        try:
            alone, again = (np.asarray(self.value(x), np.float32) for _ in range(2))
            self._check_broadcast(alone, x)
            beside = np.asarray(self._beside_others(x), np.float32)
        except Exception:
            return
        found = [again, beside[:1] if beside.ndim >= x.shape.rank else beside]
        error = 1e-5 * np.abs(alone).max(initial=0)
        if any(
            part.shape != alone.shape or not np.allclose(part, alone, 1e-4, error) for part in found
        ):
            raise InvalidParameterError(
                f"a `{self.name}` function that makes the baseline of a sample of this sample "
                "alone, the same each time",
                "one whose result depends on the batch, or on chance",
                "Compute what it needs of all samples before, and pass it as an array, such as "
                "x.mean(axis=0); draw noise by `tf.random.stateless_normal` with a seed.",
            )

    def _beside_others(self, x: tf.Tensor) -> Any:
        """Return what a function gives in a batch of others: moved ones where it takes no more."""
        numbers = range(1, _NEIGHBOURS)
        try:
            others = [x + tf.cast(number, x.dtype) for number in numbers]
            return self.value(tf.concat([x, *others], 0))
        except Exception:  # of letters there is no sum
            return self.value(tf.concat([x, *(tf.roll(x, number, 1) for number in numbers)], 0))

    def _check_broadcast(self, found: np.ndarray, x: tf.Tensor) -> None:
        """Raise `ValueError` where what a function gave for one sample does not broadcast to it."""
        np.broadcast_to(found, x.shape)

    def _check_shape(self, baseline: tf.TensorShape, sample: tf.TensorShape) -> None:
        fits = baseline.rank is not None and baseline.rank <= sample.rank
        if fits:
            pairs = zip(reversed(baseline.as_list()), reversed(sample.as_list()), strict=False)
            fits = all(mine in (1, None) or theirs in (mine, None) for mine, theirs in pairs)
        if not fits:
            raise InvalidParameterError(
                f"a `{self.name}` that broadcasts to the shape of a sample, {tuple(sample)}",
                f"the shape {tuple(baseline)}",
                "Pass a number, or an array of that shape.",
            )


class Baselines(Baseline):
    """Several baselines, K for all samples or K for each, of which methods take the mean.

    Attributes
    ----------
    number_of_each
        K, of a function that was seen to return (n, K, ...).
    """

    number_of_each = 1

    def table(self, source: tf.Tensor, place: Source, own: Sequence[tf.Tensor]) -> tf.Tensor:
        """Return those of all samples as (K, ...), if they are no function.

        Parameters
        ----------
        source
            The samples, (n, ...).
        place
            Which source it is.
        own
            `arrays`, as tensors.
        """
        found, sample = own[place.position], source.shape[1:]
        if found.shape.rank != source.shape.rank:
            found = found[tf.newaxis]
        self._check_shape(found.shape[1:], sample)
        missing = source.shape.rank - found.shape.rank  # axes that broadcast
        found = tf.reshape(found, [found.shape[0], *[1] * missing, *found.shape[1:]])
        full = tf.concat([[found.shape[0]], tf.shape(source)[1:]], 0)
        full = tf.broadcast_to(found, full)
        return tf.ensure_shape(full, [found.shape[0], *sample])

    @property
    def is_shared(self) -> bool:
        """Whether all samples have the same."""
        return not self.is_function and not self.is_inner

    def chosen(
        self, source: tf.Tensor, place: Source, own: Sequence[tf.Tensor], numbers: tf.Tensor
    ) -> tf.Tensor:
        """Return one baseline of each row of a source.

        Parameters
        ----------
        source, place, own
            As in `of`.
        numbers
            Which of them each row gets, (rows,): numbers of [0, 1) say where among all of them, and
            −1, −2, … name the first, the second, …
        """
        if not self.is_function:
            table = self.table(source, place, own)
            return tf.gather(table, _chosen(numbers, tf.shape(table)[0]))
        found = own[place.position] if own else self._computed(source)
        if found.shape.rank != source.shape.rank + 1:
            return self.of(source, place, own)
        self._check_shape(found.shape[2:], source.shape[1:])
        if found.shape[1] != self.number_of_each:
            raise InvalidParameterError(
                f"a `{self.name}` function that gives {self.number_of_each} of each sample, as it "
                "did of the first",
                f"the shape {tuple(found.shape)}",
                "Return as many of each: (n, K, ...), which can be called outside of a trace.",
            )
        of_row = tf.range(tf.size(numbers)) % tf.shape(found)[0]
        chosen = _chosen(numbers, self.number_of_each)
        return tf.gather_nd(found, tf.stack([of_row, chosen], 1))

    def of_each(self, source: tf.Tensor, place: Source, own: Sequence[tf.Tensor]) -> tf.Tensor:
        """Return those of each sample (n, ...), as (K, n, ...) in its precision."""
        sample, rank = source.shape[1:], source.shape.rank
        if not self.is_function:
            found = self.table(source, place, own)[:, tf.newaxis]
        else:
            found = self._computed(source)
            if found.shape.rank == rank + 1:
                self._check_shape(found.shape[2:], sample)
                found = tf.transpose(found, [1, 0, *range(2, rank + 1)])
            else:
                self._check_shape(found.shape[1:] if found.shape.rank else found.shape, sample)
                found = found[tf.newaxis]
        shape = tf.concat([tf.shape(found)[:1], tf.shape(source)], 0)
        return tf.cast(tf.broadcast_to(found, shape), source.dtype)

    def count(self, own: Sequence[np.ndarray], ranks: Sequence[int | None]) -> int:
        """Return K, of arrays for samples of some ranks.

        Raises
        ------
        InvalidParameterError
            If inputs have different numbers of them.
        """
        return self._one_count([tf.TensorShape(array.shape) for array in own], ranks)

    def _one_count(self, shapes: Sequence[tf.TensorShape], ranks: Sequence[int | None]) -> int:
        several = {
            shape[0]
            for shape, rank in zip(shapes, ranks, strict=True)
            if rank is not None and shape.rank == rank + 1
        }
        if None in several:
            raise InvalidParameterError(
                f"a `{self.name}` function that always returns as many for each sample",
                "a number that is known only when it is called",
                "Return a tensor (n, K, ...) of which K is known: tf.ensure_shape.",
            )
        if len(several - {1}) > 1:
            raise InvalidParameterError(
                f"as many `{self.name}` for each input",
                f"{sorted(several)}",
                "The k-th baselines of all inputs are one baseline of the model.",
            )
        return max(several, default=1)

    def count_of(self, own: Sequence[tf.Tensor], sources: Sequence[tf.Tensor]) -> int:
        """Return K, of what is compared, while it is traced."""
        if not self.is_function:
            ranks = [source.shape.rank - 1 for source in sources]
            return self._one_count([part.shape for part in own], ranks)
        ranks = [source.shape.rank - 1 for source in sources if source.dtype.is_floating]
        found = [self._computed(source) for source in sources if source.dtype.is_floating]
        of_one = [part.shape[1:] for part in found]
        return self._one_count(of_one, ranks)

    def _check_several(self, array: np.ndarray, samples: Samples) -> None:
        if not len(array):
            raise InvalidParameterError(
                f"at least one of the `{self.name}`", "none", "Pass an array (K, ...)."
            )

    def _check_broadcast(self, found: np.ndarray, x: tf.Tensor) -> None:
        if found.ndim <= x.shape.rank:
            np.broadcast_to(found, x.shape)
        else:
            self.number_of_each = found.shape[1]


def _chosen(numbers: tf.Tensor, count: int | tf.Tensor) -> tf.Tensor:
    """Return which of so many baselines is meant, as `Baselines.chosen` is told."""
    drawn = tf.minimum(tf.cast(numbers * tf.cast(count, numbers.dtype), tf.int32), count - 1)
    return tf.where(numbers >= 0, drawn, (-1 - tf.cast(numbers, tf.int32)) % count)


class CompleteExplainer(GapExplainer):
    """Base of the explainers whose maps add up to the change of the score from a baseline.

    `_recipe.details` are the gap, Σ |attributions| and that change of each sample.

    Parameters
    ----------
    hypothetical
        Of one-hot letters x (N, L, A), and by the multipliers m by which the method makes its map
        m·(x − b): return what each letter a would contribute at position l if it stood there and
        all multipliers were the same,

            map[l, a] = Σ_c m[l, c]·(1[c = a] − b[l, c]) = m[l, a] − Σ_c m[l, c]·b[l, c]

        (of several baselines b the mean). At the letters of x these are their contributions, which
        add up: ``(map * x).sum(-1)`` is what the method says of each position without it, but for
        rows of zeros, where b should be zero too.
        TF-MoDISco reads both. Inputs that are not one-hot, but for rows of zeros, are
        `InvalidInputError`. (Shrikumar et al., "Technical Note on Transcription Factor Motif
        Discovery from Importance Scores (TF-MoDISco) version 0.5.6.5", 2018, section "Hypothetical
        contribution scores".)
    """

    _limit = 0.05
    _whole = "its score changes from the baseline by"

    #: The baselines that a method was given.
    _baseline: Baseline

    def __init__(
        self, model: Any, *positional: Any, hypothetical: bool = False, **options: Any
    ) -> None:
        self.hypothetical = bool(hypothetical)
        super().__init__(model, *positional, **options)

    @property
    def _follows_other_rules(self) -> bool:
        """Whether the gradient is another one than what the method promises to add up."""
        return self.backprop_modifier is not None

    def _request(
        self, inputs: Structure, targets: Structure | None, endless: bool = False
    ) -> Request:
        request = super()._request(inputs, targets, endless)
        self._baseline.check(request.samples, self.model.cast)
        for spec in request.layout.input_specs if self._baseline.is_hypothetical else ():
            if spec.shape.rank not in (None, 2):
                raise InvalidInputError(
                    f"one-hot letters (N, L, A) for {_HYPOTHETICAL}",
                    f"samples of the shape {spec.shape}",
                    "Explain other inputs without it.",
                )
        return request

    def _explain_batch(self, request: Request, batch: Batch) -> Explained:
        if self._baseline.is_hypothetical:
            for part in batch.inputs:
                letters_of(part, _HYPOTHETICAL, batch.start)
        return super()._explain_batch(request, batch)

    def _cause_of(self, total: float, whole: float) -> str | None:
        if self._baseline.is_hypothetical and self._cause is not None:
            return (
                "rows of zeros, where no letter is, contribute beside a baseline that is not zero "
                f"there, which no letter shows; or {self._cause}"
            )
        return super()._cause_of(total, whole)

    def _compared(self, mass: np.ndarray, whole: np.ndarray) -> np.ndarray:
        return np.maximum(mass, np.abs(whole))

    def _warn(self, explained: Explained) -> None:
        if self._follows_other_rules:
            explained = explained._replace(details=None)
        super()._warn(explained)
