"""Plots, by what is in the artists that they draw."""

import inspect
import sys
import warnings

import matplotlib
import numpy as np
import pytest
import tensorflow as tf
from matplotlib import pyplot as plt
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from xplique_sal import plots
from xplique_sal.errors import InvalidInputError, InvalidParameterError
from xplique_sal.plots import (
    plot_attribution,
    plot_attributions,
    plot_feature_impact,
    plot_mean_feature_impact,
    plot_timeseries_attributions,
)


@pytest.fixture
def unsigned(rng):
    return rng.exponential(size=(4, 12, 16)) + 1


@pytest.fixture
def signed(rng):
    return rng.normal(size=(4, 12, 16)) + 0.5


def drawn(axes):
    """Return the last picture on axes: the map."""
    return axes.images[-1]


def limits(axes):
    norm = drawn(axes).norm
    return norm.vmin, norm.vmax


def color_bars(figure):
    return [axes for axes in figure.axes if axes.get_label() == "<colorbar>"]


# Signatures


XPLIQUE = {
    "plot_attribution": "explanation image cmap alpha clip_percentile absolute_value"
    " normalize_value",
    "plot_attributions": "explanations images cmap alpha clip_percentile absolute_value cols"
    " img_size",
    "plot_timeseries_attributions": "explanations features title subtitles filepath cmap colorbar"
    " clip_percentile absolute_value cols img_size",
    "plot_feature_impact": "explanation features_name features_value max_display",
    "plot_mean_feature_impact": "explanations features_name max_display",
}


@pytest.mark.parametrize("name", XPLIQUE)
def test_the_parameters_are_xpliques_and_the_others_by_keyword(name):
    parameters = inspect.signature(getattr(plots, name)).parameters.values()
    by_position = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert by_position == XPLIQUE[name].split()
    own = {"plot_boxes", "plot_comparison", "plot_curves", "plot_sequence_logo", "TextPicture"}
    own |= {"plot_spectrogram", "plot_text", "plot_volume"}
    assert set(plots.__all__) == {*XPLIQUE, *own}


def test_calls_written_for_xplique(unsigned, tmp_path):
    plot_attribution(unsigned[0], unsigned[0], "jet", 0.5, 1, True, True)
    plot_attribution(unsigned[0], image=None, cmap="viridis", alpha=1.0, interpolation="bilinear")
    plot_attributions(unsigned, unsigned, img_size=2.0, cmap="viridis", cols=2, alpha=0.4)
    plot_timeseries_attributions(
        unsigned, [str(i) for i in range(16)], "all", list("abcd"), tmp_path / "file.png", "jet"
    )
    plot_feature_impact(unsigned[0, 0], [str(i) for i in range(16)], unsigned[0, 1], 3)
    plot_mean_feature_impact(unsigned[0], [str(i) for i in range(16)], 3)
    assert (tmp_path / "file.png").read_bytes().startswith(b"\x89PNG")


# Scales


@pytest.mark.parametrize("percentile", [None, 0, 0.1, 5, 49.0])
def test_limits_of_unsigned_maps_are_percentiles(unsigned, percentile):
    axes = plot_attribution(unsigned[0], clip_percentile=percentile)
    clip = percentile or 0
    np.testing.assert_allclose(limits(axes), np.percentile(unsigned[0], (clip, 100 - clip)))
    assert drawn(axes).cmap.name == "inferno"
    np.testing.assert_array_equal(drawn(axes).get_array(), unsigned[0])


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("percentile", [None, 0.1, 5])
def test_limits_of_signed_maps_are_symmetric(signed, sign, percentile):
    axes = plot_attribution(sign * signed[0], clip_percentile=percentile)
    clip = percentile or 0
    largest = np.abs(np.percentile(signed[0], (clip, 100 - clip))).max()
    np.testing.assert_allclose(limits(axes), (-largest, largest))
    assert drawn(axes).cmap.name == "coolwarm"
    assert drawn(axes).norm(0.0) == 0.5


def test_all_negative_maps_are_signed(unsigned):
    low, high = limits(plot_attribution(-unsigned[0], clip_percentile=None))
    assert -low == high == unsigned[0].max()


def test_rounding_below_zero_is_no_sign(unsigned):
    map_ = unsigned[0].copy()
    map_[0, 0] = -1e-7
    assert drawn(plot_attribution(map_)).cmap.name == "inferno"
    map_[0, 0] = -1e-2
    assert drawn(plot_attribution(map_)).cmap.name == "coolwarm"


def test_a_lowest_value_near_zero_is_zero():
    map_ = np.linspace(0.009, 1, 12).reshape(3, 4)
    assert limits(plot_attribution(map_, clip_percentile=None)) == (0, 1)
    map_ = np.linspace(0.011, 1, 12).reshape(3, 4)
    assert limits(plot_attribution(map_, clip_percentile=None)) == (0.011, 1)


