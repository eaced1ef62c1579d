"""What SRC may be: every container gives the same rows; what is damaged or hostile costs a row and nothing else."""

import io
import os
import sys
import tarfile
import zipfile
from pathlib import Path

import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_jobs import face, inline, make_pictures, rows_of
from ferkit import batch
from ferkit.batch import plan
from ferkit.batch.engines import ENGINES
from ferkit.batch.plan import read_part, write_plan
from ferkit.batch.storage import Folder
from ferkit.errors import DatasetError, FerkitError, MissingDependencyError, UsageError
from ferkit.models import sample_picture
from ferkit.sources import SHARD, Reference, list_references, network, taken_at
from recognition import BrightnessClassifier

CLASSIFIER = BrightnessClassifier()
SHADES = (0, 60, 120, 180, 240)


@pytest.fixture(autouse=True)
def inline_engine(monkeypatch):
    monkeypatch.setitem(ENGINES._choices, "inline", inline)


def run(source, out, **changes):
    settings = {"model": CLASSIFIER, "detector": "none", "part_size": 2, **changes}
    batch.run(source, out, engine="inline", **settings)
    return rows_of(Path(out))


def named_faces() -> dict[str, bytes]:
    return {f"{number}.png": face(shade) for number, shade in enumerate(SHADES)}


def write_folder(place: Path) -> Path:
    place.mkdir()
    for name, data in named_faces().items():
        (place / name).write_bytes(data)
    (place / "note.md").write_text("no picture")
    return place


def write_zip(place: Path, method: int) -> Path:
    with zipfile.ZipFile(place.with_suffix(".zip"), "w", method) as archive:
        archive.mkdir("folder")
        for name, data in named_faces().items():
            archive.writestr(f"folder/{name}", data)
        archive.writestr("folder/0.json", "{}")
    return place.with_suffix(".zip")


def write_tar(path: Path, mode: str = "w", names: dict[str, bytes] | None = None) -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in (names or named_faces()).items():
            for member, content in ((name, data), (f"{name}.cls", b"3")):  # as WebDataset has them
                entry = tarfile.TarInfo(member)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return path


def write_shards(place: Path) -> str:
    place.mkdir()
    for number, (name, data) in enumerate(named_faces().items()):
        write_tar(place / f"s-{number:03}.tar", names={name: data})
    return f"{place}/s-{{000..004}}.tar"


def write_parquet(place: Path, **columns) -> Path:
    path = place.with_suffix(".parquet")
    pq.write_table(pa.table(columns), path, row_group_size=3)
    return path


def write_list(place: Path) -> Path:
    folder = write_folder(place)
    lines = [
        "0.png",
        str(folder / "1.png"),
        "",
        "./2.png\r",
        "3.png",
        str(write_zip(folder / "last", zipfile.ZIP_STORED)),
    ]
    (folder / "list.txt").write_bytes(b"\xef\xbb\xbf" + "\n".join(lines).encode())
    return folder / "list.txt"


DATA = list(named_faces().values())


