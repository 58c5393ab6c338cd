"""DeepLIFT: multipliers between a sample and its baseline, in place of derivatives.

Samples and baselines run together, as rows of the same tensors. At each operation y = φ(x) a
gradient is a multiplier m, and a rule returns m_x such that Σ m_x·(x − r) = Σ m·(φ(x) − φ(r)),
where r is what the same tensor holds for the baseline. So the multipliers at the source, times the
difference there, add up to the change of the score.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

import tensorflow as tf

from xplique_sal._models.rules import operations
from xplique_sal._models.rules.rule_set import Rule, RuleSet, Step
from xplique_sal.errors import NothingRewiredError

#: A difference of x and r counts as none if it is at most so many rounding errors of them.
_ROUNDINGS = 8
#: Two values of a baseline are the same maximum if they differ by at most so many of them.
_TIES = 64
_EPSILON = {tf.float64: 2.0**-52, tf.float32: 2.0**-23, tf.float16: 2.0**-10, tf.bfloat16: 2.0**-7}


class Pairs(NamedTuple):
    """Which row belongs to which, for as long as multipliers are computed.

    The rows of every tensor are as many blocks of equal length, and each is compared with one of
    them.

    Attributes
    ----------
    blocks
        How many blocks there are.
    index
        The one that all are compared with.
    at_baselines
        Whether the multipliers are in the rows of baselines, and not of samples.
    """

    blocks: tf.Tensor
    index: tf.Tensor
    at_baselines: bool | tf.Tensor


_pairs: ContextVar[Pairs | None] = ContextVar("pairs", default=None)


@contextlib.contextmanager
def paired(pairs: Pairs) -> Iterator[None]:
    """Compute multipliers in this block, of this thread, for these pairs."""
    token = _pairs.set(pairs)
    try:
        yield
    finally:
        _pairs.reset(token)


class Rescale(RuleSet):
    """Shrikumar et al.'s rule Rescale for every nonlinear operation.

    What is linear keeps its derivative. Products of two activations, quotients and maxima share
    their difference out exactly; softmax and normalisation are computed as what they are made of.
    """

    noun = "operations that DeepLIFT has a rule for"
    needs_one = False
    reaches_scores = True
    remedy = (
        "Explain it by `IntegratedGradients` or `GradientShap`, which need gradients alone, or "
        "compute that step by others: a sum, a product, an activation."
    )

    def __init__(self, max_pooling: str = "exact") -> None:
        self._max_pooling = max_pooling
        super().__init__(_rules(POOLINGS[max_pooling]), _KEPT)

    @property
    def key(self) -> tuple[Any, ...]:
        """A hashable value, equal for sets under which the same is traced."""
        return (type(self), self._max_pooling)


def _rules(largest: Rule) -> dict[str, Rule]:
    found: dict[str, Rule] = dict.fromkeys(operations.UNARY - {"Neg", "Square"}, _rescaled)
    found |= dict.fromkeys(operations.BILINEAR, _multiplied)
    found |= dict.fromkeys(("Mul", "SquaredDifference", "Square"), _multiplied)
    found |= dict.fromkeys(("RealDiv", "Div", "DivNoNan"), _divided)
    found |= dict.fromkeys(("Maximum", "Minimum", "Pow"), _of_two)
    found |= dict.fromkeys(("MaxPool", "MaxPool3D", "Max", "Min"), largest)
    found |= dict.fromkeys(("Select", "SelectV2"), _selected)
    found["Relu"] = _rectified
    found |= {"Softmax": _softmax, "LogSoftmax": _log_softmax}
    found |= dict.fromkeys(("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"), _normalised)
    return {name: _where_paired(rule) for name, rule in found.items()}


def _where_paired(rule: Rule) -> Rule:
    """Return a rule that is the derivative where there is nothing to compare with."""
    return lambda step: rule(step) if _pairs.get(None) else step.plain(*step.gradients)


#: What is linear in all of its inputs together, and keeps its derivative.
_KEPT = (
    (operations.MOVES - {"Select", "SelectV2", "TopKV2", "DynamicPartition", "DynamicStitch"})
    | (operations.MEANS | operations.SUMS | operations.CALLS)
    | {"Neg", "Cumsum", "ZerosLike", "OnesLike", "StopGradient", "AccumulateNV2", "Fill"}
    | {"ResizeBicubic", "MatrixDiagPart", "MatrixDiag", "IdentityN"}
)


def _rescaled(step: Step) -> list[tf.Tensor]:
    """m·Δy/Δx, or the derivative where Δx is next to nothing."""
    _check_seen(step, step.inputs[1:])
    (g, *_) = step.gradients
    (x, other_x), (y, other_y) = (_blocks(part, step) for part in (*step.inputs[:1], *step.outputs))
    plain, change = (tf.reshape(part, tf.shape(x)) for part in (step.plain(g)[0], g))
    return [
        _rows(tf.where(_is_near(x, other_x), plain, change * _ratio(y - other_y, x, other_x)), step)
    ]


def _rectified(step: Step) -> list[tf.Tensor]:
    """m·Δy/Δx of y = max(x, 0), in which nothing cancels: (y + y_r)/(|x| + |r|)."""
    _check_seen(step, step.inputs[1:])
    (x, other_x), (y, other_y) = (_blocks(part, step) for part in (*step.inputs, *step.outputs))
    change = tf.reshape(step.gradients[0], tf.shape(x))
    share = tf.math.divide_no_nan(y + other_y, tf.abs(x) + tf.abs(other_x))
    return [_rows(change * share, step)]


def _multiplied(step: Step) -> list[Any]:
    """Take the derivative halfway between x and r, which is exact of what is of degree two."""
    # The mean in a variance is held: with it or without, the squares around it add up to the same.
    is_square = step.op.type in ("Square", "SquaredDifference")
    _check_seen(step, () if is_square else step.inputs)
    if sum(step.active) < 2 and not is_square:
        return step.plain(*step.gradients)
    halfway = [
        (tensor + _other(tensor, step)) / 2 if active or is_square else tensor
        for tensor, active in zip(step.inputs, step.active, strict=True)
    ]
    return step.plain_at(halfway, step.outputs, *step.gradients)


def _divided(step: Step) -> list[Any]:
    """Of u/v, the quotient as a product of u and 1/v."""
    _check_seen(step, step.inputs)
    if not step.active[1]:
        return step.plain(*step.gradients)
    (u, v), (g, *_) = step.inputs, step.gradients
    other_u, other_v = _other(u, step), _other(v, step)
    to_u = _fitted(g * (1 / v + 1 / other_v) / 2, u)
    return [to_u, _fitted(-g * (u + other_u) / (2 * v * other_v), v)]


def _of_two(step: Step) -> list[Any]:
    """Of φ(u, v), each one's part of the difference, averaged over which of them changes first."""
    _check_seen(step, step.inputs)
    (u, v), (g, *_) = step.inputs, step.gradients
    other_u, other_v = _other(u, step), _other(v, step)
    function = {"Maximum": tf.maximum, "Minimum": tf.minimum, "Pow": tf.pow}[step.op.type]
    both, neither = function(u, v), function(other_u, other_v)
    of_u, of_v = function(u, other_v), function(other_u, v)
    found: list[Any] = []
    plain = [g * part for part in _slopes(step)]
    for number, (tensor, other, change) in enumerate(
        (
            (u, other_u, both - of_v + of_u - neither),
            (v, other_v, both - of_u + of_v - neither),
        )
    ):
        if not step.active[number]:
            found.append(None)
            continue
        near = _is_near(tensor, other)
        multiplier = tf.where(near, plain[number], g * _ratio(change / 2, tensor, other))
        found.append(_fitted(multiplier, tensor))
    return found


