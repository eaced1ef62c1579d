"""No detection, for faces that were cut before."""

from ferkit.detection.registry import DETECTORS
from ferkit.images import RgbImage
from ferkit.results import Box, Face


@DETECTORS.register("none")
class WholePicture:
    """No detection: the whole picture is one face that was cut before."""

    licence = "Apache-2.0"

    def __call__(self, image: RgbImage, /) -> list[Face]:
        height, width = image.shape[:2]
        return [Face(Box(0, 0, width, height), 1.0)]

    @staticmethod
    def problem() -> str | None:
        return None
