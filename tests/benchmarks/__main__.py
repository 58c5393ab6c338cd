"""Measures the library against its peers: ``python tests/benchmarks`` (or ``make bench``)."""

import argparse
import json
import sys
import time
from pathlib import Path

import plot
from report import Limit, Line, environment, is_kept, replaced, summary, table, table_of_limits
from rows import ROWS

DOCS = Path(__file__).parents[2] / "docs"
PICTURE = "![Seconds against images, their size, batch size and outputs](images/performance.png)"


def arguments():
    """Return what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer networks and sizes")
    parser.add_argument(
        "--rows",
        nargs="+",
        choices=ROWS,
        default=list(ROWS),
        metavar="ROW",
        help=f"only some of: {', '.join(ROWS)}",
    )
    parser.add_argument("--output", type=Path, help="a JSON file for all that was measured")
    parser.add_argument(
        "--write", action="store_true", help="put the tables and the plot into the documentation"
    )
    asked = parser.parse_args()
    if asked.write and (asked.quick or set(asked.rows) != set(ROWS)):
        parser.error("--write needs every row, and not --quick")
    return asked


def main():
    """Measure, print the tables, and fail where a promise was broken."""
    asked = arguments()
    lines, limits, curves = [], [], []
    found = {"environment": environment(), "quick": asked.quick}
    for name in asked.rows:
        start = time.perf_counter()
        for each in ROWS[name].measure(asked.quick):
            kept = {Line: lines, Limit: limits, dict: curves}[type(each)]
            kept.append(each)
            if isinstance(each, Line):
                shown = {column: round(of["ratio"], 2) for column, of in each.ratios.items()}
                print(f"  {each.what}; {each.kind}: {shown}", file=sys.stderr, flush=True)
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        found["lines"] = [line._asdict() for line in lines]
        found["limits"] = [limit._asdict() for limit in limits]
        found["curves"] = curves
        if asked.output:  # after each row: a later one may fail
            asked.output.write_text(json.dumps(found, indent=1) + "\n")
    parts = [summary(found["environment"])]
    parts += [table(lines)] if lines else []
    parts += [table_of_limits(limits)] if limits else []
    text = "\n\n".join(parts)
    print(text)
    if asked.write:
        page = DOCS / "performance.md"
        shown = f"{text}\n\n{PICTURE}"
        page.write_text(replaced(page.read_text("utf-8"), "benchmark", shown), "utf-8")
        plot.draw(curves, DOCS / "images" / "performance.png")
    return 0 if all(map(is_kept, limits)) else 1


if __name__ == "__main__":
    sys.exit(main())
