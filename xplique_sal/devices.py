"""The devices among which work is shared."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import tensorflow as tf

from xplique_sal import keras_compat
from xplique_sal.errors import InvalidParameterError


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


def of(strategy: tf.distribute.Strategy | None, model: Any) -> list[Device]:
    """Return the devices of a strategy, or of the one in whose scope a model was made.

    Raises
    ------
    InvalidParameterError
        If `strategy` is no strategy, or one of devices that this process does not run by itself.
    """
    chosen = strategy
    if strategy is None:
        chosen = _strategy_of(model)
        if chosen is None:
            return [Device()]
    if not isinstance(chosen, (tf.distribute.MirroredStrategy, tf.distribute.OneDeviceStrategy)):
        if strategy is None:
            return [Device()]
        raise InvalidParameterError(
            "a `strategy` of one process's devices: a `tf.distribute.MirroredStrategy`",
            f"{strategy!r} of type {type(strategy).__name__}",
            "Pass such a strategy, or explain a part of the samples in each process.",
        )
    return [Device(name, chosen) for name in chosen.extended.worker_devices]


def _strategy_of(model: Any) -> tf.distribute.Strategy | None:
    for variable in keras_compat.variables(model):
        strategy = getattr(variable, "distribute_strategy", None)
        if strategy is not None:
            return strategy
    return None
