"""Plots, by what they look like: small pictures without text, against pictures that were looked at.

Versions of matplotlib differ in fonts and in how edges are smoothed. So text is taken away, sizes
and settings are fixed, and pictures are equal if few pixels differ by much. After a change that is
meant, ``python tests/plots/test_plots_pictures.py`` draws the references anew: look at them.
"""

import os
from pathlib import Path

os.environ["MPLBACKEND"] = "Agg"

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from xplique_sal.plots import (
    plot_attribution,
    plot_attributions,
    plot_boxes,
    plot_feature_impact,
    plot_mean_feature_impact,
    plot_sequence_logo,
    plot_spectrogram,
    plot_text,
    plot_timeseries_attributions,
    plot_volume,
)

FOLDER = Path(__file__).with_name("pictures_of_plots")
FAR = 24
"""A pixel differs if a channel differs by more than this, of 255."""

MOST = 0.02
"""The share of pixels that may differ."""

y, x = np.mgrid[-1:1:24j, -1:1:32j]
HILL = np.exp(-4 * ((x - 0.3) ** 2 + (y + 0.2) ** 2))
PAIR = HILL - np.exp(-4 * ((x + 0.5) ** 2 + (y - 0.3) ** 2))
PHOTO = np.stack([x + 1, y + 1, 1 - x * y], axis=-1) / 2
IMPACTS = np.array([0.3, -1.0, 0.05, 0.7, -0.2])


def overlay(figure):
    plot_attribution(HILL, PHOTO, ax=figure.subplots())


def signed_overlay(figure):
    plot_attribution(PAIR, PHOTO, ax=figure.subplots())


def alone(figure):
    plot_attribution(PAIR, ax=figure.subplots())


def contour(figure):
    plot_attribution(HILL, PHOTO, display="contour", ax=figure.subplots())


def signed_contour(figure):
    plot_attribution(PAIR, PHOTO, display="contour", ax=figure.subplots())


def side_by_side(figure):
    plot_attribution(PAIR, PHOTO, display="side_by_side", ax=figure.subplots())


def shared_scale(figure):
    axes = figure.subplots(1, 2)
    plot_attributions([HILL, HILL / 3], axes=axes, shared_scale=True, colorbar=True)


def own_scales(figure):
    plot_attributions([HILL, HILL / 3], axes=figure.subplots(1, 2), colorbar=True)


def series(figure):
    maps = PAIR[::6].T
    plot_timeseries_attributions(maps, axes=figure.subplots(), series=np.sin(9 * x[::6].T))


def impact(figure):
    plot_feature_impact(IMPACTS, max_display=4, ax=figure.subplots())


def mean_impact(figure):
    plot_mean_feature_impact([IMPACTS, -IMPACTS], ax=figure.subplots())


LETTERS = np.array([[one == letter for letter in "ACGT"] for one in "GATTACAG"])
HEIGHTS = np.array([0.2, 1, 0.6, -0.5, 0.3, -0.1, 0.8, 0.4])


def stacked_logo(figure):
    plot_sequence_logo(LETTERS - HEIGHTS[:, None] / 3, axes=figure.subplots())


WORDS = ["Wo", "rte", "auf", "Grund", "und", "Boden", "ohne", "Schrift", "[E]"]


def words(figure):
    values = np.linspace(-1, 1, 9) * [1, -1, 1, -1, 1, -1, 1, -1, 1]
    plot_text(values, WORDS, axes=figure.subplots(), font_size=30)


SOUND = np.exp(6 * np.cos(7 * x.T) - 3 * y.T)


def spectrogram(figure):
    plot_spectrogram(PAIR.T, SOUND, seconds=0.1, hertz=50, axes=figure.subplots())


def volume(figure):
    body = np.stack([PAIR * z for z in np.linspace(-1, 1, 9)])
    plot_volume(body, 1 - body**2, 2, axes=figure.subplots(1, 2))


def boxes(figure):
    corners = [[4, 3, 14, 21], [17, 4, 27, 14]]
    plot_boxes(corners, PHOTO, [PAIR, HILL], axes=figure.subplots(2, 2).ravel())


DRAWINGS = [overlay, signed_overlay, alone, contour, signed_contour, side_by_side]
DRAWINGS += [shared_scale, own_scales, series, impact, mean_impact, stacked_logo, words]
DRAWINGS += [spectrogram, volume, boxes]


