"""`ferkit video`: expressions in a video over time."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ferkit.cli.console import fail, no_native_chatter, notes, output, print_json, progress_bar
from ferkit.cli.options import Classes, Detector, MinConfidence, Model, Orientation, PixelScaleOption, Raw, Sensitivity

if TYPE_CHECKING:
    from ferkit.video import FrameFaces, VideoAnalysis


def video(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="A video file, https://... or rtsp://..., a camera number, or a folder of frames."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a table, .csv, .parquet or .jsonl, with a row per face and frame."),
    ] = None,
    raw: Raw = False,
    annotate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the video with boxes, labels and bars, .mp4.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a plot of each person's expressions over time, .png, .svg or .pdf."),
    ] = None,
    subtitles: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a segment per person and expression, .vtt, .srt, or .eaf for ELAN."),
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
            help="Time constant of the smoothing in seconds; 0 turns it off. [default: 0.3]",
            show_default=False,
        ),
    ] = None,
    fps: Annotated[float, typer.Option(help="Frames per second of a folder of frames.")] = 25.0,
    seconds: Annotated[float | None, typer.Option(metavar="S", min=0, help="Process only the first S seconds.")] = None,
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
    """Track faces in a video and recognise their expressions.

    Ctrl-C stops early and keeps the files up to that moment. A camera or live stream runs until then.

    Example: ferkit video clip.mp4 --out timeline.csv --annotate annotated.mp4 --plot timeline.png
    """
    from ferkit.recognizer import EmotionRecognizer
    from ferkit.video import TIME_CONSTANT_S, analyze_video, check_targets, open_video

    check_targets(source, out, annotate, plot, subtitles)
    with no_native_chatter():
        frames = open_video(source, every=every, fps=fps)
    with frames, no_native_chatter(), _stopping() as stop:
        analysis = analyze_video(
            frames,
            EmotionRecognizer(
                model,
                detector,
                min_confidence=min_confidence,
                sensitivity=sensitivity,
                classes=classes,
                pixel_scale=pixel_scale,
                orientation=orientation,
            ),
            detect_every_s=detect_every,
            smooth_s=TIME_CONSTANT_S if smooth is None else smooth,
            seconds=seconds,
            out=out,
            annotate=annotate,
            plot=plot,
            subtitles=subtitles,
            blur_faces=blur_faces,
            raw=raw,
        )
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

    known = [length for length in (analysis.source.duration_s, seconds) if length]
    time_column: Any = TimeRemainingColumn() if known else TimeElapsedColumn()
    with progress_bar(time_column, TextColumn("{task.fields[speed]}")) as bar:
        task = bar.add_task("video", total=min(known) if known else None, speed="")

        def show(found: "FrameFaces") -> None:
            elapsed = max(bar.tasks[task].elapsed or 0.0, 1e-3)
            speed = f"{analysis.timeline.frames / elapsed:.0f} frames per second"
            bar.update(task, completed=found.time_s, description=f"{found.time_s:.0f} s", speed=speed)

        yield show
