"""`ferkit video`: expressions in videos over time."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ferkit.cli.console import LINE_EVERY_S, fail, no_native_chatter, notes, output, print_json, progress_bar
from ferkit.cli.options import (
    Classes,
    DetectEvery,
    Detector,
    End,
    Every,
    MinConfidence,
    Model,
    Orientation,
    PixelScaleOption,
    Raw,
    Sensitivity,
    Smooth,
    Start,
)
from ferkit.errors import UsageError, count

if TYPE_CHECKING:
    from ferkit.recognizer import EmotionRecognizer
    from ferkit.video import FrameFaces, VideoAnalysis, VideoProgress, VideoSource


def video(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Videos, folders and globs of videos, https://... or rtsp://..., a camera number, or a folder of frames.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a table, .csv, .parquet or .jsonl, with a row per face and frame."),
    ] = None,
    raw: Raw = False,
    annotate: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the video with boxes, labels and bars, .mp4; a folder for those of several videos.",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write a plot of each person's expressions over time, .png, .svg or .pdf; a folder for several videos.",
        ),
    ] = None,
    subtitles: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a segment per person and expression, .vtt, .srt, or .eaf for ELAN."),
    ] = None,
    every: Every = "1",
    detect_every: DetectEvery = None,
    smooth: Smooth = None,
    fps: Annotated[
        float | None,
        typer.Option(
            help="Frames per second of a folder of frames; with it, a folder is the frames of one video. [default: 25]",
            show_default=False,
        ),
    ] = None,
    start: Start = None,
    end: End = None,
    seconds: Annotated[
        float | None, typer.Option(metavar="S", min=0, help="Process only S seconds of one video or camera.")
    ] = None,
    blur_faces: Annotated[bool, typer.Option("--blur-faces", help="Blur faces in the video and the plot.")] = False,
    model: Model = "default",
    detector: Detector = "auto",
    min_confidence: MinConfidence = 0.0,
    sensitivity: Sensitivity = None,
    classes: Classes = None,
    pixel_scale: PixelScaleOption = None,
    orientation: Orientation = "upright",
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON document.")] = False,
) -> None:
    """Track faces in videos and recognise their expressions.

    Several videos give one table. A second run with the same table skips the videos that are finished. A video that
    cannot be read is reported, and the exit code is then 1.

    Ctrl-C stops early and keeps the files up to that moment, of several videos those that are finished. A camera or live
    stream runs until then.

    Example: ferkit video clip.mp4 --out timeline.csv --annotate annotated.mp4 --plot timeline.png
    """
    from ferkit.recognizer import EmotionRecognizer
    from ferkit.video import TIME_CONSTANT_S, list_videos

    found = list_videos(sources, fps)
    for note in found.notes:
        notes.print(f"Note: {note}", markup=False)

    def load() -> "EmotionRecognizer":
        return EmotionRecognizer(
            model,
            detector,
            min_confidence=min_confidence,
            sensitivity=sensitivity,
            classes=classes,
            pixel_scale=pixel_scale,
            orientation=orientation,
        )

    options: dict[str, Any] = {
        "every": every,
        "detect_every_s": detect_every,
        "smooth_s": TIME_CONSTANT_S if smooth is None else smooth,
        "fps": fps,
        "start": start,
        "end": end,
        "out": out,
        "annotate": annotate,
        "plot": plot,
        "subtitles": subtitles,
        "blur_faces": blur_faces,
        "raw": raw,
    }
    if not found.several:
        _analyze_one(found.videos[0], load, options, seconds, as_json=as_json)
        return
    if seconds is not None:
        raise UsageError(
            "--seconds is for one video or camera. Of several videos choose a part with --start and --end."
        )
    if options.pop("subtitles") is not None:
        raise UsageError("--subtitles is for one video. Of several videos write a table with --out.")
    _analyze_several(found.videos, load, options, as_json=as_json)


def _analyze_one(
    source: "VideoSource",
    load: "Callable[[], EmotionRecognizer]",
    options: dict[str, Any],
    seconds: float | None,
    *,
    as_json: bool,
) -> None:
    from ferkit.video import analyze_video, check_targets, open_video

    check_targets(source, *(options[name] for name in ("out", "annotate", "plot", "subtitles")))
    opening = {name: options.pop(name) for name in ("every", "fps", "start", "end")}
    with no_native_chatter():
        frames = open_video(source, **opening)
    with frames, no_native_chatter(), _stopping() as stop:
        analysis = analyze_video(frames, load(), seconds=seconds, **options)
        try:
            with analysis, _progress(analysis, seconds) as advance:
                for found in analysis:
                    advance(found)
                    if stop.by is not None:
                        break
        finally:
            for path in analysis.written:
                notes.print(f"Wrote {path}", markup=False)
    summary = analysis.timeline.summary()
    if stop.by is not None:
        summary["error"] = "interrupted"
    if as_json:
        print_json(summary)
    else:
        output.print(analysis.timeline, soft_wrap=True)
    sys.stdout.flush()
    _leave(analysis, stop.by)


def _analyze_several(
    videos: "Sequence[VideoSource]",
    load: "Callable[[], EmotionRecognizer]",
    options: dict[str, Any],
    *,
    as_json: bool,
) -> None:
    from ferkit.render import Terminal
    from ferkit.video import analyze_videos, videos_document

    with no_native_chatter(), _stopping() as stop, _progress_of_several(stop) as show:
        summaries = analyze_videos(videos, load(), progress=show, **options)
        skipped = show.now.skipped if show.now else 0
    if as_json:
        print_json(summaries)
    else:
        output.print(Terminal(videos_document(summaries)), soft_wrap=True)
    sys.stdout.flush()
    broken = [one for one in summaries if one["error"] is not None]
    for one in broken:
        whole = one["source"] in one["error"]
        fail(
            one["error"]
            if whole
            else f"{one['source']} is incomplete: {one['error']}. Results up to that point were kept."
        )
    before = f", {skipped:,} of them analysed before" if skipped else ""
    failed = f"; {len(broken):,} could not be read, or not to the end" if broken else ""
    notes.print(f"{count(len(summaries), 'video')}{before}{failed}.")
    for name in ("out", "annotate", "plot"):
        if options[name] is not None and options[name].exists():
            notes.print(f"Wrote {options[name]}", markup=False)
    if stop.by is not None:
        notes.print(f"Stopped; {len(videos) - len(summaries):,} videos are left. To resume, run the same command.")
        raise typer.Exit(128 + stop.by)
    if broken:
        raise typer.Exit(1)


def _leave(analysis: "VideoAnalysis", signal_number: int | None) -> None:
    timeline = analysis.timeline
    if timeline.broken:
        notes.print(f"{timeline.broken} frames could not be decoded and were skipped.")
    if signal_number is not None:
        notes.print(f"Stopped at {timeline.end_s:.1f} seconds.")
        raise typer.Exit(128 + signal_number)
    if timeline.problem is not None:
        fail(f"{timeline.source} is incomplete: {timeline.problem}. Results up to that point were kept.")
        raise typer.Exit(1)


class _Stop:
    """by: the signal that requested the stop, if any."""

    by: int | None = None


@contextmanager
def _stopping() -> Iterator[_Stop]:
    """Turn the first Ctrl-C or SIGTERM into a request to stop after this frame; a second Ctrl-C stops at once."""
    stop = _Stop()

    def asked(number: int, _: object) -> None:
        if stop.by is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.by = number

    before = {number: signal.signal(number, asked) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _progress(analysis: "VideoAnalysis", seconds: float | None) -> "Iterator[Callable[[FrameFaces], None]]":
    """Position, remaining time and speed, on standard error."""
    from rich.progress import TextColumn, TimeElapsedColumn, TimeRemainingColumn

    begin, until = analysis.source.every.start_s, analysis.source.every.end_s
    whole = [length for length in (analysis.source.duration_s, until) if length]
    known = [length for length in (min(whole) - begin if whole else 0, seconds or 0) if length > 0]
    time_column: Any = TimeRemainingColumn() if known else TimeElapsedColumn()
    with progress_bar(time_column, TextColumn("{task.fields[speed]}")) as bar:
        task = bar.add_task("video", total=min(known) if known else None, speed="")

        def show(found: "FrameFaces") -> None:
            elapsed = max(bar.tasks[task].elapsed or 0.0, 1e-3)
            speed = f"{analysis.timeline.frames / elapsed:.0f} frames per second"
            bar.update(task, completed=found.time_s - begin, description=f"{found.time_s:.0f} s", speed=speed)

        yield show


class _Progress:
    """Shows where a run over several videos stands: by a bar, or where that is no terminal by a line a minute.

    now: where it stands. stop: when it was asked to end.
    """

    def __init__(self, bar: Any, stop: _Stop) -> None:
        self.now: VideoProgress | None = None
        self._bar, self._stop, self._last = bar, stop, time.monotonic()
        self._task = bar.add_task("videos", total=None)

    def __call__(self, now: "VideoProgress") -> bool:
        self.now = now
        if now.analysis is not None:
            at = now.analysis.timeline
            self._bar.update(self._task, description=f"{os.path.basename(at.source)} {at.end_s:.0f} s")  # noqa: PTH119
        self._bar.update(self._task, completed=now.videos, total=now.videos_in_all)
        if not notes.is_terminal and time.monotonic() - self._last >= LINE_EVERY_S:
            self._last = time.monotonic()
            notes.print(f"{now.videos:,} of {count(now.videos_in_all, 'video')}, {count(now.errors, 'error')}")
        return self._stop.by is not None


@contextmanager
def _progress_of_several(stop: _Stop) -> Iterator[_Progress]:
    from rich.progress import MofNCompleteColumn, TimeRemainingColumn

    with progress_bar(MofNCompleteColumn(), TimeRemainingColumn()) as bar:
        yield _Progress(bar, stop)
