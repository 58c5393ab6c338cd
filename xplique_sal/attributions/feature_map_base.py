"""What the methods share that weigh the channels of a feature map."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import tensorflow as tf

from xplique_sal._data.structures import Operator, Skeleton, Structure, leaves, pack
from xplique_sal._engine.gradient_runner import GradientRunner
from xplique_sal._engine.recipe import Recipe, Source
from xplique_sal._engine.request import Explained, Request
from xplique_sal._models.feature_map import ONE_FOR_EACH, WITH_POSITIONS, last_feature_map
from xplique_sal._parameters import one_of
from xplique_sal._tracing import graphs
from xplique_sal.attributions.base import WhiteBoxExplainer
from xplique_sal.errors import InvalidModelError, InvalidParameterError

#: A layer, or one for each input, in their structure.
LayerOfEach: TypeAlias = int | str | Sequence[int | str] | Mapping[str, int | str] | None

_METHODS = ("bicubic", "bilinear", "nearest")


class _WeighedChannels(Recipe):
    """ReLU(Σ_c w_c A_c), resized to the input; its detail is whether that is zero everywhere."""

    needs_source = True
    nb_details = 1

    def __init__(
        self,
        weights: Callable[..., tf.Tensor],
        interpolation: str,
        relu: bool,
        shown: tuple[int, ...] | None = None,
    ) -> None:
        self._weights = weights
        self._interpolation = interpolation
        self._relu = relu
        #: The input that the map of each layer is brought to the size of, if it was said.
        self._shown = shown

    @property
    def key(self) -> tuple[Any, ...]:
        """A hashable value, equal for recipes of which the same is traced."""
        return (*super().key, self._weights, self._interpolation, self._relu, self._shown)

    def combine(self, gradient: tf.Tensor, source: tf.Tensor, place: Source) -> tf.Tensor:
        """Return the map, with a channel axis of length one where the input has its channels.

        Of an input without channels, to which the model adds the axis, it has none either.
        """
        features = tf.cast(source, tf.float32)
        positions, channels = axes_of(features, place)
        weights = self._weights(tf.cast(gradient, tf.float32), features, positions)
        weighed = tf.reduce_sum(weights * features, channels)
        if self._relu:
            weighed = tf.nn.relu(weighed)
        shown, into = self.shown(source, place)
        return resized_to(weighed, tf.shape(shown), into, self._interpolation)

    def shown(self, source: tf.Tensor, place: Source) -> tuple[tf.Tensor, int | None]:
        """Return the input to whose size a map is brought, and the axis of its channels, if any."""
        shown = _shown(place, source, None if self._shown is None else self._shown[place.position])
        rank = source.shape.rank
        return shown, place.input_channel_axis % rank if shown.shape.rank == rank else None

    def details(self, attributions: Sequence[tf.Tensor], scores: tf.Tensor) -> tf.Tensor:
        """Return 1 for each sample whose map is zero everywhere, else 0."""
        is_zero = [tf.reduce_all(m == 0, list(range(1, m.shape.rank))) for m in attributions]
        return tf.cast(tf.reduce_all(is_zero, 0), tf.float32)[:, tf.newaxis]


class FeatureMapExplainer(WhiteBoxExplainer):
    """Base of the explainers that weigh the channels of a feature map.

    The map shows where a layer's channels are active that raise the score. A method says by
    `_weights` how much each channel counts.

    Parameters
    ----------
    conv_layer
        The layer that makes the feature map A, named as `output_layer`. ``None`` is the last layer
        whose output has the positions (height and width) of the last convolution's, so with the
        activation after it and before a pooling; the attribute `conv_layer` tells it after the
        first explanation. A list of several layers of one input has the mean of their maps. Of
        several inputs that are images, a list or a dict names one for each, and the maps are in
        the inputs' structure.
    interpolation
        How the map is resized to the input: ``"bicubic"``, which can overshoot a little, also
        below 0; ``"bilinear"`` or ``"nearest"``, which cannot.
    relu
        Whether what speaks against the score counts as 0. ``False`` leaves the ReLU out: the map
        has a sign, and is negative there.

    Warns
    -----
    UserWarning
        Once for each explainer: if a map is zero everywhere, though the gradient is not.
    """

    def __init__(
        self,
        model: Any,
        output_layer: int | str | None = None,
        batch_size: int | str | None = 64,
        operator: Operator | str | None = None,
        conv_layer: LayerOfEach = None,
        *,
        output: int | str | None = None,
        logits: bool = False,
        backprop_modifier: Callable[..., tf.Tensor] | str | None = None,
        fold_batch_norm: bool = True,
        strategy: tf.distribute.Strategy | None = None,
        channel_axis: int | None = None,
        interpolation: str = "bicubic",
        relu: bool = True,
    ) -> None:
        one_of("interpolation", interpolation, _METHODS)
        each = isinstance(conv_layer, (list, tuple, Mapping))
        layers: Any = leaves(conv_layer) if each else conv_layer
        self.interpolation = interpolation
        self.relu = bool(relu)
        self._recipe = _WeighedChannels(type(self)._weights, interpolation, self.relu)
        super().__init__(
            model,
            output_layer,
            batch_size,
            operator,
            None,
            output=output,
            logits=logits,
            wrt_layer=layers,
            backprop_modifier=backprop_modifier,
            fold_batch_norm=fold_batch_norm,
            strategy=strategy,
            channel_axis=channel_axis,
        )
        self.conv_layer = conv_layer
        self._finds_layer = conv_layer is None
        self._each = each

    @staticmethod
    @abc.abstractmethod
    def _weights(gradient: tf.Tensor, features: tf.Tensor, positions: Sequence[int]) -> tf.Tensor:
        """Return the weight of each channel, in a shape that broadcasts to the features.

        Parameters
        ----------
        gradient, features
            ∂g/∂A and A, in float32.
        positions
            The axes of the height and width.
        """

    def _arguments(self) -> dict[str, Any]:
        found = super()._arguments()
        return {**found, "conv_layer": None} if self._finds_layer else found

    def _request(
        self, inputs: Structure, targets: Structure | None, endless: bool = False
    ) -> Request:
        request = super()._request(inputs, targets, endless)
        if self._finds_layer:
            # At each call: the model's owner may have changed its structure.
            layer = last_feature_map(self._gradients.question.view, request.samples)
            vars(self)["conv_layer"] = layer
            self._differentiate_to(layer)
        elif self._is_mean_of(request):
            layers = leaves(self.conv_layer)
            self._differentiate_to(layers, (0,) * len(layers))
        elif self._each:
            layers = _in_order(self.conv_layer, request.samples.for_user)
            self._differentiate_to(layers, tuple(range(len(layers))))
        return request

    def _is_mean_of(self, request: Request) -> bool:
        """Tell whether several layers were named of one input."""
        return isinstance(self.conv_layer, (list, tuple)) and request.samples.for_user == 0

    def _differentiate_to(self, layers: Any, shown: tuple[int, ...] | None = None) -> None:
        question = self._gradients.question
        recipe = _WeighedChannels(type(self)._weights, self.interpolation, self.relu, shown)
        if question.view.wrt_layer != layers or question.recipe.key != recipe.key:
            view = question.view.differentiated_to(layers)
            question = replace(question, view=view, recipe=recipe)
            self._gradients = GradientRunner(question, self.strategy)

    def _packed(self, request: Request, maps: Sequence[tf.Tensor | None]) -> Any:
        if self._is_mean_of(request):
            known = [map_ for map_ in maps if map_ is not None]
            if len(known) < len(maps):
                lacking = [map_ is None for map_ in maps].index(True)
                raise InvalidModelError(
                    "layers in `conv_layer` on each of which the score depends",
                    repr(leaves(self.conv_layer)[lacking]),
                    "Leave it out.",
                )
            return tf.add_n(known) / len(known)
        if self._each:
            return pack(request.samples.for_user, maps)
        return super()._packed(request, maps)

    def _warn(self, explained: Explained) -> None:
        super()._warn(explained)
        if explained.details is None or explained.zero_sample is not None:
            return  # a gradient that is zero has been warned of
        # Of several outputs some always have nothing that speaks for them.
        if explained.details.reshape(len(explained.details), -1).all(1).any():
            self._warn_once(
                "A map is zero everywhere, though the gradient is not: where channels of the layer "
                f"{self.conv_layer!r} are active at all, they speak against the score, which the "
                "method counts as 0. GradCAM(…, relu=False) shows it with its sign.",
                "zero map",
            )


def axes_of(features: tf.Tensor, place: Source) -> tuple[list[int], int]:
    """Return the axes of a feature map's positions, without that of frames, and of its channels.

    Raises
    ------
    InvalidModelError
        If it has no positions.
    """
    rank = features.shape.rank
    channels = place.channel_axis % rank
    # Each frame is a map of its own.
    first = 2 if place.is_of_frames else 1
    positions = [axis for axis in range(first, rank) if axis != channels]
    if not positions:
        raise InvalidModelError(
            "a `conv_layer` whose output has positions: height and width, or time",
            f"one whose output has the shape {tuple(features.shape)}",
            "Name a layer before the positions are flattened or averaged.",
        )
    return positions, channels


def resized_to(maps: tf.Tensor, size: tf.Tensor, into: int | None, method: str) -> tf.Tensor:
    """Return maps (N, ...) in the shape `size` of an input, of whose channels one is left."""
    rank = maps.shape.rank + (into is not None)
    sizes = [size[axis] for axis in range(1, rank) if axis != into]
    resized = _resized(maps, sizes, method)
    return resized if into is None else tf.expand_dims(resized, into)


def _in_order(named: Any, for_user: Skeleton) -> list[int | str]:
    """Return the layers of the inputs, in the model's order of inputs."""
    positions, layers = leaves(for_user), leaves(named)
    alike = len(positions) == len(layers)
    if isinstance(named, Mapping) or isinstance(for_user, Mapping):
        alike = getattr(named, "keys", list)() == getattr(for_user, "keys", list)()
    if not alike:
        raise InvalidParameterError(
            "one `conv_layer`, or one for each input in the structure of the inputs",
            repr(named),
            f"The inputs are {for_user!r}, by position. For other layers of one input, make an "
            "explainer for each.",
        )
    return [layer for _, layer in sorted(zip(positions, layers, strict=True), key=lambda p: p[0])]


