"""An environment for each row, made by pip, kept, and thrown away when disk is short."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from combinations import Row

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".venv-matrix"

#: What `FOLDER` may take, and what must stay free on its disk, in GB.
MOST, FREE = 12, 5
#: What an environment takes while it is being made, in GB.
NEEDED = 3


def environment_of(row: Row) -> Path:
    """Return the Python of a row's environment, which is made if it is not there."""
    base = _made(_base_name(row), row.python, row.base)
    if row.keras is None:
        return base / "bin" / "python"
    made = FOLDER / row.name
    return _derived(made, base, row.keras) / "bin" / "python"


def _base_name(row: Row) -> str:
    asked = "-".join(part.split("==")[-1] for part in row.base if part.startswith("tensorflow"))
    kind = asked or ("lowest" if row.base else "newest")
    return f"base-{row.python}-{kind}"


def _made(name: str, python: str, packages: tuple[str, ...]) -> Path:
    folder = FOLDER / name
    stamp = folder / ".installed"
    asked = " ".join((python, *packages))
    if stamp.exists() and stamp.read_text() == asked:
        stamp.touch()  # it was used: the others are thrown away before it
        return folder
    _make_room()
    shutil.rmtree(folder, ignore_errors=True)
    _run(find_python(python), "-m", "venv", str(folder))
    pip = (str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet")
    _run(*pip, "--editable", ".", "pytest>=8", *packages)
    stamp.write_text(asked)
    return folder


def _derived(folder: Path, base: Path, keras: str) -> Path:
    """Copy an environment by hard links, and put another Keras 3 into the copy.

    pip replaces files and does not write into them, so that the base stays as it is.
    """
    stamp = folder / ".installed"
    asked = f"{base.name} {(base / '.installed').stat().st_ino} keras=={keras}"
    if stamp.exists() and stamp.read_text() == asked:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    _run("cp", "-al", str(base), str(folder))
    stamp.unlink()
    # The scripts of the copy still start the Python of the base; the copied Python is its own.
    _run(str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", f"keras=={keras}")
    stamp.write_text(asked)
    return folder


def throw_away(row: Row) -> None:
    """Remove the environment of a row that was copied from another: it is soon made again."""
    if row.keras is not None:
        shutil.rmtree(FOLDER / row.name, ignore_errors=True)


def _make_room() -> None:
    """Remove what was not used for longest, with its copies, until another environment fits."""
    FOLDER.mkdir(exist_ok=True)
    while True:
        bases = [stamp.parent for stamp in FOLDER.glob("base-*/.installed")]
        if not bases or (
            _gigabytes(FOLDER) + NEEDED <= MOST
            and shutil.disk_usage(FOLDER).free / 1e9 >= NEEDED + FREE
        ):
            return
        oldest = min(bases, key=lambda base: (base / ".installed").stat().st_mtime)
        for stamp in list(FOLDER.glob("*/.installed")):
            if stamp.read_text().startswith(f"{oldest.name} "):
                shutil.rmtree(stamp.parent)
        shutil.rmtree(oldest)


def _gigabytes(folder: Path) -> float:
    """Return what a folder takes on disk, each hard-linked file once."""
    sizes: dict[int, int] = {}
    for path in folder.rglob("*"):
        if not path.is_symlink():
            status = path.stat()
            sizes[status.st_ino] = status.st_blocks * 512
    return sum(sizes.values()) / 1e9


def find_python(version: str) -> str:
    """Return a Python of a version, from the PATH or from pyenv.

    Raises
    ------
    SystemExit
        If there is none.
    """
    pyenv = shutil.which("pyenv")
    root = _output(pyenv, "root") if pyenv else ""
    versions = Path(root or Path.home() / ".pyenv") / "versions"
    candidates = [f"python{version}", *map(str, versions.glob(f"{version}.*/bin/python"))]
    check = f"import sys; print('{version}' == '%d.%d' % sys.version_info[:2])"
    for candidate in [sys.executable, *candidates]:
        # A name on the PATH can be a launcher for a Python that is not there, so each is run.
        if _output(candidate, "-c", check) == "True":
            return candidate
    raise SystemExit(f"Python {version} was not found on the PATH nor under pyenv.")


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _run(*command: str) -> None:
    subprocess.run(command, cwd=ROOT, check=True)
