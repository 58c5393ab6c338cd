"""Average stability: how far the maps of neighbours are from a sample's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from xplique_sal._data.structures import Operator, Structure
from xplique_sal._parameters import integer, number, one_of
from xplique_sal.errors import InvalidInputError
from xplique_sal.metrics.base import ScoreMetric, checked_explainer, detailed
from xplique_sal.metrics.measurement import Evaluation
from xplique_sal.metrics.reading import Maps, side_by_side
from xplique_sal.metrics.result import SampleValues

#: The distances by name: of each row from another.
_NORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "l1": lambda rows: np.abs(rows).sum(axis=-1),
    "l2": lambda rows: np.sqrt((rows**2).sum(axis=-1)),
}


class AverageStability(ScoreMetric):
    """The mean distance of the maps of neighbours from a sample's map, relative to its size.

    For neighbours x + ε with ε uniform in [−r, r] for each value, and the map φ of an explainer,

        mean over ε of ‖φ(x + ε) − φ(x)‖ / ‖φ(x)‖

    From 0; lower is more stable, which a map that does not look at the sample is, too. What is
    explained stays the same: without targets, the largest output of the sample itself. Inputs of
    integers stay as they are beside those of floating point. It is given
    an explainer, and asks it for the maps of all neighbours of a batch at once.

    Parameters
    ----------
    radius
        r, in the units of the inputs.
    distance
        ``"l2"``, ``"l1"``, or a function of two maps that returns a number, which is taken as it
        is; of several inputs it is given their maps side by side, as vectors.
    nb_samples
        The number of neighbours of each sample.
    relative
        Whether distances are divided by the size of the sample's map. Without it, explainers of
        other scales can not be compared.
    one_sided
        Whether ε is uniform in [0, r). Xplique computes ``relative=False, one_sided=True``.
    seed
        Of the neighbours: those of a sample depend on it and on the sample's position alone.

    References
    ----------
    Bhatt, Weller and Moura, "Evaluating and Aggregating Feature-based Model Explanations", IJCAI
    2020, definition 2.
    Yeh, Hsieh, Suggala, Inouye and Ravikumar, "On the (In)fidelity and Sensitivity of
    Explanations", NeurIPS 2019, section 3.

    Examples
    --------
    >>> distance = AverageStability(model, images, labels)(explainer)  # doctest: +SKIP
    """

    better: ClassVar[str] = "lower"
    asks_explainer: ClassVar[bool] = True

    def __init__(
        self,
        model: Any,
        inputs: Structure,
        targets: Structure | None = None,
        batch_size: int | str | None = 64,
        radius: float = 0.1,
        distance: str | Callable[[np.ndarray, np.ndarray], float] = "l2",
        nb_samples: int = 20,
        operator: Operator | str | None = None,
        *,
        relative: bool = True,
        one_sided: bool = False,
        seed: int = 0,
        output_layer: int | str | None = None,
        output: int | str | None = None,
        logits: bool = False,
    ) -> None:
        super().__init__(
            model,
            inputs,
            targets,
            batch_size,
            operator,
            output_layer=output_layer,
            output=output,
            logits=logits,
        )
        if not callable(distance):
            one_of("distance", distance, _NORMS, "Pass one of these, or a function of two maps.")
        self.radius = number("radius", radius, "()")
        self.distance = distance
        self.nb_samples = integer("nb_samples", nb_samples)
        self.relative = bool(relative)
        self.one_sided = bool(one_sided)
        self.seed = integer("seed", seed, 0)

    def detailed_evaluate(self, explainer: Any) -> SampleValues:
        """Return the value of each sample.

        Parameters
        ----------
        explainer
            An explainer, or a function from inputs and targets to maps.

        Raises
        ------
        InvalidParameterError
            If it is neither.
        InvalidInputError
            If a map is zero everywhere, so that nothing is relative to it.
        """
        return detailed([self], [checked_explainer(explainer)])[0][0]

    def _of_batch(self, evaluation: Evaluation) -> Sequence[np.ndarray]:
        return [self._distances(evaluation, explainer) for explainer in evaluation.subjects]

    def _distances(self, evaluation: Evaluation, explainer: Any) -> np.ndarray:
        """Return the mean distances of an explainer's maps, (N,)."""
        size = evaluation.size
        own = _of_all_inputs(evaluation.explained(explainer, evaluation.inputs))
        total = np.zeros(size)
        for neighbours in self._neighbours(evaluation):
            maps = _of_all_inputs(evaluation.explained(explainer, neighbours))
            total += self._far(maps.reshape(-1, *own.shape), own).sum(axis=0)
        mean = total / self.nb_samples
        if not self.relative or callable(self.distance):
            return mean
        norms = _NORMS[self.distance](own.reshape(size, -1))
        if not norms.all():
            raise InvalidInputError(
                "maps that are not zero everywhere, to which distances are relative",
                f"zeros for sample {evaluation.start + int((norms == 0).argmax())}",
                "Leave the sample out, or pass relative=False.",
            )
        return mean / norms

    def _far(self, maps: np.ndarray, own: np.ndarray) -> np.ndarray:
        """Return the distance of maps (copies, N, ...) from the samples' own, (copies, N)."""
        if callable(self.distance):
            return np.array(
                [
                    [self.distance(map_, mine) for map_, mine in zip(copy, own, strict=True)]
                    for copy in maps
                ],
                np.float64,
            )
        return _NORMS[self.distance]((maps - own).reshape(*maps.shape[:2], -1))

    def _neighbours(self, evaluation: Evaluation) -> Iterator[list[tf.Tensor]]:
        """Yield neighbours of all samples, (copies · N, ...) of each input, some at a time."""
        inputs = evaluation.inputs
        if not any(x.dtype.is_floating for x in inputs):
            raise InvalidInputError(
                "inputs of floating point, which have neighbours",
                f"the dtype {inputs[0].dtype.name}",
                "Explain a model of floats.",
            )
        draws = [self._drawn(evaluation, number) for number in range(len(inputs))]
        at_once = evaluation.score.copies_at_once(self.nb_samples)
        for first in range(0, self.nb_samples, at_once):
            count = min(at_once, self.nb_samples - first)
            yield [draw(count) for draw in draws]

    def _drawn(self, evaluation: Evaluation, number: int) -> Callable[[int], tf.Tensor]:
        """Return what draws the next neighbours in an input, so many of each sample."""
        x = evaluation.inputs[number]
        shape = tuple(x.shape[1:])
        keys = [[self.seed, evaluation.start + i] for i in range(evaluation.size)]
        streams = [np.random.default_rng([*key, number] if number else key) for key in keys]

        def draw(count: int) -> tf.Tensor:
            if not x.dtype.is_floating:
                return tf.tile(x, [count, *[1] * len(shape)])
            drawn = [stream.random((count, *shape), np.float32) for stream in streams]
            noise = tf.stack(drawn, axis=1) * self.radius
            noise = noise if self.one_sided else 2 * noise - self.radius
            return tf.reshape(x + tf.cast(noise, x.dtype), (-1, *shape))

        return draw


def _of_all_inputs(maps: Maps) -> np.ndarray:
    """Return the maps of one input as they are, of several side by side, (N, positions)."""
    only = maps[0]
    return only if len(maps) == 1 and only is not None else side_by_side(maps)
