"""Maps of texts: words on coloured grounds, as a figure, as HTML and for a terminal."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xplique_sal._parameters import number, optional
from xplique_sal.plots import canvas
from xplique_sal.plots.caption import caption, captions
from xplique_sal.plots.scale import ROUNDING, Choice, Scale, scales, warn_of_constants
from xplique_sal.plots.words import Text, Word, texts_of

#: Of the font size: room beside a word, between words, and between the bases of two lines.
_BESIDE, _BETWEEN, _LINE = 0.18, 0.22, 1.75
#: Of a colour bar below texts, in inches, and what a line of a title takes.
_BAR, _TITLE = 0.5, 0.2
#: How opaque letters are, and those of tokens that belong to the format.
_PLAIN, _MUTED = 1.0, 0.55
_FRAME = (
    "background:#fff;color:#000;padding:0.5em 0.8em;max-width:52em;"
    "font-family:system-ui,sans-serif;font-size:15px;line-height:2"
)


class TextPicture:
    """Words on grounds of the colour of what each contributes: for a notebook, a file, a terminal.

    As the last expression of a notebook's cell it is shown. Every text is escaped, so that what it
    says is shown and never run.

    The scale is that of `plot_attribution`: blue lowers the score and red raises it; a map without
    negative values has a sequential scale.

    Parameters
    ----------
    explanations
        One number for each token: (N, T) of N texts, a list of N maps (T,) of any lengths, or the
        map (T,) of one text. Explainers return it with ``reducer="token_sum"`` or ``"token_norm"``.
    tokens
        The tokens: a list of strings for each text, or one for one text, as `text.tokens` returns
        them. What is ``None`` or empty is padding, and is not shown; the title says what it
        contributes, if it does.
    titles
        The first line of the title of each text, or of the only one.
    predictions, scores
        As in `plot_attributions`; of one text as in `plot_attribution`.
    class_names
        The names of the classes: a sequence, or a dict by index.
    subwords
        How pieces of words are told, which are merged into words: ``"##"`` before all pieces but
        the first (BERT), ``"Ġ"`` before the first (GPT-2, whose bytes become letters again),
        ``"▁"`` before the first (SentencePiece), ``"</w>"`` after the last (CLIP); ``"auto"``
        finds out, ``None`` shows every token by itself. Tokens of the format, as ``[CLS]``, are
        never merged, and are muted.
    merge
        The value of a word of several pieces: their ``"sum"``, which keeps a complete map
        complete, their ``"mean"``, or ``"max"``, the value that is largest in magnitude.
    shared_scale
        Make colours worth the same in all texts.
    cmap, clip_percentile, absolute_value, normalize_value, vmin, vmax
        As in `plot_attribution`, of words.

    Raises
    ------
    InvalidInputError
        If there is not one value for each token, or values are NaN or infinite.
    InvalidParameterError
        If a parameter is out of range.
    ImportError
        If matplotlib is not installed.

    Warns
    -----
    UserWarning
        If all words of a text have one value.

    Examples
    --------
    >>> picture = TextPicture(maps[0], tokens[0])  # doctest: +SKIP
    >>> picture.save("sentence.html")  # doctest: +SKIP
    >>> print(picture.ansi())  # doctest: +SKIP
    """

    def __init__(
        self,
        explanations: Any,
        tokens: Any,
        titles: Any = None,
        *,
        predictions: Any = None,
        scores: Any = None,
        class_names: Any = None,
        subwords: str | None = "auto",
        merge: str = "sum",
        shared_scale: bool = False,
        cmap: Any = None,
        clip_percentile: float | None = None,
        absolute_value: bool = False,
        normalize_value: bool = True,
        vmin: float | None = None,
        vmax: float | None = None,
    ) -> None:
        texts, is_one = texts_of(explanations, tokens, subwords, merge)
        if is_one:
            heads = [caption(titles, predictions, scores, class_names)]
        else:
            heads = captions(len(texts), titles, predictions, scores, class_names)
        if absolute_value:
            texts = [
                text._replace(words=[word._replace(value=abs(word.value)) for word in text.words])
                for text in texts
            ]
        self._texts, self._shared = texts, bool(shared_scale)
        self._values = [np.array([word.value for word in text.words]) for text in texts]
        choice = Choice(cmap, clip_percentile, normalize_value, vmin, vmax)
        self._scales = scales(self._values, self._shared, choice)
        canvas.require_matplotlib()
        canvas.color_map(self._scales[0].cmap)
        warn_of_constants([v for v in self._values if len(v) > 1], "a map", stacklevel=2)
        self._titles = [
            "\n".join(filter(None, (head, _of_padding(text, values))))
            for head, text, values in zip(heads, texts, self._values, strict=True)
        ]

    def plot(
        self,
        axes: Any = None,
        *,
        width: float = 6.5,
        font_size: float = 11.0,
        colorbar: bool | str = True,
    ) -> np.ndarray:
        """Draw the texts with matplotlib: see `plot_text`."""
        size = number("font_size", font_size, "()", remedy="It is in points: 11 is a good start.")
        width = number("width", width, "()", remedy=canvas.IN_INCHES)
        rooms = [_room(text.words, size, width * 72) for text in self._texts]
        if axes is None:
            below = 0.0 if not colorbar or self._shared else _BAR
            heights = [
                height / 72 + _TITLE * (title.count("\n") + 1 if title else 0) + below + 0.05
                for (_, height), title in zip(rooms, self._titles, strict=True)
            ]
            beside = _BAR if colorbar and self._shared else 0.05
            panels = canvas.rows(heights, None, width, beside, shared=False)
        else:
            panels = canvas.rows([1.0] * len(self._texts), axes, width, 0.0)
        for position, panel in enumerate(panels):
            self._draw(panel, position, size, rooms[position] if axes is None else None)
        place = {"location": "bottom", "shrink": 0.45, "aspect": 32, "pad": 0.03}
        parts = panels, self._values, self._scales, self._shared, colorbar
        canvas.draw_color_bars(*parts, place=place)
        return canvas.as_array(panels)

    def _draw(
        self, axes: Any, position: int, size: float, room: tuple[float, float] | None
    ) -> None:
        words = self._texts[position].words
        width, height = room or _fitting(words, size, *canvas.size_in_points(axes))
        canvas.stretch(axes, width, height)
        shades = canvas.colors_of(self._values[position], self._scales[position])
        places = _places(words, size, width)
        for word, (left, line, wide), (ground, is_light) in zip(words, places, shades, strict=True):
            opacity = _MUTED if word.is_special else _PLAIN
            shade = float(is_light)
            color = (shade, shade, shade, opacity)
            base = (_LINE * line + 1.2) * size
            canvas.draw_word(axes, _drawable(word), (left, base, wide), size, ground, color)
        canvas.draw_title(axes, self._titles[position], loc="left")

    def html(self) -> str:
        """Return the texts as a piece of HTML, which needs neither scripts nor other files."""
        parts = []
        for position, text in enumerate(self._texts):
            title = "<br>".join(map(html.escape, self._titles[position].split("\n")))
            shades = canvas.colors_of(self._values[position], self._scales[position])
            spans = [_span(word, *shade) for word, shade in zip(text.words, shades, strict=True)]
            head = f'<div style="font-weight:600">{title}</div>' if title else ""
            parts.append(f'{head}<div dir="auto">{" ".join(spans)}</div>')
            if not self._shared or text is self._texts[-1]:
                parts.append(_legend(self._scales[position]))
        return f'<div style="{_FRAME}">{"".join(parts)}</div>'

    def _repr_html_(self) -> str:
        return self.html()

    def ansi(self, width: int | None = None) -> str:
        """Return the texts for a terminal of 24-bit colours, in lines of `width` columns.

        Without `width` lines are as long as the terminal is wide. Characters that would control
        the terminal are shown as �. It needs rich, of the extra ``plots``.
        """
        optional("rich", "A text for a terminal needs", "plots")
        import io

        from rich.console import Console
        from rich.text import Text as Line

        console = Console(
            file=(written := io.StringIO()),
            force_terminal=True,
            color_system="truecolor",
            width=width,
            highlight=False,
            legacy_windows=False,
        )
        for position, text in enumerate(self._texts):
            if self._titles[position]:
                console.print(Line(_printable(self._titles[position], keep="\n"), style="bold"))
            shades = canvas.colors_of(self._values[position], self._scales[position])
            line = Line()
            for word, (ground, is_light) in zip(text.words, shades, strict=True):
                style = f"{'#ffffff' if is_light else '#000000'} on {ground}"
                line.append(_drawable(word), style + (" italic" if word.is_special else ""))
                line.append(" ")
            console.print(line)
            if not self._shared or text is self._texts[-1]:
                console.print(_scale_line(self._scales[position], Line()))
        return written.getvalue()

    def save(self, path: Any, **options: Any) -> None:
        """Write the texts to a file: ``.html``, or any picture that matplotlib writes.

        `options` are those of `plot`, of pictures.
        """
        if Path(path).suffix.lower() in (".html", ".htm"):
            page = (
                '<!doctype html><html><head><meta charset="utf-8"><title>Text</title></head>'
                f"<body>{self.html()}</body></html>\n"
            )
            Path(path).write_text(page, encoding="utf-8")
            return
        axes = self.plot(**options)[0]
        canvas.save(axes, path)
        if options.get("axes") is None:
            canvas.close(axes)


def plot_text(
    explanations: Any,
    tokens: Any,
    titles: Any = None,
    *,
    axes: Any = None,
    width: float = 6.5,
    font_size: float = 11.0,
    colorbar: bool | str = True,
    **options: Any,
) -> np.ndarray:
    """Draw what each word of a text contributes, as the colour of its ground.

    `TextPicture` is the same for a notebook, for a file of HTML and for a terminal.

    Parameters
    ----------
    explanations, tokens, titles
        As of `TextPicture`: maps (N, T) or (T,) of one number a token, and the tokens' strings.
    axes
        Matplotlib axes, at least one for each text. Lines are broken by their width, and letters
        are as small as it takes for all to fit. ``None`` makes a figure.
    width
        Of a new figure, in inches.
    font_size
        Of the words, in points. They are drawn as outlines in matplotlib's font
        (``rcParams["font.family"]``), and grow and shrink with their axes.
    colorbar
        Draw the scale below; a text becomes its label.
    options
        The other parameters of `TextPicture`: `predictions`, `scores`, `class_names`, `subwords`,
        `merge`, `shared_scale`, `cmap`, `clip_percentile`, `absolute_value`, `normalize_value`,
        `vmin`, `vmax`.

    Returns
    -------
    axes
        The N matplotlib axes that were drawn on, in an array (N,).

    Raises
    ------
    InvalidInputError
        If there is not one value for each token, or values are NaN or infinite.
    InvalidParameterError
        If a parameter is out of range.
    ImportError
        If matplotlib is not installed.

    Warns
    -----
    UserWarning
        If all words of a text have one value.
    """
    picture = TextPicture(explanations, tokens, titles, **options)
    return picture.plot(axes, width=width, font_size=font_size, colorbar=colorbar)


def _of_padding(text: Text, values: np.ndarray) -> str:
    """Return a line that says what the padding contributes, which is not shown."""
    if abs(text.padding) <= ROUNDING * np.abs(values).sum():
        return ""
    return f"padding, not shown: {text.padding:+.2g}".replace("-", "−")


def _places(words: Sequence[Word], size: float, room: float) -> list[tuple[float, int, float]]:
    """Return the left end, the line and the width of the ground of each word."""
    places, left, line = [], 0.0, 0
    for word in words:
        width = canvas.text_width(_drawable(word), size) + 2 * _BESIDE * size
        if left and left + width > room:
            left, line = 0.0, line + 1
        places.append((left, line, width))
        left += width + _BETWEEN * size
    return places


def _room(words: Sequence[Word], size: float, width: float) -> tuple[float, float]:
    """Return the width and height that words take in lines of a width, unless one is longer."""
    places = _places(words, size, width)
    widest = max(left + wide for left, _, wide in places)
    return max(width, widest), (_LINE * (places[-1][1] + 1)) * size


def _fitting(
    words: Sequence[Word], size: float, width: float, height: float
) -> tuple[float, float]:
    """Return the smallest room of that form, from that width on, into which all words go."""
    room = width
    while True:
        wide, high = _room(words, size, room)
        if high <= height * wide / width or len(words) == 1:
            return wide, high
        room *= 1.08


def _drawable(word: Word) -> str:
    return _printable(word.text) or "�"


def _printable(text: str, keep: str = "") -> str:
    """Return a text in which what cannot be seen, and would control a terminal, is seen."""
    return "".join(letter if letter.isprintable() or letter in keep else "�" for letter in text)


def _span(word: Word, ground: str, is_light: bool) -> str:
    shade = 255 if is_light else 0
    opacity = _MUTED if word.is_special else _PLAIN
    style = (
        f"background:{ground};color:rgba({shade},{shade},{shade},{opacity:g});"
        "padding:0.15em 0.25em;border-radius:0.2em;white-space:pre-wrap"
    )
    value = f"{word.value:+.3g}".replace("-", "−")
    return f'<span style="{style}" title="{value}">{html.escape(word.text)}</span>'


def _legend(scale: Scale) -> str:
    stops = [shade for shade, _ in canvas.colors_of(np.linspace(scale.low, scale.high, 9), scale)]
    low, high = canvas.texts([scale.low, scale.high])
    bar = (
        "display:inline-block;width:12em;height:0.8em;vertical-align:middle;margin:0 0.5em;"
        f"background:linear-gradient(to right,{','.join(stops)})"
    )
    return f'<div style="font-size:0.85em">{low}<span style="{bar}"></span>{high}</div>'


def _scale_line(scale: Scale, line: Any) -> Any:
    """Return a line of a terminal with the colours between the ends of a scale."""
    low, high = canvas.texts([scale.low, scale.high])
    line.append(f"{low} ")
    for shade, _ in canvas.colors_of(np.linspace(scale.low, scale.high, 24), scale):
        line.append(" ", f"on {shade}")
    line.append(f" {high}")
    return line
