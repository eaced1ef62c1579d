"""Batch jobs on Ray: the rows of the local engine, whatever dies on the way. One cluster of small nodes on this machine."""

import os
import shutil
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import batch_faults
from batch_jobs import inline, make_pictures, markers, rows_of
from ferkit.batch.engines import ENGINES
from ferkit.batch.running import Progress, run
from ferkit.errors import ClusterError, ModelError
from ferkit.models import model_folder

ray = pytest.importorskip("ray")

from ray.cluster_utils import Cluster  # noqa: E402

# Starting nodes takes seconds on a quiet machine, and minutes on one that is not.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@pytest.fixture(scope="module")
def cluster():
    """Two nodes with a core each. That what runs on it leaves it alone is shown by the next test that finds it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")
        cluster = _persistent(
            lambda: Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        )
        _persistent(lambda: cluster.add_node(**NODE))
        for module in (sys.modules[__name__], batch_faults):  # workers cannot import tests
            ray.cloudpickle.register_pickle_by_value(module)
        yield cluster
        for module in (sys.modules[__name__], batch_faults):
            ray.cloudpickle.unregister_pickle_by_value(module)
        cluster.shutdown()


def _persistent(start):
    """Ray gives a node half a minute to come up, which a busy machine may not."""
    for _ in range(4):
        try:
            return start()
        except Exception as problem:
            if "timed out during startup" not in str(problem):
                raise
    return start()


@pytest.fixture
def pictures(tmp_path):
    return make_pictures(tmp_path / "pictures", 24)


@pytest.fixture
def expected(pictures, tmp_path, monkeypatch):
    """Which rows there must be: those of a worker without an engine."""
    monkeypatch.setitem(ENGINES._choices, "inline", inline)
    run(pictures, tmp_path / "inline", engine="inline", detector="none", part_size=2)
    return rows_of(tmp_path / "inline")


@dataclass(frozen=True)
class Wait:
    """A detector for two: on the node of that name it says that it is there and never ends, elsewhere it waits for that."""

    victim: str
    here: str

    def __call__(self, image):
        there = Path(self.here)
        if ray.get_runtime_context().get_node_id() == self.victim:
            there.touch()
            threading.Event().wait()
        while not there.exists():
            time.sleep(0.01)
        return batch_faults.whole(image)


def test_a_node_that_dies_in_mid_job_costs_no_row_and_doubles_none(cluster, pictures, expected, tmp_path, capfd):
    victim = _persistent(lambda: cluster.add_node(**NODE))
    cluster.wait_for_nodes()
    told = []

    def kill(now: Progress):
        told.append(now.parts)
        if len(told) == 2:
            cluster.remove_node(victim, allow_graceful=False)

    detector = Wait(victim.node_id, str(tmp_path / "here"))
    options = {"engine": "ray", "address": cluster.address, "detector": detector, "part_size": 2}
    summary = run(pictures, tmp_path / "out", progress=kill, **options)
    assert rows_of(tmp_path / "out") == expected
    assert (summary.pictures, summary.errors, summary.parts) == (24, 0, 12)
    assert told == list(range(13)), "each part as it is done"
    assert (tmp_path / "here").exists()
    assert markers(tmp_path / "out") == []
    assert capfd.readouterr().out == ""


def test_a_worker_that_is_killed_costs_no_row_and_doubles_none(cluster, pictures, expected, tmp_path):
    options = {"engine": "ray", "address": cluster.address, "part_size": 2}
    killed = tmp_path / "killed"
    run(pictures, tmp_path / "out", detector=batch_faults.KillsOnce(7 * 5, str(killed)), **options)
    assert killed.exists()
    assert rows_of(tmp_path / "out") == expected
    assert markers(tmp_path / "out") == []


def test_what_a_worker_raises_ends_the_job_in_one_line(cluster, pictures, tmp_path):
    options = {"engine": "ray", "address": cluster.address, "part_size": 2}
    with pytest.raises(ModelError, match=r"^No such eyes\.$"):
        run(pictures, tmp_path / "out", detector=batch_faults.Failing(7 * 20, ModelError("No such eyes.")), **options)
    assert markers(tmp_path / "out") == []
    done = len(rows_of(tmp_path / "out"))
    assert done < 24


@dataclass(frozen=True)
class Told:
    """A detector that works where our settings are known."""

    def __call__(self, image):
        if os.environ.get("FERKIT_TOLD") != "yes":
            raise ModelError("Nobody told me.")
        return batch_faults.whole(image)


def test_a_cluster_that_is_there_gets_our_settings_and_relative_paths(cluster, pictures, tmp_path, monkeypatch):
    shutil.copytree(model_folder.find("default"), tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FERKIT_TOLD", "yes")
    options = {"engine": "ray", "address": cluster.address, "part_size": 24}
    assert run(pictures, tmp_path / "out", model="model", detector=Told(), **options).errors == 0


def test_a_folder_that_the_machines_do_not_see(cluster, pictures, tmp_path, monkeypatch):
    def elsewhere(job, parts, workers, *, address=None):
        return ENGINES["ray"](replace(job, out=str(tmp_path / "elsewhere")), parts, workers, address=cluster.address)

    monkeypatch.setitem(ENGINES._choices, "elsewhere", elsewhere)
    with pytest.raises(ClusterError, match=r"does not see .*elsewhere.*all machines share") as caught:
        run(pictures, tmp_path / "out", engine="elsewhere", detector="none")
    assert "\n" not in str(caught.value)
