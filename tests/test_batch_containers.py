"""Containers as they come: compressed, damaged, cut off, with links and with names that repeat."""

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from batch_jobs import face, inline, rows_of
from ferkit import batch
from ferkit.batch import ENGINES
from ferkit.batch.listing import list_references
from ferkit.batch.references import SHARD
from recognition import BrightnessClassifier


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a job in this process; gives its rows."""
    monkeypatch.setitem(ENGINES._choices, "inline", inline)

    def run(source, **changes):
        settings = {"model": BrightnessClassifier(), "detector": "none", "part_size": 2, **changes}
        batch.run(source, tmp_path / "out", engine="inline", **settings)
        return rows_of(tmp_path / "out")

    return run


def write_tar(path: Path, pictures: Sequence[bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for number, data in enumerate(pictures):
            member = tarfile.TarInfo(f"{number:02}.png")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_compressed_tar_is_unpacked_once(mode, run, tmp_path, monkeypatch):
    """By a part for each two pictures it was unpacked from its start as many times."""
    source = write_tar(tmp_path / "a.tar", [face(shade) for shade in range(0, 240, 20)], mode)
    assert [one.kind for one in list_references(str(source))] == [SHARD]
    opened = []
    monkeypatch.setattr("ferkit.batch.reading.open_unpacked", _noting(opened))
    assert len(run(source)) == 12
    assert opened == [str(source)]


def _noting(opened: list[str]):
    from ferkit.batch.tars import open_unpacked

    def noted(path):
        opened.append(path)
        return open_unpacked(path)

    return noted
