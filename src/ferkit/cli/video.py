"""`ferkit video`: expressions in a video over time."""

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ferkit._support.files import blame
from ferkit.cli.console import fail, no_native_chatter, notes, print_json
from ferkit.cli.options import Detector, MinConfidence, Model
from ferkit.errors import FerkitError, UsageError, VideoError

if TYPE_CHECKING:
    from ferkit.video import FrameFaces, VideoAnalysis

Writer = "Callable[[FrameFaces], None]"


def video(
    source: Annotated[
        str, typer.Argument(help="A video file, https://... or rtsp://..., a camera number, or a folder of frames.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a table, .csv, .parquet or .jsonl, with a row per face and frame."),
    ] = None,
    annotate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the video with boxes, labels and bars, .mp4.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a plot of each person's emotions over time, .png or .svg."),
    ] = None,
    every: Annotated[
        str, typer.Option(metavar="N", help="Process every Nth frame (5) or one frame per interval (0.5s).")
    ] = "1",
    detect_every: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            min=0,
            help="Run the detector every S seconds and track faces in between. [default: 0.2; with --blur-faces 0]",
            show_default=False,
        ),
    ] = None,
    smooth: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            min=0,
            help="Time constant of the smoothing in seconds; 0 smooths nothing. [default: 0.3]",
            show_default=False,
        ),
    ] = None,
    fps: Annotated[float, typer.Option(help="Frames per second of a folder of frames.")] = 25.0,
    seconds: Annotated[float | None, typer.Option(metavar="S", min=0, help="Process only the first S seconds.")] = None,
    blur_faces: Annotated[bool, typer.Option("--blur-faces", help="Blur faces in the video and the plot.")] = False,
    model: Model = "default",
    detector: Detector = "auto",
    min_confidence: MinConfidence = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON document.")] = False,
) -> None:
    """Track faces in a video and recognise their expressions.

    Ctrl-C stops early and keeps the files up to that moment. A camera or live stream runs until then.

    Example: ferkit video clip.mp4 --out timeline.csv --annotate annotated.mp4 --plot timeline.png
    """
    from ferkit.cli.video_summary import print_summary
    from ferkit.recognizer import EmotionRecognizer
    from ferkit.video import DETECT_EVERY_S, TIME_CONSTANT_S, analyze_video, check_table, open_video

    _check_names(source, out, annotate, plot)
    if out is not None:
        check_table(out)
    with no_native_chatter():
        frames = open_video(source, every=every, fps=fps)
    with frames:
        with no_native_chatter():
            recognizer = EmotionRecognizer(model, detector, min_confidence=min_confidence)
        if detect_every is None:
            # A face that is first seen between two searches would not be hidden.
            detect_every = 0.0 if blur_faces else DETECT_EVERY_S
        smooth = TIME_CONSTANT_S if smooth is None else smooth
        analysis = analyze_video(frames, recognizer, detect_every_s=detect_every, smooth_s=smooth)
        with no_native_chatter(), _stopping() as stop:
            draw = None if plot is None else _Plot(plot, blur_faces)
            failed: list[FerkitError] = []
            with ExitStack() as opened:
                writers = [] if out is None else [opened.enter_context(_table(analysis, out))]
                if annotate is not None:
                    writers.append(opened.enter_context(_clip(analysis, annotate, blur_faces, failed)))
                if draw is not None:
                    writers.append(draw.peaks.add)
                advance = opened.enter_context(_progress(analysis, seconds))
                for found in analysis:
                    for write in writers:
                        write(found)
                    advance(found)
                    if failed or stop.by is not None or (seconds is not None and found.time_s >= seconds):
                        break
                analysis.close()
            # The table is safe by now: what else goes wrong does not cost it.
            _tell_of(out, None if failed else annotate)
            if draw is not None:
                draw(analysis)
                _tell_of(plot)
    if failed:
        raise failed[0]
    summary = analysis.timeline.summary()
    if stop.by is not None:
        summary["error"] = "interrupted"
    if as_json:
        print_json(summary)
    else:
        print_summary(analysis.timeline)
    sys.stdout.flush()
    _leave(analysis, stop.by)


def _tell_of(*written: Path | None) -> None:
    for path in written:
        if path is not None:
            notes.print(f"Wrote {path}", markup=False)


