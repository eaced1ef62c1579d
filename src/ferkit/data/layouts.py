"""Data sets as they are published: what names of pictures, lists and files beside pictures say of label, split and person.

Each layout is a row of `LAYOUTS`, the first that recognises a source reads it. Where labels are numbers or letters, a
note says which class each stands for: every data set counts in an order of its own.
"""

import codecs
import csv
import io
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePosixPath
from typing import TextIO

import numpy as np

from ferkit.data.csv_columns import DELIMITERS
from ferkit.data.names import numbered_classes, split_of
from ferkit.data.records import Source
from ferkit.data.votes import VOTED, majority
from ferkit.errors import DatasetError, count
from ferkit.labels import WITH_CONTEMPT

_LONGEST_HEADER = 1 << 16
_PICTURE = ("file_name", "filename", "image", "image_path", "path", "file", "img", "picture", "name", "pth")
_LABEL = ("label", "labels", "emotion", "expression", "class")
_SPLIT = ("split", "usage", "subset")
_PERSON = ("subject", "subject_id", "person", "person_id", "participant")


@dataclass(frozen=True)
class Placed:
    """A picture and what is known of it: its class as it is written, its split or person as "" where there is none."""

    name: str
    folder: str
    split: str = ""
    person: str = ""


@dataclass(frozen=True)
class Layout:
    """A data set as it is published.

    Attributes:
        name: What it is called.
        find: Its pictures, by the class as it is written; nothing if the source is another data set. A name that no
            picture of the source has is one that the list names and the source lacks.
        classes: What is written -> class; the other faces are left out. Empty where names of classes are written.
        cut: Whether pictures show more than the face, which then is found and cut out.
        note: What else is assumed.
    """

    name: str
    find: Callable[[Source], Iterable[Placed]]
    classes: Mapping[str, str]
    cut: bool = False
    note: str = ""


@dataclass(frozen=True)
class Published:
    """The pictures of a source that is laid out as a known data set, their classes as `folder`."""

    placed: list[Placed]
    cut: bool = False


def find_layout(source: Source, notes: list[str]) -> Published | None:
    """The pictures of a source by the layout that it has; None if it has none of these. Notes say what is assumed."""
    known = set(source.pictures)
    for layout in LAYOUTS:
        found = list(layout.find(source))
        there = [one for one in found if one.name in known]
        # A list of other pictures, or a few names that happen to fit, make no data set.
        if there and len(there) * 2 >= len(found):
            if len(there) < len(found):
                absent = next(one.name for one in found if one.name not in known)
                notes.append(
                    f"{layout.name}: {count(len(found) - len(there), 'listed picture')} not there, {absent} first."
                )
            return Published(_named(layout, source, there, notes), layout.cut)
    return None


def _named(layout: Layout, source: Source, placed: list[Placed], notes: list[str]) -> list[Placed]:
    """Pictures under the names of their classes, without those that are of none."""
    classes, listed = layout.classes, {one.name for one in placed}
    numbers = [_whole(one.folder) for one in placed]
    if not classes and None not in numbers:
        placed = [replace(one, folder=str(number)) for one, number in zip(placed, numbers, strict=True)]
        known = numbered_classes(source.name, {number for number in numbers if number is not None}, notes)
        classes = {str(number): name for number, name in enumerate(known)}
        notes.append(f"{layout.name}: labels are numbers without names, read as FER-2013's: {_written(classes)}.")
    elif any(code != name for code, name in classes.items()):
        notes.append(f"{layout.name} writes its classes as {_written(classes)}.")
    if layout.note:
        notes.append(f"{layout.name}: {layout.note}")
    if classes:
        meant = {code.casefold(): name for code, name in classes.items()}
        if others := Counter(one.folder for one in placed if one.folder.casefold() not in meant):
            of = ", ".join(f"{code} ({n:,})" for code, n in sorted(others.items()))
            notes.append(f"{count(others.total(), 'picture')} of another class left out: {of}.")
        placed = [replace(one, folder=meant[code]) for one in placed if (code := one.folder.casefold()) in meant]
    if not placed:
        raise DatasetError(f"{source.name} is laid out as {layout.name} but holds no picture of its classes.")
    if 0 < (without := sum(not one.split for one in placed)) < len(placed):
        notes.append(
            f"{count(without, 'picture')} of {len(placed):,} name no split, so the splits of the others are not used."
        )
        placed = [replace(one, split="") for one in placed]
    if people := {one.person: set[str]() for one in placed if one.person}:
        for one in placed:
            if one.person:
                people[one.person].add(one.split)
        several = sum(len(splits) > 1 for splits in people.values())
        named = "1 person" if len(people) == 1 else f"{len(people):,} people"
        if several:
            notes.append(
                f"{layout.name} names {named}, {several:,} of them in several of its splits: held-out accuracy is too high."
            )
        else:
            notes.append(f"{layout.name} names {named}: all faces of one stay in one split.")
    if unlisted := [name for name in source.pictures if name not in listed]:
        notes.append(f"{layout.name}: {count(len(unlisted), 'picture')} without a label not used, {unlisted[0]} first.")
    return placed


