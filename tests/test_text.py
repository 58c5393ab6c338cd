"""The strings of ids, from whatever made the ids."""

import numpy as np
import pytest
import tensorflow as tf

from xplique_sal import text
from xplique_sal.errors import InvalidInputError, InvalidParameterError

VOCABULARY = ["[PAD]", "the", "plot", "bor", "##ing"]
IDS = np.array([[1, 2, 3, 4, 0, 0], [2, 1, 0, 4, 2, 2]])
TOKENS = [
    ["the", "plot", "bor", "##ing", None, None],
    ["plot", "the", "[PAD]", "##ing", "plot", "plot"],
]


class Hub:
    """As tokenizers of keras-hub are."""

    def __init__(self, vocabulary, pad_token_id=None):
        self._vocabulary, self.pad_token_id = vocabulary, pad_token_id

    def id_to_token(self, number):
        if number >= len(self._vocabulary):
            raise ValueError("out of range")
        return self._vocabulary[number]


class Transformers(Hub):
    id_to_token = None

    def convert_ids_to_tokens(self, number):
        return self._vocabulary[number]


@pytest.mark.parametrize(
    "tokenizer",
    [
        *(VOCABULARY, np.array(VOCABULARY), dict(enumerate(VOCABULARY)), Hub(VOCABULARY, 0)),
        *(Hub(VOCABULARY), Transformers(VOCABULARY, 0), [word.encode() for word in VOCABULARY]),
    ],
    ids=["list", "array", "dict", "hub", "without an id of padding", "transformers", "bytes"],
)
@pytest.mark.parametrize("kind", [np.array, tf.constant, np.ndarray.tolist])
def test_tokens_of_ids(tokenizer, kind):
    """What stands inside of a text is none of its padding."""
    assert text.tokens(tokenizer, kind(IDS)) == TOKENS
    assert text.tokens(tokenizer, kind(IDS[0])) == TOKENS[0]


def test_text_vectorization(keras):
    layers = keras.layers
    split = layers.TextVectorization(output_sequence_length=6)
    split.adapt(["the plot is boring", "the plot"])
    found = text.tokens(split, split(["the plot is unseen", "boring"]))
    assert found == [
        ["the", "plot", "is", "[UNK]", None, None],
        ["boring", None, None, None, None, None],
    ]


def test_texts_of_their_own_lengths():
    rows = [[1, 2], [3, 4, 1]]
    expected = [["the", "plot"], ["bor", "##ing", "the"]]
    assert text.tokens(VOCABULARY, rows) == expected
    assert text.tokens(VOCABULARY, tf.ragged.constant(rows)) == expected


def test_padding_before_the_text_and_texts_of_padding_alone():
    ids = np.array([[0, 0, 1], [0, 0, 0]])
    assert text.tokens(VOCABULARY, ids) == [[None, None, "the"], [None] * 3]


def test_padding_that_is_a_word_as_well_needs_its_mask():
    gpt = Hub(["!", "Ġthe", "Ġplot"], pad_token_id=0)
    assert text.tokens(gpt, [1, 0, 2]) == ["Ġthe", "!", "Ġplot"]
    ids, mask = np.array([[1, 2, 0, 0]]), np.array([[True, True, True, False]])
    with pytest.raises(InvalidParameterError, match="padding_mask"):
        text.tokens(gpt, ids)
    assert text.tokens(gpt, ids, padding_mask=mask) == [["Ġthe", "Ġplot", "!", None]]
    assert text.tokens(gpt, ids[0], padding_mask=mask[0]) == ["Ġthe", "Ġplot", "!", None]
    named = Hub(["word", "<|endoftext|>"], pad_token_id=1)
    assert text.tokens(named, [0, 1, 1]) == ["word", None, None]


@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        ((VOCABULARY, [[0.5]]), {}, InvalidInputError),
        ((VOCABULARY, [[[1]]]), {}, InvalidInputError),
        ((VOCABULARY, 1), {}, InvalidInputError),
        ((VOCABULARY, []), {}, InvalidInputError),
        ((VOCABULARY, [7]), {}, InvalidInputError),
        ((VOCABULARY, [-1]), {}, InvalidInputError),
        ((Hub(VOCABULARY), [7]), {}, InvalidInputError),
        ((VOCABULARY, IDS), {"padding_mask": IDS[:1] > 0}, InvalidInputError),
        ((VOCABULARY, IDS), {"padding_mask": IDS / 2}, InvalidInputError),
        ((3, IDS), {}, InvalidParameterError),
        (("the plot", IDS), {}, InvalidParameterError),
    ],
)
def test_what_has_no_tokens_is_refused(arguments, options, error):
    with pytest.raises(error):
        text.tokens(*arguments, **options)
