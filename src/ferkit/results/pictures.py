"""The faces of one picture and of many, as records, as rows of a table, as data frames.

Other libraries (pandas, pyarrow, supervision) are imported when they are asked for.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType, UnionType
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeAlias, get_args, get_origin, overload

import numpy as np
import numpy.typing as npt

from ferkit.errors import FerkitError, MissingDependencyError, UsageError
from ferkit.results.faces import FACE_VALUES, UNCERTAIN, FaceEmotion, FaceValue

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import supervision as sv


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


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


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
