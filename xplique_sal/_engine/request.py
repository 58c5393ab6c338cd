"""One call of `explain`: what is asked of which samples, and what the call learns on its way."""

from __future__ import annotations

import dataclasses
import functools
import secrets
from typing import Any, Literal, NamedTuple

import numpy as np
import tensorflow as tf

from xplique_sal._data.outputs import TargetCheck, check_classes, chooses_the_only_output
from xplique_sal._data.samples import Batch, Samples
from xplique_sal._data.structures import Layout, pack
from xplique_sal._tracing.loops import is_small


@dataclasses.dataclass(eq=False)
class Request:
    """What is asked of samples in one call; it goes with each batch from `explain` to the model.

    The samples are as they were read; what a call finds out belongs here, and ends with it.

    Attributes
    ----------
    samples
        Inputs and targets.
    outputs
        Explain these outputs, or all, in place of the operator's score; ``None`` is the score.
    with_scores
        Whether the scores are asked for beside the maps.
    with_gaps
        Whether it is asked for how far the maps are from adding up.
    with_largest
        Whether the index of each sample's largest output is asked for beside its map.
    needed_batch
        The only batch size that the model takes: the one that it declares, or the one for which it
        was traced because it needs to know it; ``None`` if it takes any.
    rows_per_sample
        How many rows the model may be given for each sample: points near it, masked copies.
    first
        The number of the first sample in the whole data, of which the samples are a part.
    chose_the_only_output
        Whether targets were seen to be indices of an output where the model has but one.
    programs
        The compiled functions that the call uses, looked up once.
    """

    samples: Samples
    outputs: np.ndarray | Literal["all"] | None = None
    with_scores: bool = False
    with_gaps: bool = False
    with_largest: bool = False
    needed_batch: int | None = None
    rows_per_sample: int = 1
    first: int = 0
    chose_the_only_output: bool = False
    programs: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.needed_batch = self.samples.declared_batch

    @functools.cached_property
    def layout(self) -> Layout:
        """How the samples are packed, and of which shapes and dtypes they are."""
        return self.samples.layout

    @functools.cached_property
    def is_small(self) -> bool:
        """Whether batches of the samples are looped over inside the graph."""
        return is_small(self.layout)

    def check_targets(
        self, batch: Batch, check: TargetCheck | None, shape: tf.TensorShape, channel_axis: int
    ) -> None:
        """Check the targets against the shape of f(x): as early and as seldom as possible."""
        if check is None:
            return

        def on_host(arrays: list[Any], first: int) -> None:
            skeleton = self.samples.for_targets
            targets = None if skeleton is None else pack(skeleton, arrays)
            check(targets, first, shape, channel_axis)
            if check is check_classes:
                self.chose_the_only_output |= chooses_the_only_output(targets, shape, channel_axis)

        self.samples.check_targets(batch, on_host)

    @functools.cached_property
    def seed(self) -> int:
        """A seed for this call alone, drawn from the operating system."""
        return secrets.randbits(128)


class Explained(NamedTuple):
    """The explanations of a batch.

    Attributes
    ----------
    maps
        One tensor for each input, ``None`` for one without a gradient.
    scores
        (N,), or (N, K) of several outputs, on the host.
    zero_sample
        The first sample of which the gradient is zero everywhere, if any.
    activation
        The type of the softmax or sigmoid whose output was explained, if one was.
    one_by_one
        Whether the operator gave one score for its batch, so that it had to be given each sample
        alone.
    rewiring
        What a backprop modifier did (a `Rewiring`), if there was one.
    bytes_per_sample
        What a sample takes in memory, by the size of every tensor of the graph; 0 if unknown.
    details
        A few numbers about each sample, where the method has some to tell.
    largest
        The index of the largest output of each sample, as floats: NaN where that was not seen;
        ``None`` where it was not asked for.
    """

    maps: list[tf.Tensor | None]
    scores: np.ndarray
    zero_sample: int | None = None
    activation: str | None = None
    one_by_one: bool = False
    rewiring: Any = None
    bytes_per_sample: int = 0
    details: np.ndarray | None = None
    largest: np.ndarray | None = None


class Told(NamedTuple):
    """The explanations of some samples, their scores, and what the model holds them for.

    Attributes
    ----------
    maps
        As `BlackBoxExplainer.explain` returns them.
    scores
        What they explain, (N,).
    largest
        The indices of the largest outputs, (N,); ``None`` where they were not seen, because
        what was explained was said beforehand or is no output.
    """

    maps: Any
    scores: tf.Tensor
    largest: np.ndarray | None
