"""Everything that is done to figures and axes, and the only place that imports matplotlib.

Figures are made by pyplot, so that a notebook shows them. Nothing else of pyplot is used: what is
drawn on axes of the user's leaves the current figure, the current axes and the settings alone.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xplique_sal._parameters import optional
from xplique_sal.errors import InvalidParameterError
from xplique_sal.plots.reading import LUMA
from xplique_sal.plots.scale import Scale

TITLE_SIZE, LABEL_SIZE = 9.0, 8.0
"""Sizes of text, in points."""

COLOR_BAR = 0.7
"""Width of a colour bar with its numbers, in inches."""

IN_INCHES = "It is in inches: 2.0 is a good start."
"""What an error says of a wrong size."""


def require_matplotlib() -> None:
    """Raise an error that says how to install matplotlib, if it is not there."""
    optional("matplotlib", "Plots need", "plots")


def panels(
    count: int, given: Any, cols: int, width: float, height: float, margin: float = 0.0
) -> list[Any]:
    """Return axes for `count` panels: the user's, or those of a new figure.

    Parameters
    ----------
    count
        How many.
    given
        Axes, or an array or list of at least `count` of them; ``None`` makes a figure.
    cols
        Panels in a row of the new figure.
    width, height
        Size of a panel of the new figure, in inches.
    margin
        Width beside all panels of the new figure, in inches.
    """
    if given is not None:
        return _checked(given, count)
    require_matplotlib()
    import matplotlib.pyplot as plt

    cols = min(cols, count)
    rows = math.ceil(count / cols)
    figure = plt.figure(figsize=(cols * width + margin, rows * height), layout="constrained")
    grid = figure.add_gridspec(rows, cols)
    return [figure.add_subplot(grid[position]) for position in range(count)]


def _checked(given: Any, count: int) -> list[Any]:
    flat = list(np.asarray(given, dtype=object).ravel())
    if not all(hasattr(axes, "imshow") and hasattr(axes, "get_figure") for axes in flat):
        raise InvalidParameterError(
            "matplotlib axes", repr(given), "Pass what `plt.subplots` returns second."
        )
    if len(flat) < count:
        raise InvalidParameterError(
            f"axes for {count} panels", f"{len(flat)}", "Pass one for each, or none at all."
        )
    return flat[:count]


def color_map(cmap: Any) -> Any:
    """Return the colour map of that name; a colour map is returned as it is."""
    if not isinstance(cmap, str):
        return cmap
    require_matplotlib()
    import matplotlib

    if cmap not in matplotlib.colormaps:
        raise InvalidParameterError(
            "the name of a colour map of matplotlib",
            repr(cmap),
            "`list(matplotlib.colormaps)` names them all.",
        )
    return matplotlib.colormaps[cmap]


def draw_map(axes: Any, map_: np.ndarray, scale: Scale, **options: Any) -> Any:
    """Draw a map in the colours of its scale; a ``norm`` among the options takes its place."""
    limits = {} if "norm" in options else {"vmin": scale.low, "vmax": scale.high}
    return axes.imshow(map_, **{"cmap": color_map(scale.cmap), **limits, **options})


def draw_contours(axes: Any, map_: np.ndarray, scale: Scale, **options: Any) -> Any:
    """Draw lines of equal value, at quarters of the scale; negative ones are dashed."""
    quarters = np.array([0.25, 0.5, 0.75])
    levels = scale.low + (scale.high - scale.low) * quarters
    if scale.signed:
        levels = scale.high * np.concatenate([-quarters[::-1], quarters])
    levels = np.atleast_1d(np.asarray(options.pop("levels", levels), np.float64))
    levels = levels[(levels > map_.min()) & (levels < map_.max())]
    if not levels.size:
        return None
    limits = {} if "norm" in options else {"vmin": scale.low, "vmax": scale.high}
    lines = axes.contour(
        map_,
        levels=levels,
        **{
            "cmap": color_map(scale.cmap),
            "linestyles": ["dashed" if level < 0 else "solid" for level in levels],
            "linewidths": 1.4,
            **limits,
            **options,
        },
    )
    # Lines of any colour are seen on pixels of any colour: the palest have a dark edge.
    red, green, blue, _ = lines.to_rgba(levels[np.abs(levels).argmin()])
    pale = np.dot(LUMA, (red, green, blue)) > 0.5
    lines.set_path_effects(edge(2.8, "black" if pale else "white"))
    return lines


def edge(width: float, color: str) -> list[Any]:
    """Return what gives lines an edge, so that they are seen on any colour."""
    from matplotlib import patheffects

    return [patheffects.withStroke(linewidth=width, foreground=color)]


def draw_color_bars(
    panels: Sequence[Any],
    maps: Sequence[np.ndarray],
    scales: Sequence[Scale],
    shared: bool,
    wanted: bool | str,
    norm: Any = None,
    place: Mapping[str, Any] | None = None,
) -> None:
    """Draw the scale beside each panel, or once the one that all share; a text is its label.

    `place` is where, as `Figure.colorbar` takes it; ``None`` is to the right.
    """
    if not wanted:
        return
    if shared:
        _draw_color_bar(panels, scales[0], scales[0].beyond(maps), wanted, norm, place)
        return
    for axes, map_, scale in zip(panels, maps, scales, strict=True):
        _draw_color_bar([axes], scale, scale.beyond([map_]), wanted, norm, place)


def _draw_color_bar(
    axes: Sequence[Any],
    scale: Scale,
    extend: str,
    label: bool | str,
    norm: Any,
    place: Mapping[str, Any] | None = None,
) -> None:
    """Draw the colours beside axes, with the values of their ends and of their middle."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    mappable = ScalarMappable(norm or Normalize(scale.low, scale.high), color_map(scale.cmap))
    place = place or {"fraction": 0.05, "pad": 0.02}
    bar = axes[0].get_figure().colorbar(mappable, ax=list(axes), extend=extend, **place)
    if norm is None:
        ticks = [scale.low, (scale.low + scale.high) / 2, scale.high]
        bar.set_ticks(ticks, labels=texts(ticks))
    bar.ax.tick_params(labelsize=LABEL_SIZE)
    if isinstance(label, str):
        bar.set_label(label, fontsize=LABEL_SIZE)


