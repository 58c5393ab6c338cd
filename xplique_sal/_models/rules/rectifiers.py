"""Rules for the gradient of a rectifier, in place of its derivative.

A rule gets a rectifier y = φ(x) and the incoming gradient g, and returns the gradient g_x that goes
on to x. Every rectifier of the explained model follows it, elementwise.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import tensorflow as tf

from xplique_sal._models.rules.rule_set import RuleSet, Step, Unit
from xplique_sal._tracing import keras_compat
from xplique_sal._tracing.held import HeldCallable, weakly_referable
from xplique_sal.errors import InvalidParameterError

#: The rectifiers that TensorFlow runs as one op, with their slope for positive inputs.
SLOPES = {"Relu": 1.0, "Relu6": 1.0, "LeakyRelu": 1.0, "Elu": 1.0, "Selu": 1.0507009873554805}

_SMOOTH = {
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Erf": "gelu",
    "Erfc": "gelu",
    "BlockLSTMV2": "tanh",
}
_COMPARISONS = ("Greater", "GreaterEqual")


class Rectifier(NamedTuple):
    """One call of a rectifier y = φ(x) in a model.

    Attributes
    ----------
    x, y
        Its input and output.
    slope
        The slope of φ for positive x: 1, or λ for SELU.
    backward
        From an incoming gradient g to g·φ′(x).
    """

    x: tf.Tensor
    y: tf.Tensor
    slope: float
    backward: Callable[[tf.Tensor], tf.Tensor]


RectifierRule: TypeAlias = Callable[[Rectifier, tf.Tensor], tf.Tensor]


def guided(rectifier: Rectifier, g: tf.Tensor) -> tf.Tensor:
    """Return max(g, 0)·[x > 0]·φ′(x).

    References
    ----------
    Springenberg et al., "Striving for Simplicity: The All Convolutional Net", 2014, section 3.4.
    """
    gradient = rectifier.backward(tf.nn.relu(g))
    return tf.where(rectifier.x > 0, gradient, tf.zeros_like(gradient))


def deconv(rectifier: Rectifier, g: tf.Tensor) -> tf.Tensor:
    """Return max(g, 0)·s, with s the slope of φ for positive x, for every x.

    References
    ----------
    Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2014, section 2.1.
    """
    return tf.nn.relu(g) * tf.cast(rectifier.slope, g.dtype)


_BY_NAME: dict[str, RectifierRule] = {
    "guided": guided,
    "deconv": deconv,
    "relu": deconv,
    "rectified": deconv,
}


def resolve(modifier: Any) -> RuleSet | None:
    """Return what a name, a callable ``rule(x, y, g)`` or a rule set stands for; ``None`` for none.

    Raises
    ------
    InvalidParameterError
        If there is none of that name, or the callable does not take three arguments.
    """
    if modifier is None:
        return None
    if isinstance(modifier, RuleSet):
        return modifier
    if isinstance(modifier, str) and modifier in _BY_NAME:
        return Rectifiers(_BY_NAME[modifier])
    if isinstance(modifier, str) or not callable(modifier):
        raise InvalidParameterError(
            f"a `backprop_modifier` among {', '.join(map(repr, _BY_NAME))}, a callable or None",
            repr(modifier),
            "Pass one of these, or a function rule(x, y, g) that returns the gradient for x.",
        )
    try:
        inspect.signature(modifier).bind(None, None, None)
    except TypeError:
        raise InvalidParameterError(
            "a `backprop_modifier` that takes three arguments",
            f"one with the signature {inspect.signature(modifier)}",
            "Write it as rule(x, y, g): the rectifier's input, its output, the incoming gradient.",
        ) from None
    except ValueError:
        pass  # some built-in callables do not tell
    return Rectifiers(UserRule(weakly_referable(modifier)))


class UserRule:
    """A user's ``rule(x, y, g)``."""

    def __init__(self, function: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]) -> None:
        self.function = function

    def __call__(self, rectifier: Rectifier, g: tf.Tensor) -> tf.Tensor:
        """Return what the user's function makes of the rectifier."""
        result = tf.convert_to_tensor(self.function(rectifier.x, rectifier.y, g))
        if not result.shape.is_compatible_with(g.shape):
            raise InvalidParameterError(
                f"a `backprop_modifier` that returns the gradient's shape {g.shape}",
                f"one that returns {result.shape}",
                "A rule works element by element.",
            )
        return tf.cast(result, g.dtype)