def test_absolute_values(signed):
    axes = plot_attribution(signed[0], absolute_value=True)
    np.testing.assert_array_equal(drawn(axes).get_array(), np.abs(signed[0]))
    assert drawn(axes).cmap.name == "inferno"


def test_zero_stays_in_the_middle_of_a_given_colour_map(signed, unsigned):
    assert drawn(plot_attribution(signed[0], cmap="jet")).norm(0.0) == 0.5
    given = matplotlib.colormaps["cividis"]
    for cmap in ("cividis", given):
        axes = plot_attribution(unsigned[0], cmap=cmap, clip_percentile=None)
        assert drawn(axes).cmap == given
        np.testing.assert_allclose(limits(axes), (unsigned[0].min(), unsigned[0].max()))


def test_scales_are_each_maps_own_or_shared(unsigned):
    maps = unsigned * np.array([1, 10, 100, 1000])[:, None, None]
    own = plot_attributions(maps, clip_percentile=None)
    np.testing.assert_allclose(
        [limits(axes) for axes in own], [(map_.min(), map_.max()) for map_ in maps]
    )
    shared = plot_attributions(maps, shared_scale=True, clip_percentile=2)
    low, high = np.percentile(maps, (2, 98))
    np.testing.assert_allclose(
        [limits(axes) for axes in shared], [(0 if low < 0.01 * high else low, high)] * 4
    )


def test_one_signed_map_makes_all_of_them_diverging(unsigned):
    maps = unsigned.copy()
    maps[2] *= -1
    for shared in (False, True):
        axes = plot_attributions(maps, clip_percentile=None, shared_scale=shared)
        assert {drawn(panel).cmap.name for panel in axes} == {"coolwarm"}
        largest = [maps.max()] * 4 if shared else np.abs(maps).max(axis=(1, 2))
        largest = [np.abs(maps).max()] * 4 if shared else largest
        np.testing.assert_allclose([limits(panel)[1] for panel in axes], largest)


def test_given_limits_are_in_units_of_the_scale_or_values(unsigned, signed):
    map_ = unsigned[0]
    low, high = map_.min(), map_.max()
    options = {"clip_percentile": None}
    axes = plot_attribution(map_, vmin=0.25, vmax=0.5, **options)
    np.testing.assert_allclose(limits(axes), (low + 0.25 * (high - low), low + 0.5 * (high - low)))
    axes = plot_attribution(map_, vmin=0.25, vmax=0.5, normalize_value=False, **options)
    assert limits(axes) == (0.25, 0.5)
    axes = plot_attribution(signed[0], vmax=0.5, **options)
    np.testing.assert_allclose(limits(axes)[1], 0.5 * np.abs(signed[0]).max())
    assert limits(axes)[0] == -limits(axes)[1]
    axes = plot_attribution(signed[0], vmin=-3, normalize_value=False, **options)
    assert limits(axes) == (-3, 3)
    axes = plot_attribution(signed[0], vmin=-1, vmax=3, normalize_value=False, **options)
    assert limits(axes) == (-1, 3)


def test_a_norm_of_the_users_is_taken(unsigned):
    norm = LogNorm(1, 10)
    axes = plot_attribution(unsigned[0], norm=norm, colorbar=True)
    assert drawn(axes).norm is norm
    assert color_bars(axes.figure)[0].get_ylim() == pytest.approx((1, 10))


def test_a_single_point_is_not_clipped_away():
    map_ = np.zeros((60, 60))
    map_[3, 5] = 7
    assert np.percentile(map_, 99.9) == 0
    assert limits(plot_attribution(map_)) == (0, 7)
    map_[3, 5] = -7
    assert limits(plot_attribution(map_)) == (-7, 7)


@pytest.mark.parametrize(
    ("value", "expected"), [(0.0, (0, 1)), (3.0, (0, 3)), (-3.0, (-3, 3)), (1e-30, (0, 1e-30))]
)
def test_a_constant_map_is_one_colour_and_a_warning(value, expected):
    map_ = np.full((12, 16), value, np.float32)
    for noise in (0, 2e-7):
        map_[0, 0] *= 1 + noise
        with pytest.warns(UserWarning, match="one value everywhere") as caught:
            axes = plot_attribution(map_, map_ * 0)
        assert [warning.filename for warning in caught] == [__file__]
        np.testing.assert_allclose(limits(axes), expected, rtol=1e-6)
        colors = drawn(axes).to_rgba(drawn(axes).get_array(), alpha=1.0)
        assert np.ptp(colors, axis=(0, 1)).max() < 0.01


