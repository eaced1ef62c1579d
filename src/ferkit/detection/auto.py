"""The best detector that can be had, without making anybody wait for it."""

import functools
import logging

from ferkit.detection import yunet_file
from ferkit.detection.registry import DETECTORS
from ferkit.download import Progress
from ferkit.images import RgbImage
from ferkit.results import Face

_log = logging.getLogger(__name__)


@DETECTORS.register("auto")
class AutoDetector:
    """YuNet where its weight file is here or can be downloaded in a moment, else the Haar cascade.

    name, reason: which was taken, and why; said in the log too, once in a process.
    """

    licence = "of the one taken"

    def __init__(self) -> None:
        problem = yunet_file.problem() or yunet_file.find()[1]
        self.name = "haar" if problem else "yunet"
        self.reason = problem or "its weight file is here"
        failure = yunet_file.failed_lately()
        if problem and failure and yunet_file.download_note():
            self.reason = f"{problem}, and downloading it failed within the last hour ({failure.rstrip('.')})"
        self._detector = DETECTORS[self.name]()
        _say_once(self.name, self.reason)

    def __call__(self, image: RgbImage, /) -> list[Face]:
        return self._detector(image)

    @staticmethod
    def problem() -> str | None:
        return None

    @staticmethod
    def download_note() -> str | None:
        return yunet_file.download_note()

    @staticmethod
    def download(progress: Progress | None = None, /) -> None:
        yunet_file.try_download(progress)


@functools.cache
def _say_once(name: str, reason: str) -> None:
    level = logging.INFO if name == "yunet" else logging.WARNING
    _log.log(level, "Faces are found by the %s detector: %s.", name, reason)
