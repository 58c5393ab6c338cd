"""Runs a function in a process of its own, with one of the two Kerases as TensorFlow's.

Xplique knows the models of ``tf.keras`` alone, and which Keras that is is chosen when TensorFlow is
imported. Memory and first calls need a process that has done nothing else in any case.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

#: What each Keras is imported as.
KERASES = {"tf-keras": "tf_keras", "Keras 3": "keras"}


def fresh(function, kind="tf-keras", **arguments):
    """Return what a function of one of these modules returns in a fresh process.

    Arguments and result go through JSON; `kind` is handed on to the function.

    Raises
    ------
    RuntimeError
        If the process fails, with what it wrote.
    """
    module = function.__module__
    if module == "__main__":  # a script of which a function is wanted
        module = Path(sys.modules[module].__file__).stem
    environment = {
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        **os.environ,
        "TF_USE_LEGACY_KERAS": str(int(kind == "tf-keras")),
        "KERAS_BACKEND": "tensorflow",
    }
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        request = {
            "module": module,
            "function": function.__name__,
            "arguments": {"kind": kind, **arguments},
            "result": str(result),
        }
        child = subprocess.run(
            [sys.executable, __file__, json.dumps(request)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        if child.returncode:
            raise RuntimeError(f"{request['function']}{arguments} failed:\n{child.stdout}")
        return json.loads(result.read_text())


def keras_of(kind):
    """Import and return a Keras."""
    return importlib.import_module(KERASES[kind])


def main():
    """Answer a request of `fresh`."""
    request = json.loads(sys.argv[1])
    function = getattr(importlib.import_module(request["module"]), request["function"])
    result = json.dumps(function(**request["arguments"]))
    Path(request["result"]).write_text(result)


if __name__ == "__main__":
    main()
