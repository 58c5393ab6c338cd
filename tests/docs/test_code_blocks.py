"""Every Python block of the README and of the documentation runs, page by page, in order."""

import re
from pathlib import Path

import pytest

from xplique_sal import operators

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^(?P<indent> *)```python *\n(?P<code>.*?)^(?P=indent)``` *$", re.M | re.S)


def python_blocks(text):
    """Yield (line number of the first line of code, code) for every Python block."""
    for match in FENCE.finditer(text):
        indent = match["indent"]
        lines = [line.removeprefix(indent) for line in match["code"].splitlines()]
        yield text.count("\n", 0, match.start("code")) + 1, "\n".join(lines)


PAGES_WITH_CODE = [page for page in PAGES if any(python_blocks(page.read_text("utf-8")))]


@pytest.mark.parametrize("page", PAGES_WITH_CODE, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # What a page registers stays with the page.
    monkeypatch.setattr(operators, "_registry", dict(operators._registry))
    namespace = {"__name__": "__main__"}
    for line, code in python_blocks(page.read_text("utf-8")):
        # Blank lines keep the page's line numbers in tracebacks.
        exec(compile("\n" * (line - 1) + code, page, "exec"), namespace)


def test_blocks_are_found():
    flat = "a\n```python\nx = 1\n\ny = 2\n```\n"
    indented = "- b\n\n    ```python\n    if x:\n        y\n    ```\n"
    text = flat + indented + "```sh\nmake\n```\n"
    assert list(python_blocks(text)) == [(3, "x = 1\n\ny = 2"), (10, "if x:\n    y")]
    assert ROOT / "README.md" in PAGES_WITH_CODE
