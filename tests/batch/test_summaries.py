"""Summaries of tables of faces: what is counted, how it is put together, and what is no such table."""

import csv
import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from face_tables import broken, empty, face, face_table, write_batch
from ferkit.batch import summarize
from ferkit.batch.job import FORMAT
from ferkit.errors import DatasetError, FerkitError, MissingDependencyError, UsageError
from ferkit.render.sinks import SINKS, CsvTable
from ferkit.results import VIDEO_KEYS
from full_disk import no_room_beyond

pytest.importorskip("duckdb")

PARTY = [
    face("/p/2024/a.jpg", "happy", 0.9, "2024-05-01T10:00:00"),
    face("/p/2024/a.jpg", "sad", 0.5, "2024-05-01T10:00:00"),
    face("/p/2024/b.jpg", "happy", 0.7, "2024-05-02T10:00:00"),
]
LATER = [
    empty("/p/2025/x/c.jpg", "2025-01-31T23:59:59"),
    broken("/p/2025/x/d.jpg"),
    broken("/p/2025/x/e.jpg"),
    face("/p/f.jpg", "neutral", 0.4),
]


@pytest.fixture
def batch(tmp_path):
    return write_batch(tmp_path / "out", PARTY, LATER)


def labels_of(group):
    return {label: count.faces for label, count in group.labels.items()}


def told(summary):
    return {
        group.name: (group.pictures, group.without_face, group.errors, labels_of(group)) for group in summary.groups
    }


def test_everything_is_counted_once(batch):
    summary = summarize(batch)
    total = summary.total
    assert (total.pictures, total.faces, total.without_face, total.errors) == (6, 4, 1, 2)
    assert labels_of(total) == {"happy": 2, "sad": 1, "neutral": 1}
    assert total.labels["happy"].mean_confidence == pytest.approx(0.8, abs=1e-6)
    assert total.share("happy") == 0.5
    assert total.share("angry") == 0
    assert (summary.first, summary.last, summary.undated) == ("2024-05-01T10:00:00", "2025-01-31T23:59:59", 3)
    assert summary.messages == (("Cannot read ...: it is empty.", 2),)
    assert summary.groups == ()


@pytest.mark.parametrize(
    ("by", "options", "expected"),
    [
        pytest.param(
            "folder",
            {},
            {"2024": (2, 0, 0, {"happy": 2, "sad": 1}), ".": (1, 0, 0, {"neutral": 1}), "2025": (3, 1, 2, {})},
            id="folder",
        ),
        pytest.param(
            "folder",
            {"depth": 2},
            {"2024": (2, 0, 0, {"happy": 2, "sad": 1}), ".": (1, 0, 0, {"neutral": 1}), "2025/x": (3, 1, 2, {})},
            id="two-levels",
        ),
        pytest.param(
            "day",
            {},
            {
                "2024-05-01": (1, 0, 0, {"happy": 1, "sad": 1}),
                "2024-05-02": (1, 0, 0, {"happy": 1}),
                "2025-01-31": (1, 1, 0, {}),
                "": (3, 0, 2, {"neutral": 1}),
            },
            id="day",
        ),
        pytest.param(
            "month",
            {"min_confidence": 0.6},
            {
                "2024-05": (2, 0, 0, {"happy": 2, "uncertain": 1}),
                "2025-01": (1, 1, 0, {}),
                "": (3, 0, 2, {"uncertain": 1}),
            },
            id="month-and-uncertain",
        ),
    ],
)
def test_groups(batch, by, options, expected):
    summary = summarize(batch, by=by, **options)
    assert told(summary) == expected
    assert list(told(summary)) == list(expected)
    assert summary.root == ("/p" if by == "folder" else "")


@pytest.mark.parametrize(
    ("sources", "root", "groups"),
    [
        pytest.param(["a.jpg", "b.jpg"], "", {".": 2}, id="no-folders"),
        pytest.param(["x/a.jpg", "b.jpg"], "", {"x": 1, ".": 1}, id="one-folder"),
        pytest.param(["/ab/1.jpg", "/ac/1.jpg"], "", {"ab": 1, "ac": 1}, id="names-that-begin-alike"),
        pytest.param(["/ab/1.jpg", "/ab/c/1.jpg"], "/ab", {".": 1, "c": 1}, id="one-in-the-other"),
        pytest.param(["/d/s.tar::x/1.jpg", "/d/t.tar::1.jpg"], "/d", {"s.tar": 1, "t.tar": 1}, id="archives"),
        pytest.param(["t.parquet::1", "t.parquet::2"], "t.parquet", {".": 2}, id="rows"),
        pytest.param(["s3://b/x/1.jpg", "s3://b/y/1.jpg"], "s3://b", {"x": 1, "y": 1}, id="bucket"),
        pytest.param([r"C:\a\1.jpg", r"C:\b\1.jpg"], "C:", {"a": 1, "b": 1}, id="windows"),
        pytest.param(["it's/1.jpg", 'say "no"/1.jpg', "été/1.jpg"], "", {"it's": 1, 'say "no"': 1, "été": 1}, id="odd"),
        pytest.param(["/o'h/$root/1.jpg", "/o'h/$depth/1.jpg"], "/o'h", {"$root": 1, "$depth": 1}, id="in-sql"),
        pytest.param(["", ""], "", {".": 1}, id="nameless"),
    ],
)
def test_folders(tmp_path, sources, root, groups):
    summary = summarize(write_batch(tmp_path / "out", [face(source) for source in sources]), by="folder")
    assert summary.root == root
    assert {group.name: group.pictures for group in summary.groups} == groups


