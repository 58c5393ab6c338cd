"""Maps of volumes, as slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from xplique_sal._parameters import integer, is_integer, number
from xplique_sal.errors import InvalidInputError, InvalidParameterError
from xplique_sal.plots import canvas
from xplique_sal.plots.caption import caption
from xplique_sal.plots.reading import MOST_CHANNELS, numbers
from xplique_sal.plots.scale import Choice, Scale, is_signed, scale_of, warn_of_constants

#: What the axes of a volume (D, H, W) are called.
NAMES = ("depth", "height", "width")


class _Slice(NamedTuple):
    """One slice: at which place of which axis."""

    axis: int
    place: int

    def of(self, array: np.ndarray) -> np.ndarray:
        """Return it of a volume."""
        return array.take(self.place, axis=self.axis)

    def form(self, shape: Sequence[int]) -> float:
        """Return how many times as many rows as columns it has."""
        rows, columns = (axis for axis in range(3) if axis != self.axis)
        return shape[rows] / shape[columns]

    def aspect(self, spacing: Sequence[float]) -> float:
        """Return how much higher a voxel is than wide."""
        rows, columns = (axis for axis in range(3) if axis != self.axis)
        return spacing[rows] / spacing[columns]


def plot_volume(
    explanation: Any,
    volume: Any = None,
    slices: int | str | Sequence[int] = 6,
    *,
    axis: int = 0,
    point: Sequence[int] | None = None,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    axes: Any = None,
    alpha: float = 0.8,
    cols: int = 3,
    img_size: float = 2.2,
    colorbar: bool | str = True,
    title: str | None = None,
    prediction: Any = None,
    score: Any = None,
    class_names: Any = None,
    cmap: Any = None,
    clip_percentile: float | None = 0.1,
    absolute_value: bool = False,
    normalize_value: bool = True,
    vmin: float | None = None,
    vmax: float | None = None,
) -> np.ndarray:
    """Draw slices of the map of a volume, over those of the volume, with one scale for all.

    The scale is that of the whole map, also of what is not shown, so that a colour is worth the
    same in every slice of every call; it is chosen as in `plot_attribution`. The volume is grey
    from its lowest value (black) to its highest.

    Parameters
    ----------
    explanation
        A map (D, H, W), (D, H, W, 1), or (D, H, W, C) with at most 4 channels, of which each voxel
        shows the value that is largest in magnitude.
    volume
        What was explained: (D, H, W) or (D, H, W, 1).
    slices
        How many, at even distances along `axis` without its ends; or which, by their indices; or
        ``"orthogonal"``: one along each axis, which meet in `point`.
    axis
        0, 1 or 2, along depth, height or width.
    point
        Three indices, where orthogonal slices meet. ``None`` is the voxel whose value is largest
        in magnitude.
    spacing
        Size of a voxel along depth, height and width, in any unit: slices have its proportions.
    axes
        Matplotlib axes, at least one for each slice; ``None`` makes a figure.
    alpha
        How opaque the map is over the volume where it is largest in magnitude, in [0, 1]; elsewhere
        it is by as much less, so that the volume is seen where the map says nothing.
    cols, img_size
        Slices in a row of a new figure, and the width of each, in inches.
    colorbar
        Draw the scale; a text becomes its label.
    title
        The first line of the title of the figure.
    prediction, score, class_names
        As in `plot_attribution`; they follow in the title of the figure.
    cmap, clip_percentile, absolute_value, normalize_value, vmin, vmax
        As in `plot_attribution`.

    Returns
    -------
    axes
        The matplotlib axes that were drawn on, in an array, one for each slice.

    Raises
    ------
    InvalidInputError
        If shapes do not fit, or values are NaN or infinite.
    InvalidParameterError
        If a slice is outside of the volume, or another parameter is out of range.
    ImportError
        If matplotlib is not installed.

    Warns
    -----
    UserWarning
        If the map has one value everywhere.
    """
    map_ = _map(explanation)
    map_ = np.abs(map_) if absolute_value else map_
    body = None if volume is None else _body(volume, map_.shape)
    sizes = _spacing(spacing)
    chosen = _chosen(slices, axis, point, map_)
    number("alpha", alpha, "[]", high=1, remedy="0 shows the volume alone.")
    choice = Choice(cmap, clip_percentile, normalize_value, vmin, vmax)
    choice.check()
    scale = scale_of(map_, is_signed(map_), choice)
    canvas.color_map(scale.cmap)
    text = caption(title, prediction, score, class_names)
    cols = integer("cols", cols)
    img_size = number("img_size", img_size, "()", remedy=canvas.IN_INCHES)
    warn_of_constants([map_], "a map", stacklevel=2)

    tallest = max(
        one.of(map_).shape[0] / one.of(map_).shape[1] * one.aspect(sizes) for one in chosen
    )
    margin = canvas.COLOR_BAR if colorbar else 0.0
    panels = canvas.panels(len(chosen), axes, cols, img_size, img_size * tallest + 0.3, margin)
    grey = Scale(0.0, 1.0, "gray", False)
    for panel, one in zip(panels, chosen, strict=True):
        options: dict[str, Any] = {"aspect": one.aspect(sizes)}
        panel.set_axis_off()
        if body is not None:
            canvas.draw_map(panel, one.of(body), grey, **options)
            options["alpha"] = alpha * scale.shares(one.of(map_))
        canvas.draw_map(panel, one.of(map_), scale, **options)
        canvas.draw_title(panel, f"{NAMES[one.axis]} {one.place}")
    canvas.draw_color_bars(panels, [map_], [scale] * len(panels), True, colorbar)
    if text:
        canvas.draw_heading(panels[0], text)
    return canvas.as_array(panels)


def _map(explanation: Any) -> np.ndarray:
    array = numbers(explanation, "a map of a volume")
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[-1] > MOST_CHANNELS):
        raise InvalidInputError(
            "a map of shape (D, H, W), (D, H, W, 1) or (D, H, W, C) with at most "
            f"{MOST_CHANNELS} channels",
            f"the shape {array.shape}",
            "Take one map of a batch, `maps[0]`.",
        )
    if array.ndim == 4:
        strongest = np.abs(array).argmax(axis=-1)[..., None]
        array = np.take_along_axis(array, strongest, axis=-1)[..., 0]
    return array


def _body(volume: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return the volume in [0, 1], from the lowest value of all slices to the highest."""
    array = numbers(volume, "a volume")
    if array.ndim == 4 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.shape != shape:
        raise InvalidInputError(
            f"a volume of the shape of its map, {shape}",
            f"the shape {np.shape(volume)}",
            "Pass the volume that was explained, with one of its channels.",
        )
    span = array.max() - array.min()
    return (array - array.min()) / span if span > 0 else np.full_like(array, 0.5)


