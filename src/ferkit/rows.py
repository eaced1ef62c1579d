"""Results as rows: the one owner of what a table of faces looks like, in files and in data frames."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from ferkit.errors import UsageError
from ferkit.results import PictureResult

Row: TypeAlias = Mapping[str, str | int | float | None]

# What says where a face is from: in pictures their source. Videos have other keys, and the same columns after them.
PICTURE_KEYS: Mapping[str, type] = {"source": str}
_FACE_COLUMNS: Mapping[str, type] = {
    "x1": int,
    "y1": int,
    "x2": int,
    "y2": int,
    "detection_score": float,
    "label": str,
    "confidence": float,
}


def table_columns(classes: Sequence[str], keys: Mapping[str, type] = PICTURE_KEYS) -> dict[str, type]:
    """Columns of every table of faces, in order, with their types."""
    columns = {**keys, **_FACE_COLUMNS, **dict.fromkeys(classes, float), "error": str}
    if len(columns) != len(keys) + len(_FACE_COLUMNS) + len(classes) + 1:
        raise UsageError(f"Classes named like columns cannot go into a table. Received: {', '.join(classes)}.")
    return columns


def face_rows(result: PictureResult) -> Iterator[Row]:
    """A row per face; a picture without a face, or with an error, has one row with an empty label."""
    for face in result:
        found = face.to_dict()
        x1, y1, x2, y2 = found.pop("box")
        probabilities = found.pop("probabilities")
        yield {"source": result.source, "x1": x1, "y1": y1, "x2": x2, "y2": y2, **found, **probabilities}
    if not result.faces:
        yield {"source": result.source, "label": "", "error": result.error}
