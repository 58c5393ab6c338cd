"""What is given to be explained, looked at before it is read."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from xplique_sal._data.structures import Structure, leaves
from xplique_sal._tracing import keras_compat
from xplique_sal.errors import InvalidInputError


def check_unmasked(inputs: Structure) -> None:
    """Refuse tensors that carry a Keras mask which hides something: it would be lost.

    Raises
    ------
    InvalidInputError
    """
    for part in [] if isinstance(inputs, tf.data.Dataset) else leaves(inputs):
        mask = keras_compat.mask_of(part)
        if mask is not None and not np.all(mask):
            raise InvalidInputError(
                "inputs without a mask",
                "a tensor that carries the mask of a Keras layer (`mask_zero=True`, `Masking`), "
                "which would be lost",
                "Explain the model that has that layer, with `wrt_layer`; or make the mask an "
                "input, of the function lambda x, mask: model(x, mask=mask). To leave the mask "
                "out, pass x.numpy().",
            )