def _spacing(spacing: Any) -> tuple[float, ...]:
    found = tuple(np.ravel(np.asarray(spacing, dtype=object)))
    if len(found) != 3:
        raise InvalidParameterError(
            "`spacing` as three numbers", repr(spacing), "Along depth, height and width."
        )
    return tuple(number("spacing", one, "()", remedy="Sizes of a voxel.") for one in found)


def _chosen(slices: Any, axis: Any, point: Any, map_: np.ndarray) -> list[_Slice]:
    if isinstance(slices, str) and slices == "orthogonal":
        if point is None:
            point = np.unravel_index(int(np.abs(map_).argmax()), map_.shape)
        found = [_Slice(number, place) for number, place in enumerate(_places(point, "point"))]
        if len(found) != 3:
            raise InvalidParameterError("a `point` of three indices", repr(point), "(d, h, w).")
    else:
        if point is not None:
            raise InvalidParameterError(
                'a `point` for `slices="orthogonal"`', repr(slices), "Others need no point."
            )
        if not is_integer(axis) or axis not in (0, 1, 2):
            raise InvalidParameterError("an `axis` among 0, 1, 2", repr(axis), "Of (D, H, W).")
        if is_integer(slices):
            count = integer("slices", slices)
            length = map_.shape[axis]
            middles = (np.arange(min(count, length)) + 0.5) * length / min(count, length)
            places = [int(middle) for middle in middles]
        else:
            places = _places(slices, "slices")
        found = [_Slice(int(axis), place) for place in places]
    for one in found:
        if not 0 <= one.place < map_.shape[one.axis]:
            raise InvalidParameterError(
                f"slices along the {NAMES[one.axis]} from 0 to {map_.shape[one.axis] - 1}",
                f"{one.place}",
                "They are counted from 0.",
            )
    return found


def _places(given: Any, name: str) -> list[int]:
    listed = list(given) if isinstance(given, (list, tuple, range, np.ndarray)) else []
    if not listed or not all(is_integer(one) for one in listed):
        raise InvalidParameterError(
            f"`{name}` as indices, or slices as their number or 'orthogonal'",
            repr(given),
            "Pass a list of integers.",
        )
    return [int(one) for one in listed]
