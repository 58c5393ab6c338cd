"""Maps over spectrograms, volumes and detections: what is drawn where, and what is refused."""

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from xplique_sal.errors import InvalidInputError, InvalidParameterError
from xplique_sal.plots import plot_boxes, plot_spectrogram, plot_volume

# Spectrograms

MAP = np.random.default_rng(0).normal(size=(5, 4))
SOUND = np.array([[1.0, 0.1, 1e-2, 1e-9]] * 5)
GRID = dict(seconds=0.5, hertz=100)


def colors(axes, number=0):
    """Return the colours of a mesh, (F, T, 4), and the ends of its columns and rows."""
    mesh = axes.collections[number]
    ends = mesh.get_coordinates()
    rows, columns = ends.shape[0] - 1, ends.shape[1] - 1
    return np.asarray(mesh.get_array()).reshape(rows, columns, 4), ends[0, :, 0], ends[:, 0, 1]


def test_frames_and_bands_are_where_their_seconds_and_hertz_are():
    (axes,) = plot_spectrogram(MAP, **GRID, clip_percentile=None)
    found, x, y = colors(axes)
    np.testing.assert_allclose(x, np.arange(-0.25, 2.5, 0.5))
    np.testing.assert_allclose(y, np.arange(-50, 400, 100))
    largest = np.abs(MAP).max()
    np.testing.assert_allclose(found, colormaps["coolwarm"]((MAP.T + largest) / (2 * largest)))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("seconds", "hertz")


def test_the_map_is_as_opaque_as_it_is_large_over_grey_decibels():
    (axes,) = plot_spectrogram(MAP, SOUND, **GRID, alpha=0.5, clip_percentile=None)
    grey, over = colors(axes, 0)[0], colors(axes, 1)[0]
    decibels = np.array([0, -20, -40, -80]) / 80 + 1
    np.testing.assert_allclose(grey[:, 0], colormaps["gray"](decibels))
    np.testing.assert_allclose(over[..., 3], 0.5 * np.abs(MAP.T) / np.abs(MAP).max())
    (axes,) = plot_spectrogram(MAP, SOUND, **GRID, unit="power")
    np.testing.assert_allclose(colors(axes)[0][1, 0], colormaps["gray"](70 / 80))
    (axes,) = plot_spectrogram(MAP, np.log(SOUND), **GRID, unit="decibel")
    expected = colormaps["gray"](1 - np.log(SOUND[0]) / np.log(1e-9))
    np.testing.assert_allclose(colors(axes)[0][:, 0], expected)


def test_bands_of_any_distance_and_a_logarithmic_axis():
    hertz = np.array([0, 100, 200, 800])
    (axes,) = plot_spectrogram(MAP[..., None], seconds=np.arange(5) ** 2 + 1.0, hertz=hertz)
    _, x, y = colors(axes)
    np.testing.assert_allclose(x, [0.5, 1.5, 3.5, 7.5, 13.5, 20.5])
    np.testing.assert_allclose(y, [-50, 50, 150, 500, 1100])
    (axes,) = plot_spectrogram(MAP, SOUND, seconds=1, hertz=hertz, hertz_scale="log")
    for number in (0, 1):
        found, _, y = colors(axes, number)
        assert found.shape == (3, 5, 4)
        np.testing.assert_allclose(y, [100 / 2**0.5, 100 * 2**0.5, 400, 1600])
    assert axes.get_yscale() == "log"


def test_a_spectrogram_above_its_map():
    top, bottom = plot_spectrogram(MAP, SOUND, **GRID, display="below", title="a", prediction="b")
    assert len(top.collections) == len(bottom.collections) == 1
    assert (colors(bottom)[0][..., 3] == 1).all()
    assert top.get_title() == "a\nb" and top.get_xlabel() == ""
    assert top.get_shared_x_axes().joined(top, bottom)
    _, given = plt.subplots(2)
    drawn = plot_spectrogram(MAP, SOUND, **GRID, display="below", axes=given, colorbar=False)
    assert list(drawn) == list(given)


