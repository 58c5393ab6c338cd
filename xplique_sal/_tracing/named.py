"""What Python code names outside of itself, and whose code it is.

A trace burns in what a function reads: the globals and the modules that it names, and attributes,
which it may find on a class. They are told from the code alone, without running it.
"""

from __future__ import annotations

import dis
import functools
import sys
import types
import weakref
from collections.abc import Set
from typing import Any, NamedTuple

from xplique_sal._tracing import keras_compat

_OWN = "xplique_sal"
#: What the functions and classes of these name does not change between two calls, and would be
#: long to look through.
_FRAMEWORKS = frozenset(
    {_OWN, *keras_compat.NAMES, "tensorflow", "numpy", "scipy"} | sys.stdlib_module_names
)
#: Nor are objects of these looked into. A `SimpleNamespace` is, for one.
_OPAQUE = _FRAMEWORKS - {_OWN, "types", "argparse", "collections", "configparser", "optparse"}
_READS_GLOBAL = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})
_READS_ATTRIBUTE = frozenset({"LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR", "IMPORT_FROM"})
#: Since Python 3.12, a name in the body of a class or of a function inside it is read by these.
_READS_EITHER = frozenset({"LOAD_FROM_DICT_OR_GLOBALS"})


class Names(NamedTuple):
    """What a function and those written inside it read, by name.

    Attributes
    ----------
    variables
        Global variables, as far as they are not builtins.
    modules
        Those that are imported inside the function.
    attributes
        Attributes, of whatever object.
    """

    variables: tuple[str, ...]
    modules: tuple[str, ...]
    attributes: frozenset[str]


@functools.lru_cache(maxsize=4096)
def names_in(code: types.CodeType) -> Names:
    """Return what a function's code names."""
    variables: dict[str, None] = {}
    modules: dict[str, None] = {}
    attributes: set[str] = set()
    waiting = [code]
    while waiting:
        part = waiting.pop()
        waiting += [inner for inner in part.co_consts if isinstance(inner, types.CodeType)]
        for step in dis.get_instructions(part):
            if step.opname in _READS_GLOBAL or step.opname in _READS_EITHER:
                variables[step.argval] = None
            elif step.opname in _READS_ATTRIBUTE:
                attributes.add(step.argval)
            elif step.opname == "IMPORT_NAME":
                modules[step.argval] = None
    return Names(tuple(variables), tuple(modules), frozenset(attributes))


def is_framework(owner: Any) -> bool:
    """Tell whether a function, class or module belongs to Python, TensorFlow, Keras or NumPy."""
    return package_of(owner) in _FRAMEWORKS


def is_constant(value: Any) -> bool:
    """Tell whether a value is a function of this package that closes over nothing."""
    if not isinstance(value, types.FunctionType) or package_of(value) != _OWN:
        return False
    return getattr(value, "__wrapped__", value).__closure__ is None


def is_opaque(owner: Any) -> bool:
    """Tell whether a function, or an object of a class, is told from others only by which it is."""
    return package_of(owner) in _OPAQUE


def is_followed(function: Any, packages: Set[str]) -> bool:
    """Tell whether what a function names is looked at.

    It is if the function is the user's own, or of one of `packages`. What an installed library does
    inside is else its own affair.
    """
    package = package_of(function)
    return package not in _FRAMEWORKS and (package in packages or not _is_installed(package))


def users_classes(kind: type) -> list[type]:
    """Return a class and its bases, as far as they are no framework's, in order."""
    if kind not in _places:
        own = [place for place, base in enumerate(kind.__mro__) if not is_framework(base)]
        _places[kind] = tuple(own)
    return [kind.__mro__[place] for place in _places[kind]]


#: Where in the order of its bases a class has those of the user. No class is kept alive by it.
_places: weakref.WeakKeyDictionary[type, tuple[int, ...]] = weakref.WeakKeyDictionary()


def package_of(owner: Any) -> str:
    """Return the name of the package that a function, class or module belongs to."""
    name = owner.__name__ if isinstance(owner, types.ModuleType) else owner.__module__
    return (name or "").partition(".")[0]


@functools.lru_cache(maxsize=1024)
def _is_installed(package: str) -> bool:
    file = getattr(sys.modules.get(package), "__file__", None) or ""
    return "site-packages" in file or "dist-packages" in file