def texts(values: Sequence[float]) -> list[str]:
    """Return numbers as texts, with as few digits as tell them apart."""
    for digits in range(2, 17):
        written = [f"{value:.{digits}g}" for value in values]
        if len(set(written)) == len(set(values)):
            break
    return [text.replace("-", "−") for text in written]


def width_of(text: str, size: float) -> float:
    """Return how wide a text of a font size is, in points."""
    from matplotlib.textpath import TextPath

    return float(TextPath((0, 0), text, size=size).get_extents().width)


def draw_title(axes: Any, text: str, loc: str = "center", over_names: bool = False) -> None:
    """Draw a title, in lines that are not longer than the axes are wide.

    Where there are names of stretches above the axes, it stands above these.
    """
    if not text:
        return
    points = axes.bbox.width * 72 / axes.get_figure().dpi
    letters = max(12, int(points / (0.55 * TITLE_SIZE)))
    lines = [line for part in text.split("\n") for line in textwrap.wrap(part, letters) or [""]]
    pad = 1.6 * LABEL_SIZE if over_names else None
    axes.set_title("\n".join(lines), fontsize=TITLE_SIZE, loc=loc, pad=pad)


def as_array(axes: Sequence[Any]) -> np.ndarray:
    """Return axes in an array (N,)."""
    array = np.empty(len(axes), dtype=object)
    array[:] = axes
    return array


def save(axes: Any, path: Any) -> None:
    """Write the whole figure to a file."""
    axes.get_figure().canvas.figure.savefig(path)


def close(axes: Any) -> None:
    """Close the figure of axes, which nobody else has seen."""
    import matplotlib.pyplot as plt

    plt.close(axes.get_figure().canvas.figure)


