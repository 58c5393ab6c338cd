"""How many samples a model is given at once: as asked, as found by measuring, or what fits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from xplique_sal._data.samples import Batch, Samples
from xplique_sal._engine.request import Explained, Request
from xplique_sal._parameters import is_integer
from xplique_sal._tracing import programs
from xplique_sal.errors import InvalidParameterError

#: Where a search starts, and the most samples that it tries.
_FIRST = 8
_MOST = 4096
#: The most memory that a search lets a batch take, by the size of every tensor in the graph.
_MOST_BYTES = 4 << 30
#: The most numbers that samples may have which are read ahead for a search.
_READ_AHEAD = 1 << 25
#: A size is better if it takes at most this share of the time per sample.
_BETTER = 0.95
#: How many sizes in a row may be no better before the search ends.
_PATIENCE = 2


#: What a compiled function can be told as a size.
_LARGEST = 2**31 - 1


class BatchSize:
    """The bound on how many samples a model is given at once.

    ``"auto"`` is found while samples are explained: batches of twice the size are tried for as
    long as that makes them faster and they need less than 4 GiB by the size of every tensor in the
    graph. Each sample is explained once, by a batch of some size. If memory runs out, the size is
    halved and the batch is explained again.

    Parameters
    ----------
    asked
        A positive integer, ``None`` for all samples at once, or ``"auto"``.

    Attributes
    ----------
    most
        The bound now; ``None`` if there is none.
    is_searched
        Whether the best size is not known yet.
    was_reduced
        Whether memory ran out.
    """

    def __init__(self, asked: int | str | None) -> None:
        if not (asked is None or asked == "auto" or (is_integer(asked) and int(asked) > 0)):
            raise InvalidParameterError(
                'a `batch_size` of at least 1, None for all samples at once, or "auto"',
                repr(asked),
                "Pass the number of samples that the model may be given at once.",
            )
        self.asked = asked
        self.is_searched = asked == "auto"
        bound = _FIRST if self.is_searched else asked
        self.most = None if bound is None else min(int(bound), _LARGEST)
        self.was_reduced = False
        self._best: tuple[float, int] = (np.inf, _FIRST)
        self._misses = 0

    def rows(self, samples: Samples) -> int | None:
        """Return how many samples are read at once."""
        if not self.is_searched:
            return self.most
        numbers = sum(int(np.prod([n or 1 for n in spec.shape])) for spec in samples.input_specs)
        return max(1, min(_MOST, _READ_AHEAD // max(numbers, 1)))

    def parts(self, request: Request, batch: Batch) -> Iterator[Batch]:
        """Yield a batch in parts: it is one, unless the size is searched."""
        first = 0
        while first < batch.size:
            whole = not self.is_searched or request.needed_batch or self.most is None
            part = batch.part(first, batch.size if whole else first + int(self.most or 1))
            first += part.size
            yield part

    def within_memory(
        self, request: Request, batch: Batch, explain: Callable[[Request, Batch], Explained]
    ) -> Explained:
        """Return what `explain` makes of a batch; where memory runs out, of smaller ones."""
        while True:
            traces, start = programs.trace_count(), time.perf_counter()
            try:
                explained = explain(request, batch)
            except tf.errors.ResourceExhaustedError:
                rows = batch.size * request.rows_per_sample
                size = min(self.most or rows, rows)
                if size == 1 or request.samples.declared_batch:
                    raise
                self.most, self.is_searched, self.was_reduced = size // 2, False, True
                request.needed_batch = None
                request.programs.clear()
                continue
            seconds = time.perf_counter() - start
            is_whole = batch.size == self.most and not request.needed_batch
            if self.is_searched and is_whole and programs.trace_count() == traces:
                self._judge(seconds / batch.size, explained)
            return explained

    def _judge(self, seconds: float, explained: Explained) -> None:
        assert self.most is not None
        if seconds < self._best[0] * _BETTER:
            self._best, self._misses = (seconds, self.most), 0
        else:
            self._misses += 1
        larger = 2 * self.most
        fits = larger <= _MOST and larger * explained.bytes_per_sample <= _MOST_BYTES
        if fits and self._misses < _PATIENCE:
            self.most = larger
        else:
            self.most, self.is_searched = self._best[1], False
