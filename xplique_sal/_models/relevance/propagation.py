"""Relevance in the place of a gradient: what is done with it at each operation.

The relevance of an operation's inputs is made of that of its outputs. Where a tensor is used more
than once, what comes back from its users is added, as gradients are; what moves values moves their
relevance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from xplique_sal._models.relevance.composites import Chosen
from xplique_sal._models.relevance.linear import Linear, belongs_to_a_linear_step
from xplique_sal._models.relevance.reading import (
    active_inputs,
    gate_rank,
    is_linear,
    is_part_of_an_activation,
    prepares_input,
)
from xplique_sal._models.relevance.rules import RULES, stabilised
from xplique_sal._models.rules import operations
from xplique_sal._models.rules.rule_set import RuleSet, Step
from xplique_sal._tracing import keras_compat
from xplique_sal.errors import NothingRewiredError


class Relevance(RuleSet):
    """Layer-wise relevance propagation.

    Parameters
    ----------
    chosen
        Which rule is followed at which linear step.
    """

    noun = "operations on the way to the input"
    remedy = (
        "Explain with `output_layer` or `wrt_layer` a part of the model without it, or take a "
        "method that needs gradients only."
    )

    def __init__(self, chosen: Chosen) -> None:
        self._chosen = chosen
        rules: dict[str, Callable[[Step], Any]] = {}
        for names, rule in (
            (operations.BILINEAR, self._product_and_sum),
            (operations.MEANS, _mean),
            (operations.SUMS, _sum),
            (operations.PRODUCTS, self._product),
            (operations.UNARY | {"Pow"}, _passed),
            (operations.SOFTMAXES, self._softmax),
            (operations.MAXIMA, _maximum),
            ({"FusedBatchNormV3"}, _normalized),
            ({"SquaredDifference"}, _unknown),
        ):
            rules |= dict.fromkeys(names, rule)
        super().__init__(rules, kept=operations.MOVES | operations.CALLS)

    @property
    def key(self) -> tuple[Any, ...]:
        """A hashable value, equal for rules under which the same is traced."""
        return (type(self), self._chosen.key)

    def starting(self, output: tf.Tensor) -> tf.Tensor:
        """Return the explained output, which has the share of each value in the score."""

        @tf.custom_gradient
        def explained(y: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
            return tf.identity(y), lambda g: g * y

        return explained(output)

    def is_unit(self, layer: Any) -> bool:
        """Tell whether a layer is a layer normalisation, which some run by one operation."""
        return keras_compat.is_own(layer, "LayerNormalization")

    def unit(self, layer: Any, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Return (x − mean)/σ·γ + β, where no gradient goes through σ: Achtibat et al., eq. 9."""
        x = keras_compat.inputs_of_call(layer, args, kwargs)
        if getattr(layer, "rms_scaling", False) or x.dtype.size < 4 or x.shape.rank is None:
            return original(*args, **kwargs)
        given = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
        axes = [axis % x.shape.rank for axis in given]
        shape = [size if axis in axes else 1 for axis, size in enumerate(x.shape)]
        centred = x - tf.reduce_mean(x, axes, keepdims=True)
        variance = tf.reduce_mean(tf.square(tf.stop_gradient(centred)), axes, keepdims=True)
        y = centred * tf.math.rsqrt(variance + layer.epsilon)
        if layer.scale:
            y *= tf.reshape(tf.convert_to_tensor(layer.gamma), shape)
        return y + tf.reshape(tf.convert_to_tensor(layer.beta), shape) if layer.center else y

    def _product_and_sum(self, step: Step) -> list[Any]:
        if is_linear(step.op, step.around):
            rule, settings = self._chosen.rule(step)
            linear = Linear(step)
            return linear.finished(RULES[rule](linear, settings))
        if not self._chosen.has_attention or len(step.inputs) != 2:
            raise uncovered(step, 'products of two activations, with `rule="attention"`')
        (relevance,), (y,) = step.gradients, step.outputs
        shares = step.plain(relevance / stabilised(2 * y))
        return [part * share for part, share in zip(step.inputs, shares, strict=True)]

    def _product(self, step: Step) -> list[Any]:
        (relevance,), (u, v) = step.gradients, step.inputs
        active = active_inputs(step.op, step.around)
        if len(active) == 1 or u is v:
            return _to(step, active[0], relevance)
        if step.op.type not in ("Mul", "MulNoNan"):
            return _to(step, 0, relevance)  # what is divided by is a scale
        ranks = [gate_rank(part, step.around) for part in (u, v)]
        if ranks[0] != ranks[1]:
            return _to(step, int(ranks[0] > ranks[1]), relevance)
        if not self._chosen.has_attention:
            raise uncovered(step, "a product of which one factor is a gate")
        return [_in_shape(step, number, relevance / 2) for number in range(2)]

    def _softmax(self, step: Step) -> Any:
        (relevance,) = step.gradients
        if not self._chosen.has_attention:
            return relevance
        (x,), (y,) = step.inputs, step.outputs
        if step.op.type == "LogSoftmax":
            raise uncovered(step, "a softmax")
        return x * (relevance - y * tf.reduce_sum(relevance, -1, keepdims=True))


