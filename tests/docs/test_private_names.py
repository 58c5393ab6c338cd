"""Whatever private name of another library the package uses is on the page that lists them."""

import ast
import re
from pathlib import Path

import xplique_sal

PACKAGE = Path(xplique_sal.__file__).parent
PAGE = Path(__file__).parents[2] / "docs" / "maintainers" / "private_parts.md"
PRIVATE = re.compile(r"_[a-z]\w*")
#: What a named tuple offers, and the end of a public name, `depthwise_kernel`.
NOT_OF_OTHERS = {"_replace", "_asdict", "_fields", "_make", "_kernel"}
SOURCES = [path for path in PACKAGE.rglob("*.py") if "demo" not in path.parts]


def used_names():
    """Return the private names that the package reads of objects that are not its own.

    They are attributes of anything but `self`, unless a class of the package defines them, and
    strings, which `getattr` is called with, unless they are modules of the package.
    """
    attributes, strings, own = {}, {}, set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                own.update(part.name for part in node.body if isinstance(part, ast.FunctionDef))
            elif isinstance(node, ast.Attribute):
                if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                    own.add(node.attr)
                else:
                    attributes[node.attr] = path.name
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                strings[node.value] = path.name
    modules = {path.stem for path in SOURCES}
    others = {name: file for name, file in attributes.items() if name not in own} | strings
    return {
        name: file
        for name, file in others.items()
        if PRIVATE.fullmatch(name) and name not in NOT_OF_OTHERS | modules
    }


def test_private_names_are_listed():
    page = PAGE.read_text("utf-8")
    used = used_names()
    assert {"_registry", "_losses", "_value"} <= used.keys()
    assert {name: file for name, file in used.items() if f"{name}" not in page} == {}


def test_private_modules_are_listed():
    page = PAGE.read_text("utf-8")
    found = set()
    for path in SOURCES:
        found.update(re.findall(r"from (tensorflow\.\S+) import", path.read_text("utf-8")))
    assert "tensorflow.python.framework" in found
    assert all(module in page for module in found)
