"""Why this answer: which places of a face speak for an emotion, as a map over the picture.

`explain` does all of it; `open_method` makes a method ready for many pictures. docs/explain.md says how to read a map.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ferkit.classifier import EmotionClassifier
from ferkit.cropping import cut_face, cut_to_picture
from ferkit.detection import FaceDetector
from ferkit.errors import UsageError
from ferkit.explain import grad_cam, occlusion  # noqa: F401 - they register themselves
from ferkit.explain.methods import AUTO, METHODS, Faces, Maps, Method, NoGradients, available, open_method
from ferkit.explain.occlusion import Occlusion
from ferkit.explain.overlay import overlay, ramp
from ferkit.explain.record import Explanation
from ferkit.images import RgbImage, read_image
from ferkit.labels import canonical
from ferkit.recognizer import Classifier, EmotionRecognizer
from ferkit.results import Box, Face, FaceEmotion
from ferkit.sources import Source

__all__ = [
    "AUTO",
    "METHODS",
    "Explanation",
    "Faces",
    "Maps",
    "Method",
    "NoGradients",
    "Occlusion",
    "available",
    "class_of",
    "explain",
    "explain_faces",
    "open_method",
    "overlay",
    "ramp",
]


def explain(
    model: str | Path | Classifier,
    picture: Source,
    *,
    faces: Sequence[Face] | None = None,
    label: str | None = None,
    method: str | Method = AUTO,
    detector: str | FaceDetector = "auto",
) -> list[Explanation]:
    """Explain what a model sees in each face of a picture, from left to right; an empty list where there is no face.

    Args:
        model: "default", a model folder or file, or a classifier.
        picture: whatever `ferkit.images.read_image` takes. An array of the very shape that the network takes is a face.
        faces: where faces are; None: the detector looks for them.
        label: the class to explain; None: of each face the most probable one.
        method: a name from `METHODS`, or one that is open; "auto" takes Grad-CAM where it can be had, else occlusion.
        detector: a name from `ferkit.detection.DETECTORS`, or a callable; "none" takes the picture as a face.

    Raises:
        ImageError: the picture cannot be read.
        UsageError: no such label, method or detector.
        ModelError: the model cannot be read, or (NoGradients) not be explained in this way.

    Example:
        for one in explain("default", "photo.jpg"):
            print(one.label, one.method, one.heatmap.shape)

    """
    classifier = EmotionClassifier.load(model) if isinstance(model, str | Path) else model
    class_of(classifier, label)  # a wrong name is said before anything is looked for
    opened = open_method(classifier, method) if isinstance(method, str) else method
    takes = classifier.face_input
    is_face = isinstance(picture, np.ndarray) and picture.shape == (takes.height, takes.width, takes.channels)
    image = read_image(picture)
    if faces is None:
        height, width = image.shape[:2]
        whole = [Face(Box(0, 0, width, height), 1.0)]
        faces = whole if is_face else EmotionRecognizer(classifier, detector).detect(image)
    return explain_faces(classifier, opened, image, faces, label=label)


def explain_faces(
    classifier: Classifier, method: Method, image: RgbImage, faces: Sequence[Face], *, label: str | None = None
) -> list[Explanation]:
    """`explain` for faces that are known, with a method that is open. image: RGB uint8 (H, W, 3)."""
    if not faces:
        return []
    height, width = image.shape[:2]
    takes, names = classifier.face_input, tuple(classifier.classes)
    cuts = np.stack([cut_face(image, face, takes) for face in faces])
    rows = classifier.predict_proba(cuts)
    chosen = class_of(classifier, label)
    classes = rows.argmax(axis=1) if chosen is None else np.full(len(faces), chosen)
    return [
        Explanation(
            FaceEmotion.from_probabilities(face, names, row),
            names[one],
            float(row[one]),
            method.name,
            *_shown(found, method.in_probability),
            cut_to_picture(face, takes, width=width, height=height),
            image,
        )
        for face, row, one, found in zip(faces, rows, classes, method(cuts, classes), strict=True)
    ]


def class_of(classifier: Classifier, label: str | None) -> int | None:
    """The place of a label among the classes, by its name or an alias; None for none. `UsageError` for no class."""
    names = tuple(classifier.classes)
    if label is None:
        return None
    wanted = label if label in names else canonical(label)
    for place, name in enumerate(names):
        if wanted in (name, canonical(name)):
            return place
    raise UsageError(f"{label!r} is none of the classes of this model: {', '.join(names)}.")


def _shown(found: Maps, in_probability: bool) -> tuple[Maps, float | None]:
    """A map from 0 to 1, and what the 1 stands for."""
    peak = max(float(found.max()), 0.0)
    heatmap = np.maximum(found, 0) / np.float32(peak) if peak > 0 else np.zeros_like(found)
    return heatmap.astype(np.float32, copy=False), peak if in_probability else None
