"""Logos of sequences: the boxes of their letters, their rows, and what is refused."""

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex

from xplique_sal.errors import InvalidInputError, InvalidParameterError
from xplique_sal.plots import plot_sequence_logo

SEQUENCE = "GATTACA"
HOT = np.array([[one == letter for letter in "ACGT"] for one in SEQUENCE], float)


@pytest.fixture(autouse=True)
def _no_figures_left():
    yield
    plt.close("all")


def boxes(axes):
    """For each colour, the (left, bottom, right, top) of its letters, position by position."""
    found = {}
    for patch in axes.patches:
        path = patch.get_path()
        if path.codes is None or len(path.vertices) < 6:
            continue
        parts = np.round(path.vertices[path.codes != 79], 6)
        where = np.round(parts[:, 0]).astype(int)
        found[to_hex(patch.get_facecolor())] = {
            int(at): (*parts[where == at].min(0), *parts[where == at].max(0)) for at in set(where)
        }
    return found


A, C, G, T = "#109648", "#255c99", "#e0930b", "#d62839"


def test_a_letter_is_as_high_as_its_position_contributes(rng):
    values = rng.normal(size=(7, 4))
    (axes,) = plot_sequence_logo(values, SEQUENCE)
    found = boxes(axes)
    heights = values.sum(1)
    for position, letter in enumerate(SEQUENCE):
        color = {"A": A, "C": C, "G": G, "T": T}[letter]
        _, bottom, _, top = found[color][position]
        low, high = sorted((0, heights[position]))
        np.testing.assert_allclose((bottom, top), (low, high), atol=1e-5)
    assert sum(map(len, found.values())) == 7
    assert axes.get_ylim()[0] < heights.min() and axes.get_ylim()[1] > heights.max()


@pytest.mark.parametrize("given", [HOT, SEQUENCE, SEQUENCE.lower()], ids=["hot", "text", "lower"])
def test_a_sequence_is_a_text_or_one_hot(given):
    heights = np.arange(1, 8)
    (axes,) = plot_sequence_logo(heights, given, start=10)
    np.testing.assert_allclose(boxes(axes)[C][15][3], 6, atol=1e-5)
    assert axes.get_xlim() == (9.5, 16.5)


def test_letters_are_stacked_with_the_largest_outermost():
    (axes,) = plot_sequence_logo([[1, 3, -2, -0.5], [0, 0, 2, 0]])
    found = boxes(axes)
    for color, low, high in [(A, 0, 1), (C, 1, 4), (T, -0.5, 0), (G, -2.5, -0.5)]:
        _, bottom, _, top = found[color][0]
        np.testing.assert_allclose((bottom, top), (low, high), atol=1e-5)
    assert set(found[G]) == {0, 1} and set(found[A]) == {0}


def test_mutations_have_the_columns_of_the_logo_and_grey_letters(rng):
    changes = rng.normal(size=(7, 4))
    logo, map_ = plot_sequence_logo(HOT, SEQUENCE, mutations=changes, window=(2, 6))
    values = map_.images[0].get_array()
    np.testing.assert_allclose(values, np.where(HOT, 0, changes)[2:6].T)
    assert map_.images[0].norm.vmin == -map_.images[0].norm.vmax
    np.testing.assert_array_equal(map_.images[1].get_array()[..., 3] > 0, HOT[2:6].T > 0)
    assert logo.get_xlim() == map_.get_xlim() == (1.5, 5.5)
    assert [label.get_text() for label in map_.get_yticklabels()] == list("ACGT")


def test_rows_on_axes_of_the_users_own():
    figure, given = plt.subplots(3)
    rows = plot_sequence_logo(HOT, SEQUENCE, hypothetical=HOT - 0.5, mutations=-HOT, axes=given)
    assert list(rows) == list(given) and plt.get_fignums() == [figure.number]
    with pytest.raises(InvalidParameterError, match="3 panels"):
        plot_sequence_logo(HOT, SEQUENCE, hypothetical=HOT, mutations=HOT, axes=given[:2])


def test_other_alphabets():
    (axes,) = plot_sequence_logo(np.ones(4), "GAUC", "rna")
    assert set(boxes(axes)) == {A, C, G, T}
    (axes,) = plot_sequence_logo([1, 2, 3], "DKL", "protein")
    assert len(boxes(axes)) == 3
    (axes,) = plot_sequence_logo([1, 2], "ba", "ab", colors={"a": "#123456"})
    np.testing.assert_allclose(boxes(axes)["#123456"][1][3], 2, atol=1e-5)


def test_letters_outside_of_the_alphabet_have_no_height():
    (axes,) = plot_sequence_logo(np.ones(4), "ANNA")
    assert set(boxes(axes)) == {A} and set(boxes(axes)[A]) == {0, 3}


@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        ((np.ones(7),), {}, InvalidInputError),
        ((np.ones((7, 3)), SEQUENCE), {}, InvalidInputError),
        ((np.ones(6), SEQUENCE), {}, InvalidInputError),
        ((np.ones(7) * np.nan, SEQUENCE), {}, InvalidInputError),
        ((np.ones((1, 7, 4)), SEQUENCE), {}, InvalidInputError),
        ((np.ones(3), "xyz"), {}, InvalidInputError),
        ((HOT, SEQUENCE), {"mutations": np.ones((6, 4))}, InvalidInputError),
        ((HOT, SEQUENCE), {"hypothetical": np.ones(7)}, InvalidInputError),
        ((HOT, SEQUENCE), {"window": (5, 9)}, InvalidParameterError),
        ((HOT, SEQUENCE), {"window": 3}, InvalidParameterError),
        ((HOT, SEQUENCE), {"marks": [(3, 3)]}, InvalidParameterError),
        ((HOT, SEQUENCE, "AACG"), {}, InvalidParameterError),
    ],
)
def test_what_is_no_logo_is_refused(arguments, options, error):
    with pytest.raises(error):
        plot_sequence_logo(*arguments, **options)
    assert not plt.get_fignums()


def test_a_title_stands_above_the_names_of_stretches():
    (axes,) = plot_sequence_logo(HOT, SEQUENCE, marks=[(0, len(SEQUENCE), "site")], title="title")
    figure = axes.get_figure()
    figure.draw_without_rendering()
    (name,) = [text for text in axes.texts if text.get_text() == "site"]
    assert axes.title.get_window_extent().y0 >= name.get_window_extent().y1
