"""Many videos in one run: what is found, the table of all, runs that go on, and what a broken video costs."""

import csv
import json
import signal

import pyarrow.parquet as pq
import pytest

pytest.importorskip("av")

import ferkit
from batch_jobs import make_pictures
from clips import gray, streams_of, write_clip
from ferkit.errors import UsageError
from ferkit.recognizer import EmotionRecognizer
from ferkit.render import read_about
from ferkit.video import list_videos
from ferkit.video.follower import FaceFollower
from recognition import BrightnessClassifier

SIZE = {"width": 96, "height": 64}


@pytest.fixture
def ferkit_video(stub_model, run_ferkit):
    stub_model(BrightnessClassifier())
    return lambda *words: run_ferkit("video", *words, "--detector", "none")


@pytest.fixture
def study(tmp_path):
    """Two videos of five and three frames, a broken one and a picture."""
    folder = tmp_path / "study"
    (folder / "b").mkdir(parents=True)
    write_clip(folder / "clip2.mp4", gray(*[5] * 5, **SIZE))
    write_clip(folder / "b" / "clip2.mp4", gray(*[250] * 3, **SIZE))
    (folder / "clip10.mp4").write_bytes(b"no video")
    (folder / "cover.png").write_bytes((make_pictures(tmp_path / "pictures", 1) / "000.png").read_bytes())
    return folder


@pytest.fixture
def seen(monkeypatch):
    """Counts the frames that are looked at; `at[n] = signal` raises it at the n-th."""
    look, times, at = FaceFollower.__call__, [], {}

    def watched(self, image, time_s):
        times.append(time_s)
        if len(times) in at:
            signal.raise_signal(at[len(times)])
        return look(self, image, time_s)

    monkeypatch.setattr(FaceFollower, "__call__", watched)
    watched.times, watched.at = times, at
    return watched


def recognizer():
    return EmotionRecognizer(BrightnessClassifier(), "none")


def rows_of(table):
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_of_videos(ferkit_video, study, tmp_path, seen):
    table = tmp_path / "all.csv"
    code, out, err = ferkit_video(study, "--out", table, "--json")
    names = [str(study / name) for name in ("clip2.mp4", "clip10.mp4", "b/clip2.mp4")]
    assert code == 1
    summaries = json.loads(out)
    assert [one["source"] for one in summaries] == names
    assert [one["frames"] for one in summaries] == [5, 0, 3]
    assert [one["share"] for one in summaries] == [{"angry": 1}, {}, {"neutral": 1}]
    rows = rows_of(table)
    assert [row["source"] for row in rows] == [names[0]] * 5 + [names[1]] + [names[2]] * 3
    assert list(rows[0])[:4] == ["source", "time_s", "frame", "track"]
    assert (rows[5]["label"], "Cannot read" in rows[5]["error"]) == ("", True)
    lines = err.splitlines()
    assert lines[0] == f"Note: {study}: 3 videos; 1 image in it left out. With --fps, images are the frames of a video."
    assert [line.startswith(f"ferkit: Cannot read {names[1]}") for line in lines[1:]] == [True, False, False]
    assert lines[2:] == ["3 videos; 1 could not be read, or not to the end.", f"Wrote {table}"]

    # The same again does nothing, and says the same; a video that has changed is analysed again.
    before = table.stat().st_mtime_ns
    again = ferkit_video(study, "--out", table, "--json")
    assert (again[0], again[1], len(seen.times), table.stat().st_mtime_ns) == (1, out, 8, before)
    assert "3 videos, 3 of them analysed before; 1 could not be read" in again[2]
    write_clip(study / "clip10.mp4", gray(5, 5, **SIZE))
    assert ferkit_video(study, "--out", table)[0] == 0
    assert len(seen.times) == 10
    assert [row["error"] for row in rows_of(table)] == [""] * 10


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_rows_are_those_of_single_videos(study, tmp_path, suffix):
    clips = [study / "clip2.mp4", study / "b" / "clip2.mp4"]
    table, alone = tmp_path / f"all{suffix}", [tmp_path / f"{number}{suffix}" for number in range(2)]
    ferkit.analyze_videos(clips, recognizer(), out=table)
    for clip, single in zip(clips, alone, strict=True):
        ferkit.analyze_video(clip, recognizer(), out=single).finish()
    if suffix == ".parquet":
        rows = [pq.read_table(path).to_pylist() for path in (table, *alone)]
        assert pq.read_schema(table).names == pq.read_schema(alone[0]).names
        assert pq.ParquetFile(table).num_row_groups == 1, "small videos share one"
    else:
        head = suffix == ".csv"
        rows = [path.read_text().splitlines()[head:] for path in (table, *alone)]
    assert len(rows[0]) == 8
    assert rows[0] == rows[1] + rows[2]


def test_an_interrupted_run_keeps_finished_videos_and_goes_on(ferkit_video, study, tmp_path, seen):
    (study / "clip10.mp4").unlink()
    table, whole = tmp_path / "all.csv", tmp_path / "whole.csv"
    seen.at[7] = signal.SIGINT
    code, out, err = ferkit_video(study, "--out", table, "--json")
    assert (code, len(json.loads(out))) == (130, 1)
    assert "1 videos are left. To resume, run the same command." in err
    assert len(rows_of(table)) == 5
    assert ferkit_video(study, "--out", table)[0] == 0
    assert len(seen.times) == 7 + 3
    ferkit_video(study, "--out", whole)
    assert table.read_bytes() == whole.read_bytes()
    assert read_about(table) == read_about(whole)