def uncovered(step: Step, expected: str) -> NothingRewiredError:
    """Return the error for an operation that no rule covers."""
    return NothingRewiredError(
        f"a rule for every operation on the way: {expected}", step.name, Relevance.remedy
    )


def _unknown(step: Step) -> Any:
    """Refuse what is met as a part of something larger, behind a gate or a scale."""
    raise uncovered(step, "linear steps, activations, sums, gates and maxima")


def _passed(step: Step) -> list[Any]:
    """Pass relevance through a function of one value."""
    active = active_inputs(step.op, step.around)
    if len(active) != 1:
        raise uncovered(step, "a function of one value")
    return _to(step, active[0], step.gradients[0])


def _normalized(step: Step) -> Any:
    """Share relevance between a value and what a batch normalisation adds to it."""
    if step.op.get_attr("is_training") or active_inputs(step.op, step.around) != [0]:
        raise uncovered(step, "batch normalisation as in inference")
    share = step.gradients[0] / stabilised(step.outputs[0])
    return step.inputs[0] * step.plain(share, *[None] * (len(step.outputs) - 1))[0]


def _mean(step: Step) -> Any:
    """Share relevance in proportion to what each value adds to the mean."""
    return step.inputs[0] * step.plain(step.gradients[0] / stabilised(step.outputs[0]))[0]


def _sum(step: Step) -> list[Any]:
    """Share relevance in proportion to the summands.

    A bias has had its share at the linear step that it belongs to; what prepares an input, or is a
    number of an activation, has none. What any other constant adds vanishes, as a bias's share.
    """
    (relevance,), (y,) = step.gradients, step.outputs
    active, around = active_inputs(step.op, step.around), step.around
    if len(active) == 1:
        passes = (belongs_to_a_linear_step, prepares_input, is_part_of_an_activation)
        if any(passes_all(step.op, around) for passes_all in passes):
            return _to(step, active[0], relevance)
    share = relevance / stabilised(y)
    plain = step.plain(share)
    return [
        part * gradient if number in active else None
        for number, (part, gradient) in enumerate(zip(step.inputs, plain, strict=True))
    ]


def _maximum(step: Step) -> list[Any]:
    """Give all relevance to the largest value; of a limit, to what is limited."""
    active = active_inputs(step.op, step.around)
    if step.op.type in ("Maximum", "Minimum") and len(active) == 1:
        return _to(step, active[0], step.gradients[0])
    return step.plain(*step.gradients)


def _to(step: Step, position: int, relevance: tf.Tensor) -> list[Any]:
    """Give relevance to one input."""
    result: list[Any] = [None] * len(step.inputs)
    result[position] = _in_shape(step, position, relevance)
    return result


def _in_shape(step: Step, position: int, relevance: tf.Tensor) -> tf.Tensor:
    """Return relevance in the shape of an input: summed over what it was repeated along."""
    tensor = step.inputs[position]
    if tensor.shape.rank == relevance.shape.rank and all(
        mine == theirs or mine not in (1, None)
        for mine, theirs in zip(tensor.shape, relevance.shape, strict=True)
    ):
        return relevance
    shapes = tf.shape(tensor), tf.shape(relevance)
    axes = tf.raw_ops.BroadcastGradientArgs(s0=shapes[0], s1=shapes[1]).r0
    return tf.reshape(tf.reduce_sum(relevance, axes), shapes[0])
