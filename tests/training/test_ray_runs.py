"""Training runs on Ray: how machines are shared, what a dead worker costs, what survives. Training is played, but once."""

import csv
import os
import signal
import socket
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from faces import small_dataset
from ferkit.errors import ClusterError, MissingDependencyError, TrainingError, UsageError
from ferkit.evaluation.report import read_history
from ferkit.training import run_folder
from ferkit.training.config import TrainConfig
from ferkit.training.experiments import Experiment, Where
from ferkit.training.search import Plan

pytest.importorskip("ray")
pytest.importorskip("keras")

from ferkit._support import ray_session
from ferkit.training import ray_runs

# Ray starts within seconds on a quiet machine, and within minutes on one that is not.
pytestmark = pytest.mark.timeout(500)
DATA = small_dataset(size=8)
EPOCHS = 4


@pytest.fixture(scope="module")
def ray():
    """One cluster for all tests of this file: this machine, room for two runs."""
    with ray_session.ray_session("local", workers=2) as ray:
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import tests
        yield ray
        ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def play(job, should_stop, *, quiet):
    """Stands in for training, in the worker. What shall happen is said in files beside the run.

    `trial-002.die-1-3`: the worker dies after the first epoch, and in the next session after the third.
    """
    said = {path.suffix for path in job.folder.parent.glob(f"{job.folder.name}.*")}
    deaths = [int(one) for word in said for one in word.split("-")[1:] if word.startswith(".die")]
    if ".fail" in said:
        return "The loss became nan in epoch 1."
    if ".full" in said:
        raise TrainingError("Cannot write it: No space left.")
    table = job.folder / "history.csv"
    rows = read_history(table) if table.is_file() else []
    if not rows:
        run_folder.claim(job.folder, job.recipe, job.dataset)
    with (job.folder / "sessions").open("a") as file:
        file.write(f"{len(rows) + 1}\n")
    session = len((job.folder / "sessions").read_text().splitlines())
    while len(rows) < EPOCHS:
        epoch = len(rows) + 1
        rows.append({"epoch": epoch, "val_accuracy": job.recipe.learning_rate * epoch / EPOCHS, "pid": os.getpid()})
        run_folder.write_history(table, rows)
        done = should_stop(rows[-1])
        if session <= len(deaths) and deaths[session - 1] <= epoch:
            os.kill(os.getpid(), signal.SIGKILL)
        if done:
            return None
    return None


@pytest.fixture
def played(monkeypatch, ray):
    monkeypatch.setattr(ray_runs, "run_experiment", play)


def jobs_in(folder, count):
    for number in range(1, count + 1):
        config = TrainConfig(learning_rate=number / 10)
        yield Experiment(DATA, config, folder / f"trial-{number:03}", number=number, name=f"Trial {number}")


@pytest.mark.slow
def test_a_run_that_lost_its_worker_goes_on_elsewhere(played, tmp_path, capfd):
    (tmp_path / "trial-002.die-1-3").touch()
    told, said = [], []

    def should_stop(job, row):
        told.append((job.number, row["epoch"]))
        return job.number == 3 and row["epoch"] == 2

    where = Where("ray", workers=2)
    outcomes = list(where.runs(jobs_in(tmp_path, 4), should_stop, say=said.append))
    assert sorted((one.experiment.number, one.why) for one in outcomes) == [(number, None) for number in range(1, 5)]
    assert sorted(told) == [(n, epoch) for n in range(1, 5) for epoch in range(1, 3 if n == 3 else 5)], "once each"
    assert (tmp_path / "trial-002" / "sessions").read_text().split() == ["1", "2", "4"]
    assert [one.split(" (")[0] for one in said if "worker" in one] == [
        "Trial 2 lost its worker and resumes from its last complete epoch"
    ] * 2
    assert said[0] == "Ray: 2 at once, 1 core each."
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_a_run_that_kills_every_worker_is_given_up(played, tmp_path):
    (tmp_path / "trial-001.die-1-1-1-1-1-1").touch()
    outcomes = {one.experiment.number: one.why for one in _all(jobs_in(tmp_path, 2))}
    assert outcomes[1].startswith(f"It lost {ray_runs.ATTEMPTS} workers")
    assert "\n" not in outcomes[1]
    assert outcomes[2] is None


def _all(jobs):
    return Where("ray", workers=2).runs(jobs, lambda job, row: False, say=None)


@pytest.mark.slow
def test_trouble_of_one_run_and_trouble_of_all(played, tmp_path):
    (tmp_path / "trial-001.fail").touch()
    assert {one.experiment.number: one.why for one in _all(jobs_in(tmp_path, 2))} == {
        1: "The loss became nan in epoch 1.",
        2: None,
    }
    (tmp_path / "trial-001.fail").rename(tmp_path / "trial-001.full")
    with pytest.raises(TrainingError, match="No space left"):
        list(_all(jobs_in(tmp_path, 2)))


@pytest.mark.slow
def test_a_folder_that_workers_do_not_see(played, tmp_path):
    with pytest.raises(ClusterError, match=r"does not see .*all machines share"):
        list(_all(jobs_in(tmp_path / "elsewhere", 1)))


