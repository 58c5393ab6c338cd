"""Maps of texts: words and their values, as figures, as HTML and for a terminal."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from xplique_sal.errors import InvalidInputError, InvalidParameterError
from xplique_sal.plots import TextPicture, plot_text

TOKENS = ["[CLS]", "un", "##friend", "##ly", "soup", "was", "[SEP]", None]
VALUES = np.array([0.1, -1.0, 0.2, -0.4, 0.3, 0.6, -0.1, 0.0])


class Spans(HTMLParser):
    """What a browser reads: every tag, and the texts and attributes of spans with a title."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.words, self._open = [], [], None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        attributes = dict(attributes)
        self._open = attributes if tag == "span" and "title" in attributes else None

    def handle_data(self, data):
        if self._open is not None:
            self.words.append((data, self._open["title"], self._open["style"]))

    def handle_endtag(self, tag):
        self._open = None


def words(page):
    return [(text, title) for text, title, _ in Spans(page).words]


def grounds(axes):
    """Return the colours of the grounds, and their left ends and middles, in order."""
    found = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    return [to_hex(patch.get_facecolor()) for patch in found], [patch.get_xy() for patch in found]


def test_pieces_are_merged_and_padding_is_not_shown():
    assert words(TextPicture(VALUES, TOKENS).html()) == [
        ("[CLS]", "+0.1"),
        ("unfriendly", "−1.2"),
        ("soup", "+0.3"),
        ("was", "+0.6"),
        ("[SEP]", "−0.1"),
    ]
    assert words(TextPicture(VALUES, TOKENS, merge="max").html())[1] == ("unfriendly", "−1")
    assert words(TextPicture(VALUES, TOKENS, merge="mean").html())[1] == ("unfriendly", "−0.4")
    apart = words(TextPicture(VALUES, TOKENS, subwords=None).html())
    assert [text for text, _ in apart] == TOKENS[:-1]


@pytest.mark.parametrize(
    ("tokens", "shown"),
    [
        (["Ġthe", "Ġun", "kind", "ĠcafÃ©", "<|endoftext|>"], "the unkind café <|endoftext|>"),
        (["the", "Ġwait", "er", "!"], "the waiter!"),
        (["▁the", "▁un", "kind", "</s>"], "the unkind </s>"),
        (["<s>", "the", "▁bread"], "<s> the bread"),
        (["the</w>", "un", "kind</w>", "bread</w>"], "the unkind bread"),
        (["the", "[UNK]", "##s", "[SEP]"], "the [UNK]s [SEP]"),
        (["plain", "words", "a<b"], "plain words a<b"),
        ([b"the", "caf\u00e9".encode()], "the café"),
    ],
)
def test_every_tokenizers_pieces(tokens, shown):
    page = TextPicture(np.arange(1.0, len(tokens) + 1), tokens).html()
    assert " ".join(text for text, _ in words(page)) == shown


def test_grounds_have_the_colours_of_the_values():
    (axes,) = plot_text(VALUES, TOKENS, colorbar=False)
    values = np.array([0.1, -1.2, 0.3, 0.6, -0.1])
    expected = [to_hex(shade) for shade in colormaps["coolwarm"]((values + 1.2) / 2.4)]
    assert grounds(axes)[0] == expected
    styles = [style for _, _, style in Spans(TextPicture(VALUES, TOKENS).html()).words]
    assert [re.search("background:(#[0-9a-f]{6})", style)[1] for style in styles] == expected
    (axes,) = plot_text(VALUES, TOKENS, absolute_value=True)
    sizes = np.abs(values) / 1.2
    low = 0 if sizes.min() < 0.01 else sizes.min()
    expected = colormaps["inferno"]((sizes - low) / (1 - low))
    assert grounds(axes)[0] == [to_hex(shade) for shade in expected]
    assert len(axes.get_figure().axes) == 2  # the colour bar


def test_letters_can_be_read_on_their_grounds():
    for style in (s for _, _, s in Spans(TextPicture(VALUES, TOKENS, vmax=0.4).html()).words):
        ground = re.search("background:#([0-9a-f]{6})", style)[1]
        shade = int(re.search(r"color:rgba\((\d+),", style)[1])
        lightness = np.dot([0.299, 0.587, 0.114], list(bytes.fromhex(ground)))
        assert abs(lightness - shade) > 120


def test_lines_are_as_long_as_the_axes_allow():
    tokens, values = ["word"] * 40, np.linspace(-1, 1, 40)
    (axes,) = plot_text(values, tokens, width=3)
    corners = np.array(grounds(axes)[1])
    right = corners[:, 0] + [p.get_width() for p in axes.patches if isinstance(p, Rectangle)]
    assert right.max() <= axes.get_xlim()[1] + 1e-6 and axes.get_xlim()[1] == 216
    lines = np.unique(corners[:, 1])
    assert 5 < len(lines) < 14 and (np.diff(lines) > 11 * 1.32).all()
    for line in lines:  # no ground covers another
        left = np.sort(corners[corners[:, 1] == line, 0])
        assert (np.diff(left) > right[0] - corners[0, 0]).all()
    (wide,) = plot_text(values, tokens, width=9)
    assert len(np.unique(np.array(grounds(wide)[1])[:, 1])) < len(lines)


