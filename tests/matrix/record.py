"""What was tried: kept in the package, shown in the documentation."""

from __future__ import annotations

import json
from pathlib import Path

from combinations import ROWS

ROOT = Path(__file__).parents[2]
TRIED = ROOT / "xplique_sal" / "tried.json"
PAGE = ROOT / "docs" / "versions.md"
BEGIN, END = "<!-- the table begins -->", "<!-- the table ends -->"

#: The columns of versions, and how they are headed.
COLUMNS = {
    "python": "Python",
    "tensorflow": "TensorFlow",
    "tf-keras": "tf-keras",
    "keras": "Keras 3",
    "numpy": "NumPy",
}


def kept() -> list[dict]:
    """Return the rows that were tried, as they are kept."""
    return json.loads(TRIED.read_text("utf-8"))


def keep(found: list[dict]) -> None:
    """Put rows into the package, in place of those of the same name, and all into the page."""
    by_name = {row["row"]: row for row in [*kept(), *found]}
    rows = [by_name[name] for name in ROWS if name in by_name]
    lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    TRIED.write_text(f"[\n{lines}\n]\n", "utf-8")
    PAGE.write_text(with_table(PAGE.read_text("utf-8"), rows), "utf-8")


def with_table(page: str, rows: list[dict]) -> str:
    """Return the page with the table of these rows."""
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n\n{table(rows)}\n\n{END}{after}"


def table(rows: list[dict]) -> str:
    """Return rows as a table in markdown."""
    lines = [["row", *COLUMNS.values(), "passed", "on"]]
    lines.append([":---"] + ["---:"] * (len(lines[0]) - 1))
    for row in rows:
        passed = f"{row['passed']} of {row['of']}"
        lines.append(
            [
                f"`{row['row']}`",
                *(row["versions"][name] for name in COLUMNS),
                passed if 0 < row["passed"] == row["of"] else f"**{passed}**",
                row["date"],
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