def picture(draw):
    """Return what `draw` draws into a figure, as (120, 160, 3) integers."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        figure = Figure(figsize=(3.2, 2.4), dpi=50)
        canvas = FigureCanvasAgg(figure)
        figure.subplots_adjust(0.05, 0.05, 0.95, 0.95)
        draw(figure)
        for text in figure.findobj(Text):
            text.set_visible(False)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def share_that_differs(one, other):
    assert one.shape == other.shape == (120, 160, 3)
    # Means of 2 x 2 pixels: where an edge falls by a pixel is matplotlib's affair.
    one, other = (p.reshape(60, 2, 80, 2, 3).mean(axis=(1, 3)) for p in (one, other))
    return (np.abs(one - other).max(axis=-1) > FAR).mean()


def reference(draw):
    stored = plt.imread(FOLDER / f"{draw.__name__}.png")[..., :3]
    return np.round(stored * 255).astype(np.uint8)


@pytest.mark.parametrize("draw", DRAWINGS)
def test_plots_look_as_they_did(draw):
    differs = share_that_differs(picture(draw), reference(draw))
    assert differs <= MOST, f"{differs:.3f} of the pixels differ"


def test_every_picture_is_unlike_the_others():
    pictures = [reference(draw) for draw in DRAWINGS]
    for position, one in enumerate(pictures):
        for other in pictures[:position]:
            assert share_that_differs(one, other) > 2 * MOST


@pytest.mark.parametrize(
    ("draw", "changed"),
    [
        (overlay, lambda f: plot_attribution(HILL, PHOTO, ax=f.subplots(), alpha=0.8)),
        (overlay, lambda f: plot_attribution(HILL, PHOTO[:, ::-1], ax=f.subplots())),
        (signed_overlay, lambda f: plot_attribution(-PAIR, PHOTO, ax=f.subplots())),
        (alone, lambda f: plot_attribution(PAIR, ax=f.subplots(), cmap="RdBu")),
        (alone, lambda f: plot_attribution(PAIR[::-1], ax=f.subplots())),
        (alone, lambda f: plot_attribution(PAIR, ax=f.subplots(), clip_percentile=20)),
        (
            contour,
            lambda f: plot_attribution(HILL.T, PHOTO.swapaxes(0, 1), "jet", ax=f.subplots()),
        ),
        (impact, lambda f: plot_feature_impact(-IMPACTS, max_display=4, ax=f.subplots())),
        (mean_impact, lambda f: plot_mean_feature_impact([2 * IMPACTS**2], ax=f.subplots())),
        (
            stacked_logo,
            lambda f: plot_sequence_logo(LETTERS + HEIGHTS[:, None] / 3, axes=f.subplots()),
        ),
        (words, lambda f: plot_text(np.linspace(-1, 1, 9), WORDS, axes=f.subplots(), font_size=30)),
        (
            spectrogram,
            lambda f: plot_spectrogram(-PAIR.T, SOUND, seconds=1, hertz=1, axes=f.subplots()),
        ),
        (boxes, lambda f: plot_boxes([[4, 3, 14, 21]], PHOTO, axes=f.subplots(2, 2))),
        (
            volume,
            lambda f: plot_volume(np.stack([PAIR] * 9), slices=2, axes=f.subplots(1, 2)),
        ),
        (series, lambda f: plot_timeseries_attributions(PAIR[::6].T, axes=f.subplots())),
    ],
)
def test_what_is_wrong_looks_different(draw, changed):
    assert share_that_differs(picture(changed), reference(draw)) > 2 * MOST


# Colours


#: Machado, Oliveira and Fernandes, 2009: what is left of linear red, green and blue.
BLINDNESS = {
    "none": np.eye(3),
    "red": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "green": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "blue": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def cielab(name, blindness, count=256):
    """Return the colours of a colour map in CIELAB, as somebody sees them."""
    colors = matplotlib.colormaps[name](np.linspace(0, 1, count))[:, :3]
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ np.transpose(BLINDNESS[blindness]), 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = linear @ np.transpose(to_xyz) / (0.9505, 1, 1.089)
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    lightness = 116 * root[:, 1] - 16
    return np.stack(
        [lightness, 500 * (root[:, 0] - root[:, 1]), 200 * (root[:, 1] - root[:, 2])], axis=-1
    )


def default_color_map(map_):
    return plot_attribution(map_).images[-1].cmap.name


@pytest.mark.parametrize("blindness", BLINDNESS)
def test_larger_is_lighter_on_the_sequential_scale(blindness):
    lightness = cielab(default_color_map(HILL), blindness)[:, 0]
    assert (np.diff(lightness[::4]) > 0).all() and np.ptp(lightness) > 80
    # Lightness grows evenly: that of a uniform map is a straight line.
    assert np.corrcoef(lightness, np.arange(256))[0, 1] > 0.98


@pytest.mark.parametrize("blindness", BLINDNESS)
def test_signs_are_told_apart_on_the_diverging_scale(blindness):
    colors = cielab(default_color_map(PAIR), blindness)
    steps = np.linalg.norm(np.diff(colors, axis=0), axis=1)
    if blindness == "none":
        assert steps.std() < 0.1 * steps.mean()
        assert abs(colors[0, 0] - colors[-1, 0]) < 5  # neither sign is darker
    middle = colors[127]
    for share in (0.5, 1):  # of the largest magnitude
        negative, positive = colors[round(127 * (1 - share))], colors[round(128 + 127 * share)]
        assert np.linalg.norm(negative - positive) > 40 * share
        assert min(np.linalg.norm(middle - side) for side in (negative, positive)) > 15


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for drawing in DRAWINGS:
        plt.imsave(FOLDER / f"{drawing.__name__}.png", picture(drawing))
        print(FOLDER / f"{drawing.__name__}.png")
