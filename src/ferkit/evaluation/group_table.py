"""A table that says which groups the people in a data set belong to, joined to the faces of one of its splits.

Every row names its face: by `row`, the position in the data counted from 0 (broken faces included), or by the path of
the picture. Rows are never joined by their order alone. Where the table repeats the label or the split of a face, these
must agree with the data, so that a table of another version of the data is refused.
"""

import csv
import io
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ferkit.data import SPLIT_ALIASES, FaceSet, places, usage_name
from ferkit.errors import DatasetError, UsageError, count
from ferkit.labels import canonical
from ferkit.sources import is_there, missing, open_file

_ROW = "row"
# Names of a column with the path of the picture, in order of preference.
FILE_COLUMNS = ("file", "file_name", "filename", "path", "face", "image", "picture")
_LABELS, _SPLITS = ("label", "emotion", "class"), ("split", "usage")
# More values than that are measurements or names, not groups.
MOST_GROUPS = 20
_LARGEST_BYTES = 1 << 30
# As spreadsheets and data frames write what is not there. "NA" and "None" may be regions, or people.
_NOTHING = ("", "nan", "NaN")

Row = Mapping[str, str]


@dataclass(frozen=True)
class GroupTable:
    """What a table says about N faces, in their order.

    columns: by name of the column, each face's group, None where the table does not say. note: a line about faces
    without a row, rows without a face, and rows that contradict each other. people: who each face is, None where the
    table does not say; None for all where it has no such column.
    """

    columns: dict[str, tuple[str | None, ...]]
    note: str
    people: tuple[str | None, ...] | None = None

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def select(self, kept: npt.NDArray[np.bool_]) -> "GroupTable":
        """The groups of some of the faces, (N,). Raises `DatasetError` if a column names none of these."""
        columns = {name: tuple(compress(named, kept)) for name, named in self.columns.items()}
        if empty := [name for name, named in columns.items() if not any(named)]:
            raise DatasetError(
                f"The column {empty[0]} names no group of the {count(int(kept.sum()), 'face')} left. Name others with "
                "--group-column, or leave fewer classes out."
            )
        return replace(self, columns=columns, people=self.people and tuple(compress(self.people, kept)))


def join_groups(
    path: Path, faces: FaceSet, source: str | Path, columns: Sequence[str] = (), person_column: str | None = None
) -> GroupTable:
    """Join a table (.csv, .csv.gz, .parquet) of groups to faces.

    source: where the faces were loaded from, for the paths of their pictures. columns: those with groups; none takes
    all but those that name the face, its label, its split and the person. person_column: the column that says who it
    is, where people have several faces. Two rows for one face that agree count as one; where they do
    not, the face is in no group. Raises `DatasetError` if the table cannot be read, names no face or none of these, or
    contradicts the data; `UsageError` for a column that it does not have.

        table = join_groups(Path("people.csv"), dataset.test, "my_faces/", columns=["age_band"])
    """
    names, rows = _read(path)
    key = _key_column(path, names, faces, source)
    who = None if person_column is None else _known(path, names, [person_column])[0]
    wanted = _group_columns(path, names, {key, who}, columns)
    index, ambiguous = _index(key, faces, source)
    found: dict[int, Row | None] = {}
    strangers = repeated = 0
    for number, row in enumerate(rows, 1 if path.suffix.lower() == ".parquet" else 2):
        face = index.get(_cleaned(key, row[key], source))
        if face is None:
            strangers += 1
            continue
        # A column of groups may say what it likes, whatever its name.
        _check(path, number, {name: said for name, said in row.items() if name not in wanted}, faces, face)
        groups = {name: row[name] for name in (*wanted, *([who] if who else []))}
        if found.setdefault(face, groups) != groups:
            repeated += 1
            found[face] = None
    if not found:
        example = f" (its first is {rows[0][key]!r})" if rows else ""
        raise DatasetError(
            f"{path} has {len(rows):,} rows, and none{example} is of a face of {faces.name}. Expected {_wanted(key)}."
        )

    def of_faces(name: str) -> tuple[str | None, ...]:
        return tuple(_group((found.get(place) or {}).get(name, "")) for place in range(len(faces)))

    joined = {name: of_faces(name) for name in wanted}
    for name, named in joined.items():
        _check_groups(path, name, named)
    people = of_faces(who) if who else None
    if people is not None and not any(people):
        raise DatasetError(f"{path}: the column {who} is empty for all faces. Name another with --person-column.")
    return GroupTable(joined, _note(path, faces, len(found), strangers, (repeated, ambiguous)), people)


