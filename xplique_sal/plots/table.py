"""Impacts of the features of tables."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from xplique_sal._parameters import integer, is_number
from xplique_sal.errors import InvalidInputError, InvalidParameterError
from xplique_sal.plots import canvas
from xplique_sal.plots.caption import caption
from xplique_sal.plots.reading import names_of, numbers
from xplique_sal.plots.scale import DIVERGING

#: Of impacts without a sign, and of those with one: the ends of the diverging scale.
UNSIGNED, NEGATIVE, POSITIVE = "#6a4c93", 0.0, 1.0


#: Points between a bar and its number, and between the numbers and the names.
_PADDING = 3


def plot_feature_impact(
    explanation: Any,
    features_name: Sequence[str] | None = None,
    features_value: Any = None,
    max_display: int | None = None,
    *,
    ax: Any = None,
    title: str | None = None,
    prediction: Any = None,
    score: Any = None,
    class_names: Any = None,
) -> Any:
    """Draw the impact of each feature of one sample as a bar, the largest at the top.

    Bars of negative impacts are blue and go to the left, positive ones are red and go to the
    right; where none is negative they have one other colour, since they may be magnitudes.

    Parameters
    ----------
    explanation
        The impacts (W,) of one sample.
    features_name
        The names of the W features; their indices if ``None``.
    features_value
        The W values of the sample, numbers or texts, which are written behind the names.
    max_display
        How many features to show, those of the largest magnitudes; ``None`` shows all.
    ax
        Matplotlib axes to draw on; ``None`` makes a figure.
    title
        The first line of the title.
    prediction, score, class_names
        As in `plot_attribution`.

    Returns
    -------
    axes
        The matplotlib axes that were drawn on.

    Raises
    ------
    InvalidInputError
        If the impacts are not (W,), or are NaN or infinite.
    InvalidParameterError
        If names or values are not W, or `max_display` is not positive.
    ImportError
        If matplotlib is not installed.

    Warns
    -----
    UserWarning
        If all impacts are zero.
    """
    impacts = numbers(explanation, "impacts")
    if impacts.ndim != 1:
        raise InvalidInputError(
            "the impacts of one sample, (W,)",
            f"the shape {impacts.shape}",
            "Take one sample, `maps[0]`, or draw the mean of all by `plot_mean_feature_impact`.",
        )
    names = names_of(features_name, len(impacts), "features_name")
    if features_value is not None:
        values = np.asarray(features_value, dtype=object)
        if values.shape != impacts.shape:
            raise InvalidParameterError(
                f"`features_value` with a value for each of {len(impacts)} features",
                f"the shape {values.shape}",
                "Pass the row that was explained, without a batch axis.",
            )
        names = [f"{name} = {_text(value)}" for name, value in zip(names, values, strict=True)]
    text = caption(title, prediction, score, class_names)
    return _draw(impacts, names, max_display, ax, text, "impact on the output")


def plot_mean_feature_impact(
    explanations: Any,
    features_name: Sequence[str] | None = None,
    max_display: int | None = None,
    *,
    ax: Any = None,
    title: str | None = None,
    absolute_value: bool = True,
) -> Any:
    """Draw the mean impact of each feature over samples as a bar, the largest at the top.

    The mean is that of |impact|: signed impacts that differ between samples would cancel.

    Parameters
    ----------
    explanations
        The impacts (N, W).
    features_name, max_display, ax
        As in `plot_feature_impact`.
    title
        The title.
    absolute_value
        ``False`` takes the mean of the signed impacts.

    Returns
    -------
    axes
        The matplotlib axes that were drawn on.

    Raises
    ------
    InvalidInputError, InvalidParameterError, ImportError
        As in `plot_feature_impact`.

    Warns
    -----
    UserWarning
        If all means are zero.
    """
    impacts = numbers(explanations, "impacts")
    if impacts.ndim != 2:
        raise InvalidInputError(
            "the impacts of several samples, (N, W)",
            f"the shape {impacts.shape}",
            "Draw those of one sample by `plot_feature_impact`.",
        )
    names = names_of(features_name, impacts.shape[1], "features_name")
    means = (np.abs(impacts) if absolute_value else impacts).mean(axis=0)
    what = "|impact on the output|" if absolute_value else "impact on the output"
    samples = f"{len(impacts)} sample" + ("s" if len(impacts) > 1 else "")
    return _draw(means, names, max_display, ax, title or "", f"mean {what} of {samples}")


def _draw(
    impacts: np.ndarray,
    names: Sequence[str],
    max_display: int | None,
    ax: Any,
    title: str,
    label: str,
) -> Any:
    count = len(impacts)
    if max_display is not None:
        count = min(count, integer("max_display", max_display))
    if not impacts.any():
        warnings.warn(
            "All impacts are zero: the output does not depend on any feature here. A gradient is "
            "zero everywhere where a softmax is saturated (explain with `logits=True`).",
            UserWarning,
            stacklevel=3,
        )
    order = np.argsort(-np.abs(impacts), kind="stable")[:count]
    shown = impacts[order]
    (axes,) = canvas.panels(1, ax, 1, 6.0, 0.28 * count + 1.0)
    signed = bool((impacts < 0).any())
    ends = canvas.color_map(DIVERGING)
    colors = [
        ends(NEGATIVE if impact < 0 else POSITIVE) if signed else UNSIGNED for impact in shown
    ]
    bars = axes.barh(np.arange(count), shown, color=colors, height=0.75)
    digits = [f"{impact:#.2g}".rstrip(".").replace("-", "−") for impact in shown]
    axes.bar_label(bars, digits, padding=_PADDING, fontsize=canvas.LABEL_SIZE)

    axes.set_yticks(np.arange(count), [names[index] for index in order])
    axes.set_ylim(count - 0.4, -0.6)
    largest = np.abs(shown).max() or 1.0
    axes.set_xlim(-1.2 * largest if (shown < 0).any() else 0, 1.2 * largest)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.spines[["left", "right", "top"]].set_visible(False)
    # The number at a bar to the left may reach over the axes' edge: names begin beyond it.
    left = [canvas.width_of(text, canvas.LABEL_SIZE) for text in digits if text.startswith("−")]
    axes.tick_params(axis="y", length=0, pad=max(left, default=0) + _PADDING)
    axes.tick_params(labelsize=canvas.LABEL_SIZE)
    if count < len(impacts):
        label += f" (the {count} largest of {len(impacts)} features)"
    axes.set_xlabel(label, fontsize=canvas.LABEL_SIZE)
    canvas.draw_title(axes, title)
    return axes


def _text(value: Any) -> str:
    return f"{value:.4g}".replace("-", "−") if is_number(value) else str(value)
