"""The explainers' base: what every method shares, from inputs to results."""

from __future__ import annotations

import abc
import functools
import inspect
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, final

import numpy as np
import tensorflow as tf

from xplique_sal import grad_modifiers, operators
from xplique_sal._data.checks import check_computed
from xplique_sal._data.outputs import check_classes
from xplique_sal._data.samples import Batch, DatasetSamples, Samples, concatenate, read_samples
from xplique_sal._data.structures import (
    GradientModifier,
    Labels,
    Operator,
    Structure,
    leaves,
    pack,
)
from xplique_sal._data.targets import LabelsOfOutput
from xplique_sal._engine import reducers
from xplique_sal._engine.batch_size import BatchSize
from xplique_sal._engine.complaints import not_finite_elsewhere
from xplique_sal._engine.gradient_runner import GradientRunner
from xplique_sal._engine.question import Question
from xplique_sal._engine.recipe import PointsRecipe, Recipe
from xplique_sal._engine.request import Explained, Request, Told
from xplique_sal._engine.score_runner import ScoreRunner, SettledScore
from xplique_sal._models import devices
from xplique_sal._models.black_box import PlainFunction
from xplique_sal._models.given import check_unmasked
from xplique_sal._models.rules.rewiring import Rewiring
from xplique_sal._models.view import ModelView, function_of
from xplique_sal._parameters import one_of
from xplique_sal._tracing import keras_compat, substitutes
from xplique_sal.attributions.signatures import described, parameters_of, with_inherited_sections
from xplique_sal.errors import (
    ExportError,
    InvalidInputError,
    InvalidOperatorError,
    InvalidParameterError,
    InvalidTargetError,
    NoGradientError,
)