@pytest.mark.slow
def test_a_search_on_ray_goes_on_anywhere(played, tmp_path, monkeypatch):
    pytest.importorskip("optuna")
    from ferkit.training import experiments as runs
    from ferkit.training.trials import tune

    plan = Plan.of("better", ("learning_rate", "batch_size"), epochs=EPOCHS)
    out = tmp_path / "t"

    def interrupt(text):
        if text.startswith("Trial 4"):
            # On a busy machine one worker may start when another has done two trials.
            deadline = time.monotonic() + 60
            while len(list(out.glob("trial-*/config.json"))) < 3 and time.monotonic() < deadline:
                time.sleep(0.05)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(DATA, plan, out=out, trials=6, where=Where("ray", workers=2), say=interrupt)
    begun = {path.name for path in out.glob("trial-*")}
    assert begun >= {"trial-001", "trial-002", "trial-003"}

    monkeypatch.setattr(runs, "run_experiment", lambda *args, **options: play(*args, **options))
    resumed = tune(DATA, plan, out=out, trials=7, resume=True)
    assert [trial.number for trial in resumed.trials] == list(range(1, 8))
    assert resumed.trials[0].values["learning_rate"] == 0.001, "the recipe's own"
    for trial in resumed.trials:
        stored = run_folder.stored_config(out / f"trial-{trial.number:03}", DATA, {})[0]
        assert stored.learning_rate == trial.values["learning_rate"]
        assert trial.epochs == len(read_history(out / f"trial-{trial.number:03}" / "history.csv"))


def real(job, should_stop, *, quiet):
    """Training itself, in a worker that dies after the first epoch of its first session. The serving copy is left out."""
    from ferkit.errors import ModelError
    from ferkit.models import exporting as export
    from ferkit.training import experiments as runs

    def refuse(*_):
        raise ModelError("left out by the test")

    def dying(row):
        done = should_stop(row)
        if row["epoch"] == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    export.to_onnx = refuse
    return runs.run_experiment(job, dying, quiet=quiet)


@pytest.mark.keras
@pytest.mark.slow
def test_a_seed_whose_worker_died_ends_as_one_trained_here(ray, tmp_path, monkeypatch, no_serving_copy):
    from ferkit.training.experiments import train_seeds

    options = {"epochs": 2, "batch_size": 16}
    here = train_seeds(small_dataset(), "better", [5], out=tmp_path / "here", **options)
    monkeypatch.setattr(ray_runs, "run_experiment", real)
    said = []
    there = train_seeds(
        small_dataset(),
        "better",
        [5],
        out=tmp_path / "there",
        where=Where("ray", workers=1),
        say=said.append,
        **options,
    )
    assert any("lost its worker" in one for one in said)
    tables = [_table(sweep.folder / "seed-5" / "history.csv") for sweep in (here, there)]
    np.testing.assert_allclose(tables[0], tables[1], rtol=1e-4)
    assert there.runs[0].figures["accuracy"] == here.runs[0].figures["accuracy"]
    assert (tmp_path / "there" / "seed-5" / "model.keras").is_file()


def _table(path: Path):
    with path.open() as file:
        return [[float(row[name]) for name in ("epoch", "loss", "val_loss")] for row in csv.DictReader(file)]


# Without a cluster


@pytest.mark.parametrize(
    ("machines", "wanted", "expected"),
    [
        pytest.param([{"CPU": 8}], None, (1, 8, 0), id="a machine"),
        pytest.param([{"CPU": 8}, {"CPU": 4}], None, (2, 4, 0), id="machines that differ"),
        pytest.param([{"CPU": 8}], 3, (3, 2, 0), id="workers share a machine"),
        pytest.param([{"CPU": 2}], 5, (5, 1, 0), id="more than cores: some wait"),
        pytest.param([{"CPU": 0}, {"CPU": 4}], 1, (1, 4, 0), id="a head that does nothing else"),
        pytest.param([{"CPU": 16, "GPU": 4}], None, (4, 4, 1), id="GPUs"),
        pytest.param([{"CPU": 16, "GPU": 4}], 9, (4, 4, 1), id="no two on a GPU"),
        pytest.param([{"CPU": 16, "GPU": 4}] * 2, 5, (5, 5, 1), id="five on two machines"),
        pytest.param([{"CPU": 64}, {"CPU": 8, "GPU": 2}], None, (2, 4, 1), id="only some have GPUs"),
        pytest.param([{}], None, (1, 1, 0), id="nothing known"),
    ],
)
def test_machines_are_shared_out(machines, wanted, expected):
    places = ray_runs.Places.of(machines, wanted)
    assert (places.count, places.cores, places.gpus) == expected


@pytest.mark.parametrize(
    ("where", "words"),
    [
        pytest.param(Where("rai"), "Did you mean 'ray'", id="engine"),
        pytest.param(Where("ray", workers=0), "workers must be at least 1", id="no worker"),
        pytest.param(Where(workers=2), "--engine ray", id="workers here"),
        pytest.param(Where(address="auto"), "--engine ray", id="address here"),
    ],
)
def test_places_that_make_no_sense(where, words):
    with pytest.raises(UsageError, match=words):
        where.check()


def test_a_missing_ray_names_its_extra(monkeypatch):
    monkeypatch.setattr(ray_session.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"ferkit\[ray\]"):
        Where("ray").check()


@pytest.mark.parametrize("address", ["nonsense", "host:", ":6379", "host:six"])
def test_addresses_that_are_none(address):
    with pytest.raises(UsageError, match="host:port, or auto"):
        ray_session._check_reachable(address)


def test_an_address_where_nobody_answers_is_said_at_once():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.raises(ClusterError, match=rf"No Ray cluster found at 127.0.0.1:{port}"):
        ray_session._check_reachable(f"127.0.0.1:{port}")
