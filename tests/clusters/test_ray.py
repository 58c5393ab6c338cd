"""Ray's actors give what one process does, each row once, whatever is killed on the way."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

ray = pytest.importorskip("ray", reason="Ray is not installed: `make test-ray` has it")
pytest.importorskip("ray.data", reason="Ray Data is not installed: `make test-ray` has it")

from pyarrow.fs import LocalFileSystem, SubTreeFileSystem  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402
from ray_network import digits, factory, slow_factory  # noqa: E402

import xplique_sal.ray  # noqa: E402
from xplique_sal import _runs  # noqa: E402

HERE = Path(__file__).parent
pytestmark = [
    pytest.mark.timeout(600),
    # Ray's own, and of what it imports.
    pytest.mark.filterwarnings("default"),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A head that only reads, and two nodes for actors."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PIDS"] = str(tmp_path_factory.mktemp("pids"))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    small = {"object_store_memory": 100 << 20, "include_dashboard": False}
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **small})
    found.nodes_of_actors = [
        found.add_node(num_cpus=1, resources={"actors": 1}, object_store_memory=100 << 20)
        for _ in range(2)
    ]
    ray.init(address=found.address)
    yield found
    ray.shutdown()
    found.shutdown()


def dataset(count, blocks=12):
    rows = [{"x": x, "row": row} for row, x in enumerate(digits(count))]
    return ray.data.from_items(rows, override_num_blocks=blocks)


def expected(count):
    return np.asarray(factory().explain(digits(count)))


def assert_same(found, maps):
    np.testing.assert_allclose(found, maps, rtol=0, atol=1e-6 * np.abs(maps).max())


def assert_each_row_once(folder, count):
    lines = _runs.read_manifest(folder)
    text = (Path(folder) / _runs.MANIFEST).read_text("utf-8").splitlines()
    assert len(lines) == len(text) == count
    assert {entry.input for entry in lines} == {str(row) for row in range(count)}
    by_row = sorted(lines, key=lambda entry: int(entry.input))
    assert_same(np.stack([np.load(Path(folder) / entry.file) for entry in by_row]), expected(count))


def test_columns_in_order_with_the_values_of_explain(cluster):
    found = xplique_sal.ray.explain(
        dataset(90), factory, inputs="x", position="row", batch_size=8, concurrency=2
    ).take_all()
    assert [row["row"] for row in found] == list(range(90))
    maps, scores = factory().explain_with_scores(digits(90))
    assert_same(np.stack([row["map"] for row in found]), np.asarray(maps))
    assert_same(np.stack([row["score"] for row in found]), np.asarray(scores))
    largest = factory().model(digits(90)).numpy().argmax(1)
    assert [row["class"] for row in found] == largest.tolist()


def test_a_row_that_cannot_be_explained_has_its_error(cluster):
    x = digits(6)
    x[4, 0, 0, 0] = np.nan
    rows = ray.data.from_items([{"x": one, "row": row} for row, one in enumerate(x)])
    found = xplique_sal.ray.explain(
        rows, factory, inputs="x", targets=3, errors="column", position="row", concurrency=1
    ).take_all()
    assert [bool(row["error"]) for row in found] == [False] * 4 + [True, False]
    assert "finite" in found[4]["error"] and np.isnan(found[4]["map"]).all()
    x[4] = 0
    maps = np.asarray(factory().explain(x, 3))
    assert_same(found[5]["map"], maps[5])
    assert [row["class"] for row in found] == [3, 3, 3, 3, -1, 3]


def test_from_and_to_any_file_system_of_arrow(cluster, tmp_path):
    """As of buckets: paths have no meaning but to the file system that is passed along."""
    bucket = SubTreeFileSystem(str(tmp_path), LocalFileSystem())
    dataset(20, 2).write_parquet("digits", filesystem=bucket)
    rows = ray.data.read_parquet("digits", filesystem=bucket)
    found = xplique_sal.ray.explain(rows, factory, inputs="x", position="row", concurrency=1)
    found.drop_columns(["x"]).write_parquet("maps", filesystem=bucket)
    again = ray.data.read_parquet("maps", filesystem=bucket).take_all()
    again.sort(key=lambda row: row["row"])
    assert [row["row"] for row in again] == list(range(20))
    assert_same(np.stack([row["map"] for row in again]), expected(20))
    with pytest.raises(xplique_sal.errors.InvalidParameterError, match="Mount the bucket"):
        xplique_sal.ray.run("s3://bucket/out", rows, factory, name="row", inputs="x")


def test_a_column_that_is_not_there_is_named(cluster):
    with pytest.raises(xplique_sal.errors.InvalidParameterError, match="'pixels'"):
        xplique_sal.ray.explain(dataset(3, 1), factory, inputs="pixels")


def of_run(folder, count, actors=2):
    return xplique_sal.ray.run(
        folder,
        dataset(count),
        slow_factory,
        name="row",
        inputs="x",
        position="row",
        batch_size=10,
        concurrency=actors,
    )


def test_an_actor_is_killed_and_a_node_is_removed(cluster, tmp_path):
    folder, pids, killed = tmp_path / "run", Path(os.environ["PIDS"]), []

    def kill():
        before = time.monotonic()
        while not list(pids.iterdir()) and time.monotonic() - before < 120:
            time.sleep(0.1)
        for path in list(pids.iterdir())[:1]:
            os.kill(int(path.name), signal.SIGKILL)
            killed.append(int(path.name))
        manifest = folder / _runs.MANIFEST
        while manifest.read_bytes().count(b"\n") < 40 and time.monotonic() - before < 240:
            time.sleep(0.1)
        cluster.remove_node(cluster.nodes_of_actors.pop(), allow_graceful=False)

    thread = threading.Thread(target=kill)
    thread.start()
    assert of_run(folder, 120) == (120, 0)
    thread.join()
    assert killed and len(cluster.nodes_of_actors) == 1
    assert_each_row_once(folder, 120)
    assert of_run(folder, 120, actors=1) == (120, 0)  # nothing is left to do
    assert_each_row_once(folder, 120)


def test_the_driver_is_killed_and_started_again(tmp_path):
    folder, command = tmp_path / "run", [sys.executable, str(HERE / "driver.py")]
    log, manifest = tmp_path / "log", folder / _runs.MANIFEST
    with log.open("w") as text:
        first = subprocess.Popen([*command, str(folder), "120"], stdout=text, stderr=text)
        while first.poll() is None and (not manifest.exists() or not manifest.stat().st_size):
            time.sleep(0.1)
        first.send_signal(signal.SIGKILL)
        first.wait()
    begun = len(_runs.read_manifest(folder))
    assert 0 < begun < 120, log.read_text()
    done = subprocess.run(
        [*command, str(folder), "120"], capture_output=True, text=True, check=False
    )
    assert "done 120 0" in done.stdout, done.stderr
    assert_each_row_once(folder, 120)
