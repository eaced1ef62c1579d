"""What recognition returns: boxes, faces, emotions, pictures, as frozen records that check themselves.

`FACE_VALUES` is the one schema of a face, for JSON, tables and data frames. Other libraries (pandas, pyarrow,
supervision) are imported when they are asked for.
"""

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType, UnionType
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeAlias, get_args, get_origin, overload

import numpy as np
import numpy.typing as npt

from ferkit.errors import FerkitError, MissingDependencyError, UsageError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import supervision as sv

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


@dataclass(frozen=True)
class PictureResult:
    r"""What was found in one picture; iterating gives its faces, from left to right.

    source: path or name of the picture; bytes of a name that are no text are written out (`\udcff`), so every result
        can be printed and stored.
    width, height: pixels after EXIF orientation; 0 where the picture could not be read.
    error: why the picture could not be read, else None. A picture without a face is no error.
    pixels: RGB uint8 (height, width, 3) where they were asked for, for drawing; not part of `to_dict`.
    classes: those of the model, in its order; taken from the faces where they are not given.
    notes: what was assumed when the picture was read, as that its end is missing; not part of `to_dict`.

    In a notebook it shows itself.
    """

    source: str
    width: int
    height: int
    faces: tuple[FaceEmotion, ...] = ()
    error: str | None = None
    pixels: npt.NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)
    classes: tuple[str, ...] = field(default=(), repr=False, compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        # Linux allows file names that are not UTF-8; one of them must not cost the table of a million others.
        object.__setattr__(self, "source", _encodable(self.source))
        object.__setattr__(self, "error", self.error and _encodable(self.error))
        classes = self.classes or (tuple(self.faces[0].probabilities) if self.faces else ())
        object.__setattr__(self, "classes", tuple(classes))
        for face in self.faces:
            if tuple(face.probabilities) != self.classes:
                raise FerkitError(
                    f"All faces of {self.source} must have the classes {', '.join(self.classes)}. "
                    f"Received: {', '.join(face.probabilities)}."
                )
            if face.box.x2 > self.width or face.box.y2 > self.height:
                raise FerkitError(
                    f"The box {face.box.to_list()} is not inside the picture {self.source} "
                    f"of {self.width}x{self.height} pixels; a detector must clip its boxes (Box.inside does)."
                )

    @classmethod
    def failed(cls, source: str, error: str) -> "PictureResult":
        """The result of a picture that could not be read."""
        return cls(source, 0, 0, error=error)

    def __str__(self) -> str:
        """One line an image: its source, then each face or why there is none."""
        return f"{self.source}: {self.error or ', '.join(map(str, self.faces)) or 'no face'}"

    def __iter__(self) -> Iterator[FaceEmotion]:
        return iter(self.faces)

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, index: int) -> FaceEmotion:
        return self.faces[index]

    def without_pixels(self) -> "PictureResult":
        """The same result holding no picture: small enough to keep by the million."""
        return replace(self, pixels=None)

    def to_dict(self) -> dict[str, Any]:
        """One object of the JSON of `ferkit predict`."""
        return {
            "source": self.source,
            "width": self.width,
            "height": self.height,
            "faces": [face.to_dict() for face in self.faces],
            "error": self.error,
        }

    def to_pandas(self) -> "pd.DataFrame":
        """A data frame with a row per face and the columns of `ferkit predict --csv`; see `ferkit.results`."""
        return to_pandas([self])

    def to_supervision(self) -> "sv.Detections":
        """The faces as `supervision.Detections`; see `ferkit.results` for what is where. Needs supervision."""
        return to_supervision(self)

    def _repr_html_(self) -> str:
        from ferkit.render import picture_html

        return picture_html(self)


class Results(list[PictureResult]):
    """What was found in many pictures: a plain list that also turns into a table, and shows itself in a notebook.

    classes: those of the model, in its order: the columns of a table also where no result names them.
    """

    classes: tuple[str, ...] = ()

    def __init__(self, results: Iterable[PictureResult] = (), classes: Sequence[str] = ()) -> None:
        super().__init__(results)
        self.classes = tuple(classes)

    @overload
    def __getitem__(self, place: SupportsIndex, /) -> PictureResult: ...
    @overload
    def __getitem__(self, place: slice, /) -> "Results": ...
    def __getitem__(self, place: SupportsIndex | slice, /) -> "PictureResult | Results":
        if isinstance(place, slice):
            return Results(super().__getitem__(place), self.classes)
        return super().__getitem__(place)

    def __add__(self, others: "list[PictureResult]", /) -> "Results":  # type: ignore[override]
        """Both, with the classes of both: those of the first, then those that only the second has."""
        more = others.classes if isinstance(others, Results) else ()
        return Results(super().__add__(others), tuple(dict.fromkeys((*self.classes, *more))))

    def __iadd__(self, others: Iterable[PictureResult], /) -> "Results":  # type: ignore[override]
        if isinstance(others, Results):
            self.classes = tuple(dict.fromkeys((*self.classes, *others.classes)))
        self.extend(others)
        return self

    def __str__(self) -> str:
        return "\n".join(map(str, self))

    def to_dicts(self) -> list[dict[str, Any]]:
        """The JSON of `ferkit predict`: one object per picture."""
        return [result.to_dict() for result in self]

    def to_pandas(self) -> "pd.DataFrame":
        """A data frame with a row per face and the columns of `ferkit predict --csv`."""
        return to_pandas(self, self.classes)

    def _repr_html_(self) -> str:
        from ferkit.render import pictures_html

        return pictures_html(self)


