"""What an import adds to that of TensorFlow."""

import json
import os
import statistics
import subprocess
import sys
import tempfile

from contender import OURS
from report import Limit, Line

CODE = """
import json, time
start = time.perf_counter()
import tensorflow
middle = time.perf_counter()
import xplique_sal
xplique_sal.Saliency
end = time.perf_counter()
print(json.dumps([middle - start, end - middle]))
"""


def measure(quick):
    """Yield a line, and what is promised."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        # As an installed package, which is compiled to byte code once.
        settings = {**os.environ, "PYTHONPYCACHEPREFIX": folder}
        settings.pop("PYTHONDONTWRITEBYTECODE", None)
        for _ in range(3 if quick else 7):
            child = subprocess.run(
                [sys.executable, "-c", CODE], capture_output=True, check=True, env=settings
            )
            found.append(json.loads(child.stdout.splitlines()[-1]))
    # The first compiles, and reads files that are not in the system's cache yet.
    of_tensorflow, of_ours = (list(column)[1:] for column in zip(*found, strict=True))
    each = [a / b for a, b in zip(of_ours, of_tensorflow, strict=True)]
    relative = {"ratio": statistics.median(each), "low": min(each), "high": max(each)}
    amount = statistics.median(of_tensorflow)
    yield Line(
        "`import xplique_sal`, after TensorFlow's",
        "",
        "`import tensorflow`",
        amount,
        "s",
        {OURS: relative},
    )
    yield Limit("`import xplique_sal`", statistics.median(of_ours), 0.15, "s")
