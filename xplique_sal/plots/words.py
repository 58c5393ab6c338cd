"""From tokens and their values to the words that are shown."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from xplique_sal._parameters import one_of
from xplique_sal.errors import InvalidInputError
from xplique_sal.plots.reading import numbers

#: Before the pieces of a word but the first (WordPiece), before the first (GPT-2's bytes, and
#: SentencePiece), or after the last (CLIP).
WORD_PIECE, BYTES, SENTENCE_PIECE, END = MARKS = ("##", "Ġ", "▁", "</w>")
MERGES: dict[str, Callable[[np.ndarray], float]] = {
    "sum": lambda values: float(values.sum()),
    "mean": lambda values: float(values.mean()),
    "max": lambda values: float(values[np.abs(values).argmax()]),
}
_SPECIAL = re.compile(r"\[[^\[\]]+\]|<[^<>]+>")
#: Stand-ins for words, which are no words of the format.
_UNKNOWN = ("[UNK]", "<unk>")


class Word(NamedTuple):
    """What is shown as one.

    Attributes
    ----------
    text
        Without marks of pieces.
    value
        What it contributes.
    is_special
        Whether it belongs to the format, as ``[CLS]`` does, and not to the text.
    """

    text: str
    value: float
    is_special: bool


class Text(NamedTuple):
    """One text: its words, and what its padding contributes, which is not shown."""

    words: list[Word]
    padding: float


def texts_of(
    explanations: Any, tokens: Any, subwords: str | None, merge: str
) -> tuple[list[Text], bool]:
    """Return the texts, and whether there was one without an axis for several."""
    one_of("subwords", subwords, ["auto", *MARKS, None], "None shows every token by itself.")
    one_of("merge", merge, MERGES)
    rows, is_one = _rows(explanations)
    given = [tokens] if is_one else tokens
    if isinstance(given, str) or not hasattr(given, "__len__") or len(given) != len(rows):
        raise InvalidInputError(
            f"a list of tokens for each of {len(rows)} texts",
            type(given).__name__ if isinstance(given, str) else f"{len(given)} lists",
            "`xplique_sal.text.tokens` returns them.",
        )
    found = [_text(row, part, subwords, merge) for row, part in zip(rows, given, strict=True)]
    return found, is_one


def _rows(explanations: Any) -> tuple[list[np.ndarray], bool]:
    if isinstance(explanations, (list, tuple)) and explanations and np.ndim(explanations[0]):
        rows, is_one = [numbers(row, "a map of a text") for row in explanations], False
    else:
        array = numbers(explanations, "maps of texts")
        is_one = array.ndim == 1
        rows = [array] if is_one else list(array)
    for row in rows:
        if row.ndim != 1:
            raise InvalidInputError(
                "a map (T,) of one number a token, or (N, T)",
                f"the shape {row.shape} of a text",
                'Explain with `reducer="token_sum"`, or sum over the axis of the vectors.',
            )
    return rows, is_one


def _text(values: np.ndarray, tokens: Any, subwords: str | None, merge: str) -> Text:
    if isinstance(tokens, str) or len(tokens) != len(values):
        raise InvalidInputError(
            f"{len(values)} tokens, one for each value of the map",
            "a text" if isinstance(tokens, str) else f"{len(tokens)}",
            "`xplique_sal.text.tokens` returns those of the ids that were explained.",
        )
    shown = [
        (_as_text(token), float(value))
        for token, value in zip(tokens, values, strict=True)
        if token is not None and len(token)
    ]
    padding = float(values.sum()) - sum(value for _, value in shown)
    if not shown:
        raise InvalidInputError(
            "a text with at least one token", "padding alone", "There is nothing to draw."
        )
    mark = _mark(shown) if subwords == "auto" else subwords
    words: list[Word] = []
    for group in _groups(shown, mark):
        text = _unmarked([token for token, _ in group], mark)
        value = MERGES[merge](np.array([value for _, value in group]))
        words.append(Word(text, value, is_special(group[0][0])))
    return Text(words, padding)


def _as_text(token: Any) -> str:
    return token.decode("utf-8", "replace") if isinstance(token, bytes) else str(token)


def is_special(token: str) -> bool:
    """Tell whether a token stands for the format, such as ``[CLS]`` or ``</s>``."""
    return bool(_SPECIAL.fullmatch(token)) and token not in _UNKNOWN


def _mark(shown: Sequence[tuple[str, float]]) -> str | None:
    """Return by which mark words are told from pieces."""
    for mark in (WORD_PIECE, BYTES, SENTENCE_PIECE):
        if any(token.startswith(mark) and len(token) > len(mark) for token, _ in shown):
            return mark
    return END if any(token.endswith(END) for token, _ in shown) else None


def _groups(shown: Sequence[tuple[str, float]], mark: str | None) -> list[list[tuple[str, float]]]:
    """Return the tokens of each word."""
    groups: list[list[tuple[str, float]]] = []
    before = ""
    for token, value in shown:
        if mark == WORD_PIECE:
            goes_on = token.startswith(mark)
        elif mark == END:
            goes_on = not before.endswith(mark)
        else:
            goes_on = mark is not None and not token.startswith(mark)
        alone = is_special(token) or is_special(before)
        if groups and goes_on and not alone:
            groups[-1].append((token, value))
        else:
            groups.append([(token, value)])
        before = token
    return groups


def _unmarked(tokens: Sequence[str], mark: str | None) -> str:
    """Return the text of a word from its tokens."""
    if mark == WORD_PIECE:
        return tokens[0] + "".join(token.removeprefix(mark) for token in tokens[1:])
    if mark == END:
        return "".join(token.removesuffix(mark) for token in tokens)
    if mark == SENTENCE_PIECE:
        return "".join(tokens).removeprefix(mark) or mark
    if mark == BYTES:
        return _decoded("".join(tokens)).strip() or tokens[0]
    return tokens[0]


def _decoded(text: str) -> str:
    """Return a text from bytes that are written as letters, as GPT-2's tokenizer writes them."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    bytes_ = {chr(byte): byte for byte in printable}
    bytes_ |= {chr(256 + number): byte for number, byte in enumerate(others)}
    if not set(text) <= set(bytes_):
        return text
    return bytes(bytes_[letter] for letter in text).decode("utf-8", "replace")
