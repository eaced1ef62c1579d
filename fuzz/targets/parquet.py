"""Parquet files: as data sets, and as a batch lists and opens them. Arrow reads them in C++, out of the fuzzer's sight."""

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dataset_files import png, random_faces
from ferkit.data.pictures import Shaper
from ferkit.data.readers import read_source
from ferkit.sources import entries, list_container
from fuzz.judge import Choices, Finding, check_message, refusals_allowed
from fuzz.scratch import scratch, tabled

WORDS = (b"PAR1", b"image", b"label", b"bytes", b"path", b"split", b"schema", b"ARROW:schema", b"huggingface",
         b"\x15\x00", b"\x15\x02", b"\x15\xfe\xff\xff\xff\x0f", b"\x19\x1c", b"\xff\xff\xff\x7f")  # fmt: skip
LONGEST = 8192

FACES = [png(face) for face in random_faces(3, side=4)]
# Cells of a table that is made as the fuzzer chooses.
IMAGES = (
    pa.array(FACES),
    pa.array([{"bytes": one, "path": f"{n}.png"} for n, one in enumerate(FACES)]),
    pa.array(["a.png", "/b.png", None]),
    pa.array([None, b"", b"junk"]),
    pa.array([[1, 2], [], None]),
    pa.array(FACES, pa.large_binary()),
    pa.array(FACES).dictionary_encode(),
    pa.array(FACES, pa.binary_view()),
    pa.array([1.5, None, float("nan")]),
)
LABELS = (
    pa.array([0, 3, 6]),
    pa.array(["happy", "sad", "a\nb"]),
    pa.array([None, 7, -1]),
    pa.array([0.0, 1.5, float("nan")]),
    pa.array([True, False, None]),
    pa.array([["happy"], [], None]),
    pa.array([{"a": 1}, {"a": 2}, None]),
    pa.array([b"happy", b"sad", b"\xff"]),
    pa.array([1, 2, 3], pa.timestamp("ns")),
    pa.array(["happy", "sad", "happy"]).dictionary_encode(),
    pa.array([2**63, 2**64 - 1, 0], pa.uint64()),
    pa.nulls(3),
)
SPLITS = (None, pa.array(["train", "test", "Training"]), pa.array([1, None, 2]), pa.array([["a"], None, []]))
METADATA: tuple[Any, ...] = (
    None,
    {"info": {"features": {"label": {"names": ["sad", "happy", "fear", "disgust"]}}}},
    {"info": {"features": {"label": {"names": "happy"}}}},
    {"info": {"features": {"label": {"names": 5}}}},
    {"info": {"features": {"label": {"names": [["a"], None, "a"]}}}},
    [],
)
NAMES = ("image", "img", "path", "bytes", "a.b", "IMAGE")


def seeds() -> dict[str, bytes]:
    found = {
        f"made {image} {label} {split} {metadata}": bytes([0, image, label, split, metadata, 0, 0])
        for image in range(len(IMAGES))
        for label in range(len(LABELS))
        for split in range(len(SPLITS))
        for metadata in range(len(METADATA))
        if (image, label).count(0) and (split, metadata).count(0)
    }
    for number, packing in enumerate(("none", "snappy", "gzip", "zstd")):
        found[f"whole {packing}"] = b"\1" + _written(pa.table({"image": IMAGES[number], "label": LABELS[0]}), packing)
    found["names only"] = b"\1" + _written(pa.table({"path": IMAGES[2]}), "none")
    return found


def look(data: bytes) -> None:
    choices = Choices(data)
    content = choices.bytes() if choices.number(3) else made(choices)
    path = scratch("faces.parquet", content)
    with refusals_allowed():
        tabled(read_source(path, Shaper.of((4, 4), None)))
    with refusals_allowed():
        references = []
        for reference in list_container("faces", str(path), lambda text: iter([])):
            references.append(reference)
            if reference.problem is not None:
                check_message(reference.problem)
            if len(references) > 100_000:
                raise Finding(f"{len(content):,} bytes stand for more than 100,000 pictures")
        for _, get in entries(references):
            picture = get()
            if picture.problem is not None:
                check_message(picture.problem)


def made(choices: Choices) -> bytes:
    """A whole file of columns that are chosen, and a few bytes of it changed."""
    image, label, split = choices.one_of(IMAGES), choices.one_of(LABELS), choices.one_of(SPLITS)
    metadata, name = choices.one_of(METADATA), choices.one_of(NAMES)
    columns = {name: image, "label": label} | ({"split": split} if split is not None else {})
    table = pa.table(columns)
    if metadata is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps(metadata)})
    data = bytearray(_written(table, choices.one_of(("none", "snappy", "gzip", "zstd", "brotli", "lz4"))))
    while data and len(choices.rest) > 3:
        at = int.from_bytes(choices.rest[:2], "big") % len(data)
        data[at], choices.rest = choices.rest[2], choices.rest[3:]
    return bytes(data)


def _written(table: pa.Table, packing: str) -> bytes:
    file = io.BytesIO()
    try:
        pq.write_table(table, file, compression=packing, row_group_size=2)
    except pa.ArrowException:  # Arrow writes no such table
        return b""
    return file.getvalue()
