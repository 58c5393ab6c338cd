"""Execute every notebook here in a fresh kernel; the first error ends it with exit code 1.

With ``--keep``, outputs are written back, without times and without what libraries print to stderr.
"""

import argparse
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient


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
        notebook.metadata.pop("language_info", None)  # it holds the version of this Python
        nbformat.write(notebook, path)


def main() -> None:
    """Execute all notebooks of this folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="write the outputs back")
    options = parser.parse_args()
    for path in sorted(Path(__file__).parent.glob("*.ipynb")):
        start = time.perf_counter()
        execute(path, options.keep)
        print(f"{path.name}: executed in {time.perf_counter() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
