"""What Ray costs beside a plain loop, and how maps are stored: the figures of docs/scale.md.

``python tests/benchmarks/clusters.py overhead | digits | storage``; with Ray, in ``.venv-ray``.
"""

import io
import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "clusters"))

from ray_network import digits, factory


def photo_factory():
    """A network that takes some tens of milliseconds for a map of an image of 224 x 224."""
    import tf_keras as keras

    import xplique_sal

    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2(weights=None, classes=1000)
    return xplique_sal.Saliency(model, logits=True, batch_size=32)


def photos(count):
    return np.random.default_rng(0).random((count, 224, 224, 3), "float32")


def started():
    import os

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # actors read the same factory
    import ray

    ray.init(address="local", num_cpus=3, include_dashboard=False, object_store_memory=1 << 30)
    return ray


def overhead(rounds=3, count=96):
    """Seconds for images in batches of 32: the plain loop, and one actor, in turn."""
    import os

    os.environ["TF_NUM_INTRAOP_THREADS"] = "1"
    ray, x, explainer = started(), photos(count), photo_factory()
    explainer(x[:32])
    import xplique_sal.ray

    plain, actor = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        for first in range(0, count, 32):
            explainer._told(x[first : first + 32], None)
        plain.append(time.perf_counter() - start)
        rows = ray.data.from_numpy([x[first : first + 32] for first in range(0, count, 32)])
        found = xplique_sal.ray.explain(rows, photo_factory, inputs="data", batch_size=32,
                                        concurrency=1)  # fmt: skip
        ends = []
        for _ in found.iter_batches(batch_size=32):
            ends.append(time.perf_counter())
        # From the first batch on: what an actor costs to start is told by itself.
        actor.append((ends[-1] - ends[0]) / (count - 32) * count)
    one, other = statistics.median(plain), statistics.median(actor)
    print(f"plain {1e3 * one / count:.1f} ms an image, with Ray {other / one:.2f} of that")


def compared(count=20_000):
    """Digits on two actors: the same maps in the same order."""
    ray = started()
    import xplique_sal.ray

    x = digits(count)
    maps = np.asarray(factory().explain(x))
    rows = ray.data.from_items(
        [{"x": one, "row": row} for row, one in enumerate(x)], override_num_blocks=40
    )
    for actors in (1, 2):
        start = time.perf_counter()
        found = xplique_sal.ray.explain(
            rows, factory, inputs="x", position="row", batch_size=500, concurrency=actors
        ).take_all()
        seconds = time.perf_counter() - start
        largest = max(
            np.abs(row["map"] - map_).max() for row, map_ in zip(found, maps, strict=True)
        )
        in_order = [row["row"] for row in found] == list(range(count))
        print(f"{count} digits, {actors} actors: {seconds:.1f} s, in order: {in_order}, ")
        print(f"largest difference {largest:.1e} of the largest value")


def storage(count=8):
    """Bytes for a map of 224 x 224, and how its ranks stay."""
    from PIL import Image
    from scipy.stats import spearmanr

    maps = np.asarray(photo_factory()(photos(count)))[..., 0]

    def png(map_):
        content = io.BytesIO()
        Image.fromarray(map_).save(content, "png", optimize=True)
        return len(content.getvalue())

    scaled = maps / maps.max((1, 2), keepdims=True)
    eight = np.rint(scaled * 255).astype("uint8")
    rows = {
        "float32": (maps, maps.nbytes / count),
        "float16, scaled to 1": (scaled.astype("float16"), maps.nbytes / 2 / count),
        "8 bits, scaled to 255": (eight, eight.nbytes / count),
        "PNG of the 8 bits": (eight, statistics.mean(map(png, eight))),
    }
    for name, (kept, size) in rows.items():
        ranks = [spearmanr(a.ravel(), b.ravel())[0] for a, b in zip(maps, kept, strict=True)]
        print(f"{name}: {size / 1024:.1f} KiB, rank correlation {min(ranks):.5f}")


if __name__ == "__main__":
    {"overhead": overhead, "digits": compared, "storage": storage}[sys.argv[1]]()
