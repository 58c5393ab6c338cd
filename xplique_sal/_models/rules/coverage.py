"""Which operations lie on the way of a gradient through a traced graph, and have which rule."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import NamedTuple

import tensorflow as tf

from xplique_sal._models.rules.rule_set import RuleSet
from xplique_sal._tracing import graphs
from xplique_sal._tracing.dependence import Dependence


class Found(NamedTuple):
    """What lies between an input and an output.

    Attributes
    ----------
    ruled
        The name of each operation that has a rule, also inside loops, branches and functions.
    left
        What a user is told keeps its derivative, each once.
    refused
        How an operation is called that the rules cannot be followed at, if there is one.
    uncovered
        An operation that has no rule and may not keep its derivative, if there is one.
    compiled
        A compiled function with an operation inside that has a rule, if there is one.
    """

    ruled: list[str]
    left: tuple[str, ...]
    refused: str | None
    uncovered: tf.Operation | None
    compiled: str | None


def between(
    sources: Sequence[tf.Tensor],
    scores: tf.Tensor,
    explained: tf.Tensor,
    model_ops: Set[tuple[int, str]],
    rules: RuleSet,
) -> Found:
    """Return what lies between `sources` and `scores`, of the ops of a model.

    Parameters
    ----------
    sources, scores
        Tensors of one graph.
    explained
        The model's output, of which the own activation does not count as left.
    model_ops
        The graph's id and the name of each op that counts.
    rules
        What is done at which operation.
    """
    graph = scores.graph
    ways = graphs.on_the_way(sources, scores)
    ops = [op for op in ways if (id(graph), op.name) in model_ops]
    ruled: list[str] = []
    left: dict[str, None] = {}
    refused = compiled = None
    uncovered: tf.Operation | None = None
    dependent: set[str] | None = None
    known = graphs.library(graph, ops)
    if rules.kept is not None:
        inner = [op for op in Dependence(sources).ops(graph) if op.graph is not graph]
        loose = [op for op in inner if op.type not in rules.rules and not rules.keeps(op.type)]
        uncovered = loose[0] if loose else None
        # A loop counts its steps, too: only what depends on a source is asked.
        dependent = {op.name for op in inner}
    for op in ops:
        if op.type in rules.rules:
            ruled.append(op.name)
        elif not rules.keeps(op.type):
            uncovered = uncovered or op
        refused = refused or rules.refused(op)
        if op.outputs[0] is not explained:
            left[rules.left(op) or ""] = None
        for name in graphs.functions_called(op.node_def):
            for node, function in graphs.nodes(known, name, op.type):
                counts = dependent is None or function is not None or node.name in dependent
                if node.op in rules.rules and counts:
                    ruled.append(node.name)
                    compiled = compiled or function
                left[rules.left(node) or ""] = None
    left.pop("", None)
    return Found(ruled, tuple(left), refused, uncovered, compiled)
