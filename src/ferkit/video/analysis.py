"""Videos in, the people in them and their expressions over time out: as records, and as a table, clip and plot."""

import os
import stat
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ferkit._support.files import blame
from ferkit.errors import UsageError, VideoError
from ferkit.recognizer import EmotionRecognizer
from ferkit.render import check_plot
from ferkit.video.clip import ClipWriter
from ferkit.video.follower import DETECT_EVERY_S, MAX_GAP_S, TIME_CONSTANT_S, FaceFollower
from ferkit.video.frames import Every, FrameSource
from ferkit.video.overlay import Overlay
from ferkit.video.peaks import Peaks, check_table, last_row, video_rows, video_table
from ferkit.video.sources import VideoSource, open_video
from ferkit.video.subtitles import check_subtitles, write_subtitles
from ferkit.video.timeline import FrameFaces, Timeline


@dataclass(frozen=True)
class VideoSettings:
    """What decides the rows of a video, beside its recognizer.

    every: which frames. detect_every_s, smooth_s: as `analyze_video` takes them. fps: of frames in files, None for 25.
    """

    every: Every = field(default_factory=Every)
    detect_every_s: float = DETECT_EVERY_S
    smooth_s: float = TIME_CONSTANT_S
    fps: float | None = None

    def open(self, source: VideoSource) -> FrameSource:
        return open_video(source, every=self.every, fps=self.fps)

    def follower(self, recognizer: EmotionRecognizer, frames: FrameSource) -> FaceFollower:
        return FaceFollower(
            recognizer,
            detect_every_s=self.detect_every_s,
            time_constant_s=self.smooth_s,
            # Who is missing in one frame of few is not gone.
            max_gap_s=max(MAX_GAP_S, 2.5 * frames.step_s),
        )

    def describe(self) -> dict[str, Any]:
        """The same as JSON, for the metadata of tables."""
        span = {"start_s": self.every.start_s, "end_s": self.every.end_s}
        return {**vars(self), "every": str(self.every), **span}


def analyze_video(
    source: VideoSource | FrameSource,
    recognizer: EmotionRecognizer | None = None,
    *,
    every: str | int | Every = 1,
    detect_every_s: float | None = None,
    smooth_s: float = TIME_CONSTANT_S,
    fps: float | None = None,
    start: str | float | None = None,
    end: str | float | None = None,
    seconds: float | None = None,
    out: str | Path | None = None,
    annotate: str | Path | None = None,
    plot: str | Path | None = None,
    subtitles: str | Path | None = None,
    blur_faces: bool = False,
    raw: bool = False,
) -> "VideoAnalysis":
    """Track the faces in a video and recognise their expressions over time.

    Args:
        source: A path, URL, camera number or folder of frames; see `ferkit.video.open_video`. What that returned is
            accepted too; it has its own `every`, `fps`, `start` and `end`. For many videos see `analyze_videos`.
        recognizer: Detects and classifies faces; None creates one with the default model.
        every: Which frames to process: 5 is every fifth, "0.5s" one frame per half second.
        detect_every_s: Seconds between two runs of the detector, between which faces are tracked. None stands for 0.2,
            and for 0 with `blur_faces`, because a face that appears between two runs would not be blurred.
        smooth_s: Time constant of the smoothing in seconds; 0 turns it off.
        fps: Frames per second of a folder of frames; None stands for 25.
        start: Where to begin, in seconds or as "1:30".
        end: Where to end, likewise; the frame at that time is left out.
        seconds: Process only so many seconds.
        out: Write a table, .csv, .parquet or .jsonl, with a row per face and frame.
        annotate: Write the video with boxes, labels and bars, .mp4.
        plot: Write a plot of each person's expressions over time, .png, .svg or .pdf.
        subtitles: Write a segment for each period in which a person showed one expression: WebVTT (.vtt), SubRip
            (.srt) or ELAN (.eaf).
        blur_faces: Blur the faces in `annotate` and `plot`.
        raw: Keep text in a CSV as it is, even what a spreadsheet runs as a formula.

    Returns:
        A `VideoAnalysis`: iterate over it for the faces of each frame, or call `finish()`. The files are complete when
        it ends, and contain what was found until then if it ends early.

    Raises:
        VideoError: The source is not a video, or none of its frames can be decoded.
        UsageError: A value or a file name is not supported.

    Example:
        analysis = ferkit.analyze_video("clip.mp4", annotate="annotated.mp4")
        for found in analysis:
            print(found.time_s, [(face.track, face.face.label) for face in found.faces])
        print(analysis.timeline.summary())

    """
    targets = [None if one is None else Path(one) for one in (out, annotate, plot, subtitles)]
    check_targets(source, *targets)
    settings = make_settings(every, start, end, fps, detect_every_s, smooth_s, blur_faces=blur_faces)
    if isinstance(source, FrameSource):
        frames, settings = source, replace(settings, every=source.every)
    else:
        frames = settings.open(source)
    try:
        recognizer = recognizer or EmotionRecognizer()
        return analyze_opened(frames, recognizer, settings, *targets, blur_faces=blur_faces, raw=raw, seconds=seconds)
    except Exception:
        frames.close()
        raise


