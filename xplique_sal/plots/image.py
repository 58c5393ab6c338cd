"""Maps of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xplique_sal._parameters import integer, number, one_of
from xplique_sal.plots import canvas
from xplique_sal.plots.caption import caption, captions
from xplique_sal.plots.reading import (
    grey,
    image_of,
    images_of,
    many_maps,
    one_map,
)
from xplique_sal.plots.scale import Choice, Scale, scales, warn_of_constants

DISPLAYS = ("overlay", "contour", "side_by_side")
#: Height of a line of a title, in inches.
LINE = 0.2


def plot_attribution(
    explanation: Any,
    image: Any = None,
    cmap: Any = None,
    alpha: float = 0.5,
    clip_percentile: float | None = 0.1,
    absolute_value: bool = False,
    normalize_value: bool = True,
    *,
    ax: Any = None,
    display: str = "overlay",
    colorbar: bool | str = False,
    title: str | None = None,
    prediction: Any = None,
    score: Any = None,
    class_names: Any = None,
    vmin: float | None = None,
    vmax: float | None = None,
    **plot_kwargs: Any,
) -> Any:
    """Draw the map of one image, over or beside the image.

    A map without negative values is drawn on a sequential scale, from its lowest value to its
    highest; one with negative values on a diverging scale from −m to m, m its largest magnitude,
    so that zero has the colour of the middle: blue is negative, red is positive. Both colour maps
    are perceptually uniform and can be told apart by the colour-blind.

    Parameters
    ----------
    explanation
        A map (H, W), (H, W, 1) or (H, W, C), C at most 4, as an array or a tensor. Of several
        channels each pixel shows the value that is largest in magnitude, with its sign.
    image
        What was explained: (H, W), (H, W, 1) or (H, W, 3). Integers between 0 and 255 and floats
        between 0 and 1 are shown as they are; other values are scaled, for display only, from the
        lowest (black) to the highest (white).
    cmap
        A colour map of matplotlib in place of the two above; zero stays in the middle of it for
        signed maps.
    alpha
        How opaque the map is over the image, in [0, 1].
    clip_percentile
        p makes the scale end at the percentiles p and 100 − p, for signed maps at the larger
        magnitude of the two; values beyond have the colours of the ends. ``None`` or 0 takes
        all values in. Where the percentiles are equal, as in a map of a few points, the scale
        takes all values in too.
    absolute_value
        Draw absolute values.
    normalize_value
        Whether `vmin` and `vmax` are in units of the scale, which is then [0, 1], or [−1, 1] for
        signed maps. ``False`` takes them as values of the map. Without them both give the same
        picture.
    ax
        Matplotlib axes to draw on; ``None`` makes a figure.
    display
        ``"overlay"`` draws the map over the image in grey, so that all colour is the map's;
        ``"contour"`` draws lines at a quarter, a half and three quarters of the scale over the
        image in its own colours, dashed where they are negative; ``"side_by_side"`` draws the
        image to the left of the map. Without an image the map is drawn alone.
    colorbar
        Draw the scale with the values of its ends, in the units of `explanation`; a text becomes
        its label. Pointed ends say that there are values beyond.
    title
        The first line of the title.
    prediction
        What the model said: its outputs (L,), of which the largest is named with its value; or a
        class, as an index or a name.
    score
        The score of that class, if `prediction` is a class.
    class_names
        The names of the classes: a sequence, or a dict by index.
    vmin, vmax
        Limits of the scale in place of the map's own; of a signed map one says the other.
    plot_kwargs
        Passed on to what draws the map: `Axes.imshow`, or `Axes.contour`.

    Returns
    -------
    axes
        The matplotlib axes that were drawn on.

    Raises
    ------
    InvalidInputError
        If a shape is none of these, map and image differ in size, or values are NaN or infinite.
    InvalidParameterError
        If a parameter is out of range.
    ImportError
        If matplotlib is not installed.

    Warns
    -----
    UserWarning
        If the map has one value everywhere, up to rounding. It is drawn in one colour.

    Notes
    -----
    Neither settings nor the current figure change, except that a new figure becomes the current
    one; nothing is shown: call ``plt.show()``.
    """
    map_ = one_map(explanation, absolute_value)
    shown = None if image is None else image_of(image, map_)
    drawn = _draw(
        [map_],
        [shown],
        Choice(cmap, clip_percentile, normalize_value, vmin, vmax),
        titles=[caption(title, prediction, score, class_names)],
        given=ax,
        cols=1,
        img_size=4.0,
        alpha=alpha,
        display=display,
        colorbar=colorbar,
        shared_scale=False,
        options=plot_kwargs,
    )
    return drawn[0]


def plot_attributions(
    explanations: Any,
    images: Any = None,
    cmap: Any = None,
    alpha: float = 0.5,
    clip_percentile: float | None = 0.1,
    absolute_value: bool = False,
    cols: int = 5,
    img_size: float = 2.0,
    *,
    axes: Any = None,
    display: str = "overlay",
    shared_scale: bool = False,
    colorbar: bool | str = False,
    titles: Sequence[str] | None = None,
    predictions: Any = None,
    scores: Any = None,
    class_names: Any = None,
    normalize_value: bool = True,
    vmin: float | None = None,
    vmax: float | None = None,
    **plot_kwargs: Any,
) -> np.ndarray:
    """Draw the maps of several images, over or beside them.

    Each is drawn as `plot_attribution` draws it; the scale is diverging for all of them if one
    of them has negative values.

    Parameters
    ----------
    explanations
        Maps (N, H, W), (N, H, W, 1) or (N, H, W, C), C at most 4; or a list of maps, which may
        differ in size.
    images
        An image for each map.
    cmap, alpha, clip_percentile, absolute_value, display, normalize_value, vmin, vmax, plot_kwargs
        As in `plot_attribution`.
    cols
        Maps in a row of a new figure.
    img_size
        Width of each image in a new figure, in inches.
    axes
        Matplotlib axes, at least N in any shape, to draw on in their order; ``None`` makes a
        figure.
    shared_scale
        Draw all maps on one scale, from all of their values, so that colours can be compared
        between them.
    colorbar
        Draw the scale of each map, or once the one that they share; a text becomes its label.
    titles
        The first line of each title.
    predictions
        The model's outputs (N, L); or a class for each map, as an index or a name.
    scores
        (N,), the scores of those classes, if `predictions` are classes.
    class_names
        The names of the classes: a sequence, or a dict by index.

    Returns
    -------
    axes
        The N matplotlib axes that were drawn on, in an array (N,).

    Raises
    ------
    InvalidInputError, InvalidParameterError, ImportError
        As in `plot_attribution`.

    Warns
    -----
    UserWarning
        If maps have one value everywhere; it says which.
    """
    maps = many_maps(explanations, absolute_value)
    return _draw(
        maps,
        images_of(images, maps),
        Choice(cmap, clip_percentile, normalize_value, vmin, vmax),
        titles=captions(len(maps), titles, predictions, scores, class_names),
        given=axes,
        cols=integer("cols", cols),
        img_size=number("img_size", img_size, "()", remedy=canvas.IN_INCHES),
        alpha=alpha,
        display=display,
        colorbar=colorbar,
        shared_scale=shared_scale,
        options=plot_kwargs,
    )


def _draw(
    maps: Sequence[np.ndarray],
    images: Sequence[np.ndarray | None],
    choice: Choice,
    *,
    titles: Sequence[str],
    given: Any,
    cols: int,
    img_size: float,
    alpha: float,
    display: str,
    colorbar: bool | str,
    shared_scale: bool,
    options: dict[str, Any],
) -> np.ndarray:
    """Check what is left to check, then draw one panel for each map."""
    _check(alpha, display)
    of_maps = scales(maps, shared_scale, choice)
    canvas.color_map(of_maps[0].cmap)
    warn_of_constants(maps, "a map", stacklevel=3)

    beside = display == "side_by_side" and images[0] is not None
    height = img_size * maps[0].shape[0] / maps[0].shape[1]
    lines = max(title.count("\n") + 1 if title else 0 for title in titles)
    width = img_size * (2.04 if beside else 1)
    bar = canvas.COLOR_BAR if colorbar else 0.0
    width, margin = (width, bar) if shared_scale else (width + bar, 0.0)
    panels = canvas.panels(len(maps), given, cols, width, height + LINE * lines + 0.1, margin)
    for axes, map_, image, scale, title in zip(panels, maps, images, of_maps, titles, strict=True):
        is_over = display == "overlay" and image is not None
        drawn = {"alpha": alpha, **options} if is_over else dict(options)
        _draw_panel(axes, map_, image, scale, display, drawn)
        canvas.draw_title(axes, title)
    canvas.draw_color_bars(panels, maps, of_maps, shared_scale, colorbar, options.get("norm"))
    return canvas.as_array(panels)


def _draw_panel(
    axes: Any,
    map_: np.ndarray,
    image: np.ndarray | None,
    scale: Scale,
    display: str,
    options: dict[str, Any],
) -> None:
    axes.set_axis_off()
    if display == "contour":
        if image is not None:
            _draw_image(axes, image)
        canvas.draw_contours(axes, map_, scale, **options)
    elif image is None:
        canvas.draw_map(axes, map_, scale, **options)
    elif display == "overlay":
        _draw_image(axes, grey(image))
        canvas.draw_map(axes, map_, scale, **options)
    else:
        rows, columns = map_.shape
        start = columns * 1.04  # in pixels, as everything is in these axes
        _draw_image(axes, image)
        extent = (start - 0.5, start + columns - 0.5, rows - 0.5, -0.5)
        canvas.draw_map(axes, map_, scale, **{"extent": extent, **options})
        axes.set_xlim(-0.5, start + columns - 0.5)


def _draw_image(axes: Any, image: np.ndarray) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=1)


def _check(alpha: Any, display: Any) -> None:
    one_of("display", display, DISPLAYS, "Without an image, the map is drawn alone.")
    number("alpha", alpha, "[]", high=1, remedy="0 shows the image, 1 the map alone.")
