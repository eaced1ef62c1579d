"""Archives and tables that strangers made: nothing leads outside, nothing grows without end, every refusal is one line."""

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataset_files import png, random_faces, write_zip
from ferkit.data.cache import load_cached
from ferkit.data.loading import load_dataset
from ferkit.errors import DatasetError, FerkitError
from ferkit.recognizer import EmotionRecognizer
from ferkit.sources import entries, list_container, list_references, list_sources, open_tree, taken_at

FACE = png(random_faces(1, side=12)[0])
GOOD = {f"{folder}/{number}.png": FACE for folder in ("happy", "sad") for number in range(2)}


def member(
    name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, **more: object
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content)
    for key, value in more.items():
        setattr(info, key, value)
    return info, content


def tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    mode = {".gz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.get(path.suffix, "w")
    with tarfile.open(path, mode) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return path


def pictures_of(path: Path) -> dict[str, bytes | None]:
    """What a batch finds in an archive: names, and the bytes it would decode, None where it says why there are none."""
    found: dict[str, bytes | None] = {}
    for name, get in entries(list(list_container("a", str(path), lambda text: iter([])))):
        picture = get()
        assert not isinstance(picture.source, str)
        assert (picture.problem is None) != (picture.source is None)
        assert "\n" not in (picture.problem or "")
        found[name.removeprefix("a::")] = picture.source and picture.source.read()
    return found


LINKS = {
    "symbolic link": member("sad/9.png", kind=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "symbolic link out": member("sad/9.png", kind=tarfile.SYMTYPE, linkname="../../../secret.png"),
    "hard link": member("sad/9.png", kind=tarfile.LNKTYPE, linkname="/etc/passwd"),
    "hard link out": member("sad/9.png", kind=tarfile.LNKTYPE, linkname="../secret.png"),
    "character device": member("sad/9.png", kind=tarfile.CHRTYPE, devmajor=1, devminor=5),
    "block device": member("sad/9.png", kind=tarfile.BLKTYPE, devmajor=8),
    "pipe": member("sad/9.png", kind=tarfile.FIFOTYPE),
    "folder": member("sad/9.png", kind=tarfile.DIRTYPE),
}


@pytest.mark.parametrize("kind", LINKS)
@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_what_is_no_file_in_a_tar_is_no_picture(kind, suffix, tmp_path):
    path = tar_of(tmp_path / f"a{suffix}", LINKS[kind], *(member(name, data) for name, data in GOOD.items()))
    assert len(load_dataset(path).train) + len(load_dataset(path).val) == 4
    found = pictures_of(path)
    assert {name: data for name, data in found.items() if data is not None} == GOOD


@pytest.mark.parametrize("name", ["../9.png", "a/../../9.png", "/tmp/9.png", "C:/9.png", "..\\9.png"])  # noqa: S108
@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_a_batch_reads_members_in_their_place_and_writes_none(name, suffix, tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    path = inside / f"a{suffix}"
    write_zip(path, {name: FACE}) if suffix == ".zip" else tar_of(path, member(name, FACE))
    before = sorted(tmp_path.rglob("*"))
    assert list(pictures_of(path).values()) == [FACE]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_link_in_a_zip_is_no_picture(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, data in GOOD.items():
            archive.writestr(name, data)
        link = zipfile.ZipInfo("sad/9.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert pictures_of(tmp_path / "a.zip") == GOOD
    assert set(open_tree(tmp_path / "a.zip").names()) == set(GOOD)


def header_with_size(size: int) -> bytes:
    """The header of a tar whose member claims that size; below zero it was an endless loop once (CVE-2025-8194)."""
    info, _ = member("sad/9.png")
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT)[:512])
    block[124:136] = struct.pack(">bxxxq", -1 if size < 0 else -128, size)
    if size < 0:
        block[125:128] = b"\xff\xff\xff"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize("size", [-512, -1024, -1, 1 << 62], ids=str)
@pytest.mark.timeout(20)
def test_a_tar_member_of_an_impossible_size(size, tmp_path):
    first = tar_of(tmp_path / "good.tar", *(member(name, data) for name, data in GOOD.items())).read_bytes()
    hostile = first[: 4 * 1024] + header_with_size(size) + bytes(1024)
    (tmp_path / "a.tar").write_bytes(hostile)
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(hostile))
    with pytest.raises(DatasetError) as refused:
        load_dataset(tmp_path / "a.tar")
    assert "\n" not in str(refused.value)
    for name in ("a.tar", "a.tar.gz"):
        found = pictures_of(tmp_path / name)
        assert {name: data for name, data in found.items() if data is not None} == GOOD
        assert None in found.values()


SCRIPT = """
import re, sys
from pathlib import Path
from ferkit.sources import entries, list_container
from ferkit.data.readers import read_source
from ferkit.data.pictures import Shaper
from ferkit.errors import DatasetError
import ferkit.detection.crops, ferkit.data.parquet, ferkit.sources.images

def peak():  # in kilobytes, of this program: what `resource` says begins with the peak of whoever started it
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

for path in sys.argv[1:]:
    before = peak()
    said = "read"
    try:
        for batch in read_source(Path(path), Shaper.of(None, None)).batches:
            said = "; ".join(one.reason for one in batch.broken) or said
    except DatasetError as error:
        said = str(error)
    if not path.endswith((".csv", ".gz", ".bz2", ".xz")) or ".tar" in path:
        for name, get in entries(list(list_container("a", path, lambda text: iter([])))):
            get()
    print(Path(path).name, peak() - before, said, sep="\\t")
"""
MEGABYTE = 1 << 20


def write_bombs(folder: Path) -> dict[str, str]:
    """Small files that unpack to hundreds of megabytes; by name, what is said about each."""
    csv = b"emotion,pixels,Usage\n"
    (folder / "bomb.csv.gz").write_bytes(gzip.compress(csv + bytes(400 * MEGABYTE), 1))
    (folder / "bomb.csv.xz").write_bytes(lzma.compress(csv + bytes(400 * MEGABYTE), preset=0))
    (folder / "bomb.csv.bz2").write_bytes(bz2.compress(csv + bytes(400 * MEGABYTE), 1))
    write_zip(folder / "member.zip", {**GOOD, "sad/9.png": bytes(400 * MEGABYTE)})
    write_zip(folder / "table.zip", {"fer2013.csv": csv + bytes(200 * MEGABYTE)})
    nested = gzip.compress(gzip.compress(csv + bytes(400 * MEGABYTE), 9), 9)
    write_zip(folder / "nested.zip", {"fer2013.csv.gz": nested})
    write_zip(folder / "zip-in.zip", {"sad/9.zip": (folder / "member.zip").read_bytes(), **GOOD})
    tar_of(
        folder / "member.tar.gz", member("sad/9.png", bytes(400 * MEGABYTE)), *(member(*one) for one in GOOD.items())
    )
    # A comment in a header about a header: tarfile reads it whole.
    tar_of(folder / "header.tar.gz", member("sad/9.png", FACE, pax_headers={"comment": "x" * (300 * MEGABYTE)}))
    cells = pa.array([FACE, bytes(400 * MEGABYTE)])
    pq.write_table(pa.table({"image": cells, "label": [0, 1]}), folder / "cell.parquet", compression="zstd")
    with (folder / "line.csv").open("wb") as file:
        file.write(csv + b"0,1 2 3")
        file.truncate(1_000_000_000)
    with (folder / "header.csv").open("wb") as file:
        file.write(b"emotion,pixels,Usage,")
        file.truncate(1_000_000_000)
    return {
        "bomb.csv.gz": "row longer than",
        "bomb.csv.xz": "row longer than",
        "bomb.csv.bz2": "row longer than",
        "member.zip": "expected at most",
        "table.zip": "row longer than",
        "nested.zip": "of no known form",
        "zip-in.zip": "read",
        "member.tar.gz": "decompression bomb",
        "header.tar.gz": "decompression bomb",
        "cell.parquet": "decompression bomb",
        "line.csv": "row longer than",
        "header.csv": "header longer than",
    }


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for its memory")
def test_bombs_are_refused_before_memory_grows(tmp_path):
    """What is measured is the memory of a process, not Python's part."""
    expected = write_bombs(tmp_path)
    paths = [tmp_path / name for name in expected]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *paths], capture_output=True, check=True, text=True)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [name for name, *_ in rows] == list(expected)
    for name, kilobytes, said in rows:
        assert expected[name] in said, (name, said)
        assert int(kilobytes) < 150_000, (name, kilobytes, said)