def test_the_warning_says_which_maps_are_constant(unsigned):
    maps = unsigned.copy()
    maps[1], maps[3] = 0, 5
    with pytest.warns(UserWarning, match=r"\(number 1, 3\).*\(0, 5\)") as caught:
        plot_attributions(maps)
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.warns(UserWarning, match="number 1, 3") as caught:
        plot_timeseries_attributions(maps)
    assert [warning.filename for warning in caught] == [__file__]


def test_contours_of_a_constant_map_are_none():
    with pytest.warns(UserWarning, match="one value everywhere") as caught:
        axes = plot_attribution(np.ones((5, 5)), np.ones((5, 5)), display="contour")
    assert len(caught) == 1 and not axes.collections


# Maps and images


def test_of_several_channels_the_strongest_is_drawn(rng):
    map_ = rng.normal(size=(5, 6, 3))
    expected = np.zeros((5, 6))
    for row, column in np.ndindex(5, 6):
        expected[row, column] = max(map_[row, column], key=abs)
    np.testing.assert_array_equal(drawn(plot_attribution(map_)).get_array(), expected)
    batch = plot_attributions(map_[None])
    np.testing.assert_array_equal(drawn(batch[0]).get_array(), expected)


def test_every_way_of_passing_maps(unsigned):
    for maps in (
        unsigned,
        unsigned[..., None],
        tf.constant(unsigned),
        list(unsigned),
        [tf.constant(map_[..., None]) for map_ in unsigned],
        tuple(unsigned.astype(np.float32)),
        unsigned.astype(np.float16),
        tf.cast(unsigned, tf.bfloat16),
    ):
        axes = plot_attributions(maps, maps)
        assert axes.shape == (4,)
        for panel, map_ in zip(axes, unsigned, strict=True):
            np.testing.assert_allclose(drawn(panel).get_array(), map_, rtol=1e-2)


def test_maps_of_a_list_may_differ_in_size(unsigned):
    axes = plot_attributions([unsigned[0], unsigned[1, :6]], [unsigned[0], unsigned[1, :6]])
    assert [drawn(panel).get_array().shape for panel in axes] == [(12, 16), (6, 16)]


ONE_TO_TWO = np.linspace(1, 2, 24).reshape(4, 6)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (np.arange(24, dtype=np.uint8).reshape(4, 6), np.arange(24).reshape(4, 6) / 255),
        (np.ones((4, 6), np.uint8), np.full((4, 6), 1 / 255)),
        (np.arange(24).reshape(4, 6), np.arange(24).reshape(4, 6) / 255),
        (np.eye(4, 6, dtype=int), np.eye(4, 6)),
        (np.eye(4, 6, dtype=bool), np.eye(4, 6)),
        (np.arange(24).reshape(4, 6) * 20, np.arange(24).reshape(4, 6) / 23),
        (-np.arange(24).reshape(4, 6), 1 - np.arange(24).reshape(4, 6) / 23),
        (ONE_TO_TWO / 2, ONE_TO_TWO / 2),
        (ONE_TO_TWO * 100, ONE_TO_TWO - 1),
        (ONE_TO_TWO - 1.5, ONE_TO_TWO - 1),
        (np.full((4, 6), -7.0), np.full((4, 6), 0.5)),
    ],
)
def test_how_images_are_shown(image, expected):
    image.flags.writeable = False
    before = image.copy()
    map_ = np.arange(24.0).reshape(4, 6)
    for given in (image, image[..., None], tf.constant(image)):
        for display in ("overlay", "contour", "side_by_side"):
            shown = plot_attribution(map_, given, display=display).images[0]
            np.testing.assert_allclose(shown.get_array(), expected, atol=1e-6)
            assert (shown.norm.vmin, shown.norm.vmax, shown.cmap.name) == (0, 1, "gray")
    np.testing.assert_array_equal(image, before)


def test_images_in_colour_are_grey_under_a_map_only(rng, unsigned):
    image = rng.uniform(size=(12, 16, 3))
    brightness = 0.299 * image[..., 0] + 0.587 * image[..., 1] + 0.114 * image[..., 2]
    axes = plot_attribution(unsigned[0], image)
    np.testing.assert_allclose(axes.images[0].get_array(), brightness)
    for display in ("contour", "side_by_side"):
        axes = plot_attribution(unsigned[0], image, display=display)
        np.testing.assert_allclose(axes.images[0].get_array(), image)


def test_nothing_given_is_changed(rng):
    given = {
        "explanations": rng.normal(size=(3, 4, 5, 1)),
        "images": rng.normal(size=(3, 4, 5, 3)),
        "predictions": rng.normal(size=(3, 7)),
    }
    before = {name: array.copy() for name, array in given.items()}
    for array in given.values():
        array.flags.writeable = False
    plot_attributions(**given, absolute_value=True, clip_percentile=10, shared_scale=True)
    for name, array in given.items():
        np.testing.assert_array_equal(array, before[name])