@pytest.mark.parametrize(
    ("map_", "sound", "options", "error"),
    [
        (MAP[None], None, {}, InvalidInputError),
        (MAP * np.nan, None, {}, InvalidInputError),
        (MAP, SOUND.T, {}, InvalidInputError),
        (MAP, -SOUND, {}, InvalidInputError),
        (MAP, SOUND * 0, {}, InvalidInputError),
        (MAP, SOUND, {"unit": "watt"}, InvalidParameterError),
        (MAP, SOUND, {"display": "side_by_side"}, InvalidParameterError),
        (MAP, SOUND, {"hertz": [1, 2, 3]}, InvalidParameterError),
        (MAP, SOUND, {"hertz": [1, 2, 2, 3]}, InvalidParameterError),
        (MAP, SOUND, {"hertz": [-1, 2, 3, 4], "hertz_scale": "log"}, InvalidParameterError),
        (MAP, SOUND, {"seconds": 0}, InvalidParameterError),
        (MAP, SOUND, {"alpha": 2}, InvalidParameterError),
        (MAP, SOUND, {"width": 0}, InvalidParameterError),
    ],
)
def test_what_is_no_spectrogram_is_refused(map_, sound, options, error):
    with pytest.raises(error):
        plot_spectrogram(map_, sound, **{**GRID, **options})
    assert not plt.get_fignums()


# Volumes

BODY = np.random.default_rng(1).normal(size=(6, 4, 5))
LARGEST = np.unravel_index(np.abs(BODY).argmax(), BODY.shape)


def test_slices_have_one_scale_which_is_that_of_the_whole_map():
    drawn = plot_volume(BODY[..., None], slices=[0, 3], clip_percentile=None)
    assert [axes.get_title() for axes in drawn] == ["depth 0", "depth 3"]
    for axes, place in zip(drawn, [0, 3], strict=True):
        np.testing.assert_allclose(axes.images[0].get_array(), BODY[place])
        assert axes.images[0].norm.vmax == -axes.images[0].norm.vmin == np.abs(BODY).max()


def test_the_volume_is_grey_by_all_of_its_slices_and_seen_where_the_map_says_nothing():
    volume = BODY**2
    drawn = plot_volume(BODY, volume, 2, axis=1, alpha=0.5, clip_percentile=None)
    assert [axes.get_title() for axes in drawn] == ["height 1", "height 3"]
    grey, over = drawn[1].images
    expected = (volume[:, 3] - volume.min()) / np.ptp(volume)
    np.testing.assert_allclose(grey.get_array(), expected)
    assert (grey.norm.vmin, grey.norm.vmax, grey.cmap.name) == (0, 1, "gray")
    np.testing.assert_allclose(over.get_alpha(), 0.5 * np.abs(BODY[:, 3]) / np.abs(BODY).max())


def test_orthogonal_slices_meet_where_the_map_is_largest():
    drawn = plot_volume(BODY, slices="orthogonal", spacing=(3, 1, 2))
    names = ("depth", "height", "width")
    expected = [f"{name} {place}" for name, place in zip(names, LARGEST, strict=True)]
    assert [axes.get_title() for axes in drawn] == expected
    d, h, w = LARGEST
    for axes, part in zip(drawn, (BODY[d], BODY[:, h], BODY[:, :, w]), strict=True):
        np.testing.assert_allclose(axes.images[0].get_array(), part)
    # A voxel of the first slice is 1 high and 2 wide, of the second 3 and 2, of the third 3 and 1.
    assert [axes.get_aspect() for axes in drawn] == [0.5, 1.5, 3]
    chosen = plot_volume(BODY, slices="orthogonal", point=(1, 2, 3))
    assert chosen[2].get_title() == "width 3"


def test_channels_titles_and_axes_of_volumes():
    both = np.stack([BODY, -2 * BODY], axis=-1)
    figure, given = plt.subplots(1, 3)
    drawn = plot_volume(
        both, slices=(5,), axes=given, title="a scan", prediction=[0, 1], absolute_value=True
    )
    assert list(drawn) == [given[0]] and plt.get_fignums() == [figure.number]
    np.testing.assert_allclose(drawn[0].images[0].get_array(), 2 * np.abs(BODY[5]))
    assert figure.get_suptitle() == "a scan\nclass 1 (1.00)"
    assert len(plot_volume(BODY, slices=99)) == 6


