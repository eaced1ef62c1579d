"""What tests of batch jobs share: pictures, an engine without processes, a disk that dies, the rows of a job."""

import io
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow.parquet as pq

from ferkit.batch.storage import Folder
from ferkit.batch.worker import PartWorker


def face(shade: int, size: int = 48) -> bytes:
    """A picture of one shade as PNG: what `BrightnessClassifier` tells apart."""
    stream = io.BytesIO()
    PIL.Image.fromarray(np.full((size, size, 3), shade, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def make_pictures(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"{number:03}.png").write_bytes(face(number * 7 % 256))
    return folder


def inline(job, parts, workers, *, address=None):
    """An engine without processes, to be told what it runs."""
    worker = PartWorker(job)
    yield from map(worker, parts)


def rows_of(out: Path) -> list[dict]:
    """All rows of a job, in the order of its parts."""
    return [row for path in sorted(out.glob("part-*.parquet")) for row in pq.read_table(path).to_pylist()]


def markers(out: Path) -> list[str]:
    return [path.name for path in (out / "_job" / "begun").iterdir()]


class Killed(BaseException):
    """What stands for kill -9: nothing that the program does afterwards reaches the disk."""


class DyingFolder(Folder):
    """A folder that takes so many more changes; then the process that uses it counts as dead."""

    left = 10**9

    def _live(self) -> None:
        if DyingFolder.left <= 0:
            raise Killed
        DyingFolder.left -= 1

    def write(self, name, data, *, lasting=True):
        self._live()
        super().write(name, data, lasting=lasting)

    def remove(self, name):
        self._live()
        super().remove(name)


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder
