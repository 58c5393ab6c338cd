"""Draw the pictures of some pages while the documentation is built.

The Python blocks of a page are run in order. The figures that a block makes become the pictures
that the page shows between it and the next block, so that a picture is what the code above it
draws. They are handed to MkDocs in memory; nothing is written beside the sources.
"""

import contextlib
import io
import os
import posixpath
import re
import tempfile
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

PAGES = ["index.md", "guide/plots.md", "guide/sequences.md", "guide/targets.md", "guide/text.md"]
FOLDER = "pictures/"
PARTS = re.compile(
    r"^```python *\n(?P<code>.*?)^``` *$|!\[[^\]]*\]\((?P<picture>" + FOLDER + r"[^)]+)\)",
    re.M | re.S,
)

_drawn: dict[str, dict[str, bytes]] = {}  # by the text of a page: `mkdocs serve` builds often


def on_files(files, config):
    """Add the pictures to the files of the site."""
    from mkdocs.structure.files import File

    for page in PAGES:
        text = Path(config.docs_dir, page).read_text("utf-8")
        if text not in _drawn:
            _drawn[text] = pictures(text, page)
        for name, content in _drawn[text].items():
            uri = posixpath.join(posixpath.dirname(page), name)
            files.append(File.generated(config, uri, content=content))
    return files


def pictures(text: str, page: str) -> dict[str, bytes]:
    """Return the PNGs that a page shows, by the names that it calls them."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    namespace: dict[str, object] = {"__name__": "__main__"}
    found: dict[str, bytes] = {}
    plt.close("all")
    with tempfile.TemporaryDirectory() as folder, _inside(folder):  # of what the code writes
        _run(text, page, namespace, found)
    plt.close("all")
    return found


@contextlib.contextmanager
def _inside(folder: str):
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _run(text: str, page: str, namespace: dict[str, object], found: dict[str, bytes]) -> None:
    """Run the blocks of a page, and keep the pictures that are drawn."""
    from matplotlib import pyplot as plt

    waiting: list[int] = []
    for part in PARTS.finditer(text):
        if part["picture"] is not None:
            if not waiting:
                raise ValueError(f"{page}: no figure is drawn for {part['picture']}")
            found[part["picture"]] = _png(plt.figure(waiting.pop(0)))
            continue
        if waiting:
            raise ValueError(f"{page}: {len(waiting)} figures are drawn but not shown")
        plt.close("all")
        line = text.count("\n", 0, part.start("code"))
        # What the code prints and warns of is for the tests, which run it too.
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            exec(compile("\n" * line + part["code"], page, "exec"), namespace)
        waiting = plt.get_fignums()


def _png(figure) -> bytes:
    buffer = io.BytesIO()
    # Without the version of matplotlib the same picture is the same file.
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    return buffer.getvalue()
