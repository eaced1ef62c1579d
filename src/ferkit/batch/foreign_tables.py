"""Tables of other programs, turned into our columns: py-feat, iMotions (AFFDEX), deepface, fer, and OpenFace.

What they call otherwise gets our name, a box becomes corners, percent become shares; the label is the emotion with the
highest score. All other columns are kept behind `error`. The result is a CSV in a folder of its own, read as any table.
"""

import csv
import gzip
import itertools
import json
import logging
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from ferkit.errors import DatasetError, count
from ferkit.labels import WITH_CONTEMPT, canonical

_log = logging.getLogger(__name__)

_OURS = ("source", "label", "confidence", "error")
_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".txt", ".json", ".jsonl")
_OUT = ("source", "frame", "time_s", "track", "x1", "y1", "x2", "y2", "detection_score", "label", "confidence")
# Rows by which a table is known: the first may be of frames without a face.
_LOOKED_AT = 100
# Exports of iMotions begin with lines about the study.
_MOST_LINES_BEFORE = 200
_LONGEST_JSON = 1 << 30
_NUMBER = re.compile(r"-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")
# Of a dictionary as Python prints it into a cell, with or without NumPy's names of types.
_ENTRY = re.compile(rf"['\"](\w+)['\"]:\s*(?:np\.\w+\()?({_NUMBER.pattern})")
_FACE_OF_FRAME = re.compile(r"([a-z]+)(\d+)")  # fer: `angry0`, `box1`

Row = dict[str, str]


@dataclass(frozen=True)
class _Program:
    """How another program writes a table; all names of columns in lower case.

    marks: columns that tell its tables. ours: its column -> ours. box: its columns of left, top, width and height.
    scale: what a score is divided by. milliseconds: whether its time is in thousandths.
    """

    name: str
    marks: tuple[str, ...]
    ours: Mapping[str, str]
    box: tuple[str, ...] = ()
    scale: float = 1.0
    milliseconds: bool = False
    note: str = ""


_PROGRAMS = (
    _Program(
        "OpenFace",
        ("success", "pose_rx"),
        {"frame": "frame", "timestamp": "time_s", "face_id": "track", "confidence": "detection_score"},
    ),
    _Program(
        "py-feat",
        ("facerectx", "facerectwidth"),
        {"input": "source", "frame": "frame", "facescore": "detection_score"},
        ("facerectx", "facerecty", "facerectwidth", "facerectheight"),
    ),
    _Program(
        "deepface",
        ("dominant_emotion",),
        {"picture": "source", "img_path": "source", "face_confidence": "detection_score"},
        ("region.x", "region.y", "region.w", "region.h"),
        100,
    ),
    _Program("fer", ("box", "angry"), {"picture": "source"}, ("box",)),
    _Program(
        "iMotions (AFFDEX)",
        ("joy", "anger"),
        {"respondent name": "source", "respondent": "source", "timestamp": "time_s", "frameno": "frame"},
        (),
        100,
        milliseconds=True,
        note="each score is of its own and they do not sum to 1; --min-confidence 0.5 counts weak ones as uncertain",
    ),
)


@dataclass(frozen=True)
class ForeignTable:
    """A table in our columns: a CSV in a folder that is deleted with this."""

    path: Path
    folder: "tempfile.TemporaryDirectory[str]"