def _number(name: str, value: float) -> float:
    """A plain float: what JSON knows, of NumPy's numbers too."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise FerkitError(f"{name} must be made of numbers. Received: {value!r}.") from None


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


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

Row: TypeAlias = Mapping[str, str | int | float | datetime | None]
Columns: TypeAlias = Mapping[str, type]

# What says where a face is from: in pictures their source. Videos have more keys, and the same columns after them. In
# single precision the frames of a long video would fall together.
PICTURE_KEYS: Columns = {"source": str}
VIDEO_KEYS: Columns = {"source": str, "time_s": np.float64, "frame": int, "track": int}


def table_columns(
    classes: Sequence[str], keys: Columns = PICTURE_KEYS, more: Columns = MappingProxyType({})
) -> Columns:
    """Columns of every table of faces, in order, with their types.

    keys: stand before those of a face. more: stand behind all else.
    """
    named = [(name, kind) for value in FACE_VALUES for name, kind in _columns_of(value, classes)]
    named = [*keys.items(), *named, ("error", str), *more.items()]
    columns = dict(named)
    if len(columns) != len(named):
        raise UsageError(f"Classes named like columns cannot go into a table. Received: {', '.join(classes)}.")
    return columns


def _columns_of(value: FaceValue, classes: Sequence[str]) -> Iterator[tuple[str, type]]:
    if get_origin(value.kind) in (None, UnionType):
        yield value.name, next(iter(get_args(value.kind)), value.kind)
    else:
        for name in value.columns or classes:
            yield name, get_args(value.kind)[-1]


def raw_columns(classes: Sequence[str]) -> Columns:
    """Columns of the probabilities before smoothing, which tables of videos have behind all others."""
    return {f"raw_{name}": float for name in classes}


def class_columns(columns: Sequence[str]) -> tuple[str, ...]:
    """The classes of the model that wrote a table with these columns."""
    fixed = table_columns(())
    return tuple(name for name in columns[columns.index("confidence") : columns.index("error")] if name not in fixed)


def face_columns(face: FaceEmotion) -> Row:
    """What the columns of one face hold."""
    row: dict[str, Any] = {}
    for value in FACE_VALUES:
        told = value.read(face)
        if isinstance(told, dict):
            row |= told
        elif value.columns:
            row |= zip(value.columns, told, strict=True)
        else:
            row[value.name] = told
    return row


def face_rows(result: PictureResult) -> Iterator[Row]:
    """A row per face; a picture without a face, or with an error, has one row without a label."""
    for face in result:
        yield {"source": result.source, **face_columns(face)}
    if not result.faces:
        yield {"source": result.source, "error": result.error}


def parquet_schema(columns: Columns) -> "pa.Schema":
    """The `pyarrow.Schema` of a table of faces."""
    from ferkit._support.arrow import pa

    types = {
        str: pa.string(),
        int: pa.int32(),
        float: pa.float32(),
        np.float64: pa.float64(),
        datetime: pa.timestamp("ms"),
    }
    return pa.schema([(name, types[kind]) for name, kind in columns.items()])


# Int32, not int32: a picture without a face has no box.
_DTYPES: dict[type, str] = {str: "string", int: "Int32", float: "float64"}


def to_pandas(results: Iterable[PictureResult], classes: Sequence[str] = ()) -> "pd.DataFrame":
    """A row per face with the columns of every table of faces; a picture without a face has one without a label.

    classes: those of the model, for where no result has any; else the columns are the classes of the results.

    Columns are typed also where there is no row: text is `string`, boxes are `Int32`, shares are `float64`.
    Raises `MissingDependencyError` without pandas.
    """
    try:
        import pandas as pd
    except ImportError as problem:
        raise MissingDependencyError("to_pandas needs pandas: pip install pandas") from problem
    kept = list(results)
    columns = table_columns(list(dict.fromkeys(name for result in kept for name in result.classes)) or classes)
    rows = [row for result in kept for row in face_rows(result)]
    return pd.DataFrame(
        {name: pd.array([row.get(name) for row in rows], _DTYPES[kind]) for name, kind in columns.items()}
    )


def to_supervision(result: PictureResult) -> "sv.Detections":
    """The faces as `supervision.Detections`, for its annotators, trackers, zones and sinks.

    xyxy: float32 (N, 4). confidence: float32 (N,), the detection score, for that is what trackers and filters of
    overlaps weigh boxes by. class_id: int (N,), place in `result.classes`; `uncertain` comes after the last of them.
    data: `class_name` (N,), the label; `emotion_confidence` float32 (N,); `probabilities` float32 (N, classes), columns
    in the order of `result.classes`.

    Raises `MissingDependencyError` without supervision.
    """
    try:
        import supervision as sv
    except ImportError as problem:
        raise MissingDependencyError("to_supervision needs supervision: pip install 'ferkit[supervision]'") from problem
    names, faces = [*result.classes, UNCERTAIN], result.faces
    probabilities = [list(face.probabilities.values()) for face in faces]
    return sv.Detections(
        xyxy=np.array([face.box.to_list() for face in faces], np.float32).reshape(-1, 4),
        confidence=np.array([face.detection_score for face in faces], np.float32),
        class_id=np.array([names.index(face.label) for face in faces], int),
        data={
            "class_name": np.array([face.label for face in faces], np.str_),
            "emotion_confidence": np.array([face.confidence for face in faces], np.float32),
            # Not -1: of nobody's probabilities numpy cannot tell how many rows there are.
            "probabilities": np.array(probabilities, np.float32).reshape(len(faces), len(result.classes)),
        },
    )