def _read(path: Path) -> tuple[list[str], list[Row]]:
    """Names of the columns in lower case, and the rows as text."""
    if not is_there(path):
        raise missing(path)
    if path.suffix.lower() == ".parquet":
        return _read_parquet(path)
    with open_file(path) as (stream, _):
        text = stream.read(_LARGEST_BYTES).decode("utf-8-sig", "replace")
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        lines = [row for row in reader if row]
    except csv.Error as problem:
        raise DatasetError(f"{path} is not a readable CSV ({problem}). Expected a header and a row per face.") from None
    names = _names(path, lines[0] if lines else [])
    for number, row in enumerate(lines[1:], 2):
        if len(row) != len(names):
            raise DatasetError(f"{path}, row {number}: {len(row)} fields, expected {len(names)} as in the header.")
    return names, [dict(zip(names, (field.strip() for field in row), strict=True)) for row in lines[1:]]


def _read_parquet(path: Path) -> tuple[list[str], list[Row]]:
    from ferkit._support.arrow import pa, pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as problem:
        raise DatasetError(f"{path} is not a readable Parquet file ({problem}). Write it again.") from problem
    names = _names(path, table.column_names)
    values = [["" if value is None else str(value).strip() for value in column.to_pylist()] for column in table.columns]
    return names, [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]


def _names(path: Path, header: Sequence[str]) -> list[str]:
    names = [name.strip().lower() for name in header]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice or not names:
        what = f"has the column {twice[0]!r} twice" if twice else "is empty"
        raise DatasetError(
            f"{path} {what}. Expected a header with a column that names the face, and columns of groups."
        )
    return names


def _key_column(path: Path, names: Sequence[str], faces: FaceSet, source: str | Path) -> str:
    if faces.rows is None:
        raise DatasetError(f"The position of each face in {source} is unknown, so no table can be joined.")
    # A picture's path says more than its position, which changes with every picture that is added.
    files = [name for name in FILE_COLUMNS if name in names]
    named = files and not places(source, faces.rows[:1])[0].startswith("row ")
    if named:
        return files[0]
    if _ROW in names:
        return _ROW
    raise DatasetError(
        f"{path} has no column that names the face. Expected row (from 0), or of pictures in folders one of "
        f"{', '.join(FILE_COLUMNS)}. It has: {_shown(names)}."
    )


def _known(path: Path, names: Sequence[str], columns: Sequence[str]) -> list[str]:
    """Columns that were asked for, as the table writes them."""
    wanted = [name.strip().lower() for name in columns]
    absent = [name for name in wanted if name not in names]
    if absent:
        raise UsageError(f"{path} has no column {absent[0]!r}. It has: {_shown(names)}.")
    return wanted


def _group_columns(
    path: Path, names: Sequence[str], taken: Collection[str | None], columns: Sequence[str]
) -> list[str]:
    known = (*taken, _ROW, *FILE_COLUMNS, *_LABELS, *_SPLITS)
    found = list(dict.fromkeys(_known(path, names, columns))) or [name for name in names if name not in known]
    if not found:
        raise DatasetError(f"{path} has no column of groups. It has: {_shown(names)}. Name one with --group-column.")
    return found