def test_axes_of_the_users_own_hold_all_lines():
    figure, given = plt.subplots(1, 2, figsize=(6, 1))
    axes = plot_text([np.arange(30.0)] * 2, [["word"] * 30] * 2, axes=given, colorbar=False)
    assert list(axes) == list(given) and plt.get_fignums() == [figure.number]
    for one in axes:
        lowest = max(y for _, y in grounds(one)[1]) + 1.32 * 11
        assert lowest <= one.get_ylim()[0] + 1e-6
        width, height = one.get_xlim()[1], one.get_ylim()[0]
        assert height / width <= one.bbox.height / one.bbox.width + 1e-6
    with pytest.raises(InvalidParameterError, match="2 panels"):
        plot_text([np.arange(3.0)] * 2, [["a", "b", "c"]] * 2, axes=given[0])


def test_titles_say_what_was_predicted_and_what_is_not_shown():
    values = VALUES + np.eye(8)[7] * 0.25
    picture = dict(predictions=[0.2, 0.8], class_names=["bad", "good"])
    (axes,) = plot_text(values, TOKENS, "soup", **picture)
    expected = "soup\ngood (0.800)\npadding, not shown: +0.25"
    assert axes.get_title(loc="left") == expected
    page = TextPicture(values, TOKENS, "soup", **picture).html()
    assert "soup<br>good (0.800)<br>padding, not shown: +0.25" in page
    both = plot_text([values] * 2, [TOKENS] * 2, predictions=["one", "two"], scores=[1, 2])
    assert [one.get_title(loc="left").split("\n")[0] for one in both] == [
        "one (1.00)",
        "two (2.00)",
    ]


def test_one_scale_for_all_texts_or_one_for_each():
    maps, tokens = [VALUES, VALUES / 2], [TOKENS] * 2
    own, shared = TextPicture(maps, tokens), TextPicture(maps, tokens, shared_scale=True)
    half = len(words(own.html())) // 2
    colors = [[style for _, _, style in Spans(picture.html()).words] for picture in (own, shared)]
    assert colors[0][:half] == colors[0][half:] and colors[1][:half] != colors[1][half:]
    assert own.html().count("linear-gradient") == 2 and shared.html().count("linear-gradient") == 1
    assert len(own.plot()[0].get_figure().axes) == 4
    assert len(shared.plot()[0].get_figure().axes) == 3


HOSTILE = ['<script>alert("1")</script>', "a&b", '"><img src=x onerror=alert(1)>', "$x_1$"]


def test_what_a_text_says_is_shown_and_never_run(tmp_path):
    names = ["<b>bad</b>", "<i>good</i>"]
    picture = TextPicture(
        np.arange(4.0), HOSTILE, "<u>title</u>", predictions=[0, 1], class_names=names
    )
    assert picture._repr_html_() == picture.html()
    page = Spans(picture.html())
    assert set(page.tags) == {"div", "span", "br"}
    assert [text for text, _, _ in page.words] == HOSTILE
    path = tmp_path / "text.html"
    picture.save(path)
    saved = Spans(path.read_text("utf-8"))
    assert saved.words == page.words and "script" not in saved.tags
    (axes,) = picture.plot()
    axes.get_figure().canvas.draw()  # dollars are no formula


def test_a_terminal_is_not_controlled():
    tokens = ["\x1b]0;title\x07", "a\nb", "\x9b31m", "日本語", "<b>", "[/bold]"]
    written = TextPicture(np.arange(6.0), tokens, "\x1b[2J").ansi(width=200)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", written)  # colours alone
    assert "\x1b" not in plain and "\x07" not in plain and "\x9b" not in plain
    title, line, scale, *_ = plain.split("\n")
    assert title == "�[2J"
    assert line.split() == ["�]0;title�", "a�b", "�31m", "日本語", "<b>", "[/bold]"]
    assert scale.split() == ["0", "5"]


def test_a_terminals_lines_and_colours():
    written = TextPicture(VALUES, TOKENS).ansi(width=15)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", written).split("\n")
    assert [line.strip() for line in plain[:3]] == ["[CLS]", "unfriendly soup", "was [SEP]"]
    red, green, blue, _ = (255 * np.array(colormaps["coolwarm"](0.0))).round().astype(int)
    assert f"48;2;{red};{green};{blue}munfriendly" in written


def test_files(tmp_path):
    picture = TextPicture(VALUES, TOKENS)
    for suffix in ("png", "svg", "pdf"):
        picture.save(tmp_path / f"text.{suffix}", width=3)
        assert (tmp_path / f"text.{suffix}").stat().st_size > 1000
    assert not plt.get_fignums()


@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        ((VALUES, TOKENS[:-1]), {}, InvalidInputError),
        ((VALUES, "a text that has eight words in it"), {}, InvalidInputError),
        ((np.ones((8, 4)), TOKENS), {}, InvalidInputError),
        ((np.ones((1, 8, 4)), [TOKENS]), {}, InvalidInputError),
        ((VALUES[None], TOKENS), {}, InvalidInputError),
        ((VALUES * np.nan, TOKENS), {}, InvalidInputError),
        ((VALUES, [None] * 8), {}, InvalidInputError),
        ((VALUES, TOKENS), {"subwords": "@@"}, InvalidParameterError),
        ((VALUES, TOKENS), {"merge": "first"}, InvalidParameterError),
        ((VALUES, TOKENS), {"font_size": 0}, InvalidParameterError),
        ((VALUES, TOKENS), {"width": -1}, InvalidParameterError),
        ((VALUES, TOKENS), {"cmap": "no map"}, InvalidParameterError),
    ],
)
def test_what_is_no_text_is_refused(arguments, options, error):
    with pytest.raises(error):
        plot_text(*arguments, **options)
    assert not plt.get_fignums()


def test_a_map_of_one_value_is_warned_of():
    with pytest.warns(UserWarning, match="one value everywhere"):
        plot_text(np.zeros(3), ["a", "b", "c"])
    plot_text([1.0], ["alone"])  # there is nothing to compare
