"""Which rule is followed at which linear step: one for all, by their kind, or as a user says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from xplique_sal._models.relevance.reading import (
    active_inputs,
    from_source,
    is_first,
    kind,
    replaced,
)
from xplique_sal._models.relevance.rules import RULES, Settings
from xplique_sal._models.rules.rule_set import Step
from xplique_sal._tracing.held import HeldCallable, weakly_referable
from xplique_sal.errors import InvalidParameterError


class LinearStep(NamedTuple):
    """A linear step of a model, as a user's function is told of it.

    Attributes
    ----------
    kind
        ``"dense"`` or ``"convolution"``.
    path
        The path of the layer that it is in; ``None`` where it is in none.
    type
        TensorFlow's type of the operation, such as ``"Conv2D"``.
    is_first
        Whether no other linear step is between it and the input.
    is_first_of_its_kind
        Whether no other of the same kind is.
    """

    kind: str
    path: str | None
    type: str
    is_first: bool
    is_first_of_its_kind: bool


def _by_kind(dense: str, convolution: str) -> Callable[[LinearStep], str]:
    return lambda step: convolution if step.kind == "convolution" else dense


def _flat_first(step: LinearStep) -> str:
    return "flat" if step.is_first else COMPOSITES["epsilon_plus"](step)


def _box_first(step: LinearStep) -> str:
    if step.kind == "dense":
        return "epsilon"
    return "zbox" if step.is_first_of_its_kind else "gamma"


#: The rules that depend on the step.
COMPOSITES: dict[str, Callable[[LinearStep], str]] = {
    "epsilon_plus": _by_kind("epsilon", "zplus"),
    "epsilon_plus_flat": _flat_first,
    "epsilon_alpha2_beta1": _by_kind("epsilon", "alpha2_beta1"),
    "epsilon_gamma_box": _box_first,
    "attention": _by_kind("epsilon", "epsilon"),
}
#: What a mapping says of the layers that it does not name.
_OF_OTHERS = "epsilon_plus"


class Chosen:
    """The choice of rules, with their numbers.

    Parameters
    ----------
    rule
        A name of `RULES` or `COMPOSITES`; a function from a `LinearStep` to one, or to a pair of a
        rule's name and its number; or a mapping from layer paths to these.
    epsilon, gamma
        The numbers of the rules where a pair does not say another.
    input_range
        The least and the largest value of the input.

    Raises
    ------
    InvalidParameterError
        If there is no such rule, or one needs an `input_range` that is missing.
    """

    def __init__(self, rule: Any, epsilon: float, gamma: float, input_range: Any) -> None:
        self._epsilon, self._gamma = epsilon, gamma
        self._range = None if input_range is None else _as_range(input_range)
        self._rule = rule
        if isinstance(rule, Mapping):
            self._rule = {path: self._checked(value) for path, value in rule.items()}
        elif isinstance(rule, str) or not callable(rule):
            self._checked(rule)
        else:
            self._rule = weakly_referable(rule)

    @property
    def has_attention(self) -> bool:
        """Whether products of two activations have a rule."""
        return not isinstance(self._rule, str) or self._rule == "attention"

    @property
    def key(self) -> tuple[Any, ...]:
        """A hashable value, equal for choices under which the same is traced."""
        rule = self._rule
        shown: Any = tuple(rule.items()) if isinstance(rule, dict) else rule
        if not isinstance(rule, (str, dict, tuple)):
            shown = HeldCallable(rule)
        bounds = [] if self._range is None else [(a.tobytes(), a.shape) for a in self._range]
        return (shown, self._epsilon, self._gamma, *bounds)

    def rule(self, step: Step) -> tuple[str, Settings]:
        """Return the name of the rule of a linear step, and its numbers."""
        op, around = step.op, step.around
        told = LinearStep(
            kind(op), around.path(op), op.type, is_first(op, around), is_first(op, around, True)
        )
        wanted = self._checked(self._of(told))
        name, number = wanted if isinstance(wanted, tuple) else (wanted, None)
        if name in COMPOSITES:
            name = COMPOSITES[name](told)
        settings = Settings(self._epsilon, self._gamma)
        if name == "zbox":
            limits = _as_range(self._range if number is None else number)
            low, high = self._bounds(step, limits)
            settings = settings._replace(low=low, high=high)
        elif number is not None:
            settings = settings._replace(**{name: float(number)})
        return name, settings

    def _of(self, step: LinearStep) -> Any:
        if isinstance(self._rule, dict):
            path = step.path or ""
            inside = [key for key in self._rule if key and f"{path}/".startswith(f"{key}/")]
            found = max(inside, key=len, default=None)
            return self._rule.get(found, _OF_OTHERS)
        return self._rule if isinstance(self._rule, (str, tuple)) else self._rule(step)

    def _checked(self, rule: Any) -> Any:
        name, number = rule if isinstance(rule, tuple) and len(rule) == 2 else (rule, None)
        known = isinstance(name, str) and (name in RULES or name in COMPOSITES)
        if not known or (number is not None and name not in ("epsilon", "gamma", "zbox")):
            raise InvalidParameterError(
                "a `rule` among " + ", ".join(map(repr, [*RULES, *COMPOSITES])),
                repr(rule),
                "Pass one of these; a function of a step, or a mapping from layer paths, to one of "
                'them or to a pair such as ("epsilon", 0.25).',
            )
        if name in ("zbox", "epsilon_gamma_box") and number is None and self._range is None:
            raise InvalidParameterError(
                f"an `input_range` for the rule {name!r}",
                "None",
                "Pass (low, high), the least and the largest value that an input can have, such as "
                "(0, 255).",
            )
        return rule

    def _bounds(self, step: Step, limits: tuple[np.ndarray, np.ndarray]) -> list[tf.Tensor]:
        """Return the bounds of a step's input, computed from those of the model's where it can be.

        What is between, if it only moves, scales or shifts values, is done to the bounds, too.
        """
        tensor = step.inputs[active_inputs(step.op, step.around)[0]]
        chain = from_source(tensor, step.around)
        if chain is None:
            return [tf.constant(limit, tensor.dtype) for limit in limits]
        if chain:
            tensor = chain[0].inputs[active_inputs(chain[0], step.around)[0]]
        found = []
        for limit in limits:
            inner = tensor
            value = tf.broadcast_to(tf.cast(limit, tensor.dtype), tf.shape(tensor))
            for op in chain:
                value, inner = replaced(op, inner, value), op.outputs[0]
            found.append(value)
        return [tf.minimum(*found), tf.maximum(*found)]


def _as_range(value: Any) -> tuple[np.ndarray, np.ndarray]:
    try:
        low, high = (np.asarray(limit, np.float32) for limit in value)
        fits = bool(np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all())
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise InvalidParameterError(
            "an `input_range` of two limits, the lower first",
            repr(value),
            "Pass (low, high): numbers, or arrays that broadcast to a sample.",
        )
    return low, high
