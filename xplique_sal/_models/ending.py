"""How a model ends: the activation that makes its output, and the shape of that."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from xplique_sal._data.arrange import arrange
from xplique_sal._data.structures import pack
from xplique_sal._models.traced import TracedModel
from xplique_sal._models.view import ModelView


class Ending(NamedTuple):
    """How a model ends.

    Attributes
    ----------
    activation
        The type of the softmax, sigmoid or log-softmax that makes its output, if one does.
    shape
        Of its output, with the batch axis.
    """

    activation: str | None
    shape: tf.TensorShape


def ending(view: ModelView, inputs: Any) -> Ending:
    """Return how a model ends, of inputs such as it takes, (N, ...)."""
    flat, _, for_user = arrange(inputs, view.inputs_for(inputs))
    tensors = [tf.convert_to_tensor(value) for value in flat]

    def build(*tensors: tf.Tensor) -> tuple[tf.Tensor, Ending]:
        output = (f := TracedModel(view))(pack(for_user, tensors))
        return tf.zeros([]), Ending(f.activation, output.shape)

    specs = [tf.TensorSpec(tensor.shape[1:], tensor.dtype) for tensor in tensors]
    program, _ = view.compiled(("ending", for_user), build, specs, likely=len(tensors[0]))
    facts: Ending = program.facts
    return facts
