"""Making a gradient follow rules at the operations of a model, without touching the model.

While a gradient is being traced, the gradient functions that TensorFlow has registered for the
types of ops that have a rule are replaced, for this thread, by ones that ask it. That reaches ops
in nested and subclassed models, branches, loops, recurrent cells and recomputed blocks alike,
because every one of them is differentiated by looking its op up. What is not differentiated that
way is found by reading the graph afterwards, and is an error: a rule that silently gives the plain
gradient would be a wrong map.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from xplique_sal._models.invoke import call_with_autograph
from xplique_sal._models.rules import coverage
from xplique_sal._models.rules.rule_set import RuleSet, Step, Unit, gradients_of, named
from xplique_sal._tracing import graphs, keras_compat, layer_paths, reached, wrapping
from xplique_sal._tracing.dependence import Dependence
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
    """A rule set at work during one trace.

    Parameters
    ----------
    rules
        What replaces the derivatives.

    Attributes
    ----------
    done
        What the rules did, once they have been at work.
    reaches_scores
        Whether the rules are followed between the model's output and the score.
    """

    def __init__(self, rules: RuleSet) -> None:
        self._rules, self.reaches_scores = rules, rules.reaches_scores
        self._model_ops: set[tuple[int, str]] = set()
        self._other_ops: set[tuple[int, str]] = set()
        self._units: dict[tuple[int, str], Unit] = {}
        self._reached: set[tuple[int, str]] = set()
        self._exempt: set[tuple[int, str]] = set()
        self._paused = False
        self._layers: dict[tuple[int, str], Any] = {}
        self._paths: dict[int, str] = {}
        self._model: Any = None
        self._dependence = Dependence([])
        self._on_the_way: set[tuple[int, str]] = set()
        self.order: list[tf.Operation] = []
        self._graph: Any = None
        self.kept: dict[str, Any] = {}
        self._cut: set[tuple[str, int]] = set()
        self.done: Rewiring | None = None

    @contextlib.contextmanager
    def forward(self, model: Any) -> Iterator[None]:
        """Run a model in this block: what it adds to the graph follows the rules."""
        graph = tf.compat.v1.get_default_graph()
        before = {op.name for op in graph.get_operations()}
        units = [layer for layer in reached.all_layers_in(model) if self._rules.is_unit(layer)]
        with (
            wrapping.functions_inlined(call_with_autograph, self._only_convolves),
            wrapping.calls_passed_through(units, self._as_unit),
            _recorded_in_full(self._rules.rules),
            _own_gradients_left_out() if self._rules.needs_every_op else contextlib.nullcontext(),
        ):
            yield
        self._model_ops |= {
            (id(graph), op.name) for op in graph.get_operations() if op.name not in before
        }

    def scoring(self) -> contextlib.AbstractContextManager[None]:
        """Run an operator in this block: where the rules reach scores, it can follow them."""
        if self._rules.reaches_scores:
            return _recorded_in_full(self._rules.rules)
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def seeing_layers(self, model: Any) -> Iterator[None]:
        """Note which layer makes which operations of the model that runs in this block."""
        if not self._rules.needs_every_op:
            yield
            return
        self._model = model
        inner = [layer for layer in reached.all_layers_in(model) if layer is not model]
        with wrapping.calls_passed_through(inner, self._noted):
            yield

    def _noted(self, layer: Any, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        graph = tf.compat.v1.get_default_graph()
        before = len(graph.get_operations())
        result = original(*args, **kwargs)
        for op in graph.get_operations()[before:]:
            self._layers.setdefault(_key(op), layer)  # a layer inside noted its own before
        return result

    def depends(self, tensor: tf.Tensor) -> bool:
        """Tell whether a tensor depends on what is differentiated to: a weight does not."""
        return self._dependence.reaches(tensor)

    def layer(self, op: tf.Operation) -> Any | None:
        """Return the innermost layer that made an operation, if one did."""
        return self._layers.get(_key(op))

    def path(self, op: tf.Operation) -> str | None:
        """Return the path of that layer."""
        layer = self.layer(op)
        if layer is None:
            return None
        if id(layer) not in self._paths:
            self._paths[id(layer)] = layer_paths.path_of(self._model, layer) or layer.name
        return self._paths[id(layer)]

    def is_normalization(self, op: tf.Operation) -> bool:
        """Tell whether a batch normalisation made an operation."""
        layer = self.layer(op)
        return layer is not None and keras_compat.is_batch_normalization(layer)

    def users(self, tensor: tf.Tensor) -> list[tf.Operation]:
        """Return the operations on the way to the score that take a tensor."""
        return [op for op in tensor.consumers() if _key(op) in self._on_the_way]

    def derivative(self, op: tf.Operation, *gradients: Any) -> list[Any]:
        """Return the derivative of any operation, in which none follows a rule."""
        known = _ORIGINALS.get(op.type)
        result = (known or _registry()[op.type]["type"])(op, *gradients)
        return list(result) if isinstance(result, (list, tuple)) else [result]

    def _follow(self, sources: Sequence[tf.Tensor], scores: tf.Tensor) -> None:
        """Find out what lies between, once, before there are operations of the gradient."""
        self.kept, self._graph = {}, scores.graph
        self._dependence = Dependence(sources)
        self.order = graphs.on_the_way(sources, scores)
        inner = [op for op in self._dependence.ops(scores.graph) if op.graph is not scores.graph]
        self._on_the_way = {_key(op) for op in [*self.order, *inner]}

    def _as_unit(self, layer: Any, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        unit = self._rules.unit(layer, original, args, kwargs)
        if not isinstance(unit, Unit):
            return unit
        self._units[_key(unit.output.op)] = unit
        return unit.output

    def _only_convolves(self, graph: Any) -> bool:
        """Tell whether a function holds nothing but a convolution, for which there is no rule."""
        types = {op.type for op in graph.get_operations()}
        return types <= _CONVOLVING and not types & set(self._rules.rules)

    @contextlib.contextmanager
    def backward(
        self, sources: Sequence[tf.Tensor], scores: tf.Tensor, explained: tf.Tensor
    ) -> Iterator[None]:
        """Differentiate `scores` to `sources` in this block, under the rules.

        Parameters
        ----------
        sources, scores
            What is differentiated to what.
        explained
            The model's output between them.

        Raises
        ------
        NothingRewiredError
            If no operation with a rule was reached, or one that is there was not; if there is one
            that the rules do not cover.
        """
        graph = tf.compat.v1.get_default_graph()
        if self.reaches_scores:
            self._model_ops |= {(id(graph), op.name) for op in graph.get_operations()}
        self._other_ops = {
            (id(graph), op.name)
            for op in graph.get_operations()
            if (id(graph), op.name) not in self._model_ops
        }
        found = coverage.between(sources, scores, explained, self._model_ops, self._rules)
        if found.refused:
            raise NothingRewiredError(
                "rectifiers that TensorFlow runs as one op, or layers of Keras",
                f"{found.refused}, made of several",
                "Use the layer `ReLU`, `LeakyReLU`, `PReLU` or `ELU` for it.",
            )
        if found.uncovered is not None:
            raise NothingRewiredError(
                f"a rule for every operation on the way: {_some(self._rules.rules)}",
                named(found.uncovered, self),
                self._rules.remedy,
            )
        if found.compiled:
            # Before anything is differentiated: the function would keep the rule for everybody.
            raise _unreached([found.compiled])
        if self._rules.needs_every_op:
            self._follow(sources, scores)
        with _gradients_replaced(self._rules.rules, self._gradient):
            yield
        missing = self._missing(found.ruled)
        if missing and self._cut:
            after = {op.name for op in graphs.on_the_way(sources, scores, self._cut)}
            missing = [name for name in missing if name in after]
        if missing:
            raise _unreached(missing)
        rewired = len(self._reached - self._exempt)
        if not rewired and self._rules.needs_one:
            left = [*found.left, *(["hard gates (ReLU6)"] if self._exempt else [])]
            has = ", ".join(left) if left else "no activation"
            raise NothingRewiredError(
                f"a model with {self._rules.noun} for the `backprop_modifier`",
                f"one with {has} between what is explained and the input",
                "Leave `backprop_modifier` out: the rule would change nothing.",
            )
        self.done = Rewiring(rewired, found.left, len(self._exempt))

    def _gradient(self, original: Callable[..., Any], op: Any, *gradients: Any) -> Any:
        if not getattr(op, "outputs", None):
            return original(op, *gradients)  # not the model's: those are recorded in full
        forward = op.outputs[0].op  # a tape gives a stand-in for it, without its attributes
        key = _key(forward)
        if self._paused or key in self._other_ops:
            return original(forward, *gradients)
        if self._rules.needs_every_op and forward.graph is not self._graph:
            if not self._dependence.knows(forward.graph):
                raise _unreached([forward.name])
            if not any(map(self.depends, forward.inputs)):
                return original(forward, *gradients)  # a loop's gradient is that of weights too
        self._reached.add(key)
        if self._rules.is_exempt(forward):
            self._exempt.add(key)
            return original(forward, *gradients)
        unit = self._units.get(key)
        if unit is not None:
            step = Step(forward, (unit.x,), (unit.y,), gradients, self._through(unit), self)
        else:

            def plain(*gradients: Any, at: Any = None) -> list[Any]:
                result = original(forward if at is None else _Elsewhere(forward, *at), *gradients)
                return list(result) if isinstance(result, (list, tuple)) else [result]

            step = Step(
                forward, tuple(forward.inputs), tuple(forward.outputs), gradients, plain, self
            )
        result = gradients_of(self._rules.rules[forward.type], step)
        return self._without_cuts(forward, result)

    def _without_cuts(self, op: tf.Operation, gradients: list[Any]) -> list[Any]:
        """Note to which activations a rule lets nothing go on, of which the makers go unasked.

        Inside of loops and branches zeros go on: what they call is known by names alone.
        """
        if not self._rules.needs_every_op:
            return gradients
        for number, (tensor, gradient) in enumerate(zip(op.inputs, gradients, strict=False)):
            if gradient is None and self.depends(tensor):
                if (id(op.graph), op.name) in self._model_ops:
                    self._cut.add((op.name, number))
                else:
                    gradients[number] = tf.zeros_like(tensor)
        return gradients

    def _through(self, unit: Unit) -> Callable[..., list[Any]]:
        """Return the derivative of a unit, in which no operation follows a rule by itself."""

        def plain(g: tf.Tensor) -> list[Any]:
            self._paused = True
            try:
                with tf.GradientTape() as tape:
                    tape.watch(unit.x)
                    again = unit.run(unit.x)
                return [tape.gradient(again, unit.x, output_gradients=g)]
            finally:
                self._paused = False

        return plain

    def _missing(self, ruled: Sequence[str]) -> list[str]:
        """Return the operations that were not asked for their gradient.

        A recomputed block (`tf.recompute_grad`) hides its ops, and runs them again while it is
        differentiated: as many were reached then as are missing.
        """
        reached = Counter(name for _, name in self._reached)
        expected = Counter(ruled)
        missing = list((expected - reached).elements())
        again = sum((reached - expected).values())
        return missing if len(missing) > again else []


class _Elsewhere:
    """An operation as a gradient function sees it, with other inputs and outputs."""

    def __init__(self, op: tf.Operation, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        self._op, self.inputs, self.outputs = op, inputs, outputs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._op, name)


def _unreached(names: Sequence[str]) -> NothingRewiredError:
    return NothingRewiredError(
        "a backprop modifier to reach every operation of the model that it is for",
        f"one that could not reach {', '.join(map(repr, names[:3]))}",
        "It is inside a compiled function (a SavedModel is one) or a custom gradient, whose own "
        "gradient counts. Explain the Keras model that it was made from.",
    )


def _some(types: Collection[str]) -> str:
    """Return types of operations as a list, which does not get too long."""
    names = sorted(types)
    return ", ".join(names if len(names) < 9 else [*names[:8], f"and {len(names) - 8} others"])


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


#: What tapes keep an operation's record under, so that they keep all of its tensors.
_IN_FULL = "InFull>"


@contextlib.contextmanager
def _recorded_in_full(types: Any) -> Iterator[None]:
    """Let tapes keep all tensors of ops of `types` that this thread runs.

    A tape drops those that the derivative does not need, which it looks up by the op's type: it has
    no such list for a name that it does not know.
    """
    try:
        from tensorflow.python.eager import execute

        original = execute.record_gradient
    except (ImportError, AttributeError):
        yield
        return
    registry = _registry()
    thread = threading.get_ident()
    known = {op_type: registry[op_type] for op_type in types if op_type in registry}

    def record(op_name: str, *rest: Any) -> Any:
        ours = op_name in known and threading.get_ident() == thread
        return original(_IN_FULL + op_name if ours else op_name, *rest)

    for op_type, entry in known.items():
        # For a tape of the model's own: it differentiates while the model runs.
        registry[_IN_FULL + op_type] = {**entry, "type": _of_the_op(entry["type"])}
    execute.record_gradient = record
    try:
        yield
    finally:
        execute.record_gradient = original
        for op_type in known:
            registry.pop(_IN_FULL + op_type, None)


def _of_the_op(gradient: Callable[..., Any]) -> Callable[..., Any]:
    """Return a gradient function that is given the op itself, not a tape's stand-in for it."""
    return lambda op, *gradients: gradient(op.outputs[0].op, *gradients)