@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        ((BODY[0],), {}, InvalidInputError),
        ((BODY[None],), {}, InvalidInputError),
        ((BODY, BODY[:3]), {}, InvalidInputError),
        ((BODY * np.inf,), {}, InvalidInputError),
        ((BODY, None, 0), {}, InvalidParameterError),
        ((BODY, None, [6]), {}, InvalidParameterError),
        ((BODY, None, [-1]), {}, InvalidParameterError),
        ((BODY, None, []), {}, InvalidParameterError),
        ((BODY, None, "all"), {}, InvalidParameterError),
        ((BODY,), {"axis": 3}, InvalidParameterError),
        ((BODY,), {"point": (0, 0, 0)}, InvalidParameterError),
        ((BODY, None, "orthogonal"), {"point": (0, 0)}, InvalidParameterError),
        ((BODY, None, "orthogonal"), {"point": (0, 0, 5)}, InvalidParameterError),
        ((BODY,), {"spacing": (1, 1)}, InvalidParameterError),
        ((BODY,), {"spacing": (1, 1, 0)}, InvalidParameterError),
    ],
)
def test_what_is_no_volume_is_refused(arguments, options, error):
    with pytest.raises(error):
        plot_volume(*arguments, **options)
    assert not plt.get_fignums()


# Detections

PHOTO = np.random.default_rng(2).random((20, 30, 3))
BOXES = np.array([[2, 3, 10, 12], [15, 5, 29, 18]])
MAPS = np.random.default_rng(3).random((2, 20, 30, 1))


def frames(axes):
    """Return the corners and the colours of what is framed."""
    found = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    return [patch.get_bbox().extents.tolist() for patch in found], [
        to_hex(patch.get_edgecolor()) for patch in found
    ]


def test_each_box_is_around_its_pixels_and_on_its_map():
    whole, first, second = plot_boxes(
        BOXES, PHOTO, MAPS, predictions=[[0.1, 0.9], [0.8, 0.2]], class_names=["dog", "cat"]
    )
    corners, shades = frames(whole)
    assert corners == (BOXES - 0.5).tolist() and len(set(shades)) == 2
    np.testing.assert_allclose(whole.images[0].get_array(), PHOTO)
    assert [text.get_text() for text in whole.texts] == ["cat (0.900)", "dog (0.800)"]
    for position, axes in enumerate((first, second)):
        assert frames(axes) == ([corners[position]], [shades[position]])
        np.testing.assert_allclose(axes.images[-1].get_array(), MAPS[position, ..., 0])
    assert [axes.get_title() for axes in (first, second)] == ["cat (0.900)", "dog (0.800)"]


def test_boxes_without_maps_or_names():
    (whole,) = plot_boxes(BOXES, PHOTO)
    assert [text.get_text() for text in whole.texts] == ["0", "1"]
    whole, first, _ = plot_boxes(BOXES, PHOTO[..., 0], MAPS, shared_scale=True, colorbar=True)
    assert first.get_title() == "box 0" and not whole.texts
    _, given = plt.subplots(1, 3)
    drawn = plot_boxes(BOXES, PHOTO, MAPS, axes=given, scores=[0.5, 2])
    assert list(drawn) == list(given) and given[1].get_title() == "score 0.500"
    with pytest.raises(InvalidParameterError, match="3 panels"):
        plot_boxes(BOXES, PHOTO, MAPS, axes=given[:2])


@pytest.mark.parametrize(
    "arguments",
    [
        (BOXES[0], PHOTO),
        (BOXES[:, :3], PHOTO),
        (BOXES[:, [2, 3, 0, 1]], PHOTO),
        (BOXES / 40, PHOTO),  # shares of the image
        (BOXES + 100, PHOTO),
        (BOXES, PHOTO[None]),
        (BOXES, PHOTO, MAPS[:1]),
        (BOXES, PHOTO[:10], MAPS),
        (BOXES, PHOTO, MAPS * np.nan),
        (BOXES * np.nan, PHOTO),
    ],
)
def test_what_is_no_detection_is_refused(arguments):
    with pytest.raises(InvalidInputError):
        plot_boxes(*arguments)
    assert not plt.get_fignums()