def _slopes(step: Step) -> list[tf.Tensor]:
    """Return the derivatives of an operation of two inputs, in the shape of its output."""
    u, v = step.inputs
    if step.op.type == "Pow":
        y = step.outputs[0]
        return [v * tf.pow(u, v - 1), y * tf.math.log(tf.where(u > 0, u, tf.ones_like(u)))]
    is_u = u >= v if step.op.type == "Maximum" else u <= v
    of_u = tf.cast(is_u, u.dtype)
    return [of_u, 1 - of_u]


def _largest(step: Step) -> list[Any]:
    """Lead the change up to the larger of both maxima to where x has its own, the rest to r's.

    Where r has its maximum at several places, and one of them is that of x, all is led there.
    """
    if step.op.type in ("Max", "Min") and not _has_rows(step.outputs[0]):
        _refuse(step, "samples that are compared with each other")
    if step.op.type == "MaxPool" and _has_places(step.op):
        return _pooled(step)
    x, y, r, y_r, g = _sample_and_baseline(step)
    rest = step.inputs[1:]
    to_x, to_r = _shares(step, y, y_r, _at_largest(step, x, y, r))
    of_x = step.plain_at([x, *rest], [y], g * to_x)[0]
    of_r = step.plain_at([r, *rest], [y_r], g * to_r)[0]
    return [tf.math.divide_no_nan(of_x + of_r, x - r)]