def _written(classes: Mapping[str, str]) -> str:
    return ", ".join(f"{code} {name}" for code, name in classes.items())


def _whole(text: str) -> int | None:
    """The number that a label is; data frames and CK+ write 3 as 3.0 or 3.0000000e+00."""
    found = re.fullmatch(r"(\d{1,3})(?:\.0*)?(?:e\+00)?", text.strip(), re.ASCII)
    return int(found[1]) if found else None


def _by_name(pattern: str) -> Callable[[Source], Iterator[Placed]]:
    """Find pictures by a pattern of their paths, whose groups are `label` and perhaps `split` and `person`."""
    matches = re.compile(rf"(?:.*/)?{pattern}", re.IGNORECASE).fullmatch

    def find(source: Source) -> Iterator[Placed]:
        found = [(name, match.groupdict("")) for name in source.pictures if (match := matches(name))]
        if len(found) * 2 >= len(source.pictures):
            for name, said in found:
                yield Placed(name, said["label"], split_of(said.get("split", "")), said.get("person", "").upper())

    return find


def _beside(source: Source, pattern: str) -> Iterator[tuple[str, bytes]]:
    """The small files whose paths match a pattern, one for each picture or sequence, and what they hold."""
    matches = re.compile(rf"(?:.*/)?{pattern}", re.IGNORECASE).fullmatch
    if source.tree is not None and (names := list(filter(matches, source.tree.names()))):
        for name, data in source.tree.contents(names):
            if isinstance(data, str):
                raise DatasetError(f"{source.name}, {name}: {data}.")
            yield name, data


def _lists(source: Source, pattern: str) -> Iterator[tuple[str, TextIO]]:
    """The text files whose paths match a pattern, which may be long."""
    matches = re.compile(rf"(?:.*/)?{pattern}", re.IGNORECASE).fullmatch
    if source.tree is None:
        return
    for name in filter(matches, source.tree.names()):
        with source.tree.open(name) as (stream, _):
            utf_16 = stream.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        with source.tree.open(name) as (stream, _):
            yield name, io.TextIOWrapper(stream, "utf-16" if utf_16 else "utf-8-sig", "replace", newline="")


class _Pictures:
    """Pictures by what a list calls them: a path from the list's folder, or a name that only one picture has."""

    def __init__(self, names: Sequence[str]) -> None:
        self._all = names

    @cached_property
    def _paths(self) -> set[str]:
        return set(self._all)

    @cached_property
    def _names(self) -> dict[str, list[str]]:
        names: dict[str, list[str]] = defaultdict(list)
        for name in self._all:
            names[PurePosixPath(name).stem].append(name)
        return names

    def find(self, called: str, beside: str = "") -> str:
        """The path of a picture in the source, or what it is called where that is none or several."""
        path = called.replace("\\", "/").removeprefix("./")
        if (below := str(PurePosixPath(beside).parent / path)) in self._paths:
            return below
        same = self._names.get(PurePosixPath(path).stem, [])
        fitting = [one for one in same if one.endswith(path)] or same
        return fitting[0] if len(fitting) == 1 else called


def _split_above(path: str) -> str:
    """The split that a file is named after, or the next folder above it that is named after one."""
    parts = [PurePosixPath(path).stem, *reversed(PurePosixPath(path).parts[:-1])]
    return next((split for part in parts if (split := split_of(part))), "")