def test_an_error_of_the_program_keeps_finished_videos(study, tmp_path, seen):
    def detect(image):
        if image.mean() > 100:
            raise RuntimeError("too bright")
        return []

    table = tmp_path / "all.parquet"
    with pytest.raises(RuntimeError, match="too bright"):
        ferkit.analyze_videos(study, EmotionRecognizer(BrightnessClassifier(), detect), out=table)
    assert len(list((tmp_path / "all.parquet.parts").glob("*.parquet"))) == 2
    assert len(seen.times) == 6


def test_other_settings_are_refused(ferkit_video, study, tmp_path):
    table = tmp_path / "all.csv"
    ferkit_video(study, "--out", table)
    for words, said in (
        (["--every", "2"], "every was 1 there and is 2 now"),
        (["--end", "0:10"], "end_s was None there and is 10.0 now"),
        (["--min-confidence", "0.5"], "min_confidence was 0.0 there and is 0.5 now"),
    ):
        code, _, err = ferkit_video(study, "--out", table, *words)
        assert (code, said in err) == (2, True), err


def test_files_of_each_video(ferkit_video, study, tmp_path, seen):
    drawn, plots = study / "drawn", tmp_path / "plots"
    words = [study, "--annotate", drawn, "--plot", plots, "--out", tmp_path / "t.parquet"]
    assert ferkit_video(*words)[0] == 1
    names = sorted(path.stem for path in drawn.iterdir())
    assert [name[:6] for name in names] == ["clip2-", "clip2-"]
    assert sorted(path.stem for path in plots.iterdir()) == names
    assert sorted(len(streams_of(path)["video"]["times"]) for path in drawn.iterdir()) == [3, 5]
    # What was drawn is no video of the study; what is gone is made anew.
    (plots / f"{names[0]}.png").unlink()
    before = len(seen.times)
    assert ferkit_video(*words)[0] == 1
    assert 3 <= len(seen.times) - before <= 5
    assert len(list(plots.iterdir())) == 2
    code, _, err = ferkit_video(study, "--plot", study / "cover.png")
    assert (code, "it must be a folder" in err) == (2, True)


def test_the_caller_may_stop(study):
    told = []

    def progress(now):
        told.append((now.videos, now.videos_in_all, now.analysis is None))
        return now.videos == 1

    assert len(ferkit.analyze_videos([study / "b", study / "clip2.mp4"], recognizer(), progress=progress)) == 1
    assert told == [(0, 2, False)] * 3 + [(1, 2, True)]


@pytest.mark.parametrize(
    ("words", "fps", "found", "several", "note"),
    [
        pytest.param(["clip2.mp4"], None, ["clip2.mp4"], False, "", id="file"),
        pytest.param(["."], None, ["./clip2.mp4", "./clip10.mp4", "./b/clip2.mp4"], True, "1 image", id="folder"),
        pytest.param(["b"], None, ["b/clip2.mp4"], True, "", id="folder-of-one"),
        pytest.param(["*.mp4", "clip2.mp4"], None, ["clip2.mp4", "clip10.mp4"], True, "", id="glob"),
        pytest.param(["**/*2.mp4"], None, ["b/clip2.mp4", "clip2.mp4"], True, "", id="deep-glob"),
        pytest.param(["list.txt"], None, ["b/clip2.mp4", "clip2.mp4"], True, "1 image", id="list"),
        pytest.param(["."], 10, ["."], False, "3 videos in it left out", id="frames-where-fps-asks"),
        pytest.param(["*.png"], None, ["*.png"], False, "25 per second; change it with --fps", id="frames"),
        pytest.param(["0", "gone.mp4"], None, ["0", "gone.mp4"], True, "", id="camera"),
    ],
)
def test_what_is_found(study, monkeypatch, words, fps, found, several, note):
    monkeypatch.chdir(study)
    (study / "list.txt").write_text("b/clip2.mp4\nclip2.mp4\ncover.png\n")
    videos = list_videos(words, fps)
    assert list(videos.videos) == found
    assert videos.several == several
    assert (note in "".join(videos.notes), bool(videos.notes)) == (True, bool(note))


def test_seconds_are_for_one_video(ferkit_video, study):
    code, _, err = ferkit_video(study, "--seconds", 1)
    assert (code, "choose a part with --start and --end" in err) == (2, True)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_says_how_its_rows_came_about(study, tmp_path, suffix):
    table = tmp_path / f"t{suffix}"
    with pytest.raises(UsageError):
        ferkit.analyze_video(study / "clip2.mp4", recognizer(), start="0:01", end=0.5)
    ferkit.analyze_video(study / "clip2.mp4", every="0.2s", start=0.1, end="0:00.45", out=table).finish()
    about = read_about(table)
    assert (about["ferkit"], about["model"], len(about["model_sha256"])) == (ferkit.__version__, "default", 64)
    usual = ferkit.EmotionClassifier.load("default").sensitivity
    assert (about["sensitivity"], about["detector"], about["min_confidence"]) == (usual, "yunet", 0.0)
    assert about["video"] == {
        "every": "0.2s",
        "start_s": 0.1,
        "end_s": 0.45,
        "detect_every_s": 0.2,
        "smooth_s": 0.3,
        "fps": None,
    }
    (video,) = about["videos"]
    assert (video["frames_per_second"], video["frames"], video["seconds"]) == (10, 3, pytest.approx(0.35))
