"""FER-2013's CSV: parsed exactly, in blocks of any size, and every kind of broken row named."""

import gzip
import io
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_files import HEADER, random_faces, row, rows_of, write_csv
from ferkit.data import csv_files as csv_reader
from ferkit.data.csv_columns import parse_header
from ferkit.data.csv_files import decode_pixels, read_batches
from ferkit.data.loading import load_dataset, places
from ferkit.errors import DatasetError
from ferkit.sources import archives as sources


def parse(text: bytes, block_bytes: int = 1 << 18):
    stream = io.BytesIO(text)
    columns = parse_header(stream.readline())
    assert columns is not None
    return list(read_batches(stream, columns, "faces.csv", block_bytes))


@settings(max_examples=60, deadline=None)
@given(
    faces=st.lists(st.lists(st.sampled_from([0, 1, 9, 10, 42, 99, 100, 199, 255]), min_size=9, max_size=9), min_size=2),
    block_bytes=st.integers(1, 200),
    end=st.sampled_from(["\n", "\r\n"]),
    last=st.booleans(),
)
def test_pixels_survive_the_csv_whatever_the_blocks(faces, block_bytes, end, last):
    text = end.join([HEADER, *(row(np.array(face), i % 7) for i, face in enumerate(faces))]) + (end if last else "")
    batches = parse(text.encode(), block_bytes)
    assert not [one for batch in batches for one in batch.broken]
    read = np.concatenate([batch.images for batch in batches])
    assert np.array_equal(read, np.array(faces, np.uint8).reshape(-1, 3, 3, 1))
    assert np.concatenate([batch.labels for batch in batches]).tolist() == [i % 7 for i in range(len(faces))]
    assert np.concatenate([batch.rows for batch in batches]).tolist() == list(range(len(faces)))


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(st.text("0123456789 -x,", max_size=14).map(str.encode), max_size=3), pixels=st.integers(1, 4))
def test_decode_takes_exactly_what_a_row_by_row_parser_takes(texts, pixels):
    def slow(text):
        tokens = text.decode().split(" ")
        tokens = [token for token in tokens if token]
        if any(not token.isdigit() or len(token) > 3 or int(token) > 255 for token in tokens) or len(tokens) != pixels:
            return None
        return [int(token) for token in tokens]

    expected = [slow(text) for text in texts]
    read = decode_pixels(texts, pixels)
    if None in expected:
        assert read is None
    else:
        assert read is not None
        assert read.tolist() == expected


