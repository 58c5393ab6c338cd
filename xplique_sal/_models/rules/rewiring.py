"""Making a gradient follow a rule at every rectifier of a model, without touching the model.

While a gradient is being traced, the gradient functions that TensorFlow has registered for the
rectifier ops are replaced, for this thread, by ones that ask the rule. That reaches rectifiers in
nested and subclassed models, branches, loops, recurrent cells and recomputed blocks alike, because
every one of them is differentiated by looking its op up. What is not differentiated that way is
found by reading the graph afterwards, and is an error: a rule that silently gives the plain
gradient would be a wrong map.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from xplique_sal._models.invoke import call_with_autograph
from xplique_sal._models.rules import coverage
from xplique_sal._models.rules.coverage import SLOPES
from xplique_sal._models.rules.rectifiers import Rectifier, Rule
from xplique_sal._tracing import keras_compat, wrapping
from xplique_sal.errors import NothingRewiredError

#: The ops of a function that computes a convolution and nothing else.
_CONVOLVING = frozenset(
    {"Conv2D", "Conv3D", "DepthwiseConv2dNative", "SpaceToBatchND", "BatchToSpaceND", "Reshape"}
    | {"ExpandDims", "Squeeze", "Transpose", "Pad", "Identity", "Cast", "ReadVariableOp", "NoOp"}
    | {"Placeholder", "Const", "Shape", "StridedSlice", "Pack", "ConcatV2", "BiasAdd"}
)


class Rewiring(NamedTuple):
    """What a backprop modifier did to a gradient.

    Attributes
    ----------
    rectifiers
        How many rectifiers followed the rule.
    smooth
        The names of the smooth activations that were left as they are.
    gates
        How many ReLU6 were left because they are the gates of a hard sigmoid or hard swish.
    """

    rectifiers: int
    smooth: tuple[str, ...]
    gates: int


class Rewirer:
    """The rule at work during one trace.

    Parameters
    ----------
    rule
        What replaces the derivative of each rectifier.

    Attributes
    ----------
    done
        What the rule did, once it has been at work.
    """

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._model_ops: set[tuple[int, str]] = set()
        self._other_ops: set[tuple[int, str]] = set()
        self._units: dict[tuple[int, str], Rectifier] = {}
        self._reached: set[tuple[int, str]] = set()
        self._gates: set[tuple[int, str]] = set()
        self.done: Rewiring | None = None

    @contextlib.contextmanager
    def forward(self, model: Any) -> Iterator[None]:
        """Run a model in this block: what it adds to the graph follows the rule."""
        graph = tf.compat.v1.get_default_graph()
        before = {op.name for op in graph.get_operations()}
        units = []
        if keras_compat.is_layer(model):
            units = [
                layer
                for layer in keras_compat.all_layers(model)
                if keras_compat.is_composite_rectifier(layer)
            ]
        with (
            wrapping.functions_inlined(call_with_autograph, _only_convolves),
            wrapping.calls_passed_through(units, self._as_unit),
        ):
            yield
        self._model_ops |= {
            (id(graph), op.name) for op in graph.get_operations() if op.name not in before
        }

    def _as_unit(self, layer: Any, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run a rectifier layer of several ops so that its gradient is asked for once.

        Its output is made of one op that follows the rule, a leaky ReLU of slope 1, on a tensor of
        which the value is y and the gradient goes to x unchanged.
        """
        x = tf.convert_to_tensor(args[0])
        y = original(x, *args[1:], **kwargs)
        unit = tf.raw_ops.LeakyRelu(
            features=tf.stop_gradient(y) + (x - tf.stop_gradient(x)), alpha=1.0
        )

        def backward(g: tf.Tensor) -> tf.Tensor:
            with _gradients_replaced(SLOPES, lambda plain, op, *gs: plain(op, *gs)):
                with tf.GradientTape() as tape:
                    tape.watch(x)
                    again = original(x, *args[1:], **kwargs)
                return tape.gradient(again, x, output_gradients=g)

        self._units[_key(unit.op)] = Rectifier(x, y, 1.0, backward)
        return unit

    @contextlib.contextmanager
    def backward(
        self, sources: Sequence[tf.Tensor], scores: tf.Tensor, explained: tf.Tensor
    ) -> Iterator[None]:
        """Differentiate `scores` to `sources` in this block, under the rule.

        Parameters
        ----------
        sources, scores
            What is differentiated to what.
        explained
            The model's output between them.

        Raises
        ------
        NothingRewiredError
            If no rectifier was reached, or one that is there was not.
        """
        graph = tf.compat.v1.get_default_graph()
        self._other_ops = {
            (id(graph), op.name)
            for op in graph.get_operations()
            if (id(graph), op.name) not in self._model_ops
        }
        found = coverage.between(sources, scores, explained, self._model_ops)
        if found.composite:
            raise NothingRewiredError(
                "rectifiers that TensorFlow runs as one op, or layers of Keras",
                f"{found.composite}, made of several",
                "Use the layer `ReLU`, `LeakyReLU`, `PReLU` or `ELU` for it.",
            )
        if found.compiled:
            # Before anything is differentiated: the function would keep the rule for everybody.
            raise _unreached([found.compiled])
        with _gradients_replaced(SLOPES, self._gradient):
            yield
        missing = self._missing(found.rectifiers)
        if missing:
            raise _unreached(missing)
        rewired = len(self._reached - self._gates)
        if not rewired:
            left = [*found.smooth, *(["hard gates (ReLU6)"] if self._gates else [])]
            has = ", ".join(left) if left else "no activation"
            raise NothingRewiredError(
                "a model with rectifiers (ReLU and its kin) for the `backprop_modifier`",
                f"one with {has} between what is explained and the input",
                "Leave `backprop_modifier` out: the rule would change nothing.",
            )
        self.done = Rewiring(rewired, found.smooth, len(self._gates))

    def _gradient(self, original: Callable[..., Any], op: Any, g: tf.Tensor) -> Any:
        forward = self._operation(op)
        key = _key(forward)
        if key in self._other_ops:
            return original(op, g)
        self._reached.add(key)
        if coverage.is_gate(forward):
            self._gates.add(key)
            return original(op, g)
        rectifier = self._units.get(key) or Rectifier(
            forward.inputs[0], forward.outputs[0], SLOPES[forward.type], lambda g: original(op, g)
        )
        return self._rule(rectifier, g)

    def _operation(self, op: Any) -> tf.Operation:
        """Return the op that is differentiated.

        A tape gives a stand-in for it, without the inputs or the outputs that its derivative does
        not need.
        """
        if getattr(op, "outputs", None):
            return op.outputs[0].op
        ops = [user for user in op.inputs[0].consumers() if user.type in SLOPES]
        return next((user for user in ops if _key(user) not in self._reached), ops[0])

    def _missing(self, rectifiers: Sequence[str]) -> list[str]:
        """Return the rectifiers that were not asked for their gradient.

        A recomputed block (`tf.recompute_grad`) hides its ops, and runs them again while it is
        differentiated: as many were reached then as are missing.
        """
        reached = Counter(name for _, name in self._reached)
        expected = Counter(rectifiers)
        missing = list((expected - reached).elements())
        again = sum((reached - expected).values())
        return missing if len(missing) > again else []


