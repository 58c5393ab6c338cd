"""The rows of the matrix, and what is kept of them."""

import itertools
import json

import pytest
import record
from combinations import KERAS, ROWS, TENSORFLOW

from xplique_sal import _versions

FOUND = {
    "row": "keras-3.0.5",
    "versions": {
        "python": "3.11.7",
        "tensorflow": "2.16.2",
        "tf-keras": "2.16.0",
        "keras": "3.0.5",
        "numpy": "1.26.4",
    },
    "passed": 55,
    "of": 56,
    "date": "2026-01-31",
}


def test_rows_of_one_environment_follow_each_other():
    bases = [(row.python, row.base) for row in ROWS.values()]
    changes = sum(a != b for a, b in itertools.pairwise(bases))
    newest = 4  # of the four Pythons
    assert changes == newest + len(TENSORFLOW)
    assert set(KERAS.values()) <= set(TENSORFLOW)
    assert ROWS["keras-3.12.4"].keras == "3.12.4"


def test_the_table_shows_what_failed():
    lines = record.table([FOUND, {**FOUND, "row": "lowest", "passed": 56}]).splitlines()
    assert lines[2:] == [
        "| `keras-3.0.5` | 3.11.7 | 2.16.2 | 2.16.0 | 3.0.5 | 1.26.4 | **55 of 56** | 2026-01-31 |",
        "| `lowest` | 3.11.7 | 2.16.2 | 2.16.0 | 3.0.5 | 1.26.4 | 56 of 56 | 2026-01-31 |",
    ]
    assert "**0 of 0**" in record.table([{**FOUND, "passed": 0, "of": 0}])


def test_a_row_takes_the_place_of_its_last_result(monkeypatch, tmp_path):
    monkeypatch.setattr(record, "TRIED", tmp_path / "tried.json")
    monkeypatch.setattr(record, "PAGE", tmp_path / "versions.md")
    record.TRIED.write_text("[]")
    record.PAGE.write_text(f"before\n{record.BEGIN}\nold\n{record.END}\nafter\n")
    for row in (FOUND, {**FOUND, "row": "python-3.10"}, {**FOUND, "passed": 56}):
        record.keep([row])
    kept = json.loads(record.TRIED.read_text())
    assert [(row["row"], row["passed"]) for row in kept] == [
        ("python-3.10", 55),
        ("keras-3.0.5", 56),
    ]
    page = record.PAGE.read_text()
    assert page.startswith("before\n") and page.endswith("\nafter\n")
    assert record.table(kept) in page and "old" not in page


def test_the_page_shows_what_the_package_keeps():
    page = record.PAGE.read_text("utf-8")
    assert record.with_table(page, record.kept()) == page


def test_every_row_was_tried_and_passed():
    kept = record.kept()
    assert [row["row"] for row in kept] == list(ROWS)
    assert all(0 < row["passed"] == row["of"] for row in kept)
    assert all(set(row["versions"]) == set(record.COLUMNS) for row in kept)
    for row in kept:
        if ROWS[row["row"]].keras is not None:
            assert row["versions"]["keras"] == ROWS[row["row"]].keras


@pytest.mark.parametrize("row", _versions.versions().tried, ids=lambda row: row.row)
def test_the_package_reads_what_was_kept(row):
    assert row._asdict() in record.kept()
