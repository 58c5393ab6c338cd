"""Maps and samples as pictures: arrays of bytes, with nothing but NumPy.

One lookup serves maps of both kinds: zero is black, positive values go over orange and negative
ones over blue to white. Equal steps of a value are equal steps of lightness (CIE L* = 100·|v|,
to within 0.3), so that nothing looks like an edge that is none.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xplique_sal.errors import InvalidInputError, InvalidParameterError

#: sRGB from zero to the largest value, in 40 steps of 2.5 of lightness.
_WARM = (
    "000000 180400 270600 310800 3b0900 450a00 4e0d00 580f00 630f00 6d1100 771300 "
    "7f1b00 862200 8d2a00 943100 9a3900 a14000 a84700 af4e00 b65500 bc5d00 bf6601 "
    "c36f01 c67800 cb8001 ce8902 d19202 d59a02 d8a302 dcab03 dfb403 e3bc1e e6c439 "
    "e9cc54 ecd46d f0db87 f2e39f f6eab8 f9f1d0 fcf8e8 ffffff"
)
#: The same to the largest negative value.
_COOL = (
    "000000 000a16 001127 001731 001b3c 002046 002551 002a5b 002f66 003472 00397d "
    "003f85 00468c 004c94 01529d 0159a5 025fae 0266b6 036cbf 0373c7 037ad0 0382d3 "
    "0489d8 0491db 0499df 04a1e3 05a9e6 05b1ea 05b9ee 05c1f1 06c9f6 27d0f7 46d7f8 "
    "62ddf9 7ce3fa 95e8fb acedfc c1f2fc d7f6fe ebfbfe ffffff"
)

#: Pixels of white between a sample and its map, and between the samples of a sheet.
GAP = 4
#: How many samples are side by side in a sheet.
COLUMNS = 8
#: Small maps are enlarged until their longer side has this many pixels.
_SIDE = 96
_WHITE = 255


_COLOURS = np.array([list(bytes.fromhex(c)) for c in (*_COOL.split()[:0:-1], *_WARM.split())])
_VALUES = np.linspace(-1, 1, len(_COLOURS))


def colours(maps: np.ndarray, vmax: float | None = None) -> np.ndarray:
    """Return maps (N, H, W) in colours, (N, H, W, 3) uint8.

    Parameters
    ----------
    maps
        Any finite values.
    vmax
        The size that is white; larger values are cut. ``None`` is the largest size in each map.
        A map of zeros is black.
    """
    sizes = np.abs(maps).max(axis=(1, 2), keepdims=True) if vmax is None else np.array(vmax)
    shares = np.clip(maps / np.where(sizes > 0, sizes, 1), -1, 1)
    channels = [np.interp(shares, _VALUES, channel) for channel in _COLOURS.T]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def sheet_of_maps(maps: Any, channel_axis: int) -> np.ndarray:
    """Return maps of any kind as (N, H, W).

    Images lose their one channel, series are time by features, the map of a row of a table is one
    row.

    Raises
    ------
    InvalidParameterError
        If they are of volumes, or have several channels.
    InvalidInputError
        If they are not finite.
    """
    maps = np.asarray(maps, np.float64)
    if maps.ndim == 4 and maps.shape[channel_axis] == 1:
        maps = np.squeeze(maps, channel_axis)
    if maps.ndim == 2:
        maps = maps[:, np.newaxis]
    if maps.ndim != 3:
        raise InvalidParameterError(
            "an explainer whose maps can be drawn: (N, H, W, 1) of images, (N, T, W) of time "
            "series or (N, W) of tables",
            f"one with maps of shape {maps.shape}",
            "Leave `reducer` to the explainer, which takes one value for all channels; maps of "
            "volumes have no picture.",
        )
    if not np.isfinite(maps).all():
        raise InvalidInputError(
            "finite maps", "NaN or infinite values", "Check the explainer that makes them."
        )
    return maps


def sheet_of_samples(samples: Any, shape: tuple[int, ...], channel_axis: int) -> np.ndarray | None:
    """Return samples as they are shown, (N, H, W, 3) uint8, or ``None`` if they have no picture.

    The values of each sample are spread from black to white. Of three channels each is a colour;
    of any other number the mean is shown in grey.

    Parameters
    ----------
    samples
        Images, series or rows, as the model takes them.
    shape
        (N, H, W) of the maps beside which they are shown; samples of other sizes are not.
    channel_axis
        Where the channels of images are.
    """
    samples = np.asarray(samples)
    if samples.dtype.kind not in "fiub":
        return None
    samples = samples.astype(np.float64)
    if samples.ndim == 2:
        samples = samples[:, np.newaxis]
    if samples.ndim == 3:
        samples = samples[..., np.newaxis]
    elif samples.ndim == 4:
        samples = np.moveaxis(samples, channel_axis, -1)
    if samples.shape[:-1] != tuple(shape):
        return None
    if samples.shape[-1] != 3:
        samples = samples.mean(axis=-1, keepdims=True).repeat(3, axis=-1)
    axes = (1, 2, 3)
    lowest, highest = samples.min(axes, keepdims=True), samples.max(axes, keepdims=True)
    spread = np.where(highest > lowest, highest - lowest, 1)
    return ((samples - lowest) / spread * 255).round().astype(np.uint8)


def enlarged(pictures: np.ndarray, zoom: int | None) -> np.ndarray:
    """Return pictures (N, H, W, 3) of which every pixel is a square of `zoom` by `zoom`.

    ``None`` is the smallest zoom that makes the longer side 96 pixels or more.
    """
    zoom = zoom or -(-_SIDE // max(pictures.shape[1:3]))
    return pictures.repeat(zoom, axis=1).repeat(zoom, axis=2)


def beneath(upper: np.ndarray | None, lower: np.ndarray) -> np.ndarray:
    """Return pictures one below the other."""
    if upper is None:
        return lower
    gap = np.full((len(lower), GAP, *lower.shape[2:]), _WHITE, np.uint8)
    return np.concatenate([upper, gap, lower], axis=1)


def contact_sheet(pictures: np.ndarray) -> np.ndarray:
    """Return pictures (N, H, W, 3) as one, in rows of eight from left to right."""
    count, height, width = pictures.shape[:3]
    columns = min(count, COLUMNS)
    rows = -(-count // columns)
    shape = (rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3)
    sheet = np.full(shape, _WHITE, np.uint8)
    for index, picture in enumerate(pictures):
        top, left = (index // columns) * (height + GAP), (index % columns) * (width + GAP)
        sheet[top : top + height, left : left + width] = picture
    return sheet
