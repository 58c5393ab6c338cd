"""The scores g(f, x, y) that can be explained, one function a task.

An operator takes f, the model as a function; x, a batch of inputs; and y, their targets; and
returns one score per sample. A function becomes a named operator by `register`.
"""

from __future__ import annotations

import difflib
import enum
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from xplique_sal._data.outputs import (
    TargetCheck,
    check_boxes,
    check_classes,
    check_zone,
    chosen_outputs_of,
    weighted_score,
)
from xplique_sal._data.structures import Operator, Structure
from xplique_sal._tracing.held import weakly_referable
from xplique_sal.errors import InvalidOperatorError


class ScoreFunction(NamedTuple):
    """An operator with the check of its targets, if it has one."""

    function: Operator
    check_targets: TargetCheck | None
    #: Whether it tells the `Labels` of a dataset from targets; others get y as it was given.
    reads_labels: bool = False


_registry: dict[str, ScoreFunction] = {}


def register(name: str, check_targets: TargetCheck | None = None) -> Callable[[Operator], Operator]:
    """Make a function known as an operator of that name.

    Parameters
    ----------
    name
        What ``operator=`` takes; a name that is known already is an error.
    check_targets
        Called as ``check(targets, first, shape, channel_axis)`` on the host before anything is
        computed, with the shape of f(x); raises `InvalidTargetError`.

    Raises
    ------
    InvalidOperatorError
        If the name is taken, or the function is no operator.
    """

    def add(function: Operator) -> Operator:
        if name in _registry:
            raise InvalidOperatorError(
                "a name that no operator has", repr(name), "Choose another name."
            )
        _check_callable(function)
        _registry[name] = ScoreFunction(function, check_targets)
        return function

    return add


def resolve(operator: Operator | str | None) -> ScoreFunction:
    """Return the operator that a name, a `Tasks` member, a callable or ``None`` stands for.

    Raises
    ------
    InvalidOperatorError
        If there is none of that name, or the callable takes fewer than three arguments.
    """
    if operator is None:
        return _registry["classification"]
    if isinstance(operator, str):
        name = str(operator.value) if isinstance(operator, enum.Enum) else operator
        if name in _registry:
            return _registry[name]
        near = difflib.get_close_matches(name.lower(), _registry, n=3) or list(_registry)
        raise InvalidOperatorError(
            "the name of an operator", repr(name), f"Choose one of {', '.join(map(repr, near))}."
        )
    _check_callable(operator)
    for known in _registry.values():
        if known.function is operator:
            return known
    return ScoreFunction(weakly_referable(operator), None)


def _check_callable(operator: Any) -> None:
    if not callable(operator):
        raise InvalidOperatorError(
            "an operator g(f, x, y): a callable, a name or a member of `Tasks`",
            f"{operator!r} of type {type(operator).__name__}",
            "Pass a function of the model, the inputs and the targets.",
        )
    try:
        signature = inspect.signature(operator)
    except (TypeError, ValueError):
        return  # some built-in callables do not tell
    try:
        signature.bind(None, None, None)
    except TypeError:
        raise InvalidOperatorError(
            "an operator that takes three arguments: the model, the inputs and the targets",
            f"one with the signature {signature}",
            "Write it as g(f, x, y), also if it does not use all of them.",
        ) from None


def _own(name: str, check_targets: TargetCheck) -> Callable[[Operator], Operator]:
    """Register an operator of the package, which branches on nothing that a graph decides.

    Autograph would rewrite it and all that it calls, which takes longer than tracing it. What f
    calls is rewritten as ever.
    """

    def add(function: Operator) -> Operator:
        function = tf.autograph.experimental.do_not_convert(function)
        register(name, check_targets)(function)
        reads_labels = check_targets in (check_classes, check_zone)
        _registry[name] = ScoreFunction(function, check_targets, reads_labels)
        return function

    return add


@_own("classification", check_classes)
def classification(f: Any, x: Structure, y: tf.Tensor | None) -> tf.Tensor:
    """Return Σ f(x)·y: the score of a class, or a weighted sum of several.

    Parameters
    ----------
    f
        The model: a batch of inputs to (N, L).
    x
        The inputs.
    y
        Weights (N, L), class indices (N,) or (N, 1), or ``None`` for the largest output. Where f(x)
        has positions, (N, ..., L), they are averaged, unless y has positions too: weights of that
        shape, or the index of an output at each position.

    Returns
    -------
    scores
        (N,).
    """
    return weighted_score(f(x), y, getattr(f, "channel_axis", -1))


@_own("regression", check_classes)
def regression(f: Any, x: Structure, y: tf.Tensor | None) -> tf.Tensor:
    """Return Σ f(x)·y: the predicted value that y chooses, in the forms of `classification`."""
    return classification(f, x, y)


@_own("filter activation", check_classes)
def filter_activation(f: Any, x: Structure, y: tf.Tensor | None) -> tf.Tensor:
    """Return the mean activation over all positions of the filter that y chooses.

    The same as `classification` where f(x) is a convolutional layer's output.
    """
    return classification(f, x, y)


