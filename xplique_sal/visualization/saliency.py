"""keras-vis's entry points: the map of one sample, as a NumPy array between 0 and 1.

They are `attributions.Saliency` for one sample. For many samples, for values that are not
rescaled and for everything else that can be chosen, use it directly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xplique_sal._data.arrange import arrange, with_batch_axis
from xplique_sal._data.outputs import number_of_outputs
from xplique_sal._data.structures import GradientModifier, Structure, leaves, pack, skeleton_of
from xplique_sal._models.view import ModelView
from xplique_sal._tracing import keras_compat
from xplique_sal._tracing.layer_paths import find
from xplique_sal.attributions.saliency import Saliency
from xplique_sal.errors import InvalidInputError, InvalidTargetError
from xplique_sal.losses import Loss, WeightedSum, checked_filters


def visualize_saliency(
    model: Any,
    layer_idx: int | str,
    filter_indices: int | Sequence[int] | None,
    seed_input: Structure,
    wrt_tensor: int | str | None = None,
    backprop_modifier: Any = None,
    grad_modifier: GradientModifier | str | None = "absolute",
    keepdims: bool = False,
) -> Any:
    """Return which parts of a sample activate filters or outputs of a layer.

    The map is the gradient of the mean activation of the filters, over the filters and their
    positions, modified by `grad_modifier`, with the maximum over the channels, and scaled to
    [0, 1] by (map − min) / (max − min).

    Parameters
    ----------
    model
        A model of either Keras. It is never changed.
    layer_idx
        The layer: an index into ``model.layers``, a name, or a path through nested models.
    filter_indices
        One index or several of the layer's outputs, or of its filters if it is convolutional;
        ``None`` is all of them.
    seed_input
        One sample as the model takes it, with or without its batch axis.
    wrt_tensor
        A layer, named as `layer_idx`, to whose output the map is; ``None`` is the input.
    backprop_modifier
        ``"guided"``, ``"relu"``, or a rule of your own: see `attributions.WhiteBoxExplainer`.
    grad_modifier
        ``"absolute"``, ``"relu"``, ``"negate"``, ``"invert"``, ``"small_values"``, a callable on
        gradients, or ``None``.
    keepdims
        Keep all channels of images and volumes.

    Returns
    -------
    map
        A NumPy array in float32, without batch axis: (H, W) for an image, (H, W, C) with
        `keepdims`, and of the shape of the sample for tables and series. Zero everywhere if all
        values are equal.

    Raises
    ------
    InvalidInputError
        If `seed_input` is not one sample of the model's shape.
    InvalidTargetError
        If there is no such filter.
    LayerNotFoundError
        If there is no such layer.

    Notes
    -----
    Where the layer ends in a softmax, name the layer before it, or replace its activation: the
    change is noticed.
    """
    explainer = Saliency(
        model,
        layer_idx,
        reducer=None if keepdims else "max",
        wrt_layer=wrt_tensor,
        backprop_modifier=backprop_modifier,
        grad_modifier=grad_modifier,
    )
    sample = _one_sample(explainer, seed_input)
    targets = _weights(explainer, model, layer_idx, checked_filters(filter_indices), sample)
    return _scaled(explainer.explain(sample, targets), explainer, keepdims)


def visualize_saliency_with_losses(
    model: Any,
    losses: Sequence[tuple[Loss, float]],
    seed_input: Structure,
    wrt_tensor: int | str | None = None,
    grad_modifier: GradientModifier | str | None = "absolute",
    keepdims: bool = False,
) -> Any:
    """Return which parts of a sample change a weighted sum of losses.

    The map is the gradient of Σ weight·loss, treated as in `visualize_saliency`, which is the case
    of one `losses.ActivationMaximization` with the weight −1.

    Parameters
    ----------
    model
        A model of either Keras. It is never changed.
    losses
        Pairs (loss, weight) of what is in `losses`, or of a `losses.Loss` of your own.
    seed_input, wrt_tensor, grad_modifier, keepdims
        As in `visualize_saliency`.

    Returns
    -------
    map
        As from `visualize_saliency`.

    Raises
    ------
    InvalidParameterError
        If `losses` are not pairs of a loss and a number.
    InvalidOperatorError
        If a loss does not return one value for each image.
    InvalidInputError, InvalidTargetError, LayerNotFoundError
        As in `visualize_saliency`.
    """
    explainer = Saliency(
        model,
        operator=WeightedSum(losses),
        reducer=None if keepdims else "max",
        wrt_layer=wrt_tensor,
        grad_modifier=grad_modifier,
    )
    sample = _one_sample(explainer, seed_input)
    return _scaled(explainer.explain(sample), explainer, keepdims)


def _one_sample(explainer: Saliency, seed_input: Structure) -> Structure:
    """Return a sample with its batch axis."""
    known = explainer.model.inputs
    flat, _, for_user = arrange(seed_input, known)
    ranks = [None if s.shape is None else len(s.shape) - 1 for s in known.specs] if known else []
    arrays = [np.asarray(array) for array in flat]
    batches = [
        with_batch_axis(array, ranks[position] if ranks else None)
        for position, array in enumerate(arrays)
    ]
    if any(len(batch) != 1 for batch in batches):
        raise InvalidInputError(
            "one sample, with or without its batch axis",
            f"a batch of {len(batches[0])}",
            "Call it for each sample, or explain them together with `Saliency`.",
        )
    return pack(for_user, batches)


def _weights(
    explainer: Saliency,
    model: Any,
    layer: int | str,
    filters: tuple[int, ...] | None,
    sample: Structure,
) -> np.ndarray:
    """Return the targets that mean the mean of some outputs: an index, or weights (1, L)."""
    if filters is not None and len(filters) == 1:
        return np.array(filters)
    shape = explainer.model(sample).shape
    count = number_of_outputs(shape, keras_compat.channel_axis(find(model, layer).layer)) or 1
    chosen = range(count) if filters is None else filters
    if max(chosen) >= count:
        raise InvalidTargetError(
            f"filters between 0 and {count - 1} of the layer {layer!r}",
            f"{max(chosen)}",
            "Filters and outputs are counted from 0.",
        )
    weights = np.zeros((1, count), np.float32)
    np.add.at(weights, (0, list(chosen)), 1 / len(chosen))
    return weights


def _scaled(maps: Structure, explainer: Saliency, keepdims: bool) -> Any:
    """Return maps of one sample as arrays between 0 and 1, without their reduced axes."""
    view = explainer.model
    assert isinstance(view, ModelView)
    _, wrt = view.chosen_layers()
    flat: list[Any] = []
    for position, map_ in enumerate(leaves(maps)):
        if map_ is None:
            flat.append(None)
            continue
        values = map_.numpy()
        if values.ndim > 3 and not keepdims:
            inner = keras_compat.channel_axis(wrt[position].layer) if wrt else view.channel_axis
            values = values.squeeze(inner)
        lowest, highest = values.min(), values.max()
        span = highest - lowest
        flat.append(((values - lowest) / span if span > 0 else np.zeros_like(values))[0])
    return pack(skeleton_of(maps), flat)
