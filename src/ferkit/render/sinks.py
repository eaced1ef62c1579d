"""Where results go: tables with a row per face, and annotated pictures. Each is written as results come.

A sink is a context manager that takes the results of pictures one at a time. Tables are written to a draft that takes
its name when the block ends well, so a reader never meets half of one.
"""

import csv
import json
import os
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Protocol, Self, TypeAlias

import PIL.Image

from ferkit._support.files import blame, drafted, write_atomically, write_encoded
from ferkit._support.registry import Registry
from ferkit.errors import FerkitError, UsageError
from ferkit.render.formats import csv_cell
from ferkit.results import PICTURE_KEYS, Columns, PictureResult, Row, face_rows, parquet_schema, table_columns
from ferkit.sources import FILE, Reference, member_path, path_of

# Key of the metadata of Parquet files.
ABOUT = b"ferkit"
_PLOTS = (".png", ".svg", ".pdf")
_LONGEST_JPEG = 65_500  # pixels of a side
_LONGEST_STEM = 200  # bytes
_LONGEST_FOLDER = 1000  # bytes; systems take 4096 for a whole path


class Sink(Protocol):
    """What takes results: used in a `with` block, `write` once per picture."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *ending: Any) -> None: ...

    def write(self, result: PictureResult, /) -> None: ...


# Makes a sink from the place it writes to and the classes of the model.
SinkFactory: TypeAlias = Callable[[str | Path, Sequence[str]], Sink]


class Table(ABC):
    """A table file that grows by rows and appears when it is complete.

    target: the file. classes: those of the model. keys: columns that stand before those of the face; more: columns that
        stand behind all others. about: how its rows came about, such as `EmotionRecognizer.describe` says it; more may
        be added to `about` until the table is complete. `read_about` reads it back: from the metadata of Parquet, and
        from a side file of other tables.
    """

    def __init__(
        self,
        target: str | Path,
        classes: Sequence[str],
        /,
        *,
        keys: Columns = PICTURE_KEYS,
        more: Columns = MappingProxyType({}),
        about: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.about = dict(about)
        self.target = Path(target)
        if self.target.is_dir():
            raise UsageError(f"{target} is a folder. Expected a file to write.")
        check_ending(self.target, type(self))
        self.columns = table_columns(classes, keys, more)
        self._open: ExitStack | None = None

    def __enter__(self) -> Self:
        with blame(self.target), ExitStack() as opening:
            self._start(opening.enter_context(drafted(self.target)), opening)
            self._open = opening.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        opened, self._open = self._open, None
        try:
            if opened is not None:
                with blame(self.target):
                    opened.__exit__(kind, error, trace)
                if error is None:
                    self._write_about()
        except FerkitError:
            # A draft that is thrown away need not be closed well: what ended the block is what to hear of.
            if error is None:
                raise

    def write(self, result: PictureResult, /) -> None:
        self.write_rows(face_rows(result))

    def write_rows(self, rows: Iterable[Row]) -> None:
        """Append rows; columns that a row lacks stay empty.

        Raises `UsageError` outside of the `with` block, and for a column that the table does not have.
        """
        if self._open is None:
            raise UsageError(f"{self.target} is not open. Expected rows inside of the table's `with` block.")
        for row in rows:
            if not row.keys() <= self.columns.keys():
                raise UsageError(
                    f"{self.target} has no column {', '.join(name for name in row if name not in self.columns)}. "
                    f"Expected a table made with all classes of the results. Its columns: {', '.join(self.columns)}."
                )
            with blame(self.target):
                self._write_row(row)

    @abstractmethod
    def append(self, part: Path) -> None:
        """Append the rows of a whole table of the same kind and columns."""

    def _write_about(self) -> None:
        if self.about:
            text = json.dumps(self.about, indent=1, allow_nan=False)
            with write_atomically(side_file(self.target)) as draft:
                draft.write_text(f"{text}\n", encoding="utf-8")

    @abstractmethod
    def _write_row(self, row: Row) -> None:
        """Append a row that has no columns but those of the table."""

    @abstractmethod
    def _start(self, draft: Path, opening: ExitStack) -> None:
        """Open the draft; what must happen before it is renamed goes on the stack."""


def side_file(table: Path) -> Path:
    """Where a table without metadata of its own says how its rows came about."""
    return table.with_name(f"{table.name}.json")


def read_about(table: Path) -> dict[str, Any] | None:
    """What a table says of how its rows came about; None where it or its side file does not exist or says nothing."""
    try:
        if table.suffix.lower() == ".parquet":
            from ferkit._support.arrow import pq

            text = (pq.read_metadata(table).metadata or {})[ABOUT]
        else:
            text = side_file(table).read_bytes() if table.is_file() else b""
        return dict(json.loads(text))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def check_ending(target: Path, kind: type[Table]) -> None:
    """Refuse a name that ends as another kind of table does: whatever reads it would go by that. Raises `UsageError`."""
    other = TABLES.get(target.suffix.lower())
    if other is not None and not issubclass(kind, other):
        own = [ending for ending, one in TABLES.items() if issubclass(kind, one)]
        raise UsageError(
            f"{target} ends as another kind of table than is to be written. Expected a name that ends in {', '.join(own)}."
        )


def check_plot(target: Path) -> None:
    """Raise `UsageError` for a file that no plot can be written to."""
    if target.suffix.lower() not in _PLOTS:
        raise UsageError(f"Plots cannot be written as {target}. Expected a name that ends in .png, .svg or .pdf.")
    if target.is_dir():
        raise UsageError(f"{target} is a folder. Expected a file to write.")


def check_targets(targets: Iterable[Path | None], pictures: Iterable[object]) -> None:
    """Raise `UsageError` for a file to write that is a picture to read, or that is named twice."""
    named = [target for target in targets if target is not None]
    if len({target.resolve() for target in named}) < len(named):
        raise UsageError(f"{named[0]} is named twice, and one file would replace the other. Choose two names.")
    there = [target for target in named if target.exists()]
    for path in map(_path, pictures) if there else ():
        # Not Path.exists, which raises for what can be no path, such as a data URI.
        if isinstance(path, str | Path) and os.path.exists(path):  # noqa: PTH110
            for target in there:
                if target.samefile(path):
                    raise UsageError(f"{target} is the picture itself, and would overwrite it. Choose another file.")


def _path(source: object) -> object:
    return source.path if isinstance(source, Reference) else source


class CsvTable(Table):
    """Comma-separated values, UTF-8, one line per face.

    raw: whether text stays as it is, even what a spreadsheet runs as a formula and a terminal obeys.
    """

    def __init__(self, *args: Any, raw: bool = False, **columns: Any) -> None:
        super().__init__(*args, **columns)
        self.raw = raw

    def _start(self, draft: Path, opening: ExitStack) -> None:
        file = opening.enter_context(draft.open("w", encoding="utf-8", newline=""))
        self._plain, self._quoted = (
            csv.writer(file, lineterminator="\n", quoting=quoting) for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)
        )
        self._file = file
        self._write(self.columns)

    def append(self, part: Path) -> None:
        with part.open(encoding="utf-8", newline="") as rows:
            rows.readline()
            shutil.copyfileobj(rows, self._file)

    def _write_row(self, row: Row) -> None:
        self._write(row.get(name, "") for name in self.columns)

    def _write(self, values: Iterable[object]) -> None:
        cells = [csv_cell(value, raw=self.raw) for value in values]
        # Before 3.13, Python leaves a carriage return unquoted, which every reader takes for the end of the line.
        broken = any("\r" in cell for cell in cells if isinstance(cell, str))
        (self._quoted if broken else self._plain).writerow(cells)


class JsonLinesTable(Table):
    """One JSON object per line and face, null for what is not there."""

    def _start(self, draft: Path, opening: ExitStack) -> None:
        self._file = opening.enter_context(draft.open("w", encoding="utf-8", newline="\n"))

    def append(self, part: Path) -> None:
        with part.open(encoding="utf-8", newline="") as rows:
            shutil.copyfileobj(rows, self._file)

    def _write_row(self, row: Row) -> None:
        full = {name: row.get(name) for name in self.columns}
        self._file.write(json.dumps(full, ensure_ascii=False, allow_nan=False) + "\n")


class ParquetTable(Table):
    """Apache Parquet, typed, null for what is not there."""

    # Rows in memory at once: one row group.
    group = 8192

    def _start(self, draft: Path, opening: ExitStack) -> None:
        from ferkit._support.arrow import pq

        self._schema = parquet_schema(self.columns)
        self._writer = opening.enter_context(pq.ParquetWriter(draft, self._schema))
        self._rows: list[Row] = []
        self._parts: list[Any] = []
        opening.push(self._finish)

    def append(self, part: Path) -> None:
        from ferkit._support.arrow import pq

        self._gather()
        with pq.ParquetFile(part) as rows:
            for number in range(rows.num_row_groups):
                self._parts.append(rows.read_row_group(number).replace_schema_metadata())
                if sum(map(len, self._parts)) >= self.group:
                    self._flush()

    def _write_row(self, row: Row) -> None:
        self._rows.append(row)
        if len(self._rows) >= self.group:
            self._flush()

    def _finish(self, kind: type[BaseException] | None, *_: object) -> None:
        # Not after an error: where a write failed, the writer takes no other, and says so in place of the error.
        if kind is None:
            self._flush()
            if self.about:
                self._writer.add_key_value_metadata({ABOUT: json.dumps(self.about, allow_nan=False)})

    def _write_about(self) -> None: ...

    def _gather(self) -> None:
        from ferkit._support.arrow import pa

        if self._rows:
            self._parts.append(pa.Table.from_pylist([dict(row) for row in self._rows], self._schema))
            self._rows = []

    def _flush(self) -> None:
        from ferkit._support.arrow import pa

        self._gather()
        if self._parts:
            self._writer.write_table(pa.concat_tables(self._parts))
            self._parts = []


class AnnotatedPictures:
    """A folder of annotated pictures, named as their sources; PNG stays PNG, all else becomes JPEG.

    Needs results that carry `pixels`. Two sources of one name become `face.jpg` and `face-2.jpg`. What is inside of an
    archive goes below a folder named after it: `two.zip::sub/1.jpg` becomes `two/sub/1.jpg`.

    top: only that many classes as bars. roots: folders whose sub-folders are kept: of the root `holidays`, the picture
        `holidays/sea/1.jpg` becomes `sea/1.jpg`. blur_faces: whether nobody can be recognised in them.
    """

    def __init__(
        self,
        target: str | Path,
        classes: Sequence[str],
        /,
        *,
        top: int | None = None,
        roots: Sequence[Path] = (),
        blur_faces: bool = False,
    ) -> None:
        self.folder = Path(target)
        if self.folder.exists() and not self.folder.is_dir():
            raise UsageError(f"{target} is a file. Expected a folder for annotated pictures.")
        self.top = top
        self.roots = roots
        self.blur_faces = blur_faces
        self._used: set[str] = set()
        self._counts: dict[str, int] = {}  # how far the numbers of a name have come

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ending: object) -> None: ...

    def write(self, result: PictureResult, /) -> None:
        from ferkit.render.drawing import annotate, blurred

        if result.error is not None:
            return
        if result.pixels is None:
            raise FerkitError("Annotated images need results with pixels: use keep_pixels=True.")
        self._refuse_own(Path(result.source))
        member = member_path(result.source)
        source = member or path_of(result.source)
        folder = self._below_root(source.parent) if member is None else source.parent
        shown = blurred(result.pixels, [face.box for face in result]) if self.blur_faces else result.pixels
        picture = PIL.Image.fromarray(annotate(shown, result, top=self.top))
        as_png = source.suffix.lower() == ".png" or max(picture.size) > _LONGEST_JPEG
        # JPEG 4:4:4: coloured lines and letters smear with halved colour resolution. PNG: a fifth of the time for a
        # third more bytes, measured on a photo.
        write_encoded(
            self._target(folder, source.stem, ".png" if as_png else ".jpg"),
            lambda stream: picture.save(
                stream, "PNG" if as_png else "JPEG", quality=92, subsampling=0, compress_level=1
            ),
        )

    def _refuse_own(self, source: Path) -> None:
        # Path.is_file() raises for what is no path: addresses and other names may be long.
        there = os.path.isfile(source)  # noqa: PTH113
        if there and source.parent.resolve().is_relative_to(self.folder.resolve()):
            raise UsageError(
                f"{source} lies in {self.folder}, where annotated images would overwrite it. Choose another folder."
            )

    def _target(self, folder: Path, stem: str, suffix: str) -> Path:
        folder = Path(*map(_folder_name, folder.parts))
        if len(os.fsencode(folder)) > _LONGEST_FOLDER:
            folder = Path()
        stem = _file_name(stem) or "picture"
        target = folder / (stem + suffix)
        name = str(target).lower()  # lower: two of them are one file on some systems
        count = self._counts.get(name, 1)
        while str(target).lower() in self._used:
            count += 1
            target = folder / f"{stem}-{count}{suffix}"
        self._counts[name] = count
        self._used.add(str(target).lower())
        return self.folder / target

    def _below_root(self, folder: Path) -> Path:
        for root in self.roots:
            if folder.is_relative_to(root) and ".." not in (below := folder.relative_to(root)).parts:
                return below
        return Path()


def pictures_outside(
    folder: Path, pictures: Iterable[str | Reference], named: Collection[str] = ()
) -> list[str | Reference]:
    """The pictures that do not lie where annotated ones go: those found there were drawn by the run before.

    named: what somebody asked for by name; raises `UsageError` where it lies there.
    """
    target = os.path.realpath(folder)
    inside: dict[str, bool] = {}  # by folder: many pictures share one
    left: list[str | Reference] = []
    for picture in pictures:
        path = picture if isinstance(picture, str) else picture.path
        member = not isinstance(picture, str) and picture.kind != FILE
        around = os.path.dirname(path)  # noqa: PTH120 - also of what can be no path
        if around not in inside:
            inside[around] = Path(os.path.realpath(around)).is_relative_to(target)  # never across drives
        if member or not inside[around] or not os.path.isfile(path):  # noqa: PTH113
            left.append(picture)
        elif picture in named:
            raise UsageError(
                f"{path} lies in {folder}, where annotated images would overwrite it. Choose another folder."
            )
    return left


def _file_name(part: str) -> str:
    """A part of a path, as all systems take it."""
    # They take 255 bytes, of which the draft's name needs a few.
    part = re.sub(r"[:\\]", "_", part.replace("\0", ""))
    return part.encode(errors="ignore")[:_LONGEST_STEM].decode(errors="ignore")


def _folder_name(part: str) -> str:
    """The same for a folder: "" for one that leads upwards, and never the name of a picture written beside it."""
    name = _file_name(part).rstrip(". ")
    return f"{name}_" if name.lower().endswith((".jpg", ".png")) else name


# The kinds of table, each by the ending of its files.
TABLES: dict[str, type[Table]] = {".csv": CsvTable, ".jsonl": JsonLinesTable, ".parquet": ParquetTable}
SINKS: Registry[SinkFactory] = Registry.of(
    "sink", {**{ending[1:]: kind for ending, kind in TABLES.items()}, "pictures": AnnotatedPictures}
)
