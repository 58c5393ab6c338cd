"""Execute notebooks in a fresh kernel; the first error ends it with exit code 1.

Without names they are those of this folder, and the one of the gallery that needs no further
package; with ``--gallery`` all of the gallery. With ``--keep``, outputs are written back, without
times and without what libraries print to stderr, and the last picture of a cell whose metadata name
one goes to ``docs/images``.
"""

import argparse
import base64
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
IMAGES = HERE.parent / "docs" / "images"
GALLERY = HERE / "gallery"


def execute(path: Path, keep: bool) -> None:
    """Execute one notebook in its own folder, from cleared cells."""
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in cells:
        cell.update(outputs=[], execution_count=None)
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    if keep:
        for cell in cells:
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
            if "picture" in cell.metadata:
                pictures = [out["data"]["image/png"] for out in cell.outputs if "data" in out]
                (IMAGES / cell.metadata["picture"]).write_bytes(base64.b64decode(pictures[-1]))
        notebook.metadata.pop("language_info", None)  # it holds the version of this Python
        nbformat.write(notebook, path)


def main() -> None:
    """Execute notebooks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="write the outputs back")
    parser.add_argument("--gallery", action="store_true", help="those of the gallery")
    parser.add_argument("names", nargs="*", help="files to execute")
    options = parser.parse_args()
    paths = [Path(name) for name in options.names]
    if not paths and options.gallery:
        paths = sorted(GALLERY.glob("*.ipynb"))
    elif not paths:
        paths = [*sorted(HERE.glob("*.ipynb")), GALLERY / "patients_row.ipynb"]
    for path in paths:
        start = time.perf_counter()
        execute(path, options.keep)
        print(f"{path.name}: executed in {time.perf_counter() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