def rows(
    heights: Sequence[float], given: Any, width: float, beside: float, shared: bool = True
) -> list[Any]:
    """Return axes below each other, which share their horizontal axis if they are new.

    Parameters
    ----------
    heights
        Of each, in inches.
    given
        As in `panels`.
    width
        Of the new figure, in inches.
    beside
        Height for titles and names, in inches.
    shared
        Whether they share it.
    """
    if given is not None:
        return _checked(given, len(heights))
    require_matplotlib()
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(width, sum(heights) + beside), layout="constrained")
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    axes = [figure.add_subplot(grid[0])]
    beside_first = {"sharex": axes[0]} if shared else {}
    return axes + [figure.add_subplot(grid[row], **beside_first) for row in range(1, len(heights))]


def draw_letters(
    axes: Any,
    boxes: Mapping[str, Sequence[tuple[float, float, float]]],
    colors: Mapping[str, Any],
) -> None:
    """Draw each letter into its boxes (middle, bottom, height), of width 1, whatever its shape."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    for letter, places in boxes.items():
        if not places:
            continue
        glyph, width = _glyph(letter)
        paths = []
        for middle, bottom, height in places:
            vertices = glyph.vertices * (width, height) + (middle - width / 2, bottom)
            paths.append(Path(vertices, glyph.codes))
        joined = Path.make_compound_path(*paths)
        axes.add_patch(PathPatch(joined, facecolor=colors[letter], linewidth=0))


def _glyph(letter: str) -> tuple[Any, float]:
    """Return the outline of a letter in a square of length 1, and how wide it may become."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.path import Path
    from matplotlib.textpath import TextPath

    font = FontProperties(family="DejaVu Sans", weight="bold")
    outline = TextPath((0, 0), letter, size=1, prop=font)
    box = outline.get_extents()
    unit = Path((outline.vertices - (box.x0, box.y0)) / (box.width, box.height), outline.codes)
    return unit, 0.94 if box.width > 0.4 * box.height else 0.35


def draw_track(
    axes: Any,
    boxes: Mapping[str, Sequence[tuple[float, float, float]]],
    colors: Mapping[str, Any],
) -> None:
    """Draw letters in a strip below axes, which keeps their columns, above the numbers of them."""
    points = 11.0
    share = points / (axes.bbox.height * 72 / axes.get_figure().dpi)
    strip = axes.inset_axes([0, -1.15 * share, 1, share])
    strip.set_axis_off()
    strip.set_ylim(0, 1)
    strip.set_xlim(axes.get_xlim())
    draw_letters(strip, boxes, colors)
    axes.tick_params(axis="x", length=0, pad=points + 6)


def draw_cells(axes: Any, cells: np.ndarray, color: Any, extent: tuple[float, ...]) -> None:
    """Fill the cells of a heat map that are true with one colour."""
    from matplotlib.colors import to_rgba

    filled = np.zeros([*cells.shape, 4])
    filled[cells] = to_rgba(color)
    axes.imshow(filled, aspect="auto", interpolation="nearest", extent=extent)


def draw_stretch(axes: Any, first: float, last: float, color: Any, name: str) -> None:
    """Shade a stretch of the horizontal axis, with a name above it."""
    axes.axvspan(first, last, color=color, zorder=0, linewidth=0)
    if name:
        place = {"xycoords": axes.get_xaxis_transform(), "ha": "center", "va": "bottom"}
        axes.annotate(name, ((first + last) / 2, 1.0), fontsize=LABEL_SIZE, **place)


def align_names(axes: Sequence[Any]) -> None:
    """Put the names of vertical axes below each other."""
    figure = axes[0].get_figure()
    if hasattr(figure, "align_ylabels"):
        figure.align_ylabels(list(axes))


def colors_of(values: np.ndarray, scale: Scale) -> list[tuple[str, bool]]:
    """Return the colour of each value, as #rrggbb, and whether what is over it has to be light."""
    from matplotlib.colors import Normalize, to_hex

    shades = color_map(scale.cmap)(Normalize(scale.low, scale.high)(values))
    return [(to_hex(shade), bool(np.dot(LUMA, shade[:3]) < 0.5)) for shade in shades]