class Rectifiers(RuleSet):
    """One rule for every rectifier; everything else keeps its derivative.

    A layer that computes a rectifier by several ops is one. The gate of a hard sigmoid is none.
    """

    noun = "rectifiers (ReLU and its kin)"
    needs_every_op = False

    def __init__(self, rule: RectifierRule) -> None:
        super().__init__(dict.fromkeys(SLOPES, self._at))
        self._rule = rule

    @property
    def key(self) -> tuple[Any, ...]:
        """A hashable value, equal for rules under which the same is traced."""
        return (type(self), HeldCallable(getattr(self._rule, "function", self._rule)))

    def _at(self, step: Step) -> tf.Tensor:
        (x, *_), (y, *_), (g, *_) = step.inputs, step.outputs, step.gradients
        slope = SLOPES[step.op.type]
        return self._rule(Rectifier(x, y, slope, lambda g: step.plain(g)[0]), g)

    def is_exempt(self, op: tf.Operation) -> bool:
        """Tell whether an op is the gate of a hard sigmoid or hard swish."""
        return _is_gate(op)

    def refused(self, op: tf.Operation) -> str | None:
        """Return how a rectifier is called that several ops make, if `op` is one of its last."""
        return _composite(op)

    def left(self, node: Any) -> str | None:
        """Return the name of a smooth activation."""
        if isinstance(node, tf.Operation):
            return _smooth_name(node) if node.type in _SMOOTH else None
        return _SMOOTH.get(node.op)

    def is_unit(self, layer: Any) -> bool:
        """Tell whether a layer is a rectifier that it computes by several ops."""
        return keras_compat.is_composite_rectifier(layer)

    def unit(self, layer: Any, original: Callable[..., Any], args: Any, kwargs: Any) -> Unit:
        """Run such a layer so that its output is made by one op, a leaky ReLU of slope 1."""
        x = tf.convert_to_tensor(args[0])
        y = original(x, *args[1:], **kwargs)
        passed = tf.stop_gradient(y) + (x - tf.stop_gradient(x))
        output = tf.raw_ops.LeakyRelu(features=passed, alpha=1.0)
        return Unit(output, x, y, lambda x: original(x, *args[1:], **kwargs))


def _is_gate(op: tf.Operation) -> bool:
    """Tell whether a ReLU6 is the gate of a hard sigmoid or hard swish: relu6(x + 3) / 6."""
    if op.type != "Relu6" or op.inputs[0].op.type not in ("AddV2", "Add", "BiasAdd"):
        return False
    if not any(_constant(tensor) == 3.0 for tensor in op.inputs[0].op.inputs):
        return False
    scales = {"Mul": 1.0 / 6.0, "RealDiv": 6.0}
    consumers = op.outputs[0].consumers()
    return bool(consumers) and all(
        consumer.type in scales
        and any(
            value is not None and abs(value - scales[consumer.type]) < 1e-3
            for value in map(_constant, consumer.inputs)
        )
        for consumer in consumers
        if "grad" not in consumer.type.lower() and not consumer.name.startswith("gradient")
    )


def _composite(op: tf.Operation) -> str | None:
    """Return the name of a rectifier that several ops make, if `op` is the last but one of it."""
    if op.type == "Relu":
        if any(map(_is_limit, op.outputs[0].consumers())):
            return f"a ReLU with a maximum at {op.name!r}"
        if _is_negated(op.inputs[0].op):
            scaled = [c for c in op.outputs[0].consumers() if c.type in ("Mul", "Neg")]
            last = [c.type for op_ in scaled for c in op_.outputs[0].consumers()]
            if {"Add", "AddV2", "Sub"} & set(last):
                return f"a ReLU with a negative slope at {op.name!r}"
    if op.type == "Maximum" and any(_constant(tensor) == 0.0 for tensor in op.inputs):
        return f"a maximum with zero at {op.name!r}"
    if op.type in ("Mul", "SelectV2", "Select"):
        for tensor in op.inputs:
            test = tensor.op.inputs[0].op if tensor.op.type == "Cast" else tensor.op
            if test.type in _COMPARISONS and any(test.inputs[0] is other for other in op.inputs):
                return f"a ReLU with a threshold at {op.name!r}"
            if op.type != "Mul" and tensor.op.type == "Elu":
                return f"an ELU with a slope at {op.name!r}"
    return None


def _is_limit(op: tf.Operation) -> bool:
    limits = op.type in ("Minimum", "ClipByValue")
    return limits and any(_constant(tensor) is not None for tensor in op.inputs)


def _is_negated(op: tf.Operation) -> bool:
    if op.type in ("Add", "AddV2") and any(_constant(tensor) is not None for tensor in op.inputs):
        return any(tensor.op.type == "Neg" for tensor in op.inputs)
    return bool(op.type == "Neg")


def _constant(tensor: tf.Tensor) -> float | None:
    """Return the value of a scalar constant, also behind a cast; ``None`` for anything else."""
    while tensor.op.type in ("Cast", "Identity"):
        tensor = tensor.op.inputs[0]
    value = tf.get_static_value(tensor)
    return float(value) if value is not None and value.size == 1 else None


def _smooth_name(op: tf.Operation) -> str:
    if "gelu" in op.name.lower():
        return "gelu"
    if op.type == "Sigmoid":
        # swish is x·σ(x), or x·σ(βx)
        inner = {op.inputs[0].name, *(tensor.name for tensor in op.inputs[0].op.inputs)}
        for consumer in op.outputs[0].consumers():
            if consumer.type == "Mul" and any(other.name in inner for other in consumer.inputs):
                return "swish"
    return _SMOOTH[op.type]