def _leave(analysis: "VideoAnalysis", signal_number: int | None) -> None:
    timeline = analysis.timeline
    if timeline.broken:
        notes.print(f"{timeline.broken} frames could not be decoded and were left out.")
    if signal_number is not None:
        notes.print(f"Stopped at {timeline.end_s:.1f} seconds.")
        raise typer.Exit(128 + signal_number)
    if timeline.problem is not None:
        fail(f"{timeline.source} is not whole: {timeline.problem}. What was found until then was kept.")
        raise typer.Exit(1)


def _check_names(source: str, *targets: Path | None) -> None:
    """Refuse what would replace the video or another of the files, and what nobody can draw."""
    named = [target for target in targets if target is not None]
    for place, target in enumerate(named):
        if os.path.exists(source) and target.exists() and target.samefile(source):  # noqa: PTH110
            raise UsageError(f"{target} is the video itself, and would be replaced. Name another file.")
        if target.resolve() in [other.resolve() for other in named[:place]]:
            raise UsageError(f"{target} is named twice, and one file would replace the other. Name two.")
        if target.is_dir():
            raise UsageError(f"{target} is a folder. Expected a file to write.")
    *_, annotated, plot = targets
    if annotated is not None and annotated.suffix.lower() != ".mp4":
        raise UsageError(f"{annotated} is no clip that ferkit writes. Expected a name that ends in .mp4.")
    if plot is not None and plot.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise UsageError(f"{plot} is no plot that ferkit writes. Expected a name that ends in .png, .svg or .pdf.")


class _Stop:
    """by: the signal that asked to end, if one did."""

    by: int | None = None


@contextmanager
def _stopping() -> Iterator[_Stop]:
    """Turn the first Ctrl-C or SIGTERM into a wish to end after this frame; a second Ctrl-C ends at once."""
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
def _table(analysis: "VideoAnalysis", target: Path) -> "Iterator[Callable[[FrameFaces], None]]":
    from ferkit.video import last_row, video_rows, video_table

    timeline = analysis.timeline
    with video_table(target, timeline.classes) as table:
        yield lambda found: table.write_rows(video_rows(timeline.source, found))
        table.write_rows(last_row(timeline))


@contextmanager
def _clip(
    analysis: "VideoAnalysis", target: Path, blur_faces: bool, failed: list[FerkitError]
) -> "Iterator[Callable[[FrameFaces], None]]":
    """Its own trouble, such as a full disk, goes to `failed`: a table elsewhere stays good."""
    from ferkit.video import ClipWriter, Overlay

    source = analysis.source
    draw = Overlay(analysis.timeline.classes, blur_faces=blur_faces)

    def write(found: "FrameFaces") -> None:
        pixels = draw(found)
        try:
            clip.write(pixels, found.time_s)
        except VideoError as problem:
            failed.append(problem)

    with ExitStack() as opened:
        clip = opened.enter_context(ClipWriter(target, rate=source.rate, sound=source.sound))
        yield write
        whole = opened.pop_all()
        try:
            with whole:
                if failed:
                    raise failed[0]
                clip.hold(analysis.timeline.end_s)
        except VideoError as problem:
            failed.append(problem)


class _Plot:
    """Collects what a plot shows, and draws it at the end."""

    def __init__(self, target: Path, blur_faces: bool) -> None:
        from ferkit.video import Peaks

        self.target, self.peaks = target, Peaks(blur_faces=blur_faces)
        # To find out hours later would be late.
        with blame(target, VideoError):
            target.parent.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=target.parent).close()

    def __call__(self, analysis: "VideoAnalysis") -> None:
        from ferkit.video import plot_timeline

        plot_timeline(analysis.timeline, self.target, peaks=self.peaks)


@contextmanager
def _progress(analysis: "VideoAnalysis", seconds: float | None) -> "Iterator[Callable[[FrameFaces], None]]":
    """How far it is and how long it takes yet, on standard error if somebody watches."""
    if not notes.is_terminal:
        yield lambda found: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    known = [length for length in (analysis.source.duration_s, seconds) if length]
    time_column: Any = TimeRemainingColumn() if known else TimeElapsedColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), time_column, TextColumn("{task.fields[speed]}"))
    with Progress(*columns, console=notes, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("video", total=min(known) if known else None, speed="")

        def show(found: "FrameFaces") -> None:
            elapsed = max(bar.tasks[task].elapsed or 0.0, 1e-3)
            speed = f"{analysis.timeline.frames / elapsed:.0f} frames per second"
            bar.update(task, completed=found.time_s, description=f"{found.time_s:.0f} s", speed=speed)

        yield show