def analyze_opened(
    frames: FrameSource,
    recognizer: EmotionRecognizer,
    settings: VideoSettings,
    out: Path | None = None,
    annotate: Path | None = None,
    plot: Path | None = None,
    subtitles: Path | None = None,
    *,
    blur_faces: bool = False,
    raw: bool = False,
    seconds: float | None = None,
) -> "VideoAnalysis":
    """The same of a video that is open, and closed by the analysis; with checked targets."""
    follower = settings.follower(recognizer, frames)
    start_s = settings.every.start_s
    timeline = Timeline(frames.name, recognizer.classes, start_s, keep_stretches=subtitles is not None)
    about = {**recognizer.describe(), "video": settings.describe()}
    files = _Files(frames, timeline, about, out, annotate, plot, subtitles, blur_faces=blur_faces, raw=raw)
    return VideoAnalysis(frames, follower, files, seconds)


def make_settings(
    every: str | int | Every,
    start: str | float | None,
    end: str | float | None,
    fps: float | None,
    detect_every_s: float | None,
    smooth_s: float,
    *,
    blur_faces: bool = False,
) -> VideoSettings:
    """The settings that arguments of `analyze_video` ask for."""
    chosen = Every.of(every)
    if start is not None or end is not None:
        chosen = chosen.within(start, end)
    if detect_every_s is None:
        detect_every_s = 0.0 if blur_faces else DETECT_EVERY_S
    return VideoSettings(chosen, detect_every_s, smooth_s, fps)


def check_targets(
    source: object, out: Path | None, annotate: Path | None, plot: Path | None, subtitles: Path | None = None
) -> None:
    """Raise `UsageError` for a file that would replace the video or another file, or has an unsupported suffix."""
    named = [target for target in (out, annotate, plot, subtitles) if target is not None]
    for place, target in enumerate(named):
        if isinstance(source, str | Path) and os.path.exists(source) and target.exists() and target.samefile(source):  # noqa: PTH110
            raise UsageError(f"{target} is the video itself and would be replaced. Choose another name.")
        if target.resolve() in [other.resolve() for other in named[:place]]:
            raise UsageError(f"{target} is named twice, and one file would replace the other. Choose two names.")
        if target.is_dir():
            raise UsageError(f"{target} is a folder. Expected a file to write.")
    if out is not None:
        check_table(out)
    if annotate is not None and annotate.suffix.lower() != ".mp4":
        raise UsageError(f"Clips cannot be written as {annotate}. Expected a name that ends in .mp4.")
    if plot is not None:
        check_plot(plot)
    if subtitles is not None:
        check_subtitles(subtitles)


class VideoAnalysis:
    """The faces of a video, frame by frame, and the timeline that they add up to so far.

    An iterator, and a context manager that closes the video; it also closes after the last frame. An exception that
    leaves the `with` block discards the files.

    Attributes:
        source: The video.
        timeline: What was found so far.
        written: The files that are complete.

    """

    def __init__(self, source: FrameSource, follower: FaceFollower, files: "_Files", seconds: float | None) -> None:
        self.source = source
        self.timeline = files.timeline
        self.written = files.written
        self._until = None if seconds is None else self.timeline.start_s + seconds
        self._follower = follower
        self._found = self._frames(files)

    def __iter__(self) -> Iterator[FrameFaces]:
        return self

    def __next__(self) -> FrameFaces:
        return next(self._found)

    def finish(self) -> Timeline:
        """Process all remaining frames; returns the timeline."""
        for _ in self:
            pass
        return self.timeline

    def close(self) -> None:
        """Process no more frames; the timeline and the files keep what was found."""
        self._found.close()
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if problem is not None:
            try:
                self._found.throw(problem)
            except BaseException as raised:
                if raised is not problem:
                    raise
        self.close()

    def _frames(self, files: "_Files") -> Generator[FrameFaces, None, None]:
        with files:
            try:
                for frame in self.source:
                    faces = self._follower(frame.pixels, frame.time_s)
                    found = FrameFaces(frame, tuple(faces), self._follower.hidden(frame.time_s))
                    self.timeline.add(found)
                    self.timeline.broken = self.source.broken
                    files.write(found)
                    yield found
                    if files.failed or (self._until is not None and found.time_s >= self._until):
                        return
                self.timeline.finish(self.source.end_s)
            finally:
                self._end()
            if self.source.problem is not None and not self.timeline.frames:
                raise VideoError(f"Cannot read {self.source.name}: {self.source.problem}. Expected a complete video.")

    def _end(self) -> None:
        self.timeline.finish()
        self.timeline.broken, self.timeline.problem = self.source.broken, self.source.problem
        self.source.close()


