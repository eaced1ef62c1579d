"""A video's faces as rows of a table: which columns there are is said by `ferkit.rows`."""

from collections.abc import Iterator
from pathlib import Path

from ferkit.errors import UsageError
from ferkit.rows import VIDEO_KEYS, Row, face_columns, raw_columns
from ferkit.sinks import Table, tables
from ferkit.video.timeline import FrameFaces, Timeline


def video_table(target: Path, classes: tuple[str, ...]) -> Table:
    """The table that a file name asks for by its suffix; `UsageError` for another."""
    return check_table(target)(target, classes, keys=VIDEO_KEYS, more=raw_columns(classes))


def check_table(target: Path) -> type[Table]:
    """The kind of that table."""
    kinds = tables()
    kind = kinds.get(target.suffix.lower())
    if kind is None:
        raise UsageError(f"{target} is no table that ferkit writes. Expected a name that ends in {', '.join(kinds)}.")
    return kind


def video_rows(source: str, found: FrameFaces) -> Iterator[Row]:
    """A row per face; a frame without a face has one row with an empty label."""
    keys: Row = {"source": source, "time_s": round(found.time_s, 6), "frame": found.number}
    for face in found.faces:
        raw = {f"raw_{name}": round(p, 6) for name, p in face.raw.items()}
        yield {**keys, "track": face.track, **face_columns(face.face), **raw}
    if not found.faces:
        yield {**keys, "label": ""}


def last_row(timeline: Timeline) -> Iterator[Row]:
    """A row that says why a video broke off, if it did."""
    if timeline.problem is not None:
        yield {"source": timeline.source, "time_s": round(timeline.end_s, 6), "label": "", "error": timeline.problem}
