"""How many rows models are given: the cost of an explanation that does not depend on a machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar


class Passes:
    """Forward passes that were counted.

    Attributes
    ----------
    rows
        How many samples, and changed copies of samples, models were given.
    """

    def __init__(self) -> None:
        self.rows = 0


_counting: ContextVar[tuple[Passes, ...]] = ContextVar("passes", default=())


@contextlib.contextmanager
def counted() -> Iterator[Passes]:
    """Count the forward passes of this thread in the block; blocks may be nested."""
    passes = Passes()
    token = _counting.set((*_counting.get(), passes))
    try:
        yield passes
    finally:
        _counting.reset(token)


def add(rows: int) -> None:
    """Note that a model is given so many rows."""
    for passes in _counting.get():
        passes.rows += rows