# Displays


def test_overlay(unsigned):
    axes = plot_attribution(unsigned[0], unsigned[1], alpha=0.3)
    assert [image.get_alpha() for image in axes.images] == [None, 0.3]
    assert axes.images[0].get_extent() == axes.images[1].get_extent()
    alone = plot_attribution(unsigned[0], alpha=0.3)
    assert len(alone.images) == 1 and drawn(alone).get_alpha() is None


def test_side_by_side_do_not_overlap(unsigned):
    axes = plot_attribution(unsigned[0], unsigned[1], display="side_by_side")
    left, right = (tuple(image.get_extent()) for image in axes.images)
    assert left == (-0.5, 15.5, 11.5, -0.5)
    assert right[0] > left[1] and right[1] - right[0] == pytest.approx(16) and right[2:] == left[2:]
    assert axes.get_xlim() == (left[0], right[1]) and axes.get_ylim() == (11.5, -0.5)


def test_contours_are_at_quarters_of_the_scale(unsigned, signed):
    axes = plot_attribution(unsigned[0], unsigned[1], display="contour", clip_percentile=None)
    (lines,) = axes.collections
    low, high = unsigned[0].min(), unsigned[0].max()
    np.testing.assert_allclose(lines.levels, low + (high - low) * np.array([0.25, 0.5, 0.75]))
    assert (lines.norm.vmin, lines.norm.vmax, lines.cmap.name) == (low, high, "inferno")

    map_ = signed[0] - signed[0].mean()
    axes = plot_attribution(map_, map_, display="contour", clip_percentile=None)
    (lines,) = axes.collections
    largest = np.abs(map_).max()
    levels = largest * np.array([-0.75, -0.5, -0.25, 0.25, 0.5, 0.75])
    inside = (levels > map_.min()) & (levels < map_.max())
    np.testing.assert_allclose(lines.levels, levels[inside])
    dashed = [offset_and_dashes[1] is not None for offset_and_dashes in lines.get_linestyle()]
    assert dashed == list(levels[inside] < 0)

    axes = plot_attribution(map_, map_, display="contour", levels=[0.1, 0.2], linewidths=3)
    np.testing.assert_allclose(axes.collections[0].levels, [0.1, 0.2])


# Colour bars


def test_a_colour_bar_for_each_map_or_one(unsigned):
    maps = unsigned * np.array([1, 10, 100, 1000])[:, None, None]
    axes = plot_attributions(maps, clip_percentile=None, colorbar=True)
    bars = color_bars(axes[0].figure)
    np.testing.assert_allclose(
        [bar.get_ylim() for bar in bars], [(map_.min(), map_.max()) for map_ in maps]
    )
    axes = plot_attributions(maps, clip_percentile=None, colorbar="gradient", shared_scale=True)
    (bar,) = color_bars(axes[0].figure)
    assert bar.get_ylim() == (0, maps.max()) and bar.get_ylabel() == "gradient"
    assert not color_bars(plot_attributions(maps)[0].figure)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-2, 0.5, ["−2", "0", "2"]),
        (0, 0.01, ["0", "0.005", "0.01"]),
        (100.1, 100.9, ["100.1", "100.5", "100.9"]),
        (0, 3e-7, ["0", "1.5e−07", "3e−07"]),
    ],
)
def test_a_colour_bar_says_the_values_of_its_ends(low, high, expected):
    map_ = np.linspace(low, high, 20).reshape(4, 5)
    axes = plot_attribution(map_, colorbar=True, clip_percentile=None)
    (bar,) = color_bars(axes.figure)
    assert [text.get_text() for text in bar.get_yticklabels()] == expected


def test_a_colour_bar_is_pointed_where_values_are_beyond(unsigned, monkeypatch):
    seen = []
    original = Figure.colorbar
    monkeypatch.setattr(
        Figure, "colorbar", lambda *a, **k: (seen.append(k["extend"]), original(*a, **k))[1]
    )
    plot_attribution(unsigned[0], colorbar=True, clip_percentile=None)
    plot_attribution(unsigned[0], colorbar=True, clip_percentile=5)
    plot_attribution(unsigned[0], colorbar=True, vmax=0.5, clip_percentile=None)
    plot_attribution(unsigned[0], colorbar=True, vmin=0.5, clip_percentile=None)
    assert seen == ["neither", "both", "max", "min"]


