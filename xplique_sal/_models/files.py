"""Models in files: which kind a file is of, what reads it, and what is refused before it is read.

A model file can hold code, and can unpack to far more than its own size. Neither is let in unless
the caller says so.
"""

from __future__ import annotations

import importlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from xplique_sal._tracing import keras_compat
from xplique_sal.errors import InvalidModelError

#: The most bytes that a file may unpack to, unless more are allowed.
MOST_BYTES = 8 << 30

_KINDS = "a .keras, .h5, .hdf5 or .tflite file, or the folder of a SavedModel"
_UNSAFE = "If you trust whoever made it, allow it: --unsafe."


class Loaded(NamedTuple):
    """A model from a file.

    Attributes
    ----------
    model
        Anything that explainers take.
    kind
        ``"archive"`` (.keras), ``"h5"``, ``"savedmodel"`` or ``"tflite"``.
    version
        Of the Keras that wrote it, where it says.
    """

    model: Any
    kind: str
    version: str | None


def load(
    path: Any,
    *,
    unsafe: bool = False,
    keras: int | None = None,
    signature: str | None = None,
    most_bytes: int = MOST_BYTES,
) -> Loaded:
    """Return the model that a file or a folder holds.

    Parameters
    ----------
    path
        A ``.keras``, ``.h5`` or ``.tflite`` file, or the folder of a SavedModel.
    unsafe
        Let a file run code of its own: Lambda layers, and what Keras reads of a SavedModel.
    keras
        2 or 3: which Keras reads the file; ``None`` asks the file which one wrote it.
    signature
        Of a SavedModel, the one to run, by name.
    most_bytes
        The most bytes that the file may unpack to.

    Raises
    ------
    InvalidModelError
        If there is no such model, if it holds code, is too large, or cannot be read.
    """
    file = Path(path)
    if not file.exists():
        raise InvalidModelError(_KINDS, f"{str(path)!r}, which is not there", "Check the path.")
    kind = _kind(file)
    version, config = None, None
    if kind in ("archive", "h5"):
        try:
            version, config = (_keras_archive if kind == "archive" else _h5)(file, most_bytes)
        except InvalidModelError:
            raise
        except Exception as error:
            raise _unreadable(file, error) from error
        if not unsafe:
            _refuse_code(file, config)
    try:
        if kind == "tflite":
            return Loaded(tf.lite.Interpreter(model_path=str(file)), kind, None)
        if kind == "savedmodel":
            return Loaded(_saved_model(file, unsafe, signature), kind, None)
        reader = _reader(version, keras)
        model = reader.models.load_model(file, compile=False, safe_mode=not unsafe)
        return Loaded(model, kind, version)
    except InvalidModelError:
        raise
    except Exception as error:
        raise _unreadable(file, error) from error


def _kind(file: Path) -> str:
    if file.is_dir() and (file / "saved_model.pb").is_file():
        return "savedmodel"
    kinds = {".keras": "archive", ".h5": "h5", ".hdf5": "h5", ".tflite": "tflite"}
    if file.is_file() and file.suffix.lower() in kinds:
        return kinds[file.suffix.lower()]
    raise InvalidModelError(
        _KINDS, repr(str(file)), "Save the model as one: model.save('model.keras')."
    )


def _reader(version: str | None, keras: int | None) -> Any:
    """Return the Keras that reads what one of that version wrote; the newer where it is unknown."""
    newer, older = keras_compat.NAMES
    major = keras or (2 if (version or "3").startswith(("1", "2")) else 3)
    return importlib.import_module(older if major == 2 else newer)


def _keras_archive(file: Path, most_bytes: int) -> tuple[str | None, Any]:
    """Return the version and the configuration that a .keras file holds."""
    with zipfile.ZipFile(file) as archive:
        check_archive(archive, str(file), most_bytes)
        told = json.loads(archive.read("metadata.json"))
        for name in archive.namelist():
            if name.endswith(".h5"):
                _check_arrays(io.BytesIO(archive.read(name)), file, most_bytes)
        return told.get("keras_version"), json.loads(archive.read("config.json"))


