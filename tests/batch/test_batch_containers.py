"""Containers as they come: compressed, damaged, cut off, with links and with names that repeat."""

import gzip
import io
import lzma
import shutil
import struct
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL.PngImagePlugin import PngImageFile

from batch_jobs import face, inline, rows_of
from ferkit import batch
from ferkit.batch.engines import ENGINES
from ferkit.errors import FerkitError
from ferkit.sources import SHARD, list_references, taken_at
from recognition import BrightnessClassifier


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a job in this process; gives its rows."""
    monkeypatch.setitem(ENGINES._choices, "inline", inline)

    def run(source, **changes):
        settings = {"model": BrightnessClassifier(), "detector": "none", "part_size": 2, **changes}
        batch.run(source, tmp_path / "out", engine="inline", **settings)
        return rows_of(tmp_path / "out")

    return run


def write_tar(path: Path, pictures: Sequence[bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for number, data in enumerate(pictures):
            member = tarfile.TarInfo(f"{number:02}.png")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_compressed_tar_is_unpacked_once(mode, run, tmp_path, monkeypatch):
    """By a part for each two pictures it was unpacked from its start as many times."""
    source = write_tar(tmp_path / "a.tar", [face(shade) for shade in range(0, 240, 20)], mode)
    assert [one.kind for one in list_references(str(source))] == [SHARD]
    opened = []
    monkeypatch.setattr("ferkit.sources.streaming.open_unpacked", _noting(opened))
    assert len(run(source)) == 12
    assert opened == [str(source)]


def _noting(opened: list[str]):
    from ferkit.sources import open_unpacked

    def noted(path):
        opened.append(path)
        return open_unpacked(path)

    return noted


def noisy(number: int) -> bytes:
    """A JPEG that no archive packs any tighter."""
    stream = io.BytesIO()
    noise = np.random.default_rng(number).integers(0, 256, (256, 256, 3), np.uint8)
    PIL.Image.fromarray(noise).save(stream, "JPEG", quality=95)
    return stream.getvalue()


@pytest.mark.parametrize(("mode", "good"), [("w:gz", 3), ("w:bz2", 0), ("w:xz", 3)])  # all is one block of bzip2
def test_a_compressed_tar_that_is_damaged_costs_rows_and_not_the_job(mode, good, run, tmp_path):
    """The libraries have errors of their own, which nobody but `reading` knows."""
    source = write_tar(tmp_path / "a.tar", [noisy(number) for number in range(12)], mode)
    middle = source.stat().st_size // 2
    with source.open("r+b") as file:
        file.seek(middle)
        file.write(bytes(range(256)) * 16)
    rows = run(source)
    errors = [row["error"] for row in rows if row["error"]]
    assert len(rows) - len(errors) >= good
    if mode == "w:xz":  # the others notice it later, some at a checksum at the end
        assert "its archive is damaged (Corrupt input data)" in errors[0]
    # Nobody reads on behind the damage.
    assert rows[-1]["source"] == str(source)
    assert "damaged" in errors[-1] or "Invalid data stream" in errors[-1]


def without_its_end(data: bytes) -> bytes:
    return data[: 3 * 1024]  # of a header and a picture each


def with_a_bad_header(data: bytes) -> bytes:
    return data[: 3 * 1024] + b"\xff" * 512 + data[3 * 1024 + 512 :]


@pytest.mark.parametrize("damage", [without_its_end, with_a_bad_header])
@pytest.mark.parametrize(
    ("suffix", "pack"),
    [
        pytest.param(".tar", bytes, id="plain"),
        pytest.param(".tar.gz", gzip.compress, id="gz"),
        pytest.param(".tar.xz", lzma.compress, id="xz"),
    ],
)
def test_pictures_that_an_archive_has_lost_are_missed(suffix, pack, damage, run, tmp_path):
    """tarfile takes both for the end of the archive."""
    whole = write_tar(tmp_path / "whole.tar", [face(shade) for shade in range(0, 240, 40)])
    source = tmp_path / f"a{suffix}"
    source.write_bytes(pack(damage(whole.read_bytes())))
    rows = run(source)
    assert [row["error"] is None for row in rows] == [True, True, True, False]
    assert rows[-1]["source"] == str(source)
    assert "its end is missing" in rows[-1]["error"]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_hard_link_costs_a_row(mode, run, tmp_path):
    """As `tar` writes a file that lies in a folder twice."""
    with tarfile.open(tmp_path / "a.tar", mode) as archive:
        for name in ("1.png", "2.png"):
            member = tarfile.TarInfo(name)
            member.size = len(face(60))
            archive.addfile(member, io.BytesIO(face(60)))
            member = tarfile.TarInfo(f"again-{name}")
            member.type, member.linkname = tarfile.LNKTYPE, name
            archive.addfile(member)
    rows = run(tmp_path / "a.tar")
    assert [row["source"].rpartition("::")[2] for row in rows] == ["1.png", "again-1.png", "2.png", "again-2.png"]
    assert [row["label"] for row in rows] == ["disgust", None, "disgust", None]
    assert "it is a hard link to another member" in rows[1]["error"]


def test_names_that_repeat_are_told_apart(run, tmp_path):
    """Hugging Face calls every picture of some data sets the same. Summaries count the changes of `source`."""
    pytest.importorskip("duckdb")
    from ferkit.batch import summarize

    names = ["x.png", "x.png", "x.png", "y.png", None, "x.png"]
    table = pa.table({"name": names, "image": [face(60)] * 5 + [b""]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    rows = run(tmp_path / "a.parquet")
    given = ["x.png", "x.png::1", "x.png::2", "y.png", f"{tmp_path}/a.parquet::4", "x.png"]
    assert [row["source"] for row in rows] == given
    assert summarize(tmp_path / "out").total.pictures == 6


@pytest.mark.parametrize(
    ("chunks", "taken", "decoded"),
    [
        pytest.param([], None, False, id="without"),
        pytest.param([(b"eXIf", 0)], "2012-12-06 15:46:01", False, id="in-front-of-the-pixels"),
        pytest.param([(b"eXIf", 1)], "2012-12-06 15:46:01", True, id="behind-them"),
        pytest.param([(b"zTXt", 0)], "2012-12-06 15:46:01", True, id="as-text"),
        pytest.param([(b"tEXt", 0)], None, False, id="another-text"),
    ],
)
def test_a_png_is_decoded_for_its_date_only_where_it_may_have_one(chunks, taken, decoded, monkeypatch):
    exif = PIL.Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2012:12:06 15:46:01"
    block = exif.tobytes()
    text = b"\nexif\n%8d\n" % len(block) + block.hex().encode() + b"\n"
    content = {
        b"eXIf": block.removeprefix(b"Exif\0\0"),
        b"zTXt": b"Raw profile type exif\0\0" + zlib.compress(text),
        b"tEXt": b"Comment\0Raw profile type exif\0",
    }
    data = face(60)
    places = data.index(b"IDAT") - 4, data.index(b"IEND") - 4
    for kind, place in chunks:
        data = data[: places[place]] + chunk(kind, content[kind]) + data[places[place] :]
    loads = []
    load = PngImageFile.load
    monkeypatch.setattr(PngImageFile, "load", lambda image: loads.append(image) or load(image))
    found = taken_at(io.BytesIO(data))
    assert (found and str(found), bool(loads)) == (taken, decoded)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def dated() -> bytes:
    stream, exif = io.BytesIO(), PIL.Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2012:12:06 15:46:01"
    PIL.Image.open(io.BytesIO(face(60))).save(stream, "JPEG", exif=exif)
    return stream.getvalue()


def test_a_list_of_the_web_and_what_it_names(file_server, run):
    gone = {"gone.jpg": 404, "long-gone.jpg": 410, "secret.jpg": 403}
    names = ["1.jpg", *gone, "http://user@host/x.jpg", f"{file_server.url}/2.jpg"]
    file_server.files = {"/in/list.txt": "\n".join(names).encode(), "/in/1.jpg": dated(), "/2.jpg": face(60)}
    file_server.files |= {f"/in/{name}": status for name, status in gone.items()}
    rows = run(f"{file_server.url}/in/list.txt")
    assert [row["source"] for row in rows] == names
    assert [row["label"] for row in rows] == ["disgust", None, None, None, None, "disgust"]
    for row, why in zip(rows[1:5], ("no such file (404)", "(410)", "answered 403", "a user name"), strict=True):
        assert why in row["error"]
    assert str(rows[0]["taken"]) == "2012-12-06 15:46:01"
    assert rows[-1]["taken"] is None


@pytest.mark.parametrize(
    ("address", "why"),
    [
        pytest.param("http://127.0.0.1:9/2.jpg", "refused the connection", id="nobody-listens"),
        pytest.param("busy.jpg", "503", id="busy"),
        pytest.param("limit.jpg", "429", id="too-many"),
    ],
)
def test_one_server_that_is_not_well_costs_its_rows_and_many_in_a_row_end_the_job(
    address, why, file_server, run, tmp_path
):
    file_server.files = {"/1.png": face(60), "/busy.jpg": 503, "/limit.jpg": 429}
    file_server.files["/list.txt"] = f"{address}\n1.png\n".encode()
    rows = run(f"{file_server.url}/list.txt")
    assert [why in (row["error"] or "") for row in rows] == [True, False]
    shutil.rmtree(tmp_path / "out")
    file_server.files["/list.txt"] = ("1.png\n" + 30 * f"{address}\n").encode()
    with pytest.raises(FerkitError, match=rf"{why}.*\. To resume, run the same command\.$"):
        run(f"{file_server.url}/list.txt", part_size=100)
    assert rows_of(tmp_path / "out") == []