def test_agrees_with_plain_counting(tmp_path, rng):
    """Many parts, in several packs that are counted side by side."""
    parts, n = [], 0
    for _ in range(150):
        rows = []
        for _ in range(rng.integers(13)):
            source, n = f"/p/{rng.integers(10)}/{n}.jpg", n + 1
            faces = [face(source, str(rng.choice(["happy", "sad"])), rng.random()) for _ in range(rng.integers(4))]
            rows += faces or [(empty, broken)[rng.integers(2)](source)]
        parts.append(rows)
    summary = summarize(write_batch(tmp_path / "out", *parts), by="folder", csv=tmp_path / "out.csv")
    rows = [row for part in parts for row in part]
    assert summary.total.pictures == n == len({row[0] for row in rows})
    assert labels_of(summary.total) == dict(sorted(Counter(row[1] for row in rows if row[1]).items()))
    folders = Counter(source.split("/")[2] for source in {row[0] for row in rows})
    assert {group.name: group.pictures for group in summary.groups} == folders
    with (tmp_path / "out.csv").open(newline="") as file:
        written = {row["folder"]: row for row in csv.DictReader(file)}
    for group in summary.groups:
        row = written.pop(group.name)
        assert (int(row["pictures"]), int(row["faces"]), int(row["errors"])) == (
            group.pictures,
            group.faces,
            group.errors,
        )
        assert int(row["happy"]) == labels_of(group).get("happy", 0)
    assert not written


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_tables_of_predict(tmp_path, form):
    target = tmp_path / f"faces.{form}"
    rows = [
        {"source": "a/1.jpg", "label": "happy", "confidence": 0.9, "x1": 1},
        {"source": 'a/"2",\n.jpg', "error": None},
        {"source": "b/3.jpg", "label": "", "error": "Cannot read b/3.jpg: it is empty."},
        {"source": "b/4.jpg", "label": "bored", "confidence": 0.5},
    ]
    with SINKS[form](target, ["happy", "bored"]) as sink:
        sink.write_rows(rows)
    summary = summarize(target, by="folder")
    assert told(summary) == {"a": (2, 1, 0, {"happy": 1}), "b": (2, 0, 1, {"bored": 1})}
    assert summary.classes == ("happy", "bored")
    with pytest.raises(DatasetError, match="no column taken"):
        summarize(target, by="day")


def test_frames_of_a_video_are_pictures(tmp_path):
    with CsvTable(tmp_path / "clip.csv", ["happy", "sad"], keys=VIDEO_KEYS) as table:
        for frame in (0, 0, 1):
            table.write_rows([{"source": "clip.mp4", "frame": frame, "label": "happy", "confidence": 0.9}])
    total = summarize(tmp_path / "clip.csv").total
    assert (total.pictures, total.faces) == (2, 3)


def test_classes_of_any_name(tmp_path):
    classes = ['say "no"', "it's; DROP TABLE named", "name", "pictures"]
    out = write_batch(tmp_path / "out", [face("a", label) for label in [*classes, "new"]], classes=classes)
    summary = summarize(out, by="folder", csv=tmp_path / "it's.csv")
    assert labels_of(summary.total) == dict.fromkeys([*classes, "new"], 1)
    assert list(summary.total.labels) == [*classes, "new"]
    with (tmp_path / "it's.csv").open(newline="") as file:
        header, row = csv.reader(file)
    assert header[-len(classes) - 1 : -2] == classes[:-1]
    assert row[-len(classes) - 1 :] == ["1"] * (len(classes) + 1)


def test_groups_in_a_csv_are_harmless_unless_raw(tmp_path):
    out = write_batch(tmp_path / "out", [face("=1/a"), face("b\x1b/a")])
    for raw, names in ((False, ["'=1", "b\\x1b"]), (True, ["=1", "b\x1b"])):
        summarize(out, by="folder", csv=tmp_path / "groups.csv", raw=raw)
        with (tmp_path / "groups.csv").open(newline="") as file:
            assert [row["folder"] for row in csv.DictReader(file)] == names


def test_nothing_but_numbers_reaches_json(tmp_path):
    out = write_batch(tmp_path / "out", [face("a", confidence=float("nan")), face("b", confidence=float("inf"))], [])
    json.dumps(summarize(out).to_dict(), allow_nan=False)
    none = summarize(write_batch(tmp_path / "none", []), by="month").to_dict()
    assert none["pictures"] == none["faces"] == 0
    assert json.loads(json.dumps(none, allow_nan=False))["groups"] == []


def test_a_folder_with_letters_of_globs(tmp_path):
    out = write_batch(tmp_path / "out[1]*?", PARTY, LATER)
    write_batch(tmp_path / "out1", PARTY)
    assert summarize(out).total.pictures == 6


