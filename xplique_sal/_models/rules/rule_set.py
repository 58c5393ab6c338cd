"""What a backward pass does at the operations of a model, in place of their derivatives.

A rule set says which rule is followed at which type of operation, and what it means if an operation
on the way has none. A rule gets a `Step` and returns the gradients that go on to its inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import tensorflow as tf

from xplique_sal._tracing.held import HeldCallable, weakly_referable


class Surroundings(Protocol):
    """What is known of the model around an operation.

    Attributes
    ----------
    order
        The operations from the sources to the score, each after those that it needs.
    kept
        What rules find out of this trace, for the next of them.
    """

    order: list[tf.Operation]
    kept: dict[str, Any]

    def depends(self, tensor: tf.Tensor) -> bool:
        """Tell whether a tensor depends on what is differentiated to: a weight does not."""

    def layer(self, op: tf.Operation) -> Any | None:
        """Return the innermost layer of Keras that made an operation, if one did."""

    def path(self, op: tf.Operation) -> str | None:
        """Return the path of that layer."""

    def is_normalization(self, op: tf.Operation) -> bool:
        """Tell whether that layer is a batch normalisation of Keras."""

    def users(self, tensor: tf.Tensor) -> list[tf.Operation]:
        """Return the operations on the way to the score that take a tensor."""

    def derivative(self, op: tf.Operation, *gradients: Any) -> list[Any]:
        """Return the derivative of any operation, in which none follows a rule."""


class Step(NamedTuple):
    """One operation of a model, as the backward pass comes to it.

    Attributes
    ----------
    op
        The operation: its type, and its attributes by ``op.get_attr(name)``.
    inputs, outputs
        Its tensors.
    gradients
        What came in for each output; ``None`` where nothing did.
    plain
        The derivative: from gradients like `gradients` to a list of one for each input.
    around
        The model around it.
    """

    op: tf.Operation
    inputs: tuple[tf.Tensor, ...]
    outputs: tuple[tf.Tensor, ...]
    gradients: tuple[Any, ...]
    plain: Callable[..., list[Any]]
    around: Surroundings

    @property
    def active(self) -> tuple[bool, ...]:
        """For each input, whether it is an activation: others are weights, or made of them."""
        return tuple(map(self.around.depends, self.inputs))

    def plain_at(
        self, inputs: Sequence[tf.Tensor], outputs: Sequence[tf.Tensor], *gradients: Any
    ) -> list[Any]:
        """Return `plain` as it would be if the operation had these inputs and outputs."""
        return self.plain(*gradients, at=(list(inputs), list(outputs)))

    @property
    def name(self) -> str:
        """How an error calls it: the operation, its type and its layer."""
        return named(self.op, self.around)


#: Returns a gradient for each input, ``None`` for those that get none; or that of the first alone.
Rule: TypeAlias = Callable[[Step], Sequence[Any] | tf.Tensor]


class Unit(NamedTuple):
    """Several operations that count as one.

    Attributes
    ----------
    output
        Made by one operation of a type that has a rule, on a tensor of which the value is `y` and
        the gradient goes to `x`.
    x, y
        What counts as its input and output.
    run
        From x to y, differentiable.
    """

    output: tf.Tensor
    x: tf.Tensor
    y: tf.Tensor
    run: Callable[[tf.Tensor], Any]


class RuleSet:
    """Which rule is followed where.

    Parameters
    ----------
    rules
        The rule for each type of operation, such as ``"MatMul"``.
    kept
        The types that may keep their derivative. ``None`` is all others; else one that lies on the
        way, and has no rule, is an error that names it.
    """

    #: What the rules are for, as an error says it.
    noun = "operations that have a rule"
    #: Whether layers must run by the operations of TensorFlow that they are made of. Some are
    #: otherwise computed in a cheaper way, with a gradient of its own.
    needs_every_op = True
    #: Whether a model without any operation that has a rule is an error.
    needs_one = True
    #: Whether the operations between the model's output and the score follow the rules, too.
    reaches_scores = False
    #: What to do about an operation that the rules do not cover.
    remedy = "Give the type a rule, or name it among those that keep their derivative."

    def __init__(self, rules: Mapping[str, Rule], kept: Iterable[str] | None = None) -> None:
        self.rules = {name: weakly_referable(rule) for name, rule in rules.items()}
        self.kept = None if kept is None else frozenset(kept)

    @property
    def key(self) -> tuple[Any, ...]:
        """A hashable value, equal for rules under which the same is traced."""
        held = [part for name in self.rules for part in (name, HeldCallable(self.rules[name]))]
        return (type(self), self.kept, *held)

    def keeps(self, op_type: str) -> bool:
        """Tell whether an operation without a rule may keep its derivative."""
        return self.kept is None or op_type in self.kept

    def starting(self, output: tf.Tensor) -> tf.Tensor:
        """Return the explained output, with the gradient of its own that the rules start from."""
        return output

    def is_exempt(self, op: tf.Operation) -> bool:
        """Tell whether an operation keeps its derivative although its type has a rule."""
        return False

    def refused(self, op: tf.Operation) -> str | None:
        """Return how an operation is called that the rules are for and cannot be followed at."""
        return None

    def left(self, node: Any) -> str | None:
        """Return the name of an operation, or a node, that a user is told keeps its derivative."""
        return None

    def is_unit(self, layer: Any) -> bool:
        """Tell whether a layer of Keras is one step of several operations."""
        return False

    def unit(self, layer: Any, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run a layer that is one step; or by other operations, which have their own rules."""
        raise NotImplementedError


def gradients_of(rule: Rule, step: Step) -> list[Any]:
    """Return the gradient of each input by a rule."""
    result = rule(step)
    gradients = list(result) if isinstance(result, (list, tuple)) else [result]
    return gradients + [None] * (len(step.op.inputs) - len(gradients))


def named(op: tf.Operation, around: Surroundings) -> str:
    """Return how an error calls an operation."""
    path = around.path(op)
    layer = "" if path is None else f" in the layer {path!r}"
    return f"{op.name!r} of the type {op.type!r}{layer}"
