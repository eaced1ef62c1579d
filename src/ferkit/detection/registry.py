"""What a face detector is, and the registry of those that have a name."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

from ferkit.download import Progress
from ferkit.errors import UsageError
from ferkit.images import RgbImage
from ferkit.registry import Registry
from ferkit.results import Face

# What any detector is: RGB uint8 (H, W, 3) in, faces out, their boxes in pixels of that picture. A function will do.
FaceDetector = Callable[[RgbImage], list[Face]]


class RegisteredDetector(Protocol):
    """A detector with a name: made without arguments, and able to say why it cannot be used here.

    Its boxes reach from ear to ear and from the upper forehead to the chin, so that one margin fits all detectors.
    One instance belongs to one thread: OpenCV's detectors keep state between calls.
    """

    licence: str

    def __init__(self) -> None: ...

    def __call__(self, image: RgbImage, /) -> list[Face]: ...

    @staticmethod
    def problem() -> str | None:
        """Why this detector cannot be used on this machine, in one sentence; None if it can. Touches no network."""
        ...


@runtime_checkable
class Downloads(Protocol):
    """A registered detector that fetches what it lacks, on its first use."""

    @staticmethod
    def download_note() -> str | None:
        """What its first use will download, in a few words; None if everything is here or nothing may be fetched."""
        ...

    @staticmethod
    def download(progress: Progress | None = None, /) -> None:
        """Fetch it, if it is not here. `MissingDependencyError` where that fails."""
        ...


@runtime_checkable
class HasWeights(Protocol):
    """A registered detector that works with a file."""

    @staticmethod
    def weights() -> Path | None:
        """That file; None where it is not here."""
        ...


DETECTORS: Registry[type[RegisteredDetector]] = Registry("detector")


def fetch_weights(choice: str, progress: Progress | None = None) -> None:
    """Download what the detector of that name lacks; mostly there is nothing to do.

    progress: told of the download: `progress(url, bytes so far, bytes in all)`.

    Raises `UsageError`, which names the choices, and `MissingDependencyError`.
    """
    detector = DETECTORS[choice]
    if isinstance(detector, Downloads):
        detector.download(progress)


def load_detector(choice: str | FaceDetector) -> FaceDetector:
    """The detector of that name, made anew; a callable is a detector already. Raises what `fetch_weights` raises."""
    if callable(choice):
        return choice
    fetch_weights(choice)
    return DETECTORS[choice]()


def checked_faces(found: object) -> list[Face]:
    """What a user's detector returned, if it is faces; else a `UsageError` that says what is expected."""
    if not isinstance(found, list | tuple) or not all(isinstance(face, Face) for face in found):
        raise UsageError(
            f"A detector returns a list of ferkit.Face. Received: {type(found).__name__}: {str(found)[:60]}."
        )
    return list(found)
