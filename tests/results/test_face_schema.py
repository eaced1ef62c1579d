"""Whoever is asked, a face is told in the same words: `FACE_VALUES` of `ferkit.results` is the one schema."""

import asyncio
import csv
import json
import shutil

import PIL.Image
import pyarrow.parquet as pq
import pytest

from ferkit import batch
from ferkit.models import sample_picture
from ferkit.recognizer import EmotionRecognizer
from ferkit.results import FACE_VALUES, class_columns, face_columns, table_columns
from ferkit.video import analyze_video, video_rows, video_table

FIELDS = [value.name for value in FACE_VALUES]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A portrait and a picture without a face, in the order of their names."""
    folder = tmp_path_factory.mktemp("schema") / "pictures"
    folder.mkdir()
    shutil.copy(sample_picture(), folder / "1.jpg")
    PIL.Image.new("RGB", (512, 512), "gray").save(folder / "2.jpg")
    return folder


@pytest.fixture(scope="module")
def recognizer():
    return EmotionRecognizer()


@pytest.fixture(scope="module")
def expected(recognizer, pictures):
    """The portrait's face as JSON, and its columns in tables."""
    face = recognizer(pictures / "1.jpg")[0]
    return face.to_dict(), dict(face_columns(face))


def same(found, expected):
    """The same keys in the same order, the same types, and numbers that differ by rounding alone."""
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert type(found[name]) is type(value), name
        if isinstance(value, dict):
            same(found[name], value)
        elif isinstance(value, float):
            assert found[name] == pytest.approx(value, abs=2e-6), name
        else:
            assert found[name] == value, name


def check_rows(rows, expected, keys=("source",), more=()):
    """A row of the portrait, and one of the picture without a face, in which all that tells of a face is null."""
    portrait, nobody = rows
    assert list(portrait) == list(nobody) == [*keys, *expected, "error", *more]
    same({name: portrait[name] for name in expected}, expected)
    assert {nobody[name] for name in [*expected, "error"]} == {None}
    assert portrait["error"] is None


def test_json_of_predict(run_ferkit, pictures, expected):
    code, out, _ = run_ferkit("predict", pictures, "--json")
    portrait, nobody = json.loads(out)
    same(portrait["faces"][0], expected[0])
    assert (code, list(expected[0]), nobody["faces"], nobody["error"]) == (0, FIELDS, [], None)


def test_tables_of_predict(run_ferkit, pictures, expected, tmp_path):
    run_ferkit("predict", pictures, "--csv", tmp_path / "faces.csv", "--parquet", tmp_path / "faces.parquet")
    check_rows(pq.read_table(tmp_path / "faces.parquet").to_pylist(), expected[1])
    with (tmp_path / "faces.csv").open(newline="") as file:
        texts = list(csv.DictReader(file))
    kinds = table_columns(list(expected[0]["probabilities"]))
    check_rows(
        [{name: kinds[name](text) if text else None for name, text in row.items()} for row in texts], expected[1]
    )


def test_parquet_of_batch(pictures, expected, tmp_path):
    batch.run(pictures, tmp_path / "out", workers=1)
    table = pq.read_table(tmp_path / "out" / "part-000000.parquet")
    check_rows(table.to_pylist(), expected[1], more=["taken"])
    assert class_columns(table.column_names) == tuple(expected[0]["probabilities"])


def test_pandas(recognizer, pictures, expected):
    pytest.importorskip("pandas")
    frame = recognizer([pictures]).to_pandas()
    check_rows(frame.astype(object).where(frame.notna(), None).to_dict("records"), expected[1])


def test_table_of_video(recognizer, pictures, expected, tmp_path):
    classes = recognizer.classes
    with analyze_video(pictures, recognizer) as analysis, video_table(tmp_path / "t.parquet", classes) as table:
        for found in analysis:
            table.write_rows(video_rows("clip", found))
    rows = pq.read_table(tmp_path / "t.parquet").to_pylist()
    raw = [f"raw_{name}" for name in classes]
    check_rows(rows, expected[1], keys=["source", "time_s", "frame", "track"], more=raw)
    assert [rows[0][name] for name in raw] == pytest.approx([expected[1][name] for name in classes], abs=2e-6)
    assert {rows[1][name] for name in ["track", *raw]} == {None}


def test_http_and_its_description(recognizer, pictures, expected):
    pytest.importorskip("fastapi")
    from web import client_of

    async def ask():
        async with client_of(recognizer=recognizer) as client:
            files = [("a", (path.name, path.read_bytes())) for path in sorted(pictures.iterdir())]
            return await client.post("/v1/predict", files=files), await client.get("/openapi.json")

    answer, described = asyncio.run(ask())
    portrait, nobody = answer.json()
    same(portrait["faces"][0], expected[0])
    assert nobody["faces"] == []
    schemas = described.json()["components"]["schemas"]
    assert list(schemas["FaceAnswer"]["properties"]) == schemas["FaceAnswer"]["required"] == FIELDS
    assert list(schemas["PictureAnswer"]["properties"]) == list(portrait)


def test_websocket(recognizer, pictures, expected):
    pytest.importorskip("fastapi")
    websockets = pytest.importorskip("websockets")
    from web import running

    async def ask(address):
        answers = []
        async with websockets.connect(address.replace("http", "ws") + "v1/stream", proxy=None) as connection:
            await connection.recv()
            for path in sorted(pictures.iterdir()):
                await connection.send(path.read_bytes())
                answers.append(json.loads(await asyncio.wait_for(connection.recv(), 30)))
        return answers

    with running(recognizer=recognizer) as server:
        portrait, nobody = asyncio.run(ask(server.address))
    (face,) = portrait["faces"]
    assert (face.pop("track"), list(face.pop("raw"))) == (1, list(recognizer.classes))
    same(face, expected[0])
    assert nobody["faces"] == []