def _index(key: str, faces: FaceSet, source: str | Path) -> tuple[dict[str, int], int]:
    """Which face a key names, and how many file names fit more than one picture."""
    assert faces.rows is not None  # noqa: S101 - for mypy; without rows there is no key column
    if key == _ROW:
        return {str(row): place for place, row in enumerate(faces.rows.tolist())}, 0
    paths = places(source, faces.rows)
    index = {path: place for place, path in enumerate(paths)}
    # The name alone does where only one picture of these has it.
    counted = Counter(path.rpartition("/")[2] for path in paths)
    alone = {path.rpartition("/")[2]: place for path, place in index.items() if counted[path.rpartition("/")[2]] == 1}
    return {**alone, **index}, sum(count > 1 for count in counted.values())


def _cleaned(key: str, value: str, source: str | Path) -> str:
    if key == _ROW:
        # Spreadsheets and data frames with gaps write whole numbers as 17.0.
        return value.removesuffix(".0").lstrip("+")
    path = value.replace("\\", "/").removeprefix("./")
    return path.removeprefix(f"{str(source).replace(chr(92), '/').rstrip('/')}/")


def _check(path: Path, number: int, row: Row, faces: FaceSet, face: int) -> None:
    """Refuse a row that says something else about its face than the data does."""
    label = next((row[name] for name in _LABELS if row.get(name)), None)
    is_label = faces.classes[int(faces.labels[face])]
    # Against the voters' choice labels differ rightly. Numbers may be of any order of classes.
    if label and faces.truth == "labels" and not label.isdigit() and canonical(label) != canonical(is_label):
        raise _contradiction(path, number, f"the label {label!r}", is_label)
    split = next((row[name] for name in _SPLITS if row.get(name)), None)
    if split and faces.name in (*SPLIT_ALIASES, *SPLIT_ALIASES.values()):
        said = usage_name(split) or split.lower()
        published = SPLIT_ALIASES.get(said, said)
        if published in SPLIT_ALIASES.values() and published != SPLIT_ALIASES.get(faces.name, faces.name):
            raise _contradiction(path, number, f"the split {split!r}", faces.name)


def _contradiction(path: Path, number: int, said: str, known: str) -> DatasetError:
    return DatasetError(
        f"{path}, row {number}: {said}, but this face is of {known}. Expected a table of the same version of the data; "
        "row counts from 0."
    )


def _shown(names: Sequence[str]) -> str:
    """Names of columns, cut short: what is no table at all may have them in thousands, and of any length."""
    few = [name if len(name) <= 40 else f"{name[:40]}..." for name in names[:12]]
    return ", ".join([*few, *(["..."] if len(names) > 12 else [])])


def _group(value: str) -> str | None:
    return None if value in _NOTHING else value


def _check_groups(path: Path, name: str, groups: Sequence[str | None]) -> None:
    different = {one for one in groups if one is not None}
    if not different:
        raise DatasetError(f"{path}: the column {name} is empty for all faces. Name others with --group-column.")
    if len(different) > MOST_GROUPS:
        raise DatasetError(
            f"{path}: the column {name} has {len(different):,} different values, expected at most {MOST_GROUPS} groups. "
            "Put them in bands, such as 18-29, or name other columns with --group-column. For a column that identifies people, use "
            "--person-column."
        )


def _wanted(key: str) -> str:
    return "its position in the data, from 0" if key == _ROW else "the path of the picture in the data"


def _note(path: Path, faces: FaceSet, named: int, strangers: int, odd: tuple[int, int]) -> str:
    """Everything about the join in one line."""
    repeated, ambiguous = odd
    said = [f"{path.name} names {named:,} of the {count(len(faces), 'face')} of {faces.name}"]
    said += [f"{count(len(faces) - named, 'face')} without a row"] if named < len(faces) else []
    said += [f"{count(strangers, 'row')} of no face here"] if strangers else []
    said += (
        [f"{count(repeated, 'row')} against an earlier one of the same face, which is in no group"] if repeated else []
    )
    said += [f"{count(ambiguous, 'file name')} of several pictures, which need their path"] if ambiguous else []
    return f"{'; '.join(said)}."