def _raf_db(ending: str) -> Callable[[Source], Iterator[Placed]]:
    def find(source: Source) -> Iterator[Placed]:
        pictures = _Pictures(source.pictures)
        for _, lines in _lists(source, r"list_patition_label\.txt"):
            for words in map(str.split, lines):
                if len(words) == 2:
                    stem, _, suffix = words[0].rpartition(".")
                    yield Placed(pictures.find(f"{stem}{ending}.{suffix}"), words[1], split_of(stem))

    return find


def _affectnet(source: Source) -> Iterator[Placed]:
    pictures = _Pictures(source.pictures)
    for name, data in _beside(source, r"annotations/\w+_exp\.npy"):
        number = PurePosixPath(name).name.removesuffix("_exp.npy")
        try:
            label = _only_value(data)
        except Exception as problem:  # of a damaged header numpy raises what its parser does
            raise DatasetError(f"{source.name}, {name}: no annotation of AffectNet ({problem}).") from problem
        # The same numbers may stand in each split, whose folders of annotations and pictures lie side by side.
        images = PurePosixPath(name).parent.parent / "images" / "x"
        yield Placed(pictures.find(f"{number}.jpg", str(images)), label, _split_above(name))


def _only_value(data: bytes) -> str:
    """The value of a .npy that holds one; `np.load` would first make room for as many as it claims."""
    stream = io.BytesIO(data)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, _, kind = read.get(np.lib.format.read_magic(stream), read[1, 0])(stream)
    if any(side != 1 for side in shape):
        raise ValueError(f"an array of the shape {shape}, expected one value")
    return str(np.frombuffer(stream.read(), kind, 1)[0])


def _affectnet_lists(source: Source) -> Iterator[Placed]:
    pictures = _Pictures(source.pictures)
    for name, row in _rows(source, r"[^/]+\.csv", {"subdirectory_filepath"}, {"expression"}):
        if path := row.get("subdirectory_filepath"):
            yield Placed(pictures.find(path, name), row.get("expression", ""), _split_above(name))


def _ck_plus(source: Source) -> Iterator[Placed]:
    frames: dict[str, list[str]] = defaultdict(list)
    for name in source.pictures:
        frames[PurePosixPath(name).name[: len("S005_001")]].append(name)
    for name, data in _beside(source, r"S\d{3}_\d{3}_\d{8}_emotion\.txt"):
        sequence = PurePosixPath(name).name[: len("S005_001")]
        first, *others = sorted(frames[sequence], key=lambda one: PurePosixPath(one).name) or [f"{sequence}_*.png"]
        label, person = str(_whole(data.decode("ascii", "replace"))), sequence[: len("S005")]
        yield Placed(first, "0", person=person)
        yield from (Placed(one, label, person=person) for one in others[-3:])


def _fer_plus(source: Source) -> Iterator[Placed]:
    pictures = _Pictures(source.pictures)
    for name, lines in _lists(source, r"label\.csv"):
        for row in csv.reader(lines):
            if len(row) == 2 + len(VOTED) and row[0].lower().endswith(".png"):
                votes = np.array([[int(vote) if vote.isdecimal() else 0 for vote in map(str.strip, row[2:])]])
                chosen, kept = majority(votes)
                label = VOTED[chosen[0]] if kept[0] else "no majority"
                yield Placed(pictures.find(row[0], name), label, _split_above(name))


def _table(source: Source) -> Iterator[Placed]:
    """Any table with a column of pictures and one of labels, as CSV or JSON lines."""
    pictures = _Pictures(source.pictures)
    for name, row in _rows(source, r"[^/]+\.(csv|tsv|jsonl)", _PICTURE, _LABEL):
        if (called := _first(row, _PICTURE)) and (label := _first(row, _LABEL)):
            path = pictures.find(called, name)
            split = (
                split_of(_first(row, _SPLIT)) or _split_above(name) or _split_above(f"{PurePosixPath(path).parent}/")
            )
            yield Placed(path, label, split, _first(row, _PERSON))


def _first(row: Mapping[str, str], names: Collection[str]) -> str:
    return next((row[name] for name in names if name in row), "")


