"""What a gradient and its score must be, and what is said where they are not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xplique_sal.errors import (
    InvalidModelError,
    InvalidOperatorError,
    InvalidParameterError,
    InvalidTargetError,
    NoGradientError,
    XpliqueSalError,
)


def checked_scores(scores: Any, batch: int | None) -> tuple[tf.Tensor, bool]:
    """Return the operator's scores as (N,), and whether they were one scalar."""
    remedy = "Return one score for each sample: reduce over all axes but the first."
    try:
        scores = tf.convert_to_tensor(scores)
    except (TypeError, ValueError) as error:
        raise InvalidOperatorError(
            "a tensor of one score per sample", f"a {type(scores).__name__}", remedy
        ) from error
    if scores.dtype.is_complex:
        raise InvalidOperatorError(
            "a score of a real type",
            f"the dtype {scores.dtype.name}",
            "Return a real number of it: tf.math.real, tf.math.imag or tf.abs.",
        )
    if not scores.dtype.is_floating:
        raise NoGradientError(
            "a score of a floating type, which can be differentiated",
            f"the dtype {scores.dtype.name}",
            "The operator ends in a step such as argmax, a comparison or a cast to integers; "
            "return the value before it.",
        )
    shape = scores.shape
    if shape.rank == 0:
        return scores[tf.newaxis], True
    wrong = shape.rank != 1 or (shape[0] is not None and shape[0] != batch)
    if wrong:
        raise InvalidOperatorError(
            "scores of shape (N,), one for each sample", f"the shape {shape}", remedy
        )
    return scores, False


def other_dtype(error: BaseException, targets: Sequence[tf.TensorSpec]) -> None:
    """Raise an error of ours if an operator failed because its targets are in float64."""
    is_of_dtypes = "float64" in str(error) and "float32" in str(error)
    if is_of_dtypes and any(spec.dtype == tf.float64 for spec in targets):
        raise InvalidOperatorError(
            "an operator that computes in one dtype",
            "targets in float64 beside f(x) in float32, which TensorFlow does not mix",
            "Pass y.astype('float32'), or cast them in the operator: tf.cast(y, tf.float32).",
        ) from error


def chosen_outputs(outputs: Any, count: int | None) -> np.ndarray:
    """Return the indices of the outputs to explain: all of `count`, or those given."""
    if isinstance(outputs, str):
        if count is None:
            raise InvalidTargetError(
                "`outputs`, because the model does not tell how many it has",
                "None",
                "Pass their indices.",
            )
        return np.arange(count, dtype=np.int32)
    wrong = outputs[(outputs < 0) | (outputs >= (np.inf if count is None else count))]
    if wrong.size:
        raise InvalidTargetError(
            f"outputs between 0 and {'L - 1' if count is None else count - 1}",
            f"{wrong[0]}",
            "Outputs are counted from 0.",
        )
    return outputs.astype(np.int32)


def no_gradient(
    sources: Sequence[tf.Tensor], names: Sequence[str], embeddings: Sequence[str]
) -> NoGradientError:
    """Return the error for a score that does not depend on its inputs.

    Parameters
    ----------
    sources, names
        The tensors with respect to which the gradient is taken, and their names.
    embeddings
        The paths of the model's embeddings, to which there may be a gradient.
    """
    named = ", ".join(names)
    if embeddings:
        paths = " or ".join(f"wrt_layer={path!r}" for path in embeddings)
        return NoGradientError(
            f"a gradient with respect to {named}",
            "none: an embedding looks numbers up in a table by index, which has no derivative",
            f"Differentiate to what it returns: {paths}. A map then has a value for each number of "
            "an entry; sum over the last axis for one value for each index. If there is none to it "
            "either, look for an argmax or another step without a gradient behind it.",
        )
    if not any(tensor.dtype.is_floating for tensor in sources):
        kinds = ", ".join(dict.fromkeys(tensor.dtype.name for tensor in sources))
        return NoGradientError(
            f"a gradient with respect to {named}",
            f"the dtype {kinds}, to which nothing can be differentiated",
            "Choose the layer that makes numbers of it: `wrt_layer=` an embedding or a rescaling "
            "layer. If it holds numbers, pass them as float32.",
        )
    return NoGradientError(
        f"a score that depends on {named} by differentiable steps",
        "no gradient",
        "Look for an argmax, a rounding, a conversion to NumPy or another step without a gradient "
        "between it and the score; an operator that does not use f(x); or a layer that comes "
        "after what is explained.",
    )


def not_finite(sample: int, in_float16: bool) -> NoGradientError:
    """Return the error for a gradient that is NaN or infinite."""
    if in_float16:
        cause = "The model computes in float16, which overflows: use bfloat16 or float32."
    else:
        cause = (
            "Check the weights and the scores for NaN, and the model for steps such as sqrt(0), "
            "log(0) or a division by zero."
        )
    return NoGradientError("finite gradients", f"NaN or infinite values for sample {sample}", cause)


def modified_to_nan(sample: int) -> InvalidParameterError:
    """Return the error for a modifier that makes NaN or infinity of finite gradients."""
    return InvalidParameterError(
        "a `grad_modifier` that returns finite numbers",
        f"NaN or infinite values for sample {sample}, of which the gradient is finite",
        "Mind zeros and negative values: write tf.math.log(tf.abs(g) + 1e-7) rather than "
        "tf.math.log(g), tf.math.divide_no_nan rather than a division.",
    )


def not_finite_elsewhere(found: str, where: str, remedy: str) -> NoGradientError:
    """Return the error for a gradient that is finite at the samples, but not at other points."""
    return NoGradientError(
        "finite gradients at all points that the method looks at",
        f"{found} {where}, while they are finite at the samples themselves",
        f"A step such as sqrt(0), log(0) or a division by zero is met there: {remedy}",
    )


def carried_state() -> InvalidModelError:
    """Return the error for a model whose state would go from one point to the next."""
    return InvalidModelError(
        "a model that changes no variable when it runs, for a method that looks at several points",
        "one that keeps a state, which each point would find as the last one left it",
        "Make the model with stateful=False, or take a method that looks at the sample alone.",
    )


def wrong_length(
    scores: tf.Tensor, maps: Sequence[tf.Tensor], size: int, inner: bool
) -> XpliqueSalError:
    """Return the error for scores or maps that are not one per sample."""
    if scores.shape.rank == 0 or scores.shape[0] != size:
        return InvalidOperatorError(
            f"scores of shape (N,), here ({size},)",
            f"the shape {tuple(scores.shape)}",
            "Return one score for each sample: reduce over all axes but the first.",
        )
    shapes = ", ".join(str(tuple(map_.shape)) for map_ in maps)
    actual = f"the shape {shapes}"
    if inner:
        return _folded(actual)
    return InvalidModelError(
        f"a gradient for each of {size} samples",
        actual,
        "The model must keep samples on the first axis; to one that was saved for one sample, give "
        "one at a time: batch_size=1.",
    )


def folded_axes(error: tf.errors.InvalidArgumentError) -> InvalidModelError:
    """Return the error for an inner layer with which TensorFlow could not go on."""
    lines = [line.strip() for line in error.message.splitlines() if line.strip()]
    reason = next((line for line in lines if "ncompatible" in line or "must" in line), lines[0])
    return _folded(f"what made TensorFlow stop: {reason}")


def _folded(actual: str) -> InvalidModelError:
    return InvalidModelError(
        "an inner layer with one row for each sample",
        actual,
        "A layer inside `TimeDistributed` folds time steps into the first axis: choose the layer "
        "around it.",
    )
