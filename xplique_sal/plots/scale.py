"""From values to colours: which kind of scale, between which limits."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from xplique_sal._parameters import number
from xplique_sal.errors import InvalidParameterError

#: Both are perceptually uniform, and told apart without seeing red and green as two colours.
SEQUENTIAL, DIVERGING = "inferno", "coolwarm"
#: What lies below this share of the largest magnitude is rounding in float32.
ROUNDING = 1e-5
#: A lowest value below this share of the highest cannot be told from zero by its colour.
ZERO = 0.01


class Scale(NamedTuple):
    """A linear scale of colours.

    Attributes
    ----------
    low, high
        The values of the first and the last colour; −m and m for signed maps.
    cmap
        The colour map, by name or as an object.
    signed
        Whether zero is in the middle.
    """

    low: float
    high: float
    cmap: Any
    signed: bool

    def shares(self, map_: np.ndarray) -> np.ndarray:
        """Return how large each value is in magnitude, as a share of the largest of the scale."""
        low = 0.0 if self.signed else self.low
        return np.clip(np.abs(map_ - low) / (self.high - low), 0, 1)

    def beyond(self, maps: Sequence[np.ndarray]) -> str:
        """Return at which ends of the scale there are values beyond it, in matplotlib's words."""
        below = any(map_.min() < self.low for map_ in maps)
        above = any(map_.max() > self.high for map_ in maps)
        return {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[below, above]


class Choice(NamedTuple):
    """What a caller chose of the scales: see `image.plot_attribution`."""

    cmap: Any = None
    clip_percentile: float | None = None
    normalize_value: bool = True
    vmin: float | None = None
    vmax: float | None = None

    def check(self) -> None:
        """Raise an error for a number that is out of range."""
        if self.clip_percentile is not None:
            remedy = "1 takes the scale from the 1st to the 99th percentile."
            number("clip_percentile", self.clip_percentile, high=50, remedy=remedy)
        for name in ("vmin", "vmax"):
            if getattr(self, name) is not None:
                remedy = "None takes the limit from the map."
                number(name, getattr(self, name), "()", low=-math.inf, remedy=remedy)


def scales(maps: Sequence[np.ndarray], shared: bool, choice: Choice) -> list[Scale]:
    """Return the scale of each map: all are signed if one is, and equal if `shared`."""
    choice.check()
    signed = any(is_signed(map_) for map_ in maps)
    if shared:
        values = np.concatenate([map_.ravel() for map_ in maps])
        return [scale_of(values, signed, choice)] * len(maps)
    return [scale_of(map_, signed, choice) for map_ in maps]


def is_signed(map_: np.ndarray) -> bool:
    """Tell whether a map has negative values, other than rounding."""
    return bool(map_.min() < -ROUNDING * np.abs(map_).max())


def is_constant(map_: np.ndarray) -> bool:
    """Tell whether a map has one value only, up to rounding."""
    return bool(map_.max() - map_.min() <= ROUNDING * np.abs(map_).max())


def scale_of(values: np.ndarray, signed: bool, choice: Choice) -> Scale:
    """Return a scale from the lowest to the highest value, or symmetric about zero."""
    low, high = _limits(values, choice.clip_percentile or 0.0, signed)
    vmin, vmax = choice.vmin, choice.vmax
    if choice.normalize_value:  # the limits are given in units of the scale
        start, unit = (0.0, high) if signed else (low, high - low)
        vmin = None if vmin is None else start + vmin * unit
        vmax = None if vmax is None else start + vmax * unit
    if signed and (vmin is None) != (vmax is None):  # one of them says the other
        vmin, vmax = (-vmax, vmax) if vmin is None and vmax is not None else (vmin, -(vmin or 0.0))
    low, high = low if vmin is None else vmin, high if vmax is None else vmax
    if not low < high:
        raise InvalidParameterError(
            "`vmin` below `vmax`",
            f"a scale from {low:g} to {high:g}",
            "With `normalize_value=True` they are in units of the map's own scale: [0, 1], or "
            "[-1, 1] for a signed map. `normalize_value=False` takes them as values.",
        )
    cmap = choice.cmap if choice.cmap is not None else DIVERGING if signed else SEQUENTIAL
    return Scale(float(low), float(high), cmap, signed)


def _limits(values: np.ndarray, percentile: float, signed: bool) -> tuple[float, float]:
    """Return the limits between percentiles; all values where these are equal (sparse maps)."""
    low, high = np.percentile(values, (percentile, 100 - percentile))
    if high - low <= ROUNDING * max(abs(low), abs(high)):
        low, high = values.min(), values.max()
    if signed:
        largest = max(abs(low), abs(high)) or 1.0
        return -largest, largest
    if is_constant(values):  # zero is the first colour, so that nothing is magnified
        return 0.0, high if high > 0 else 1.0
    return (0.0 if low < ZERO * high else low), high


def warn_of_constants(maps: Sequence[np.ndarray], what: str, stacklevel: int) -> None:
    """Warn of maps that show nothing."""
    found = [position for position, map_ in enumerate(maps) if is_constant(map_)]
    if found:
        which = "" if len(maps) == 1 else f" (number {', '.join(map(str, found))})"
        values = sorted({f"{maps[position].flat[0]:.3g}" for position in found})
        warnings.warn(
            f"{what}{which} of one value everywhere ({', '.join(values)}) is drawn in one colour: "
            "it tells nothing about the input. A gradient is zero everywhere where a softmax is "
            "saturated (explain with `logits=True`) or a unit is off.",
            UserWarning,
            stacklevel=stacklevel + 1,
        )