@contextlib.contextmanager
def _own_gradients_left_out() -> Iterator[None]:
    """Let functions with a custom gradient, that this thread traces, be the operations inside.

    Rules are for those: a swish is a sigmoid and a product. A TensorFlow in which that cannot be
    done keeps the gradients, and operations behind them are missed.
    """
    try:
        from tensorflow.python.ops import custom_gradient

        original = custom_gradient._graph_mode_decorator
    except (ImportError, AttributeError):
        yield
        return
    thread = threading.get_ident()

    def decorate(function: Any, args: Any, kwargs: Any) -> Any:
        if threading.get_ident() != thread or kwargs:
            return original(function, args, kwargs)
        result, _ = function(*tf.nest.map_structure(tf.convert_to_tensor, args))
        return tf.nest.map_structure(tf.convert_to_tensor, result)

    custom_gradient._graph_mode_decorator = decorate
    try:
        yield
    finally:
        custom_gradient._graph_mode_decorator = original


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
        replaced = replacement(original, current)
        registry[op_type]["type"] = replaced
        registry[_IN_FULL + op_type] = {**registry[op_type], "type": replaced}
    try:
        yield
    finally:
        for op_type, current in saved.items():
            registry[op_type]["type"] = current
            registry.pop(_IN_FULL + op_type, None)


#: TensorFlow's own gradient functions, as they were when first replaced.
_ORIGINALS: dict[str, Callable[..., Any]] = {}