def _only_convolves(graph: Any) -> bool:
    """Tell whether a function holds nothing but a convolution, which no rule is for."""
    return {op.type for op in graph.get_operations()} <= _CONVOLVING


def _unreached(names: Sequence[str]) -> NothingRewiredError:
    return NothingRewiredError(
        "a backprop modifier to reach every rectifier of the model",
        f"one that could not reach {', '.join(map(repr, names[:3]))}",
        "It is inside a compiled function (a SavedModel is one) or a custom gradient, whose own "
        "gradient counts. Explain the Keras model that it was made from.",
    )


def _key(op: tf.Operation) -> tuple[int, str]:
    return id(op.graph), op.name


def _registry() -> dict[str, Any]:
    """Return what TensorFlow looks gradient functions up in: ``registry[op type]["type"]``.

    Raises
    ------
    NothingRewiredError
        If this TensorFlow keeps them elsewhere or in another form.
    """
    try:
        from tensorflow.python.framework import ops

        registry = ops.gradient_registry._registry
        if callable(registry["Relu"]["type"]):
            return registry
    except (ImportError, AttributeError, KeyError, TypeError):
        pass
    raise NothingRewiredError(
        "a TensorFlow of which a `backprop_modifier` can replace the gradients",
        f"TensorFlow {tf.__version__}, which keeps them in another form",
        "Leave `backprop_modifier` out, or use a TensorFlow that `xplique_sal.versions()` lists.",
    )


@contextlib.contextmanager
def _gradients_replaced(types: Any, gradient: Callable[..., Any]) -> Iterator[None]:
    """Ask ``gradient(original, op, *gradients)`` for the gradient of ops of `types`.

    TensorFlow's registry is one for all threads: others get the original.
    """
    registry = _registry()
    thread = threading.get_ident()
    saved = {op_type: registry[op_type]["type"] for op_type in types if op_type in registry}

    def replacement(original: Callable[..., Any], inner: Callable[..., Any]) -> Any:
        def replaced(op: Any, *gradients: Any) -> Any:
            if threading.get_ident() != thread:
                return inner(op, *gradients)
            return gradient(original, op, *gradients)

        return replaced

    for op_type, current in saved.items():
        original = _ORIGINALS.setdefault(op_type, current)
        registry[op_type]["type"] = replacement(original, current)
    try:
        yield
    finally:
        for op_type, current in saved.items():
            registry[op_type]["type"] = current


#: TensorFlow's own gradient functions, as they were when first replaced.
_ORIGINALS: dict[str, Callable[..., Any]] = {}