@pytest.mark.parametrize(
    ("header", "order"),
    [
        pytest.param("emotion,pixels,Usage", (0, 1, 2), id="fer2013.csv"),
        pytest.param("emotion, Usage, pixels", (0, 2, 1), id="icml_face_data.csv"),
        pytest.param('"emotion","pixels","Usage"', (0, 1, 2), id="quoted"),
        pytest.param("\ufeffemotion,pixels,Usage", (0, 1, 2), id="byte order mark"),
        pytest.param("Usage,pixels,emotion", (2, 1, 0), id="any order"),
    ],
)
@pytest.mark.parametrize("name", ["faces.csv", "faces.csv.gz", "faces.txt"])
def test_every_header_reads_the_same(tmp_path, header, order, name):
    separator = ", " if ", " in header else ","
    faces = random_faces(9)
    fields = [row(face, i % 7, "Training" if i < 6 else "PublicTest").split(",") for i, face in enumerate(faces)]
    moved = [separator.join([part for _, part in sorted(zip(order, parts, strict=True))]) for parts in fields]
    path = write_csv(tmp_path / name, moved, header)
    if "\ufeff" in header:
        path.write_bytes(path.read_bytes())
    dataset = load_dataset(path)
    assert list(dataset.splits) == ["Training", "PublicTest"]
    assert np.array_equal(dataset.split("all").images, faces)
    assert dataset.train.labels.tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        pytest.param(
            row(random_faces(1)[0].ravel()[:2303]), "2,303 pixels, expected 2,304 (48 x 48)", id="2303 pixels"
        ),
        pytest.param(row(random_faces(1)[0].ravel()[:0]), "0 pixels, expected 2,304", id="no pixels"),
        pytest.param("0," + "7 " * 2 + "abc" + " 1" * 2301 + ",Training", "pixel 3 is 'abc'", id="letters"),
        pytest.param("0," + "7 " * 2303 + "256,Training", "pixel 2304 is '256'", id="pixel 256"),
        pytest.param("0," + "7 " * 2303 + "1000,Training", "pixel 2304 is '1000'", id="four digits"),
        pytest.param("0,-1" + " 7" * 2303 + ",Training", "pixel 1 is '-1'", id="negative"),
        pytest.param("0,1.5" + " 7" * 2303 + ",Training", "pixel 1 is '1.5'", id="fraction"),
        pytest.param("0,٣" + " 7" * 2303 + ",Training", "pixel 1 is '٣'", id="another script's digits"),
        pytest.param(row(random_faces(1)[0], 9), "label '9', expected 0 to 6", id="label 9"),
        pytest.param(row(random_faces(1)[0], -1), "label '-1'", id="label -1"),
        pytest.param(row(random_faces(1)[0], "bored"), "label 'bored'", id="label unknown"),
        pytest.param(row(random_faces(1)[0], 0, "Foo"), "Usage 'Foo', expected Training, PublicTest", id="usage"),
        pytest.param("0,1 2 3", "2 columns, expected 3", id="columns"),
    ],
)
def test_a_broken_row_is_named_and_only_it_is_left_out(tmp_path, broken, reason):
    good = rows_of(30)
    path = write_csv(tmp_path / "faces.csv", [*good[:3], broken, *good[3:]])
    with pytest.raises(DatasetError) as error:
        load_dataset(path)
    assert "faces.csv, row 5: " in str(error.value)
    assert reason in str(error.value)
    assert "--skip-broken" in str(error.value)

    dataset = load_dataset(path, skip_broken=True)
    assert np.array_equal(dataset.split("all").images, random_faces(30))
    assert [one.where for one in dataset.broken] == ["row 5"]


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(lambda text: text.replace(" ", "  ", 5), id="double spaces"),
        pytest.param(lambda text: text.replace(" ", "\t", 5), id="tabs"),
        pytest.param(lambda text: text.replace(" ", " 00", 1), id="leading zeros"),
        pytest.param(lambda text: text.replace(",", ',"', 1)[::-1].replace(",", ',"', 1)[::-1], id="quotes"),
        pytest.param(lambda text: text + "\n\n   ", id="blank lines"),
        pytest.param(lambda text: "angry" + text[1:], id="label by name"),
    ],
)
def test_odd_but_clear_rows_are_read(tmp_path, odd):
    good = rows_of(6)
    path = write_csv(tmp_path / "faces.csv", [odd(good[0]), *good[1:]])
    assert np.array_equal(load_dataset(path).split("all").images, random_faces(6))


def _written(rows, header=HEADER, encoding="utf-8", end="\n"):
    return end.join([*([header] if header else []), *rows, ""]).encode(encoding)


def _delimited(sign):
    return [one.replace(",", sign) for one in rows_of(21, 8)]


