"""Faces in Parquet files, as data hubs serve them: encoded pictures in one column, labels in another."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ferkit._support.arrow import pa
from ferkit.data.names import class_names, numbered_classes, split_of
from ferkit.data.pictures import Picture, Shaper, shaped
from ferkit.data.records import DataFile, Reading
from ferkit.errors import DatasetError
from ferkit.labels import EMOTIONS, canonical, order_classes
from ferkit.sources import IMAGE, image_column, open_parquet, picture_bytes, reading_parquet

_LABEL = ("label", "labels", "emotion", "class", "expression")
_SPLIT = ("split", "usage")
_ROWS_AT_ONCE = 256
# A Parquet file inside an archive is read into memory: its columns are found from its end.
_LARGEST_PACKED_FILE = 4 << 30


@dataclass(frozen=True)
class Part:
    """One file, opened, with the columns that matter."""

    name: str
    file: Any
    image: str
    label: str
    split: str | None
    names: tuple[str, ...] | None


def read_parquet(files: Sequence[DataFile], source: str, shaper: Shaper) -> Reading:
    """Read Parquet files as one data set; the split comes from a column, else from a file's name."""
    parts = [_open(one) for one in files]
    notes: list[str] = []
    classes, names = _classes(parts, source, notes)
    with reading_parquet(_none(parts[0].name)):
        first = next(parts[0].file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=[parts[0].image]), None)
        samples = [] if first is None else first.column(0).to_pylist()
    shaper.settle(map(_data, samples))
    total = sum(one.file.metadata.num_rows for one in parts)
    return Reading("parquet", classes, shaped(_pictures(parts, classes, names), shaper, notes), total, notes)


def _open(one: DataFile) -> Part:
    if one.path is not None:
        file = open_parquet(one.path)
    else:
        with one.open() as (stream, _):
            data = stream.read(_LARGEST_PACKED_FILE + 1)
        if len(data) > _LARGEST_PACKED_FILE:
            raise DatasetError(f"{one.name} is larger than 4 GiB inside its archive. Unpack it first.")
        file = open_parquet(one.name, io.BytesIO(data))
    schema = file.schema_arrow
    columns = {name.lower(): name for name in schema.names}
    image, label = image_column(schema), next((columns[name] for name in _LABEL if name in columns), None)
    if image is None or label is None:
        what = " and ".join(
            f"no column of {kind} ({', '.join(names)})"
            for kind, names, found in (("pictures", IMAGE, image), ("labels", _LABEL, label))
            if found is None
        )
        raise DatasetError(f"{one.name} has {what}. It has: {', '.join(schema.names)}.")
    if not _can_be_labels(schema.field(label).type):
        raise DatasetError(f"{one.name} has labels of type {schema.field(label).type}. Expected numbers or names.")
    split = next((columns[name] for name in _SPLIT if name in columns), None)
    return Part(one.name, file, image, label, split, _published_names(schema, label))


def _can_be_labels(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _can_be_labels(kind.value_type)
    numbers = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    names = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return bool(numbers or names or pa.types.is_null(kind))


def _published_names(schema: pa.Schema, label: str) -> tuple[str, ...] | None:
    """Class names that Hugging Face's `datasets` left in the file's metadata."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        names = features[label]["names"]
        return tuple(str(name) for name in names) if names else None
    except (KeyError, TypeError, ValueError):
        return None


def _classes(parts: Sequence[Part], source: str, notes: list[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """The classes in model order, and the class that each name in the files stands for."""
    if parts[0].names:
        names = class_names(dict.fromkeys(name for one in parts for name in one.names or ()), notes)
        return order_classes(tuple(names.values())), names
    found: set[Any] = set()
    for one in parts:
        with reading_parquet(_none(one.name)):
            for column in one.file.iter_batches(columns=[one.label]):
                found.update(column.column(0).unique().to_pylist())
    found.discard(None)
    if all(isinstance(value, int) or (isinstance(value, float) and value.is_integer()) for value in found):
        notes.append(f"Labels are numbers without names: read as FER-2013's, 0 {EMOTIONS[0]} to 6 {EMOTIONS[-1]}.")
        return numbered_classes(source, {int(value) for value in found}, notes), {}
    names = class_names(sorted(str(value) for value in found), notes)
    classes = order_classes(tuple(names.values()))
    if len(classes) < 2:
        raise DatasetError(f"{source} has {len(classes)} classes ({', '.join(classes)}). Expected at least two.")
    return classes, names


def _pictures(parts: Sequence[Part], classes: Sequence[str], names: Mapping[str, str]) -> Iterator[Picture]:
    row = 0
    for one in parts:
        file_split = _split_of_file(one.name)
        columns = [name for name in (one.image, one.label, one.split) if name]
        batches = one.file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=columns)
        while True:
            with reading_parquet(_none(one.name)):
                batch = next(batches, None)
                if batch is None:
                    break
                splits = batch.column(one.split).to_pylist() if one.split else [file_split] * batch.num_rows
                images, labels = batch.column(one.image).to_pylist(), batch.column(one.label).to_pylist()
            for image, value, split in zip(images, labels, splits, strict=True):
                where = f"row {row + 1}" if len(parts) == 1 else f"row {row + 1} ({one.name})"
                label = _label(value, one.names, classes, names)
                data = _data(image)
                if label is None:
                    data = f"label {value!r}, expected {_expected(one.names, classes)}"
                yield Picture(where, data, label or 0, _split_name(split), row)
                row += 1


def _none(name: str) -> str:
    return f"{name} is not a readable Parquet file"


def _label(value: object, known: Sequence[str] | None, classes: Sequence[str], names: Mapping[str, str]) -> int | None:
    # Data frames turn whole numbers into 3.0 where one is missing.
    if isinstance(value, (int, np.integer)) or (isinstance(value, float) and value.is_integer()):
        known = known or classes
        name = known[int(value)] if 0 <= value < len(known) else ""
    else:
        name = "" if value is None else str(value)
    name = names.get(name, canonical(name))
    return classes.index(name) if name in classes else None


def _expected(names: Sequence[str] | None, classes: Sequence[str]) -> str:
    return f"0 to {len(names or classes) - 1} or a name of: {', '.join(classes)}"


def _data(cell: object) -> bytes | str:
    data = picture_bytes(cell)
    return "no picture bytes in this row" if data is None else data


def _split_of_file(name: str) -> str:
    """`data/train-00000-of-00001.parquet` and `train/0000.parquet` are of the split train."""
    for part in reversed(name.lower().split("/")):
        word = part.split("-")[0].split(".")[0]
        if split := split_of(word):
            return split
    return ""


def _split_name(value: object) -> str:
    name = str(value or "")
    return name if name in ("Training", "PublicTest", "PrivateTest") else split_of(name) or name
