"""What a page holds of each sample: its form, its maps, its scores and its curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xplique_sal.errors import InvalidInputError, InvalidParameterError
from xplique_sal.report.pictures import embedded_image, embedded_map, is_signed

KINDS = ("image", "series", "table", "text")


def kind_of(kind: str | None, inputs: Any, tokens: Any) -> str:
    """Return the form of samples: as it is said, or by what there is.

    Raises
    ------
    InvalidInputError, InvalidParameterError
        If it is none.
    """
    if kind is not None and kind not in KINDS:
        raise InvalidParameterError(f"a `kind` among {KINDS}", repr(kind), "Pass one of these.")
    if tokens is not None:
        return "text"
    axes = np.ndim(inputs[0]) if inputs is not None and len(inputs) else 0
    found = kind or {1: "table", 2: "series", 3: "image"}.get(axes)
    if found is None or (found == "table" and axes != 1) or (found == "series" and axes != 2):
        raise InvalidInputError(
            "samples of a table (N, W), series (N, T, W) or images (N, H, W, C), or `tokens`",
            f"samples of {axes} axes, as a {kind or 'sample of any kind'}",
            "Of a volume, take slices. Grey images (N, H, W) need kind='image'.",
        )
    return found


def maps_by_name(maps: Any, count: int | None) -> dict[str, Any]:
    """Return maps by the names of their methods, one for each sample.

    Raises
    ------
    InvalidInputError
        If there are none, or not as many as samples.
    """
    named = dict(maps) if isinstance(maps, Mapping) else {"map": maps}
    if not named:
        raise InvalidInputError("the maps of at least one method", "none", "Pass {name: maps}.")
    lengths = {str(name): len(each) for name, each in named.items()}
    wanted = count if count is not None else next(iter(lengths.values()))
    if not wanted or set(lengths.values()) != {wanted}:
        raise InvalidInputError(f"{wanted or 'some'} maps of each", f"{lengths}", "One a sample.")
    return {str(name): each for name, each in named.items()}


def one_map(kind: str, map_: Any, sample: Any) -> np.ndarray:
    """Return a map as it is shown: (H, W) of images, and as long as the sample is elsewhere.

    Raises
    ------
    InvalidInputError
        If it does not fit its sample.
    """
    array = np.asarray(map_, np.float64)
    if kind == "image" and array.ndim == 3:
        strongest = np.abs(array).argmax(-1)[..., None]
        array = np.take_along_axis(array, strongest, -1)[..., 0]
    elif kind == "text" and array.ndim == 2:
        array = array.sum(-1)  # a value of each number of an embedding
    wanted = np.shape(sample)[:2] if kind == "image" else np.shape(sample)
    fits = array.ndim == 2 if kind == "image" else array.shape == wanted
    if not fits or not np.isfinite(array).all():
        raise InvalidInputError(
            f"finite maps of the shape {wanted} of their samples",
            f"the shape {array.shape}",
            "Pass the maps of these very samples.",
        )
    return array


def contents(
    kind: str, samples: Sequence[Any], maps: Mapping[str, Any], size: int
) -> list[dict[str, Any]]:
    """Return what a page draws of each sample."""
    found = []
    checked = [
        [one_map(kind, of_method[number], sample) for number, sample in enumerate(samples)]
        for of_method in maps.values()
    ]
    # All maps of a method have one scale of colours: signed if one of them is.
    signed = [any(map(is_signed, of_method)) for of_method in checked]
    for number, sample in enumerate(samples):
        each = [(of_method[number], sign) for of_method, sign in zip(checked, signed, strict=True)]
        if kind == "image":
            url, width, height = embedded_image(np.asarray(sample), size)
            told = [(*embedded_map(map_, size, sign), sign) for map_, sign in each]
            drawn = [{"u": u, "x": _short(most), "g": sign} for u, most, sign in told]
            found.append({"u": url, "w": width, "h": height, "m": drawn})
            continue
        drawn = [{"v": _list(map_), "g": sign} for map_, sign in each]
        form = [*map(str, sample)] if kind == "text" else _list(np.asarray(sample))
        found.append({"v": form, "m": drawn})
    return found


def _list(array: np.ndarray) -> Any:
    return [_list(part) for part in array] if array.ndim > 1 else [_short(v) for v in array]


def _short(value: Any) -> float:
    return float(f"{float(value):.5g}")


def values_of(
    metrics: Mapping[str, Any] | None, methods: Sequence[str], count: int
) -> dict[str, list[Any]]:
    """Return the values of each metric by method, (methods, N); ``None`` where there are none.

    Raises
    ------
    InvalidInputError
        If there is not one value for each sample.
    """
    found: dict[str, list[Any]] = {}
    for name, of_methods in (metrics or {}).items():
        rows = of_methods if isinstance(of_methods, Mapping) else {methods[0]: of_methods}
        found[str(name)] = []
        for method in methods:
            values = rows.get(method)
            if values is not None and np.shape(np.asarray(values)) != (count,):
                raise InvalidInputError(
                    f"a value of {name!r} for each of {count} samples",
                    f"the shape {np.shape(np.asarray(values))}",
                    "Pass one for each sample.",
                )
            found[str(name)].append(values)
    return found


def column(name: str, values: Any, count: int) -> list[Any]:
    """Return something that is told of each sample, or ``None`` for each.

    Raises
    ------
    InvalidInputError
        If there are not as many as samples.
    """
    if values is None:
        return [None] * count
    if len(values) != count:
        raise InvalidInputError(
            f"`{name}` of each of {count} samples", f"{len(values)}", "Pass one for each sample."
        )
    return [None if v is None else v.item() if hasattr(v, "item") else v for v in values]