@pytest.mark.parametrize(
    ("make", "sources"),
    [
        pytest.param(write_folder, ["{}/0.png", "{}/1.png"], id="folder"),
        pytest.param(lambda place: f"{write_folder(place)}/*.png", ["{}/0.png"], id="glob"),
        pytest.param(lambda place: write_zip(place, zipfile.ZIP_STORED), ["{}.zip::folder/0.png"], id="zip-stored"),
        pytest.param(lambda place: write_zip(place, zipfile.ZIP_DEFLATED), ["{}.zip::folder/0.png"], id="zip-deflated"),
        pytest.param(lambda place: write_tar(Path(f"{place}.tar")), ["{}.tar::0.png", "{}.tar::1.png"], id="tar"),
        pytest.param(lambda place: write_tar(Path(f"{place}.tar.gz"), "w:gz"), ["{}.tar.gz::0.png"], id="tar-gz"),
        pytest.param(lambda place: write_tar(Path(f"{place}.tar.xz"), "w:xz"), ["{}.tar.xz::0.png"], id="tar-xz"),
        pytest.param(write_shards, ["{}/s-000.tar::0.png", "{}/s-001.tar::1.png"], id="shards-in-braces"),
        pytest.param(lambda place: f"{Path(write_shards(place)).parent}/*.tar", ["{}/s-000.tar::0.png"], id="shards-by-glob"),
        pytest.param(lambda place: write_parquet(place, image=DATA), ["{}.parquet::0", "{}.parquet::1"], id="parquet-bytes"),
        pytest.param(
            lambda place: write_parquet(place, key=["a", None, "c", "d", "e"], jpg=DATA),
            ["a", "{}.parquet::1", "c"],
            id="parquet-bytes-with-names",
        ),
        pytest.param(
            lambda place: write_parquet(place, image=[{"bytes": one, "path": "x.png"} for one in DATA], label=[1] * 5),
            ["x.png"],
            id="parquet-of-hugging-face",
        ),
        pytest.param(
            lambda place: write_parquet(write_folder(place), path=[f"{place.name}/{n}.png" for n in range(5)]),
            ["pictures/0.png", "pictures/1.png"],
            id="parquet-paths",
        ),
        pytest.param(write_list, ["0.png", "{}/1.png", "./2.png"], id="list"),
    ],
)  # fmt: skip
def test_every_container_gives_the_same_rows(make, sources, tmp_path):
    place = tmp_path / "pictures"
    rows = run(make(place), tmp_path / "out")
    # The list has a whole archive in its last line.
    del rows[4:-1]
    assert [row["source"] for row in rows][: len(sources)] == [name.format(place) for name in sources]
    expected = run(write_folder(tmp_path / "plain"), tmp_path / "plain-out")
    strip = [{name: value for name, value in row.items() if name != "source"} for row in rows]
    assert strip == [{name: value for name, value in row.items() if name != "source"} for row in expected]
    assert [row["label"] for row in rows] == ["angry", "disgust", "happy", "sad", "neutral"]


@pytest.fixture
def far():
    """Puts files into a store that is far away, as far as fsspec knows; returns the address of what they lie in."""
    store = pytest.importorskip("fsspec").filesystem("memory")

    def put(path: Path) -> str:
        for file in [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]:
            store.pipe_file(f"/{file.relative_to(path.parent)}", file.read_bytes())
        return f"memory://{path.name}"

    yield put
    store.rm("/", recursive=True)


@pytest.mark.parametrize(
    ("make", "source", "first"),
    [
        pytest.param(write_folder, "", "memory:///pictures/0.png", id="folder"),
        pytest.param(write_folder, "/*.png", "memory:///pictures/0.png", id="glob"),
        pytest.param(lambda place: write_zip(place, zipfile.ZIP_STORED), "", "{}::folder/0.png", id="zip-stored"),
        pytest.param(lambda place: write_zip(place, zipfile.ZIP_DEFLATED), "", "{}::folder/0.png", id="zip-deflated"),
        pytest.param(lambda place: write_tar(Path(f"{place}.tar")), "", "{}::0.png", id="tar"),
        pytest.param(lambda place: write_tar(Path(f"{place}.tar.gz"), "w:gz"), "", "{}::0.png", id="tar-gz"),
        pytest.param(lambda place: Path(write_shards(place)).parent, "/s-{{000..004}}.tar", None, id="shards"),
        pytest.param(lambda place: write_parquet(place, image=DATA), "", "{}::0", id="parquet"),
    ],
)
def test_every_container_may_be_far_away(make, source, first, far, tmp_path):
    address = far(make(tmp_path / "pictures"))
    rows = run(address + source.replace("{{", "{").replace("}}", "}"), tmp_path / "out")
    assert [row["label"] for row in rows] == ["angry", "disgust", "happy", "sad", "neutral"]
    if first:
        assert rows[0]["source"] == first.format(address)


def test_a_list_far_away_names_what_lies_beside_it_and_out_may_be_there_too(far, tmp_path):
    import fsspec

    folder = write_folder(tmp_path / "pictures")
    (folder / "list.txt").write_text("0.png\nmemory://pictures/4.png\ngone.png\n")
    far(folder)
    batch.run(
        "memory://pictures/list.txt", "memory://out", engine="inline", model=CLASSIFIER, detector="none", part_size=2
    )
    files = [name for name in fsspec.filesystem("memory").find("/out") if name.endswith(".parquet") and "part" in name]
    rows = [row for name in files for row in pq.read_table(fsspec.open(f"memory://{name}").open()).to_pylist()]
    assert [row["label"] for row in rows] == ["angry", "neutral", None]
    assert "it is no longer there" in rows[2]["error"]