class BlackBoxExplainer(abc.ABC):
    """Base of all explainers, and of those that need nothing of a model but its outputs.

    A method implements `explain_batch`; everything else is here: reading inputs and targets,
    batching, progress, warnings, and joining the results.

    Parameters
    ----------
    model
        What is explained: a tf-keras or Keras 3 model of any kind, a `tf.Module`, a loaded
        SavedModel or a signature of it, any function of tensors or, for methods that need no
        gradient, any callable, anything with `predict_proba` or `predict`, a TFLite interpreter.
        It is never changed.
    batch_size
        The most samples that the model is given at once, which bounds the memory needed; ``None``
        is all at once; ``"auto"`` finds the fastest by measuring, while it explains. Where memory
        runs out, it is halved.
    operator
        The score to explain: a callable g(f, x, y) that returns one score for each sample, (N,);
        a member of `Tasks` or a task's name. ``None`` is Σ f(x)·y over the outputs. One that
        returns a scalar for its whole batch is given one sample at a time.
    output_layer
        What is explained: ``None`` is the model's output; an integer indexes ``model.layers``; a
        string is a layer's name, or a path through nested models such as ``"backbone/conv5"``.
        ``"name:1"`` is the second call of a layer that is called more than once.
    output
        Of a model with several outputs, the one to explain, by index, name or dict key.
    logits
        Explain the score before a final softmax, sigmoid or log-softmax, also where a layer has
        it fused in or other layers move its values.

    Raises
    ------
    InvalidModelError
        If `model` is of no kind that can be explained.
    InvalidParameterError
        If a parameter has a value that does not exist.
    InvalidOperatorError
        If `operator` is no operator.
    """

    #: Whether `explain_batch` takes a score of several outputs, and returns (N, K, ...) of them.
    _shares_outputs: ClassVar[bool] = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.__doc__ = with_inherited_sections(cls)

    def __init__(
        self,
        model: Any,
        batch_size: int | str | None = 64,
        operator: Operator | str | None = None,
        *,
        output_layer: int | str | None = None,
        output: int | str | None = None,
        logits: bool = False,
    ) -> None:
        self._bound = BatchSize(batch_size)
        self.operator = operator
        self.output_layer = output_layer
        self.output = output
        self.logits = bool(logits)
        self._operator = operators.resolve(operator)
        self._warned: set[str] = set()
        #: f: callable on a batch, returning what is explained.
        self.model: ModelView | PlainFunction = function_of(
            model,
            output_layer=output_layer,
            output=output,
            logits=logits,
            takes_all_outputs=self._operator.check_targets is None,
        )
        self._scores = ScoreRunner(self.model, self._operator, self._bound)
        self._given_model = model.model if isinstance(model, ModelView) else model

    def __setattr__(self, name: str, value: Any) -> None:
        if name in vars(self) and name in parameters_of(type(self)):
            # What is compiled was made for the first value: another would have no effect.
            raise AttributeError(
                f"Expected `{name}` of a {type(self).__name__} to stay as it was made, but it was "
                f"set to {value!r}. Make another explainer with it."
            )
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        return described(type(self), self._arguments())

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle an explainer as what it was made from: nothing compiled goes along."""
        missing = parameters_of(type(self)).keys() - self._arguments().keys()
        if missing:
            raise TypeError(
                f"Expected every parameter of {type(self).__name__} as an attribute of its name, "
                f"to copy or pickle it, but {sorted(missing)} are none. Keep them in `__init__`."
            )
        return functools.partial(type(self), **self._arguments()), ()

    def _arguments(self) -> dict[str, Any]:
        """Return the parameters that another explainer like this one is made from."""
        found = {
            name: getattr(self, name) for name in parameters_of(type(self)) if hasattr(self, name)
        }
        return {**found, "model": self._given_model, "batch_size": self._bound.asked}

    @property
    def batch_size(self) -> int | None:
        """The most samples that the model is given at once, as it is now.

        It differs from what was asked for where it was searched, and where memory ran out.
        """
        return self._bound.most

    @abc.abstractmethod
    def explain_batch(
        self, score: SettledScore, inputs: Structure, targets: Structure | None
    ) -> Structure:
        """Return the maps of one batch: what a method of one's own implements.

        It is called by `explain` and the other calls, which do the rest. Of several outputs, as
        `explain_outputs` asks for them, it is called for one after the other.

        Parameters
        ----------
        score
            The score to explain: ``score(changed)`` returns those of changed copies of the samples,
            (N,) or (copies · N,), in float64, giving the model no more than a batch at once.
            ``score.values`` are the samples' own, (N,).
        inputs
            The samples (N, ...), packed as the user packed them, as tensors of the dtypes that the
            model takes.
        targets
            What is explained of each: as the user passed it, or, where ``None`` was passed, the
            index of its largest output, (N,).

        Returns
        -------
        maps
            One number for each value of the inputs, or an array that is as long, (N, ...); packed
            as the inputs.
        """

    def _explain_batch(self, request: Request, batch: Batch) -> Explained:
        """Return the maps of one batch, one for each sample, (N, ...).

        Where `request.outputs` are asked for, there are K of each, (N, K, ...).
        """
        score = self._scores.settled(request, batch)
        if request.outputs is None or self._shares_outputs:
            maps = self._maps_of(request, score, batch.size)
        else:
            each = [self._maps_of(request, one, batch.size) for one in score.each_output()]
            maps = [tf.stack(maps_of_input, 1) for maps_of_input in zip(*each, strict=True)]
        scores, largest = score.values.astype(np.float32), None
        if request.samples.for_targets is None and score.targets is not None:
            largest = np.asarray(score.targets, np.float32)
        return Explained([*maps], scores, one_by_one=self._scores.one_by_one, largest=largest)

    def _maps_of(self, request: Request, score: SettledScore, size: int) -> list[tf.Tensor]:
        """Return the maps of `explain_batch`, checked, in the model's order of inputs."""
        packed = self.explain_batch(score, score.inputs, score.targets)
        skeleton = request.samples.for_user
        maps = [tf.cast(tf.convert_to_tensor(part), tf.float32) for part in leaves(packed)]
        positions = leaves(skeleton)
        if len(maps) != len(positions) or any(map_.shape[:1] != [size] for map_ in maps):
            raise InvalidParameterError(
                f"an `explain_batch` that returns {len(positions)} arrays of {size} maps, packed "
                "as its inputs",
                f"the shapes {', '.join(str(tuple(map_.shape)) for map_ in maps)}",
                "Return one map for each sample, on the first axis.",
            )
        by_position = dict(zip(positions, maps, strict=True))
        return [by_position[position] for position in range(len(maps))]

    @final
    def explain(
        self, inputs: Structure, targets: Structure | None = None, *, verbose: int = 0
    ) -> Any:
        """Return one explanation for each sample.

        Parameters
        ----------
        inputs
            Samples of shape (N, W), (N, T, W), (N, H, W, C) or (N, D, H, W, C), as an array or a
            tensor; a list, tuple or dict of them for a model with several inputs; or a
            `tf.data.Dataset` of x, (x, y) or (x, y, w), batched or not. Integers are cast to the
            dtype that the model takes.
        targets
            What to explain: class indices (N,) or one for all; weights (N, L), one-hot or not;
            ``None``, the default, for the model's largest output. A custom operator gets them as
            they are. Must not be given beside a dataset that has its own.
        verbose
            1 shows a progress bar; 0, the default, shows nothing.

        Returns
        -------
        explanations
            A float32 tensor, or the inputs' structure of them: (N, W) and (N, T, W) as the
            inputs; (N, H, W, 1) and (N, D, H, W, 1) for images and volumes, with all channels if
            nothing reduces them. An input that no gradient reaches beside one that has one gets
            ``None``.

        Raises
        ------
        InvalidInputError
            Wrong rank, shape or dtype, no samples, values that are not finite.
        InvalidTargetError
            A class out of range, another number of targets than inputs, a wrong width, a row of
            zeros, targets beside a dataset that has its own.
        InvalidOperatorError
            A score that is neither (N,) nor a scalar.
        InvalidModelError
            Several outputs and none chosen; an inner layer that is called several times, in a
            loop, or not at all.
        NoGradientError
            The gradient does not exist or is not finite.
        NothingRewiredError
            A `backprop_modifier` reached no rectifier, or could not reach one that is there.

        Warns
        -----
        UserWarning
            Once for each explainer: if a softmax is explained, if a gradient is zero everywhere,
            if the operator returns a scalar, if a backprop modifier leaves smooth activations as
            they are.

        Examples
        --------
        >>> maps = explainer.explain(images, labels)  # doctest: +SKIP
        >>> maps = explainer.explain(dataset, verbose=1)  # doctest: +SKIP
        """
        request = self._request(inputs, targets)
        results = [*self._results(request, self._rows_at_once(request), verbose)]
        return self._joined(request, results)[0]

    __call__ = explain

    @final
    def iter_explain(
        self, inputs: Structure, targets: Structure | None = None, *, with_samples: bool = False
    ) -> Iterator[Any]:
        """Return an iterator over the explanations of each batch, in order.

        It holds no more than a few batches, for any number of samples. The errors and, batch by
        batch, the result are those of `explain`.

        Parameters
        ----------
        inputs
            As in `explain`.
        targets
            As in `explain`.
        with_samples
            Yield (x, y, explanations), with the inputs and targets of the batch (y is ``None``
            where there are none): of a dataset that is shuffled anew at each pass, the only way to
            know what a map belongs to.
        """
        request = self._request(inputs, targets, endless=True)
        if not with_samples:
            self._warn_of_order(request.samples)
        return self._maps_by_batch(request, with_samples)

    @final
    def explain_with_scores(
        self, inputs: Structure, targets: Structure | None = None, *, verbose: int = 0
    ) -> tuple[Any, tf.Tensor]:
        """Return the explanations and the scores (N,) that they explain.

        Both come from the same forward pass; of a method that looks at other points than the sample
        itself, the score at the sample is one point more. The parameters and errors are those of
        `explain`.
        """
        request = self._request(inputs, targets)
        request.with_scores = True
        results = [*self._results(request, self._rows_at_once(request), verbose)]
        return self._joined(request, results)

    @final
    def _told(self, inputs: Structure, targets: Structure | None = None, first: int = 0) -> Told:
        """Return the explanations of a part of the data, and what was seen on the way.

        The sample `first` of the whole data is the first of the part, so that chance is what it is
        for all of the data at once.
        """
        request = self._request(inputs, targets)
        request.with_scores, request.with_largest, request.first = True, True, first
        results = [*self._results(request, self._rows_at_once(request))]
        seen = [explained.largest for _, explained in results]
        known = [part for part in seen if part is not None and np.isfinite(part).all()]
        largest = np.concatenate(known).astype(np.int64) if len(known) == len(seen) else None
        return Told(*self._joined(request, results), largest)

    @final
    def explain_outputs(
        self,
        inputs: Structure,
        outputs: int | Sequence[int] | None = None,
        *,
        verbose: int = 0,
    ) -> Any:
        """Return an explanation of each of several outputs, sharing what can be shared.

        Parameters
        ----------
        inputs
            As in `explain`; the targets of a dataset are ignored.
        outputs
            Indices of K outputs (of filters, where the explained layer is convolutional);
            ``None`` is all.
        verbose
            1 shows a progress bar.

        Returns
        -------
        explanations
            As in `explain`, with an axis of length K after the first: (N, K, ...).

        Raises
        ------
        InvalidOperatorError
            If the explainer's operator has other targets than outputs.
        InvalidTargetError
            If there is no such output.
        InvalidInputError
            As in `explain`.
        """
        chosen = self._check_outputs(outputs)
        request = self._request(inputs, None)
        request.outputs = chosen
        # Batch by batch: there are K maps of each sample.
        results = [*self._results(request, self._bound.rows(request.samples), verbose)]
        return self._joined(request, results)[0]

    @final
    def export(
        self,
        path: str | os.PathLike[str],
        inputs: Structure | None = None,
        targets: Structure | None = None,
        *,
        format: Literal["saved_model", "tflite"] = "saved_model",
    ) -> None:
        """Write the explainer as a graph that TensorFlow runs alone, for serving.

        The SavedModel needs neither Python nor this package. Of samples it returns what the model
        returns, ``outputs``; what `explain` returns, ``maps``; and what was explained, ``scores``
        (N,). They come from one forward pass; of a method that looks at other points than the
        sample, the sample itself is one pass more.

        Signatures are ``serving_default``, of ``inputs`` alone, which explains the largest output;
        and ``explain_class``, of ``inputs`` and ``class_index`` (N,), int32. Of an operator that
        takes other targets than outputs there is the first alone, with ``targets`` if such are
        passed here. Several inputs go by their keys, or as ``inputs_0``, ``inputs_1``; several
        outputs or maps likewise.

        Any number of samples is taken at once. Where `explain` raises an error, a sample's map and
        score are NaN: of a class that does not exist, of inputs or a gradient that are not finite.
        Random noise is that of the explainer's seed and of a sample's position in its batch.

        Parameters
        ----------
        path
            A folder, or of a TFLite file its name.
        inputs
            Samples, one at least, of the shapes and dtypes that are to be served; as in `explain`.
            ``None`` is what the model says that it takes.
        targets
            Targets of these samples, for an operator of one's own that takes some.
        format
            ``"saved_model"``; or ``"tflite"``, a file of TFLite's built-in operations, which takes
            one sample at a time.

        Raises
        ------
        ExportError
            If the method is no method of gradients, or overwrites `explain_batch`; if the model
            has a state, a fixed batch size or calls Python; if the operator returns a scalar; or
            if TFLite has not the operations.
        XpliqueSalError
            As `explain` raises them for the samples.

        Examples
        --------
        >>> explainer.export("served/1")  # doctest: +SKIP
        """
        one_of("format", format, ("saved_model", "tflite"))
        self._export(os.fspath(path), self._to_serve(inputs), targets, format)

    def _export(self, path: str, inputs: Structure, targets: Structure | None, kind: str) -> None:
        raise ExportError(
            "a method of gradients",
            f"{type(self).__name__}, which asks for the scores of changed samples from Python",
            "Export a method of gradients.",
        )

    def _to_serve(self, inputs: Structure | None) -> Structure:
        """Return a sample of each input, by what the model says if none was given."""
        if inputs is not None:
            return inputs
        model = self.model.inputs_for(None)
        zeros: list[np.ndarray] = []
        for _, shape, dtype in () if model is None else model.specs:
            if shape is None or None in shape[1:] or dtype in (None, tf.string):
                model = None
                break
            zeros.append(
                np.zeros(tf.TensorShape([1, *shape[1:]]), tf.as_dtype(dtype).as_numpy_dtype)
            )
        if model is None:
            raise InvalidInputError(
                "`inputs` to export a model that does not tell the shapes of its inputs",
                "None",
                "Pass a sample: explainer.export(path, x[:1]).",
            )
        return pack(model.skeleton, zeros)

    def _check_outputs(self, outputs: Any) -> np.ndarray | Literal["all"]:
        if self._operator.check_targets is not check_classes:
            raise InvalidOperatorError(
                "an operator of which a target is an output, as of the default operator",
                "one with targets of another kind",
                "Call `explain` with the targets that it takes, or leave `operator` out.",
            )
        if outputs is None:
            return "all"
        chosen = np.atleast_1d(np.asarray(outputs))
        if chosen.ndim != 1 or not chosen.size or not np.issubdtype(chosen.dtype, np.integer):
            raise InvalidTargetError(
                "`outputs` as one index or a list of them",
                repr(outputs),
                "Pass integers, or None for all outputs.",
            )
        return chosen

    def _request(
        self, inputs: Structure, targets: Structure | None, endless: bool = False
    ) -> Request:
        """Return a call's request: inputs and targets are read, and the model is built."""
        check_computed(inputs)
        check_unmasked(inputs)
        labels = None
        if self._operator.reads_labels:
            output, f = getattr(self.model, "output", None), getattr(self.model, "model", None)
            labels = LabelsOfOutput(output, keras_compat.output_names(f))
        samples = read_samples(inputs, targets, self.model.inputs_for(inputs), labels)
        if isinstance(samples, DatasetSamples) and samples.is_endless and not endless:
            raise InvalidInputError(
                "a dataset that ends",
                "one that repeats for ever",
                "Take a number of elements, dataset.take(n), or use `iter_explain`.",
            )
        if not endless:
            self._warn_of_order(samples)
        if not self.model.is_built:
            self.model.build(samples.first(), samples.for_model)
        return Request(samples)

    def _rows_at_once(self, request: Request) -> int | None:
        """Return how many samples to read at once where all results are kept anyway."""
        if self._bound.is_searched:
            return self._bound.rows(request.samples)
        return self._scores.rows_at_once(request)

    def _results(
        self, request: Request, size: int | None, verbose: int = 0
    ) -> Iterator[tuple[Batch, Explained]]:
        """Yield batches of at most `size` samples with their maps: the only loop over batches."""
        samples, done = request.samples, 0
        bar = keras_compat.progress_bar(samples.nb_expected) if verbose else None
        merge = self._bound.is_searched or (size is not None and size != self.batch_size)
        for batch in samples.batches(request.needed_batch or size, merge):
            batch = batch._replace(start=batch.start + request.first)
            for part in self._bound.parts(request, batch):
                explained = self._bound.within_memory(request, part, self._explain_batch)
                if not substitutes.is_active():  # else the weights are not the model's own
                    self._warn(explained)
                self._warn_of_the_only_output(request, explained)
                done += part.size
                if bar is not None:
                    bar.add(part.size)
                yield part, explained
        if bar is not None:
            keras_compat.end_progress_bar(bar, done)

    def _maps_by_batch(self, request: Request, with_samples: bool) -> Iterator[Any]:
        for batch, explained in self._results(request, self._bound.rows(request.samples)):
            maps = self._packed(request, explained.maps)
            if with_samples:
                x, y = request.samples.layout.packed([*batch.inputs, *batch.targets])
                yield x, y.values if isinstance(y, Labels) else y, maps
            else:
                yield maps
            request.programs.clear()  # the model's owner may have changed it meanwhile

    def _joined(
        self, request: Request, results: Sequence[tuple[Batch, Explained]]
    ) -> tuple[Any, tf.Tensor]:
        """Return the maps of all batches, packed as the user wants them, and the scores."""
        maps = concatenate([explained.maps for _, explained in results])
        scores = np.concatenate([explained.scores for _, explained in results])
        return self._packed(request, maps), tf.constant(scores)

    def _packed(self, request: Request, maps: Sequence[tf.Tensor | None]) -> Any:
        return pack(request.samples.for_user, maps)

    def _warn_of_order(self, samples: Samples) -> None:
        if samples.changes_order:
            self._warn_once(
                "The dataset is shuffled anew at each pass, so that nobody knows to which sample a "
                "map belongs. Take samples and maps together, by `iter_explain(dataset, "
                "with_samples=True)`, or shuffle once: shuffle=False where the dataset is made, "
                "reshuffle_each_iteration=False, or `cache()` behind the shuffle."
            )

    def _warn_of_the_only_output(self, request: Request, explained: Explained) -> None:
        activation = explained.activation or self._scores.activation
        if request.chose_the_only_output and (self.logits or activation == "Sigmoid"):
            self._warn_once(
                "The target 0 is read as the index of the model's only output, the score of class "
                "1, and not as a label. Pass targets=None to explain class 1 without this warning; "
                "weights of -1, of shape (N, 1), to explain class 0."
            )

    def _warn(self, explained: Explained) -> None:
        if explained.activation == "Softmax":
            self._warn_once(
                "The output of a softmax is explained. Where it saturates, its gradient vanishes, "
                "and a map can show what lowers the other classes: pass logits=True, or name the "
                "layer before it, to explain the score itself."
            )
        if explained.zero_sample is not None:
            self._warn_once(
                "The gradient is zero everywhere, so that the map says nothing, for sample "
                f"{explained.zero_sample} at least. A saturated softmax or sigmoid (pass "
                "logits=True), dead ReLUs, or a backprop modifier that lets nothing pass can be "
                "the cause.",
                "zero",
            )
        if explained.one_by_one:
            self._warn_once(
                "The operator returns one scalar for its whole batch, so that it is given one "
                "sample at a time, which is slow: return one score for each sample, of shape "
                "(N,), by reducing over all axes but the first."
            )
        if self._bound.was_reduced:
            self._warn_once(
                f"Memory ran out: batches of at most {self.batch_size} samples are used now. Pass "
                "a smaller `batch_size` to save the attempts.",
                "memory",
            )

    def _warn_once(self, message: str, key: str | None = None) -> None:
        if (key or message) not in self._warned:
            self._warned.add(key or message)
            warnings.warn(message, UserWarning, stacklevel=_outside())


