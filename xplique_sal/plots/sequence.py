"""Contributions to sequences of letters, as logos, and what each mutation changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xplique_sal._parameters import integer
from xplique_sal.errors import InvalidInputError, InvalidParameterError
from xplique_sal.plots import canvas
from xplique_sal.plots.caption import caption
from xplique_sal.plots.reading import numbers
from xplique_sal.plots.scale import DIVERGING, Scale

#: The letters of molecules, in the order in which one-hot columns usually have them.
ALPHABETS = {"dna": "ACGT", "rna": "ACGU", "protein": "ACDEFGHIKLMNPQRSTVWY"}
_NUCLEOTIDES = {"A": "#109648", "C": "#255c99", "G": "#e0930b", "T": "#d62839", "U": "#d62839"}
#: Amino acids by what they do: acid, base, polar, glycine and proline, aromatic, hydrophobic.
_AMINO_ACIDS = {
    **dict.fromkeys("DE", "#d62839"),
    **dict.fromkeys("KRH", "#255c99"),
    **dict.fromkeys("STNQC", "#109648"),
    **dict.fromkeys("GP", "#e0930b"),
    **dict.fromkeys("FWY", "#7b3fa0"),
    **dict.fromkeys("AVLIM", "#3a3a3a"),
}
_OTHER, _WILD_TYPE, _MARK = "#6a6a6a", "#8c8c8c", "#fbf0c9"
#: Widths of a position and heights of rows, in inches.
_POSITION, _LEAST, _MOST = 0.13, 4.0, 14.0
_LOGO, _CELL = 1.5, 0.22


def plot_sequence_logo(
    explanation: Any,
    sequence: Any = None,
    alphabet: str | Sequence[str] = "dna",
    *,
    hypothetical: Any = None,
    mutations: Any = None,
    window: tuple[int, int] | None = None,
    start: int = 0,
    marks: Sequence[tuple[Any, ...]] | None = None,
    colors: Mapping[str, Any] | None = None,
    axes: Any = None,
    title: str | None = None,
    prediction: Any = None,
    score: Any = None,
    class_names: Any = None,
) -> np.ndarray:
    """Draw what each letter of a sequence contributes, as a letter of that height.

    Letters that raise the score stand on the axis, those that lower it hang from it, and the
    sequence itself is written below. Other rows have the same columns.

    Parameters
    ----------
    explanation
        Contributions (L, A) of the A letters at L positions, or (L,) of the positions, of a method
        of which they add up: gradient × input, integrated gradients, DeepLIFT.
    sequence
        What was explained: a text, or one-hot (L, A). The height of its letter is the sum of the
        position's contributions. Without it, each letter has its own, and those of a position are
        stacked, the largest outermost.
    alphabet
        The letters of the A columns in their order: ``"dna"`` (ACGT), ``"rna"`` (ACGU),
        ``"protein"`` (the twenty amino acids by the alphabet), or any letters.
    hypothetical
        (L, A), what each letter would contribute in its place: a second logo.
    mutations
        (L, A), by how much the score changes with that letter in its place (in-silico
        mutagenesis): a heat map, in which the letters of the sequence are grey.
    window
        The positions to show, (first, last + 1), counted from `start`.
    start
        The number of the first position on the axis.
    marks
        Stretches to shade, each (first, last + 1) or (first, last + 1, name), counted from `start`.
    colors
        A colour for each letter in place of the usual ones.
    axes
        Matplotlib axes, one for each row; ``None`` makes a figure.
    title
        The first line of the title.
    prediction, score, class_names
        As in `plot_attribution`.

    Returns
    -------
    axes
        The matplotlib axes of the rows that were drawn: contributions, then hypothetical ones and
        mutations where there are any.

    Raises
    ------
    InvalidInputError
        If shapes do not fit each other or the alphabet, or values are NaN or infinite.
    InvalidParameterError
        If a parameter is out of range.
    ImportError
        If matplotlib is not installed.
    """
    letters = _letters(alphabet)
    hot = None if sequence is None else _one_hot(sequence, letters)
    rows = [("contribution", _of_letters(explanation, hot, letters))]
    length = len(rows[0][1])
    for name, values in (("hypothetical", hypothetical), ("mutation", mutations)):
        if values is not None:
            rows.append((name, _matrix(values, (length, len(letters)), name)))
    first, last = _window(window, integer("start", start, None), length)
    shown = slice(first - start, last - start)
    of_letters, marked = _colors(letters, colors), _check_marks(marks)
    text = caption(title, prediction, score, class_names)

    width = float(np.clip(_POSITION * (last - first) + 1.0, _LEAST, _MOST))
    heights = [_CELL * len(letters) if name == "mutation" else _LOGO for name, _ in rows]
    panels = canvas.rows(heights, axes, width, 0.2 * (text.count("\n") + 1) + 0.6)
    for (name, values), panel in zip(rows, panels, strict=True):
        part = values[shown]
        if name == "mutation":
            _draw_mutations(panel, part, None if hot is None else hot[shown], letters, first)
        else:
            _draw_logo(panel, part, letters, of_letters, first)
            panel.set_ylabel(name, fontsize=canvas.LABEL_SIZE)
        if name != "mutation":  # whose colours are all that there is to see
            _draw_marks(panel, marked, first, last, named=panel is panels[0])
        panel.set_xlim(first - 0.5, last - 0.5)
        panel.tick_params(labelsize=canvas.LABEL_SIZE)
        if panel is not panels[-1]:
            panel.tick_params(axis="x", labelbottom=False)
    if hot is not None:
        _draw_sequence(panels[-1], hot[shown], letters, of_letters, first)
    panels[-1].set_xlabel("position", fontsize=canvas.LABEL_SIZE)
    panels[-1].locator_params(axis="x", integer=True)
    canvas.draw_title(panels[0], text, over_names=any(len(mark) == 3 for mark in marked))
    canvas.align_names(panels)
    return canvas.as_array(panels)


def _letters(alphabet: Any) -> list[str]:
    known = ALPHABETS.get(alphabet.lower(), alphabet) if isinstance(alphabet, str) else alphabet
    letters = [str(letter) for letter in known]
    if (
        len(letters) < 2
        or len(set(letters)) < len(letters)
        or any(len(one) != 1 for one in letters)
    ):
        raise InvalidParameterError(
            "an `alphabet` of different letters, or one of "
            + ", ".join(f'"{name}"' for name in ALPHABETS),
            repr(alphabet),
            "Name the letters in the order of the columns, such as 'ACGT'.",
        )
    return letters


def _one_hot(sequence: Any, letters: Sequence[str]) -> np.ndarray:
    """Return a sequence (L, A) of truth values; a letter that is none of them is no column."""
    if isinstance(sequence, str):
        text = sequence.upper() if all(letter.isupper() for letter in letters) else sequence
        hot = np.array([[one == letter for letter in letters] for one in text], bool)
        if not hot.any():
            raise InvalidInputError(
                f"a `sequence` of the letters {''.join(letters)}",
                repr(sequence[:30]),
                "Name its `alphabet`.",
            )
        return hot
    array = numbers(sequence, "a sequence")
    if array.ndim != 2 or array.shape[1] != len(letters):
        raise InvalidInputError(
            f"a `sequence` as a text, or one-hot (L, {len(letters)})",
            f"the shape {array.shape}",
            "Take one sample, without its batch axis.",
        )
    return (array == array.max(axis=1, keepdims=True)) & (array > 0)


def _of_letters(explanation: Any, hot: np.ndarray | None, letters: Sequence[str]) -> np.ndarray:
    """Return the height of each letter at each position, (L, A)."""
    array = numbers(explanation, "contributions")
    if array.ndim not in (1, 2) or (array.ndim == 2 and array.shape[1] != len(letters)):
        raise InvalidInputError(
            f"contributions (L, {len(letters)}), or (L,) beside a sequence",
            f"the shape {array.shape}",
            "Take one sample, `maps[0]`, and name the `alphabet` of its columns.",
        )
    if hot is None:
        if array.ndim == 1:
            raise InvalidInputError(
                f"contributions (L, {len(letters)}) without a sequence",
                f"the shape {array.shape}",
                "Pass the `sequence` too, whose letters are drawn.",
            )
        return array
    if len(hot) != len(array):
        raise InvalidInputError(
            f"a `sequence` of {len(array)} letters", f"{len(hot)}", "Pass what was explained."
        )
    return hot * (array if array.ndim == 1 else array.sum(axis=1))[:, np.newaxis]


def _matrix(values: Any, shape: tuple[int, int], name: str) -> np.ndarray:
    array = numbers(values, name)
    if array.shape != shape:
        raise InvalidInputError(
            f"`{name}` values of the shape {shape}",
            f"the shape {array.shape}",
            "One for each letter at each position, of one sample.",
        )
    return array


def _window(window: Any, start: int, length: int) -> tuple[int, int]:
    if window is None:
        return start, start + length
    try:
        first, last = (integer("window", int(end), None) for end in window)
    except (TypeError, ValueError):
        first = last = 0
    if not start <= first < last <= start + length:
        raise InvalidParameterError(
            f"a `window` (first, last + 1) between {start} and {start + length}",
            repr(window),
            "Positions are counted from `start`.",
        )
    return first, last


def _colors(letters: Sequence[str], given: Mapping[str, Any] | None) -> dict[str, Any]:
    usual = _NUCLEOTIDES if set(letters) <= set(_NUCLEOTIDES) else _AMINO_ACIDS
    return {letter: (given or {}).get(letter, usual.get(letter, _OTHER)) for letter in letters}


def _draw_logo(
    axes: Any, heights: np.ndarray, letters: Sequence[str], colors: Mapping[str, Any], first: int
) -> None:
    """Draw letters, those of a position stacked away from the axis, the largest outermost."""
    boxes: dict[str, list[tuple[float, float, float]]] = {letter: [] for letter in letters}
    for position, row in enumerate(heights):
        tops = {True: 0.0, False: 0.0}
        for column in np.argsort(np.abs(row), kind="stable"):
            height = float(row[column])
            if height:
                up = height > 0
                low = tops[up] if up else tops[up] + height
                boxes[letters[column]].append((first + position, low, abs(height)))
                tops[up] += height
    canvas.draw_letters(axes, boxes, colors)
    axes.axhline(0, color="black", linewidth=0.6)
    highest = np.where(heights > 0, heights, 0).sum(axis=1).max()
    lowest = np.where(heights < 0, heights, 0).sum(axis=1).min()
    room = 0.06 * ((highest - lowest) or 1.0)
    axes.set_ylim(lowest - (room if lowest < 0 else 0), (highest or room) + room)
    axes.spines[["right", "top", "bottom"]].set_visible(False)
    axes.locator_params(axis="y", nbins=4)


def _draw_mutations(
    axes: Any, changes: np.ndarray, hot: np.ndarray | None, letters: Sequence[str], first: int
) -> None:
    cells = changes if hot is None else np.where(hot, 0.0, changes)
    largest = float(np.abs(cells).max()) or 1.0
    scale = Scale(-largest, largest, DIVERGING, signed=True)
    extent = (first - 0.5, first + len(changes) - 0.5, len(letters) - 0.5, -0.5)
    options = {"aspect": "auto", "interpolation": "nearest", "extent": extent}
    canvas.draw_map(axes, cells.T, scale, **options)
    if hot is not None:
        canvas.draw_cells(axes, hot.T, _WILD_TYPE, extent)
    axes.set_yticks(range(len(letters)), letters)
    axes.tick_params(axis="y", length=0)
    axes.set_ylabel("mutation", fontsize=canvas.LABEL_SIZE)
    axes.spines[:].set_visible(False)
    canvas.draw_color_bars([axes], [cells], [scale], True, "change of score")


def _draw_sequence(
    axes: Any, hot: np.ndarray, letters: Sequence[str], colors: Mapping[str, Any], first: int
) -> None:
    """Write the sequence below the axes, above the numbers of positions."""
    boxes: dict[str, list[tuple[float, float, float]]] = {letter: [] for letter in letters}
    for position, column in zip(*np.nonzero(hot), strict=True):
        boxes[letters[column]].append((first + int(position), 0.1, 0.8))
    canvas.draw_track(axes, boxes, colors)


def _check_marks(marks: Any) -> list[tuple[Any, ...]]:
    found = [tuple(mark) for mark in marks or ()]
    for mark in found:
        if len(mark) not in (2, 3) or not mark[0] < mark[1]:
            raise InvalidParameterError(
                "`marks` as (first, last + 1) or (first, last + 1, name)",
                repr(mark),
                "Positions are counted from `start`.",
            )
    return found


def _draw_marks(
    axes: Any, marks: Sequence[tuple[Any, ...]], first: int, last: int, named: bool
) -> None:
    for mark in marks:
        low, high = max(mark[0], first), min(mark[1], last)
        if low < high:
            name = str(mark[2]) if named and len(mark) == 3 else ""
            canvas.draw_stretch(axes, low - 0.5, high - 0.5, _MARK, name)
