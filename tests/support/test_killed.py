"""What `kill -9` and a full disk leave, at every single change of the disk: nothing half-written that a reader would meet.

`stress/kill.py` and `stress/full_disk.py` do it to whole commands; here the same is done to what they are made of.
"""

import json
import os
import sys
import threading
import time
from contextlib import contextmanager, suppress

import numpy as np
import pytest

from faces import small_dataset
from ferkit._support import files
from ferkit._support.files import create, sweep
from ferkit.data.loading import load_dataset
from ferkit.errors import TrainingError
from ferkit.labels import EMOTIONS
from ferkit.models import model_folder
from ferkit.sources.images import FaceInput
from ferkit.training import run_folder
from ferkit.training.config import TrainConfig
from full_disk import no_room_beyond

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link")


class Killed(BaseException):
    """What stands for kill -9: nothing that the process does afterwards reaches the disk."""


class _Death:
    """Python tells of each change of the disk before it happens; from the one that is fatal on, none does."""

    place: str | None = None
    left = 0

    def __init__(self) -> None:
        sys.addaudithook(self)  # for good, so there is one, and idle without a place

    def __call__(self, event, arguments):
        if self.place is None or not (event in _CHANGES or (event == "open" and (arguments[2] or 0) & _WRITING)):
            return
        path = arguments[0]
        if threading.current_thread() is threading.main_thread() and str(path).startswith(self.place):
            self.left -= 1
            if self.left < 0:
                if self.left == -1 and event == "open":
                    self._open(path, arguments[2])
                raise Killed

    def _open(self, path, flags) -> None:
        """Die behind the opening, not in front of it: the file is there, and empty."""
        self.place, place = None, self.place
        with suppress(OSError):
            os.close(os.open(path, flags, 0o666))
        self.place = place


@pytest.fixture(scope="session")
def death():
    return _Death()


@contextmanager
def dying(death, place, after):
    death.place, death.left = str(place), after
    try:
        yield
    finally:
        death.place = None


def moments_of(death, work, place):
    """Kill `work` in front of its first change, of its second, ...; yields after each death, until it lives."""
    for moment in range(1000):
        try:
            with dying(death, place, moment):
                work()
        except Killed:
            yield moment
        else:
            return


def named(folder):
    """Files under their final names."""
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name[0] != "."}


def test_a_run_that_is_killed_as_it_begins_can_be_begun_again_or_gone_on_with(death, tmp_path):
    """Half of config.json would be a run that neither begins, for it is there, nor goes on, for it cannot be read."""
    data, folder = small_dataset(size=16), tmp_path / "run"
    died = 0
    for _ in moments_of(death, lambda: run_folder.claim(folder, TrainConfig(), data), tmp_path):
        died += 1
        begun = (folder / "config.json").exists()
        assert run_folder.choose(folder, "tutorial", resume=begun) == folder
        if begun:
            assert run_folder.stored_config(folder, data, {})[0] == TrainConfig()
            (folder / "config.json").unlink()
        run_folder.tidy(folder)
        assert named(tmp_path) == {}
        assert not folder.exists() or list(folder.iterdir()) == []
    assert died >= 3


def test_a_run_that_finds_the_disk_full_as_it_begins_can_be_begun_again(tmp_path):
    data = small_dataset(size=16)
    with no_room_beyond(50), pytest.raises(TrainingError, match="Free space"):
        run_folder.claim(tmp_path / "run", TrainConfig(), data)
    assert list((tmp_path / "run").iterdir()) == []
    run_folder.claim(tmp_path / "run", TrainConfig(), data)
    assert run_folder.stored_config(tmp_path / "run", data, {})[0] == TrainConfig()


@pytest.mark.parametrize("links", [True, False])
def test_one_of_two_makes_a_file(links, tmp_path, monkeypatch):
    if not links:

        def refuse(*_):
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(files.os, "link", refuse)
    target = tmp_path / "one.json"
    with no_room_beyond(2), pytest.raises(OSError, match="too large"):
        create(target, b"first")
    assert list(tmp_path.iterdir()) == []
    create(target, b"first")
    with pytest.raises(FileExistsError):
        create(target, b"second")
    assert target.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [target]


def test_without_links_a_full_disk_leaves_nothing_either(tmp_path, monkeypatch):
    def fill(*_):
        resource.setrlimit(resource.RLIMIT_FSIZE, (2, hard))
        raise PermissionError(1, "Operation not permitted")

    resource = pytest.importorskip("resource")
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    monkeypatch.setattr(files.os, "link", fill)
    with no_room_beyond(100), pytest.raises(OSError, match="too large"):
        create(tmp_path / "one.json", b"first")
    assert list(tmp_path.iterdir()) == []


def test_drafts_of_the_dead_are_swept_away_and_nothing_else(tmp_path):
    old = time.time() - 100_000
    kept = ["faces.csv", ".faces.csv", ".hidden.tar.gz", ".faces.0123abcd.d", ".faces.0123abc.csv"]
    gone = [".faces.0123abcd.csv", ".images.ffffffff.npy", ".config.00000000"]
    for name in [*kept, *gone]:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (old, old))
    (tmp_path / ".faces.0123abcd.d").rename(tmp_path / "0123abcd.csv")
    (tmp_path / ".new.0123abcd.csv").touch()
    sweep(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*kept, "0123abcd.csv", ".new.0123abcd.csv"} - {".faces.0123abcd.d"}
    sweep(tmp_path, untouched_s=0)
    assert ".new.0123abcd.csv" not in {path.name for path in tmp_path.iterdir()}
    sweep(tmp_path / "nowhere")


def test_a_data_set_that_is_killed_while_it_is_kept_is_read_again(death, table, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setenv("FERKIT_CACHE", str(cache))
    whole = load_dataset(table)
    (entry,) = (cache / "datasets").iterdir()
    expected = named(entry)
    died = 0
    for path in entry.iterdir():
        path.unlink()
    for _ in moments_of(death, lambda: load_dataset(table), cache):
        died += 1
        assert named(entry).items() <= expected.items()
        for draft in entry.glob(".*"):
            os.utime(draft, (0, 0))
        again = load_dataset(table)
        assert np.array_equal(again.train.images, whole.train.images)
        assert named(entry) == expected
        assert list(entry.glob(".*")) == []
        for path in entry.iterdir():
            path.unlink()
    assert died > 5


def test_a_card_that_is_killed_is_the_old_one_or_the_new_one(death, tmp_path):
    def write(temperature):
        options = {"classes": EMOTIONS, "face_input": FaceInput(), "details": {}}
        return model_folder.write_card(tmp_path, temperature=temperature, **options)

    write(1.0)
    died = 0
    for _ in moments_of(death, lambda: write(2.0), tmp_path):
        died += 1
        assert model_folder.read_card(tmp_path)["temperature"] in (1.0, 2.0)
    assert died >= 2
    assert json.loads((tmp_path / "card.json").read_text())["temperature"] == 2.0