def test_broken_clocks(tmp_path):
    table = face_table([face("a"), face("b")])
    years = pa.array([-70_000_000_000_000, 300_000_000_000_000], pa.timestamp("ms"))  # before 1, after 9999
    (tmp_path / "out").mkdir()
    pq.write_table(table.set_column(len(table.column_names) - 1, "taken", years), tmp_path / "out" / "part-0.parquet")
    summary = summarize(tmp_path / "out", by="day")
    assert summary.undated == 2
    assert [group.name for group in summary.groups] == [""]


def _text(path: Path) -> None:
    path.write_text("hello")


def _folder(path: Path) -> None:
    path.mkdir()


def _begun(path: Path) -> None:
    (path / "_job").mkdir(parents=True)
    (path / "_job" / "job.json").write_text(json.dumps({"format": FORMAT, "parts": 3}))


def _no_faces(path: Path) -> None:
    pq.write_table(pa.table({"a": [1], 'b"; DROP': ["x"]}), path)


def _mixed(path: Path) -> None:
    write_batch(path, PARTY)
    pq.write_table(face_table(PARTY, ["angry", "happy"]), path / "part-000001.parquet")


def _one_more_class(path: Path) -> None:
    write_batch(path, PARTY, classes=["happy"])
    pq.write_table(face_table(PARTY, ["happy", "sad"]), path / "part-000001.parquet")


def _cut_off(path: Path) -> None:
    write_batch(path, PARTY, LATER)
    part = path / "part-000001.parquet"
    part.write_bytes(part.read_bytes()[:-100])


def _words(path: Path) -> None:
    path.write_text("source,label,confidence,happy,error\na.jpg,happy,very,1,\n")


def _no_labels(path: Path) -> None:
    lines = [f"{n}.jpg,label {n},0.5,1," for n in range(1100)]
    path.write_text("\n".join(["source,label,confidence,happy,error", *lines]))


@pytest.mark.parametrize(
    ("name", "make", "says"),
    [
        pytest.param("gone", None, "There is no ", id="nothing"),
        pytest.param("nul\0", None, "There is no ", id="no-path"),
        pytest.param("note.txt", _text, "is not a table of faces", id="text"),
        pytest.param("note.parquet", _text, "note.parquet is not a complete Parquet file", id="no-parquet"),
        pytest.param(
            "short.parquet",
            lambda path: path.write_bytes(b"PAR1"),
            "short.parquet is not a complete Parquet",
            id="short",
        ),
        pytest.param("empty", _folder, "holds no part-*.parquet", id="empty-folder"),
        pytest.param("begun", _begun, "has no finished part yet", id="begun"),
        pytest.param("t.parquet", _no_faces, "it lacks the column source, label", id="other-table"),
        pytest.param("mixed", _mixed, "has other columns than", id="other-classes"),
        pytest.param("more", _one_more_class, "has other columns than", id="one-more-class"),
        pytest.param("cut", _cut_off, "part-000001.parquet is not a complete Parquet file", id="cut-off"),
        pytest.param("t.csv", _words, "Cannot read ", id="words-for-numbers"),
        pytest.param("l.csv", _no_labels, "more than 1,000 labels", id="no-labels"),
        pytest.param("memory://nothing/here", None, "holds no part-*.parquet", id="address"),
        pytest.param("nonsense://x", None, "nonsense", id="no-address"),
    ],
)
def test_what_is_no_table_is_said_in_one_line(tmp_path, name, make, says):
    out = name if "://" in name else tmp_path / name
    if make is not None:
        make(out)
    with pytest.raises(FerkitError) as caught:
        summarize(out)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"by": "week"}, id="unknown-grouping"),
        pytest.param({"by": "folder", "depth": 0}, id="no-depth"),
        pytest.param({"min_confidence": 1.1}, id="more-than-sure"),
    ],
)
def test_choices_that_make_no_sense(batch, options):
    with pytest.raises(UsageError):
        summarize(batch, **options)


def test_at_an_address(batch):
    import fsspec

    files = fsspec.filesystem("memory")
    for part in batch.iterdir():
        files.pipe_file(f"/test_summaries/a[1]/{part.name}", part.read_bytes())
    assert summarize("memory://test_summaries/a[1]/", by="folder").to_dict() | {"source": ""} == summarize(
        batch, by="folder"
    ).to_dict() | {"source": ""}
    assert summarize("memory://test_summaries/a[1]/part-000000.parquet").total.pictures == 2
    assert summarize(batch.as_uri()).total.pictures == 6


def test_without_duckdb(batch, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "duckdb", None)
    with pytest.raises(MissingDependencyError, match=r"ferkit\[batch\]"):
        summarize(batch)


def test_a_full_disk_leaves_no_half_of_a_csv(batch, tmp_path):
    with no_room_beyond(20), pytest.raises(FerkitError, match=r"Cannot write .*groups\.csv: ") as caught:
        summarize(batch, by="folder", csv=tmp_path / "groups.csv")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_leaves_nothing_behind(batch, tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    summarize(batch)
    assert sorted(tmp_path.rglob("*")) == before
