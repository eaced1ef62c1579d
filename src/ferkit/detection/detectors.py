"""The detectors that have a name: found by it, listed with their speed."""

from ferkit._support.registry import Listed, describe, median_seconds, milliseconds
from ferkit.detection import haar as haar  # these two enter the registry
from ferkit.detection import yunet as yunet
from ferkit.detection.base import AUTO, FaceDetector, RegisteredDetector, check_count
from ferkit.detection.base import DETECTORS as DETECTORS
from ferkit.errors import FerkitError, UsageError
from ferkit.results import Face
from ferkit.sources import RgbImage


def load_detector(choice: str | FaceDetector) -> FaceDetector:
    """The detector of that name, made anew; a callable is a detector already.

    Raises:
        UsageError: No detector has that name. MissingDependencyError: It cannot be used on this machine.
    """
    return choice if callable(choice) else DETECTORS[choice]()


def list_detectors(image: RgbImage) -> list[Listed]:
    """All detectors with what they need and how long they take for a picture; one may have a `problem`."""
    return [_listed(name, detector, image) for name, detector in DETECTORS.items()]


def _listed(name: str, detector: type[RegisteredDetector], image: RgbImage) -> Listed:
    problem = seconds = None
    try:
        detect = detector()
        seconds = median_seconds(lambda: detect(image), runs=5)
    except FerkitError as trouble:
        problem = str(trouble)
    file = detector.weights()
    data = {
        "ready": problem is None,
        "problem": problem,
        "licence": detector.licence,
        "size_mb": file and round(file.stat().st_size / 1e6, 2) if file is None or file.is_file() else None,
        "ms_per_picture": seconds and round(1e3 * seconds, 3),
    }
    if name == "auto":
        return Listed(name, f"The default: {AUTO}.", (), data | {"takes": AUTO}, problem)
    facts = [problem or "available"]
    if seconds is not None:
        facts.append(f"{milliseconds(seconds)} for the sample portrait")
    if data["size_mb"] is not None:
        facts.append(f"{data['size_mb']:.1f} MB")
    return Listed(name, describe(detector), (", ".join([*facts, f"licence: {detector.licence}"]),), data, problem)


def checked_faces(found: object) -> list[Face]:
    """What a detector returned, if it is faces; else a `UsageError` that says what is expected.

    Raises `ImageError` for more than `MAX_FACES`.
    """
    if not isinstance(found, list | tuple) or not all(isinstance(face, Face) for face in found):
        raise UsageError(
            f"A detector returns a list of ferkit.Face. Received: {type(found).__name__}: {str(found)[:60]}."
        )
    check_count(len(found))
    return list(found)