def normalise(path: str) -> ForeignTable | None:
    """The table of another program in our columns; None for one of ours, and for what is no such table.

    Raises `DatasetError` for a table of another program without emotions, or whose scores make no sense.
    """
    if not path.lower().endswith(_SUFFIXES):
        return None
    rows = _read(path)
    try:
        head = list(itertools.islice(rows, _LOOKED_AT))
    except DatasetError:
        return None  # whoever reads it as a table of ours says what is wrong
    columns = {name: "" for row in head for name in row}
    program = next((one for one in _PROGRAMS if {*one.marks} <= columns.keys()), None)
    if program is None or {*_OURS} <= columns.keys():
        return None
    emotions = {name: canonical(name) for name in columns if canonical(name) in WITH_CONTEMPT}
    if len(emotions) < 2:
        units = [name.upper() for name in columns if re.fullmatch(r"au\d+(_[rc])?", name)]
        raise DatasetError(
            f"{path} is a table of {program.name} without emotions: it has {', '.join(units[:3]) or 'no scores'}"
            f"{f' and {len(units) - 3} more action units' if len(units) > 3 else ''}. Expected columns such as anger "
            "and happiness, which summaries count."
        )
    return _write(path, program, emotions, list(columns), itertools.chain(head, rows))


def _write(
    path: str, program: _Program, emotions: Mapping[str, str], columns: Sequence[str], rows: Iterable[Row]
) -> ForeignTable:
    classes = [name for name in WITH_CONTEMPT if name in emotions.values()]
    folder = tempfile.TemporaryDirectory(prefix="ferkit-")
    target = Path(folder.name) / "table.csv"
    stem, empty = Path(path).name.split(".")[0], 0
    taken = {*_OUT, *classes, "error"}
    others = {
        name: f"other_{name}" if name in taken else name
        for name in columns
        if name not in {*program.ours, *program.box, *emotions, "frame"}
    }
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*_OUT, *classes, "error", *others.values()])
        writer.writeheader()
        for number, row in enumerate(rows):
            scores = {emotions[name]: row.get(name, "") for name in emotions}
            scores = {name: text for name, text in scores.items() if text.lower() not in ("", "nan", "none")}
            if program.milliseconds and not scores:
                empty += 1  # a row of another sensor
                continue
            told = {ours: row[name] for name, ours in program.ours.items() if row.get(name)}
            told = {"source": stem, "frame": row.get("frame", str(number))} | told | _box(program, row)
            told["frame"] = f"{_number(told['frame'], path, number):.0f}"
            if program.milliseconds and "time_s" in told:
                told["time_s"] = str(_number(told["time_s"], path, number) / 1000)
            shares = {name: _number(text, path, number) / program.scale for name, text in scores.items()}
            if wrong := [one for one in shares.values() if not 0 <= one <= 1.001]:
                raise DatasetError(
                    f"{path}, row {number + 1}: a score of {program.name} is {wrong[0] * program.scale:g}. "
                    f"Expected 0 to {program.scale:g}; evidence and logarithms are no shares."
                )
            if shares and row.get("success", "1") != "0":
                label = max(shares, key=lambda name: shares[name])
                told |= {"label": label, "confidence": f"{shares[label]:.6f}"}
                told |= {name: f"{one:.6f}" for name, one in shares.items()}
            writer.writerow(told | {others[name]: text for name, text in row.items() if name in others})
    said = ["columns are named as ours", *(["scores are divided by 100"] if program.scale == 100 else []), program.note]
    _log.info("Note: %s is a table of %s: %s.", path, program.name, "; ".join(filter(None, said)))
    if empty:
        _log.info("Note: %s without emotions left out.", count(empty, "row"))
    return ForeignTable(target, folder)


def _number(text: str, path: str, row: int) -> float:
    try:
        return float(text)
    except ValueError:
        raise DatasetError(f"{path}, row {row + 1}: {text[:40]!r} is no number.") from None


def _box(program: _Program, row: Row) -> Row:
    """The corners of a face; nothing where it has no box."""
    numbers = [float(one) for name in program.box for one in _NUMBER.findall(row.get(name, ""))]
    if len(numbers) != 4:
        return {}
    x, y, width, height = numbers
    return {
        name: f"{one:.0f}" for name, one in zip(("x1", "y1", "x2", "y2"), (x, y, x + width, y + height), strict=True)
    }