def _shares(
    step: Step, y: tf.Tensor, y_r: tf.Tensor, there: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return which parts of y − y_r go to where x and r have their maxima; `there` is r at x's."""
    between = tf.minimum(y, y_r) if step.op.type == "Min" else tf.maximum(y, y_r)
    least = _TIES * _EPSILON[y.dtype] * (tf.abs(y_r) + tf.abs(there))
    is_same = tf.abs(y_r - there) <= least
    return (
        tf.where(is_same, y - y_r, between - y_r),
        tf.where(is_same, tf.zeros_like(y), y - between),
    )


def _pooled(step: Step) -> list[tf.Tensor]:
    """Do what `_largest` does by the places of maxima, which are looked for once for each row."""
    (x, *_), (y, *_), (g, *_) = step.inputs, step.outputs, step.gradients
    places, pairs, shape = _places(step), _now(), tf.shape(x, tf.int64)
    length = shape[0] // tf.cast(pairs.blocks, tf.int64)
    rows = tf.range(shape[0])
    others = tf.cast(pairs.index, tf.int64) * length + rows % length
    other_places, other_y = tf.gather(places, others), tf.gather(y, others)

    def held(rows: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
        first = tf.reshape(rows * tf.reduce_prod(shape[1:]), [-1, 1, 1, 1])
        return tf.gather(tf.reshape(x, [-1]), first + places)

    own = (y, held(others, places))
    other = (other_y, held(rows, other_places))
    (y_x, r_there), (y_r, x_there) = _ordered(own, other)
    to_x, to_r = _shares(step, y_x, y_r, r_there)
    to_x = g * tf.math.divide_no_nan(to_x, y_x - r_there)
    to_r = g * tf.math.divide_no_nan(to_r, x_there - y_r)
    (to_own,), (to_other,) = _ordered((to_x,), (to_r,))
    window = _window(step)
    found = [
        tf.raw_ops.MaxPoolGradWithArgmax(
            input=x, grad=tf.reshape(part, tf.shape(y)), argmax=argmax, **window
        )
        for part, argmax in ((to_own, places), (to_other, other_places))
    ]
    return [found[0] + found[1]]


def _has_places(op: tf.Operation) -> bool:
    """Tell whether TensorFlow can say of a pooling where its maxima are."""
    return op.get_attr("data_format") == b"NHWC" and op.get_attr("padding") != b"EXPLICIT"


def _places(step: Step) -> tf.Tensor:
    """Return where each row has its maxima, as positions among its values: the first of equals."""
    known: dict[tuple[int, str], tf.Tensor] = step.around.kept.setdefault("places", {})
    graph, key = step.op.graph, (id(step.op.graph), step.op.name)
    if key in known:
        return known[key]
    around = tf.compat.v1.get_default_graph()
    while around is not None and around is not graph:
        around = getattr(around, "outer_graph", None)
    # Baselines and outputs are looped over around the graph of the model: places stay the same.
    with contextlib.nullcontext() if around is None else graph.as_default():
        _, found = tf.raw_ops.MaxPoolWithArgmax(input=step.inputs[0], **_window(step))
        found = tf.maximum(found, 0)  # it is none where all is NaN, which scores tell
    if around is not None:
        known[key] = found
    return found


def _window(step: Step) -> dict[str, Any]:
    return {name: step.op.get_attr(name) for name in ("ksize", "strides", "padding")}


def _largest_of_sample(step: Step) -> list[Any]:
    """Lead all to where x has its maximum: the derivative there."""
    x, y, _, _, g = _sample_and_baseline(step)
    return step.plain_at([x, *step.inputs[1:]], [y], g)[:1]


def _sample_and_baseline(step: Step) -> tuple[tf.Tensor, ...]:
    """Return (x, y, r, y of r, g), whichever rows the multipliers are in."""
    x, y, g = step.inputs[0], step.outputs[0], step.gradients[0]
    own, other = _ordered((x, y), (_other(x, step), _other(y, step)))
    return (*own, *other, g)


def _ordered(own: tuple[Any, ...], other: tuple[Any, ...]) -> Any:
    """Return what is of samples and what of baselines; or, of these, what is of the rows."""
    at_baselines = _now().at_baselines
    if isinstance(at_baselines, bool):
        return (other, own) if at_baselines else (own, other)
    return tf.cond(at_baselines, lambda: (other, own), lambda: (own, other))


def _at_largest(step: Step, x: tf.Tensor, y: tf.Tensor, r: tf.Tensor) -> tf.Tensor:
    """Return what r is where x has its maximum, in the shape of y."""
    if step.op.type in ("Max", "Min"):
        shares = step.plain_at([x, *step.inputs[1:]], [y], tf.ones_like(y))[0]
        keepdims = step.op.get_attr("keep_dims")
        return tf.reduce_sum(shares * r, step.inputs[1], keepdims=keepdims)
    again = {"MaxPool": tf.raw_ops.MaxPoolGradGrad, "MaxPool3D": tf.raw_ops.MaxPool3DGradGrad}
    names = ("ksize", "strides", "padding", "data_format")
    options = {name: step.op.get_attr(name) for name in names}
    return again[step.op.type](orig_input=x, orig_output=y, grad=r, **options)


#: What is done at maxima of several values.
POOLINGS: dict[str, Rule] = {"exact": _largest, "gradient": _largest_of_sample}


def _selected(step: Step) -> list[Any]:
    """Keep the derivative, where the condition is no function of the sample."""
    _check_seen(step, step.inputs[:1])
    return step.plain(*step.gradients)


def _softmax(step: Step) -> list[tf.Tensor]:
    """Of exponentials, their sum, and the quotients of both."""
    x, (g, *_) = step.inputs[0], step.gradients
    (e, s), (other_e, other_s), slope = _exponentials(x, step)
    of_sum = tf.reduce_sum(g * (e + other_e), -1, keepdims=True) / (2 * s * other_s)
    return [(g * (1 / s + 1 / other_s) / 2 - of_sum) * slope]


def _log_softmax(step: Step) -> list[tf.Tensor]:
    """Of x minus the logarithm of a sum of exponentials."""
    x, (g, *_) = step.inputs[0], step.gradients
    (_, s), (_, other_s), slope = _exponentials(x, step)
    change = _ratio(tf.math.log(s) - tf.math.log(other_s), s, other_s)
    of_log = tf.where(_is_near(s, other_s), 1 / s, change)
    return [g - tf.reduce_sum(g, -1, keepdims=True) * of_log * slope]


def _exponentials(x: tf.Tensor, step: Step) -> Any:
    """Return exp(x − c) and its sum, the same of r, and Δexp/Δx; c is between their maxima."""
    other = _other(x, step)
    tops = [tf.reduce_max(part, -1, keepdims=True) for part in (x, other)]
    level = (tops[0] + tops[1]) / 2
    e, other_e = tf.exp(x - level), tf.exp(other - level)
    slope = tf.where(_is_near(x, other), e, _ratio(e - other_e, x, other))
    slope = tf.where((e == 0) & (other_e == 0), tf.zeros_like(e), slope)  # also of −∞
    sums = [tf.reduce_sum(part, -1, keepdims=True) for part in (e, other_e)]
    return (e, sums[0]), (other_e, sums[1]), slope


def _normalised(step: Step) -> list[Any]:
    """Of a normalisation by its own mean and variance: their differences, squares and root."""
    if not step.op.get_attr("is_training"):
        return step.plain(*step.gradients)
    x, scale, g = step.inputs[0], step.inputs[1], step.gradients[0]
    axis = 1 if step.op.get_attr("data_format")[:2] == b"NC" else x.shape.rank - 1
    others = [number for number in range(x.shape.rank) if number != axis]
    if x.shape[axis] is not None or x.shape[others[0]] is None:
        _refuse(step, "samples that are normalised with each other")
    shape = [1] * x.shape.rank
    shape[axis] = -1
    g *= tf.reshape(scale, shape)
    epsilon = step.op.get_attr("epsilon")

    def centred(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        d = x - tf.reduce_mean(x, others, keepdims=True)
        return d, tf.math.rsqrt(tf.reduce_mean(tf.square(d), others, keepdims=True) + epsilon)

    (d, s), (other_d, other_s) = centred(x), centred(_other(x, step, axis))
    to_s = tf.reduce_sum(g * (d + other_d), others, keepdims=True) / 2
    to_variance = -to_s * tf.square(s * other_s) / (s + other_s)
    count = tf.cast(tf.reduce_prod(tf.gather(tf.shape(x), others)), x.dtype)
    to_d = g * (s + other_s) / 2 + to_variance * (d + other_d) / count
    return [to_d - tf.reduce_mean(to_d, others, keepdims=True)]


def _other(tensor: tf.Tensor, step: Step, axis: int | None = None) -> tf.Tensor:
    """Return, for each row of a tensor, what its other one holds; a weight is what it is."""
    each, other = _blocks(tensor, step, axis)
    if other is tensor:
        return tensor
    return tf.ensure_shape(
        tf.reshape(tf.broadcast_to(other, tf.shape(each)), tf.shape(tensor)), tensor.shape
    )


def _blocks(tensor: tf.Tensor, step: Step, axis: int | None = None) -> tuple[tf.Tensor, tf.Tensor]:
    """Return a tensor cut into blocks of rows, and the block that these are compared with.

    The rows are along `axis`, or along the only one of which the length is not known. A weight has
    none: it is returned as it is, twice.
    """
    if not _has_rows(tensor):
        if step.around.depends(tensor):
            _refuse(step, "a tensor that has no row for each sample")
        return tensor, tensor
    unknown = [number for number, size in enumerate(tensor.shape) if size is None]
    if axis is None and unknown[0] and len(unknown) > 1:
        _refuse(
            step,
            f"a tensor of the shape {tensor.shape}, of which it is not known where the samples are",
        )
    axis = unknown[0] if axis is None else axis
    shape, pairs = tf.shape(tensor), _now()
    split = tf.concat(
        [shape[:axis], [pairs.blocks, shape[axis] // pairs.blocks], shape[axis + 1 :]], 0
    )
    each = tf.reshape(tensor, split)
    return each, tf.gather(each, [pairs.index], axis=axis)


def _rows(blocks: tf.Tensor, step: Step) -> tf.Tensor:
    """Return blocks as the rows that the input of an operation has."""
    x = step.inputs[0]
    return tf.ensure_shape(tf.reshape(blocks, tf.shape(x)), x.shape)


def _now() -> Pairs:
    pairs = _pairs.get()
    assert pairs is not None
    return pairs


def _has_rows(tensor: tf.Tensor) -> bool:
    return tensor.shape.rank is None or None in tensor.shape.as_list()


def _is_near(x: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """Tell where a difference is no more than rounding."""
    least = _ROUNDINGS * _EPSILON[x.dtype]
    return tf.abs(x - other) <= least * (tf.abs(x) + tf.abs(other))


def _ratio(change: tf.Tensor, x: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    return tf.math.divide_no_nan(change, x - other)


def _fitted(gradient: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """Return a gradient of what was broadcast, summed to the shape that it had before."""
    shape, target = tf.shape(gradient), tf.shape(like)
    axes, _ = tf.raw_ops.BroadcastGradientArgs(s0=target, s1=shape)
    return tf.reshape(tf.reduce_sum(gradient, axes), target)


#: Results that do not hang on the values that are given: of a tensor of that name, which is the
#: same for a sample and its baselines, and of these types.
CHOSEN = "output_of_the_sample"
_VALUELESS = ("Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike")


def _check_seen(step: Step, inputs: Sequence[tf.Tensor]) -> None:
    """Refuse an input that changes with the sample on a way that has no derivative."""
    for tensor in inputs:
        if not step.around.depends(tensor) and _is_behind(tensor, step.around.depends):
            _refuse(step, f"{tensor.op.name!r}, which changes with the sample in jumps")


def _is_behind(tensor: tf.Tensor, depends: Callable[[tf.Tensor], bool]) -> bool:
    """Tell whether a tensor is computed of one that depends on the sources, in any way."""
    seen, waiting = set(), [tensor.op]
    while waiting:
        op = waiting.pop()
        is_chosen = op.name.rpartition("/")[2].startswith(CHOSEN)
        if op.name in seen or op.type in _VALUELESS or is_chosen:
            continue
        seen.add(op.name)
        if any(map(depends, op.inputs)):
            return True
        waiting += [part.op for part in op.inputs]
    return False


def _refuse(step: Step, what: str) -> None:
    raise NothingRewiredError(
        f"steps that DeepLIFT can follow, but {step.name} has", what, Rescale.remedy
    )
