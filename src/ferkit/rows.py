"""Results as rows: the one owner of what a table of faces looks like, in files and in data frames."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from ferkit.errors import UsageError
from ferkit.results import FaceEmotion, PictureResult

Row: TypeAlias = Mapping[str, str | int | float | None]

# What says where a face is from: in pictures their source. Videos have more keys, and the same columns after them.
PICTURE_KEYS: Mapping[str, type] = {"source": str}
VIDEO_KEYS: Mapping[str, type] = {"source": str, "time_s": float, "frame": int, "track": int}
_FACE_COLUMNS: Mapping[str, type] = {
    "x1": int,
    "y1": int,
    "x2": int,
    "y2": int,
    "detection_score": float,
    "label": str,
    "confidence": float,
}


def table_columns(
    classes: Sequence[str], keys: Mapping[str, type] = PICTURE_KEYS, more: Sequence[str] = ()
) -> dict[str, type]:
    """Columns of every table of faces, in order, with their types.

    keys: stand before those of a face. more: numbers that stand behind all else.
    """
    columns = {**keys, **_FACE_COLUMNS, **dict.fromkeys(classes, float), "error": str, **dict.fromkeys(more, float)}
    if len(columns) != len(keys) + len(_FACE_COLUMNS) + len(classes) + 1 + len(more):
        raise UsageError(f"Classes named like columns cannot go into a table. Received: {', '.join(classes)}.")
    return columns


def raw_columns(classes: Sequence[str]) -> list[str]:
    """Columns of the probabilities before smoothing, which tables of videos have behind all others."""
    return [f"raw_{name}" for name in classes]


def face_columns(face: FaceEmotion) -> dict[str, str | int | float | None]:
    """What the columns of one face hold."""
    found = face.to_dict()
    x1, y1, x2, y2 = found.pop("box")
    probabilities = found.pop("probabilities")
    return {"x1": x1, "y1": y1, "x2": x2, "y2": y2, **found, **probabilities}


def face_rows(result: PictureResult) -> Iterator[Row]:
    """A row per face; a picture without a face, or with an error, has one row with an empty label."""
    for face in result:
        yield {"source": result.source, **face_columns(face)}
    if not result.faces:
        yield {"source": result.source, "label": "", "error": result.error}
