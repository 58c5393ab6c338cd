"""Measures a glance at a model that has not changed beside a walk through all of it.

``python tests/benchmarks/unchanged_model.py`` prints the time of the first over the second.
"""

import keras
import tf_keras
from timing import in_turns, ratios

from xplique_sal._tracing.fingerprint import Fingerprint

if __name__ == "__main__":
    for kind in (tf_keras, keras):
        for name in ("MobileNetV2", "EfficientNetB0", "DenseNet121"):
            model = getattr(kind.applications, name)(weights=None)
            known = Fingerprint(model)
            calls = {
                "walk": lambda model=model: Fingerprint(model),
                "glance": lambda known=known: known.is_current(),
            }
            seconds = in_turns(calls, rounds=9)
            found = ratios(seconds, "walk")["glance"]
            glance = 1000 * min(seconds["glance"])
            print(f"{kind.__name__}, {name}: {found['ratio']:.2f}, {glance:.1f} ms at best")