def _shown(place: Source, source: tf.Tensor, position: int | None) -> tf.Tensor:
    """Return the input to whose size the map of a layer's output is brought.

    Parameters
    ----------
    place, source
        The layer's output.
    position
        Which input it belongs to, if it was said.
    """
    rank = source.shape.rank
    inputs = place.inputs if position is None else place.inputs[position : position + 1]
    fitting = [tensor for tensor in inputs if tensor.shape.rank == rank]
    fitting = fitting or [tensor for tensor in inputs if _gets_channels(tensor, source)]
    if position is not None:
        fitting = [tensor for tensor in fitting if graphs.on_the_way([tensor], source)]
    if len(fitting) == 1:
        return fitting[0]
    if position is not None:
        raise InvalidModelError(
            "a `conv_layer` for each input, of which the feature map depends on that input",
            f"one for input {position} that does not, or has no such axes",
            "Give the layers in the order of the inputs. Keras may run the calls of a shared layer "
            "in another: exchange ':0' and ':1' at the end of its name.",
        )
    raise InvalidModelError(
        "one input with as many axes as the feature map, to whose size the map is brought",
        f"{len(fitting)} inputs with {rank} axes",
        ONE_FOR_EACH if fitting or len(place.inputs) > 1 else WITH_POSITIONS,
    )


