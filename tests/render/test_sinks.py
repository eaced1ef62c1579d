import csv
import json
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow.parquet
import pytest

from ferkit.errors import FerkitError, UsageError
from ferkit.labels import EMOTIONS
from ferkit.render.sinks import SINKS, AnnotatedPictures, CsvTable
from ferkit.results import PictureResult, face_rows, table_columns
from full_disk import no_room_beyond
from recognition import emotion

COLUMNS = ["source", "x1", "y1", "x2", "y2", "detection_score", "label", "confidence", *EMOTIONS, "roll", "error"]
TABLES = ("csv", "jsonl", "parquet")


@pytest.fixture
def results():
    pixels = np.full((80, 100, 3), 90, np.uint8)
    return [
        PictureResult("a.jpg", 100, 80, (emotion("happy"), emotion("sad")), pixels=pixels),
        PictureResult('b, "c"\n.png', 100, 80, pixels=pixels),
        PictureResult.failed("d.jpg", "cut off"),
    ]


def read(kind, path):
    if kind == "csv":
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    if kind == "jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    return pyarrow.parquet.read_table(path).to_pylist()


@pytest.mark.parametrize("kind", TABLES)
def test_tables_have_a_row_per_face(kind, results, tmp_path):
    target = tmp_path / "new" / f"faces.{kind}"
    with SINKS[kind](target, EMOTIONS) as sink:
        for result in results:
            sink.write(result)
        assert not target.exists()
    rows = read(kind, target)
    none = "" if kind == "csv" else None
    assert [list(row) for row in rows] == [COLUMNS] * 4
    quoted = 'b, "c"\\n.png' if kind == "csv" else 'b, "c"\n.png'
    assert [row["source"] for row in rows] == ["a.jpg", "a.jpg", quoted, "d.jpg"]
    assert [row["label"] for row in rows] == ["happy", "sad", none, none]
    assert [row["x1"] for row in rows] == (["10", "10", "", ""] if kind == "csv" else [10, 10, None, None])
    assert [row["error"] or None for row in rows] == [None, None, None, "cut off"]
    assert float(rows[0]["happy"]) == pytest.approx(0.7)
    assert [path.name for path in target.parent.iterdir()] == [target.name]