class _Files:
    """The table, clip, plot and subtitles of one analysis, complete when the `with` block ends.

    written: those that are complete. failed: why the clip could not be written, if so; the others are kept.
    """

    def __init__(
        self,
        source: FrameSource,
        timeline: Timeline,
        about: Mapping[str, Any],
        out: Path | None,
        annotate: Path | None,
        plot: Path | None,
        subtitles: Path | None,
        *,
        blur_faces: bool,
        raw: bool,
    ) -> None:
        self.timeline = timeline
        self.written: list[Path] = []
        self.failed: VideoError | None = None
        self._about = about
        self._source, self._out, self._annotate, self._plot = source, out, annotate, plot
        self._subtitles = subtitles
        self._blur_faces, self._raw = blur_faces, raw
        self._peaks = Peaks(blur_faces=blur_faces)
        self._writers: list[Callable[[FrameFaces], None]] = []
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            for target in filter(None, (self._plot, self._subtitles)):
                _check_writable(target)
            if self._plot is not None:
                self._writers.append(self._peaks.add)
            if self._out is not None:
                self._writers.append(opening.enter_context(self._table(self._out)))
            if self._annotate is not None:
                self._writers.append(opening.enter_context(self._clip(self._annotate)))
            self._open = opening.pop_all()
        return self

    def write(self, found: FrameFaces) -> None:
        """Add a frame to all files."""
        for write in self._writers:
            write(found)

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if problem is not None and not isinstance(problem, GeneratorExit):
            self._open.__exit__(kind, problem, trace)
            return
        self._open.close()
        clip = None if self.failed else self._annotate
        self.written += [path for path in (self._out, clip) if path is not None]
        # The other files are complete by now: subtitles or a plot that fail do not cost them.
        if self._subtitles is not None:
            write_subtitles(self.timeline, self._subtitles)
            self.written.append(self._subtitles)
        if self._plot is not None:
            from ferkit.video.plot import plot_timeline  # Matplotlib takes a second to import

            plot_timeline(self.timeline, self._plot, peaks=self._peaks)
            self.written.append(self._plot)
        if self.failed is not None:
            raise self.failed

    @contextmanager
    def _table(self, target: Path) -> Iterator[Callable[[FrameFaces], None]]:
        name = self.timeline.source
        with video_table(target, self.timeline.classes, raw=self._raw, about=self._about) as table:
            yield lambda found: table.write_rows(video_rows(name, found))
            table.write_rows(last_row(self.timeline))
            table.about["videos"] = [record_of(self.timeline, self._source.rate, self._source.path)]

    @contextmanager
    def _clip(self, target: Path) -> Iterator[Callable[[FrameFaces], None]]:
        """A clip that fails, as on a full disk, sets `failed`: the other files stay valid."""
        draw = Overlay(self.timeline.classes, blur_faces=self._blur_faces)

        def write(found: FrameFaces) -> None:
            pixels = draw(found)
            try:
                clip.write(pixels, found.time_s)
            except VideoError as problem:
                self.failed = problem

        with ExitStack() as opened:
            clip = opened.enter_context(
                ClipWriter(target, rate=self._source.rate, sound=self._source.sound, start_s=self.timeline.start_s)
            )
            yield write
            whole = opened.pop_all()
            try:
                with whole:
                    if self.failed:
                        raise self.failed
                    clip.hold(self.timeline.end_s)
            except VideoError as problem:
                self.failed = problem


def record_of(timeline: Timeline, rate: float | None, path: str | None) -> dict[str, Any]:
    """What the metadata of a table says of a video: its summary, its frames per second, and which file it was."""
    return {**timeline.summary(), "frames_per_second": rate, "file": file_state(path)}


def file_state(path: str | None) -> dict[str, int] | None:
    """Size in bytes and time of change of a file; None for what is not one."""
    try:
        status = os.stat(path or "")  # noqa: PTH116 - it may be no path
    except (OSError, ValueError):
        return None
    return {"bytes": status.st_size, "changed_ns": status.st_mtime_ns} if stat.S_ISREG(status.st_mode) else None


def _check_writable(target: Path) -> None:
    """Raise now what would otherwise be raised hours later."""
    with blame(target, VideoError):
        target.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=target.parent).close()