# Titles


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"predictions": [[0.07, 0.93], [0.8, 0.2]]}, ["class 1 (0.930)", "class 0 (0.800)"]),
        (
            {"predictions": [[1.0, -2.0], [0.0, 123.4]], "class_names": ["cat", "dog"]},
            ["cat (1.00)", "dog (123)"],
        ),
        ({"predictions": [1, 0], "class_names": {0: "cat", 1: "dog"}}, ["dog", "cat"]),
        (
            {"predictions": np.array([1, 0]), "scores": tf.constant([0.25, -3.0])},
            ["class 1 (0.250)", "class 0 (−3.00)"],
        ),
        (
            {"predictions": ["a", "b-c"], "scores": [[1e-7], [2.0]]},
            ["a (1.00e−07)", "b-c (2.00)"],
        ),
        ({"scores": [1.5, 2]}, ["score 1.50", "score 2.00"]),
        ({"predictions": [[0.5], [-0.25]]}, ["output (0.500)", "output (−0.250)"]),
        (
            {"predictions": [[0.5], [0.25]], "class_names": ["angle"]},
            ["angle (0.500)", "angle (0.250)"],
        ),
        ({"titles": ["a", None]}, ["a", ""]),
        ({"titles": ["a", ""], "predictions": [0, 1]}, ["a\nclass 0", "class 1"]),
        ({}, ["", ""]),
    ],
)
def test_titles(unsigned, options, expected):
    axes = plot_attributions(unsigned[:2], img_size=3, **options)
    assert [panel.get_title() for panel in axes] == expected
    if "titles" in options:
        options["subtitles"] = options.pop("titles")
    axes = plot_timeseries_attributions(unsigned[:2], **options)
    assert [panel.get_title() for panel in axes] == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"prediction": [0.07, 0.93]}, "class 1 (0.930)"),
        ({"prediction": [[0.07, 0.93]], "class_names": "ab"}, "b (0.930)"),
        ({"prediction": 3, "score": 0.5}, "class 3 (0.500)"),
        ({"prediction": "dog", "title": "Rex"}, "Rex\ndog"),
        ({"score": tf.constant(2.5)}, "score 2.50"),
    ],
)
def test_the_title_of_one(unsigned, options, expected):
    assert plot_attribution(unsigned[0], **options).get_title() == expected
    assert plot_feature_impact(unsigned[0, 0], **options).get_title() == expected


def test_long_titles_are_broken(unsigned):
    name = "Chesapeake Bay retriever in a bathtub"
    axes = plot_attributions(unsigned, predictions=[name] * 4, img_size=1.5, cols=4)
    lines = axes[0].get_title().split("\n")
    assert " ".join(lines) == name and 1 < len(lines) < 5


# Axes and figures


def test_without_axes_there_is_one_new_figure(unsigned):
    axes = plot_attributions(unsigned, cols=3, img_size=2.0)
    assert plt.get_fignums() == [1] and plt.gcf() is axes[0].figure
    assert axes[0].figure.axes == list(axes)
    width, height = axes[0].figure.get_size_inches()
    assert width == 6 and 3 < height < 3.5
    columns = [panel.get_subplotspec().colspan.start for panel in axes]
    assert columns == [0, 1, 2, 0]
    wide = plot_attributions(unsigned, cols=9)
    assert wide[0].figure.get_size_inches()[0] == 8


def test_on_axes_of_the_users_nothing_else_changes(unsigned, monkeypatch):
    monkeypatch.setattr(plt, "show", lambda *_, **__: pytest.fail("it was shown"))
    current = plt.figure()
    current.add_subplot()
    figure = Figure()
    grid = figure.subplots(3, 2)
    settings = dict(matplotlib.rcParams)
    axes = plot_attributions(
        unsigned, unsigned, axes=grid, colorbar=True, predictions=[0] * 4, display="contour"
    )
    assert list(axes) == list(grid.flat[:4])
    assert not grid[2, 0].images and grid[2, 0].axison
    one = plot_attribution(unsigned[0], ax=grid[2, 0], colorbar=True)
    assert one is grid[2, 0]
    assert plot_timeseries_attributions(unsigned[0], axes=grid[2, 1])[0] is grid[2, 1]
    bars = figure.add_subplot()
    assert plot_feature_impact(unsigned[0, 0], ax=bars) is bars
    assert plot_mean_feature_impact(unsigned[0], ax=bars) is bars
    assert plt.get_fignums() == [1] and plt.gcf() is current and len(current.axes) == 1
    assert dict(matplotlib.rcParams) == settings


def test_settings_stay_when_a_figure_is_made(unsigned, monkeypatch):
    monkeypatch.setattr(plt, "show", lambda *_, **__: pytest.fail("it was shown"))
    settings = dict(matplotlib.rcParams)
    registered = list(matplotlib.colormaps)
    plot_attribution(unsigned[0], colorbar=True, display="contour")
    plot_timeseries_attributions(unsigned, title="all")
    plot_feature_impact(unsigned[0, 0])
    plot_mean_feature_impact(unsigned[0])
    assert dict(matplotlib.rcParams) == settings and list(matplotlib.colormaps) == registered


