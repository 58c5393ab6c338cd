"""Pictures of samples and maps as bytes: small enough that thousands of them fit into a page."""

from __future__ import annotations

import base64
import io
from typing import Any, NamedTuple

import numpy as np

from xplique_sal._parameters import optional
from xplique_sal.errors import InvalidInputError

#: Colours at equal distances from the lowest value to the highest, as hexadecimal numbers. Those of
#: `plots`, which are told apart without seeing red and green as two colours.
SEQUENTIAL = (
    "000004 0b0724 210c4a 3d0965 57106e 71196e 8a226a a32c61 bc3754 "
    "d24644 e45a31 f1731d f98e09 fcac11 f9cb35 f2ea69 fcffa4"
)
DIVERGING = (
    "3b4cc0 4e68d8 6282ea 779af7 8db0fe a3c2fe b9d0f9 ccd9ed dddcdc "
    "ecd3c5 f5c4ac f7b093 f4987a eb7d62 dd5f4b ca3b37 b40426"
)
#: What lies below this share of the largest magnitude is rounding in float32.
_ROUNDING = 1e-5


class Levels(NamedTuple):
    """A map as bytes, and what they mean.

    Attributes
    ----------
    bytes
        (H, W): 255·v/`most` of a map without negative values, 128 + 127·v/`most` of one with.
    most
        The largest magnitude.
    is_signed
        Whether there are negative values.
    """

    bytes: np.ndarray
    most: float
    is_signed: bool


def is_signed(map_: np.ndarray) -> bool:
    """Tell whether a map has negative values, other than rounding."""
    return bool(np.min(map_) < -_ROUNDING * np.abs(map_).max())


def levels(map_: np.ndarray, signed: bool | None = None) -> Levels:
    """Return a map (H, W) as bytes: as a signed one if it is, or if `signed` says so."""
    values = np.asarray(map_, np.float64)
    most = float(np.abs(values).max()) or 1.0
    signed = is_signed(values) if signed is None else signed
    scaled = 128 + 127 * values / most if signed else 255 * values / most
    return Levels(np.rint(np.clip(scaled, 0, 255)).astype(np.uint8), most, signed)


def colours(names: str) -> np.ndarray:
    """Return 256 colours (256, 3) between those that are named."""
    known = np.array([[int(name[i : i + 2], 16) for i in (0, 2, 4)] for name in names.split()])
    at = np.linspace(0, len(known) - 1, 256)
    columns = [np.interp(at, np.arange(len(known)), column) for column in known.T]
    return np.rint(np.stack(columns, 1)).astype(np.uint8)


def coloured(map_: np.ndarray) -> np.ndarray:
    """Return a map (H, W) in colours, (H, W, 3): those of `plots`, zero in the middle if signed."""
    found = levels(map_)
    return colours(DIVERGING if found.is_signed else SEQUENTIAL)[found.bytes]


def overlaid(map_: np.ndarray, sample: np.ndarray, opacity: float = 0.8) -> np.ndarray:
    """Return an image with its map over it, (H, W, 3), the more opaque the larger a value is."""
    found = levels(map_)
    share = np.abs(np.asarray(map_, np.float64)) / found.most
    alpha = np.minimum(1, 2 * opacity * share)[..., None]
    image = shown(sample)
    image = np.repeat(image, 3, -1) if image.shape[-1] == 1 else image[..., :3]
    mixed = (1 - alpha) * image + alpha * coloured(map_)
    return np.rint(mixed).astype(np.uint8)


def shown(image: np.ndarray) -> np.ndarray:
    """Return an image as bytes (H, W, C), with one, three or four channels.

    Bytes stay what they are, numbers in [0, 1] are scaled to them, others by their own range.

    Raises
    ------
    InvalidInputError
        If it is no image.
    """
    array = np.asarray(image)
    array = array[..., None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[-1] not in (1, 3, 4) or not array.size:
        raise InvalidInputError(
            "images of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)",
            f"the shape {np.shape(image)}",
            "Choose the channels to show; of a volume, take slices.",
        )
    if array.dtype == np.uint8:
        return array
    values = array.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if low >= 0 and 1 < high <= 255 and array.dtype.kind in "iu":
        scaled = values
    elif low >= 0 and high <= 1:
        scaled = values * 255
    else:
        scaled = (values - low) / (high - low or 1) * 255
    return np.rint(scaled).astype(np.uint8)


def png(array: np.ndarray) -> bytes:
    """Return bytes (H, W) or (H, W, C) as a PNG file."""
    content = io.BytesIO()
    _image(array).save(content, "PNG")
    return content.getvalue()


def embedded_map(map_: np.ndarray, size: int, signed: bool) -> tuple[str, float]:
    """Return a map as a grey picture of its levels, and its largest magnitude."""
    found = levels(map_, signed)
    content = io.BytesIO()
    _within(_image(found.bytes), size).save(content, "PNG", compress_level=6)
    return _url("png", content), found.most


def embedded_image(image: np.ndarray, size: int) -> tuple[str, int, int]:
    """Return an image as a picture for a page, no side longer than `size`, and its two sides."""
    picture, content = _within(_image(shown(image)), size), io.BytesIO()
    features: Any = optional("PIL.features", "Reports need", "cli")
    # A few pixels are told exactly: a lossy picture would smear digits.
    is_small = max(picture.size) <= 64
    if is_small or not features.check("webp"):
        picture.save(content, "PNG", compress_level=6)
        return _url("png", content), *picture.size
    picture = picture.convert("RGBA" if picture.mode == "RGBA" else "RGB")
    picture.save(content, "WEBP", quality=82, method=2)
    return _url("webp", content), *picture.size


def _url(kind: str, content: io.BytesIO) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"


def _image(array: np.ndarray) -> Any:
    image_of: Any = optional("PIL.Image", "Reports need", "cli")
    return image_of.fromarray(np.ascontiguousarray(array[..., 0] if _is_grey(array) else array))


def _is_grey(array: np.ndarray) -> bool:
    return array.ndim == 3 and array.shape[-1] == 1


def _within(picture: Any, size: int) -> Any:
    """Return a picture of which no side is longer than `size`."""
    image_of: Any = optional("PIL.Image", "Reports need", "cli")
    longest = max(picture.size)
    if longest <= size:
        return picture
    sides = [max(1, round(side * size / longest)) for side in picture.size]
    return picture.resize(sides, image_of.Resampling.BOX)
