"""The errors of the package: each says what was expected, what came, and what to do."""

from __future__ import annotations


class XpliqueSalError(Exception):
    """Base of every error that this package raises on purpose.

    Parameters
    ----------
    expected
        What would have been right.
    actual
        What came instead.
    remedy
        What the caller can do about it.
    """

    def __init__(self, expected: str, actual: str, remedy: str) -> None:
        # All three stay in `args`, so that the error survives pickling.
        super().__init__(expected, actual, remedy)
        self.expected = expected
        self.actual = actual
        self.remedy = remedy

    def __str__(self) -> str:
        return f"Expected {self.expected}, but got {self.actual}. {self.remedy}"


class InvalidInputError(XpliqueSalError, ValueError):
    """The inputs have a wrong rank, shape or dtype, no samples, or values that are not finite."""


class InvalidTargetError(XpliqueSalError, ValueError):
    """The targets do not say which output to explain, or not for these inputs."""


class InvalidParameterError(XpliqueSalError, ValueError):
    """A parameter has a value that does not exist."""


class InvalidOperatorError(XpliqueSalError, TypeError):
    """The operator cannot be called as ``g(f, x, y)``, or its score is not one per sample."""


class InvalidModelError(XpliqueSalError, TypeError):
    """The model is not one, gives no gradients, or is ambiguous."""


class LayerNotFoundError(XpliqueSalError, ValueError):
    """The model has no such layer; the message names the nearest ones."""


class NoGradientError(XpliqueSalError, ValueError):
    """The gradient does not exist or is not finite; the message names the likely cause."""


class NothingRewiredError(XpliqueSalError, ValueError):
    """A backprop modifier reached no rectifier, or could not reach one that is there."""
