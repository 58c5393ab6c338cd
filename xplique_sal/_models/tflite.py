"""TFLite interpreters as functions of a batch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from xplique_sal._data.structures import Structure, leaves
from xplique_sal.errors import InvalidInputError

_METHODS = ("get_input_details", "resize_tensor_input", "allocate_tensors", "invoke")


def is_interpreter(model: Any) -> bool:
    """Tell TFLite interpreters, which several packages have, from other objects."""
    return not isinstance(model, type) and all(hasattr(model, name) for name in _METHODS)


class InterpreterFunction:
    """The function f of a TFLite interpreter: any number of samples to its output.

    Several outputs are a dict, by the names that the signature of the TFLite model has for them, or
    else by those of its tensors.

    Where the number of samples is open in the TFLite model, its inputs are resized; elsewhere the
    samples are run in pieces of the number that it takes. Of a quantised input, floats are the real
    numbers, which are rounded to the nearest level; a quantised output becomes real numbers. Inputs
    get their shapes and values back after each call.

    Parameters
    ----------
    interpreter
        A `tf.lite.Interpreter`, or that of LiteRT or of the TFLite runtime.
    """

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter
        self._names = _names_of_outputs(interpreter)

    def cast(self, position: int, array: np.ndarray) -> np.ndarray:
        """Return an input as real numbers, or as the integers that are no levels of real ones.

        Raises
        ------
        InvalidInputError
            If it holds integers that are not of the dtype of a quantised input: they could be
            levels of another scale.
        """
        details = self._interpreter.get_input_details()
        detail = details[min(position, len(details) - 1)]
        dtype, (scale, _) = np.dtype(detail["dtype"]), _scale(detail)
        if not scale:
            return array.astype(dtype)
        if not np.issubdtype(array.dtype, np.floating) and array.dtype != dtype:
            raise InvalidInputError(
                f"real numbers, or levels of dtype {dtype}, for the input {detail['name']!r}",
                f"the dtype {array.dtype}",
                "Convert them to what the model was trained on, as floats.",
            )
        return _real(array, detail) if array.dtype == dtype else array

    def __call__(self, inputs: Structure) -> np.ndarray | dict[str, np.ndarray]:
        """Return f(x) for a batch of NumPy arrays, (N, ...)."""
        # Anew at each call: the details hold the shapes, which others may have changed.
        details = self._interpreter.get_input_details()
        arrays = self._checked(inputs, details)
        count = len(arrays[0])
        fixed = {int(_signature(detail)[0]) for detail in details} - {-1}
        size = fixed.pop() if fixed else count
        with self._given_back(details):
            parts = [
                self._run([array[start : start + size] for array in arrays], details, size)
                for start in range(0, count, size)
            ]
        outputs = [np.concatenate(pieces)[:count] for pieces in zip(*parts, strict=True)]
        return outputs[0] if len(outputs) == 1 else dict(zip(self._names, outputs, strict=True))

    def _checked(self, inputs: Structure, details: Sequence[Any]) -> list[np.ndarray]:
        names = ", ".join(repr(detail["name"]) for detail in details)
        if isinstance(inputs, Mapping):
            raise InvalidInputError(
                f"a list of the inputs {names}, in this order",
                f"a dict with the keys {', '.join(map(repr, inputs))}",
                "Pass a list or a tuple.",
            )
        arrays = [self.cast(i, np.asarray(array)) for i, array in enumerate(leaves(inputs))]
        if len(arrays) != len(details):
            raise InvalidInputError(
                f"{len(details)} inputs ({names})", f"{len(arrays)}", "Pass one array for each."
            )
        for array, detail in zip(arrays, details, strict=True):
            wanted = tuple(int(size) for size in _signature(detail)[1:])
            given = array.shape[1:]
            if len(given) != len(wanted) or any(
                -1 != size != other for size, other in zip(wanted, given, strict=True)
            ):
                shape = ", ".join(["N", *map(str, wanted)])
                raise InvalidInputError(
                    f"the shape ({shape}) for the input {detail['name']!r}",
                    f"the shape {array.shape}",
                    "Resize or reorder the inputs as the interpreter takes them.",
                )
        return arrays

    def _run(self, arrays: list[np.ndarray], details: Sequence[Any], size: int) -> list[np.ndarray]:
        for array, detail in zip(arrays, details, strict=True):
            self._resize(detail, (size, *array.shape[1:]))
        self._interpreter.allocate_tensors()
        for array, detail in zip(arrays, details, strict=True):
            missing = size - len(array)  # the last sample stands in for those
            if missing:
                array = np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])
            self._interpreter.set_tensor(detail["index"], _quantised(array, detail))
        self._interpreter.invoke()
        return [
            _real(self._interpreter.get_tensor(output["index"]), output)
            for output in self._interpreter.get_output_details()
        ]

    def _resize(self, detail: Any, shape: Sequence[int]) -> None:
        now = next(
            now for now in self._interpreter.get_input_details() if now["index"] == detail["index"]
        )
        if tuple(now["shape"]) != tuple(shape):
            self._interpreter.resize_tensor_input(detail["index"], list(shape))

    @contextlib.contextmanager
    def _given_back(self, details: Sequence[Any]) -> Iterator[None]:
        """Leave the interpreter as it was: the shapes and values of its inputs, and its outputs."""
        interpreter, values = self._interpreter, {}
        kept = [*details, *interpreter.get_output_details()]
        with contextlib.suppress(ValueError):  # nothing was allocated yet
            values = {part["index"]: interpreter.get_tensor(part["index"]) for part in kept}
        try:
            yield
        finally:
            for detail in details:
                self._resize(detail, detail["shape"])
            interpreter.allocate_tensors()
            for index, value in values.items():
                view = interpreter.tensor(index)()
                if view.shape == value.shape:  # an output may have a size of its own each time
                    view[...] = value


def _names_of_outputs(interpreter: Any) -> list[str]:
    """Return the names of an interpreter's outputs in order: its only signature's, if it has one.

    Signatures name the outputs of the model that was converted; tensors have numbers.
    """
    names = {}
    with contextlib.suppress(Exception):  # older runtimes know no signatures
        (signature,) = interpreter.get_signature_list()
        runner = interpreter.get_signature_runner(signature)
        details = runner.get_output_details()
        names = {detail["index"]: name for name, detail in details.items()}
    outputs = interpreter.get_output_details()
    return [names.get(output["index"], output["name"]) for output in outputs]


def _signature(detail: Any) -> Sequence[int]:
    signature = detail.get("shape_signature", ())
    return signature if len(signature) else detail["shape"]


def _quantised(array: np.ndarray, detail: Any) -> np.ndarray:
    """Return real numbers in the dtype of an input."""
    dtype = np.dtype(detail["dtype"])
    if not np.issubdtype(dtype, np.integer):
        return array.astype(dtype)
    scale, zero = _scale(detail)
    levels = np.rint(array / scale + zero) if scale else np.rint(array)
    limits = np.iinfo(dtype)
    return np.clip(levels, limits.min, limits.max).astype(dtype)


def _real(array: np.ndarray, detail: Any) -> np.ndarray:
    """Return an output as real numbers."""
    scale, zero = _scale(detail)
    return (array.astype(np.float32) - zero) * np.float32(scale) if scale else array


def _scale(detail: Any) -> tuple[float, int]:
    """Return scale and zero point of a tensor; a scale of 0 if it is not quantised."""
    scale, zero = detail["quantization"]
    return float(scale), int(zero)
