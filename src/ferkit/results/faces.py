"""Boxes, faces and the emotions they show, as frozen records that check themselves.

`FACE_VALUES` is the one schema of a face, for JSON, tables and data frames.
"""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ferkit.errors import FerkitError

# The label of a face whose best class stays below the confidence that the user asked for.
UNCERTAIN = "uncertain"

Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A rectangle in absolute pixels: columns x1 to x2 and rows y1 to y2, the last ones excluded.

    Takes whole numbers of any kind, also NumPy's; `Box.inside` makes one of fractions.
    """

    x1: int
    y1: int
    x2: int
    y2: int

    def __post_init__(self) -> None:
        # NumPy's integers are what OpenCV's detectors give; JSON does not know them.
        for name, corner in vars(self).copy().items():
            try:
                object.__setattr__(self, name, operator.index(corner))
            except TypeError:
                raise FerkitError(
                    f"A box needs whole pixels; Box.inside rounds and clips. Received: {name}={corner!r}."
                ) from None
        if not (0 <= self.x1 < self.x2 and 0 <= self.y1 < self.y2):
            raise FerkitError(f"A box needs 0 <= x1 < x2 and 0 <= y1 < y2. Received: {self.to_list()}.")

    @classmethod
    def inside(cls, corners: Sequence[float], width: int, height: int) -> "Box | None":
        """The part of x1, y1, x2, y2 that lies in a picture, on whole pixels; None where nothing does.

        >>> Box.inside((-3.2, 4.6, 10.4, 99), width=20, height=20)
        Box(x1=0, y1=5, x2=10, y2=20)
        """
        x1, y1, x2, y2 = (round(corner) for corner in corners)
        x1, y1, x2, y2 = max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)
        return cls(x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None

    @property
    def width(self) -> int:
        return self.x2 - self.x1

    @property
    def height(self) -> int:
        return self.y2 - self.y1

    def overlap(self, other: "Box") -> float:
        """Intersection over union, 0 to 1."""
        return float(overlaps(np.array([self.to_list()]), np.array([other.to_list()]))[0, 0])

    def to_list(self) -> list[int]:
        return [self.x1, self.y1, self.x2, self.y2]


def shared_areas(boxes: npt.NDArray[Any], others: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Area that each box shares with each other one: x1, y1, x2, y2 of both, (N, 4) and (M, 4) -> (N, M)."""
    one, other = boxes[:, None], others[None]
    sides = np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])
    return np.asarray(np.maximum(sides, 0).prod(axis=2))


