"""What is kept of a video: the moments at which each person showed each emotion most clearly, and the rows of its table."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ferkit.errors import UsageError
from ferkit.render import TABLES, CsvTable, Table, blurred
from ferkit.results import VIDEO_KEYS, Box, Row, face_columns, raw_columns
from ferkit.sources import RgbImage
from ferkit.video.timeline import FrameFaces, Timeline

SIDE = 96  # pixels of a small picture
_ROOM = 0.15  # around the face, as a part of its size
# People whose pictures are kept at once; of more, those who were seen least go.
_MOST_PEOPLE = 64


@dataclass(frozen=True)
class Peak:
    """One moment. confidence: smoothed. picture: RGB uint8 (96, 96, 3)."""

    label: str
    confidence: float
    time_s: float
    picture: npt.NDArray[np.uint8]


class Peaks:
    """Collects peaks frame by frame; memory is bounded. blur_faces: whether pictures hide who it is."""

    def __init__(self, *, blur_faces: bool = False) -> None:
        self.blur_faces = blur_faces
        self._peaks: dict[int, dict[str, Peak]] = {}
        self._seen: dict[int, int] = {}

    def add(self, found: FrameFaces) -> None:
        pixels: RgbImage | None = None
        for face in found.faces:
            emotion = face.face
            self._seen[face.track] = self._seen.get(face.track, 0) + 1
            kept = self._peaks.setdefault(face.track, {})
            before = kept.get(emotion.label)
            if before is None or emotion.confidence > before.confidence:
                pixels = self._shown(found) if pixels is None else pixels
                picture = _picture(pixels, emotion.box)
                kept[emotion.label] = Peak(emotion.label, emotion.confidence, found.time_s, picture)
        if len(self._peaks) > _MOST_PEOPLE:
            for track in sorted(self._peaks, key=lambda track: self._seen[track])[: _MOST_PEOPLE // 2]:
                del self._peaks[track], self._seen[track]

    def of(self, track: int) -> list[Peak]:
        """The peaks of a person, in order of time."""
        return sorted(self._peaks.get(track, {}).values(), key=lambda peak: peak.time_s)

    def _shown(self, found: FrameFaces) -> RgbImage:
        """The frame, where faces are hidden with those of all: a neighbour is in the picture as well."""
        if not self.blur_faces:
            return found.frame.pixels
        return blurred(found.frame.pixels, [*(face.face.box for face in found.faces), *found.hidden])


def _picture(pixels: RgbImage, box: Box) -> npt.NDArray[np.uint8]:
    side = round(max(box.width, box.height) * (1 + 2 * _ROOM))
    x, y = (box.x1 + box.x2 - side) // 2, (box.y1 + box.y2 - side) // 2
    x1, y1, x2, y2 = max(x, 0), max(y, 0), min(x + side, pixels.shape[1]), min(y + side, pixels.shape[0])
    part = pixels[y1:y2, x1:x2]
    whole = cv2.copyMakeBorder(part, y1 - y, y + side - y2, x1 - x, x + side - x2, cv2.BORDER_REPLICATE)
    way = cv2.INTER_AREA if side > SIDE else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(whole, (SIDE, SIDE), interpolation=way), np.uint8)


def video_table(
    target: Path, classes: tuple[str, ...], *, raw: bool = False, about: Mapping[str, Any] = MappingProxyType({})
) -> Table:
    """The table that a file name asks for by its suffix; `UsageError` for another."""
    kind = check_table(target)
    make = partial(CsvTable, raw=raw) if issubclass(kind, CsvTable) else kind
    return make(target, classes, keys=VIDEO_KEYS, more=raw_columns(classes), about=about)


def check_table(target: Path) -> type[Table]:
    """The kind of that table."""
    kind = TABLES.get(target.suffix.lower())
    if kind is None:
        raise UsageError(f"{target} is not a supported table format. Expected a name that ends in {', '.join(TABLES)}.")
    return kind


def video_rows(source: str, found: FrameFaces) -> Iterator[Row]:
    """A row per face; a frame without a face has one row without a label."""
    keys: Row = {"source": source, "time_s": round(found.time_s, 6), "frame": found.number}
    for face in found.faces:
        raw = zip(raw_columns(list(face.raw)), face.to_dict()["raw"].values(), strict=True)
        yield {**keys, "track": face.track, **face_columns(face.face), **dict(raw)}
    if not found.faces:
        yield keys


def last_row(timeline: Timeline) -> Iterator[Row]:
    """A row that says why a video broke off, if it did."""
    if timeline.problem is not None:
        yield {"source": timeline.source, "time_s": round(timeline.end_s, 6), "error": timeline.problem}
