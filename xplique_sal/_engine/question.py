"""What an explainer asks of any sample, and what a program is told beside the samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from xplique_sal._data.outputs import check_classes
from xplique_sal._data.structures import GradientModifier, Layout
from xplique_sal._engine.recipe import PointsRecipe, Recipe
from xplique_sal._engine.request import Request
from xplique_sal._models.view import ModelView
from xplique_sal._tracing.held import HeldCallable
from xplique_sal.operators import ScoreFunction


@dataclasses.dataclass(frozen=True)
class Question:
    """What an explainer asks of any sample: the way from f and g to a map.

    Attributes
    ----------
    view
        f.
    score
        g, and the check of its targets.
    recipe
        At which points gradients are taken, and what is made of them.
    modifier
        An elementwise function on that.
    reducer
        The name of a channel reduction.
    channel_axis
        Where the channels of the inputs are, if not where the model has its own.
    """

    view: ModelView
    score: ScoreFunction
    recipe: Recipe
    modifier: GradientModifier | None
    reducer: str | None
    channel_axis: int | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells a trace of this question from those of others about the same view."""
        modifier = None if self.modifier is None else HeldCallable(self.modifier)
        operator = HeldCallable(self.score.function)
        shown = (modifier, self.reducer, self.channel_axis)
        return (operator, self.takes_outputs, *shown, *self.recipe.key)

    @property
    def takes_outputs(self) -> bool:
        """Whether a target of the operator is an output, the largest where there is none."""
        return self.score.check_targets is check_classes

    def nb_sources(self, layout: Layout) -> int:
        """Return how many things are differentiated to: layers of `wrt_layer`, or inputs."""
        _, wrt = self.view.chosen_layers()
        return len(wrt) or len(layout.input_specs)


class Settings(NamedTuple):
    """What a program takes beside samples: arrays on the host, tensors while it is traced.

    They are arguments, not constants, so that no other value needs another trace. In which order
    they are given is said here, by `flat` and `read`, and nowhere else.

    Attributes
    ----------
    outputs
        The indices of the outputs to explain, (K,), by itself; empty for the operator's score.
    own
        The recipe's own.
    first
        The index of the first sample in the whole data.
    begin, points
        The points are those from `begin` up to, and not, `points`.
    scored
        The points whose scores are asked for.
    nodes
        `PointsRecipe.nodes`, by itself; empty where there are no points.
    scale
        What the score is multiplied by before it is differentiated.
    rows
        How many rows the model may be given at once.
    with_largest
        Whether the index of the largest output is told of each sample. This alone is known while a
        program is traced, and tells it from others.
    """

    outputs: Sequence[Any]
    own: Sequence[Any]
    first: Any
    begin: Any
    points: Any
    scored: Any
    nodes: Sequence[Any]
    scale: Any
    rows: Any
    with_largest: bool

    @classmethod
    def of(cls, question: Question, request: Request) -> Settings:
        """Return those of a call, for its first sample."""
        recipe, layout = question.recipe, request.layout
        points, nodes, needed = 1, [], 0
        scored: tuple[int, ...] = (-1,)
        if isinstance(recipe, PointsRecipe):
            points, scored = recipe.points, recipe.scored_of(layout)
            nodes = [recipe.nodes.astype(np.float32)]
            needed = len(scored) if request.with_gaps or recipe.judges_details else 0
        skeleton = question.view.arrangement_of_maps(layout.for_user)
        return cls(
            outputs=[] if request.outputs is None else [np.zeros(0, np.int32)],
            own=recipe.own_settings(skeleton, question.nb_sources(layout)),
            first=np.int64(0),
            # Those that are scored are points more, unless they are among the others.
            begin=np.int32(min((0, *scored[: max(needed, request.with_scores)]))),
            points=np.int32(points),
            scored=np.asarray(scored, np.int32),
            nodes=nodes,
            scale=np.float32(1),
            rows=np.int32(1),
            with_largest=request.with_largest,
        )

    @property
    def explained(self) -> tf.Tensor | None:
        """The outputs to explain; ``None`` if it is the operator's score."""
        return self.outputs[0] if self.outputs else None

    @property
    def specs(self) -> list[tf.TensorSpec]:
        """The shapes and dtypes of `flat`."""
        any_number = self._replace(
            outputs=[tf.TensorSpec([None], tf.int32) for _ in self.outputs],
            nodes=[tf.TensorSpec([2, None], tf.float32) for _ in self.nodes],
        )
        return [
            value if isinstance(value, tf.TensorSpec) else tf.TensorSpec(value.shape, value.dtype)
            for value in any_number.flat
        ]

    @property
    def flat(self) -> list[Any]:
        """All of them, as a program takes them: each tensor less is time less for each call."""
        numbers = np.asarray([self.first, self.begin, self.points, self.rows], np.int64)
        return [*self.outputs, *self.own, *self.nodes, numbers, self.scored, self.scale]

    def read(self, flat: Sequence[tf.Tensor]) -> Settings:
        """Return the settings that a program was given flat."""
        parts = iter(flat)
        outputs, own, nodes = (
            [next(parts) for _ in several] for several in (self.outputs, self.own, self.nodes)
        )
        first, *small = tf.unstack(next(parts))
        begin, points, rows = (tf.cast(number, tf.int32) for number in small)
        scored, scale = parts
        return self._replace(
            outputs=outputs,
            own=own,
            first=first,
            begin=begin,
            points=points,
            scored=scored,
            nodes=nodes,
            scale=scale,
            rows=rows,
        )
