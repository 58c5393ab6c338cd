"""What ``fit`` asks of a callback, without the base class of any one Keras."""

from __future__ import annotations

from typing import Any


def _nothing(*args: Any, **kwargs: Any) -> None:
    """Do nothing."""


# A batch hook that says so is known to be empty: no Python runs between the training steps for
# it, and what a step returns is not copied to the host.
_nothing._is_default = True  # type: ignore[attr-defined]


class Callback:
    """A callback of which every hook does nothing.

    A `CallbackList` calls hooks by their names and asks for no base class. So that one class serves
    whichever Keras a model turns out to be of, there is none.
    """

    #: No hook here reads the logs: they can stay on the device that computed them.
    _supports_tf_logs = True

    validation_data = None
    params: dict[str, Any] | None = None
    model: Any = None

    on_train_begin = on_train_end = on_epoch_begin = on_epoch_end = _nothing
    on_test_begin = on_test_end = on_predict_begin = on_predict_end = _nothing
    on_batch_begin = on_train_batch_begin = on_test_batch_begin = on_predict_batch_begin = _nothing
    on_batch_end = on_train_batch_end = on_test_batch_end = on_predict_batch_end = _nothing

    def __getattr__(self, name: str) -> Any:
        # A hook of a Keras that is newer than this class.
        if name.startswith("on_"):
            return _nothing
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def set_params(self, params: dict[str, Any]) -> None:
        """Take what `fit` was called with."""
        self.params = params

    def set_model(self, model: Any) -> None:
        """Take the model that is trained."""
        self.model = model

    def _implements_train_batch_hooks(self) -> bool:
        return False

    def _implements_test_batch_hooks(self) -> bool:
        return False

    def _implements_predict_batch_hooks(self) -> bool:
        return False