def _odd(change):
    return [",".join(change(*one.split(","))) for one in rows_of(21, 8)]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(_written(_delimited(";"), "emotion;pixels;Usage"), id="semicolons"),
        pytest.param(_written(_delimited("\t"), "emotion\tpixels\tUsage"), id="tabs"),
        pytest.param(_written(rows_of(21, 8), encoding="utf-16"), id="UTF-16"),
        pytest.param(b"\xfe\xff" + _written(rows_of(21, 8), encoding="utf-16-be"), id="UTF-16, big end first"),
        pytest.param(_written(rows_of(21, 8), encoding="utf-32"), id="UTF-32"),
        pytest.param(_written(_delimited("\t"), "", "utf-16"), id="UTF-16, tabs, no header"),
        pytest.param(_written(rows_of(21, 8), encoding="utf-8-sig"), id="UTF-8 with a mark"),
        pytest.param(_written(rows_of(21, 8), "", "utf-8-sig"), id="UTF-8 with a mark, no header"),
        pytest.param(_written(rows_of(21, 8), end="\r"), id="carriage returns"),
        pytest.param(_written(rows_of(21, 8), ""), id="no header"),
        pytest.param(_written(_delimited(";"), "", end="\r\n"), id="no header, semicolons, Windows"),
        pytest.param(_written(rows_of(21, 8), "target,img,part"), id="another header"),
        pytest.param(_written(_odd(lambda e, p, u: (e + ".0", p, u))), id="float labels"),
        pytest.param(_written(_odd(lambda e, p, u: (f"{e}.0", p, u)), ""), id="float labels, no header"),
        pytest.param(_written(_odd(lambda e, p, u: (e, p, u, '"a, ""b"""')), HEADER + ",n"), id="quoted commas"),
        pytest.param(_written(_odd(lambda e, p, u: ('"x\ny"', e, p, u)), "n," + HEADER), id="quoted line ends"),
        pytest.param(_written(_odd(lambda e, p, u: ('5" \ty', e, p, u)), "n," + HEADER), id="a quote within"),
        pytest.param(_written(_odd(lambda e, p, u: (f'"{e}"', f'"{p}"', f'"{u}"'))), id="all quoted"),
        pytest.param(_written(_odd(lambda e, p, u: (f'"{e}"', f'"{p}"', f'"{u}"')), ""), id="all quoted, no header"),
        pytest.param(
            _written(_odd(lambda e, p, u: (e, p, u.replace("PublicTest", "val"))), "label,pixels,split"),
            id="label, split",
        ),
    ],
)
@pytest.mark.parametrize("block_bytes", [300, 1 << 20])
def test_every_way_of_writing_a_csv_reads_the_same(tmp_path, monkeypatch, content, block_bytes):
    monkeypatch.setattr(csv_reader.read_batches, "__defaults__", (block_bytes,))
    path = tmp_path / "faces.csv"
    path.write_bytes(content)
    dataset = load_dataset(path)
    assert {name: len(one) for name, one in dataset.splits.items()} == {"Training": 14, "PublicTest": 7}
    assert np.array_equal(dataset.split("all").images, random_faces(21, 8))
    assert dataset.split("all").labels.tolist() == [i % 7 for i in range(21)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(_written(rows_of(21, 8), encoding="utf-16-le"), "UTF-16 without a byte order mark", id="no mark"),
        pytest.param(_written(_odd(lambda e, p, u: ("0", e, p, u)), ""), "columns 1, 2 may be labels", id="two labels"),
        pytest.param(_written(_odd(lambda e, p, u: (p, u)), ""), "no column has labels", id="no label"),
        pytest.param(_written(_odd(lambda e, p, u: (str(int(e) + 1), p, u))), "labels from 1 to 7", id="1 to 7"),
        pytest.param(
            _written(_odd(lambda e, p, u: (f"{int(e) + 1}.0", p, u)), ""), "labels from 1 to 7", id="1 to 7, bare"
        ),
        pytest.param(
            _written([*rows_of(9, 8)[:5], '0,"1 2', *rows_of(9, 8)]),
            "never closed, in the row that begins with '0,1 2",
            id="open quote",
        ),
        pytest.param(_written(_odd(lambda e, p, u: ("0.5", p, u))), r"row 2: label '0\.5', expected 0 to 6", id="half"),
    ],
)
def test_what_cannot_be_read_is_named_in_one_line(tmp_path, content, message):
    path = tmp_path / "faces.csv"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=message) as error:
        load_dataset(path, skip_broken="row" not in message)
    assert "\n" not in str(error.value)


