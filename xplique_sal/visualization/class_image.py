"""The image that a model finds most like a class, by gradient ascent on its pixels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from xplique_sal._data.arrange import arrange, with_batch_axis
from xplique_sal._data.structures import Operator
from xplique_sal._engine.request import Explained
from xplique_sal._models.traced import TracedModel
from xplique_sal._models.view import ModelView
from xplique_sal.attributions.base import WhiteBoxExplainer
from xplique_sal.errors import (
    InvalidInputError,
    InvalidModelError,
    InvalidParameterError,
    InvalidTargetError,
)
from xplique_sal.losses import Loss, WeightedSum
from xplique_sal.visualization.ascent import (
    Adam,
    Best,
    KerasAscent,
    check_settings,
    clipped,
    finite,
    moved,
    random_shifts,
)


class Callback(Protocol):
    """What sees the progress of an ascent."""

    def __call__(self, step: int, image: np.ndarray, score: Any, regulariser: Any, /) -> Any:
        """Take the number of a step, its image, S_c(I) and what is subtracted from it."""


def visualize_class(
    model: Any,
    class_idx: int | Sequence[int],
    output_layer: int | str | None = None,
    *,
    image: Any = None,
    l2: float = 0.01,
    regularizers: Sequence[tuple[Loss, float]] = (),
    steps: int = 200,
    learning_rate: float = 0.05,
    optimizer: Any = None,
    value_range: tuple[float, float] | None = None,
    jitter: int = 0,
    seed: int | None = None,
    output: int | str | None = None,
    logits: bool | None = None,
    batch_size: int | None = 64,
    callback: Callback | None = None,
) -> np.ndarray:
    """Return the image I that a model finds most like a class.

    It maximises the score of the class minus what regularises the image,

        S_c(I) − λ‖I‖² − Σ weight·loss(I),

    by gradient ascent on the pixels; the model's weights stay as they are. Of the images on the
    way it returns the best, so that this objective is never below that of the start. From a black
    start, where no regulariser is negative, the score S_c is not either.

    Parameters
    ----------
    model
        A model of one input, of a kind that `Saliency` takes. It is never changed.
    class_idx
        A class, or several: each gets an image of its own, which does not depend on the others.
        Of a convolutional `output_layer`, a filter, whose mean over the positions is maximised.
    output_layer
        The layer whose output is S; ``None`` is the model's output.
    image
        Where to start: one image for all classes, or one for each, (K, ...); ``None`` is a black
        image (zeros), brought into `value_range`.
    l2
        λ. The larger, the darker the image.
    regularizers
        Pairs (loss, weight) of `losses.LPNorm`, `losses.TotalVariation`, or a `losses.Loss` of
        your own.
    steps
        How many steps are made.
    learning_rate
        The first step of the built-in optimiser (Adam, whose steps shrink to zero along half a
        cosine), in units of the image.
    optimizer
        An optimiser of either Keras to use instead, made anew from its configuration for each call.
    value_range
        (low, high), to which the image is clipped after each step.
    jitter
        The most pixels by which the image is moved, cyclically and at random along each axis, while
        the gradient of a step is taken. It evens out patterns that depend on the pixel grid. The
        start and the last image are judged unmoved, and the better one is returned.
    seed
        Of the jitter; the same seed gives the same image.
    output
        Of a model with several outputs, the one whose scores are meant.
    logits
        Whether S is taken before a final softmax or sigmoid; ``None``: where there is one. A
        probability can grow by lowering the other classes, and saturates.
    batch_size
        The most images that the model is given at once.
    callback
        Called as ``callback(step, image, score, regulariser)`` with step 0 for the start and
        `steps` for the last image; of several classes, with (K, ...), (K,) and (K,).

    Returns
    -------
    images
        float32, of the shape of the model's input without the batch axis; of several classes,
        (K, ...).

    Raises
    ------
    InvalidTargetError
        If there is no such class.
    InvalidParameterError
        If a number is out of range, or the steps diverge.
    InvalidInputError
        If `image` does not fit, or is needed because the model does not tell its input's shape.
    InvalidModelError
        If the model has several inputs.

    Warns
    -----
    UserWarning
        If the gradient at the start is zero, so that no step can be made.

    References
    ----------
    Simonyan, Vedaldi and Zisserman, "Deep Inside Convolutional Networks: Visualising Image
    Classification Models and Saliency Maps", 2013, section 2.
    """
    classes = _checked_classes(class_idx)
    check_settings(l2, steps, learning_rate, value_range, jitter)
    view = ModelView(model, output_layer=output_layer, output=output)
    start = clipped(_start(view, image, classes.size), value_range)
    if logits is None:
        logits = _ends_in_probabilities(view, start)
    score = _Gradient(model, output_layer, batch_size, output=output, logits=logits)
    losses = list(regularizers)
    others = _Gradient(model, None, batch_size, WeightedSum(losses)) if losses else None
    objective = _Objective(score, others, l2, classes)
    ascent = Adam(learning_rate, steps) if optimizer is None else KerasAscent(optimizer, start)
    moves = random_shifts(start, classes, steps, _jitter_axes(view, start, jitter), jitter, seed)

    images, best = start, Best(start)
    for step, shifts in enumerate(moves):
        values = objective(moved(images, shifts))
        gradient = moved(values.gradient, [-shift for shift in shifts])
        if step == 0:
            _warn_of_zeros(gradient, classes)
        if step == 0 or step == steps or not jitter:
            best.see(images, values.score - values.regulariser)
        if callback is not None:
            seen = (images.copy(), values.score, values.regulariser)
            callback(step, *(seen if np.ndim(class_idx) else (part[0] for part in seen)))
        if step < steps:
            images = clipped(finite(ascent(images, gradient)), value_range)
    return best.images if np.ndim(class_idx) else best.images[0]


class _Gradient(WhiteBoxExplainer):
    """The gradient with its sign and all channels; what is zero or saturated says nothing here."""

    def __init__(
        self,
        model: Any,
        output_layer: int | str | None,
        batch_size: int | str | None,
        operator: Operator | None = None,
        **options: Any,
    ) -> None:
        super().__init__(model, output_layer, batch_size, operator, None, **options)

    def _warn(self, explained: Explained) -> None:
        pass


class _Values(NamedTuple):
    score: np.ndarray
    regulariser: np.ndarray
    gradient: np.ndarray


class _Objective:
    """S_c(I) − λ‖I‖² − Σ weight·loss(I) for each image, with the gradient."""

    def __init__(
        self,
        score: WhiteBoxExplainer,
        losses: WhiteBoxExplainer | None,
        l2: float,
        classes: np.ndarray,
    ) -> None:
        self._score = score
        self._losses = losses
        self._l2 = np.float32(l2)
        self._classes = classes

    def __call__(self, images: np.ndarray) -> _Values:
        gradient, score = map(np.asarray, self._score.explain_with_scores(images, self._classes))
        pixels = tuple(range(1, images.ndim))
        regulariser = self._l2 * np.sum(np.square(images, dtype=np.float64), axis=pixels)
        gradient = gradient - 2 * self._l2 * images
        if self._losses is not None:
            slope, loss = map(np.asarray, self._losses.explain_with_scores(images))
            regulariser, gradient = regulariser + loss, gradient - slope
        return _Values(score, regulariser, gradient)


def _start(view: ModelView, image: Any, count: int) -> np.ndarray:
    """Return the first image of each class, (K, ...)."""
    specs = view.inputs.specs if view.inputs else ()
    if len(specs) > 1:
        raise InvalidModelError(
            "a model of one input",
            f"one of {len(specs)} inputs",
            "Wrap it in a model that keeps the other inputs constant.",
        )
    known = specs[0].shape if specs else None
    shape = None if known is None else known[1:]
    if image is None:
        if shape is None or None in shape:
            raise InvalidInputError(
                "`image=`, because the model does not tell the shape of its input",
                "None",
                "Pass a start image, such as np.zeros((224, 224, 3)).",
            )
        return np.zeros((count, *(size or 0 for size in shape)), np.float32)
    start = with_batch_axis(np.asarray(image, np.float32), None if shape is None else len(shape))
    fits = shape is None or all(
        wanted in (None, size) for wanted, size in zip(shape, start.shape[1:], strict=True)
    )
    if not fits or len(start) not in (1, count):
        raise InvalidInputError(
            f"`image` of the model's shape {shape}, one for all classes or {count}",
            f"the shape {np.shape(image)}",
            "Resize it, or leave it out to start from black.",
        )
    return np.repeat(start, count // len(start), axis=0)


def _ends_in_probabilities(view: ModelView, images: np.ndarray) -> bool:
    """Tell whether a softmax, log-softmax or sigmoid makes what is explained."""
    flat, for_model, _ = arrange(images[:1], view.inputs)
    if not view.is_built:
        view.build(flat, for_model)

    def forward(x: tf.Tensor) -> tuple[tf.Tensor, bool]:
        f = TracedModel(view)
        return f(x), f.activation is not None

    batch = (view.inputs.fixed_batch if view.inputs else None) or 1
    specs = [tf.TensorSpec(images.shape[1:], tf.float32)]
    program, _ = view.compiled(("final activation",), forward, specs, needed=batch)
    return bool(program.facts)


def _jitter_axes(view: ModelView, start: np.ndarray, jitter: int) -> list[int]:
    """Return the axes of one image along which it can be moved."""
    axes = [axis - 1 for axis in range(1, start.ndim) if axis != view.channel_axis % start.ndim]
    if jitter and not axes:
        raise InvalidParameterError(
            "`jitter=0` for tables (N, W), whose columns have no neighbours",
            repr(jitter),
            "Leave it out.",
        )
    return axes


def _warn_of_zeros(gradient: np.ndarray, classes: np.ndarray) -> None:
    stuck = ~gradient.reshape(len(gradient), -1).any(axis=1)
    if stuck.any():
        warnings.warn(
            f"The gradient at the start is zero for class {classes[stuck][0]}, so that the image "
            "cannot leave it: units that are off, or a saturated output. Start elsewhere, with "
            "`image=` a little noise.",
            UserWarning,
            stacklevel=3,
        )


def _checked_classes(class_idx: Any) -> np.ndarray:
    classes = np.atleast_1d(np.asarray(class_idx))
    if classes.ndim != 1 or not classes.size or classes.dtype.kind not in "iu" or min(classes) < 0:
        raise InvalidTargetError(
            "`class_idx` as a class of at least 0, or a list of them",
            repr(class_idx),
            "Pass integers: classes are counted from 0.",
        )
    return classes
