"""Attempts at parts, so that a picture that kills the process costs one row, whoever starts again afterwards.

Who begins a part leaves a marker, and who ends it takes the marker away. A marker that is found tells of a process that
died, and nobody knows at which picture. So the part is then done carefully: before each picture the marker says which
one it is, and a picture at which processes died twice is left out. A process that ends in good order, by an error or by
Ctrl-C, takes its marker along, for no picture is to blame for that.
"""

import json
from collections import Counter
from types import TracebackType
from typing import Self

from ferkit.batch.job import FOLDER
from ferkit.batch.storage import Storage

# A neighbour that takes all memory may kill a process at any picture, but hardly twice at the same one.
DEATHS = 2


class Attempt:
    """One attempt at a part, used in a `with` block.

    careful: whether a process died in this part before, so that `at` is to be told of each picture.
    """

    def __init__(self, storage: Storage, part: int) -> None:
        self._storage, self._name = storage, f"{FOLDER}/begun/{part:06}.json"
        found = storage.read(self._name)
        self.careful = found is not None
        self._deaths = _deaths(found)

    def __enter__(self) -> Self:
        self._write(None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        if kind is None or not self._deaths:
            self._storage.remove(self._name)
        else:
            self._write(None)

    def deadly(self, picture: int) -> bool:
        """Whether processes died twice at this picture of the part."""
        return self._deaths[picture] >= DEATHS

    def at(self, picture: int) -> None:
        """Say which picture of the part comes next."""
        self._write(picture)

    def _write(self, picture: int | None) -> None:
        marker = {"at": picture, "deaths": self._deaths}
        # What a dead process wrote is there; only a dead machine may take it along, and that is no picture's fault.
        self._storage.write(self._name, json.dumps(marker).encode(), lasting=False)


def _deaths(marker: bytes | None) -> Counter[int]:
    if marker is None:
        return Counter()
    try:
        found = json.loads(marker)
        deaths = Counter({int(picture): int(count) for picture, count in found["deaths"].items()})
        if found["at"] is not None:
            deaths[int(found["at"])] += 1
        return deaths
    except (ValueError, KeyError, TypeError, AttributeError):  # cut short by a machine that died
        return Counter()
