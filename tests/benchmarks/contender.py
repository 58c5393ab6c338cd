"""Who is measured: this library, Xplique, a loop written by hand, the bare forward pass."""

import numpy as np
import tensorflow as tf

from xplique_sal import Saliency

#: The columns of the table.
OURS, UNFOLDED, BY_HAND, XPLIQUE = "ours", "unfolded", "by hand", "Xplique"


def forward(model):
    """Return the compiled forward pass."""
    return tf.function(lambda x: model(x, training=False))


def by_hand(model, batch_size):
    """Return the loop over batches that a user would write, around a compiled gradient."""

    @tf.function
    def saliency(x, y):
        with tf.GradientTape() as tape:
            tape.watch(x)
            score = tf.reduce_sum(model(x, training=False) * y)
        gradient = tf.abs(tape.gradient(score, x))
        return tf.reduce_max(gradient, -1, keepdims=True) if x.shape.rank == 4 else gradient

    def explain(inputs, targets=None):
        if isinstance(inputs, tf.data.Dataset):
            return tf.concat([saliency(x, y) for x, y in inputs], axis=0)
        batches = [slice(i, i + batch_size) for i in range(0, len(inputs), batch_size)]
        return tf.concat([saliency(inputs[batch], targets[batch]) for batch in batches], axis=0)

    return explain


def xplique(model, batch_size, name="Saliency", **options):
    """Return an explainer of Xplique."""
    import xplique.attributions

    return getattr(xplique.attributions, name)(model, batch_size=batch_size, **options)


def explainers(model, batch_size):
    """Return ``{column: explain(inputs, targets)}`` of everyone."""
    return {
        OURS: Saliency(model, batch_size=batch_size).explain,
        BY_HAND: by_hand(model, batch_size),
        XPLIQUE: xplique(model, batch_size).explain,
        UNFOLDED: Saliency(model, batch_size=batch_size, fold_batch_norm=False).explain,
    }


def check_same(maps, reference=BY_HAND):
    """See that all have made the same maps, up to rounding: only then is there a race.

    Rounding can flip rectifiers, a few in each image where the network is deep and the images are
    large: of ResNet50 at 224×224 the median difference was 1.2 %.
    """
    expected = np.asarray(maps[reference], dtype="float64")
    axes = tuple(range(1, expected.ndim))
    for name, found in maps.items():
        difference = np.asarray(found, dtype="float64").reshape(expected.shape) - expected
        norm = np.sqrt((expected**2).sum(axes))
        error = np.median(np.sqrt((difference**2).sum(axes)) / norm)
        if not error < 5e-2:
            raise AssertionError(f"the maps of {name!r} differ by {error:.1e}")