def test_a_store_that_cannot_be_asked_is_no_pictures_fault(far, tmp_path, monkeypatch):
    """Else the whole rest of a job would be rows with errors when the network is gone for a minute."""
    from fsspec.implementations.memory import MemoryFileSystem

    address = far(write_folder(tmp_path / "pictures"))

    def fail(*_, **__):
        raise TimeoutError("nobody answers")

    def out_of_reach(job, parts, workers, *, address=None):
        monkeypatch.setattr(MemoryFileSystem, "cat_file", fail)
        return inline(job, parts, workers)

    monkeypatch.setitem(ENGINES._choices, "offline", out_of_reach)
    with pytest.raises(
        FerkitError, match=r"Cannot read memory://.*0.png: nobody answers\. To resume, run the same command\."
    ):
        batch.run(address, tmp_path / "out", engine="offline", model=CLASSIFIER, detector="none")
    assert rows_of(tmp_path / "out") == []


def refusal(code: str) -> PermissionError:
    """What s3fs makes of an S3 answer: the code is in the cause alone."""
    problem, problem.__cause__ = PermissionError(f"S3 says {code}"), OSError()
    problem.__cause__.response = {"Error": {"Code": code}}
    return problem


@pytest.mark.parametrize(
    ("problem", "kept"),
    [
        pytest.param(refusal("AccessDenied"), True, id="denied"),
        pytest.param(PermissionError(13, "Permission denied"), True, id="a-file-of-the-system"),
        pytest.param(refusal("InvalidAccessKeyId"), False, id="wrong-key"),
        pytest.param(refusal("SignatureDoesNotMatch"), False, id="wrong-secret"),
        pytest.param(refusal("RequestTimeTooSkewed"), False, id="wrong-clock"),
        pytest.param(refusal("ExpiredToken"), False, id="expired"),
        pytest.param(refusal("403"), False, id="no-reason"),
        pytest.param(PermissionError("Forbidden"), False, id="another-store"),
    ],
)
def test_a_refusal_is_a_pictures_fault_only_where_it_is_about_this_picture(problem, kept):
    with pytest.raises(PermissionError if kept else FerkitError), network("s3://photos/0.png"):
        raise problem


def test_only_pictures_below_a_folder_and_none_of_what_systems_leave_behind(tmp_path):
    names = {"a/1.JPG": b"", "__MACOSX/a/1.jpg": b"", "a/.hidden.png": b"", "./b/2.png": b"", "a/data.json": b""}
    found = list_references(str(write_tar(tmp_path / "a.tar", names=names)))
    assert [one.name.partition("::")[2] for one in found] == ["a/1.JPG", "./b/2.png"]


