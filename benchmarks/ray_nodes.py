"""A batch job on a Ray cluster of three nodes on this machine, one of which is killed in mid-job: do all rows arrive?

    python benchmarks/ray_nodes.py --pictures 2000

Small faces of noise, cut by detector `none`. The job is done twice: by the local engine, undisturbed, and by Ray on three
nodes of one core each, one of which is killed (its raylet gets SIGKILL, and its workers die with it) when a third of the
parts is done. It prints the rows of both, how many differ, are missing or there twice, and how long the job stood still
around the death. Exit code 1 if a row is wrong.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow.parquet as pq

from ferkit.batch.running import BatchSummary, Progress, run

NODES = 3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--part-size", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_pictures(folder / "pictures", options.pictures)
        settings = {"detector": "none", "part_size": options.part_size}
        run(folder / "pictures", folder / "local", engine="local", workers=1, **settings)
        summary, pauses = disturbed(folder, settings)
        expected, found = (rows_of(folder / name) for name in ("local", "ray"))
    sources = [row["source"] for row in found]
    missing = len({row["source"] for row in expected} - set(sources))
    twice = len(sources) - len(set(sources))
    differ = sum(one != other for one, other in zip(expected, found, strict=False))
    print(f"{summary.pictures:,} pictures in {summary.parts} parts on {NODES} nodes, one killed after a third.")
    print(
        f"Rows: {len(expected):,} local, {len(found):,} on Ray; {missing} missing, {twice} twice, {differ} different."
    )
    print(
        f"Seconds: {summary.seconds:.1f} in all, {pauses[0]:.1f} until the first part, longest pause after {pauses[1]:.1f}."
    )
    return int(bool(missing or twice or differ or len(expected) != len(found)))


def disturbed(folder: Path, settings: dict[str, Any]) -> tuple[BatchSummary, tuple[float, float]]:
    """The job on Ray; also seconds until its first part was there, and the longest pause after that."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    nodes = [cluster.add_node(**node) for _ in range(NODES - 1)]
    cluster.wait_for_nodes()
    times: list[float] = []

    def kill(now: Progress) -> None:
        times.append(time.perf_counter())
        if nodes and now.parts >= now.parts_in_all / 3:
            cluster.remove_node(nodes.pop(), allow_graceful=False)
            nodes.clear()

    try:
        summary = run(
            folder / "pictures", folder / "ray", engine="ray", address=cluster.address, progress=kill, **settings
        )
    finally:
        cluster.shutdown()
    gaps = np.diff(times)
    return summary, (float(gaps[0]), float(gaps[1:].max()))


def make_pictures(folder: Path, count: int) -> None:
    folder.mkdir()
    chance = np.random.default_rng(0)
    for number in range(count):
        PIL.Image.fromarray(chance.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(folder / f"{number:06}.jpg")


def rows_of(out: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(out.glob("part-*.parquet")) for row in pq.read_table(path).to_pylist()]


if __name__ == "__main__":
    sys.exit(main())
