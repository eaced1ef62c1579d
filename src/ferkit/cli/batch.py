"""`ferkit batch`: the expressions in a large set of images or videos."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ferkit.cli.console import (
    LINE_EVERY_S,
    name_left_out,
    no_native_chatter,
    notes,
    print_json,
    progress_bar,
    read_and_found,
    say,
)
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
    Sensitivity,
    Smooth,
    Start,
)
from ferkit.errors import count

if TYPE_CHECKING:
    from ferkit.batch import BatchSummary, Progress


def batch(
    source: Annotated[
        str,
        typer.Argument(metavar="SRC", help="Folder, glob, .zip, .tar ({000..127} too), .parquet, list .txt; s3://..."),
    ],
    out: Annotated[str, typer.Argument(metavar="OUT", help="A new folder, or s3://... (gs://, az://).")],
    engine: Annotated[str, typer.Option(help="local: this machine; ray: a Ray cluster.")] = "local",
    workers: Annotated[int | None, typer.Option(min=1, help="Number of workers. [default: one per core]")] = None,
    address: Annotated[
        str | None, typer.Option(help="Address of a running Ray cluster. [default: start one on this machine]")
    ] = None,
    model: Model = "default",
    detector: Detector = "auto",
    min_confidence: MinConfidence = 0.0,
    sensitivity: Sensitivity = None,
    classes: Classes = None,
    pixel_scale: PixelScaleOption = None,
    orientation: Orientation = "upright",
    tta: Annotated[str | None, typer.Option(help="Test-time augmentation, such as flip; see `ferkit predict`.")] = None,
    part_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Images per output file, which is also the unit of resuming. [default: 64 to 1024]",
            show_default=False,
        ),
    ] = None,
    videos: Annotated[
        bool,
        typer.Option("--videos", help="Process the videos of SRC. [default: only where SRC holds no images]"),
    ] = False,
    every: Every = "1",
    detect_every: DetectEvery = None,
    smooth: Smooth = None,
    start: Start = None,
    end: End = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON document.")] = False,
) -> None:
    """Process many images or videos into a Parquet dataset.

    After an interruption the same command resumes. The exit code is 1 if images or videos could not be read.

    Example: ferkit batch photos/ emotions/ --workers 8
    """
    from ferkit.batch import run_batch
    from ferkit.video import TIME_CONSTANT_S

    settings: dict[str, Any] = {
        "model": model,
        "detector": detector,
        "min_confidence": min_confidence,
        "tta": tta,
        "sensitivity": sensitivity,
        "classes": classes,
        "pixel_scale": pixel_scale,
        "orientation": orientation,
        "part_size": part_size,
        "videos": videos or None,
        "every": every,
        "detect_every_s": detect_every,
        "smooth_s": TIME_CONSTANT_S if smooth is None else smooth,
        "start": start,
        "end": end,
    }
    try:
        with no_native_chatter(), _stopping_on_sigterm(), _progress() as show:
            summary = run_batch(source, out, engine=engine, workers=workers, address=address, progress=show, **settings)
    except KeyboardInterrupt:
        notes.print("Finished parts are kept. To resume, run the same command.")
        raise
    _print_summary(summary)
    name_left_out([source], videos=summary.videos)
    if as_json:
        print_json(summary.to_dict())
    if summary.errors:
        raise typer.Exit(1)


def _print_summary(summary: "BatchSummary") -> None:
    from ferkit.render import duration

    what = "video" if summary.videos else "image"
    notes.print(read_and_found(summary.pictures, summary.faces, summary.errors, what))
    new = summary.parts - summary.skipped_parts
    before = f", {summary.skipped_parts:,} of them before" if summary.skipped_parts else ""
    pace = f" in {duration(summary.seconds)}, {summary.pictures_per_second:.1f} {what}s per second" if new else ""
    say(f"Wrote {count(summary.parts, 'file')} into {summary.out}{before}{pace}.")


@contextmanager
def _stopping_on_sigterm() -> Iterator[None]:
    """Handle SIGTERM, which clusters send to end jobs, like Ctrl-C, so that workers do not count it as a crash."""

    def stop(number: int, _: object) -> None:
        notes.print("Terminated. To resume, run the same command.")
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _progress() -> "Iterator[Callable[[Progress], None]]":
    """A bar on standard error, or a line per minute if that is not a terminal."""
    if not notes.is_terminal:
        yield _Lines()
        return
    with progress_bar() as bar:
        task = bar.add_task("Listing", total=None)

        def show(now: "Progress") -> None:
            bar.update(task, description=_progress_line(now), completed=now.parts, total=now.parts_in_all)

        yield show


class _Lines:
    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, now: "Progress") -> None:
        if time.monotonic() - self._last >= LINE_EVERY_S:
            self._last = time.monotonic()
            notes.print(_progress_line(now))


def _progress_line(now: "Progress") -> str:
    from ferkit.render import duration

    in_all = "" if now.pictures_in_all is None else f" of {now.pictures_in_all:,}"
    left = "" if now.seconds_left is None else f", {duration(now.seconds_left)} left"
    what = "videos" if now.videos else "images"
    return f"{now.pictures:,}{in_all} {what}, {now.pictures_per_second:.1f} per second{left}, {now.errors:,} errors"
