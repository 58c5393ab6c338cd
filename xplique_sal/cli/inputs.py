"""Samples from folders and files, one at a time, each read or refused by itself."""

from __future__ import annotations

import abc
import csv
import functools
import io
import itertools
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xplique_sal._models.files import check_archive
from xplique_sal._parameters import optional
from xplique_sal.errors import InvalidInputError, XpliqueSalError

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
#: Pixels of one image, unless more are allowed.
MOST_PIXELS = 100_000_000
_KINDS = "a folder of images, an image, or a .npy, .npz, .csv, .parquet or .tfrecord file"


class Limits(NamedTuple):
    """What a file may become when it is read."""

    pixels: int = MOST_PIXELS
    bytes: int = 8 << 30


class Record(NamedTuple):
    """One sample, which is read when its turn comes.

    Attributes
    ----------
    number
        Its place among all.
    read
        Returns it: an image (H, W, C) of bytes, or numbers.
    """

    number: int
    read: Callable[[], np.ndarray]


class Source(abc.ABC):
    """All samples of a folder or a file.

    Attributes
    ----------
    names
        What they are called, in order.
    labels
        What is known of each beside it, by the name of a column; ``"folder"`` is the name of the
        folder that an image is in.
    has_images
        Whether they are pictures, whose pixels are numbers from 0 to 255.
    features
        The names of the features of rows.
    """

    names: list[str]
    labels: dict[str, list[Any]]
    has_images = False
    features: list[str] | None = None

    @abc.abstractmethod
    def records(self, numbers: Sequence[int], shape: Sequence[int | None]) -> Iterator[Record]:
        """Yield the samples with these numbers, in increasing order.

        Parameters
        ----------
        numbers
            Which ones.
        shape
            Of a sample as the model takes it, channels last; ``None`` where any size will do.
        """

    def changed(self, number: int) -> float:
        """Return when a sample was changed last, if that can be told of it alone."""
        return -np.inf


def open_source(
    path: Any, *, key: str | None = None, target_columns: Sequence[str] = (), limits: Limits
) -> Source:
    """Return the samples that a folder or a file holds.

    Parameters
    ----------
    path
        Of the folder or file.
    key
        Which array of an .npz file, column of a Parquet file or feature of a TFRecord file.
    target_columns
        Columns that are no features.
    limits
        What is refused.

    Raises
    ------
    InvalidInputError
        If there are none.
    """
    file = Path(path)
    if file.is_dir() or (file.is_file() and file.suffix.lower() in IMAGES):
        return _Images(file, limits)
    if not file.is_file():
        raise InvalidInputError(_KINDS, f"{str(path)!r}, which is not there", "Check the path.")
    suffix = file.suffix.lower()
    try:
        if suffix in (".npy", ".npz"):
            return _Arrays(file, key, limits)
        if suffix == ".csv":
            return _Csv(file, target_columns)
        if suffix in (".parquet", ".pq"):
            return _Parquet(file, key, target_columns, limits)
        if suffix in (".tfrecord", ".tfrecords"):
            return _Records(file, key, limits)
    except (XpliqueSalError, ImportError):
        raise
    except Exception as error:
        raise InvalidInputError(
            "a file that can be read", f"{str(path)!r} ({error})", "Write it anew."
        ) from error
    raise InvalidInputError(_KINDS, repr(str(path)), "Convert it to one of these.")