def _gets_channels(tensor: tf.Tensor, source: tf.Tensor) -> bool:
    """Tell whether a feature map is made of an input by first adding an axis for channels.

    The first tensor with that axis must have the positions of the input, in their order.
    """
    if tensor.shape.rank != source.shape.rank - 1:
        return False
    for op in graphs.on_the_way([tensor], source):
        if op.type == "Transpose":
            return False
        if op.outputs[0].shape.rank == source.shape.rank:
            shape = op.outputs[0].shape.as_list()[1:]
            known = tensor.shape.as_list()[1:]
            return shape in ([*known, 1], [1, *known])
    return False


def _resized(maps: tf.Tensor, sizes: Sequence[tf.Tensor], method: str) -> tf.Tensor:
    """Return maps (N, ...) with other sizes of all axes but the first.

    Two axes are resized at a time: the interpolations are products of one for each axis.
    """
    for axis in range(1, maps.shape.rank, 2):
        shape = tf.shape(maps)
        size = tf.stack([sizes[axis - 1], sizes[axis] if axis < len(sizes) else 1])
        before, after = tf.reduce_prod(shape[:axis]), tf.reduce_prod(shape[axis + 2 :])
        old = tf.concat([shape[axis : axis + 2], [1]], 0)[:2]
        images = tf.reshape(maps, tf.concat([[before], old, [after]], 0))
        images = tf.image.resize(images, size, method)
        now = tf.concat([shape[:axis], size, shape[axis + 2 :]], 0)[: maps.shape.rank]
        maps = tf.ensure_shape(tf.reshape(images, now), [None] * maps.shape.rank)
    return tf.cast(maps, tf.float32)
