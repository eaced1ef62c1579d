"""What targets share: what counts as a finding, bytes as choices, files. The tests of regressions use it without atheris."""

import atexit
import functools
import io
import itertools
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from ferkit.data.records import Reading
from ferkit.errors import FerkitError

T = TypeVar("T")

# A message is read by a person, on one line of a terminal or of a log.
LONGEST_MESSAGE = 4000


class Finding(AssertionError):  # noqa: N818 - what a fuzzer finds is called so
    """ferkit did what it must not do, although nothing was raised or only what may be raised."""


@contextmanager
def refusals_allowed() -> Iterator[None]:
    """Let ferkit say no, in one line; let through everything else that is raised."""
    try:
        yield
    except FerkitError as problem:
        check_message(str(problem))


def check_message(message: str) -> None:
    """Raise `Finding` for an error that is empty, longer than a line or too long to be read."""
    if not message.strip():
        raise Finding("an error without a word")
    if "\n" in message or "\r" in message:
        raise Finding(f"an error of several lines: {message[:300]!r}")
    if len(message) > LONGEST_MESSAGE:
        raise Finding(f"an error of {len(message):,} letters: {message[:300]!r}")


class Choices:
    """Bytes of the fuzzer as decisions, taken from the start; what is left over is content."""

    def __init__(self, data: bytes) -> None:
        self.rest = data

    def number(self, below: int) -> int:
        """A number from 0 on; 0 where nothing is left."""
        first, self.rest = self.rest[:1], self.rest[1:]
        return first[0] % below if first else 0

    def one_of(self, choices: Sequence[T]) -> T:
        return choices[self.number(len(choices))]

    def bytes(self, most: int | None = None) -> bytes:
        """As many bytes as the next two say, or all that is left where `most` is None."""
        if most is None:
            taken, self.rest = self.rest, b""
            return taken
        count = min(int.from_bytes(self.rest[:2], "big"), most)
        taken, self.rest = self.rest[2 : 2 + count], self.rest[2 + count :]
        return taken

    def text(self, most: int) -> str:
        return self.bytes(most).decode("utf-8", "surrogateescape")


def changed(data: bytes, choices: Choices) -> bytes:
    """These bytes, a few of them others, as all that is left of the choices says."""
    found = bytearray(data)
    while found and len(choices.rest) > 3:
        place = int.from_bytes(choices.rest[:2], "big") % len(found)
        found[place], choices.rest = choices.rest[2], choices.rest[3:]
    return bytes(found)


def sized(content: bytes) -> bytes:
    """What `Choices.bytes` takes for this content, for seeds."""
    return len(content).to_bytes(2, "big") + content


@functools.cache
def folder() -> Path:
    """A folder of this process."""
    made = tempfile.mkdtemp(prefix="ferkit-fuzz-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


def scratch(name: str, content: bytes) -> Path:
    """A file of this name with this content."""
    path = folder() / name
    path.write_bytes(content)
    return path


def zipped(files: Mapping[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", packing) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def listed(path: Path) -> Iterator[tuple[str, Any]]:
    """The pictures that a batch job finds in a file, by name, what is wrong with them checked."""
    from ferkit.sources import entries, list_container

    references = list(itertools.islice(list_container("faces", str(path), lambda name: iter([])), 100_001))
    if len(references) > 100_000:
        raise Finding(f"{path.stat().st_size:,} bytes stand for more than 100,000 pictures")
    for reference in references:
        if reference.problem is not None:
            check_message(reference.problem)
    for name, get in entries(references):
        picture = get()
        if picture.problem is not None:
            check_message(picture.problem)
        yield name, picture


def tabled(reading: Reading) -> set[tuple[int, ...]]:
    """Go through a data set as the cache does; gives the shapes of its faces, of which there is at most one."""
    shapes = set()
    for batch in reading.batches:
        count = len(batch.images)
        if not (len(batch.labels) == len(batch.splits) == len(batch.rows) == count):
            raise Finding(f"{count} faces with {len(batch.labels)} labels, or other splits or rows")
        if count:
            shapes.add(batch.images.shape[1:])
            if batch.labels.min() < 0 or batch.labels.max() >= len(reading.classes):
                raise Finding(f"labels {batch.labels.tolist()} of {len(reading.classes)} classes")
        for broken in batch.broken:
            check_message(broken.reason)
    if len(shapes) > 1 or any(0 in shape for shape in shapes):
        raise Finding(f"faces of {shapes} in one data set")
    return shapes
