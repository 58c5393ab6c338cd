"""Which tensors of a graph depend on some others, also inside of loops and branches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from xplique_sal._tracing.graphs import gradient_inputs

_LOOPS = ("While", "StatelessWhile")
_BRANCHES = ("If", "StatelessIf")


class Dependence:
    """Which tensors depend on some sources, so that a gradient could flow.

    What is constant by it is a weight, or is computed of weights alone.

    Parameters
    ----------
    sources
        Tensors of one graph.
    """

    def __init__(self, sources: Sequence[tf.Tensor]) -> None:
        self._dependent = {_key(tensor) for tensor in sources}
        self._seen: set[tuple[int, str]] = set()
        self._ops: dict[tuple[int, str], tf.Operation] = {}
        self._graphs: dict[int, Any] = {}  # held, so that no other gets an id of theirs

    def reaches(self, tensor: tf.Tensor) -> bool:
        """Tell whether a tensor depends on a source; that of a body, whether it ever does."""
        if _key(tensor) in self._dependent:
            return True
        if (id(tensor.graph), tensor.op.name) not in self._seen:
            self._read(tensor.graph)  # it has grown
        return _key(tensor) in self._dependent

    def knows(self, graph: Any) -> bool:
        """Tell whether it was found out what calls a graph, and with what."""
        return id(graph) in self._graphs

    def ops(self, graph: Any) -> list[tf.Operation]:
        """Return all operations of a graph that depend on a source, and of its loops' bodies."""
        self._read(graph)
        return list(self._ops.values())

    def _read(self, graph: Any) -> None:
        self._graphs[id(graph)] = graph
        for op in graph.get_operations():
            key = (id(graph), op.name)
            if key not in self._seen:
                self._seen.add(key)
                self._follow(op)

    def _follow(self, op: tf.Operation) -> None:
        given = {id(tensor) for tensor in gradient_inputs(op)}
        flags = [id(tensor) in given and self.reaches(tensor) for tensor in op.inputs]
        if not any(flags):
            return
        if op.type in _LOOPS and hasattr(op, "_body_graph"):
            results = self._through_loop(op._body_graph, flags)
        elif op.type in _BRANCHES and hasattr(op, "_true_graph"):
            bodies = (op._true_graph, op._false_graph)
            each = [self._through(body, flags[1:]) for body in bodies]
            results = [any(pair) for pair in zip(*each, strict=True)]
        else:
            results = [True] * len(op.outputs)
        for tensor, depends in zip(op.outputs, results, strict=False):
            if depends and (tensor.dtype.is_floating or tensor.dtype == tf.variant):
                self._dependent.add(_key(tensor))
                self._ops[id(op.graph), op.name] = op

    def _through_loop(self, body: Any, flags: list[bool]) -> list[bool]:
        """Return which variables of a loop depend on a source after any number of steps."""
        while True:
            after = self._through(body, flags)
            both = [before or now for before, now in zip(flags, after, strict=True)]
            if both == flags:
                return both
            flags = both

    def _through(self, body: Any, flags: Sequence[bool]) -> list[bool]:
        """Return which outputs of a function depend on a source, given which inputs do."""
        self._seen -= {(id(body), op.name) for op in body.get_operations()}
        for tensor, depends in zip(body.inputs, flags, strict=True):
            if depends:
                self._dependent.add(_key(tensor))
        self._read(body)
        return [_key(tensor) in self._dependent for tensor in body.outputs]


def _key(tensor: tf.Tensor) -> tuple[int, str]:
    return id(tensor.graph), tensor.name