@pytest.mark.parametrize("kind", TABLES)
def test_an_interrupted_table_leaves_the_old_one(kind, results, tmp_path):
    target = tmp_path / f"faces.{kind}"
    target.write_text("old")

    def interrupted():
        with SINKS[kind](target, EMOTIONS) as sink:
            sink.write(results[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("kind", TABLES)
def test_an_empty_table_has_its_columns(kind, tmp_path):
    target = tmp_path / f"faces.{kind}"
    with SINKS[kind](target, EMOTIONS):
        pass
    if kind == "csv":
        assert target.read_text() == ",".join(COLUMNS) + "\n"
    assert read(kind, target) == []


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize(
    "foreign",
    [
        pytest.param(TimeoutError("the camera does not answer"), id="of the user"),
        pytest.param(BrokenPipeError(32, "Broken pipe"), id="of standard output"),
    ],
)
def test_trouble_elsewhere_is_not_blamed_on_the_table(kind, foreign, results, tmp_path):
    def interrupted():
        with SINKS[kind](tmp_path / f"faces.{kind}", EMOTIONS) as sink:
            sink.write(results[0])
            raise foreign

    with pytest.raises(type(foreign)) as caught:
        interrupted()
    assert caught.value is foreign
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", TABLES)
def test_rows_that_cannot_be_had_are_not_blamed_on_the_table(kind, results, tmp_path):
    def rows():
        yield from face_rows(results[0])
        raise TimeoutError

    with pytest.raises(TimeoutError), SINKS[kind](tmp_path / f"faces.{kind}", EMOTIONS) as sink:
        sink.write_rows(rows())


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("count", [pytest.param(1, id="on closing"), pytest.param(3000, id="on writing")])
def test_a_full_disk_is_named_with_the_table(kind, count, results, tmp_path, monkeypatch):
    monkeypatch.setattr("ferkit.render.sinks.ParquetTable.group", 500)
    target = tmp_path / f"faces.{kind}"
    with (
        no_room_beyond(100),
        pytest.raises(FerkitError, match=rf"Cannot write .*faces\.{kind}: "),
        SINKS[kind](target, EMOTIONS) as sink,
    ):
        sink.write_rows([row for row in face_rows(results[0]) for _ in range(count)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", TABLES)
@pytest.mark.parametrize("kind", TABLES)
def test_the_name_of_another_table_is_refused(kind, ending, tmp_path):
    """Whatever reads a table goes by its name."""
    if kind == ending:
        SINKS[kind](tmp_path / f"faces.{ending}", EMOTIONS)
        return
    with pytest.raises(UsageError, match=rf"faces\.{ending} ends as another .* ends in \.{kind}\."):
        SINKS[kind](tmp_path / f"faces.{ending}", EMOTIONS)


@pytest.mark.parametrize("kind", TABLES)
def test_a_full_disk_hides_no_other_error(kind, results, tmp_path):
    def interrupted():
        with SINKS[kind](tmp_path / "faces", EMOTIONS) as sink:
            sink.write(results[0])
            raise KeyboardInterrupt

    with no_room_beyond(10), pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", TABLES)
def test_tables_take_rows_only_while_they_are_open(kind, results, tmp_path):
    sink = SINKS[kind](tmp_path / f"faces.{kind}", EMOTIONS)
    with pytest.raises(UsageError, match="is not open"):
        sink.write(results[0])
    with sink:
        sink.write(results[0])
    with pytest.raises(UsageError, match="is not open"):
        sink.write(results[0])
    assert len(read(kind, sink.target)) == 2


@pytest.mark.parametrize("kind", TABLES)
def test_tables_refuse_classes_they_have_no_column_for(kind, tmp_path):
    other = PictureResult("a.jpg", 100, 80, (emotion("bored", classes=("bored", "happy")),))
    with pytest.raises(UsageError, match="no column bored"), SINKS[kind](tmp_path / "faces", EMOTIONS) as sink:
        sink.write(other)
    with SINKS[kind](tmp_path / f"faces.{kind}", [*EMOTIONS, "bored"]) as sink:
        sink.write(other)
    assert float(read(kind, tmp_path / f"faces.{kind}")[0]["bored"]) == pytest.approx(0.7)


@pytest.mark.parametrize("kind", SINKS)
def test_a_target_may_be_text(kind, results, tmp_path):
    with SINKS[kind](str(tmp_path / "there"), EMOTIONS) as sink:
        sink.write(results[0])
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_parquet_is_typed_and_grows_by_groups(results, tmp_path, monkeypatch):
    monkeypatch.setattr("ferkit.render.sinks.ParquetTable.group", 3)
    target = tmp_path / "faces.parquet"
    with SINKS["parquet"](target, EMOTIONS) as sink:
        for result in results * 2:
            sink.write(result)
    file = pyarrow.parquet.ParquetFile(target)
    assert (file.metadata.num_rows, file.metadata.num_row_groups) == (8, 3)
    assert {name: str(file.schema_arrow.field(name).type) for name in ("x1", "happy", "label")} == {
        "x1": "int32",
        "happy": "float",
        "label": "string",
    }


def test_other_keys_stand_first(results, tmp_path):
    """What video needs: the same table with time and track in place of the source."""
    target = tmp_path / "timeline.csv"
    with CsvTable(target, EMOTIONS, keys={"time_s": float, "track": int}) as table:
        row = {name: value for name, value in next(face_rows(results[0])).items() if name != "source"}
        table.write_rows([{"time_s": 0.5, "track": 1, **row}])
    assert next(iter(read("csv", target)))["time_s"] == "0.5"


def test_classes_named_like_columns_are_refused():
    with pytest.raises(UsageError, match="error"):
        table_columns(["happy", "error"])


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("a\rb.jpg", id="carriage return"),
        pytest.param('a"b,c\n\td.jpg', id="quotes and lines"),
        pytest.param("=HYPERLINK(1).jpg", id="formula"),
        pytest.param("\u202egpj.exe", id="right to left"),
        pytest.param("caf\udcff.jpg", id="no text"),
        pytest.param("", id="empty"),
        pytest.param("x" * 5000, id="long"),
    ],
)
def test_any_name_comes_back(kind, name, tmp_path):
    target = tmp_path / f"faces.{kind}"
    results = [PictureResult(name, 100, 80, (emotion("happy"),)), PictureResult.failed("b.jpg", f"Cannot read {name}.")]
    with CsvTable(target, EMOTIONS, raw=True) if kind == "csv" else SINKS[kind](target, EMOTIONS) as sink:
        for result in results:
            sink.write(result)
    rows = read(kind, target)
    assert [row["source"] for row in rows] == [results[0].source, "b.jpg"]
    assert rows[1]["error"] == results[1].error


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        pytest.param("=HYPERLINK(1)", "'=HYPERLINK(1)", id="="),
        pytest.param("+SUM(1)", "'+SUM(1)", id="+"),
        pytest.param("-2+3", "'-2+3", id="-"),
        pytest.param("@SUM(1)", "'@SUM(1)", id="@"),
        pytest.param("\uff1d1", "'\uff1d1", id="wide"),
        pytest.param("\t=1", "\\t=1", id="tab"),
        pytest.param("a\r\n\x1b[2Jb", "a\\r\\n\\x1b[2Jb", id="control characters"),
        pytest.param("-0.5", "-0.5", id="number"),
        pytest.param("a=b.jpg", "a=b.jpg", id="within"),
    ],
)
def test_cells_of_a_csv_are_harmless_unless_raw(name, cell, tmp_path):
    for raw, expected in ((False, cell), (True, name)):
        with CsvTable(tmp_path / "faces.csv", [name, "happy"], raw=raw) as table:
            table.write_rows([{"source": name, "label": name, "confidence": 0.5, name: -0.25}])
        (row,) = read("csv", tmp_path / "faces.csv")
        assert (row["source"], row["label"], row["confidence"], row[expected]) == (expected, expected, "0.5", "-0.25")