def _read(path: str) -> Iterator[Row]:
    """The rows of a table, names of columns in lower case; a row for each face, whichever way they are nested."""
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8-sig", errors="replace", newline="")
            if path.lower().endswith(".gz")
            else Path(path).open(encoding="utf-8-sig", errors="replace", newline="") as file
        ):
            name = path.lower()
            read = _of_json if name.endswith(".json") else _of_lines if name.endswith(".jsonl") else _of_csv
            yield from read(file)
    except (OSError, EOFError, csv.Error, ValueError, RecursionError) as problem:
        raise DatasetError(f"{path} cannot be read as a table ({problem}).") from problem


def _of_csv(file: TextIO) -> Iterator[Row]:
    about: Row = {}
    for line in itertools.islice(file, _MOST_LINES_BEFORE):
        delimiter = max(",;\t", key=line.count)
        columns = [name.strip().lower() for name in next(csv.reader([line], delimiter=delimiter), [])]
        if any({*one.marks} <= {*columns} for one in _PROGRAMS) or {*_OURS} <= {*columns} or "box0" in columns:
            break
        # `#Respondent Name,R3` or `Respondent Name : R3`
        if len(words := [one for one in re.split(r"[#:,;\t]", line.strip()) if one.strip()]) == 2:
            about[words[0].strip().lower()] = words[1].strip()
    else:
        return
    about = {name: text for name, text in about.items() if name == "respondent name"}
    for number, cells in enumerate(csv.reader(file, delimiter=delimiter)):
        row = dict(about)
        for name, cell in zip(columns, cells, strict=False):
            if cell.startswith("{"):
                row |= {f"{name}.{key}": value for key, value in _ENTRY.findall(cell)}
            elif name:
                row[name] = cell.strip()
        yield from _faces_of_frame(_plain(row), number) if "box0" in columns else [_plain(row)]


def _faces_of_frame(row: Row, number: int) -> Iterator[Row]:
    """What fer writes as one row, the faces of a frame side by side: `box0`, `angry0`, ..., `box1`, ..."""
    faces: dict[str, Row] = {}
    for name, text in row.items():
        if (found := _FACE_OF_FRAME.fullmatch(name)) and (text or found[2] == "0"):
            faces.setdefault(found[2], {"frame": str(number)})[found[1]] = text
    yield from faces.values()


def _plain(row: Row) -> Row:
    """`emotion.angry` and `emotions.angry` are called `angry`."""
    return {re.sub(r"^emotions?\.", "", name): text for name, text in row.items()}


def _of_json(file: TextIO) -> Iterator[Row]:
    yield from _faces_of_json(json.loads(file.read(_LONGEST_JSON)), {})


def _of_lines(file: TextIO) -> Iterator[Row]:
    for number, line in enumerate(filter(str.strip, file)):
        found = json.loads(line)
        if isinstance(found, dict) and {*_OURS} <= found.keys():
            yield _flat(found) | dict.fromkeys(_OURS, "")
        else:
            yield from _faces_of_json(found, {"frame": str(number)})


def _faces_of_json(node: Any, where: Row) -> Iterator[Row]:
    """The faces below a node: lists of faces are pictures or frames, and keys above them names of pictures."""
    if node == [] and where:
        yield where  # a picture without a face
    elif isinstance(node, list):
        frames = any(isinstance(one, list) for one in node)
        for number, one in enumerate(node):
            yield from _faces_of_json(one, where | {"frame": str(number)} if frames else where)
    elif isinstance(node, dict) and any(isinstance(node.get(name), dict) for name in ("emotion", "emotions")):
        yield {"frame": "0"} | where | _plain(_flat(node))
    elif isinstance(node, dict):
        for name, one in node.items():
            yield from _faces_of_json(one, where if name == "results" else where | {"picture": str(name)})


def _flat(node: Mapping[str, Any]) -> Row:
    row: Row = {}
    for name, one in node.items():
        if isinstance(one, dict):
            row |= {f"{name}.{key}".lower(): text for key, text in _flat(one).items()}
        elif one is not None:
            row[str(name).lower()] = str(one)
    return row
