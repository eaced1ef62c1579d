"""Attempts at parts, so that a picture that kills the process costs one row, whoever starts again afterwards.

Who begins a part leaves a marker, and who ends it takes the marker away. A marker that is found tells of a process that
died, and nobody knows at which picture. So the part is then done carefully: before each picture the marker says which
one it is, and a picture at which processes died twice is left out. A process that ends in good order, by an error or by
Ctrl-C, takes its marker along, for no picture is to blame for that.
"""

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from ferkit.batch.job import FOLDER
from ferkit.batch.storage import Storage
from ferkit.errors import FerkitError

# A neighbour that takes all memory may kill a process at any picture, but hardly twice at the same one.
DEATHS = 2
# Deaths in a row at no picture at all: then the next attempt would end like these.
_UNEXPLAINED = 5

BEGUN = f"{FOLDER}/begun"
_NAME = re.compile(r"(\d{6,})\.json")


@dataclass
class _Marker:
    """What a process leaves behind. at: number of the picture in its part, None in front of the first and after the last.

    deaths: how often at which picture. unexplained: how often in a row at none.
    """

    at: int | None = None
    deaths: Counter[int] = field(default_factory=Counter)
    unexplained: int = 0

    @classmethod
    def read(cls, data: bytes) -> "_Marker":
        try:
            found = json.loads(data)
            deaths = Counter({int(picture): int(count) for picture, count in found["deaths"].items()})
            return cls(found["at"], deaths, int(found["unexplained"]))
        except (ValueError, KeyError, TypeError, AttributeError):  # cut short by a machine that died
            return cls()

    def bury(self) -> None:
        """Count the death of the process that left it."""
        if self.at is None:
            self.unexplained += 1
        else:
            self.deaths[self.at] += 1
            self.unexplained = 0
        self.at = None


class Attempt:
    """One attempt at a part, used in a `with` block.

    careful: whether a process died in this part before, so that `at` is to be told of each picture.
    """

    def __init__(self, storage: Storage, part: int) -> None:
        self._storage, self._part, self._name = storage, part, _name(part)
        found = storage.read(self._name)
        self.careful = found is not None
        self._marker = _Marker() if found is None else _Marker.read(found)

    def __enter__(self) -> Self:
        if self.careful:
            self._marker.bury()
        if self._marker.unexplained >= _UNEXPLAINED:
            self._marker.unexplained = 0  # for those who run it again
            self.at(None)
            raise FerkitError(
                f"{_UNEXPLAINED} processes died in part {self._part}, and at none of its pictures. Is there enough memory "
                "for so many workers? Run the same command again to go on."
            )
        try:
            self.at(None)
        except BaseException as told:  # SIGTERM, for one: what raises in here gets no `__exit__`
            self.__exit__(type(told), told, told.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        if kind is None or not self.careful:
            self._storage.remove(self._name)
        else:
            self.at(None)

    def deadly(self, picture: int) -> bool:
        """Whether processes died twice at this picture of the part."""
        return self._marker.deaths[picture] >= DEATHS

    def at(self, picture: int | None) -> None:
        """Say which picture of the part comes next; None when what follows is no picture's work."""
        self._marker.at = picture
        # What a dead process wrote is there; only a dead machine may take it along, and that is no picture's fault.
        self._storage.write(self._name, json.dumps(vars(self._marker)).encode(), lasting=False)


def forget(storage: Storage, part: int) -> None:
    """Take the marker of a part away that is done: its process died in between."""
    storage.remove(_name(part))


def pardon(storage: Storage, part: int) -> None:
    """What `Attempt` does at an end in good order, for a process that ended by the driver's will: deaths stay counted."""
    data = storage.read(_name(part))
    marker = _Marker() if data is None else _Marker.read(data)
    if not (marker.deaths or marker.unexplained):
        forget(storage, part)
    elif marker.at is not None:
        marker.at = None
        storage.write(_name(part), json.dumps(vars(marker)).encode(), lasting=False)


def begun_parts(storage: Storage) -> set[int]:
    """The parts that have a marker."""
    return {int(match[1]) for match in map(_NAME.fullmatch, storage.names(BEGUN)) if match}


def _name(part: int) -> str:
    return f"{BEGUN}/{part:06}.json"