@pytest.mark.parametrize("kind", TABLES)
def test_memory_stays_flat(kind, tmp_path):
    """Ten times the rows, the same peak: rows leave as they come, Parquet in groups."""
    import tracemalloc

    face = emotion("happy")
    peaks = []
    for count in (1_000, 10_000):
        with SINKS[kind](tmp_path / f"faces.{kind}", EMOTIONS) as sink:
            if kind == "parquet":
                sink.group = 500
            tracemalloc.start()
            for number in range(count):
                sink.write_rows([{"source": f"{number}.jpg", "label": face.label, "happy": number / count}])
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_annotated_pictures(results, tmp_path):
    twice = PictureResult("other/a.jpeg", 100, 80, pixels=results[0].pixels)
    with SINKS["pictures"](tmp_path / "out", EMOTIONS) as sink:
        for result in [*results, twice]:
            sink.write(result)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a-2.jpg", "a.jpg", 'b, "c"\n.png']
    assert PIL.Image.open(tmp_path / "out" / "a.jpg").width == 300


@pytest.mark.parametrize(
    ("sources", "roots", "written"),
    [
        pytest.param(["a/1.jpg", "b/1.jpg"], [], ["1-2.jpg", "1.jpg"], id="names only"),
        pytest.param(
            ["in/a/1.jpg", "in/b/1.JPG", "in/1.png"], ["in"], ["1.png", "a/1.jpg", "b/1.jpg"], id="sub-folders"
        ),
        pytest.param(["in/1.jpg", "out/1.jpg"], ["in", "out"], ["1-2.jpg", "1.jpg"], id="two roots"),
        pytest.param(["in/../../1.jpg"], ["in"], ["1.jpg"], id="never outside of the folder"),
        pytest.param(
            ["/1.jpg", "-", "https://host/a/me.png?size=1/2", "https://host", "data:image/png;base64,... (12 kB)"],
            ["in"],
            ["1.jpg", "me.png", "picture-2.jpg", "picture.jpg", "stdin.jpg"],
            id="elsewhere",
        ),
        pytest.param(
            ["x/two.zip::a.jpg", "two.zip::s/b.PNG", "two.zip::t/b.png", "https://host/two.tar.gz?key=1::a.jpg"],
            ["x"],
            ["two/a-2.jpg", "two/a.jpg", "two/s/b.png", "two/t/b.png"],
            id="members of archives",
        ),
        pytest.param(
            ["t.parquet::7", "t.parquet::8", "a.jpg::9", "12:30.png", "in/c:d/1.jpg"],
            ["in"],
            ["12_30.png", "a.jpg", "c_d/1.jpg", "t/7.jpg", "t/8.jpg"],
            id="no colon",
        ),
        pytest.param(
            [
                "two.zip::../../1.jpg",
                "two.zip::/etc/2.jpg",
                "two.zip::..\\..\\3.jpg",
                "two.zip::..\0/4.jpg",
                "....zip::5.jpg",
                ".zip::6.jpg",
                "two.zip::" + "d/" * 30_000 + "7.jpg",
                "two.zip::C:/8.jpg",
            ],
            [],
            ["5.jpg", "6.jpg", "7.jpg", "two/.._.._3.jpg", "two/1.jpg", "two/4.jpg", "two/C_/8.jpg", "two/etc/2.jpg"],
            id="no member outside of the folder",
        ),
        pytest.param(
            ["two.zip::a.jpg", "two.zip::a.jpg/a.jpg", "two.zip::" + "é" * 127 + "/b.jpg", "two.zip::\udcff.jpg"],
            [],
            ["two/_udcff.jpg", "two/a.jpg", "two/a.jpg_/a.jpg", "two/" + "é" * 100 + "/b.jpg"],
            id="members that no file may be called",
        ),
        pytest.param(["a.jpg", "A.JPG"], [], ["A-2.jpg", "a.jpg"], id="one file on some systems"),
        pytest.param(
            ["é" * 127 + ".jpg", "x\0y.webp"], [], ["xy.jpg", "é" * 100 + ".jpg"], id="what no file may be called"
        ),
    ],
)
def test_names_of_annotated_pictures(sources, roots, written, results, tmp_path):
    with AnnotatedPictures(tmp_path / "out", EMOTIONS, roots=[Path(root) for root in roots]) as sink:
        for source in sources:
            sink.write(PictureResult(source, 100, 80, pixels=results[0].pixels))
    found = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(found) == [f"out/{name}" for name in written]


