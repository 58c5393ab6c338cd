"""Detections and their maps."""

from __future__ import annotations

from typing import Any

import numpy as np

from xplique_sal._parameters import integer, number
from xplique_sal.errors import InvalidInputError
from xplique_sal.plots import canvas
from xplique_sal.plots.caption import captions
from xplique_sal.plots.image import LINE, plot_attributions
from xplique_sal.plots.reading import image_of, many_maps, numbers

#: Told apart by the colour-blind (Okabe and Ito, 2008), and seen on pixels of any colour.
COLORS = ("#56b4e9", "#e69f00", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#0072b2")


def plot_boxes(
    boxes: Any,
    image: Any,
    explanations: Any = None,
    *,
    axes: Any = None,
    predictions: Any = None,
    scores: Any = None,
    class_names: Any = None,
    cols: int = 4,
    img_size: float = 2.4,
    **options: Any,
) -> np.ndarray:
    """Draw detections on their image, and beside it the map of each with its box.

    Parameters
    ----------
    boxes
        (K, 4): x1, y1, x2, y2 in pixels, x to the right and y downwards.
        `detection.convert_boxes` makes them of other formats.
    image
        What was explained: (H, W), (H, W, 1) or (H, W, 3).
    explanations
        A map for each box, (K, H, W) or (K, H, W, 1), in their order; ``None`` draws the image
        with its boxes alone.
    axes
        Matplotlib axes: one for the image, and one for each map; ``None`` makes a figure.
    predictions
        What each box is: outputs (K, L), of which the largest is named; or a class for each, as
        an index or a name.
    scores
        (K,), beside classes or alone.
    class_names
        The names of the classes: a sequence, or a dict by index.
    cols, img_size
        Panels in a row of a new figure, and the width of each, in inches.
    options
        Of maps, as of `plot_attributions`: `alpha`, `cmap`, `colorbar`, `shared_scale`,
        `display` (not ``"side_by_side"``), `absolute_value`, …

    Returns
    -------
    axes
        The matplotlib axes that were drawn on, in an array: the image's, and one for each map.

    Raises
    ------
    InvalidInputError
        If shapes do not fit, a box ends before it begins or lies outside of the image, or boxes
        are shares of the image in place of pixels.
    InvalidParameterError
        If a parameter is out of range.
    ImportError
        If matplotlib is not installed.
    """
    corners = _corners(boxes)
    count = len(corners)
    if explanations is None:
        maps, shown = [], _image(image, np.shape(image)[:2])
    else:
        maps = many_maps(explanations, False)
        if len(maps) != count:
            raise InvalidInputError(
                f"a map for each of {count} boxes", f"{len(maps)} maps", "In the order of boxes."
            )
        shown = _image(image, maps[0].shape)
    _check_inside(corners, shown.shape[:2])
    names = captions(count, None, predictions, scores, class_names)
    cols = integer("cols", cols)
    img_size = number("img_size", img_size, "()", remedy=canvas.IN_INCHES)

    height = img_size * shown.shape[0] / shown.shape[1] + 2 * LINE
    bars = canvas.COLOR_BAR if options.get("colorbar") and maps else 0.0
    panels = canvas.panels(1 + len(maps), axes, cols, img_size + bars, height)
    colors = [COLORS[position % len(COLORS)] for position in range(count)]
    panels[0].set_axis_off()
    panels[0].imshow(shown, cmap="gray", vmin=0, vmax=1)
    for position, (box, name, color) in enumerate(zip(corners, names, colors, strict=True)):
        label = name or str(position)
        canvas.draw_box(panels[0], box, color, "" if maps and not name else label)
    if maps:
        titles = [name or f"box {position}" for position, name in enumerate(names)]
        plot_attributions(
            maps, [image] * count, axes=np.array(panels[1:]), titles=titles, **options
        )
        for panel, box, color in zip(panels[1:], corners, colors, strict=True):
            canvas.draw_box(panel, box, color)
    return canvas.as_array(panels)


def _corners(boxes: Any) -> np.ndarray:
    array = numbers(boxes, "boxes")
    if array.ndim != 2 or array.shape[1] != 4:
        raise InvalidInputError(
            "boxes of shape (K, 4), x1, y1, x2, y2",
            f"the shape {array.shape}",
            "Take the boxes of one image, without scores and classes.",
        )
    wrong = (array[:, 0] >= array[:, 2]) | (array[:, 1] >= array[:, 3])
    if wrong.any():
        raise InvalidInputError(
            "boxes x1, y1, x2, y2 with x1 < x2 and y1 < y2",
            f"{array[wrong][0].tolist()}",
            '`detection.convert_boxes(boxes, "xywh", "xyxy")` makes them of sizes.',
        )
    return array


def _image(image: Any, shape: tuple[int, ...]) -> np.ndarray:
    if len(shape) != 2:
        raise InvalidInputError(
            "an image of shape (H, W), (H, W, 1) or (H, W, 3)", f"{shape}", "Pass one image."
        )
    return image_of(image, np.zeros(shape))


def _check_inside(corners: np.ndarray, shape: tuple[int, ...]) -> None:
    height, width = shape
    if corners.max() <= 1 and min(shape) > 2:
        raise InvalidInputError(
            "boxes in pixels",
            f"shares of the image, up to {corners.max():.3g}",
            '`detection.convert_boxes(boxes, "rel_xyxy", "xyxy", image_size=(H, W))` makes pixels.',
        )
    x1, y1, x2, y2 = corners.T
    outside = (x2 <= 0) | (y2 <= 0) | (x1 >= width) | (y1 >= height)
    if outside.any():
        raise InvalidInputError(
            f"boxes on the image, of {width} x {height} pixels",
            f"{corners[outside][0].tolist()}",
            "Boxes of a resized image have to be resized, too.",
        )
