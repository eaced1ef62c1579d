"""Many videos: the timeline of each, one table of all, and runs that go on where another ended.

Beside the table of all lies a folder, `TABLE.parts`, with the table of each finished video. A video is finished when
its table is there, whole; a later run with the same settings takes it from there, and joins all tables into one.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferkit._support.files import sweep, write_atomically
from ferkit.errors import UsageError, VideoError
from ferkit.recognizer import EmotionRecognizer
from ferkit.render import Cell, ClassName, Column, DataTable, Document, Section, read_about
from ferkit.sources import Reference, printable_name
from ferkit.video.analysis import (
    VideoAnalysis,
    VideoSettings,
    analyze_opened,
    check_targets,
    file_state,
    make_settings,
    record_of,
)
from ferkit.video.follower import TIME_CONSTANT_S
from ferkit.video.frames import Every
from ferkit.video.peaks import check_table, last_row, video_table
from ferkit.video.sources import VideoSource, list_videos, video_name
from ferkit.video.timeline import Timeline, clock

_SETTINGS = "settings.json"
_MOST_LABELS = 3  # of a video, in a summary for people


@dataclass(frozen=True)
class VideoProgress:
    """Where a run over many videos stands.

    Attributes:
        videos: Number of finished videos.
        skipped: Number of those that an earlier run had finished.
        videos_in_all: Number of all videos.
        errors: Number of finished videos that could not be read, or not to their end.
        analysis: The video at hand, None between two.

    """

    videos: int
    skipped: int
    videos_in_all: int
    errors: int
    analysis: VideoAnalysis | None = None


def analyze_videos(
    sources: VideoSource | Iterable[VideoSource],
    recognizer: EmotionRecognizer | None = None,
    *,
    every: str | int | Every = 1,
    detect_every_s: float | None = None,
    smooth_s: float = TIME_CONSTANT_S,
    fps: float | None = None,
    start: str | float | None = None,
    end: str | float | None = None,
    out: str | Path | None = None,
    annotate: str | Path | None = None,
    plot: str | Path | None = None,
    blur_faces: bool = False,
    raw: bool = False,
    progress: Callable[[VideoProgress], object] | None = None,
) -> list[dict[str, Any]]:
    """Track the faces in many videos and recognise their expressions, one video after the other.

    A video that cannot be read costs its own rows only. With `out`, a later call with the same settings skips the
    videos that are finished and have not changed.

    Args:
        sources: Videos, folders, globs and lists of videos; see `ferkit.video.list_videos`.
        recognizer: Detects and classifies faces; None creates one with the default model.
        every: See `analyze_video`, as for all that is not explained here.
        detect_every_s: See there.
        smooth_s: See there.
        fps: Frames per second of folders of frames. With it, a folder or glob is the frames of a video.
        start: See there.
        end: See there.
        out: Write a table of all videos, .csv, .parquet or .jsonl, with a row per face and frame. The folder `OUT.parts`
            keeps the table of each.
        annotate: A folder; write each video with boxes, labels and bars into it, .mp4.
        plot: A folder; write a plot of each video into it, .png.
        blur_faces: See there.
        raw: See there.
        progress: Called after every frame and every video. The run ends when it returns True; finished videos are kept.

    Returns:
        The summary of each finished video, as `Timeline.summary` gives it, with its `frames_per_second`.

    Raises:
        UsageError: A value or a file name is not supported, or `out` was written with other settings.
        VideoError: There is no video.
        FerkitError: A file cannot be written.

    Example:
        for summary in ferkit.analyze_videos("study/", out="study.parquet"):
            print(summary["source"], summary["share"], summary["error"])

    """
    videos = list_videos(sources, fps).videos
    settings = make_settings(every, start, end, fps, detect_every_s, smooth_s, blur_faces=blur_faces)
    if out is not None:
        check_table(Path(out))
    files = {".mp4": annotate, ".png": plot}
    folders = {suffix: Path(folder) for suffix, folder in files.items() if folder is not None}
    for folder in folders.values():
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is a file. Of several videos it must be a folder for their files.")
    run = _Run(
        _outside(videos, folders.get(".mp4")),
        recognizer or EmotionRecognizer(),
        settings,
        None if out is None else Path(out),
        folders,
        progress or (lambda _: None),
        blur_faces=blur_faces,
        raw=raw,
    )
    return run.analyze()


class _StopError(Exception):
    """The caller has had enough, in the middle of a video."""


class _Run:
    """One run over many videos; the arguments are those of `analyze_videos`, made ready."""

    def __init__(
        self,
        videos: Sequence[VideoSource],
        recognizer: EmotionRecognizer,
        settings: VideoSettings,
        out: Path | None,
        folders: Mapping[str, Path],
        progress: Callable[[VideoProgress], object],
        *,
        blur_faces: bool,
        raw: bool,
    ) -> None:
        self._videos, self._recognizer, self._settings, self._out = videos, recognizer, settings, out
        self._folders, self._blur_faces, self._raw, self._progress = folders, blur_faces, raw, progress
        self._about = {**recognizer.describe(), "video": settings.describe()}
        self._stems = Counter(_stem(video) for video in videos)
        self._done: list[dict[str, Any]] = []
        self._skipped = 0
        self._parts: list[Path] = []

    def analyze(self) -> list[dict[str, Any]]:
        if self._out is not None:
            self._claim(self._out)
        for video in self._videos:
            found = self._finished(video)
            if found is not None:
                self._skipped += 1
            else:
                try:
                    found = self._analyze(video)
                except _StopError:
                    break
            self._done.append(found)
            if self._out is not None:
                self._parts.append(_part(self._out, video))
            if self._tell():
                break
        if self._out is not None:
            self._join(self._out)
        return [{name: value for name, value in one.items() if name != "file"} for one in self._done]

    def _tell(self, analysis: VideoAnalysis | None = None) -> bool:
        errors = sum(one["error"] is not None for one in self._done)
        return (
            self._progress(VideoProgress(len(self._done), self._skipped, len(self._videos), errors, analysis)) is True
        )

    def _claim(self, out: Path) -> None:
        """Refuse the parts of another run: nobody could tell afterwards which rows came from which settings."""
        folder = _parts_of(out)
        asked = {name: value for name, value in self._about.items() if name != "ferkit"}
        there: dict[str, Any] = {}
        with suppress(OSError, ValueError):
            there = json.loads((folder / _SETTINGS).read_bytes())
        flat, before = ({**one, **one.get("video", {}), "video": None} for one in (asked, there))
        name = next((name for name in flat if flat[name] != before.get(name)), None)
        if name is not None and any(folder.glob(f"*{out.suffix}")):
            raise UsageError(
                f"{folder} holds videos that were analysed with other settings: {name} was {before.get(name)} there and "
                f"is {flat[name]} now. Give what was given then, or choose another table."
            )
        with write_atomically(folder / _SETTINGS) as draft:
            draft.write_text(json.dumps(asked, indent=1), encoding="utf-8")
        sweep(folder)

    def _finished(self, video: VideoSource) -> dict[str, Any] | None:
        """What an earlier run found in a video; None where it has to be analysed."""
        if self._out is None:
            return None
        about = read_about(_part(self._out, video))
        record = None if about is None else about["videos"][0]
        if record is None or record["source"] != video_name(video) or record["file"] != file_state(_path(video)):
            return None
        if record["error"] is not None and record["file"] is None:
            return None  # a server, a store or a disk that may be back
        wanted = [self._target(video, suffix) for suffix in self._folders]
        return record if record["error"] is not None or all(path.is_file() for path in wanted) else None

    def _analyze(self, video: VideoSource) -> dict[str, Any]:
        """Analyse a video; its files are complete or not there."""
        part = None if self._out is None else _part(self._out, video)
        targets = part, *(self._target(video, one) if one in self._folders else None for one in (".mp4", ".png"))
        check_targets(_path(video), *targets)
        analysis = None
        try:
            frames = self._settings.open(video)
            analysis = analyze_opened(
                frames, self._recognizer, self._settings, *targets, blur_faces=self._blur_faces, raw=self._raw
            )
            with analysis:
                for _ in analysis:
                    if self._tell(analysis):
                        raise _StopError
            return record_of(analysis.timeline, frames.rate, frames.path)
        except VideoError as problem:
            if analysis is not None and part in analysis.written:  # it was the clip that could not be written
                return {**record_of(analysis.timeline, None, _path(video)), "error": str(problem)}
            timeline = Timeline(video_name(video), self._recognizer.classes)
            timeline.problem = str(problem)
            record = record_of(timeline, None, _path(video))
            if part is not None:
                about = {**self._about, "videos": [record]}
                with video_table(part, timeline.classes, raw=self._raw, about=about) as table:
                    table.write_rows(last_row(timeline))
            return record

    def _target(self, video: VideoSource, suffix: str) -> Path:
        stem = _stem(video)
        return self._folders[suffix] / f"{stem if self._stems[stem] == 1 else f'{stem}-{_mark(video)}'}{suffix}"

    def _join(self, out: Path) -> None:
        """Write the table of all finished videos, unless it is there already."""
        brief = [{name: value for name, value in one.items() if name not in ("tracks", "file")} for one in self._done]
        if self._skipped == len(self._done) and (read_about(out) or {}).get("videos") == brief:
            return
        about = {**self._about, "videos": brief}
        with video_table(out, self._recognizer.classes, raw=self._raw, about=about) as table:
            for part in self._parts:
                table.append(part)


def _parts_of(out: Path) -> Path:
    return out.with_name(f"{out.name}.parts")


def _part(out: Path, video: VideoSource) -> Path:
    """The table of one video, whatever else is analysed with it."""
    return _parts_of(out) / f"{_stem(video)}-{_mark(video)}{out.suffix}"


def _outside(videos: Sequence[VideoSource], folder: Path | None) -> list[VideoSource]:
    """The videos that do not lie where annotated ones go: those found there were drawn by the run before."""
    if folder is None or not folder.exists():
        return list(videos)
    target = folder.resolve()
    return [video for video in videos if Path(str(_path(video))).resolve().parent != target]


def _path(video: VideoSource) -> str:
    return video.path if isinstance(video, Reference) else str(video)


def _stem(video: VideoSource) -> str:
    """The name for files about a video, as all systems take it."""
    return re.sub(r"[^\w.-]+", "_", Path(video_name(video)).stem)[:80].strip("._") or "video"


def _mark(video: VideoSource) -> str:
    """What tells videos of one stem apart, in every run."""
    return hashlib.sha256(video_name(video).encode()).hexdigest()[:8]


def videos_document(summaries: Sequence[Mapping[str, Any]]) -> Document:
    """What `analyze_videos` returned, for people: a row per video."""
    rows = []
    longest = max((one["seconds"] for one in summaries), default=0.0)
    for one in summaries:
        shares = list(one["share"].items())[:_MOST_LABELS]
        emotions = [part for label, share in shares for part in (ClassName(label), f" {share:.0%}  ")]
        seen = f"{one['frames_with_faces'] / max(one['frames'], 1):.0%}"
        people = str(len(one["tracks"]))
        told = (clock(one["seconds"], longest), people, seen) if one["frames"] else ("", "", "")
        rows.append(
            (
                printable_name(one["source"]),
                *told,
                Cell(tuple(emotions or ["could not be read" if one["error"] else ""])),
            )
        )
    words = Column("video", left=True), "length", "people", "with faces", Column("emotions", left=True)
    return Document("", "", (Section("", (DataTable(words, tuple(rows)),)),))
