"""Finding the layer whose output is the last that still knows where in the image things are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from xplique_sal._data.samples import Samples
from xplique_sal._data.structures import pack
from xplique_sal._models.frames import outputs_seen
from xplique_sal._models.invoke import call_with_autograph
from xplique_sal._models.traced import TracedModel
from xplique_sal._models.view import ModelView
from xplique_sal._tracing import graphs, keras_compat, layer_paths, reached, wrapping
from xplique_sal.errors import InvalidModelError

_REMEDY = "Name a layer: `conv_layer=` an index, a name or a path such as 'backbone/conv5'."

ONE_FOR_EACH = (
    "Name a layer for each input, a list or a dict in the inputs' structure: "
    "`conv_layer=['left', 'right']`. The calls of a shared layer are 'backbone/conv:0' and "
    "'backbone/conv:1'."
)
WITH_POSITIONS = "Choose a `conv_layer` whose output has the positions of the input."
_HIDDEN = (
    "Layers inside a SavedModel, or a function that was compiled before, cannot be seen: load it "
    "as a Keras model, or name a layer around it: `conv_layer=` an index, a name or a path."
)


class _Seen(NamedTuple):
    layer: Any
    call: int
    output: tf.Tensor


def last_feature_map(view: ModelView, samples: Samples) -> str:
    """Return the path of the layer that makes the last feature map of a model.

    It is found in the traced graph: of the layers, and of the operations of a Functional model of
    Keras 3, it is the last that every way from the image to what is explained goes through, and
    whose output has the positions (the height and width) of the last convolution's output. So the
    normalisation, activation and sum after that convolution count; a pooling does not, and a
    branch of several never does. Without any convolution it is the last of them whose output has
    more than one position.

    Parameters
    ----------
    view
        What is explained of the model.
    samples
        Of which shape its inputs are.

    Raises
    ------
    InvalidModelError
        If there is no such layer, or what is explained has positions itself.
    """

    def build(*tensors: tf.Tensor) -> tuple[tf.Tensor, str]:
        return tf.zeros([]), _path(plain, _found(plain, samples, tensors))

    if not reached.layers_in(view.model):
        raise InvalidModelError(
            "a Keras model, whose layers can be seen",
            f"a {type(view.model).__name__}",
            "Explain the Keras model that it was made from.",
        )
    # Without the layer that was found before, which may be gone.
    plain = ModelView(
        view.model,
        output_layer=view.output_layer,
        output=view.output,
        fold_batch_norm=False,
    )
    needed = samples.declared_batch
    key = ("feature map", samples.for_user)
    return plain.compiled(key, build, samples.input_specs, needed=needed)[0].facts


def _found(view: ModelView, samples: Samples, tensors: Sequence[tf.Tensor]) -> _Seen:
    inputs = view.cast_all(tensors)
    seen: list[_Seen] = []
    calls: dict[int, int] = {}

    def see(layer: Any, output: Any) -> Any:
        calls[id(layer)] = calls.get(id(layer), -1) + 1
        if isinstance(output, tf.Tensor):
            seen.append(_Seen(layer, calls[id(layer)], output))
        return output

    layers = [
        part
        for layer in reached.all_layers_in(view.model)
        for part in (layer, *layer_paths.operations(layer))
        if part is not view.model
    ]
    with (
        wrapping.TRACING,
        outputs_seen(view.model, layers, see),
        wrapping.functions_inlined(call_with_autograph),
    ):
        explained = TracedModel(view)(pack(samples.for_user, inputs))
    ranks = {tensor.shape.rank for tensor in inputs if tensor.shape.rank > 2}
    if explained.shape.rank in ranks:
        raise InvalidModelError(
            "a score without positions, before which the last feature map is looked for",
            f"one of the shape {tuple(explained.shape)}",
            _REMEDY,
        )
    images = [tensor for tensor in inputs if tensor.shape.rank > 2 or len(inputs) == 1]
    found = _last(view, seen, images, explained)
    fitting = [image for image in images if image.shape.rank == found.output.shape.rank]
    if len(fitting) > 1:
        raise InvalidModelError(
            "one image among the inputs, of which the last feature map is looked for",
            f"{len(fitting)} inputs of {len(fitting[0].shape)} axes",
            ONE_FOR_EACH,
        )
    return found


def _last(
    view: ModelView, seen: Sequence[_Seen], images: Sequence[tf.Tensor], explained: tf.Tensor
) -> _Seen:
    """Return the last of what was seen that is a feature map and no branch."""
    needed = set(graphs.on_the_way(images, explained))
    ranks = {image.shape.rank for image in images} - {2}
    maps = [one for one in seen if _is_map(view, one, ranks, needed)]
    if not maps and len(images) == 1:  # an axis for channels may be added by the model
        ranks = {images[0].shape.rank + 1}
        maps = [one for one in seen if _is_map(view, one, ranks, needed)]
    cuts = set().union(*(graphs.cuts(image, explained) for image in images))
    candidates = [one for one in maps if one.output.op in cuts]
    if not candidates:
        raise InvalidModelError(
            "a layer whose output has positions (height and width, or time) as the input has, and "
            "through which every way from the input to what is explained goes",
            "none" if not maps else "branches that each go past the others",
            _remedy(seen, needed),
        )
    convolutions = [number for number, one in enumerate(maps) if _is_convolution(one.layer)]
    if not convolutions:
        return candidates[-1]
    last = maps[convolutions[-1]]
    positions = _positions(view, last)
    if None in positions:  # a pooling could not be told: the first after the convolution
        after = [one for one in maps[convolutions[-1] :] if one.output.op in cuts]
        return after[0] if after else candidates[-1]
    same = [one for one in candidates if _positions(view, one) == positions]
    return (same or candidates)[-1]


def _is_map(view: ModelView, one: _Seen, ranks: set[int], needed: set[tf.Operation]) -> bool:
    fits = one.output.shape.rank in ranks and one.output.op in needed
    return fits and set(_positions(view, one)) != {1}


def _remedy(seen: Sequence[_Seen], needed: set[tf.Operation]) -> str:
    """Return what to do where no feature map was found."""
    if any(_is_convolution(one.layer) for one in seen):
        return f"{_REMEDY} {WITH_POSITIONS}"
    if any("PartitionedCall" in op.type for op in needed):
        return _HIDDEN
    return f"{_REMEDY} For a model of tables, take another method."


def _is_convolution(layer: Any) -> bool:
    return hasattr(layer, "filters") or hasattr(layer, "depth_multiplier")


def _positions(view: ModelView, one: _Seen) -> list[int | None]:
    """Return the axes of an output that are neither the batch nor the channels."""
    shape = one.output.shape.as_list()
    channels = keras_compat.channel_axis(one.layer, view.channel_axis) % len(shape)
    return [size for axis, size in enumerate(shape) if axis not in (0, channels)]


def _path(view: ModelView, found: _Seen) -> str:
    path = layer_paths.path_of(view.model, found.layer)
    if path is None:
        raise InvalidModelError(
            "a last feature map whose layer has a name of its own",
            f"the layer {found.layer.name!r}, which cannot be told from others",
            _REMEDY,
        )
    return path if not found.call else f"{path}:{found.call}"
