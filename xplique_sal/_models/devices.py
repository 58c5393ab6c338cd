"""The devices among which work is shared."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import tensorflow as tf

from xplique_sal._tracing import keras_compat
from xplique_sal.errors import InvalidParameterError

_OF_ONE_PROCESS = (tf.distribute.MirroredStrategy, tf.distribute.OneDeviceStrategy)


class Device(NamedTuple):
    """One of the devices of a strategy, or, without one, where TensorFlow places the work."""

    name: str | None = None
    strategy: tf.distribute.Strategy | None = None

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Put what is traced in this block on the device, where it reads its copy of a variable."""
        if self.strategy is None:
            yield
        else:
            # In the scope, outside of any replica, a variable's copy is chosen by the device.
            with self.strategy.scope(), tf.device(self.name):
                yield


def check(strategy: Any) -> None:
    """Refuse a strategy of other devices than this process runs by itself.

    Raises
    ------
    InvalidParameterError
    """
    if strategy is not None and not isinstance(strategy, _OF_ONE_PROCESS):
        raise InvalidParameterError(
            "a `strategy` of one process's devices: a `tf.distribute.MirroredStrategy`",
            f"{strategy!r} of type {type(strategy).__name__}",
            "Pass such a strategy, or explain a part of the samples in each process.",
        )


def of(strategy: tf.distribute.Strategy | None, model: Any) -> list[Device]:
    """Return the devices of a strategy, or of the one in whose scope a model was built."""
    if strategy is None:
        variable = next(iter(keras_compat.variables(model)), None)
        strategy = getattr(variable, "distribute_strategy", None)
    if not isinstance(strategy, _OF_ONE_PROCESS):
        return [Device()]
    return [Device(name, strategy) for name in strategy.extended.worker_devices]
