"""What the benchmarks make of the times that they take."""

import numpy as np
import pytest
import timing
from folding_accuracy import judge
from report import Limit, Line, is_kept, once, replaced, table, table_of_limits


def test_turns_begin_with_another_each_round():
    calls, now = [], [0.0]

    def taking(name, seconds):
        def call():
            calls.append(name)
            now[0] += seconds

        return call

    each = {"a": taking("a", 1), "b": taking("b", 0.25), "c": taking("c", 2)}
    seconds = timing.in_turns(each, rounds=3, least=0.5, warm_up=1, clock=lambda: now[0])
    # b is so quick that it is called twice a turn.
    assert "".join(calls) == "abc" + "abbc" + "bbca" + "cabb"
    assert seconds == {"a": [1] * 3, "b": [0.25] * 3, "c": [2] * 3}


def test_ratios_are_taken_round_by_round():
    # In the second round everything took ten times as long.
    found = timing.ratios({"one": [1, 10, 1], "other": [2, 30, 4]}, "one")
    assert found["other"] == {"ratio": 3, "low": 2, "high": 4}
    assert found["one"] == once(1)


def test_table():
    lines = [
        Line("x", "Keras 3", "a pass", 0.5, "s", {"ours": once(1.994), "Xplique": once(13.46)}),
        Line("y", "tf-keras", "a map", 382.8, "MiB", {"ours": once(0.0123)}),
    ]
    assert table(lines).splitlines() == [
        "| measured | Keras | 1 is | xplique_sal | Xplique 2.0.2 | xplique_sal ÷ Xplique |",
        "| --- | --- | --- | ---: | ---: | ---: |",
        "| x | Keras 3 | a pass (0.5 s) | 1.99 | 13.5 | 0.15 |",
        "| y | tf-keras | a map (383 MiB) | 0.012 |  |  |",
    ]


def test_promises():
    kept, broken = Limit("x", 0.15, 0.15, "s"), Limit("y", 201, 200, "MiB")
    passes = Limit("z", 2.345, 3, "passes")
    assert is_kept(kept) and not is_kept(broken)
    assert table_of_limits([kept, broken, passes]).splitlines()[2:] == [
        "| x | 0.15 s | 0.15 s | kept |",
        "| y | 201 MiB | 200 MiB | **broken** |",
        "| z | 2.35 forward passes | 3.00 forward passes | kept |",
    ]


def test_a_page_keeps_what_is_outside_of_the_comments():
    page = "a\n<!-- t: start -->\nold\n<!-- t: end -->\nb <!-- u: start --><!-- u: end -->\n"
    expected = (
        "a\n<!-- t: start -->\n\nnew\n\n<!-- t: end -->\nb <!-- u: start --><!-- u: end -->\n"
    )
    assert replaced(page, "t", "new") == expected
    assert replaced(expected, "t", "new") == expected


@pytest.mark.parametrize("page", ["", "<!-- t: start -->", "<!-- t: end --><!-- t: start -->"])
def test_a_page_without_both_comments_is_refused(page):
    with pytest.raises(ValueError, match="t: start"):
        replaced(page, "t", "new")


def test_folding_is_judged_by_the_median_and_by_the_large_errors():
    plain = np.full(64, 1e-6)
    verdict = judge({"tape": plain, "ours": plain * 1.2})
    assert verdict.is_as_accurate and verdict.rounding == pytest.approx(1.2)
    assert not judge({"tape": plain, "ours": plain * 1.3}).is_as_accurate
    large = plain.copy()
    large[:4] = 1e-3  # 4 more of 64 can be chance: 4 ≤ 2·√4
    assert judge({"tape": plain, "ours": large}).is_as_accurate
    large[:5] = 1e-3
    verdict = judge({"tape": plain, "ours": large})
    assert not verdict.is_as_accurate and verdict.share == {"tape": 0, "ours": 5 / 64}
    assert verdict.rounding == 1  # of the 59 others
    # Other images, but as many of them: no worse.
    assert judge({"tape": large[::-1], "ours": large}).is_as_accurate
