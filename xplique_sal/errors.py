"""The errors of the package: each says what was expected, what came, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any


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

    if TYPE_CHECKING:

        def __init__(self, expected: str, actual: str, remedy: str) -> None: ...

    else:
        # AutoGraph and Keras make an error that passes through them anew, of one text: of its own
        # type only where that is made as any exception is, and of the first of its `args`.
        __init__ = Exception.__init__
        args = property(lambda self: (str(self),))

    @property
    def expected(self) -> str:
        """What would have been right."""
        return self._said(0)

    @property
    def actual(self) -> str:
        """What came instead."""
        return self._said(1)

    @property
    def remedy(self) -> str:
        """What the caller can do about it."""
        return self._said(2)

    def _said(self, place: int) -> str:
        given = self._given()
        return str(given[place]) if len(given) == 3 else ""

    def _given(self) -> tuple[Any, ...]:
        return BaseException.args.__get__(self)  # type: ignore[attr-defined]

    def __str__(self) -> str:
        if len(self._given()) != 3:
            return super().__str__()
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


class ExportError(XpliqueSalError, TypeError):
    """The explainer cannot run without Python and this package, so it cannot be exported."""
