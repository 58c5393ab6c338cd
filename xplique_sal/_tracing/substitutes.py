"""Running a traced function as if variables had other values; nothing is written anywhere.

A traced function is handed the variables that it reads. What stands in for some of them is handed
over in their place, to the same graph, by the thread that asks for it and for the length of a
block: the variables themselves, and every other thread, know nothing of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import tensorflow as tf

from xplique_sal._tracing.graphs import resources_behind
from xplique_sal.errors import InvalidModelError

#: What stands in for which variable, by the id of its handle; ``None`` outside of a block.
_standing_in: ContextVar[Mapping[int, tf.Variable] | None] = ContextVar("standing_in", default=None)

#: Whether what is run may do without any of them.
_is_part: ContextVar[bool] = ContextVar("is_part", default=False)


@contextlib.contextmanager
def of_a_part() -> Iterator[None]:
    """Let what is run in the block read none of the variables that are replaced.

    It is a part of what is asked, such as the output of a layer below them, and another part of it
    reads them.
    """
    token = _is_part.set(True)
    try:
        yield
    finally:
        _is_part.reset(token)


@contextlib.contextmanager
def substituted(substitutes: Sequence[tuple[tf.Variable, tf.Variable]]) -> Iterator[None]:
    """Let what this thread runs in the block read other variables in place of some.

    Parameters
    ----------
    substitutes
        Pairs of a variable and what stands in for it, of its shape and dtype.
    """
    known = {id(variable.handle): other for variable, other in substitutes}
    token = _standing_in.set(known)
    try:
        yield
    finally:
        _standing_in.reset(token)


def is_active() -> bool:
    """Tell whether this thread reads other variables."""
    return _standing_in.get() is not None


def read_by(function: Any) -> list[tf.Variable]:
    """Return the variables that what a traced function returns depends on, in the order of reads.

    Those that it changes itself, such as the state of a generator, are left out by who asks.
    """
    by_handle = {id(variable.handle): variable for variable in function.variables}
    behind = {id(resource) for resource in resources_behind(function.graph)}
    read = [id(outer) for outer, _ in function.graph.captures if id(outer) in behind]
    return [by_handle[handle] for handle in read if handle in by_handle]


class Substitutable:
    """A traced function whose variables can be replaced, of the same graph.

    Parameters
    ----------
    function
        A concrete function.
    """

    def __init__(self, function: Any) -> None:
        graph = function.graph
        definition, names = graph.as_graph_def(), [tensor.name for tensor in graph.inputs]
        outputs = [tensor.name for tensor in graph.outputs if tensor is not None]

        def run(*tensors: tf.Tensor) -> list[tf.Tensor]:
            given = dict(zip(names, tensors, strict=True))
            return tf.graph_util.import_graph_def(definition, given, outputs, name="")

        specs = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in graph.inputs]
        self._run = tf.function(run, autograph=False).get_concrete_function(*specs)
        self._structure = function.structured_outputs
        self._captured = [outer for outer, _ in graph.captures]
        self._needed = {id(resource) for resource in resources_behind(graph)}

    def __call__(self, *tensors: Any) -> Any:
        """Return what the function returns of the variables that stand in.

        Raises
        ------
        InvalidModelError
            If it reads none of those that are replaced, so that nothing would be changed, and is
            all that is asked.
        """
        known = _standing_in.get() or {}
        others = [known.get(id(outer)) for outer in self._captured]
        if not self._needed & known.keys() and not _is_part.get():
            raise InvalidModelError(
                "an explainer of the model whose variables are replaced",
                "one that reads none of those that were replaced first",
                "Give the metric the model, and the `output_layer` and `output`, of the explainer; "
                "a model in the scope of a strategy can not be randomised.",
            )
        handles = [
            outer if other is None else other.handle
            for outer, other in zip(self._captured, others, strict=True)
        ]
        return tf.nest.pack_sequence_as(self._structure, self._run(*tensors, *handles))
