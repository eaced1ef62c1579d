"""Jobs that are killed, wherever and whenever: what is started again finishes, and no row is lost or there twice."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from batch_faults import Deadly, Endless, Failing, KillsOnce
from batch_jobs import DyingFolder, Killed, face, fresh, inline, make_pictures, markers, rows_of
from ferkit import batch
from ferkit.batch import plan as planning
from ferkit.batch import ray_engine, running
from ferkit.batch.engines import ENGINES
from ferkit.batch.running import claimed
from ferkit.batch.storage import Folder
from ferkit.batch.worker import Attempt
from ferkit.errors import ClusterError, FerkitError, UsageError
from full_disk import no_room_beyond
from recognition import BrightnessClassifier

CLASSIFIER = BrightnessClassifier()


@pytest.fixture
def pictures(tmp_path):
    """Twelve, of shades 0, 7, 14, ..."""
    return make_pictures(tmp_path / "pictures", 12)


@pytest.fixture
def whole_job(tmp_path, pictures):
    """The rows of a job that nobody disturbs."""
    batch.run(pictures, tmp_path / "whole", engine="inline", **settings())
    return rows_of(tmp_path / "whole")


@pytest.fixture(autouse=True)
def inline_engine(monkeypatch):
    monkeypatch.setitem(ENGINES._choices, "inline", inline)


def settings(detector="none", part_size=4):
    return {"model": CLASSIFIER, "detector": detector, "part_size": part_size}


def test_a_picture_that_kills_its_process_costs_one_row(pictures, tmp_path, whole_job):
    summary = batch.run(pictures, tmp_path / "out", workers=2, **settings(Deadly(7)))
    rows = rows_of(tmp_path / "out")
    assert [row["source"] for row in rows] == [row["source"] for row in whole_job]
    (bad,) = [number for number, row in enumerate(rows) if row["error"]]
    assert bad == 1
    assert "crashed on it 2 times" in rows[bad]["error"]
    assert rows[:bad] + rows[bad + 1 :] == whole_job[:bad] + whole_job[bad + 1 :]
    assert (summary.pictures, summary.errors) == (12, 1)
    assert markers(tmp_path / "out") == []


def test_a_picture_that_takes_without_end_costs_one_row(pictures, tmp_path, whole_job):
    summary = batch.run(pictures, tmp_path / "out", workers=1, **settings(Endless(35)))
    rows = rows_of(tmp_path / "out")
    (bad,) = [number for number, row in enumerate(rows) if row["error"]]
    assert bad == 5
    assert "or took more than 0.5 s" in rows[bad]["error"]
    assert rows[:bad] + rows[bad + 1 :] == whole_job[:bad] + whole_job[bad + 1 :]
    assert (summary.pictures, summary.errors) == (12, 1)


def test_a_worker_that_is_killed_is_replaced(pictures, tmp_path, whole_job):
    detector = KillsOnce(35, str(tmp_path / "killed"))
    summary = batch.run(pictures, tmp_path / "out", workers=1, **settings(detector))
    assert (tmp_path / "killed").exists()
    assert rows_of(tmp_path / "out") == whole_job
    assert summary.errors == 0


DRIVER = """
import sys
from batch_faults import KillsOnce
from ferkit import batch
from recognition import BrightnessClassifier
source, out, file = sys.argv[1:]
batch.run(source, out, workers=1, model=BrightnessClassifier(), detector=KillsOnce(35, file, parent=True), part_size=4)
"""


def test_a_driver_that_is_killed_takes_its_workers_along_and_is_gone_on_from(pictures, tmp_path, whole_job):
    out, killed = tmp_path / "out", tmp_path / "killed"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "helpers")}
    done = subprocess.run([sys.executable, "-c", DRIVER, pictures, out, killed], env=environment)
    assert done.returncode == -signal.SIGKILL
    worker = int(killed.read_text())
    wait_until(lambda: ended(worker))
    assert not (out / "part-000001.parquet").exists()
    before = (out / "part-000000.parquet").stat()

    summary = batch.run(pictures, out, workers=1, **settings(KillsOnce(35, str(killed), parent=True)))
    assert rows_of(out) == whole_job
    assert (summary.parts, summary.skipped_parts, summary.pictures) == (3, 1, 12)
    after = (out / "part-000000.parquet").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def ended(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until(true) -> None:
    deadline = time.monotonic() + 90
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_killed_at_any_change_of_the_disk(pictures, tmp_path, whole_job, monkeypatch):
    """The process dies in front of its first change, its second, ..., and is started again each time."""
    monkeypatch.setattr(running, "open_storage", lambda place: DyingFolder(Path(place)))
    monkeypatch.setattr(batch.Job, "storage", lambda job: DyingFolder(Path(job.out)))
    for moment in range(1000):
        out = fresh(tmp_path / "out")
        monkeypatch.setattr(DyingFolder, "left", moment)
        try:
            batch.run(pictures, out, engine="inline", **settings())
            break
        except Killed:
            done = {path: path.stat().st_ino for path in out.glob("part-*")}
        monkeypatch.setattr(DyingFolder, "left", 10**9)
        batch.run(pictures, out, engine="inline", **settings())
        assert rows_of(out) == whole_job
        assert markers(out) == []
        assert all(path.stat().st_ino == inode for path, inode in done.items())
    assert moment > 10  # plan, job, and for each of three parts marker, part, marker


def test_what_was_being_written_when_a_process_died_is_swept_away(pictures, tmp_path):
    draft = tmp_path / "out" / ".part-000001.0123abcd.parquet"
    draft.parent.mkdir()
    draft.write_bytes(b"half")
    marker = tmp_path / "out" / "_job" / "begun" / ".000001.json.123"
    marker.parent.mkdir(parents=True)
    marker.touch()
    batch.run(pictures, tmp_path / "out", engine="inline", **settings())
    assert not draft.exists()
    assert not marker.exists()


def test_deaths_at_two_pictures_of_a_part_are_told_apart(tmp_path):
    storage = Folder(tmp_path)

    def die(attempt: Attempt, *steps: int | None) -> None:
        for step in steps:
            attempt.at(step)

    first = Attempt(storage, 3).__enter__()
    assert not first.careful  # and dies
    second = Attempt(storage, 3).__enter__()
    assert second.careful
    die(second, 0, 1)
    third = Attempt(storage, 3).__enter__()
    assert not third.deadly(1)
    die(third, 0)
    fourth = Attempt(storage, 3).__enter__()
    die(fourth, 0, 1)
    with Attempt(storage, 3) as last:
        assert [last.deadly(number) for number in range(3)] == [False, True, False]
    with Attempt(storage, 3) as again:
        assert not again.careful


def test_deaths_at_no_picture_end_the_job_and_not_the_next_one(tmp_path):
    storage = Folder(tmp_path)
    for _ in range(5):
        Attempt(storage, 3).__enter__()
    with pytest.raises(FerkitError, match="5 processes crashed in part 3, outside of all images"):
        Attempt(storage, 3).__enter__()
    Attempt(storage, 3).__enter__()


@pytest.mark.parametrize(
    "left", [b"", b"{", b"[]", b'{"at": 1}', b'{"at": null, "deaths": {"x": 1}, "unexplained": 0}']
)
def test_a_damaged_marker_is_one_that_says_nothing(left, tmp_path):
    storage = Folder(tmp_path)
    storage.write("_job/begun/000003.json", left)
    with Attempt(storage, 3) as attempt:
        assert attempt.careful
        assert not attempt.deadly(0)


@pytest.mark.parametrize(
    "problem",
    [pytest.param(KeyError("nonsense"), id="bug"), pytest.param(MemoryError(), id="memory")],
)
def test_a_picture_at_which_the_detector_fails_costs_one_row(problem, pictures, tmp_path):
    batch.run(pictures, tmp_path / "out", engine="inline", **settings(Failing(14, problem)))
    rows = rows_of(tmp_path / "out")
    assert [number for number, row in enumerate(rows) if row["error"]] == [2]
    assert type(problem).__name__ in rows[2]["error"]


def test_what_ends_a_job_on_ray_keeps_the_deaths_that_are_known(tmp_path, monkeypatch):
    @contextmanager
    def nobody(*_, **__):
        raise ClusterError("Nobody answers.")
        yield

    begun = tmp_path / "_job" / "begun"
    begun.mkdir(parents=True)
    (begun / "000000.json").write_text('{"at": null, "deaths": {}, "unexplained": 0}')
    (begun / "000001.json").write_text('{"at": 3, "deaths": {"2": 1}, "unexplained": 0}')
    monkeypatch.setattr(ray_engine, "ray_session", nobody)
    job = batch.Job(str(tmp_path), "", batch.Settings(), 2, 2, CLASSIFIER.classes, {})
    with pytest.raises(ClusterError):
        list(ray_engine.run_parts(job, [0, 1], None))
    assert markers(tmp_path) == ["000001.json"]
    assert json.loads((begun / "000001.json").read_text()) == {"at": None, "deaths": {"2": 1}, "unexplained": 0}


def test_what_is_no_pictures_fault_ends_the_job_without_a_mark(pictures, tmp_path):
    with pytest.raises(UsageError, match="wrong"):
        batch.run(pictures, tmp_path / "out", workers=2, **settings(Failing(35, UsageError("wrong"))))
    assert markers(tmp_path / "out") == []


def test_a_full_disk_ends_the_job_in_one_line_and_it_goes_on_later(tmp_path):
    pictures, out = make_pictures(tmp_path / "pictures", 200), tmp_path / "out"
    with no_room_beyond(4000), pytest.raises(FerkitError, match=r"Cannot write .*part-000000.parquet: .*Free space"):
        batch.run(pictures, out, workers=1, **settings(part_size=200))
    assert rows_of(out) == []
    assert markers(out) == []
    batch.run(pictures, out, engine="inline", **settings(part_size=200))
    assert len(rows_of(out)) == 200


def test_of_two_that_plan_at_once_the_later_one_is_refused(pictures, tmp_path, monkeypatch):
    """In an object store, where nothing keeps them apart."""
    others, write_plan = tmp_path / "out" / "_job" / "job.json", planning.write_plan

    def slow(*arguments):
        planned = write_plan(*arguments)
        others.write_text("that of the other")
        return planned

    monkeypatch.setattr(planning, "write_plan", slow)
    with pytest.raises(UsageError, match="Another run has started a job"):
        batch.run(pictures, tmp_path / "out", engine="inline", **settings())
    assert others.read_text() == "that of the other"


def test_two_drivers_do_not_meet(pictures, tmp_path):
    with claimed(str(tmp_path / "out")), pytest.raises(FerkitError, match="Another run is writing to"):
        batch.run(pictures, tmp_path / "out", engine="inline", **settings())


def test_told_to_end_while_the_marker_is_written_it_takes_it_along(tmp_path, monkeypatch):
    """A `with` block that is not yet entered has no end either."""
    storage = Folder(tmp_path)
    write = storage.write

    def told(*arguments, **options):
        write(*arguments, **options)
        raise SystemExit(143)

    monkeypatch.setattr(storage, "write", told, raising=False)
    with pytest.raises(SystemExit), Attempt(storage, 3):
        raise AssertionError("it must not begin")
    assert storage.names("_job/begun") == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_told_to_end_it_ends_all_and_holds_nothing_against_any_picture(number, code, tmp_path):
    (tmp_path / "grey.png").write_bytes(face(90, size=700))
    (tmp_path / "list.txt").write_text("grey.png\n" * 3000)
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "ferkit",
        "batch",
        tmp_path / "list.txt",
        out,
        "--detector",
        "haar",
        "--workers",
        "1",
    ]
    options = {"stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    # What a shell starts in the background ignores Ctrl-C, and hands that on to all that it starts.
    heeding = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, preexec_fn=heeding, **options) as driver:
        wait_until(lambda: (out / "_job" / "begun").is_dir() and markers(out))
        # Ctrl-C reaches all processes of the terminal, SIGTERM the one.
        (os.killpg if number == signal.SIGINT else os.kill)(driver.pid, number)
        assert driver.wait(30) == code
        assert "To resume, run the same command." in driver.stderr.read()
    assert markers(out) == []
    with pytest.raises(ProcessLookupError):
        os.killpg(driver.pid, 0)
    assert json.loads((out / "_job" / "job.json").read_text())["pictures"] == 3000
