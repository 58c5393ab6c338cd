"""The vocabulary of shapes and the small protocols that the package's parts agree on.

Notation used in every docstring: N samples, W features, T time steps, D slices, H x W pixels,
C channels, L model outputs, K chosen outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import tensorflow as tf

#: One array or tensor, or a list, tuple or dict of them.
Structure: TypeAlias = Any
#: A structure of which each leaf is a position in a flat list.
Skeleton: TypeAlias = Any


class Operator(Protocol):
    """The score to explain: ``g(f, x, y)`` with f the model, x the inputs and y the targets."""

    def __call__(self, f: Any, x: Structure, y: Structure, /) -> tf.Tensor:
        """Return one score per sample, of shape (N,)."""


class GradientModifier(Protocol):
    """An elementwise function on gradients."""

    def __call__(self, gradients: tf.Tensor, /) -> tf.Tensor:
        """Return a tensor of the shape of `gradients`."""


class InputSpec(NamedTuple):
    """What a model says about one of its inputs; ``None`` stands for what it does not say."""

    name: str
    shape: tuple[int | None, ...] | None
    dtype: tf.DType | None


class ModelInputs(NamedTuple):
    """All that a model says about its inputs, in its own order."""

    specs: tuple[InputSpec, ...]
    #: How the model wants them packed.
    skeleton: Skeleton
    #: The batch size that the model was built for, if it takes no other.
    fixed_batch: int | None


class Arrangement(NamedTuple):
    """Inputs in the order of the model's, with how to pack them for it and for the user."""

    flat: list[Any]
    for_model: Skeleton
    for_user: Skeleton


class Labels(NamedTuple):
    """What a dataset says about its samples, which is not what a user asks to have explained.

    An operator of the package gets it in place of targets, and never takes it for weights.
    """

    values: Any


class Layout(NamedTuple):
    """How samples are packed, and of which shapes and dtypes they are, without the batch axis.

    Attributes
    ----------
    for_user
        How inputs are packed as the user packed them.
    input_specs
        Of each input, in the model's order.
    for_targets
        How the operator wants the targets packed; ``None`` if there are none.
    target_specs
        Of each target.
    """

    for_user: Skeleton
    input_specs: Sequence[tf.TensorSpec]
    for_targets: Skeleton | None = None
    target_specs: Sequence[tf.TensorSpec] = ()

    @property
    def specs(self) -> list[tf.TensorSpec]:
        """Of inputs and targets: of the arrays that `packed` takes."""
        return [*self.input_specs, *self.target_specs]

    def packed(self, arrays: Sequence[Any]) -> tuple[Structure, Structure | None]:
        """Return inputs x and targets y of a flat list of both, as an operator takes them."""
        count = len(self.input_specs)
        x = pack(self.for_user, arrays[:count])
        return x, None if self.for_targets is None else pack(self.for_targets, arrays[count:])


def leaves(structure: Structure) -> list[Any]:
    """Flatten lists, tuples and dicts (by sorted key); anything else is a leaf."""
    if isinstance(structure, Mapping):
        return [leaf for key in sorted(structure) for leaf in leaves(structure[key])]
    if isinstance(structure, (list, tuple)):
        return [leaf for part in structure for leaf in leaves(part)]
    return [structure]


def skeleton_of(structure: Structure) -> Skeleton:
    """Return `structure` with each leaf replaced by its position in ``leaves(structure)``."""
    positions = iter(range(len(leaves(structure))))

    def number(part: Structure) -> Skeleton:
        if isinstance(part, Mapping):
            numbered = {key: number(part[key]) for key in sorted(part)}
            return {key: numbered[key] for key in part}
        if isinstance(part, (list, tuple)):
            return like(part, [number(item) for item in part])
        return next(positions)

    return number(structure)


def pack(skeleton: Skeleton, flat: Sequence[Any]) -> Structure:
    """Put the items of `flat` where `skeleton` has their positions."""
    if isinstance(skeleton, dict):
        return {key: pack(part, flat) for key, part in skeleton.items()}
    if isinstance(skeleton, (list, tuple)):
        return like(skeleton, [pack(part, flat) for part in skeleton])
    return flat[skeleton]


def like(part: Any, items: list[Any]) -> Any:
    """Return a list, tuple or named tuple of the kind of `part` with other items."""
    if hasattr(part, "_fields"):
        return type(part)(*items)
    return tuple(items) if isinstance(part, tuple) else items