@pytest.mark.parametrize(
    ("start", "said"),
    [
        pytest.param(b"emotion,pixels,Usage\n0,1 2 3", "row longer than", id="row"),
        pytest.param(b"emotion,pixels,Usage,", "header longer than", id="header"),
    ],
)
def test_a_line_of_a_billion_letters(start, said, tmp_path):
    with (tmp_path / "a.csv").open("wb") as file:
        file.write(start)
        file.truncate(1_000_000_000)
    with pytest.raises(DatasetError, match=said):
        next(iter(_reading(tmp_path / "a.csv").batches))


def _reading(path):
    from ferkit.data.pictures import Shaper
    from ferkit.data.readers import read_source

    return read_source(path, Shaper.of(None, None))


def test_a_table_of_nothing_but_broken_rows_ends(tmp_path, monkeypatch):
    monkeypatch.setattr("ferkit.data.cache._MOST_BROKEN", 1000)
    (tmp_path / "a.csv").write_bytes(b"emotion,pixels,Usage\n" + b"x\n" * 5000)
    with pytest.raises(DatasetError, match="More than 1,000 rows"):
        load_dataset(tmp_path / "a.csv", skip_broken=True)


def parquet_with(path: Path, columns: dict[str, object], changes: dict[bytes, bytes] | None = None) -> Path:
    pq.write_table(pa.table(columns), path, compression="none", use_dictionary=False)
    data = path.read_bytes()
    for old, new in (changes or {}).items():
        assert old in data
        data = data.replace(old, new)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param([["a"], ["b"]], id="lists"),
        pytest.param([{"a": 1}, {"a": 2}], id="structs"),
        pytest.param([b"a", b"b"], id="bytes"),
        pytest.param(pa.array([1, 2], pa.timestamp("s")), id="times"),
    ],
)
def test_labels_that_are_none(labels, tmp_path):
    path = parquet_with(tmp_path / "a.parquet", {"image": [FACE, FACE], "label": labels})
    with pytest.raises(DatasetError, match="has labels of type"):
        load_dataset(path)


