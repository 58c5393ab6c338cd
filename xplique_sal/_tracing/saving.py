"""Writing traced functions to disk, so that TensorFlow alone runs them."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import tensorflow as tf

from xplique_sal._tracing import reached
from xplique_sal.errors import ExportError

#: Operations that call back into the Python which made them.
_PYTHON = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc"})


#: Concrete functions of flat tensors, each with what its tensors are called, by signature.
Functions: TypeAlias = Mapping[str, tuple[Any, Sequence[str]]]


def save(
    path: str, functions: Functions, model: Any, change: Callable[[Any], Any] | None = None
) -> None:
    """Write a SavedModel.

    Parameters
    ----------
    path
        The folder.
    functions
        What the signatures run; each returns a dict of tensors.
    model
        What holds the tables and other resources that the functions read beside variables.
    change
        Returns what is written in place of a function.

    Raises
    ------
    ExportError
        If a function calls Python, or reads what cannot be saved.
    """
    module, signatures = tf.Module(), {}
    module.read = []
    for name, (function, names) in functions.items():
        _check_ops(function)
        module.read.append(_resources(function, model))
        written = function if change is None else change(function)
        signatures[name] = _signature(written, names)
    # Nobody differentiates a gradient that is served.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, path, signatures, options)


def _signature(function: Any, names: Sequence[str]) -> Any:
    specs = [
        tf.TensorSpec(tensor.shape, tensor.dtype, name=name)
        for name, tensor in zip(names, function.inputs, strict=False)
    ]

    def run(*tensors: tf.Tensor) -> Any:
        return function(*tensors)

    return tf.function(run, autograph=False).get_concrete_function(*specs)


def _check_ops(function: Any) -> None:
    definition = function.graph.as_graph_def()
    nodes = [*definition.node, *(n for f in definition.library.function for n in f.node_def)]
    found = sorted({node.name for node in nodes if node.op in _PYTHON})
    if found:
        raise ExportError(
            "a model and an operator of TensorFlow operations alone",
            f"{found[0]!r}, which calls Python (`tf.py_function`, `tf.numpy_function`)",
            "Write that part with operations of `tf`.",
        )


def _resources(function: Any, model: Any) -> list[Any]:
    """Return the variables, tables and other resources that a function captured."""
    found = list(function.variables)
    known = {id(variable.handle) for variable in found}
    outer = [o for o, _ in function.graph.captures if o.dtype in (tf.resource, tf.variant)]
    missing = [one for one in outer if id(one) not in known]
    tables = {id(table.resource_handle): table for table in _tables(model)} if missing else {}
    for one in missing:
        if id(one) not in tables:
            raise ExportError(
                "a model that reads variables and lookup tables",
                f"one that reads another resource, {getattr(one, 'name', one)!r}",
                "Make it an attribute of the model, or of one of its layers.",
            )
        found.append(tables[id(one)])
    return found


def _tables(model: Any) -> Iterator[Any]:
    """Yield the tables that a model, its layers and the parts of a function hold."""
    owners = [*reached.all_layers_in(model), *(part for _, part in reached.parts_of(model)), model]
    for owner in owners:
        for value in list(getattr(owner, "__dict__", {}).values()):
            if isinstance(value, tf.saved_model.experimental.TrackableResource):
                yield value


def convert(functions: Functions, model: Any) -> bytes:
    """Return functions of one sample as a TFLite file of its built-in operations.

    The parameters are those of `save`.

    Raises
    ------
    ExportError
        If the converter does not take them.
    """
    with tempfile.TemporaryDirectory() as folder:
        save(folder, functions, model, _simplified)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, [*functions])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        try:
            content: bytes = converter.convert()
        except Exception as error:
            said = str(error)
            ops = sorted(set(re.findall(r"'?tf\.([A-Z]\w+)'?", said)))
            raise ExportError(
                "operations that TFLite has, forwards and backwards",
                ", ".join(ops) or said.strip().partition("\n")[0][:200],
                "Strided convolutions, global averages and `interpolation='bilinear'` are made of "
                "such operations; the gradients of pooling layers, and loops over points, are not: "
                "serve a SavedModel.",
            ) from error
    return content


def _simplified(function: Any) -> Any:
    """Return a function of the same values, without the gradient of ReLU that TFLite lacks."""
    definition = function.graph.as_graph_def()
    for node in [node for node in definition.node if node.op == "ReluGrad"]:
        gradient, features = node.input
        dtype = node.attr["T"]
        zeros, positive = f"{node.name}/zeros", f"{node.name}/positive"
        definition.node.add(name=zeros, op="ZerosLike", input=[features]).attr["T"].CopyFrom(dtype)
        above = definition.node.add(name=positive, op="Greater", input=[features, zeros])
        above.attr["T"].CopyFrom(dtype)
        node.op = "SelectV2"
        node.input[:] = [positive, gradient, zeros]
    names = [tensor.name for tensor in function.graph.inputs]
    outputs = [tensor.name for tensor in function.graph.outputs]

    def run(*tensors: tf.Tensor) -> Any:
        graph = tf.compat.v1.get_default_graph()
        captured = [graph.capture(tensor) for tensor in function.captured_inputs]
        given = dict(zip(names, [*tensors, *captured], strict=True))
        found = tf.graph_util.import_graph_def(definition, given, outputs, name="")
        return tf.nest.pack_sequence_as(function.structured_outputs, found)

    count = len(function.inputs) - len(function.captured_inputs)
    specs = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in function.inputs[:count]]
    return tf.function(run, autograph=False).get_concrete_function(*specs)