class WhiteBoxExplainer(BlackBoxExplainer):
    """Base of the explainers that differentiate a score with respect to the inputs.

    The map is the gradient ∂g/∂x, or what the method makes of gradients, modified by
    `grad_modifier`, with the channels of images reduced by `reducer`. The model runs with
    ``training=False``.

    A method sets `_recipe`: as a class attribute if the method has no parameters of its own;
    otherwise in its ``__init__``.

    Parameters
    ----------
    model
        A tf-keras or Keras 3 model of any kind (functional, sequential, subclassed, nested, with
        several inputs or outputs), a `tf.Module`, a loaded SavedModel or a signature of it, a
        `tf.function`, or any function of TensorFlow operations. It is never changed, nor is what
        it reads.
    reducer
        How the channels of images are reduced: ``"max"``, ``"mean"``, ``"min"``, ``"sum"`` or
        ``None``, which keep other maps as they are. ``"token_sum"`` and ``"token_norm"`` make one
        number of each token's vector, (N, T, E) to (N, T): the sum, with its sign, or the length
        √Σ vᵢ².
    wrt_layer
        A layer, or a list of them, named as `output_layer`: differentiate with respect to its
        output instead of the input.
    grad_modifier
        ``"absolute"``, ``"relu"``, ``"negate"``, ``"invert"``, ``"small_values"``, a callable on
        gradients, or ``None``.
    backprop_modifier
        What replaces the derivative of every rectifier y = φ(x) of the model, where g is the
        incoming gradient: ``"guided"``, max(g, 0)·[x > 0]·φ′(x); ``"deconv"`` (also ``"relu"``,
        ``"rectified"``), max(g, 0)·s with s the slope of φ for positive x; or a callable
        ``rule(x, y, g)``. One that reaches no rectifier, or not all, is an error.
    fold_batch_norm
        Compute batch normalisation inside the convolution before it: the same function up to
        rounding, faster.
    strategy
        A `tf.distribute.MirroredStrategy`: each batch is shared among its devices. ``None`` takes
        the one in whose scope the model was made, if it was made in one.
    channel_axis
        Where the channels of the inputs are: -1, or 1 for (N, C, H, W). ``None`` takes the
        `data_format` of the model's first layer that has one, which is wrong where the model
        transposes its inputs before it. Of a `wrt_layer` it is always the layer's own.

    Raises
    ------
    InvalidModelError
        If `model` is not of a kind that has gradients.
    LayerNotFoundError
        If the model has no such layer.

    Examples
    --------
    >>> explainer = WhiteBoxExplainer(model, logits=True)  # doctest: +SKIP
    >>> explanations = explainer.explain(images, labels)  # doctest: +SKIP
    """

    #: What is made of the gradients.
    _recipe: Recipe = Recipe()

    def __init__(
        self,
        model: Any,
        output_layer: int | str | None = None,
        batch_size: int | str | None = 64,
        operator: Operator | str | None = None,
        reducer: str | None = "mean",
        *,
        output: int | str | None = None,
        logits: bool = False,
        wrt_layer: int | str | Sequence[int | str] | None = None,
        grad_modifier: GradientModifier | str | None = None,
        backprop_modifier: Callable[..., tf.Tensor] | str | None = None,
        fold_batch_norm: bool = True,
        strategy: tf.distribute.Strategy | None = None,
        channel_axis: int | None = None,
    ) -> None:
        view = ModelView(
            model,
            output_layer=output_layer,
            output=output,
            logits=logits,
            wrt_layer=wrt_layer,
            backprop_modifier=backprop_modifier,
            fold_batch_norm=fold_batch_norm,
            takes_all_outputs=operators.resolve(operator).check_targets is None,
        )
        super().__init__(
            view, batch_size, operator, output_layer=output_layer, output=output, logits=logits
        )
        reducers.check(reducer)
        one_of("channel_axis", channel_axis, (None, -1, 1), "Pass 1 for (N, C, H, W).")
        self.reducer = reducer
        self.wrt_layer = wrt_layer
        self.grad_modifier = grad_modifier
        self.backprop_modifier = backprop_modifier
        self.fold_batch_norm = bool(fold_batch_norm)
        self.strategy = strategy
        self.channel_axis = channel_axis
        #: What the backprop modifier did in the last explanation: how many rectifiers followed it.
        self.rewiring: Rewiring | None = None
        self._modifier = grad_modifiers.resolve(grad_modifier)
        devices.check(strategy)

    @functools.cached_property
    def _gradients(self) -> GradientRunner:
        """What answers this explainer's question; made when it is first asked."""
        assert isinstance(self.model, ModelView)
        shown = (self._modifier, self.reducer, self.channel_axis)
        question = Question(self.model, self._operator, self._recipe, *shown)
        return GradientRunner(question, self.strategy)

    def _request(
        self, inputs: Structure, targets: Structure | None, endless: bool = False
    ) -> Request:
        request = super()._request(inputs, targets, endless)
        if isinstance(self._recipe, PointsRecipe):
            request.rows_per_sample = self._recipe.points
        return request

    def _export(self, path: str, inputs: Structure, targets: Structure | None, kind: str) -> None:
        if type(self).explain_batch is not WhiteBoxExplainer.explain_batch:
            super()._export(path, inputs, targets, kind)
        from xplique_sal._engine.served import DEFAULT, Service  # not needed by others
        from xplique_sal._tracing import saving

        request = self._request(inputs, targets)
        question, size = self._gradients.question, 1 if kind == "tflite" else None
        packed = functools.partial(self._packed, request)
        signatures = Service(question, request, packed, self.batch_size, size).signatures()
        functions = {name: (found.function, found.names) for name, found in signatures.items()}
        if kind == "tflite":
            content = saving.convert(functions, question.view.model)
            with open(path, "wb") as file:
                file.write(content)
        else:
            saving.save(path, functions, question.view.model)
        facts = signatures[DEFAULT].facts
        WhiteBoxExplainer._warn(
            self, Explained([], np.zeros(0), activation=facts.activation, rewiring=facts.rewiring)
        )

    def explain_batch(
        self, score: SettledScore, inputs: Structure, targets: Structure | None
    ) -> Structure:
        """Return the method's maps of any inputs, in batches.

        A method of one's own may overwrite it, and make a map of what this one returns of changed
        samples; `score`, `inputs` and `targets` are those of
        `BlackBoxExplainer.explain_batch`.
        """
        request = self._request(inputs, targets)
        batches = request.samples.batches(request.needed_batch or self.batch_size)
        most, maps = self.batch_size, []
        for batch in batches:
            program = self._gradients.compiled(request, batch, most)
            maps.append(self._gradients.explain(request, program, batch, most).maps)
        return self._packed(request, concatenate(maps))

    def _explain_batch(self, request: Request, batch: Batch) -> Explained:
        if type(self).explain_batch is not WhiteBoxExplainer.explain_batch:
            return super()._explain_batch(request, batch)
        program = self._gradients.compiled(request, batch, self.batch_size)
        try:
            return self._gradients.explain(request, program, batch, self.batch_size)
        except NoGradientError as error:
            if isinstance(self._recipe, PointsRecipe) and self._has_gradient_at(request, batch):
                raise not_finite_elsewhere(error.actual, *self._recipe.elsewhere) from error
            raise

    def _packed(self, request: Request, maps: Sequence[tf.Tensor | None]) -> Any:
        view = self._gradients.question.view
        return pack(view.arrangement_of_maps(request.samples.for_user), maps)

    def _has_gradient_at(self, request: Request, batch: Batch) -> bool:
        """Tell whether there are finite gradients at the samples themselves."""
        plain = replace(self._gradients.question, recipe=Recipe(), modifier=None, reducer=None)
        runner, anew = GradientRunner(plain, None), replace(request, programs={})
        try:
            program = runner.compiled(anew, batch, self.batch_size)
            runner.explain(anew, program, batch, self.batch_size)
        except NoGradientError:
            return False
        return True

    def _warn(self, explained: Explained) -> None:
        super()._warn(explained)
        self.rewiring = explained.rewiring
        if self.rewiring is not None and (self.rewiring.smooth or self.rewiring.gates):
            left = [*self.rewiring.smooth]
            if self.rewiring.gates:
                left.append(f"{self.rewiring.gates} gates of hard sigmoids or hard swishes")
            self._warn_once(
                f"The backprop modifier acted on {self.rewiring.rectifiers} rectifiers, and left "
                f"other activations their own gradient: {', '.join(left)}."
            )


def _outside() -> int:
    """Return the `stacklevel` of the first caller outside of this package."""
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith("xplique_sal."):
        frame = frame.f_back
        level += 1
    return level - 1
