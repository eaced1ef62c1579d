"""`ferkit predict`: the expression of every face in images."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ferkit.cli.console import fail, name_left_out, no_native_chatter, notes, output, progress_bar, read_and_found, say
from ferkit.cli.options import (
    Classes,
    Detector,
    MinConfidence,
    Model,
    Orientation,
    PixelScaleOption,
    Raw,
    Sensitivity,
    Tta,
)
from ferkit.errors import UsageError
from ferkit.models import TTA

if TYPE_CHECKING:
    from ferkit.results import PictureResult


def predict(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE", help="Images, folders, globs, archives, lists, https://..., s3://..., or -."),
    ],
    model: Model = "default",
    detector: Detector = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a CSV table, one row per face.")] = None,
    raw: Raw = False,
    parquet: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the same table as Parquet.")] = None,
    save: Annotated[Path | None, typer.Option(metavar="DIR", help="Write annotated images into this folder.")] = None,
    blur_faces: Annotated[bool, typer.Option("--blur-faces", help="Blur faces in annotated images.")] = False,
    top: Annotated[
        int | None,
        typer.Option(min=1, metavar="K", help="Show only the K most probable emotions; files and JSON have all."),
    ] = None,
    min_confidence: MinConfidence = 0.0,
    sensitivity: Sensitivity = None,
    classes: Classes = None,
    pixel_scale: PixelScaleOption = None,
    orientation: Orientation = "upright",
    tta: Tta = None,
) -> None:
    """Recognise the expression of every face in images.

    An image that cannot be read is reported and skipped; the exit code is then 1.

    Example: ferkit predict photo.jpg holidays/ --save annotated/ --csv faces.csv
    """
    import warnings

    from ferkit._support.parallel import usable_cores
    from ferkit.recognizer import EmotionRecognizer
    from ferkit.render import (
        AnnotatedPictures,
        CsvTable,
        FaceTable,
        ParquetTable,
        check_targets,
        pictures_outside,
    )
    from ferkit.sources import SHARD, list_sources

    # Pillow warns of large pictures and odd metadata; what cannot be read is reported anyway.
    warnings.filterwarnings("ignore", module="PIL")
    if tta is not None:
        TTA[tta]  # a wrong name is said before the model is loaded
    if blur_faces and save is None:
        raise UsageError("--blur-faces needs --save, which is missing.")
    with no_native_chatter():
        # Never one: this thread would decode, and Ctrl-C wait for the decoder.
        recognizer = EmotionRecognizer(
            model,
            detector,
            min_confidence=min_confidence,
            tta=tta,
            threads=max(2, usable_cores()),
            sensitivity=sensitivity,
            classes=classes,
            pixel_scale=pixel_scale,
            orientation=orientation,
        )
    pictures = list(list_sources(sources))
    for option, table in (("--csv", csv), ("--parquet", parquet)):
        if str(table) == "-":
            raise UsageError(f"{option} writes a file. For standard output use --json.")
    check_targets([csv, parquet], pictures)
    if save is not None:
        found, pictures = len(pictures), pictures_outside(save, pictures, sources)
        if skipped := found - len(pictures):
            say(f"Skipped {skipped} images in {save}, where annotated images are written.")
    looked_at = unread = faces = 0
    with no_native_chatter(), ExitStack() as opened:
        writers: list[Callable[[PictureResult], None]] = []
        about = recognizer.describe()
        if csv is not None:
            writers.append(opened.enter_context(CsvTable(csv, recognizer.classes, raw=raw, about=about)).write)
        if parquet is not None:
            writers.append(opened.enter_context(ParquetTable(parquet, recognizer.classes, about=about)).write)
        if save is not None:
            # Not Path.is_dir, which raises for what can be no path, such as a data URI.
            roots = [Path(source) for source in sources if os.path.isdir(source)]  # noqa: PTH112
            drawn = AnnotatedPictures(save, recognizer.classes, top=top, roots=roots, blur_faces=blur_faces)
            writers.append(opened.enter_context(drawn).write)
        as_table = not (as_json or csv or parquet)
        if as_json:
            writers.append(opened.enter_context(_json_list()))
        elif as_table:
            writers.append(FaceTable(output, pictures, recognizer.classes, top))
        hidden = any(not isinstance(one, str) and one.kind == SHARD for one in pictures)
        advance = opened.enter_context(_progress(None if hidden else len(pictures), as_table))
        for result in recognizer.stream(pictures, keep_pixels=save is not None):
            if result.error is not None:
                fail(result.error)
            for note in result.notes:
                say(f"Note: {result.source}: {note}.")
            looked_at += 1
            unread += result.error is not None
            faces += len(result)
            for write in writers:
                write(result)
            advance()
    name_left_out(sources)
    if looked_at > 1:
        notes.print(read_and_found(looked_at, faces, unread))
    for what, written in (("", csv), ("", parquet), ("annotated images into the folder ", save)):
        if written is not None and written.exists():
            say(f"Wrote {what}{written}")
    if unread:
        raise typer.Exit(1)


@contextmanager
def _json_list() -> "Iterator[Callable[[PictureResult], None]]":
    """Write results as the items of one JSON list, each as it comes: memory stays flat."""
    import json
    import sys

    between = "["

    def write(result: "PictureResult") -> None:
        nonlocal between
        sys.stdout.write(between + json.dumps(result.to_dict(), allow_nan=False))
        between = ",\n"

    try:
        yield write
    finally:  # also when something else fails: what was written is one document
        sys.stdout.write("[]\n" if between == "[" else "]\n")


@contextmanager
def _progress(total: int | None, as_table: bool) -> Iterator[Callable[[], None]]:
    """A bar for several images, unless the printed table already shows the progress."""
    from rich.progress import MofNCompleteColumn, TimeRemainingColumn

    hidden = (total is not None and total < 2) or (as_table and output.is_terminal)
    with progress_bar(MofNCompleteColumn(), TimeRemainingColumn(), hidden=hidden) as bar:
        task = bar.add_task("images", total=total)
        yield lambda: bar.advance(task)
