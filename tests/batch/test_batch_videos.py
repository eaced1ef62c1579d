"""Batch jobs of videos: the rows of `ferkit video`, a part for each, and what a broken or deadly video costs."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

pytest.importorskip("av")

import ferkit
from batch_jobs import inline, make_pictures, markers, rows_of
from clips import gray, write_clip
from ferkit import batch
from ferkit.batch.engines import ENGINES
from ferkit.errors import DatasetError, UsageError
from ferkit.recognizer import EmotionRecognizer
from ferkit.render import read_about
from recognition import BrightnessClassifier

SETTINGS = {"model": BrightnessClassifier(), "detector": "none", "engine": "inline"}


@pytest.fixture(autouse=True)
def inline_engine(monkeypatch):
    monkeypatch.setitem(ENGINES._choices, "inline", inline)


@pytest.fixture
def study(tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    for number, frames in ((2, 3), (10, 5)):
        write_clip(folder / f"clip{number}.mp4", gray(*range(40, 40 + 30 * frames, 30), width=96, height=64))
    (folder / "clip11.mp4").write_bytes(b"no video")
    return folder


def in_one_table(study, out, model, **options):
    ferkit.analyze_videos(study, EmotionRecognizer(model, "none"), out=out, **options)
    return pq.read_table(out).to_pylist()


@pytest.mark.parametrize(
    ("engine", "part_size", "options"),
    [
        pytest.param("inline", None, {}, id="whole"),
        pytest.param("inline", 2, {"every": "0.2s", "smooth_s": 0.5, "start": 0.1, "end": "0:00.4"}, id="settings"),
        pytest.param("local", 3, {}, id="processes"),
        pytest.param("ray", None, {}, id="ray", marks=[pytest.mark.slow, pytest.mark.timeout(500)]),
    ],
)
def test_rows_are_those_of_a_table_of_videos(study, tmp_path, engine, part_size, options):
    model = SETTINGS["model"]
    if engine == "ray":
        pytest.importorskip("ray")
        model = "default"  # its workers cannot import tests
    out = tmp_path / "out"
    told = []
    settings = {
        **SETTINGS,
        "model": model,
        "engine": engine,
        "part_size": part_size,
        "progress": told.append,
        **options,
    }
    summary = batch.run(study, out, **settings, workers=1)
    rows = rows_of(out)
    assert rows == in_one_table(study, tmp_path / "all.parquet", model, **options)
    assert list(rows[0])[:4] == ["source", "time_s", "frame", "track"]
    assert (summary.videos, summary.pictures, summary.errors, summary.parts) == (True, 3, 1, -(-3 // (part_size or 1)))
    assert summary.faces == sum(row["label"] is not None for row in rows)
    assert (told[-1].pictures, told[-1].pictures_in_all, told[-1].videos) == (3, 3, True)
    about = read_about(out / "part-000000.parquet")
    alone = read_about(tmp_path / "all.parquet")
    assert [name for name in alone if about[name] != alone[name]] == ["videos"]
    assert about["videos"][0]["source"] == str(study / "clip2.mp4")

    # The same again finds the job, also where nothing was said of videos.
    again = batch.run(study, out, **{**settings, "videos": True})
    assert (again.skipped_parts, again.faces, again.videos) == (summary.parts, summary.faces, True)
    with pytest.raises(UsageError, match=r"every was .* there and is 7 now"):
        batch.run(study, out, **{**settings, "every": 7})


def test_images_come_first_unless_videos_are_asked_for(study, tmp_path, run_ferkit, stub_model):
    stub_model(BrightnessClassifier())
    shutil.copyfile(make_pictures(tmp_path / "pictures", 1) / "000.png", study / "cover.png")
    words = ["batch", study, "--engine", "inline", "--detector", "none"]
    code, _, err = run_ferkit(*words, tmp_path / "images", "--json")
    assert (code, [Path(row["source"]).name for row in rows_of(tmp_path / "images")]) == (0, ["cover.png"])
    assert "also holds 3 videos (for: ferkit video), left out." in err
    code, out, err = run_ferkit(*words, tmp_path / "videos", "--videos", "--json")
    assert (code, json.loads(out)["pictures"], json.loads(out)["videos"]) == (1, 3, True)
    assert "3 videos, 8 faces; 1 could not be read." in err
    assert "also holds 1 image (for: ferkit predict), left out." in err
    code, _, err = run_ferkit(*words, tmp_path / "third", "--every", 2)
    assert (code, "are for videos. Leave them out, or set videos." in err) == (2, True)
    assert not (tmp_path / "third").exists()


def test_lists_and_single_videos(study, tmp_path):
    (study / "list.txt").write_text("clip10.mp4\nclip2.mp4\n")
    batch.run(study / "list.txt", tmp_path / "list", **SETTINGS)
    assert [row["source"] for row in rows_of(tmp_path / "list")] == ["clip10.mp4"] * 5 + ["clip2.mp4"] * 3
    assert batch.run(study / "clip2.mp4", tmp_path / "one", **SETTINGS).faces == 3
    with pytest.raises(DatasetError, match="holds no videos"):
        batch.run(make_pictures(tmp_path / "pictures", 1), tmp_path / "none", videos=True, **SETTINGS)


def test_a_video_that_kills_its_process_costs_its_own_rows(study, tmp_path):
    out = tmp_path / "out"
    batch.run(study, out, part_size=3, **SETTINGS)
    whole = rows_of(out)
    (out / "part-000000.parquet").unlink()
    (out / "_job" / "begun" / "000000.json").write_text('{"at": 1, "deaths": {"1": 1}, "unexplained": 0}')
    summary = batch.run(study, out, **SETTINGS)
    rows = rows_of(out)
    assert (summary.errors, summary.pictures, markers(out)) == (2, 3, [])
    deadly = [row for row in rows if row["source"].endswith("clip10.mp4")]
    assert [("the process crashed on it 2 times" in row["error"], row["label"]) for row in deadly] == [(True, None)]
    assert [row for row in rows if row not in deadly] == [row for row in whole if "clip10" not in row["source"]]
