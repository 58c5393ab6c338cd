"""What a command was asked to explain, and how: the same for every command and engine."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xplique_sal import _runs
from xplique_sal._models import files
from xplique_sal._models.black_box import PlainFunction
from xplique_sal._models.view import function_of
from xplique_sal.cli import methods
from xplique_sal.cli.inputs import MOST_PIXELS, Limits, Record, open_source, read_labels
from xplique_sal.cli.preprocessing import Preprocessing
from xplique_sal.errors import InvalidInputError, InvalidParameterError, InvalidTargetError


@dataclasses.dataclass(frozen=True)
class Asked:
    """What is explained, of which samples, and how. JSON can hold all of it.

    Attributes
    ----------
    model, inputs
        Paths.
    target
        ``"argmax"``, an index, the name of a class, ``"folder"`` or ``"column:NAME"``.
    truth
        What the samples really are: ``"folder"`` or ``"column:NAME"``.
    labels
        The path of a file with the names of classes.
    options
        Parameters of methods; ``None`` is the default of each.
    preprocess, mean, std
        See `Preprocessing`.
    size
        Height and width of pictures, for a model that takes any.
    key, not_features
        Of files: see `inputs.open_source`.
    batch_size
        As explainers take it.
    unsafe, keras, signature, imports, most_megapixels, most_gigabytes
        How the model's file and the inputs may be read.
    """

    model: str
    inputs: str
    target: str = "argmax"
    truth: str | None = None
    labels: str | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    preprocess: str | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    size: Sequence[int] | None = None
    key: str | None = None
    not_features: Sequence[str] = ()
    batch_size: int | str = 64
    unsafe: bool = False
    keras: int | None = None
    signature: str | None = None
    imports: Sequence[str] = ()
    most_megapixels: float = MOST_PIXELS / 1e6
    most_gigabytes: float = 8.0

    @property
    def limits(self) -> Limits:
        """What files may become."""
        return Limits(int(self.most_megapixels * 1e6), int(self.most_gigabytes * 1e9))

    def settings(self) -> dict[str, Any]:
        """Return it as settings of a run, with what tells the model and a file of samples."""
        held = dataclasses.asdict(self)
        for name in ("model", "inputs", "labels"):
            held[name] = held[name] and str(Path(held[name]).resolve())
        held["model_sha256"] = _runs.fingerprint(self.model)
        if Path(self.inputs).is_file():
            held["inputs_sha256"] = _runs.fingerprint(self.inputs)
        return held

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Asked:
        """Return what settings of a run were made from."""
        names = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in settings.items() if name in names})

    def load(self) -> Any:
        """Return the model.

        Raises
        ------
        InvalidModelError
            If it cannot be loaded.
        """
        sys.path.insert(0, "")
        try:
            for name in self.imports:
                importlib.import_module(name)
        except ImportError as error:
            raise InvalidParameterError(
                "--import of a Python module", repr(self.imports), f"{error}."
            ) from error
        finally:
            sys.path.remove("")
        return files.load(
            self.model,
            unsafe=self.unsafe,
            keras=self.keras,
            signature=self.signature,
            most_bytes=self.limits.bytes,
        ).model


class Samples:
    """The samples of a command as its model takes them, with their targets and names.

    Parameters
    ----------
    asked
        What the command was asked.
    model
        The model, or ``None`` where only names, targets and pictures are needed.

    Attributes
    ----------
    source
        Where they come from.
    classes
        The names of classes; empty if none were given.
    shape
        Of a sample, channels last; ``None`` where any size will do.
    channels_first
        Whether the model takes pictures as (C, H, W).
    """

    def __init__(self, asked: Asked, model: Any) -> None:
        self.asked = asked
        columns = [_column(each) for each in (asked.target, asked.truth)]
        left_out = [*asked.not_features, *(name for name in columns if name is not None)]
        self.source = open_source(
            asked.inputs, key=asked.key, target_columns=left_out, limits=asked.limits
        )
        if asked.preprocess is None and self.source.has_images:
            raise InvalidParameterError(
                "--preprocess for pictures: how their pixels were prepared when the model learnt",
                "none",
                "none (0 to 255, for models that prepare them themselves), 0-1, -1-1, or the name "
                "of a model of keras.applications, such as resnet50. A wrong one makes wrong maps.",
            )
        self._prepare = Preprocessing(asked.preprocess or "none", asked.mean, asked.std)
        self.classes = read_labels(asked.labels) if asked.labels else []
        self.channels_first = False
        self.shape = self._shape_of(model)
        self._targets = self._read_targets(asked.target, "--target")
        self._truth = None if asked.truth is None else self._read_targets(asked.truth, "--truth")

    def _shape_of(self, model: Any) -> list[int | None]:
        shape = input_shape(model)
        if not self.source.has_images:
            return list(shape or [])
        shape = list(shape or [None, None, 3])
        if len(shape) == 2:
            shape = [*shape, 1]
        if len(shape) != 3:
            raise InvalidInputError(
                "a model of pictures, (H, W, C), for pictures", f"the shape {shape}", "Check both."
            )
        if shape[-1] not in (1, 3, 4) and shape[0] in (1, 3, 4):
            self.channels_first, shape = True, [*shape[1:], shape[0]]
        if self.asked.size is not None:
            shape[:2] = self.asked.size
        return shape

    def _read_targets(self, said: str, option: str) -> Any:
        """Return one class for all, one for each (``None`` where it is not known), or nothing."""
        if said == "argmax":
            return None
        column = "folder" if said == "folder" else _column(said)
        if column is None:
            return self._class_of(said, option)
        if column not in self.source.labels:
            known = ", ".join(map(repr, self.source.labels)) or "none"
            raise InvalidTargetError(f"a column among {known}", repr(column), f"See {option}.")
        values = self.source.labels[column]
        if column == "folder" and not self.classes:
            self.classes = sorted(set(values))
        return [self._class_or_error(value, option) for value in values]

    def _class_or_error(self, value: Any, option: str) -> Any:
        try:
            return self._class_of(value, option)
        except InvalidTargetError as error:
            return error

    def _class_of(self, value: Any, option: str) -> int:
        text = str(value).strip()
        if text in self.classes:
            return self.classes.index(text)
        try:
            number = float(text)
            if number == int(number) >= 0:
                return int(number)
        except (ValueError, OverflowError):
            pass
        raise InvalidTargetError(
            f"a class for {option}: its index, or its name in the file of --labels",
            repr(value),
            "--target takes argmax, an index, a name, folder or column:NAME.",
        )

    def read(self, record: Record) -> np.ndarray:
        """Return a sample as the model takes it.

        Raises
        ------
        InvalidInputError, InvalidTargetError
            If it cannot be read, or there is no class for it.
        """
        target = self.target(record.number)
        if isinstance(target, Exception):
            raise target
        sample = self._prepare(record.read())
        if not np.isfinite(sample).all():
            raise InvalidInputError("finite numbers", "NaN or infinity", "Leave it out.")
        wanted = self.shape
        if wanted and (
            len(wanted) != sample.ndim
            or any(size not in (None, n) for size, n in zip(wanted, sample.shape, strict=True))
        ):
            raise InvalidInputError(
                f"samples of the shape {tuple(wanted)}", f"{sample.shape}", "Check the file."
            )
        return np.moveaxis(sample, -1, 0) if self.channels_first else sample

    def target(self, number: int) -> Any:
        """Return the class to explain of a sample: ``None`` for the model's own choice."""
        return self._targets[number] if isinstance(self._targets, list) else self._targets

    def truth(self, number: int) -> int | None:
        """Return what a sample really is, if that is known."""
        known = self._truth if self._truth is not None else self._targets
        if self._truth is None and not isinstance(self._targets, list):
            return None
        value = known[number] if isinstance(known, list) else known
        return value if isinstance(value, int) else None


def _column(said: str | None) -> str | None:
    return said.partition(":")[2] if said is not None and said.startswith("column:") else None


def input_shape(model: Any) -> list[int | None] | None:
    """Return the shape of a sample as a model says it, without its batch axis.

    Raises
    ------
    InvalidInputError
        If it takes several inputs: files hold one.
    """
    f = function_of(model)
    if isinstance(f, PlainFunction):
        details: list[Any] = getattr(model, "get_input_details", list)()
        shapes = [detail.get("shape_signature", detail["shape"])[1:] for detail in details]
        found = [[None if size < 0 else int(size) for size in shape] for shape in shapes]
    else:
        specs = f.inputs.specs if f.inputs is not None else ()
        found = [list((spec.shape or ())[1:]) for spec in specs]
    if len(found) > 1:
        raise InvalidInputError(
            "a model with one input", f"{len(found)} inputs", "Explain it from Python."
        )
    return found[0] if found else None


def explainer(name: str, model: Any, asked: Asked) -> Any:
    """Return the method of that name, as it was asked for."""
    return methods.make(name, model, {"batch_size": asked.batch_size, **asked.options})