def text_width(text: str, size: float) -> float:
    """Return how far a text of a font size reaches, with the room beside its letters, in points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=size)
    return float(text_to_path.get_text_width_height_descent(text, font, False)[0])


def draw_word(
    axes: Any,
    text: str,
    place: tuple[float, float, float],
    size: float,
    ground: str,
    color: tuple[float, float, float, float],
) -> None:
    """Draw a text as outlines on its ground, in axes whose unit is a point and that look down.

    Parameters
    ----------
    axes
        Where.
    text
        What.
    place
        The left end and the base of its letters, and the width of its ground.
    size
        Of the font, in points.
    ground, color
        The colours of the ground and of the letters.
    """
    from matplotlib.font_manager import FontProperties
    from matplotlib.patches import PathPatch, Rectangle
    from matplotlib.path import Path
    from matplotlib.textpath import text_to_path

    left, base, width = place
    room = 0.18 * size
    corner = (left, base - size)
    axes.add_patch(Rectangle(corner, width, 1.32 * size, facecolor=ground, linewidth=0))
    vertices, codes = text_to_path.get_text_path(FontProperties(size=size), text)
    if len(vertices):
        scale = size / text_to_path.FONT_SCALE
        outline = np.asarray(vertices) * (scale, -scale) + (left + room, base)
        axes.add_patch(PathPatch(Path(outline, codes), facecolor=color, linewidth=0))


def size_in_points(axes: Any) -> tuple[float, float]:
    """Return the width and the height of axes."""
    points = 72 / axes.get_figure().dpi
    return axes.bbox.width * points, axes.bbox.height * points


def stretch(axes: Any, width: float, height: float) -> None:
    """Make the unit of axes a point, counted from the top left; what is drawn keeps its form."""
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_aspect("equal", anchor="NW")


def draw_mesh(
    axes: Any,
    x: np.ndarray,
    y: np.ndarray,
    values: np.ndarray,
    scale: Scale,
    opacity: np.ndarray | None = None,
) -> None:
    """Draw values (Y, X) between the ends of their rows and columns, which need not be even."""
    from matplotlib.colors import Normalize

    colors = color_map(scale.cmap)(Normalize(scale.low, scale.high)(values))
    if opacity is not None:
        colors[..., 3] = opacity
    # Colours rather than values: what is half opaque is drawn once, without seams.
    axes.pcolormesh(x, y, colors, rasterized=True, edgecolors="none", linewidth=0)


def name_axes(axes: Any, x: str, y: str, y_scale: str) -> None:
    """Name both axes; without a name the horizontal one has no numbers."""
    axes.set_yscale(y_scale)
    axes.set_ylabel(y, fontsize=LABEL_SIZE)
    axes.set_xlabel(x, fontsize=LABEL_SIZE)
    axes.tick_params(labelsize=LABEL_SIZE)
    if not x:
        axes.tick_params(axis="x", labelbottom=False)


def draw_heading(axes: Any, text: str) -> None:
    """Draw the title of a whole figure."""
    axes.get_figure().suptitle(text, fontsize=TITLE_SIZE + 1)


def draw_box(axes: Any, box: np.ndarray, color: str, label: str = "") -> None:
    """Draw a box (x1, y1, x2, y2) around its pixels, and a label in its upper left corner."""
    from matplotlib.patches import Rectangle

    left, top, right, bottom = box - 0.5  # a pixel's middle has whole numbers
    frame = Rectangle(
        (left, top), right - left, bottom - top, fill=False, edgecolor=color, linewidth=1.8
    )
    frame.set_path_effects(edge(3.2, "black"))
    axes.add_patch(frame)
    if label:
        ground = {"facecolor": color, "edgecolor": "none", "pad": 1.2}
        style = {"color": "black", "fontsize": LABEL_SIZE - 1, "bbox": ground}
        axes.text(left, top, label.replace("\n", " "), va="bottom", clip_on=False, **style)