def test_columns_that_no_header_names_are_noted_and_lines_counted_from_the_first(tmp_path):
    path = tmp_path / "faces.csv"
    path.write_bytes(_written([*rows_of(21, 8), row(random_faces(1, 8)[0], "bored")], ""))
    dataset = load_dataset(path, skip_broken=True)
    assert "column 1 as labels, 2 as pixels, 3 as splits" in " ".join(dataset.notes)
    assert dataset.broken[0].where == "row 22"
    assert places(path, np.array([0, 2])) == ["row 1", "row 3"]


def test_labels_that_may_count_from_1_are_noted(tmp_path):
    rows = [row(face, i % 6 + 1) for i, face in enumerate(random_faces(12, 8))]
    assert any("No label is 0 (angry)" in note for note in load_dataset(write_csv(tmp_path / "a.csv", rows)).notes)


@pytest.mark.parametrize(
    "written",
    [
        pytest.param(lambda line: line.replace(",", "|"), id="pipes"),
        pytest.param(lambda line: f"sep=,\n{line}" if line == HEADER else line, id="Excel's line in front"),
        pytest.param(lambda line: re.sub(r"[\d ]{9,}", lambda m: f'"{m[0].replace(" ", ",")}"', line), id="commas"),
        pytest.param(lambda line: re.sub(r"[\d ]{9,}", lambda m: f'"[{m[0].replace(" ", ", ")}]"', line), id="a list"),
        pytest.param(lambda line: re.sub(r"[\d ]{9,}", lambda m: m[0].replace(" ", ".0 ") + ".0", line), id="floats"),
    ],
)
def test_other_ways_to_write_the_same_rows(tmp_path, written):
    plain = load_dataset(write_csv(tmp_path / "plain.csv", rows_of(21, side=8)))
    lines = list(map(written, [HEADER, *rows_of(21, side=8)]))
    other = load_dataset(write_csv(tmp_path / "other.csv", lines[1:], header=lines[0]))
    assert np.array_equal(other.train.images, plain.train.images)
    assert np.array_equal(other.test.labels, plain.test.labels)


def test_splits_are_found_in_a_column_of_any_name_and_said(tmp_path):
    """Else the faces of the test would be trained on."""
    plain = load_dataset(write_csv(tmp_path / "plain.csv", rows_of(21, side=8)))
    other = load_dataset(write_csv(tmp_path / "other.csv", rows_of(21, side=8), header="emotion,pixels,subset"))
    assert other.splits.keys() == plain.splits.keys()
    assert [note for note in other.notes if "column 3 as splits" in note]


def test_rows_are_numbered_as_an_editor_does_across_blocks_and_blank_lines():
    lines = [row(face, 0) for face in random_faces(40, 6)]
    lines[30:30] = ["", "9,1 2,Training"]
    broken = [one for batch in parse("\n".join([HEADER, *lines]).encode(), 300) for one in batch.broken]
    assert [one.where for one in broken] == ["row 33"]


@pytest.mark.parametrize(
    "header", ["emotion,pixels,Usage", "emotion, Usage, pixels", "pixels,emotion", "emotion,pixels,id"]
)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_blocks_at_once_read_as_row_by_row(header, data):
    columns = parse_header(header.encode())
    assert columns is not None
    fields = {
        "emotion": ["0", " 3", "angry"],
        "usage": ["Training", " PublicTest"],
        "pixels": ["1 20 255 4", "0 0 0 0"],
    }
    row = st.tuples(*(st.sampled_from(fields.get(name.strip().lower(), ["7"])) for name in header.split(",")))
    lines = data.draw(st.lists(row.map(",".join), min_size=1, max_size=3))
    text = data.draw(st.sampled_from(["\n", "\r\n"])).join(lines)
    for at in data.draw(st.lists(st.integers(0, len(text)), max_size=2)):
        text = text[:at] + data.draw(st.sampled_from([*'\n,\r 19x:"', ""])) + text[at + data.draw(st.integers(0, 1)) :]
    regular = csv_reader._parse_regular(text.encode(), columns, 4)
    if regular is None:
        return
    slow = csv_reader._parse_lines(text.encode().split(b"\n"), columns, 4)
    for one in ("images", "labels", "splits", "rows", "broken", "lines"):
        assert np.array_equal(getattr(regular, one), getattr(slow, one)), one