@_own("semantic segmentation", check_zone)
def semantic_segmentation(f: Any, x: Structure, y: tf.Tensor) -> tf.Tensor:
    """Return the mean score of a class over a zone: Σ f(x)·y over the number of non-zero y.

    Parameters
    ----------
    f
        The model: a batch of inputs to class scores at each position, (N, ..., L).
    x
        The inputs.
    y
        Of the shape of f(x): non-zero at the positions of the zone, in the channel of the class;
        or a label mask, the index of the class at each position.

    Returns
    -------
    scores
        (N,).
    """
    scores = f(x)
    y = tf.cast(chosen_outputs_of(y, scores, getattr(f, "channel_axis", -1)), scores.dtype)
    axes = list(range(1, scores.shape.rank))
    return tf.math.divide_no_nan(
        tf.reduce_sum(scores * y, axes),
        tf.cast(tf.math.count_nonzero(y, axes), scores.dtype),
    )


def detection_score(
    f: Any, x: Structure, y: tf.Tensor, *, objectness: bool = True, classes: bool = True
) -> tf.Tensor:
    """Return how well a detector's boxes match the reference boxes.

    For each reference box t, the best predicted box p by
    IoU(t, p) · objectness(p) · cosine(classes(t), classes(p)); the mean over the reference boxes.

    Parameters
    ----------
    f
        The detector: a batch of images to boxes (N, B, 4 + 1 + classes), each x1, y1, x2, y2,
        objectness, class scores; before non-maximum suppression.
    x
        The images.
    y
        Reference boxes (N, 4 + 1 + classes) or (N, boxes, 4 + 1 + classes). A row of zeros is
        padding, for samples with fewer boxes than others.
    objectness, classes
        Whether that factor counts.

    Returns
    -------
    scores
        (N,), between 0 and 1 where the detector's values are.

    References
    ----------
    Petsiuk et al., "Black-box Explanation of Object Detectors via Saliency Maps", CVPR 2021,
    section 3.2.
    """
    predicted = f(x)
    y = tf.cast(y, predicted.dtype)
    reference = y[:, tf.newaxis] if y.shape.rank == 2 else y
    match = _overlap(reference[:, :, tf.newaxis, :4], predicted[:, tf.newaxis, :, :4])
    if objectness:
        match *= predicted[:, tf.newaxis, :, 4]
    if classes:
        match *= _cosine(reference[:, :, tf.newaxis, 5:], predicted[:, tf.newaxis, :, 5:])
    best = tf.reduce_max(match, axis=2)
    real = tf.cast(tf.reduce_any(reference != 0, axis=2), best.dtype)
    return tf.math.divide_no_nan(tf.reduce_sum(best * real, 1), tf.reduce_sum(real, 1))


@_own("object detection", check_boxes)
def object_detection(f: Any, x: Structure, y: tf.Tensor) -> tf.Tensor:
    """Return the D-RISE score: position, objectness and class (see `detection_score`)."""
    return detection_score(f, x, y)


@_own("object detection box position", check_boxes)
def object_detection_box_position(f: Any, x: Structure, y: tf.Tensor) -> tf.Tensor:
    """Return the score of the boxes' position alone (see `detection_score`)."""
    return detection_score(f, x, y, objectness=False, classes=False)


@_own("object detection box proba", check_boxes)
def object_detection_box_proba(f: Any, x: Structure, y: tf.Tensor) -> tf.Tensor:
    """Return the score of position and objectness (see `detection_score`)."""
    return detection_score(f, x, y, classes=False)


@_own("object detection box class", check_boxes)
def object_detection_box_class(f: Any, x: Structure, y: tf.Tensor) -> tf.Tensor:
    """Return the score of position and class (see `detection_score`)."""
    return detection_score(f, x, y, objectness=False)


def _overlap(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Return the intersection over union of boxes x1, y1, x2, y2; zero for empty boxes."""
    corner = tf.maximum(first[..., :2], second[..., :2])
    opposite = tf.minimum(first[..., 2:], second[..., 2:])
    intersection = _area(corner, opposite)
    union = _area(first[..., :2], first[..., 2:]) + _area(second[..., :2], second[..., 2:])
    return tf.math.divide_no_nan(intersection, union - intersection)


def _area(corner: tf.Tensor, opposite: tf.Tensor) -> tf.Tensor:
    return tf.reduce_prod(tf.nn.relu(opposite - corner), axis=-1)


def _cosine(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    # Norms by `l2_normalize`, whose gradient is finite also for a box without a class.
    return tf.reduce_sum(tf.math.l2_normalize(first, -1) * tf.math.l2_normalize(second, -1), -1)


Tasks = enum.Enum(  # type: ignore[misc]
    "Tasks", {name.upper().replace(" ", "_"): name for name in _registry}, type=str
)
Tasks.__doc__ = """The built-in operators as an enumeration, with the names that Xplique gives them.

A member does as its name: ``operator=Tasks.REGRESSION`` is ``operator="regression"``.
"""
