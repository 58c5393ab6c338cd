"""What the command line costs beside Python: run it as a script.

By turns, in processes of their own: the command; the same `explain` of pictures that are decoded
already; and a start, which imports and loads the same and explains nothing. The command may cost
1.15 times the call and the start together. The machine's load changes the seconds, and the ratio
less.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CALL = """
import sys, time, json
import numpy as np
from pathlib import Path
sys.path.insert(0, sys.argv[4])
from pictures_of_shapes import read_pictures
import xplique_sal
from xplique_sal._models.files import load
import typer, rich, PIL.Image
model = load(sys.argv[1]).model
explainer = xplique_sal.Saliency(model, logits=True)
seconds = 0
if sys.argv[3] == "call":
    x = read_pictures(sorted(Path(sys.argv[2]).glob("*/*.png")), 160)
    start = time.perf_counter()
    maps = explainer.explain(x).numpy()
    seconds = time.perf_counter() - start
    np.save(sys.argv[5], maps)
print(json.dumps(seconds))
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    here = Path(__file__).parent
    sys.path.insert(0, str(here))
    import keras
    import numpy as np
    from pictures_of_shapes import write_pictures

    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        write_pictures(place / "images", arguments.images, size=256)
        network = keras.applications.MobileNetV2((160, 160, 3), weights=None, classes=10)
        network.save(place / "model.keras")
        environment = {**os.environ, "PYTHONPATH": str(here.parents[1])}

        def timed(*command):
            start = time.perf_counter()
            done = subprocess.run(
                [sys.executable, *map(str, command)],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
            return time.perf_counter() - start, done.stdout

        given = (place / "model.keras", place / "images")
        found = {"command": [], "call": [], "start": []}
        for turn in range(arguments.turns):
            options = ("--preprocess", "0-1", "--logits", "--out", place / f"out{turn}")
            found["command"].append(timed("-m", "xplique_sal", "explain", *given, *options)[0])
            seconds = json.loads(timed("-c", CALL, *given, "call", here, place / "maps.npy")[1])
            found["call"].append(seconds)
            found["start"].append(timed("-c", CALL, *given, "start", here)[0])
            print({kind: round(seconds[-1], 2) for kind, seconds in found.items()}, flush=True)
        written = sorted((place / "out0" / "maps").rglob("*.npy"))
        same = np.array_equal(np.stack([*map(np.load, written)]), np.load(place / "maps.npy"))
        print(f"maps are equal bit by bit: {same}")
        command, call, start = (statistics.median(found[kind]) for kind in found)
        print(f"command / (call + start) = {command / (call + start):.3f}")
        print(f"(command − start) / call = {(command - start) / call:.3f}")


if __name__ == "__main__":
    main()
