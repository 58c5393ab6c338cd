"""Layer-wise relevance propagation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from xplique_sal._data.structures import GradientModifier, Operator
from xplique_sal._engine.recipe import Recipe
from xplique_sal._parameters import number
from xplique_sal._tracing import layer_paths
from xplique_sal.attributions.gap_base import GapExplainer, gap_details
from xplique_sal.errors import InvalidParameterError

#: The rules by name that keep denominators away from zero by `epsilon`.
_WITH_EPSILON = frozenset(
    {"epsilon", "attention", "epsilon_plus", "epsilon_plus_flat"}
    | {"epsilon_alpha2_beta1", "epsilon_gamma_box"}
)
#: A score of fewer ε than that may be lost to it.
_SMALL = 1000


class _Relevance(Recipe):
    """What the backward pass carries, as it is."""

    nb_details = 3

    def details(self, attributions: Sequence[tf.Tensor], scores: tf.Tensor) -> tf.Tensor:
        """Return the gap, Σ |attributions| and the score."""
        return gap_details(attributions, scores[:, 0])


class LRP(GapExplainer):
    """The score itself, handed back layer by layer to the values that it was computed from.

    Relevance starts as the score g: at an output f it is f·∂g/∂f, which is f·y for the default
    operator. Each linear step z_k = Σ_j a_j w_jk + b_k hands the relevance R_k of its outputs to
    its inputs, in the simplest case in proportion to what each of them adds to z_k,

        R_j = Σ_k a_j w_jk / (z_k + ε·sgn z_k) · R_k

    until the input is reached, whose relevance is the map: signed, and for images the sum over the
    channels. With w⁺ = max(w, 0), w⁻ = min(w, 0), and the same for a and b, a `rule` shares R_k
    out in proportion to

    - ``"zero"``: a·w, with 0 for 0/0;
    - ``"epsilon"``: a·w, the denominator kept away from zero by `epsilon`, which takes its share;
    - ``"gamma"``: a·w + γ·(a·w)⁺ where z > 0, a·w + γ·(a·w)⁻ where z < 0;
    - ``"zplus"``, ``"alpha1_beta0"``: (a·w)⁺ = a⁺w⁺ + a⁻w⁻, with b⁺ in the denominator;
    - ``"alpha2_beta1"``: twice (a·w)⁺, less once (a·w)⁻, each over a sum of its own;
    - ``"wsquare"``: w²; ``"flat"``: 1;
    - ``"zbox"``: a·w − l·w⁺ − h·w⁻, for inputs between l and h of `input_range`.

    Activations pass relevance on. Sums of activations and averages share it out in proportion,
    maxima give it to the largest value. Of a product of a gate (a sigmoid, say) and a signal the
    signal takes all; so it does of a quotient. Bias and batch normalisation belong to the linear
    step that they follow or precede. What a bias, ε or another constant adds takes its share of
    relevance along: `explain_with_gaps` tells what is missing. What only scales or shifts the
    input before anything is computed of it takes none.

    Layer normalisation passes nothing through its standard deviation. In LSTM, GRU and other
    recurrent cells the gates get nothing; words have the relevance of the output of their embedding
    (`wrt_layer`). With ``rule="attention"`` each of two activations that are multiplied, or two
    matrices of them, takes half, and a softmax s of x hands on x·(R − s·ΣR), which need not add up.

    A step that no rule covers is `NothingRewiredError` that names it: a product of two activations
    of which none is a gate, without ``rule="attention"``; a sum along an axis that keeps its parts;
    what is inside a SavedModel.

    The method is patented (EP3271863B1, US12061966B2). Whoever means to use it commercially should
    look into what that means for them.

    Parameters
    ----------
    rule
        Which rule is followed at the linear steps: one of the names above for all of them; a
        composite, ``"epsilon_plus"`` (ε at dense layers, z⁺ at convolutions),
        ``"epsilon_plus_flat"`` (and flat at the first linear step), ``"epsilon_alpha2_beta1"`` (ε
        at dense layers, α2β1 at convolutions) or ``"epsilon_gamma_box"`` (ε at dense layers, γ at
        convolutions, zᴮ at the first); ``"attention"``, ε at every linear step, which also covers
        products of two activations (each takes half) and their softmax; a function that is given
        each step, with the attributes `kind` (``"dense"`` or ``"convolution"``), `path` (of the
        layer), `type` (of TensorFlow's operation), `is_first` and `is_first_of_its_kind`, and
        returns one of these names, or a pair such as ``("epsilon", 0.25)``; or a mapping from
        layer paths to names and pairs, where ``None`` stands for the other layers.
    epsilon
        ε of the rule of that name, at least 0.
    gamma
        γ of the rule of that name, at least 0.
    input_range
        (l, h), the least and the largest value that an input can have: numbers, or arrays that
        broadcast to a sample. Only needed for zᴮ.
    fold_batch_norm
        Make batch normalisation part of the linear step that it follows or precedes, as
        canonisation does. Otherwise it is a step of its own, which shares relevance out between
        its input and what it adds.

    Warns
    -----
    UserWarning
        Once for each explainer: if for some sample more than half of the score is not found in the
        map.

    References
    ----------
    Bach, Binder, Montavon, Klauschen, Müller and Samek, "On Pixel-Wise Explanations for Non-Linear
    Classifier Decisions by Layer-Wise Relevance Propagation", 2015. Montavon, Lapuschkin, Binder,
    Samek and Müller, "Explaining NonLinear Classification Decisions with Deep Taylor
    Decomposition", 2017, section 4 (w², zᴮ, z⁺). Montavon, Binder, Lapuschkin, Samek and Müller,
    "Layer-Wise Relevance Propagation: An Overview", 2019, section 10.2 (γ, composites). Arras et
    al., "Explaining and Interpreting LSTMs", 2019, section 11.2 (gates). Achtibat et al.,
    "AttnLRP", 2024, section 3 (attention).
    """

    _recipe = _Relevance()
    _limit = 0.5  # with ε and biases, some always is missing
    _whole = "its score is"
    _cause = (
        "the rest belongs to no value of the input. Biases, what batch normalisations add, and "
        "other constants of the model take the share of the score that they make up."
    )

    def __init__(
        self,
        model: Any,
        output_layer: int | str | None = None,
        batch_size: int | str | None = 64,
        operator: Operator | str | None = None,
        reducer: str | None = "sum",
        *,
        rule: str | Callable[..., Any] | Mapping[str | None, Any] = "epsilon_plus",
        epsilon: float = 1e-6,
        gamma: float = 0.25,
        input_range: Sequence[Any] | None = None,
        output: int | str | None = None,
        logits: bool = False,
        wrt_layer: int | str | Sequence[int | str] | None = None,
        grad_modifier: GradientModifier | str | None = None,
        fold_batch_norm: bool = True,
        strategy: tf.distribute.Strategy | None = None,
        channel_axis: int | None = None,
    ) -> None:
        from xplique_sal._models.relevance.composites import Chosen
        from xplique_sal._models.relevance.propagation import Relevance

        self.rule = rule
        self.epsilon, self.gamma = number("epsilon", epsilon), number("gamma", gamma)
        self.input_range = input_range
        rules: Any = Relevance(
            Chosen(_with_whole_paths(model, rule), self.epsilon, self.gamma, input_range)
        )
        super().__init__(
            model,
            output_layer,
            batch_size,
            operator,
            reducer,
            output=output,
            logits=logits,
            wrt_layer=wrt_layer,
            grad_modifier=grad_modifier,
            backprop_modifier=rules,
            fold_batch_norm=fold_batch_norm,
            strategy=strategy,
            channel_axis=channel_axis,
        )

    def _cause_of(self, total: float, whole: float) -> str | None:
        has_epsilon = not isinstance(self.rule, str) or self.rule in _WITH_EPSILON
        if has_epsilon and abs(whole) < _SMALL * self.epsilon:
            return (
                f"ε = {self.epsilon:g} is not small beside a score, and sums, of that size, and "
                "takes what they have. Pass a smaller `epsilon`; weights as they are before "
                "training can make all activations vanish."
            )
        if abs(total) > abs(whole) or total * whole < 0:
            return (
                "where a bias, or what a batch normalisation adds, nearly cancels a sum, the "
                "share of its inputs is far more than the whole. Pass a larger `epsilon`, or a "
                'rule whose shares have one sign, such as "epsilon_plus".'
            )
        return self._cause


def _with_whole_paths(model: Any, rule: Any) -> Any:
    """Return a mapping with the path of each layer as a trace finds it; other rules as they are."""
    if not isinstance(rule, Mapping):
        return rule
    whole: dict[str | None, Any] = {}
    for path, value in rule.items():
        if path is None:
            whole[path] = value
            continue
        layer = layer_paths.find(model, path).layer
        found = layer_paths.path_of(model, layer)
        if found is None:
            raise InvalidParameterError(
                "a `rule` for layers that have a path",
                repr(path),
                "Pass a function of a step, or the path of a layer around it.",
            )
        whole[found] = value
    return whole
