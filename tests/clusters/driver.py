"""A driver that is killed: it explains digits into a folder, slowly, on a Ray of its own."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import ray
from ray_network import digits, slow_factory

import xplique_sal.ray

if __name__ == "__main__":
    folder, count = sys.argv[1], int(sys.argv[2])
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(address="local", num_cpus=3, include_dashboard=False, object_store_memory=100 << 20)
    rows = [{"x": x, "row": row} for row, x in enumerate(digits(count))]
    told = xplique_sal.ray.run(
        folder,
        ray.data.from_items(rows, override_num_blocks=count // 10),
        slow_factory,
        name="row",
        inputs="x",
        position="row",
        batch_size=10,
        concurrency=1,
    )
    print("done", *told)
