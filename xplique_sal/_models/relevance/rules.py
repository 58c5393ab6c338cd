"""The rules of relevance at a linear step z = a·w + b.

Each takes a `Linear` with the relevance R of its outputs, and returns that of its inputs. Written
with w⁺ = max(w, 0), w⁻ = min(w, 0), and the same for a and b. What is known to be not negative has
no a⁻, so that half of the products need not be computed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from xplique_sal._models.relevance.linear import Linear

#: What denominators are kept away from zero by, where a rule has no ε of its own; and what share of
#: the root of their mean square it is at most, where all of them nearly vanish.
STABILISER, _SHARE, _LEAST = 1e-6, 1e-3, 1e-20


class Settings(NamedTuple):
    """The numbers that rules take.

    Attributes
    ----------
    epsilon, gamma
        Of the rules that are called so.
    low, high
        The least and the largest value that a can have, for zᴮ.
    """

    epsilon: float
    gamma: float
    low: Any = None
    high: Any = None


def stabilised(z: tf.Tensor, epsilon: float | None = None) -> tf.Tensor:
    """Return z + ε·sgn(z), with sgn(0) = 1."""
    least = _stabiliser(z) if epsilon is None else tf.cast(epsilon, z.dtype)
    return z + tf.where(z < 0, -least, least)


def _stabiliser(z: tf.Tensor) -> tf.Tensor:
    """Return an ε for each row of z that is small beside it."""
    fixed = tf.cast(STABILISER, z.dtype)
    if z.dtype.size < 4 or z.shape.rank is None or z.shape.rank < 2:
        return fixed
    square = tf.reduce_mean(tf.square(z), [*range(1, z.shape.rank)], keepdims=True)
    return tf.minimum(fixed, tf.maximum(_SHARE * tf.sqrt(square), _LEAST))


def zero(step: Linear, settings: Settings) -> tf.Tensor:
    """Return a·Σ w R/z, with 0 for 0/0: Bach et al. 2015, equation 56."""
    return step.a * step.back(tf.math.divide_no_nan(step.relevance, step.z), step.w)


def epsilon(step: Linear, settings: Settings) -> tf.Tensor:
    """Return a·Σ w R/(z + ε·sgn z): Bach et al. 2015, equation 58."""
    return step.a * step.back(step.relevance / stabilised(step.z, settings.epsilon), step.w)


def alpha_beta(alpha: float, beta: float) -> Callable[[Linear, Settings], tf.Tensor]:
    """Return the rule α·(a w)⁺/Σ(a w)⁺ − β·(a w)⁻/Σ(a w)⁻: Bach et al. 2015, equation 60."""

    def rule(step: Linear, settings: Settings) -> tf.Tensor:
        bias = step.bias()
        result = alpha * _of_sign(step, tf.nn.relu, bias)
        return result - beta * _of_sign(step, _negative, bias) if beta else result

    return rule


def _of_sign(
    step: Linear, part: Callable[[tf.Tensor], tf.Tensor], bias: tf.Tensor | None
) -> tf.Tensor:
    """Return the share of the contributions of one sign in their sum, times the relevance."""
    same, other = part(step.w), step.w - part(step.w)
    total = _contributions(step, same, other)
    if bias is not None:
        total += part(bias)
    share = tf.math.divide_no_nan(step.relevance, total)
    return _shared_out(step, share, same, other)


def _contributions(step: Linear, same: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """Return Σ a⁺·same + a⁻·other."""
    if step.not_negative:
        return step.run(step.a, same)
    return step.run(tf.nn.relu(step.a), same) + step.run(_negative(step.a), other)


def _shared_out(step: Linear, share: tf.Tensor, same: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """Return a⁺·Σ same·share + a⁻·Σ other·share."""
    positive = step.back(share, same)
    if step.not_negative:
        return step.a * positive
    return step.a * tf.where(step.a > 0, positive, step.back(share, other))


def _negative(x: tf.Tensor) -> tf.Tensor:
    return tf.minimum(x, 0)


def gamma(step: Linear, settings: Settings) -> tf.Tensor:
    """Return the share of a·w + γ·(a w)^s, where s is the sign of z: Montavon et al. 2019, 10.2.1.

    Where z is positive, that is γ times what is positive, in favour of which it is; where it is
    negative, γ times what is negative, so that inputs of both signs are treated alike.
    """
    factor = tf.cast(settings.gamma, step.w.dtype)
    positive = _contributions(step, tf.nn.relu(step.w), _negative(step.w))
    bias = step.bias()
    if bias is not None:
        positive += tf.nn.relu(bias)
    more = step.w + factor * tf.nn.relu(step.w)
    less = step.w + factor * _negative(step.w)
    ratio = tf.math.divide_no_nan(step.relevance, step.z + factor * positive)
    result = _shared_out(step, tf.where(step.z > 0, ratio, 0.0), more, less)
    if step.is_closed:
        return result  # what a rectifier closed has no relevance
    total = step.z + factor * (step.z - positive)
    ratio = tf.math.divide_no_nan(step.relevance, total)
    return result + _shared_out(step, tf.where(step.z < 0, ratio, 0.0), less, more)


def wsquare(step: Linear, settings: Settings) -> tf.Tensor:
    """Return Σ w² R/Σ w²: Montavon et al. 2017, section 4.1."""
    weights, scale, bias = tf.square(step.w), step.scale(), step.bias()
    ones = tf.ones_like(step.a) if scale is None else tf.square(scale)
    total = step.run(ones, weights)
    if bias is not None:
        total += tf.square(bias)
    result = step.back(tf.math.divide_no_nan(step.relevance, total), weights)
    return result if scale is None else ones * result


def flat(step: Linear, settings: Settings) -> tf.Tensor:
    """Return Σ R/n, of all n inputs alike: Lapuschkin et al. 2019."""
    weights = tf.ones_like(step.w)
    total = step.run(tf.ones_like(step.a), weights)
    return step.back(tf.math.divide_no_nan(step.relevance, total), weights)


def zbox(step: Linear, settings: Settings) -> tf.Tensor:
    """Return the share of a·w − l·w⁺ − h·w⁻: Montavon et al. 2017, section 4.3."""
    positive, negative = tf.nn.relu(step.w), _negative(step.w)
    low, high = (step.in_frame(limit) for limit in (settings.low, settings.high))
    total = step.run(step.a, step.w) - step.run(low, positive) - step.run(high, negative)
    share = step.relevance / stabilised(total)
    below = low * step.back(share, positive) + high * step.back(share, negative)
    return step.a * step.back(share, step.w) - below


#: The rules by their names.
RULES: dict[str, Callable[[Linear, Settings], tf.Tensor]] = {
    "zero": zero,
    "epsilon": epsilon,
    "zplus": alpha_beta(1.0, 0.0),
    "gamma": gamma,
    "alpha2_beta1": alpha_beta(2.0, 1.0),
    "alpha1_beta0": alpha_beta(1.0, 0.0),
    "wsquare": wsquare,
    "flat": flat,
    "zbox": zbox,
}
