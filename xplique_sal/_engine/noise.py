"""Noise that depends on a seed and on a sample's index alone, whatever is drawn around it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from xplique_sal._engine.recipe import Points

#: TensorFlow's number for the Philox generator, which gives the same numbers on every device.
_PHILOX = 1
#: How many numbers it makes at each count.
_AT_ONCE = 4
#: Each source has streams of its own: as many as it can have points.
_STREAMS = 1 << 32


def normal(like: tf.Tensor, seed: tf.Tensor, points: Points, source: int) -> tf.Tensor:
    """Return standard normal noise for some points of each sample of a batch.

    The generator counts, and what it makes is a function of the key and the count. Each point has
    a key of its own, and there sample i has the counts from i·c on, where c counts make enough for
    one sample: the noise of point k of all N samples of D numbers is

        tf.random.stateless_normal((N, 4·c), [seed, k + 2³²·source], alg="philox")[:, :D]

    with c = ⌈D / 4⌉, of which any part can be drawn alone.

    Parameters
    ----------
    like
        A tensor of the shape of the result, (P·n, ...).
    seed
        Any integer, as an int64 scalar.
    points
        Which points of which samples.
    source
        Which of several sources it is for.

    Returns
    -------
    noise
        In float32.
    """
    known = like.shape[1:].num_elements()
    size = tf.reduce_prod(tf.shape(like)[1:]) if known is None else known
    drawn = _drawn(tf.raw_ops.StatelessRandomNormalV2, size, seed, points, source)
    return tf.reshape(drawn, tf.shape(like))


def uniform(size: int, seed: tf.Tensor, points: Points) -> tf.Tensor:
    """Return numbers of [0, 1) for some points of each sample of a batch, (P·n, `size`).

    They are the same for all sources, and drawn as `normal` draws, of keys that no noise has.
    """
    drawn = _drawn(tf.raw_ops.StatelessRandomUniformV2, size, seed, points, -1)
    return tf.reshape(drawn, [-1, size])


def _drawn(
    draw: Callable[..., tf.Tensor], size: Any, seed: tf.Tensor, points: Points, source: int
) -> tf.Tensor:
    """Return so many numbers for each point of each sample, (P, n, size)."""
    counts = -(-size // _AT_ONCE)
    first = points.first * tf.cast(counts, tf.int64)
    offset = tf.cast(tf.stack([first, tf.zeros_like(first)]), tf.uint64)

    def of_point(number: tf.Tensor) -> tf.Tensor:
        stream = tf.cast(number, tf.int64) + source * _STREAMS
        key, count = tf.raw_ops.StatelessRandomGetKeyCounter(seed=tf.stack([seed, stream]))
        drawn = draw(
            shape=tf.stack([points.samples, counts * _AT_ONCE]),
            key=key,
            counter=count + offset,
            alg=_PHILOX,
            dtype=tf.float32,
        )
        return drawn[:, :size]

    numbers = points.numbers
    return tf.cond(
        tf.size(numbers) == 1,
        lambda: of_point(numbers[0])[tf.newaxis],  # without the cost of a loop
        lambda: tf.map_fn(of_point, numbers, fn_output_signature=tf.float32),
    )


def spread(source: tf.Tensor) -> tf.Tensor:
    """Return max − min of each sample, in a shape that broadcasts to the samples."""
    axes = list(range(1, source.shape.rank))
    return tf.reduce_max(source, axes, keepdims=True) - tf.reduce_min(source, axes, keepdims=True)


def drawn_seed() -> int:
    """Return a seed from the operating system: no generator of the user's is touched."""
    return secrets.randbits(31)