def overlaps(boxes: npt.NDArray[Any], others: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Intersection over union, 0 to 1, of each box with each other one: (N, 4) and (M, 4) -> (N, M)."""
    shared = shared_areas(boxes, others)
    areas, other_areas = ((one[:, 2:] - one[:, :2]).prod(axis=1) for one in (boxes, others))
    return np.asarray(shared / (areas[:, None] + other_areas[None] - shared))


@dataclass(frozen=True)
class Face:
    """A face that a detector found.

    detection_score: 0 to 1; ranks the faces of one detector, and is no probability.
    landmarks: (x, y) in pixels of the person's right eye, left eye, nose tip, right and left corner of the mouth; None
        from a detector that gives none.
    roll: degrees by which the head leans clockwise from upright, above -180 to 180: by the landmarks where there are
        some, else what the detector says, else None.
    """

    box: Box
    detection_score: float
    landmarks: tuple[Point, ...] | None = None
    roll: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "detection_score", _number("detection_score", self.detection_score))
        if not 0 <= self.detection_score <= 1:
            raise FerkitError(f"detection_score must be 0 to 1. Received: {self.detection_score}.")
        if self.landmarks is None:
            object.__setattr__(self, "roll", _roll(self.roll))
            return
        try:
            points = tuple((float(x), float(y)) for x, y in self.landmarks)
        except (TypeError, ValueError):
            raise FerkitError(f"landmarks must be points (x, y). Received: {self.landmarks}.") from None
        if len(points) != 5:
            raise FerkitError(f"landmarks must be 5 points. Received: {len(points)}.")
        object.__setattr__(self, "landmarks", points)
        object.__setattr__(self, "roll", _roll_of(points))


def _roll_of(landmarks: Sequence[Point]) -> float | None:
    """Degrees by which the line of the eyes leans, with the mouth below it, whichever eye comes first."""
    right_eye, left_eye, _, right_mouth, left_mouth = np.array(landmarks, np.float64)
    (across, down), (x, y) = left_eye - right_eye, right_mouth + left_mouth - right_eye - left_eye
    leaning = math.degrees(math.atan2(down, across))
    return _roll(leaning + 180 if across * y - down * x < 0 else leaning)


def _roll(degrees: float | None) -> float | None:
    if degrees is None or not math.isfinite(degrees := _number("roll", degrees)):
        return None
    return 180 - (180 - degrees) % 360


@dataclass(frozen=True)
class FaceEmotion:
    """A face and the emotion it is perceived to show.

    label: the most probable class, or `uncertain`.
    confidence: probability of the most probable class, also where the label is `uncertain`.
    probabilities: class -> probability in the model's class order; they sum to 1.
    """

    face: Face
    label: str
    confidence: float
    probabilities: Mapping[str, float] = field(hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "confidence", _number("confidence", self.confidence))
        probabilities = {name: _number("probabilities", p) for name, p in self.probabilities.items()}
        object.__setattr__(self, "probabilities", probabilities)
        values = list(probabilities.values())
        # Not "any(p < 0)": comparisons with NaN are false, and NaN must not pass.
        if not values or not all(0 <= p <= 1 for p in values) or abs(sum(values) - 1) > 1e-3:
            raise FerkitError(f"probabilities must be 0 to 1 and sum to 1. Received: {self.probabilities}.")
        if self.label not in self.probabilities and self.label != UNCERTAIN:
            raise FerkitError(f"The label {self.label!r} is none of the classes {', '.join(self.probabilities)}.")

    @classmethod
    def from_probabilities(
        cls, face: Face, classes: Sequence[str], values: npt.NDArray[np.floating[Any]], min_confidence: float = 0.0
    ) -> "FaceEmotion":
        """The emotion that one row of a classifier's output means; below `min_confidence` it is `uncertain`."""
        probabilities = {name: float(p) for name, p in zip(classes, values, strict=True)}
        label = max(probabilities, key=lambda name: probabilities[name])
        confidence = probabilities[label]
        return cls(face, label if confidence >= min_confidence else UNCERTAIN, confidence, probabilities)

    def __str__(self) -> str:
        """One short line: `happy 96% at (180, 62, 269, 174)`."""
        return f"{self.label} {self.confidence:.0%} at {tuple(self.box.to_list())}"

    @property
    def box(self) -> Box:
        return self.face.box

    @property
    def detection_score(self) -> float:
        return self.face.detection_score

    @property
    def roll(self) -> float | None:
        return self.face.roll

    @property
    def landmarks(self) -> tuple[Point, ...] | None:
        return self.face.landmarks

    def top(self, count: int | None = None) -> list[tuple[str, float]]:
        """The most probable classes, best first; all of them without a count."""
        return sorted(self.probabilities.items(), key=lambda item: -item[1])[:count]

    def to_dict(self) -> dict[str, Any]:
        """The face as the JSON of `ferkit predict` has it."""
        return {value.name: value.read(self) for value in FACE_VALUES}


def _number(name: str, value: float) -> float:
    """A plain float: what JSON knows, of NumPy's numbers too."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise FerkitError(f"{name} must be made of numbers. Received: {value!r}.") from None


@dataclass(frozen=True)
class FaceValue:
    """What every result tells of a face: a key of its JSON, and its columns in tables.

    name: The key, and the column of a single value.
    kind: Type of the value in JSON.
    read: Takes the value from a face.
    columns: Names of the columns, in order, where the value has several parts. Of a dict they are its keys.
    """

    name: str
    kind: Any
    read: Callable[[FaceEmotion], Any]
    columns: tuple[str, ...] = ()


# The one schema of a face: JSON, tables, Parquet, data frames, the answers of the server, and summaries follow it.
# A face has every value; where there is no face, all of them are null. `float | None`: null of some faces, too.
FACE_VALUES = (
    FaceValue("box", tuple[int, int, int, int], lambda face: face.box.to_list(), ("x1", "y1", "x2", "y2")),
    FaceValue("detection_score", float, lambda face: round(face.detection_score, 6)),
    FaceValue("label", str, lambda face: face.label),
    FaceValue("confidence", float, lambda face: round(face.confidence, 6)),
    FaceValue(
        "probabilities", dict[str, float], lambda face: {name: round(p, 6) for name, p in face.probabilities.items()}
    ),
    FaceValue("roll", float | None, lambda face: None if face.roll is None else round(face.roll, 1)),
)
