"""What can be called but not differentiated, as one thing that is called on a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xplique_sal._data.structures import Skeleton, Structure, leaves, pack, skeleton_of
from xplique_sal._models.outputs import check_choice, choose_output
from xplique_sal._models.tflite import InterpreterFunction, is_interpreter
from xplique_sal.errors import InvalidModelError

_FORM = "Return one row of outputs for each sample, (N, L), or one number, (N,)."


class PlainFunction:
    """The function f of a model of which nothing is known but that it can be called.

    Parameters
    ----------
    model
        In this order: a TFLite interpreter; an object with `predict_proba`; any callable; an
        object with `predict`. It is given NumPy arrays.
    output
        Of several outputs, the one to explain, by index, name or dict key.

    Raises
    ------
    InvalidModelError
        If it is none of these, or a classifier that tells nothing but labels.
    """

    inputs = None
    is_built = True
    channel_axis = -1

    def __init__(self, model: Any, output: int | str | None = None) -> None:
        check_choice(output)
        self._function, self._gives_labels = _function_of(model)
        self._output = output
        self._name = type(model).__name__

    def build(self, sample: Sequence[Any], skeleton: Skeleton) -> None:
        """Do nothing: a function has no weights to be made."""

    def inputs_for(self, given: Structure) -> None:
        """Return what the model says about its inputs: nothing."""

    def cast(self, position: int, value: Any) -> tf.Tensor:
        """Return an input as a tensor: integers of rank 4 and more are images, thus floats."""
        if isinstance(self._function, InterpreterFunction):
            return tf.convert_to_tensor(self._function.cast(position, np.asarray(value)))
        tensor = tf.convert_to_tensor(value)
        is_floating = tensor.dtype.is_floating or tensor.shape.rank <= 3
        return tensor if is_floating else tf.cast(tensor, tf.float32)

    def cast_all(self, values: Sequence[Any]) -> list[tf.Tensor]:
        """Return inputs, in their order, as tensors."""
        return [self.cast(position, value) for position, value in enumerate(values)]

    def __call__(self, inputs: Structure) -> tf.Tensor:
        """Return f(x) for a batch.

        Raises
        ------
        InvalidModelError
            If the function does not return numbers, one row for each sample.
        """
        arrays = [np.asarray(array) for array in leaves(inputs)]
        return self._checked(self._function(pack(skeleton_of(inputs), arrays)), len(arrays[0]))

    def _checked(self, output: Any, count: int) -> tf.Tensor:
        # A list of numbers, or of rows of them, is one array.
        is_several = isinstance(output, (list, tuple)) and any(np.ndim(part) > 1 for part in output)
        if is_several or isinstance(output, dict) or self._output is not None:
            if not isinstance(output, (dict, list, tuple)):
                output = np.asarray(output)
            output = choose_output(output, self._output, [], (np.ndarray, tf.Tensor, np.generic))
        try:
            tensor = tf.convert_to_tensor(output)
        except (TypeError, ValueError) as error:
            raise InvalidModelError(
                "a function that returns numbers", f"a {type(output).__name__} ({error})", _FORM
            ) from error
        if not tensor.dtype.is_floating:
            if self._gives_labels or not (tensor.dtype.is_integer or tensor.dtype.is_bool):
                raise _labels(self._name, f"values of dtype {tensor.dtype.name}")
            tensor = tf.cast(tensor, tf.float32)
        if tensor.shape.rank == 0 or tensor.shape[0] != count:
            raise InvalidModelError(
                f"one row of outputs for each of {count} samples",
                f"the shape {tuple(tensor.shape)}",
                _FORM,
            )
        return tensor


def _function_of(model: Any) -> tuple[Callable[..., Any], bool]:
    """Return what is called, and whether what it returns could be labels."""
    if isinstance(model, type):
        raise InvalidModelError(
            "a model, or any other callable", f"the class {model.__name__}", "Pass an instance."
        )
    if is_interpreter(model):
        return InterpreterFunction(model), False
    if callable(probabilities := getattr(model, "predict_proba", None)):
        return probabilities, False
    if callable(model):
        return model, False
    if not callable(predict := getattr(model, "predict", None)):
        raise InvalidModelError(
            "a model, or any other callable",
            f"an object of type {type(model).__name__}",
            "Pass a function from a batch to its outputs.",
        )
    if hasattr(model, "classes_"):
        raise _labels(type(model).__name__, "a classifier without `predict_proba`")
    return predict, True


def _labels(name: str, actual: str) -> InvalidModelError:
    return InvalidModelError(
        "a model that returns scores",
        f"{actual} from {name}: labels say nothing of how near a sample is to another class",
        "Pass a function that returns scores, such as the model's `decision_function`.",
    )