def test_faces_of_another_square_size_are_taken(tmp_path):
    dataset = load_dataset(write_csv(tmp_path / "faces.csv", rows_of(9, side=20)))
    assert dataset.train.images.shape == (6, 20, 20, 1)


def test_size_and_channels_are_as_asked_for(tmp_path):
    path = write_csv(tmp_path / "faces.csv", rows_of(9))
    faces = load_dataset(path, size=(24, 32), channels=3).train.images
    assert faces.shape == (6, 24, 32, 3)
    assert np.array_equal(faces[..., 0], faces[..., 2])
    assert np.array_equal(load_dataset(path, size=(48, 48)).train.images, load_dataset(path).train.images)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda data: data[: len(data) // 2], "is cut off", id="cut off"),
        pytest.param(lambda data: data[:-4], "is cut off", id="checksum missing"),
        pytest.param(lambda data: data[:5000] + b"\0\0\0\0" + data[5004:], "is damaged", id="damaged"),
        pytest.param(lambda data: data[:-8] + b"\0\0\0\0" + data[-4:], "is damaged", id="wrong checksum"),
        pytest.param(lambda data: b"", "is empty", id="empty"),
        pytest.param(lambda data: gzip.compress(b"a,b,c\n1,2,3\n"), "header 'a,b,c' was not recognised", id="header"),
        pytest.param(lambda data: gzip.compress(HEADER.encode()), "holds no usable face", id="no rows"),
        pytest.param(
            lambda data: gzip.compress(f"{HEADER}\n".encode() + b"0" * (20 << 20)), "row longer than", id="endless row"
        ),
        pytest.param(
            lambda data: gzip.compress((HEADER + ("\n0," + "0 " * 2303 + "0,Training") * 20_000).encode(), 9),
            "decompression bomb",
            id="bomb",
        ),
    ],
)
@pytest.mark.parametrize("library", ["isal", "zlib"])
def test_a_damaged_file_is_one_clear_line(tmp_path, monkeypatch, library, damage, message):
    if library == "zlib":
        monkeypatch.setattr(sources, "GzipFile", gzip.GzipFile)
    path = write_csv(tmp_path / "faces.csv.gz", rows_of(30))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DatasetError, match=message) as error:
        load_dataset(path)
    assert "\n" not in str(error.value)
    assert "faces.csv.gz" in str(error.value)


def test_a_missing_file_suggests_what_lies_beside_it(tmp_path):
    write_csv(tmp_path / "fer2013.csv", rows_of(3))
    with pytest.raises(DatasetError, match=r"Did you mean .*fer2013\.csv\?"):
        load_dataset(tmp_path / "fer2103.csv")
    with pytest.raises(DatasetError, match="There is no"):
        load_dataset(tmp_path / ("x" * 300))


@pytest.mark.shared
def test_the_published_csv_has_its_published_counts(shared):
    dataset = load_dataset(shared / "data" / "fer2013.csv.gz")
    assert {name: len(one) for name, one in dataset.splits.items()} == {"Training": 28_709, "PublicTest": 3_589}
    assert dataset.train.counts["disgust"] == 436
    assert dataset.findings is not None
    assert dataset.findings.across == {("Training", "PublicTest"): 280}
    assert "There is no PrivateTest" in " ".join(dataset.notes)