@pytest.mark.parametrize("form", ["tar", "zip"])
def test_hostile_names_reach_the_table_and_nothing_else(form, tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    names = ["../../evil.png", str(tmp_path / "evil.png"), "a\\..\\evil.png"]
    place = tmp_path / "deep" / "er" / f"a.{form}"
    if form == "tar":
        write_tar(place, names=dict.fromkeys(names, face(60)))
    else:
        with zipfile.ZipFile(place, "w") as archive:
            for name in names:
                archive.writestr(name, face(60))
    before = set(tmp_path.rglob("*"))
    rows = run(place, tmp_path / "out")
    assert [row["label"] for row in rows] == ["disgust"] * 3
    assert rows[0]["source"].partition("::")[2] == names[0]
    assert {path for path in tmp_path.rglob("*") if "out" not in path.parts} == before


def cut(path: Path, part: float = 0.6) -> Path:
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    return path


def overwrite(path: Path, place: int, data: bytes) -> Path:
    content = bytearray(path.read_bytes())
    content[place : place + len(data)] = data
    path.write_bytes(content)
    return path


def locked_zip(place: Path) -> Path:
    """Claims that its last member is encrypted."""
    path = write_zip(place, zipfile.ZIP_STORED)
    entry = path.read_bytes().rindex(b"PK\x01\x02", 0, path.read_bytes().rindex(b"PK\x01\x02"))
    return overwrite(path, entry + 8, b"\x01")


def parquet_with_gaps(place: Path) -> Path:
    return write_parquet(place, image=[DATA[0], None, b"", DATA[3], b"no picture"])


@pytest.mark.parametrize(
    ("make", "good", "problems"),
    [
        pytest.param(lambda p: cut(write_tar(Path(f"{p}.tar")), 0.3), 2, ["cut off or damaged"], id="tar-cut-off"),
        pytest.param(lambda p: cut(write_tar(Path(f"{p}.tar.gz"), "w:gz")), 0, ["cut off"], id="tar-gz-cut-off"),
        pytest.param(
            lambda p: overwrite(write_tar(Path(f"{p}.tar")), 2048, b"\xff" * 512), 1, ["damaged"], id="tar-damaged-header"
        ),
        pytest.param(lambda p: cut(write_zip(p, zipfile.ZIP_STORED)), 0, ["not a zip file"], id="zip-cut-off"),
        pytest.param(
            lambda p: overwrite(write_zip(p, zipfile.ZIP_STORED), 37, b"\xff" * 4), 4, ["no longer|moved|not where"], id="zip-header"
        ),
        pytest.param(locked_zip, 4, ["password"], id="zip-locked"),
        pytest.param(lambda p: write_zip(p, zipfile.ZIP_LZMA), 0, ["rare way"] * 5, id="zip-lzma"),
        pytest.param(parquet_with_gaps, 2, ["no picture bytes", "empty", "not a picture"], id="parquet-gaps"),
        pytest.param(lambda p: cut(write_parquet(p, image=DATA)), 0, ["not a readable Parquet file"], id="parquet-cut-off"),
        pytest.param(lambda p: write_parquet(p, x=[1]), 0, ["no column of encoded pictures"], id="parquet-of-numbers"),
    ],
)  # fmt: skip
def test_what_is_damaged_costs_a_row(make, good, problems, tmp_path):
    import re

    rows = run(make(tmp_path / "pictures"), tmp_path / "out")
    assert len([row for row in rows if row["error"] is None]) >= good
    errors = [row["error"] for row in rows if row["error"] is not None]
    assert len(errors) >= len(problems)
    for problem in problems:
        assert any(re.search(problem, error) for error in errors), errors
    assert all("\n" not in error for error in errors)


def test_members_that_are_too_large_are_not_read(tmp_path, monkeypatch):
    from ferkit.sources import listing, streaming

    source = write_zip(tmp_path / "big", zipfile.ZIP_DEFLATED)
    for module in (listing, streaming):
        monkeypatch.setattr(module, "MAX_COPIED_BYTES", len(DATA[0]) - 1)
    rows = run(source, tmp_path / "out")
    assert all("Expected at most" in row["error"] for row in rows if row["error"])
    assert any(row["error"] for row in rows)


def test_pictures_that_go_between_plan_and_work_cost_a_row(tmp_path, monkeypatch):
    source = make_pictures(tmp_path / "pictures", 5)

    def lose(job, parts, workers, *, address=None):
        (source / "001.png").unlink()
        (source / "003.png").write_bytes(b"")
        return inline(job, parts, workers)

    monkeypatch.setitem(ENGINES._choices, "losing", lose)
    batch.run(source, tmp_path / "out", engine="losing", model=CLASSIFIER, detector="none")
    errors = [row["error"] for row in rows_of(tmp_path / "out")]
    assert [error is None for error in errors] == [True, False, True, False, True]
    assert "File not found" in errors[1]
    assert "it is empty" in errors[3]


def test_a_picture_that_is_gone_is_no_glob(tmp_path, monkeypatch):
    """`me[1].jpg` would match `me1.jpg`."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "me1.png").write_bytes(face(60))
    (tmp_path / "list.txt").write_text("pictures/me[1].png\n")
    (row,) = run(tmp_path / "list.txt", tmp_path / "out")
    assert "There is no" in row["error"] or "No picture matches" in row["error"]


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text elsewhere")
def test_names_that_are_no_text(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.png")).write_bytes(face(60))
    (row,) = run(folder, tmp_path / "out")
    assert row["label"] == "disgust"
    assert row["source"] == f"{folder}/caf\\udce9.png"


def test_out_inside_of_src_is_not_read(tmp_path):
    source = write_folder(tmp_path / "pictures")
    assert len(run(source, source / "out")) == 5
    assert len(run(source, source / "second")) == 5


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        pytest.param("missing", DatasetError, "There is no .*missing", id="missing"),
        pytest.param("empty", DatasetError, "holds no pictures", id="empty-folder"),
        pytest.param("shards", DatasetError, r"take a glob: .*/shards/\*\.tar", id="folder-of-shards"),
        pytest.param("shards/*.zip", DatasetError, "holds no pictures", id="glob-without-match"),
        pytest.param("shards/{0..1}.tar", DatasetError, "There is no .*1.tar", id="shard-missing"),
        pytest.param("nonsense://bucket/x", UsageError, "not a URL that fsspec supports", id="unknown-address"),
        pytest.param("memory://nowhere/x", DatasetError, "is not there", id="far-and-missing"),
        pytest.param("gs://bucket/x", MissingDependencyError, "pip install gcsfs", id="without-its-package"),
    ],
)
def test_what_cannot_be_a_job_is_said_before_anything_is_written(source, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("shards").mkdir()
    write_tar(Path("shards/0.tar"))
    with pytest.raises(error, match=message):
        run(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_parts_end_where_groups_do():
    def rows(path, group, count):
        return [Reference(f"{path}{group}-{n}", path, "row", n, group) for n in range(count)]

    from ferkit.batch.plan import _cut

    shards = [Reference(name, f"{name}.tar", SHARD) for name in ("s", "t")]
    references = [*rows("a", 0, 6), *rows("a", 1, 6), *rows("b", 0, 25), *shards, Reference("f", "f.png")]
    assert [len(part) for part in _cut(references, 10)] == [6, 6, 10, 10, 5, 1, 1, 1]


@pytest.mark.parametrize(
    ("count", "size", "parts"), [(1, None, 1), (20, None, 3), (100, None, 4), (200, None, 7), (5, 2, 3)]
)
def test_the_usual_parts_and_the_plan_that_comes_back(count, size, parts, tmp_path, monkeypatch):
    """Up to four parts of 8 to 32 references, and of 32 beyond: the usual numbers would take seconds."""
    for name, value in (("_PARTS", 4), ("_LEAST", 8), ("_MOST", 32)):
        monkeypatch.setattr(plan, name, value)
    storage = Folder(tmp_path)
    references = [Reference(f"{n}.jpg", f"/{n}\udce9.jpg", offset=n) for n in range(count)]
    assert write_plan(storage, references, size) == (parts, count)
    read = [one for part in range(parts) for one in read_part(storage, part)]
    assert [one.path for one in read] == [one.path for one in references]
    assert [one.offset for one in read] == list(range(count))


def with_exif(form: str, text: str) -> bytes:
    image, exif = PIL.Image.new("RGB", (20, 20)), PIL.Image.Exif()
    exif[0x0110] = "a camera"
    exif.get_ifd(0x8769)[0x9003] = text
    stream = io.BytesIO()
    image.save(stream, form, exif=exif.tobytes())  # of the object itself Pillow's TIFF loses the block
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "taken"),
    [
        *(pytest.param(with_exif(form, "2012:12:06 15:46:01"), "2012-12-06 15:46:01", id=form) for form in ("JPEG", "PNG", "WEBP", "TIFF")),
        pytest.param(with_exif("JPEG", "0000:00:00 00:00:00"), "None", id="zeros"),
        pytest.param(with_exif("JPEG", "yesterday"), "None", id="no-date"),
        pytest.param(face(1), "None", id="without"),
        pytest.param(b"\xff\xd8 Exif\0\0 and no more", "None", id="damaged"),
    ],
)  # fmt: skip
def test_when_a_picture_was_taken(data, taken, tmp_path):
    stream = io.BytesIO(data)
    assert str(taken_at(stream)) == taken
    assert stream.tell() == 0
    (tmp_path / "a.jpg").write_bytes(data)
    assert str(taken_at(str(tmp_path / "a.jpg"))) == taken


def test_the_columns(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.jpg").write_bytes(sample_picture().read_bytes())
    run(tmp_path / "a", tmp_path / "out")
    schema = pq.read_schema(tmp_path / "out" / "part-000000.parquet")
    assert schema.names == [
        *("source", "x1", "y1", "x2", "y2", "detection_score", "label", "confidence"),
        *(*CLASSIFIER.classes, "roll", "error", "taken"),
    ]
    assert schema.field("taken").type == pa.timestamp("ms")
