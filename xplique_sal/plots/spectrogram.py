"""Maps of sounds: over a spectrogram, in seconds and hertz."""

from __future__ import annotations

from typing import Any

import numpy as np

from xplique_sal._parameters import is_number, number, one_of
from xplique_sal.errors import InvalidInputError, InvalidParameterError
from xplique_sal.plots import canvas
from xplique_sal.plots.caption import caption
from xplique_sal.plots.reading import numbers
from xplique_sal.plots.scale import Choice, Scale, is_signed, scale_of, warn_of_constants

DISPLAYS = ("overlay", "below")
#: Decibels of a spectrogram's values: what a factor of ten is.
UNITS = {"magnitude": 20.0, "power": 10.0, "decibel": None}
#: What is so many decibels below the loudest is as dark as silence.
_RANGE = 80.0


def plot_spectrogram(
    explanation: Any,
    spectrogram: Any = None,
    *,
    seconds: Any,
    hertz: Any,
    unit: str = "magnitude",
    hertz_scale: str = "linear",
    display: str = "overlay",
    axes: Any = None,
    alpha: float = 0.9,
    width: float = 6.5,
    height: float = 2.6,
    colorbar: bool | str = True,
    title: str | None = None,
    prediction: Any = None,
    score: Any = None,
    class_names: Any = None,
    cmap: Any = None,
    clip_percentile: float | None = 0.1,
    absolute_value: bool = False,
    normalize_value: bool = True,
    vmin: float | None = None,
    vmax: float | None = None,
) -> np.ndarray:
    """Draw a map of times and frequencies over its spectrogram.

    The spectrogram is grey, louder is lighter, and the map over it is the more opaque the larger it
    is in magnitude: where it says nothing, the sound is seen. The scale is that of
    `plot_attribution`.

    Parameters
    ----------
    explanation
        A map (T, F) or (T, F, 1) of T frames and F bands, as `tf.signal.stft` orders them:
        transpose what is (F, T).
    spectrogram
        What was explained, of that shape. Without it the map is drawn alone.
    seconds
        The time of each frame, (T,), increasing; or the time from one to the next, as
        ``hop_length / sample_rate``, the first being at 0.
    hertz
        The frequency of each band, (F,), increasing, with any distances: those of mel bands, say;
        or the distance from one to the next, as ``sample_rate / fft_length``, the first being 0.
    unit
        What the values of the spectrogram are: ``"magnitude"`` and ``"power"`` are drawn in
        decibels, down to 80 below the loudest; ``"decibel"``, and logarithms in general, as they
        are.
    hertz_scale
        ``"linear"`` or ``"log"``, of the vertical axis; the second leaves out a band of 0 hertz.
    display
        ``"overlay"``, or ``"below"``: the spectrogram, and the map in axes below it.
    axes
        Matplotlib axes, one, or two for ``"below"``; ``None`` makes a figure.
    alpha
        How opaque the map is where it is largest, in [0, 1].
    width, height
        Of a new figure, and of each of its axes, in inches.
    colorbar
        Draw the scale of the map; a text becomes its label.
    title
        The first line of the title.
    prediction, score, class_names
        As in `plot_attribution`.
    cmap, clip_percentile, absolute_value, normalize_value, vmin, vmax
        As in `plot_attribution`.

    Returns
    -------
    axes
        The matplotlib axes that were drawn on, in an array: one, or two for ``"below"``.

    Raises
    ------
    InvalidInputError
        If shapes do not fit, or values are NaN or infinite.
    InvalidParameterError
        If a parameter is out of range.
    ImportError
        If matplotlib is not installed.

    Warns
    -----
    UserWarning
        If the map has one value everywhere.
    """
    map_ = _of_frames(explanation, "a map of a sound")
    map_ = np.abs(map_) if absolute_value else map_
    sound = None if spectrogram is None else _loudness(spectrogram, map_.shape, unit)
    one_of("hertz_scale", hertz_scale, ("linear", "log"))
    one_of("display", display, DISPLAYS)
    number("alpha", alpha, "[]", high=1)
    is_log = hertz_scale == "log"
    times = _edges("seconds", seconds, map_.shape[0], False)
    start = 1 if is_log and _first(hertz) == 0 else 0
    bands = _edges("hertz", hertz, map_.shape[1], is_log)
    choice = Choice(cmap, clip_percentile, normalize_value, vmin, vmax)
    choice.check()
    scale = scale_of(map_, is_signed(map_), choice)
    canvas.color_map(scale.cmap)
    text = caption(title, prediction, score, class_names)
    warn_of_constants([map_], "a map", stacklevel=2)

    below = display == "below" and sound is not None
    height = number("height", height, "()", remedy=canvas.IN_INCHES)
    width = number("width", width, "()", remedy=canvas.IN_INCHES)
    lines = 0.2 * (text.count("\n") + 1) if text else 0.0
    panels = canvas.rows([height] * (1 + below), axes, width, lines + 0.2)
    for panel in panels:
        if sound is not None and (panel is panels[0]):
            low, high = float(sound.min()), float(sound.max())
            loud = Scale(low, high if high > low else low + 1, "gray", False)
            canvas.draw_mesh(panel, times, bands, sound[:, start:].T, loud)
        if panel is panels[-1]:
            opacity = None if below or sound is None else alpha * scale.shares(map_)[:, start:].T
            canvas.draw_mesh(panel, times, bands, map_[:, start:].T, scale, opacity)
        canvas.name_axes(panel, "seconds" if panel is panels[-1] else "", "hertz", hertz_scale)
    canvas.draw_title(panels[0], text)
    canvas.draw_color_bars([panels[-1]], [map_], [scale], False, colorbar)
    return canvas.as_array(panels)