def test_names_of_many_pictures_take_no_longer_each(tmp_path):
    """6,000 pictures called 1.jpg once tried 18 million names."""

    class Counting(set):
        tried = 0

        def __contains__(self, name):
            self.tried += 1
            return super().__contains__(name)

    sink = AnnotatedPictures(tmp_path, EMOTIONS)
    sink._used = Counting()
    names = {sink._target(Path(), stem, ".jpg") for _ in range(500) for stem in ("1", "1-2")}
    assert len(names) == 1000
    assert sink._used.tried < 4 * 1000


def test_a_full_disk_leaves_no_half_picture(tmp_path):
    """Pillow's JPEG encoder, given a file, takes no notice of what did not fit; only a little is missing here."""
    noise = np.random.default_rng(0).integers(0, 256, (80, 100, 3), np.uint8)
    result = PictureResult("a.jpg", 100, 80, pixels=noise)
    with SINKS["pictures"](tmp_path / "roomy", EMOTIONS) as sink:
        sink.write(result)
    room = (tmp_path / "roomy" / "a.jpg").stat().st_size - 100
    with (
        no_room_beyond(room),
        pytest.raises(FerkitError, match="Cannot write"),
        SINKS["pictures"](tmp_path / "full", EMOTIONS) as sink,
    ):
        sink.write(result)
    assert list((tmp_path / "full").iterdir()) == []


def test_a_picture_too_long_for_jpeg_is_written(tmp_path):
    pixels = np.zeros((2, 70_000, 3), np.uint8)
    with SINKS["pictures"](tmp_path, EMOTIONS) as sink:
        sink.write(PictureResult("strip.jpg", 70_000, 2, pixels=pixels))
    assert PIL.Image.open(tmp_path / "strip.png").size == (70_000, 2)


def test_an_interrupted_picture_leaves_nothing(tmp_path, results, monkeypatch):
    written = Path.write_bytes

    def interrupted(self, content):
        written(self, content[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt), SINKS["pictures"](tmp_path, EMOTIONS) as sink:
        sink.write(results[0])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["a.jpg", "below/a.jpg"])
def test_pictures_never_replace_their_sources(place, tmp_path, results):
    source = tmp_path / place
    source.parent.mkdir(exist_ok=True)
    source.write_bytes(b"precious")
    result = PictureResult(str(source), 100, 80, pixels=results[0].pixels)
    with (
        pytest.raises(UsageError, match="would overwrite"),
        AnnotatedPictures(tmp_path, EMOTIONS, roots=[tmp_path]) as sink,
    ):
        sink.write(result)
    assert source.read_bytes() == b"precious"


def test_pictures_need_pixels(tmp_path, results):
    with pytest.raises(FerkitError, match="keep_pixels"), SINKS["pictures"](tmp_path, EMOTIONS) as sink:
        sink.write(results[0].without_pixels())


@pytest.mark.parametrize("kind", TABLES)
def test_a_folder_is_no_table(kind, tmp_path):
    with pytest.raises(UsageError, match="is a folder"):
        SINKS[kind](tmp_path, EMOTIONS)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "x").touch()
    with pytest.raises(UsageError, match="is a file"):
        SINKS["pictures"](tmp_path / "x", EMOTIONS)


def test_blurred_faces(tmp_path, rng):
    pixels = rng.integers(0, 255, (300, 300, 3), dtype=np.uint8)
    result = PictureResult("a.png", 300, 300, (emotion(box=(60, 60, 120, 130)),), pixels=pixels)
    for folder, options in (("plain", {}), ("hidden", {"blur_faces": True})):
        with AnnotatedPictures(tmp_path / folder, EMOTIONS, **options) as sink:
            sink.write(result)
    plain, hidden = (
        np.asarray(PIL.Image.open(tmp_path / folder / "a.png"))[70:120, 70:110] for folder in ("plain", "hidden")
    )
    assert (plain == pixels[70:120, 70:110]).all()
    assert np.abs(np.diff(hidden.astype(int), axis=1)).max() < 10
