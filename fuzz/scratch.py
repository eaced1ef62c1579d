"""A place in memory for the files that targets give to ferkit, and what is done with data sets that are read."""

import atexit
import functools
import os
import shutil
import tempfile
from pathlib import Path

from ferkit.data.records import Reading
from fuzz.judge import Finding

PLACE = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path(tempfile.gettempdir())  # noqa: S108 - as memory


@functools.cache
def folder() -> Path:
    """A folder of this process, in memory where there is such a place. libFuzzer ends without cleaning up: `run.py` does."""
    made = tempfile.mkdtemp(prefix=f"{prefix(os.getpid())}-", dir=PLACE)
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


def prefix(process: int) -> str:
    """How the folder of a process begins."""
    return f"ferkit-fuzz-{process}"


def scratch(name: str, content: bytes) -> Path:
    """A file of this name with this content."""
    path = folder() / name
    path.write_bytes(content)
    return path


def tabled(reading: Reading) -> set[tuple[int, ...]]:
    """Go through a data set as the cache does; gives the shapes of its faces, of which there is at most one."""
    shapes = set()
    for batch in reading.batches:
        count = len(batch.images)
        if not (len(batch.labels) == len(batch.splits) == len(batch.rows) == count):
            raise Finding(
                f"{count} faces, {len(batch.labels)} labels, {len(batch.splits)} splits, {len(batch.rows)} rows"
            )
        if count:
            shapes.add(batch.images.shape[1:])
            if batch.labels.min() < 0 or batch.labels.max() >= len(reading.classes):
                raise Finding(f"labels {batch.labels.tolist()} of {len(reading.classes)} classes")
        for broken in batch.broken:
            if "\n" in broken.reason or len(broken.reason) > 4000:
                raise Finding(f"a reason of several lines or none to read: {broken.reason[:200]!r}")
    if len(shapes) > 1 or any(0 in shape for shape in shapes):
        raise Finding(f"faces of {shapes} in one data set")
    return shapes