def _of_frames(values: Any, what: str) -> np.ndarray:
    array = numbers(values, what)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 2 or min(array.shape) < 2:
        raise InvalidInputError(
            f"{what} of shape (T, F) or (T, F, 1), at least two frames and bands",
            f"the shape {np.shape(values)}",
            "Take one sample, `maps[0]`; T are the frames and F the bands.",
        )
    return array


def _loudness(spectrogram: Any, shape: tuple[int, ...], unit: str) -> np.ndarray:
    one_of("unit", unit, UNITS, "Logarithms of any base are `decibel`.")
    array = _of_frames(spectrogram, "a spectrogram")
    if array.shape != shape:
        raise InvalidInputError(
            f"a spectrogram of the shape of its map, {shape}",
            f"the shape {array.shape}",
            "Pass the spectrogram that was explained.",
        )
    tenfold = UNITS[unit]
    if tenfold is None:
        return array
    if array.min() < 0 or array.max() == 0:
        raise InvalidInputError(
            f"a spectrogram of the unit {unit!r}, none of it negative and not all of it zero",
            f"values from {array.min():.3g} to {array.max():.3g}",
            'Pass `unit="decibel"` for logarithms.',
        )
    return tenfold * np.log10(np.maximum(array / array.max(), 10 ** (-_RANGE / tenfold)))


def _first(given: Any) -> float:
    return 0.0 if is_number(given) else float(np.ravel(np.asarray(given, np.float64))[0])


def _edges(name: str, given: Any, count: int, is_log: bool) -> np.ndarray:
    """Return the ends of frames or bands, half-way between their middles; without a band of 0."""
    if is_number(given):
        step = number(name, given, "()", remedy="It is the distance of two frames or bands.")
        middles = step * np.arange(count)
    else:
        middles = numbers(given, f"`{name}`")
    if middles.shape != (count,) or (np.diff(middles) <= 0).any():
        raise InvalidParameterError(
            f"`{name}` as a distance, or {count} increasing values",
            f"the shape {middles.shape}" if middles.shape != (count,) else "values that fall",
            "One for each frame or band of the map.",
        )
    if is_log:
        middles = middles[1:] if middles[0] == 0 else middles
        if middles[0] < 0 or len(middles) < 2:
            raise InvalidParameterError(
                f"at least two positive `{name}` for a logarithmic scale",
                f"values from {middles[0]:g}",
                'Pass `hertz_scale="linear"`.',
            )
        return np.exp(_between(np.log(middles)))
    return _between(middles)


def _between(middles: np.ndarray) -> np.ndarray:
    inner = (middles[1:] + middles[:-1]) / 2
    first, last = 2 * middles[0] - inner[0], 2 * middles[-1] - inner[-1]
    return np.concatenate([[first], inner, [last]])