def decode(content: Any, shape: Sequence[int | None], limits: Limits) -> np.ndarray:
    """Return a picture as bytes (H, W, C), of the size and the channels of a model's input.

    Raises
    ------
    InvalidInputError
        If it is none, or too large.
    """
    image_of: Any = optional("PIL.Image", "Pictures need", "cli")
    height, width, channels = shape
    try:
        with image_of.open(content) as opened:
            if opened.width * opened.height > limits.pixels:
                raise InvalidInputError(
                    f"at most {limits.pixels} pixels",
                    f"{opened.width}×{opened.height}",
                    "Where that is right, raise the limit: --most-megapixels.",
                )
            mode = {1: "L", 4: "RGBA"}.get(channels or 3, "RGB")
            opened.draft(mode, None)
            image = _of_bytes(opened, image_of).convert(mode)
    except InvalidInputError:
        raise
    except Exception as error:
        # What Pillow does not know it names by an address, which is another in each process.
        is_known = "object at 0x" not in str(error)
        said = f"a broken one ({error})" if is_known else "something else"
        raise InvalidInputError("a picture", said, "Replace the file, or remove it.") from error
    if height and width and image.size != (width, height):
        image = image.resize((width, height), image_of.Resampling.BILINEAR)
    array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array


def _of_bytes(opened: Any, image_of: Any) -> Any:
    """Return a picture of 8 bits a channel: of 16 the upper ones, as TensorFlow reads them.

    Pillow would cut off what is above 255.
    """
    if opened.mode.startswith("I;16") or (opened.mode == "I" and opened.format == "PNG"):
        return image_of.fromarray((np.asarray(opened) >> 8).astype(np.uint8))
    if opened.mode in ("I", "F"):
        raise InvalidInputError(
            "pictures of 8 or 16 bits a channel",
            "one of numbers of 32 bits, whose range nobody knows",
            "Save it as an array, by np.save.",
        )
    return opened


class _Images(Source):
    """The pictures in a folder and the folders in it, in the order of their names."""

    has_images = True

    def __init__(self, path: Path, limits: Limits) -> None:
        # The library's own limit warns first: the one here is an error at once.
        image_of: Any = optional("PIL.Image", "Pictures need", "cli")
        image_of.MAX_IMAGE_PIXELS = None
        self._limits = limits
        self._root = path if path.is_dir() else path.parent
        self._files = [path] if path.is_file() else sorted(_files_in(path))
        if not self._files:
            raise InvalidInputError(
                f"pictures ({', '.join(IMAGES)})", f"none in {str(path)!r}", "Check the path."
            )
        self.names = [file.relative_to(self._root).as_posix() for file in self._files]
        self.labels = {"folder": [file.parent.name for file in self._files]}

    def records(self, numbers: Sequence[int], shape: Sequence[int | None]) -> Iterator[Record]:
        for number in numbers:
            yield Record(number, functools.partial(self._read, self._files[number], shape))

    def _read(self, file: Path, shape: Sequence[int | None]) -> np.ndarray:
        try:
            return decode(io.BytesIO(file.read_bytes()), shape, self._limits)
        except OSError as error:
            raise InvalidInputError(
                "a file that can be read", str(error.strerror), "Check its permissions."
            ) from error

    def changed(self, number: int) -> float:
        try:
            return self._files[number].stat().st_mtime
        except OSError:
            return -np.inf


def _files_in(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and name.lower().endswith(IMAGES):
                yield Path(place, name)


class _Rows(Source):
    """Samples that are rows of something: their names are their numbers."""

    def _name(self, count: int) -> None:
        if not count:
            raise InvalidInputError("at least one row", "none", "Check the file.")
        self.names = [str(number) for number in range(count)]

    def records(self, numbers: Sequence[int], shape: Sequence[int | None]) -> Iterator[Record]:
        for number in numbers:
            yield Record(number, functools.partial(self._row, number, shape))

    def _row(self, number: int, shape: Sequence[int | None]) -> np.ndarray:
        raise NotImplementedError


class _Arrays(_Rows):
    """An array in a file; the other arrays of an .npz file that are as long are its labels."""

    def __init__(self, file: Path, key: str | None, limits: Limits) -> None:
        self.labels = {}
        if file.suffix.lower() == ".npy":
            self._array = np.load(file, mmap_mode="r", allow_pickle=False)
        else:
            with zipfile.ZipFile(file) as archive:
                try:
                    check_archive(archive, str(file), limits.bytes)
                except XpliqueSalError as error:
                    raise InvalidInputError(error.expected, error.actual, error.remedy) from error
            with np.load(file, allow_pickle=False) as arrays:
                key = _chosen(key, [name for name in arrays if arrays[name].ndim > 1], "array")
                self._array = arrays[key]
                beside = {name: arrays[name] for name in arrays if name != key}
            self.labels = {
                name: array.tolist()
                for name, array in beside.items()
                if array.ndim == 1 and len(array) == len(self._array)
            }
        if self._array.ndim < 2:
            raise InvalidInputError(
                "an array of samples, (N, ...)", f"the shape {self._array.shape}", "Add an axis."
            )
        self._name(len(self._array))

    def _row(self, number: int, shape: Sequence[int | None]) -> np.ndarray:
        return np.array(self._array[number])


class _Csv(_Rows):
    """A table with a line of names: numbers, and columns that are none of the features."""

    def __init__(self, file: Path, target_columns: Sequence[str]) -> None:
        with file.open(newline="", encoding="utf-8-sig") as content:
            names, *rows = list(csv.reader(content))
        self._table = rows
        labels = set(target_columns)
        self._columns = [place for place, name in enumerate(names) if name not in labels]
        self.features = [names[place] for place in self._columns]
        self.labels = {
            name: [row[place] if place < len(row) else None for row in rows]
            for place, name in enumerate(names)
        }
        self._name(len(rows))

    def _row(self, number: int, shape: Sequence[int | None]) -> np.ndarray:
        row = self._table[number]
        try:
            return np.array([float(row[place]) for place in self._columns], np.float32)
        except (ValueError, IndexError) as error:
            raise InvalidInputError(
                f"a number in each of {len(self._columns)} columns",
                f"{row} ({error})",
                "Columns that are no features: --not-features, or --target and --truth.",
            ) from error


class _Parquet(_Rows):
    """A Parquet file: columns of numbers, or one column of lists or of encoded pictures."""

    def __init__(
        self, file: Path, key: str | None, target_columns: Sequence[str], limits: Limits
    ) -> None:
        parquet: Any = optional("pyarrow.parquet", "Parquet files need", "cli")
        table, self._limits = parquet.read_table(file), limits
        columns = {name: table.column(name) for name in table.column_names}
        inner = [
            name
            for name, c in columns.items()
            if not _is_plain(c.type) and name not in target_columns
        ]
        self._cells: Any = None
        if key is not None or inner:
            key = _chosen(key, inner or list(columns), "column")
            self._cells = columns[key]
            _check_cells(key, self._cells.type)
            self.has_images = _holds_bytes(self._cells.type)
        else:
            labels = set(target_columns)
            self.features = [name for name in columns if name not in labels]
            self._columns = [columns[name].to_pylist() for name in self.features]
        self.labels = {name: c.to_pylist() for name, c in columns.items() if _is_plain(c.type)}
        self._name(table.num_rows)

    def _row(self, number: int, shape: Sequence[int | None]) -> np.ndarray:
        if self._cells is None:
            return _numbers([column[number] for column in self._columns])
        cell = self._cells[number].as_py()
        if isinstance(cell, dict):
            cell = cell.get("bytes")
        if self.has_images:
            return decode(io.BytesIO(cell or b""), shape, self._limits)
        return _in_shape(_numbers(cell), shape)


def _is_plain(kind: Any) -> bool:
    return not any(word in str(kind) for word in ("list", "struct", "binary"))


def _check_cells(name: str, kind: Any) -> None:
    """Refuse fields with names, but those of pictures, {bytes, path}: their order says nothing."""
    has_fields = "struct" in str(kind)
    is_picture = str(kind).startswith("struct") and "bytes: " in str(kind) and _holds_bytes(kind)
    if has_fields and not is_picture:
        raise InvalidInputError(
            "a column of numbers, of lists of them or of pictures",
            f"{name!r} of the type {kind}",
            "Write its fields as columns of their own, or name another column: --key.",
        )


def _holds_bytes(kind: Any) -> bool:
    return "binary" in str(kind)


def _numbers(values: Any) -> np.ndarray:
    try:
        return np.array(values, np.float32)
    except (ValueError, TypeError) as error:
        raise InvalidInputError("numbers", f"{error}", "Leave other columns out.") from error


class _Records(_Rows):
    """A TFRecord file of examples: a feature with encoded pictures, or one of numbers."""

    def __init__(self, file: Path, key: str | None, limits: Limits) -> None:
        import tensorflow as tf

        self._tf, self._file, self._limits = tf, str(file), limits
        self.labels, count = {}, 0
        for count, raw in enumerate(self._raw(), 1):
            if count == 1:
                features = tf.train.Example.FromString(raw).features.feature
                kinds = {name: part.WhichOneof("kind") for name, part in features.items()}
                many = [n for n, part in features.items() if _length(part) > 1]
                pictures = [n for n, kind in kinds.items() if kind == "bytes_list"]
                if key is None and "image/encoded" in kinds:
                    key = "image/encoded"
                self._key = _chosen(key, pictures or many, "feature")
                self.has_images = kinds.get(self._key) == "bytes_list"
                plain = [n for n, k in kinds.items() if k == "int64_list" and n != self._key]
                self.labels = {name: [] for name in plain}
            for name, found in self.labels.items():
                values = tf.train.Example.FromString(raw).features.feature[name].int64_list.value
                found.append(values[0] if len(values) == 1 else None)
        self._name(count)

    def _raw(self) -> Iterator[bytes]:
        return iter(self._tf.data.TFRecordDataset(self._file).as_numpy_iterator())

    def records(self, numbers: Sequence[int], shape: Sequence[int | None]) -> Iterator[Record]:
        wanted = set(numbers)
        for number, raw in enumerate(itertools.islice(self._raw(), max(wanted, default=-1) + 1)):
            if number in wanted:
                yield Record(number, functools.partial(self._parsed, raw, shape))

    def _parsed(self, raw: bytes, shape: Sequence[int | None]) -> np.ndarray:
        try:
            part = self._tf.train.Example.FromString(raw).features.feature[self._key]
        except Exception as error:
            raise InvalidInputError("an example", f"{error}", "Write the file anew.") from error
        if self.has_images:
            return decode(io.BytesIO(b"".join(part.bytes_list.value)), shape, self._limits)
        return _in_shape(_numbers(part.float_list.value or part.int64_list.value), shape)


def _length(part: Any) -> int:
    return max(len(getattr(part, kind).value) for kind in ("float_list", "int64_list"))


def _in_shape(values: np.ndarray, shape: Sequence[int | None]) -> np.ndarray:
    """Return a flat list of numbers in the shape that a model takes, if it has as many."""
    known = [size or -1 for size in shape]
    if values.ndim == 1 and known.count(-1) <= 1:
        try:
            return values.reshape(known)
        except ValueError as error:
            raise InvalidInputError(
                f"as many numbers as a sample has, {tuple(known)}", f"{values.size}", "Check them."
            ) from error
    return values


def _chosen(key: str | None, names: Sequence[str], what: str) -> str:
    if key is None and len(names) == 1:
        return names[0]
    if key is None or key not in names:
        raise InvalidInputError(
            f"the {what} to explain, among {', '.join(map(repr, names)) or 'none'}",
            repr(key),
            "Name it: --key.",
        )
    return key


def read_labels(path: Any) -> list[str]:
    """Return the names of classes: one on each line, or in JSON a list or a dict by index.

    Raises
    ------
    InvalidInputError
        If the file holds no such thing.
    """
    try:
        text = Path(path).read_text("utf-8")
        if Path(path).suffix.lower() != ".json":
            return [line.strip() for line in text.splitlines() if line.strip()]
        held = json.loads(text)
        if isinstance(held, dict):
            held = [held[str(index)] for index in range(len(held))]
        return [str(part[-1] if isinstance(part, list) else part) for part in held]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(
            "a file with the name of each class on a line of its own",
            f"{str(path)!r} ({error})",
            "A JSON file holds a list of names, or a dict from indices to names.",
        ) from error