def test_a_parquet_file_that_claims_more_rows_than_bytes(tmp_path, monkeypatch):
    path = parquet_with(tmp_path / "a.parquet", {"image": pa.array([FACE] * 3), "label": [0, 1, 2]})
    monkeypatch.setattr("ferkit.sources.parquet._ROWS_PER_BYTE", 1e-9)
    (reference,) = list_container("a", str(path), lambda text: iter([]))
    assert "claims 3 rows" in reference.problem


def test_text_that_is_none_in_a_parquet_file(tmp_path):
    path = parquet_with(
        tmp_path / "a.parquet",
        {"image": [FACE, FACE], "label": ["xsadx", "happy"]},
        {b"xsadx": b"\xff\xfe\xfd\xff\xff"},
    )
    with pytest.raises(DatasetError, match="is not a readable Parquet file"):
        load_dataset(path)


def test_a_parquet_file_whose_name_is_no_text(tmp_path):
    path = tmp_path / "a\udcff.parquet"
    try:
        parquet_with(tmp_path / "a.parquet", {"image": [FACE, FACE] * 3, "label": ["sad", "happy"] * 3}).rename(path)
    except OSError:
        pytest.skip("this file system takes text only")
    assert len(load_dataset(path).split("all")) == 6
    assert list(pictures_of(path).values()) == [FACE] * 6


def test_names_from_archives_do_not_talk_to_the_terminal(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"happy/1.png": FACE, "sad/\x1b[2J\nx.png": b"junk"})
    with pytest.raises(DatasetError) as refused:
        load_dataset(path)
    assert str(refused.value).isprintable()
    assert str(refused.value).count("\\x1b") == 1


class Mark:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_no_pickle_is_loaded_as_data(tmp_path):
    mark = tmp_path / "mark"
    payload = pickle.dumps(Mark(mark))
    objects = io.BytesIO()
    np.save(objects, np.array([Mark(mark)], object), allow_pickle=True)
    for name in ("a.csv", "a.parquet", "a.zip", "a.pkl", "a.npy"):
        for content in (payload, objects.getvalue()):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(DatasetError):
                load_dataset(tmp_path / name)
    pickle.loads(payload)  # noqa: S301 - what would have happened
    assert mark.exists()


def test_no_pickle_is_loaded_from_the_cache(tmp_path, monkeypatch):
    """Whoever can write to the cache folder must not get code to run."""
    monkeypatch.setenv("FERKIT_CACHE", str(tmp_path / "cache"))
    source = write_zip(tmp_path / "a.zip", GOOD)
    load_dataset(source)
    (entry,) = (tmp_path / "cache" / "datasets").iterdir()
    mark = tmp_path / "mark"
    meta = json.loads((entry / "meta.json").read_text())
    np.save(entry / "images.npy", np.array([Mark(mark)] * meta["faces"], object), allow_pickle=True)
    assert load_cached("anything") is None
    assert len(load_dataset(source).train) + len(load_dataset(source).val) == 4
    assert not mark.exists()


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(b"a\0b.jpg\nc\0.zip\nd.parquet\n", id="nulls"),
        pytest.param(b"\xff\xfe.jpg\n\xff.tar\n", id="no-text"),
        pytest.param(b"x" * 100_000 + b".zip\n", id="a-long-name"),
        pytest.param(b"../../../etc/passwd.zip\n/dev/null.tar\n", id="outside"),
    ],
)
def test_lists_that_name_what_cannot_be(lines, tmp_path):
    (tmp_path / "list.txt").write_bytes(lines)
    for reference in list_references(str(tmp_path / "list.txt")):
        assert "\n" not in (reference.problem or "")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("name", ["a.jpg", "a.zip", "a.tar", "a.tar.gz", "a.parquet", "a.txt"])
def test_a_pipe_is_not_waited_for(name, tmp_path):
    """Nobody writes into it, and whoever opens it waits without end."""
    path = str(tmp_path / name)
    os.mkfifo(path)
    found = EmotionRecognizer(threads=1).stream(list_sources([path]), report_failures=True)
    with pytest.raises(FerkitError, match="pipe, socket or device"):
        raise FerkitError(str(next(iter(found)).error))
    assert taken_at(path) is None