def _rows(
    source: Source, pattern: str, pictures: Collection[str], labels: Collection[str]
) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of the tables that have such columns, and the table's path; names of columns are in lower case."""
    for name, lines in _lists(source, pattern):
        row = None
        try:
            for row in _objects(lines) if name.lower().endswith(".jsonl") else _cells(lines, pictures, labels):
                yield name, row
        except (ValueError, RecursionError, csv.Error) as problem:
            if row is not None:  # else it is another file, which says nothing about the pictures
                raise DatasetError(f"{source.name}, {name}: no table of pictures ({problem}).") from problem


def is_list(head: str) -> bool:
    """Whether a file that begins so lists pictures with labels, so that its folder is the data set.

    >>> is_list("filename,label"), is_list("emotion,pixels,Usage")
    (True, False)
    """
    columns = _columns(head)
    return bool({*_PICTURE} & {*columns} and {*_LABEL} & {*columns})


def _objects(lines: Iterable[str]) -> Iterator[dict[str, str]]:
    for line in filter(str.strip, lines):
        if isinstance(row := json.loads(line), dict):
            yield {str(key).strip().lower(): str(value) for key, value in row.items() if value is not None}


def _cells(lines: TextIO, pictures: Collection[str], labels: Collection[str]) -> Iterator[dict[str, str]]:
    columns = _columns(head := lines.readline(_LONGEST_HEADER))
    if {*pictures} & {*columns} and {*labels} & {*columns}:
        for row in csv.reader(lines, delimiter=_delimiter(head)):
            yield {key: cell.strip() for key, cell in zip(columns, row, strict=False) if cell.strip()}


def _delimiter(head: str) -> str:
    return max(DELIMITERS, key=head.count)


def _columns(head: str) -> list[str]:
    return [name.strip().lower() for name in next(csv.reader([head], delimiter=_delimiter(head)), [])]


def _counted(names: str, first: int = 0) -> dict[str, str]:
    return {str(number): name for number, name in enumerate(names.split(), first)}


_RAF_DB = _counted("surprise fear disgust happy sad angry neutral", 1)
_AFFECTNET = _counted("neutral happy sad surprise fear disgust angry contempt")
_LETTERS = {"AN": "angry", "DI": "disgust", "HA": "happy", "NE": "neutral", "SA": "sad", "SU": "surprise"}
_CK_NAMES = "anger|contempt|disgust|fear|happy|sadness|surprise"
LAYOUTS = (
    Layout("RAF-DB", _raf_db("_aligned"), _RAF_DB, note="the aligned pictures are taken."),
    Layout("RAF-DB", _raf_db(""), _RAF_DB, cut=True, note="the original pictures are taken."),
    Layout("RAF-DB", _by_name(r"(?P<label>[1-7])/(?P<split>train|test)_\d+(_aligned)?\.\w+"), _RAF_DB),
    Layout("AffectNet", _affectnet, _AFFECTNET),
    Layout("AffectNet", _affectnet_lists, _AFFECTNET, cut=True),
    Layout(
        "FER+",
        _fer_plus,
        {name: name for name in WITH_CONTEMPT},
        note="labels are the majority of the votes, single votes aside; the votes themselves are joined to the CSV (--votes).",
    ),
    Layout(
        "CK+",
        _ck_plus,
        _counted("neutral angry contempt disgust fear happy sad surprise"),
        cut=True,
        note="of each sequence with a label its last three frames, and its first as neutral.",
    ),
    Layout("CK+48", _by_name(rf"(?P<label>{_CK_NAMES})/(?P<person>S\d{{3}})_\d{{3}}_\d{{8}}\.png"), {}),
    Layout(
        "JAFFE",
        _by_name(r"(?P<person>[A-Z]{2})\.(?P<label>AN|DI|FE|HA|NE|SA|SU)\d\.\d+\.\w+"),
        {**_LETTERS, "FE": "fear"},
        cut=True,
    ),
    Layout(
        "KDEF",
        _by_name(r"[AB](?P<person>[FM]\d\d)(?P<label>AF|AN|DI|HA|NE|SA|SU)(FL|HL|S|HR|FR)\.\w+"),
        {**_LETTERS, "AF": "fear"},
        cut=True,
        note="all five angles of the camera are taken, profiles too.",
    ),
    Layout("List of pictures", _table, {}),
)