def check_archive(archive: zipfile.ZipFile, name: str, most_bytes: int) -> None:
    """Refuse an archive that unpacks to too many bytes.

    Raises
    ------
    InvalidModelError
    """
    size = sum(part.file_size for part in archive.infolist())
    if size > most_bytes:
        raise InvalidModelError(
            f"a file that unpacks to at most {most_bytes / 1e9:.3g} GB",
            f"{name!r}, which says that it is {size / 1e9:.3g} GB",
            "Where that is right, raise the limit: --most-gigabytes.",
        )


def _h5(file: Path, most_bytes: int) -> tuple[str | None, Any]:
    """Return the version and the configuration that an .h5 file holds."""
    import h5py

    _check_arrays(file, file, most_bytes)
    with h5py.File(file, "r") as content:
        version, config = (content.attrs.get(name) for name in ("keras_version", "model_config"))
    if config is None:
        raise InvalidModelError(
            "a whole model", f"{str(file)!r}, which holds weights only", "Save it by model.save()."
        )
    text = [part.decode() if isinstance(part, bytes) else part for part in (version, config)]
    return text[0], json.loads(text[1])


def _check_arrays(content: Any, file: Path, most_bytes: int) -> None:
    """Refuse arrays that are too large, or that are in other files."""
    import h5py

    sizes = []

    def see(_: str, part: Any) -> None:
        if isinstance(part, h5py.Dataset):
            sizes.append(part.size * part.dtype.itemsize)
            if part.external:
                raise InvalidModelError(
                    "a file that holds its own weights",
                    f"{str(file)!r}, which reads other files",
                    "Save the model anew, as one file.",
                )

    with h5py.File(content, "r") as opened:
        opened.visititems(see)
    if sum(sizes) > most_bytes:
        raise InvalidModelError(
            f"weights of at most {most_bytes / 1e9:.3g} GB",
            f"{sum(sizes) / 1e9:.3g} GB in {str(file)!r}",
            "Where that is right, raise the limit: --most-gigabytes.",
        )


def _refuse_code(file: Path, config: Any) -> None:
    """Refuse a model whose configuration holds the code of a function."""
    for part in _dicts(config):
        kind, inner = part.get("class_name"), part.get("config")
        function = inner.get("function") if isinstance(inner, dict) else None
        if kind == "__lambda__" or (kind == "Lambda" and not isinstance(function, str)):
            raise InvalidModelError(
                "a model without code of its own",
                f"a Lambda layer in {str(file)!r}, which runs whatever was put into the file",
                _UNSAFE,
            )


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    for part in value if isinstance(value, list) else ():
        yield from _dicts(part)


def _saved_model(folder: Path, unsafe: bool, signature: str | None) -> Any:
    """Return a SavedModel: a Keras model where one made it and code may run, else its graph."""
    if unsafe and signature is None and (folder / "keras_metadata.pb").is_file():
        return _reader("2", None).models.load_model(folder, compile=False)
    loaded = tf.saved_model.load(str(folder))
    if signature is None:
        return loaded
    if signature not in loaded.signatures:
        raise InvalidModelError(
            f"a signature among {', '.join(map(repr, loaded.signatures))}",
            repr(signature),
            "Choose one of these.",
        )
    function = loaded.signatures[signature]
    function.held = loaded  # a signature does not hold the variables that it reads
    return function


def _unreadable(file: Path, error: BaseException) -> InvalidModelError:
    return InvalidModelError(
        "a model that can be read",
        f"{str(file)!r} ({type(error).__name__}: {str(error).strip()[:400]})",
        "A layer of your own has to be registered with Keras before: --import names the Python "
        "module that does so. --keras 2 or --keras 3 chooses which Keras reads the file.",
    )
