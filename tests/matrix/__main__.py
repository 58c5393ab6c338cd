"""Tries the package on many versions: ``python tests/matrix`` (or ``make test-matrix``)."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree
from pathlib import Path

from combinations import ROWS
from environments import FOLDER, ROOT, environment_of, throw_away
from record import COLUMNS, keep

SUITE = "tests/matrix/suite.py"
#: Of a suite that hangs, in seconds.
PATIENCE = 900

VERSIONS = """
import importlib.metadata as m, json, platform
print(json.dumps({"python": platform.python_version(),
    **{name: m.version(name) for name in ("tensorflow", "tf-keras", "keras", "numpy")}}))
"""


def arguments() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rows",
        nargs="+",
        choices=ROWS,
        default=list(ROWS),
        metavar="ROW",
        help=f"only some of: {', '.join(ROWS)}",
    )
    parser.add_argument(
        "--write", action="store_true", help="keep what came out, in the package and its page"
    )
    parser.add_argument(
        "--logs", type=Path, default=FOLDER / "logs", help="a folder for what each row printed"
    )
    return parser.parse_args()


def tried(name: str, logs: Path, before: list[dict]) -> dict:
    """Run the suite on a row; return its versions and how many of its tests passed.

    A row whose versions turn out to be those of one `before`, which was tried no less, has that
    one's result.
    """
    row, log = ROWS[name], logs / f"{name}.txt"
    python = environment_of(row)
    versions = json.loads(subprocess.check_output([python, "-c", VERSIONS], text=True))
    full = [found for found in before if row.keras or ROWS[found["row"]].keras is None]
    same = next((found for found in full if found["versions"] == versions), None)
    if same is not None:
        throw_away(row)
        return {**same, "row": name}
    results = (logs / f"{name}.xml").resolve()
    results.unlink(missing_ok=True)
    command = [
        str(python),
        "-m",
        "pytest",
        SUITE,
        "-p",
        "no:cacheprovider",
        f"--junitxml={results}",
    ]
    # Older and newer versions warn of each other: what counts here are the values.
    if row.keras is not None:
        command += ["-k", "not tf_keras"]  # which the row of the same TensorFlow tries
    command += ["-o", "filterwarnings=default", "--disable-warnings", "--tb=short"]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    with log.open("w") as output:
        subprocess.run(
            command, cwd=ROOT, env=environment, stdout=output, stderr=output, timeout=PATIENCE
        )
    counts = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    if results.exists():
        suite = xml.etree.ElementTree.parse(results).getroot().find("testsuite")
        counts = {name: int(suite.get(name)) for name in counts}
    of = counts["tests"] - counts["skipped"]
    passed = of - counts["failures"] - counts["errors"]
    today = datetime.date.today().isoformat()
    throw_away(row)
    return {"row": name, "versions": versions, "passed": passed, "of": of, "date": today}


def main() -> int:
    """Try each row, say what came out, and fail where a row did."""
    asked = arguments()
    asked.logs.mkdir(parents=True, exist_ok=True)
    failed: list[str] = []
    before: list[dict] = []
    for name in asked.rows:
        start = time.perf_counter()
        try:
            found = tried(name, asked.logs, before)
        except (subprocess.SubprocessError, OSError) as error:
            print(f"{name}: {error}", file=sys.stderr, flush=True)
            failed.append(name)
            continue
        before.append(found)
        if asked.write:  # after each row: a later one may fail
            keep([found])
        shown = ", ".join(f"{column} {found['versions'][column]}" for column in COLUMNS)
        count, seconds = f"{found['passed']} of {found['of']}", time.perf_counter() - start
        print(f"{name}: {count} passed, {seconds:.0f} s ({shown})", flush=True)
        if not 0 < found["of"] == found["passed"]:
            failed.append(name)
    if failed:
        print(f"Failed: {' '.join(failed)}; see {asked.logs}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