def test_a_part_of_a_figure(unsigned, tmp_path):
    parts = Figure(figsize=(8, 3), layout="constrained").subfigures(1, 2)
    axes = plot_attributions(
        unsigned[:2],
        axes=parts[0].subplots(1, 2),
        colorbar=True,
        shared_scale=True,
        predictions=[0, 1],
    )
    assert [panel.get_title() for panel in axes] == ["class 0", "class 1"]
    plot_timeseries_attributions(
        unsigned[0], axes=parts[1].subplots(), title="t", filepath=tmp_path / "whole.png"
    )
    shape = plt.imread(tmp_path / "whole.png").shape
    assert shape[1] > 2 * shape[0]


def test_without_matplotlib_the_error_says_how_to_install_it(unsigned, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for draw in (plot_attribution, plot_attributions, plot_timeseries_attributions):
        with pytest.raises(ImportError, match=r'pip install "xplique-sal\[plots\]"'):
            draw(unsigned if draw is not plot_attribution else unsigned[0])
    for draw, impacts in ((plot_feature_impact, [1.0]), (plot_mean_feature_impact, [[1.0]])):
        with pytest.raises(ImportError, match=r'pip install "xplique-sal\[plots\]"'):
            draw(impacts)


# Errors


MAP = np.arange(20.0).reshape(4, 5)
NAN, INF = MAP.copy(), MAP.copy()
NAN[1, 2], INF[3, 4] = np.nan, -np.inf


@pytest.mark.parametrize(
    ("draw", "what"),
    [
        (lambda: plot_attribution(NAN), "1 NaN and 0 infinite"),
        (lambda: plot_attribution(INF), "0 NaN and 1 infinite"),
        (lambda: plot_attribution(MAP, NAN), "an image"),
        (lambda: plot_attribution(MAP[0]), r"\(5,\)"),
        (lambda: plot_attribution(MAP[None, ..., None]), r"maps\[0\]"),
        (lambda: plot_attribution(MAP[None]), "at most 4 channels"),
        (lambda: plot_attribution(MAP[:0]), r"\(0, 5\)"),
        (lambda: plot_attribution(None), "real numbers"),
        (lambda: plot_attribution("map"), "real numbers"),
        (lambda: plot_attribution(MAP * 1j), "real numbers"),
        (lambda: plot_attribution([[1, 2], [3]]), "real numbers"),
        (lambda: plot_attribution(MAP, MAP.T), r"size of its map, \(4, 5\).*\(5, 4\)"),
        (lambda: plot_attribution(MAP, MAP[None]), "one or three"),
        (lambda: plot_attribution(MAP, np.zeros((4, 5, 4))), "one or three"),
        (lambda: plot_attribution(MAP, np.zeros((3, 4, 5))), "channels last"),
        (lambda: plot_attributions(MAP), r"map\[None\]"),
        (lambda: plot_attributions(MAP[..., None]), r"map\[None\]"),
        (lambda: plot_attributions([]), "at least one map"),
        (lambda: plot_attributions(MAP[None][:0]), "at least one value"),
        (lambda: plot_attributions([MAP, NAN]), r"number 1"),
        (lambda: plot_attributions([MAP, None]), r"number 1"),
        (lambda: plot_attributions(MAP[None], 7), "one image for each"),
        (lambda: plot_attributions([MAP, MAP], [MAP]), "each of 2 maps.*1 images"),
        (lambda: plot_attributions([MAP, MAP], [MAP, MAP.T]), "size of its map"),
        (lambda: plot_timeseries_attributions(NAN), "1 NaN"),
        (lambda: plot_timeseries_attributions(MAP[0]), r"\(N, T, W\)"),
        (lambda: plot_timeseries_attributions(MAP, series=MAP.T), r"\(1, 4, 5\)"),
        (lambda: plot_timeseries_attributions(MAP, series=NAN), "finite series"),
        (lambda: plot_feature_impact(MAP), "plot_mean_feature_impact"),
        (lambda: plot_feature_impact(NAN[1]), "1 NaN"),
        (lambda: plot_mean_feature_impact(MAP[0]), "plot_feature_impact"),
        (lambda: plot_mean_feature_impact(INF), "1 infinite"),
    ],
)
def test_inputs_that_cannot_be_drawn(draw, what):
    with pytest.raises(InvalidInputError, match=what):
        draw()
    assert not plt.get_fignums()


@pytest.mark.parametrize(
    ("draw", "what"),
    [
        (lambda: plot_attribution(MAP, clip_percentile=50), "below 50"),
        (lambda: plot_attribution(MAP, clip_percentile=-1), "below 50"),
        (lambda: plot_attribution(MAP, clip_percentile="1"), "below 50"),
        (lambda: plot_attribution(MAP, alpha=1.5), "alpha"),
        (lambda: plot_attribution(MAP, alpha=None), "alpha"),
        (lambda: plot_attribution(MAP, cmap="heat"), "'heat'"),
        (lambda: plot_attribution(MAP, display="beside"), "'side_by_side'"),
        (lambda: plot_attribution(MAP, vmin=1, vmax=0), "`vmin` below `vmax`"),
        (lambda: plot_attribution(MAP, vmax=np.nan), "`vmax` as a finite number"),
        (lambda: plot_attribution(MAP, vmin="0"), "`vmin` as a finite number"),
        (lambda: plot_attribution(MAP, ax=3), "matplotlib axes"),
        (lambda: plot_attribution(MAP, ax=[]), "1 panels"),
        (lambda: plot_attribution(MAP, prediction=2, class_names="ab"), "class 2 of 2 names"),
        (lambda: plot_attribution(MAP, prediction=-1, class_names="ab"), "class -1"),
        (lambda: plot_attribution(MAP, prediction=3, class_names={0: "a"}), "class 3"),
        (lambda: plot_attribution(MAP, prediction=0.5), "`predictions` as outputs"),
        (lambda: plot_attribution(MAP, prediction=[0.5, 0.5], score=1), "both outputs"),
        (lambda: plot_attribution(MAP, prediction=[1.0, 0], class_names="abc"), "3 names"),
        (lambda: plot_attributions([MAP, MAP], axes=[None, None]), "matplotlib axes"),
        (lambda: plot_attributions([MAP, MAP], axes=[Figure().subplots()]), "2 panels"),
        (lambda: plot_attributions([MAP, MAP], cols=0), "`cols` as an integer of at least 1"),
        (lambda: plot_attributions([MAP, MAP], cols=2.0), "`cols` as an integer of at least 1"),
        (
            lambda: plot_attributions([MAP, MAP], img_size=0),
            "`img_size` as a finite number above 0",
        ),
        (lambda: plot_attributions([MAP, MAP], img_size=np.inf), "`img_size`"),
        (lambda: plot_attributions([MAP, MAP], titles=["a"]), "`titles` for each of 2"),
        (lambda: plot_attributions([MAP, MAP], titles="ab"), "`titles` for each of 2"),
        (lambda: plot_attributions([MAP, MAP], predictions=[1]), "`predictions` for each of 2"),
        (lambda: plot_attributions([MAP, MAP], scores=1.0), "`scores` for each of 2"),
        (lambda: plot_attributions([MAP, MAP], scores=np.ones((2, 3))), r"\(2, 3\)"),
        (lambda: plot_timeseries_attributions(MAP, ["a"]), "each of 5 features"),
        (lambda: plot_timeseries_attributions(MAP, "abcde"), "'abcde'"),
        (lambda: plot_timeseries_attributions(MAP, cols=-1), "`cols`"),
        (lambda: plot_timeseries_attributions(MAP, subtitles=["a", "b"]), "each of 1"),
        (lambda: plot_feature_impact(MAP[0], ["a"]), "each of 5 features"),
        (lambda: plot_feature_impact(MAP[0], features_value=[1]), "`features_value`"),
        (lambda: plot_feature_impact(MAP[0], max_display=0), "`max_display`"),
        (lambda: plot_mean_feature_impact(MAP, ["a"]), "each of 5 features"),
        (lambda: plot_mean_feature_impact(MAP, max_display=True), "`max_display`"),
    ],
)
def test_parameters_that_do_not_exist(draw, what):
    with pytest.raises(InvalidParameterError, match=what):
        draw()
    assert not plt.get_fignums()


# Time series


def test_series_are_drawn_feature_by_feature(rng):
    maps, series = rng.normal(size=(2, 9, 3)), rng.normal(size=(2, 9, 3))
    series[..., 2] = 4  # a constant is a line in the middle of its row
    axes = plot_timeseries_attributions(
        maps, ["a", "b", "c"], "all", ["x", "y"], series=series, clip_percentile=None, colorbar=True
    )
    assert axes[0].figure.get_suptitle() == "all" and len(color_bars(axes[0].figure)) == 2
    for panel, map_, sample in zip(axes, maps, series, strict=True):
        np.testing.assert_array_equal(drawn(panel).get_array(), map_.T)
        assert limits(panel) == (-np.abs(map_).max(), np.abs(map_).max())
        assert [text.get_text() for text in panel.get_yticklabels()] == ["a", "b", "c"]
        assert panel.get_xlabel() == "time step"
        assert panel.get_xlim() == (-0.5, 8.5) and panel.get_ylim() == (2.5, -0.5)
        for row, line in enumerate(panel.lines[:2]):
            values = sample[:, row]
            share = (values - values.min()) / np.ptp(values)
            np.testing.assert_array_equal(line.get_xdata(), np.arange(9))
            np.testing.assert_allclose(line.get_ydata(), row + 0.4 - 0.8 * share)
        np.testing.assert_allclose(panel.lines[2].get_ydata(), 2)


def test_one_series_and_default_names(rng):
    map_ = np.abs(rng.normal(size=(9, 50)))
    (axes,) = plot_timeseries_attributions(tf.constant(map_))
    np.testing.assert_array_equal(drawn(axes).get_array(), map_.T)
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == [f"feature {index}" for index in range(0, 50, 2)]
    assert drawn(axes).cmap.name == "inferno" and not axes.lines
    signed = plot_timeseries_attributions(-map_, absolute_value=True, shared_scale=True)
    np.testing.assert_array_equal(drawn(signed[0]).get_array(), map_.T)


# Tables


def bars(axes):
    return [patch.get_width() for patch in axes.patches]


def labels(axes):
    return [text.get_text() for text in axes.get_yticklabels()]


def colors(axes):
    return [matplotlib.colors.to_hex(patch.get_facecolor()) for patch in axes.patches]


def test_bars_are_sorted_by_magnitude():
    impacts = np.array([0.5, -2.0, 0.0, 1.0])
    axes = plot_feature_impact(impacts, list("abcd"), [3, "x", 1.23456, -2.0])
    assert bars(axes) == [-2, 1, 0.5, 0]
    assert labels(axes) == ["b = x", "d = −2", "a = 3", "c = 1.235"]
    assert [text.get_text() for text in axes.texts] == ["−2.0", "1.0", "0.50", "0.0"]
    blue, red = "#3b4cc0", "#b40426"
    assert colors(axes) == [blue, red, red, red]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first bar is at the top
    assert axes.get_xlim() == pytest.approx((-2.4, 2.4))
    assert axes.get_xlabel() == "impact on the output"


def test_unsigned_bars_have_one_other_colour():
    axes = plot_feature_impact(tf.constant([1.0, 3.0, 2.0]), max_display=2)
    assert bars(axes) == [3, 2] and labels(axes) == ["feature 1", "feature 2"]
    assert len(set(colors(axes))) == 1 and colors(axes)[0] not in ("#3b4cc0", "#b40426")
    assert axes.get_xlim() == pytest.approx((0, 3.6))
    assert axes.get_xlabel() == "impact on the output (the 2 largest of 3 features)"
    assert bars(plot_feature_impact([1.0, 3.0], max_display=9)) == [3, 1]


def test_the_sign_of_what_is_not_shown_is_kept():
    axes = plot_feature_impact([3.0, -1.0], max_display=1)
    assert bars(axes) == [3] and colors(axes) == ["#b40426"]
    assert axes.get_xlim() == pytest.approx((0, 3.6))


def test_impacts_of_zero_are_a_warning():
    with pytest.warns(UserWarning, match="All impacts are zero") as caught:
        axes = plot_feature_impact(np.zeros(3))
    assert bars(axes) == [0, 0, 0] and axes.get_xlim() == pytest.approx((0, 1.2))
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_feature_impact([1.0, 1.0])


def test_the_mean_is_that_of_magnitudes():
    impacts = np.array([[1.0, -4.0, 0.5], [-1.0, 2.0, 0.5]])
    axes = plot_mean_feature_impact(impacts, list("abc"), title="all")
    assert bars(axes) == [3, 1, 0.5] and labels(axes) == ["b", "a", "c"]
    assert axes.get_title() == "all"
    assert axes.get_xlabel() == "mean |impact on the output| of 2 samples"
    axes = plot_mean_feature_impact(impacts, list("abc"), 2, absolute_value=False)
    assert bars(axes) == [-1, 0.5] and labels(axes) == ["b", "c"]
    assert axes.get_xlabel().startswith("mean impact on the output of 2 samples (the 2 largest")


@pytest.mark.parametrize("impacts", [[-0.82, 0.64, -0.4], [-1e-7, -3e-8, 2e-8]], ids=str)
@pytest.mark.parametrize("width", [3.0, 4.2, 8.0])
def test_numbers_at_bars_do_not_cover_the_names(impacts, width):
    figure, axes = plt.subplots(figsize=(width, 2.4), layout="constrained")
    names = ["mean compactness = 0.198", "mean concavity", "radius error"]
    plots.plot_feature_impact(np.array(impacts), names, ax=axes)
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    shown = [label.get_window_extent(renderer) for label in axes.get_yticklabels()]
    numbers = [text.get_window_extent(renderer) for text in axes.texts]
    assert len(shown) == len(numbers) == 3
    assert not any(name.overlaps(number) for name in shown for number in numbers)
