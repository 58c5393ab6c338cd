"""Notebooks are listed in the documentation, and kept small, with outputs that are complete."""

import ast
import inspect
import json
from pathlib import Path

import pytest

from xplique_sal import attributions

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted([*FOLDER.glob("*.ipynb"), *(FOLDER / "gallery").glob("*.ipynb")])
MOST_LINES = 40
MOST_BYTES = 400_000


def test_what_is_kept_by_hand_for_every_explainer_has_every_explainer():
    from demos import metrics

    assert sorted(metrics.EXPLAINERS) == sorted(attributions.__all__)
    cells = json.loads((ROOT / "notebooks/choosing_a_method.ipynb").read_text("utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    tree = ast.parse(next(text for text in sources if "settings = {" in text))
    nodes = [node for node in tree.body if isinstance(node, ast.Assign)]
    (keys,) = (n.value.keys for n in nodes if ast.unparse(n.targets[0]) == "settings")
    known = {key.value for key in keys}
    needing = {
        name
        for name in attributions.__all__
        for key, parameter in inspect.signature(getattr(attributions, name)).parameters.items()
        if key != "model" and parameter.default is parameter.empty
    }
    assert needing <= known <= set(attributions.__all__)
    # And all of them are shown.
    assert any("methods = attributions.__all__" in text for text in sources)


def test_all_are_listed():
    page = (ROOT / "docs/notebooks.md").read_text("utf-8")
    rows = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    assert sorted(rows) == sorted(path.relative_to(FOLDER).as_posix() for path in NOTEBOOKS)


GALLERY = [path for path in NOTEBOOKS if path.parent.name == "gallery"]


@pytest.mark.parametrize("path", GALLERY, ids=lambda path: path.stem)
def test_those_of_the_gallery_are_short_check_themselves_and_say_what_they_can_not(path):
    cells = json.loads(path.read_text("utf-8"))["cells"]
    sources = {kind: [] for kind in ("code", "markdown")}
    for cell in cells:
        sources[cell["cell_type"]].append("".join(cell["source"]))
    lines = [line for text in sources["code"] for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("import ", "from "))]
    assert len(lines) < MOST_LINES
    assert any(line.startswith("assert ") for line in lines)
    assert any("## Is it right?" in text for text in sources["markdown"])
    assert "## What it cannot say" in sources["markdown"][-1]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_kept_and_small(path):
    cells = json.loads(path.read_text("utf-8"))["cells"]
    assert cells[0]["cell_type"] == "markdown" and cells[0]["source"][0].startswith("# ")
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert path.stat().st_size < MOST_BYTES
