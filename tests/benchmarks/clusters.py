"""What Ray costs beside a plain loop, and how maps are stored: the figures of docs/scale.md.

``python tests/benchmarks/clusters.py cost | overhead | workers | digits | storage``; in
``.venv-ray``, which ``make test-ray`` makes.
"""

import io
import os
import statistics
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "clusters"))

from ray_network import digits, factory


def photo_factory(alpha=1.0):
    """A network for 224 x 224; with `TIMES` set, each batch adds its start and end to that file."""
    import tf_keras as keras

    import xplique_sal

    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2(alpha=alpha, weights=None, classes=1000)
    explainer = xplique_sal.Saliency(model, logits=True, batch_size=32)
    inner, log = explainer._told, os.environ.get("TIMES")

    def told(x, y=None, first=0):
        start = time.perf_counter()
        found = inner(x, y, first=first)
        found = found._replace(maps=np.asarray(found.maps))
        with open(log, "a", encoding="utf-8") as file:
            print(os.getpid(), start, time.perf_counter(), file=file)
        return found

    if log:
        vars(explainer)["_told"] = told
    return explainer


def small_factory():
    """The same network, with about a third of the channels."""
    return photo_factory(0.35)


def photos(count, seed=0):
    return np.random.default_rng(seed).random((count, 224, 224, 3), "float32")


def cost(count=96):
    """CPU seconds for an image on one thread: of maps, and of reading and writing."""
    os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = "1"
    import tf_keras as keras
    from PIL import Image

    import xplique_sal

    def told(what, run, times=3):
        run()
        found = []
        for _ in range(times):
            start = time.process_time()
            run()
            found.append((time.process_time() - start) / count)
        print(f"{what}: {1e3 * statistics.median(found):.1f} ms of one core an image", flush=True)

    x = photos(count)
    for name in ("MobileNetV2", "ResNet50"):
        keras.utils.set_random_seed(0)
        model = getattr(keras.applications, name)(weights=None)
        for method in ("Saliency", "GradCAM"):
            explainer = getattr(xplique_sal, method)(model, logits=True, batch_size=32)
            told(f"{method} of {name}", lambda made=explainer: np.asarray(made.explain(x)))
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (94, 125, 3), "uint8"))
    content = io.BytesIO()
    coarse.resize((500, 375), Image.Resampling.BICUBIC).save(content, "jpeg", quality=95)

    def read():
        for _ in range(count):
            image = Image.open(io.BytesIO(content.getvalue())).convert("RGB")
            np.asarray(image.resize((224, 224), Image.Resampling.BILINEAR), np.float32) / 255

    told(f"decoding a JPEG of 500 x 375, {len(content.getvalue()) >> 10} KiB", read)
    maps = (photos(count)[..., :1] * 255).astype("uint8")

    def write():
        for map_ in maps:
            Image.fromarray(map_[..., 0]).save(io.BytesIO(), "png")

    told("writing a map as PNG of 8 bits", write)
    _cost_of_telling()


def _cost_of_telling(count=20_000):
    """What the one process that has a folder does for each map: time, and memory that it keeps."""
    seconds, _ = _told(count)
    tracemalloc.start()  # makes it slow
    _, kept = _told(count)
    print(f"telling of a map: {1e6 * seconds / count:.0f} microseconds of one core; ", end="")
    print(f"{kept / count:.0f} bytes kept")


def _told(count):
    from xplique_sal import _runs

    with tempfile.TemporaryDirectory() as folder, _runs.Run(folder, {}) as run:
        entries = []
        for row in range(count):
            name = f"n{row // 1000:08}/image_{row}.jpeg"
            file = _runs.file_of(name, ".npy")
            run.stage(file, b"a map")
            entries.append(_runs.Entry(name, target=row % 1000, score=row / 7, file=file))
        start = time.process_time()
        for first in range(0, count, 64):
            run.commit(entries[first : first + 64])
        kept = tracemalloc.get_traced_memory()[0] if tracemalloc.is_tracing() else 0
        return time.process_time() - start, kept


def workers(batches=24):
    """Images a second of one actor and of two, of one thread each, without their start."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TIMES"] = str(Path(folder) / "times")
        ray, log = started(), Path(os.environ["TIMES"])
        import xplique_sal.ray

        parts = [photos(32, seed) for seed in range(batches)]
        rates = []
        for actors in (1, 2, 1, 2):
            log.unlink(missing_ok=True)
            xplique_sal.ray.explain(
                *(ray.data.from_numpy(parts), photo_factory),
                inputs="data",
                batch_size=32,
                concurrency=actors,
            ).select_columns(["map"]).materialize()
            rows = np.array([line.split() for line in log.read_text().splitlines()], float)
            # While all of them work: from the last first batch's end to the first last one's.
            by_actor = [rows[rows[:, 0] == pid, 2] for pid in set(rows[:, 0])]
            start, end = max(map(min, by_actor)), min(map(max, by_actor))
            inside = sum(((ends > start) & (ends <= end)).sum() for ends in by_actor)
            rates.append(32 * inside / (end - start))
            print(f"{len(by_actor)} actors: {rates[-1]:.1f} images a second", flush=True)
        print(f"two actors: {sum(rates[1::2]) / sum(rates[::2]):.2f} times one")


def started():
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # actors read the same factory
    import ray

    ray.init(address="local", num_cpus=3, include_dashboard=False, object_store_memory=1 << 30)
    return ray


def overhead(rounds=3, batches=12):
    """What Ray adds to batches of 32 images: a plain loop and one actor, in turn, on one thread.

    Both leave the first batch out, which traces, and are timed from the start of the second to the
    end of the last; where the actor does not compute, in between, Ray moves rows.
    """
    os.environ["TF_NUM_INTRAOP_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TIMES"] = str(Path(folder) / "times")
        ray = started()
        for factory_ in (photo_factory, small_factory):
            found = [_in_turn(ray, factory_, batches) for _ in range(rounds)]
            plain, computing, actor = (
                1e3 * statistics.median(kind) for kind in zip(*found, strict=True)
            )
            print(
                f"plain {plain / 32:.1f} ms an image; in the actor {computing / 32:.1f}; "
                f"Ray adds {actor - computing:.1f} ms a batch, {actor / computing - 1:.1%} of its "
                f"computing; with Ray {actor / plain:.3f} of plain",
                flush=True,
            )


def _in_turn(ray, factory_, batches):
    """Return seconds for a batch: of a plain loop, of an actor's computing, of an actor in all."""
    import xplique_sal.ray

    log, explainer = Path(os.environ["TIMES"]), factory_()
    parts = [photos(32, seed) for seed in range(batches)]
    log.unlink(missing_ok=True)
    for part in parts:
        explainer._told(part, None)
    plain = _times(log)
    log.unlink()
    xplique_sal.ray.explain(
        ray.data.from_numpy(parts), factory_, inputs="data", batch_size=32, concurrency=1
    ).materialize()
    actor = _times(log)
    assert len(plain) == len(actor) == batches
    return (
        (plain[-1, 1] - plain[1, 0]) / (batches - 1),
        np.subtract(*actor[1:, ::-1].T).mean(),
        (actor[-1, 1] - actor[1, 0]) / (batches - 1),
    )


def _times(log):
    rows = np.array([line.split() for line in log.read_text("utf-8").splitlines()], float)
    assert len(set(rows[:, 0])) == 1  # one process
    return rows[:, 1:]


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
    commands = {"cost": cost, "workers": workers, "overhead": overhead}
    commands |= {"digits": compared, "storage": storage}
    commands[sys.argv[1]]()
