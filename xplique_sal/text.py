"""Tokens of texts as they are read: the strings of ids, from whatever made the ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from xplique_sal.errors import InvalidInputError, InvalidParameterError

__all__ = ["tokens"]

#: What tokens are called that fill texts up to one length.
_PADDING = ("", "[PAD]", "<pad>", "<|pad|>")


def tokens(tokenizer: Any, ids: Any, *, padding_mask: Any = None) -> Any:
    """Return the tokens that ids stand for, as `plot_text` takes them.

    Nothing is tokenized anew, so that there is a token for each id, and for each value of a map
    that one number a token comes out of (``reducer="token_sum"``).

    Parameters
    ----------
    tokenizer
        What made the ids: a `TextVectorization` or `StringLookup` layer of either Keras, a
        tokenizer of keras-hub, of tokenizers or of transformers; or the tokens by id, as a sequence
        or a mapping. It has a method `id_to_token`, `convert_ids_to_tokens` or `get_vocabulary`.
    ids
        Integers (N, T), (T,), or ragged: a list of N lists.
    padding_mask
        Truth values of the shape of `ids`, false for padding: what preprocessors of keras-hub
        return beside `token_ids`. ``None`` takes for padding what stands at the end or the start
        of a text and is the padding token, by the tokenizer's `pad_token_id` or by its name
        (empty, ``[PAD]``, ``<pad>``).

    Returns
    -------
    tokens
        N lists of T strings, or one list if `ids` are of one text. ``None`` is padding.

    Raises
    ------
    InvalidInputError
        If ids are not integers of these shapes, or the tokenizer has no token for one.
    InvalidParameterError
        If `tokenizer` is none of these; or if its padding has the id of a token that is a word in
        other places, as GPT-2's has, and a text ends with it, without a `padding_mask`.

    Examples
    --------
    >>> split = keras.layers.TextVectorization(output_sequence_length=40)  # doctest: +SKIP
    >>> split.adapt(texts)  # doctest: +SKIP
    >>> tokens(split, split(texts))  # doctest: +SKIP
    """
    rows, is_one = _rows(ids)
    token_of, padding_id = _reader(tokenizer)
    known = {number: token_of(number) for number in sorted({int(n) for row in rows for n in row})}
    if padding_mask is None:
        kept = [_kept(row, known, padding_id) for row in rows]
    else:
        kept = _mask(padding_mask, rows, is_one)
    found = [
        [known[int(number)] if shown else None for number, shown in zip(row, keep, strict=True)]
        for row, keep in zip(rows, kept, strict=True)
    ]
    return found[0] if is_one else found


def _rows(ids: Any) -> tuple[list[np.ndarray], bool]:
    """Return the ids of each text, and whether there was one text without an axis for several."""
    ids = ids.to_list() if hasattr(ids, "to_list") else ids
    try:
        array = np.asarray(ids)
        rows = [array] if array.ndim < 2 else [*array]
    except ValueError:  # lists of different lengths
        array, rows = np.empty(0), [np.asarray(row) for row in ids]
    is_one = array.ndim == 1 and len(rows) == 1 and array.size > 0
    wrong = [row for row in rows if row.ndim != 1 or (row.size and row.dtype.kind not in "iu")]
    if wrong or not rows or not sum(row.size for row in rows):
        found = wrong[0] if wrong else array
        raise InvalidInputError(
            "ids as integers of shape (N, T) or (T,), or a list of N lists of them",
            f"{found.dtype} of shape {found.shape}",
            "Pass what the tokenizer returned, and the model took.",
        )
    return rows, is_one


def _reader(tokenizer: Any) -> tuple[Callable[[int], str], int | None]:
    """Return what tells the token of an id, and the id of padding where it is known."""
    read: Callable[[int], Any]
    for name in ("id_to_token", "convert_ids_to_tokens"):
        if callable(getattr(tokenizer, name, None)):
            read = getattr(tokenizer, name)
            break
    else:
        vocabulary = tokenizer
        if callable(getattr(tokenizer, "get_vocabulary", None)):
            vocabulary = tokenizer.get_vocabulary()
        if isinstance(vocabulary, np.ndarray):
            vocabulary = vocabulary.tolist()
        if not isinstance(vocabulary, (Mapping, Sequence)) or isinstance(vocabulary, (str, bytes)):
            raise InvalidParameterError(
                "a `tokenizer` with `id_to_token`, `convert_ids_to_tokens` or `get_vocabulary`, or "
                "the tokens by id as a sequence or mapping",
                type(tokenizer).__name__,
                "Pass what made the ids, a TextVectorization layer or a tokenizer.",
            )
        read = vocabulary.__getitem__

    def token_of(number: int) -> str:
        try:
            token = read(number) if number >= 0 else None
        except Exception as error:  # whatever a tokenizer raises for ids of others
            raise _unknown(number) from error
        if token is None:
            raise _unknown(number)
        return token.decode("utf-8", "replace") if isinstance(token, bytes) else str(token)

    padding_id = getattr(tokenizer, "pad_token_id", None)
    return token_of, None if padding_id is None else int(padding_id)


def _unknown(number: int) -> InvalidInputError:
    return InvalidInputError(
        "ids that the tokenizer has tokens for",
        f"the id {number}",
        "Pass the tokenizer that made these ids.",
    )


def _kept(row: np.ndarray, known: Mapping[int, str], padding_id: int | None) -> list[bool]:
    """Return for each id whether it is none of the padding at the end or the start of a text."""
    is_padding = [number == padding_id or known[int(number)] in _PADDING for number in row]
    places = [place for place, padded in enumerate(is_padding) if not padded]
    first, last = (places[0], places[-1] + 1) if places else (len(row), len(row))
    outside = {known[int(number)] for number in (*row[:first], *row[last:])}
    if words := [token for token in outside if token not in _PADDING and not _is_special(token)]:
        raise InvalidParameterError(
            f"a `padding_mask`, as {words[0]!r} is a token and padding as well",
            "None, and a text that begins or ends with it",
            "Preprocessors of keras-hub return it as `padding_mask`.",
        )
    return [first <= place < last for place in range(len(row))]


def _is_special(token: str) -> bool:
    """Tell whether a token is named as those are that stand for no word: ``[CLS]``, ``</s>``."""
    return len(token) > 2 and (token[0] + token[-1]) in ("[]", "<>")


def _mask(padding_mask: Any, rows: Sequence[np.ndarray], is_one: bool) -> list[list[bool]]:
    given = padding_mask.to_list() if hasattr(padding_mask, "to_list") else padding_mask
    kept = [np.asarray(given)] if is_one else [np.asarray(row) for row in given]
    shapes = [row.shape for row in kept]
    if shapes != [row.shape for row in rows] or any(row.dtype.kind not in "biu" for row in kept):
        raise InvalidInputError(
            f"a `padding_mask` of truth values, of the shapes of the ids: {rows[0].shape}, ...",
            f"{kept[0].dtype if kept else 'none'} of the shapes {shapes[:3]}",
            "It is false where there is padding.",
        )
    return [row.astype(bool).tolist() for row in kept]
