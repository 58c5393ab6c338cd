"""The table of features has no empty cell, and names tests that exist."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "features.md"


def rows():
    """Return the cells of every row, without the heads of the tables."""
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [row for row in cells if row[0] != "promise" and set(row[0]) != {"-"}]


def test_the_tables_are_read():
    assert len(rows()) > 60


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:40])
def test_a_row_is_whole_and_its_test_exists(row):
    assert len(row) == 3 and all(row)
    file, name = re.fullmatch(r"`([\w/]+\.py)::(\w+)`", row[2]).groups()
    functions = {
        node.name
        for node in ast.walk(ast.parse((TESTS / file).read_text("utf-8")))
        if isinstance(node, ast.FunctionDef)
    }
    assert name in functions
