"""Batch jobs and summaries on a real S3 server: pictures, shards and results in buckets, and a driver that is killed."""

import io
import logging
import subprocess
import sys
import tarfile
import threading

import PIL.Image
import pyarrow.parquet as pq
import pytest

from ferkit.errors import FerkitError
from ferkit.models import sample_picture
from s3_server import s3_server

pytest.importorskip("duckdb")
pytest.importorskip("s3fs")
pytest.importorskip("moto.server")

PICTURES = 12
SETTINGS = {"detector": "none", "part_size": 2}


@pytest.fixture(scope="module")
def bucket():
    """A bucket `photos` with pictures below `in`, one of them broken, and two shards of them."""
    import s3fs

    with s3_server():
        files = s3fs.S3FileSystem()
        files.mkdir("photos")
        shards = [io.BytesIO(), io.BytesIO()]
        tars = [tarfile.open(fileobj=shard, mode="w") for shard in shards]  # noqa: SIM115 - closed below
        for number in range(PICTURES):
            data = b"no picture" if number == 5 else _picture(number)
            files.pipe_file(f"photos/in/{number % 3}/{number}.png", data)
            member = tarfile.TarInfo(f"{number:03}.png")
            member.size = len(data)
            tars[number % 2].addfile(member, io.BytesIO(data))
        for number, (tar, shard) in enumerate(zip(tars, shards, strict=True)):
            tar.close()
            files.pipe_file(f"photos/shards/{number:03}.tar", shard.getvalue())
        yield files


def _picture(number: int) -> bytes:
    face = PIL.Image.open(sample_picture()).crop((165, 57 + number, 285, 177 + number)).resize((60, 60))
    stream = io.BytesIO()
    face.save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def run():
    from ferkit.batch.running import run

    return lambda source, out: run(source, out, workers=1, **SETTINGS)


def rows_of(files, out):
    return [
        row
        for part in sorted(files.glob(f"{out}/part-*.parquet"))
        for row in pq.read_table(files.open(part)).to_pylist()
    ]


@pytest.mark.slow
@pytest.mark.timeout(300)  # three processes that load everything, wherever the machine has other things to do
def test_killed_and_run_again_it_has_every_row_once(bucket, run, tmp_path):
    import fsspec

    command = [sys.executable, "-m", "ferkit", "batch", "s3://photos/in", "s3://photos/killed", "--workers", "1"]
    options = [f"--{name.replace('_', '-')}={value}" for name, value in SETTINGS.items()]
    driver = subprocess.Popen([*command, *options], stderr=subprocess.DEVNULL)
    ended = threading.Thread(target=driver.wait)
    ended.start()
    try:
        while driver.poll() is None and not bucket.glob("photos/killed/part-*", refresh=True):
            bucket.invalidate_cache()
            ended.join(0.02)  # no more often than that
    finally:
        driver.kill()
        ended.join()
    bucket.invalidate_cache()
    before = bucket.glob("photos/killed/part-*")
    assert 1 <= len(before) < PICTURES / SETTINGS["part_size"]

    summary = run("s3://photos/in", "s3://photos/killed")
    assert summary.skipped_parts >= len(before)
    assert (summary.pictures, summary.faces, summary.errors) == (PICTURES, PICTURES - 1, 1)
    bucket.invalidate_cache()
    rows = rows_of(bucket, "photos/killed")
    assert sorted(row["source"] for row in rows) == sorted(
        f"s3://photos/in/{number % 3}/{number}.png" for number in range(PICTURES)
    )
    assert [row["source"] for row in rows if row["error"]] == ["s3://photos/in/2/5.png"]

    # The same rows as those of local files.
    bucket.get("photos/in", str(tmp_path / "in"), recursive=True)
    run(tmp_path / "in", tmp_path / "out")
    here = rows_of(fsspec.filesystem("file"), str(tmp_path / "out"))
    for row in [*here, *rows]:
        row["source"] = row["source"].rpartition("in/")[2]
        row["error"] = bool(row["error"])
    assert here == rows


def test_a_folder_that_a_console_made_is_empty(bucket, run):
    bucket.pipe_file("photos/made/", b"")
    bucket.pipe_file("photos/file", b"1")
    run("s3://photos/shards/000.tar", "s3://photos/made")
    assert len(rows_of(bucket, "photos/made")) == PICTURES / 2
    with pytest.raises(FerkitError, match="contains other files, such as file"):
        run("s3://photos/shards/000.tar", "s3://photos/file")


def test_shards_in_a_bucket_are_summarized_where_they_lie(bucket, run, caplog):
    from ferkit.batch import summarize

    run("s3://photos/shards/{000..001}.tar", "s3://photos/faces")
    with caplog.at_level(logging.INFO, logger="werkzeug"):
        summary = summarize("s3://photos/faces", by="folder")
    assert (summary.total.pictures, summary.total.errors, summary.parts_planned) == (PICTURES, 1, summary.parts)
    assert {group.name: group.pictures for group in summary.groups} == {"000.tar": 6, "001.tar": 6}
    assert summary.root == "s3://photos/shards"
    # Sizes come with the listing; how many pieces DuckDB reads a part in is its own affair.
    asked = [record for record in caplog.messages if "/photos/faces/part-000001.parquet" in record]
    assert asked
    assert all("GET" in record for record in asked)


@pytest.mark.parametrize(
    ("out", "says"),
    [
        pytest.param("s3://nowhere/out", "s3://nowhere/out", id="no-bucket"),
        pytest.param("s3://photos/in", "holds no part-*.parquet", id="no-batch"),
        pytest.param("s3://photos/shards/000.tar", "is not a table of faces", id="no-table"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(bucket, out, says):
    from ferkit.batch import summarize

    with pytest.raises(FerkitError) as caught:
        summarize(out)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nobody_listens(bucket, monkeypatch):
    import s3fs

    from ferkit.batch import summarize

    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(FerkitError, match="Cannot read s3://photos/out: "):
        summarize("s3://photos/out")
    s3fs.S3FileSystem.clear_instance_cache()
