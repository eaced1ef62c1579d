"""Detectors that do harm, for tests of batch jobs. Workers import them from here; pictures are told apart by their shade."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from ferkit.batch import worker
from ferkit.results import Box, Face


def whole(image):
    return [Face(Box(0, 0, image.shape[1], image.shape[0]), 1.0)]


@dataclass(frozen=True)
class Deadly:
    """Kills the process that looks at a picture of this shade."""

    shade: int

    def __call__(self, image):
        if image[0, 0, 0] == self.shade:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(image)


@dataclass(frozen=True)
class KillsOnce:
    """At a picture of this shade kills this process, or the one that started it, unless the file is there already."""

    shade: int
    file: str
    parent: bool = False

    def __call__(self, image):
        if image[0, 0, 0] == self.shade and not Path(self.file).exists():
            Path(self.file).write_text(str(os.getpid()))
            os.kill(os.getppid() if self.parent else os.getpid(), signal.SIGKILL)
            if self.parent:
                signal.pause()  # as if the picture took for ever: only its own end can end this process
        return whole(image)


@dataclass(frozen=True)
class Endless:
    """Does not end at a picture of this shade; at others it shortens what one may take."""

    shade: int

    def __call__(self, image):
        if image[0, 0, 0] == self.shade:
            signal.pause()
        worker.PICTURE_S = 0.5
        return whole(image)


@dataclass(frozen=True)
class Failing:
    """Fails at a picture of this shade."""

    shade: int
    problem: BaseException

    def __call__(self, image):
        if image[0, 0, 0] == self.shade:
            raise self.problem
        return whole(image)
