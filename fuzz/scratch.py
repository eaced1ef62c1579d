"""A place in memory for the files that targets give to ferkit, and what is done with data sets that are read."""

import functools
import os
import tempfile
from pathlib import Path

from fuzz.judge import Finding

from ferkit.datasets.table import Reading


@functools.cache
def folder() -> Path:
    """A folder of this process, in memory where there is such a place; nothing but ferkit's own files may lie there."""
    memory = Path("/dev/shm")  # noqa: S108 - the folder made in it is our own
    made = tempfile.mkdtemp(
        prefix="ferkit-fuzz-", dir=memory if memory.is_dir() and os.access(memory, os.W_OK) else None
    )
    return Path(made)


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
