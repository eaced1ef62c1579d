"""Faces as the rows of a table for people. Imported when `predict` runs, not when its help is shown.

`ferkit predict`: the emotion of every face in pictures.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.cells import cell_len
from rich.text import Text

from ferkit.cli.console import fail, no_native_chatter, notes, output
from ferkit.cli.options import Detector, MinConfidence, Model
from ferkit.errors import UsageError, count
from ferkit.labels import color_of
from ferkit.models import TTA, help_text
from ferkit.results import FaceEmotion, PictureResult
from ferkit.sources import printable_name

_BAR = 12  # letters of a full bar


class TablePrinter:
    """Prints the faces of one picture after another as the rows of one table.

    Not a table of Rich: that needs all rows before it prints the first.
    """

    def __init__(self, pictures: Sequence[str], classes: Sequence[str], top: int | None) -> None:
        self.top = top
        self.name_width = max(len(name) for name in classes)
        self.label_width = max(self.name_width, len("uncertain"))
        others = len("  face  ") + self.label_width + len("  confidence  ") + self.name_width + _BAR + len("  100.0%")
        longest = max([len("source"), *(cell_len(printable_name(picture)) for picture in pictures)])
        # A person sees the end of a long path; a pipe gets all of it.
        self.source_width = min(longest, max(16, output.width - others)) if output.is_terminal else longest
        self.blocks = output.encoding.lower().startswith("utf")
        self.first = True

    def __call__(self, result: PictureResult) -> None:
        if result.error is not None:
            return
        if self.first:
            self._line("source", "face", "emotion", "confidence", "probabilities")
            self.first = False
        if not result.faces:
            self._line(result.source, "-", "no face", "", "")
        for number, face in enumerate(result, start=1):
            first, *others = self._bars(face)
            self._line(result.source if number == 1 else "", str(number), face.label, f"{face.confidence:.1%}", first)
            for bar in others:
                self._line("", "", "", "", bar)

    def _line(self, source: str, face: str, label: str, confidence: str, bar: str | Text) -> None:
        source = printable_name(source)
        if cell_len(source) > self.source_width:
            while cell_len(source) >= self.source_width:
                source = source[1:]
            source = "…" + source
        source += " " * (self.source_width - cell_len(source))
        head = f"{source}  {face:>4}  {label:<{self.label_width}}  {confidence:>10}  "
        line = Text(head).append(bar)
        line.rstrip()
        output.print(line, soft_wrap=True)

    def _bars(self, face: FaceEmotion) -> list[Text]:
        """A line per class: its name, its probability as a bar in its colour, and as a number."""
        return [
            Text.assemble(f"{name:<{self.name_width}} ", (f"{self._bar(p):<{_BAR}}", color_of(name)), f" {p:>6.1%}")
            for name, p in face.top(self.top)
        ]

    def _bar(self, p: float) -> str:
        if not self.blocks:
            return "#" * round(p * _BAR)
        whole, eighths = divmod(round(p * _BAR * 8), 8)
        return "█" * whole + " ▏▎▍▌▋▊▉"[eighths].strip()


def predict(
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE", help="Pictures, folders, globs, https://..., or -.")
    ],
    model: Model = "default",
    detector: Detector = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list on standard output.")] = False,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a CSV table, one row per face.")] = None,
    parquet: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the same table as Parquet.")] = None,
    save: Annotated[Path | None, typer.Option(metavar="DIR", help="Write annotated pictures into this folder.")] = None,
    blur_faces: Annotated[
        bool, typer.Option("--blur-faces", help="Make faces in annotated pictures unrecognisable.")
    ] = False,
    top: Annotated[
        int | None, typer.Option(min=1, help="Show only the K most probable emotions; files and JSON have all.")
    ] = None,
    min_confidence: MinConfidence = 0.0,
    tta: Annotated[str | None, typer.Option(help=help_text())] = None,
) -> None:
    """Recognise the perceived emotion of every face in pictures.

    A picture that cannot be read is reported, the others go on, and the exit code is 1 at the end.

    Example: ferkit predict photo.jpg holidays/ --save annotated/ --csv faces.csv
    """
    import warnings

    from ferkit.cli.console import download_bar
    from ferkit.detection import fetch_weights
    from ferkit.recognizer import EmotionRecognizer
    from ferkit.render import SINKS, AnnotatedPictures
    from ferkit.sources import expand_sources

    # Pillow warns of large pictures and odd metadata; what cannot be read is reported anyway.
    warnings.filterwarnings("ignore", module="PIL")
    if tta is not None:
        TTA[tta]  # a wrong name is said before anything is fetched
    if blur_faces and save is None:
        raise UsageError("--blur-faces is about the pictures of --save, which is missing.")
    with download_bar() as progress:
        fetch_weights(detector, progress)
    with no_native_chatter():
        recognizer = EmotionRecognizer(model, detector, min_confidence=min_confidence, tta=tta)
    pictures = list(expand_sources(sources))
    _check_tables(csv, parquet, pictures)
    if save is not None:
        pictures = _outside(save, pictures, sources)
    unread = faces = 0
    with no_native_chatter(), ExitStack() as opened:
        writers: list[Callable[[PictureResult], None]] = []
        for name, target in (("csv", csv), ("parquet", parquet)):
            if target is not None:
                writers.append(opened.enter_context(SINKS[name](target, recognizer.classes)).write)
        if save is not None:
            # Not Path.is_dir, which raises for what can be no path, such as a data URI.
            roots = [Path(source) for source in sources if os.path.isdir(source)]  # noqa: PTH112
            drawn = AnnotatedPictures(save, recognizer.classes, top=top, roots=roots, blur_faces=blur_faces)
            writers.append(opened.enter_context(drawn).write)
        as_table = not (as_json or csv or parquet)
        if as_json:
            writers.append(opened.enter_context(_json_list()))
        elif as_table:
            writers.append(TablePrinter(pictures, recognizer.classes, top))
        advance = opened.enter_context(_progress(len(pictures), as_table))
        for result in recognizer.stream(pictures, keep_pixels=save is not None):
            if result.error is not None:
                fail(result.error)
            unread += result.error is not None
            faces += len(result)
            for write in writers:
                write(result)
            advance()
    if len(pictures) > 1:
        notes.print(f"{count(len(pictures), 'picture')}, {count(faces, 'face')}; {unread:,} could not be read.")
    for written in (csv, parquet, save):
        if written is not None and written.exists():
            notes.print(f"Wrote {written}", markup=False)
    if unread:
        raise typer.Exit(1)


def _check_tables(csv: Path | None, parquet: Path | None, pictures: "Sequence[str]") -> None:
    for option, table in (("--csv", csv), ("--parquet", parquet)):
        if table is not None and str(table) == "-":
            raise UsageError(f"{option} writes a file. For standard output take --json.")
        if table is not None and table.exists() and any(_same_file(table, picture) for picture in pictures):
            raise UsageError(f"{table} is one of the pictures, and the table would replace it. Name another file.")
    if csv is not None and parquet is not None and csv.resolve() == parquet.resolve():
        raise UsageError(f"--csv and --parquet both name {csv}, and one would replace the other. Name two files.")


def _outside(save: Path, pictures: "Sequence[str]", named: "Sequence[str]") -> list[str]:
    """The pictures that do not lie where annotated ones go: those found there were drawn by the run before."""
    target = os.path.realpath(save)
    inside: dict[str, bool] = {}  # by folder: many pictures share one
    left = []
    for picture in pictures:
        folder = os.path.dirname(picture)  # noqa: PTH120 - also of what can be no path
        if folder not in inside:
            inside[folder] = os.path.commonpath([target, os.path.realpath(folder)]) == target
        if not inside[folder] or not os.path.isfile(picture):  # noqa: PTH113
            left.append(picture)
        elif picture in named:
            raise UsageError(f"{picture} lies in {save}, where annotated pictures would replace it. Take another.")
    if len(left) < len(pictures):
        notes.print(f"Left out {len(pictures) - len(left)} pictures in {save}, where annotated ones go.", markup=False)
    return left


def _same_file(table: Path, picture: str) -> bool:
    # os.path.exists answers False to what can be no path, such as a data URI, where Path's raises.
    return os.path.exists(picture) and table.samefile(picture)  # noqa: PTH110


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
def _progress(total: int, as_table: bool) -> Iterator[Callable[[], None]]:
    """A bar on standard error, when there is much to do and no table already shows how far we are."""
    if total < 2 or not notes.is_terminal or (as_table and output.is_terminal):
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("pictures"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=notes, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)
