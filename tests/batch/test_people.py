"""The tidy table of people: it agrees with the timelines of the videos, and with plain counting."""

import csv
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest

from face_tables import empty, face, write_batch
from ferkit.batch import find_people, summarize
from ferkit.errors import DatasetError, UsageError
from ferkit.labels import EMOTIONS
from ferkit.results import Box, Face, FaceEmotion
from ferkit.video import FrameFaces, Timeline, video_rows, video_table
from ferkit.video.follower import TrackedFace
from ferkit.video.frames import Frame
from ferkit.video.peaks import last_row

pytest.importorskip("duckdb")
PIXELS = np.zeros((8, 8, 3), np.uint8)


def write_video(path, source, *frames, times=None, problem=None):
    """A table of frames in words such as "1 happy, 2 sad", and the timeline of the same."""
    timeline = Timeline(source, EMOTIONS)
    with video_table(path, EMOTIONS) as table:
        for number, words in enumerate(frames):
            faces = []
            for word in filter(None, words.split(", ")):
                track, label = word.split()
                values = np.array([0.64 if name == label else 0.06 for name in EMOTIONS])
                emotion = FaceEmotion.from_probabilities(Face(Box(0, 0, 4, 4), 0.9), EMOTIONS, values)
                faces.append(TrackedFace(int(track), emotion, dict.fromkeys(EMOTIONS, 1 / 7)))
            time_s = number / 10 if times is None else times[number]
            found = FrameFaces(Frame(number, time_s, PIXELS), tuple(faces))
            timeline.add(found)
            table.write_rows(video_rows(source, found))
        timeline.problem = problem
        timeline.finish(None if problem is None else 9.0)
        table.write_rows(last_row(timeline))
    return timeline


@pytest.fixture
def videos(tmp_path):
    """Two videos of Ann, one of Bob, and what they were shown."""
    for name, words in (("a1", ["1 happy"] * 4), ("a2", ["1 sad", "1 happy"]), ("b1", ["1 sad"] * 2 + ["3 sad"] * 2)):
        write_video(tmp_path / f"{name}.csv", f"clips/{name}.mp4", *words)
    (tmp_path / "who.csv").write_text("source;person;film\na1.mp4;Ann;funny\na2.mp4;Ann;sad\nclips/b1.mp4; Bob ;sad\n")
    return [tmp_path / f"{name}.csv" for name in ("a1", "a2", "b1")]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
@pytest.mark.parametrize(
    ("frames", "times", "problem"),
    [
        pytest.param(
            ["1 happy"] * 3 + ["1 sad, 2 neutral", "2 neutral", "", "1 sad", "1 happy"], None, None, id="gaps"
        ),
        pytest.param(["1 happy", "1 sad", "1 sad"], [0.0, 2.0, 2.1], None, id="times-and-not-frames"),
        pytest.param(["1 happy", "1 sad"], None, "It broke off.", id="broken"),
        pytest.param(["1 happy, 2 fear"], None, None, id="one-frame"),
    ],
)
def test_agrees_with_the_timeline(tmp_path, suffix, frames, times, problem):
    timeline = write_video(tmp_path / f"t{suffix}", "clip.mp4", *frames, times=times, problem=problem)
    found = find_people(tmp_path / f"t{suffix}")
    assert found.unit == "track"
    for row, track in zip(found.rows, timeline.summary()["tracks"], strict=True):
        assert row["person"] == f"clip.mp4 #{track['track']}"
        assert row["frames"] == len(frames)
        assert row["seconds"] == pytest.approx(track["seconds"])
        assert {label: row[f"share_{label}"] for label in EMOTIONS} == pytest.approx(
            dict.fromkeys(EMOTIONS, 0) | track["share"], abs=1e-6
        )
        assert row["transitions"] == sum(one["count"] for one in track["transitions"])
        longest = track["longest"]
        assert (row["longest_label"], row["longest_s"]) == (
            longest["label"],
            pytest.approx(longest["end_s"] - longest["start_s"]),
        )
        # Of the label a frame has 0.64, of the others 0.06.
        assert row["mean_happy"] == pytest.approx(0.06 + 0.58 * row["share_happy"], abs=1e-6)
    changes = Counter({(row["from"], row["to"]): row["n"] for row in found.changes})
    assert changes == {(one["from"], one["to"]): one["count"] for one in timeline.summary()["transitions"]}


def test_a_person_in_several_videos_has_a_row_for_each_condition(videos, tmp_path):
    found = find_people(videos, conditions=tmp_path / "who.csv")
    assert (found.unit, found.conditions, found.left_out) == ("person", ("film",), 0)
    told = [(row["person"], row["film"], row["videos"], row["faces"], row["share_happy"]) for row in found.rows]
    assert told == [("Ann", "funny", 1, 4, 1.0), ("Ann", "sad", 1, 2, 0.5), ("Bob", "sad", 1, 4, 0.0)]
    both = find_people(videos, conditions=tmp_path / "who.csv", unit="film").rows
    assert [(row["person"], row["videos"], row["frames"]) for row in both] == [("funny", 1, 4), ("sad", 2, 6)]
    assert [row["person"] for row in find_people(videos, unit="source").rows] == [
        f"clips/{n}.mp4" for n in ("a1", "a2", "b1")
    ]


def test_sources_that_the_conditions_do_not_name_are_counted(videos, tmp_path):
    (tmp_path / "who.csv").write_text("source,track,film\nclips/b1.mp4,1,sad\nclips/b1.mp4,3,\n")
    found = find_people(videos, conditions=tmp_path / "who.csv")
    assert [(row["person"], row["film"]) for row in found.rows] == [
        ("clips/b1.mp4 #1", "sad"),
        ("clips/b1.mp4 #3", None),
    ]
    assert found.left_out == 6


def test_courses(videos):
    found = find_people(videos[:2], step_s=0.2).courses
    assert [(row["person"], row["time_s"]) for row in found] == [
        ("clips/a1.mp4 #1", 0.0),
        ("clips/a1.mp4 #1", pytest.approx(0.2)),
        ("clips/a2.mp4 #1", 0.0),
    ]
    assert found[2]["mean_sad"] == pytest.approx(0.35)


def test_pictures_have_shares_of_faces(tmp_path):
    rows = [face("a.jpg", "happy"), face("a.jpg", "sad", 0.5), empty("b.jpg"), face("c.jpg", "happy")]
    found = find_people(write_batch(tmp_path / "out", rows), min_confidence=0.6)
    assert (found.unit, found.labels) == ("source", (*EMOTIONS, "uncertain"))
    a, c = found.rows
    assert (a["person"], a["faces"], a["share_happy"], a["share_uncertain"]) == ("a.jpg", 2, 0.5, 0.5)
    assert (a["seconds"], a["transitions"], a["longest_s"], a["coverage"]) == (None, None, None, 1.0)
    assert c["share_happy"] == 1.0


def test_files(videos, tmp_path):
    found = find_people(videos, conditions=tmp_path / "who.csv")
    for name in ("p.csv", "p.parquet"):
        found.write(tmp_path / name)
    with (tmp_path / "p.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["share_sad"] for row in rows] == ["0.0", "0.5", "1.0"]
    assert pq.read_table(tmp_path / "p.parquet").to_pylist() == list(found.rows)
    with pytest.raises(UsageError, match=r"ends in \.csv or \.parquet"):
        found.write(tmp_path / "p.txt")


@pytest.mark.parametrize(
    ("conditions", "options", "error", "says"),
    [
        pytest.param("film\nx\n", {}, DatasetError, "no column source or track", id="no-key"),
        pytest.param("source,x\na1.mp4,1\na1.mp4,2\n", {}, DatasetError, "several rows for a1.mp4", id="twice"),
        pytest.param("source,x\nother.mp4,1\n", {}, DatasetError, "Expected such as clips/a1.mp4", id="no-match"),
        pytest.param("source,faces\na1.mp4,1\n", {}, UsageError, "have a column faces", id="our-name"),
        pytest.param("source,x\na1.mp4,1\n", {"unit": "y"}, UsageError, "Unknown unit 'y'", id="unit"),
        pytest.param("track,x\none,1\n", {}, DatasetError, "Could not convert", id="track-in-words"),
    ],
)
def test_conditions_that_make_no_sense(videos, tmp_path, conditions, options, error, says):
    (tmp_path / "odd.csv").write_text(conditions)
    with pytest.raises(error, match=says):
        find_people(videos, conditions=tmp_path / "odd.csv", **options)


def test_a_source_in_two_tables(videos):
    with pytest.raises(DatasetError, match=r"clips/a1\.mp4 is in several"):
        find_people([videos[0], videos[0]])


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        pytest.param("source", {"clips/a1.mp4": (4, 4), "clips/b1.mp4": (4, 4), "clips/a2.mp4": (2, 2)}, id="source"),
        pytest.param("film", {"sad": (6, 6), "funny": (4, 4)}, id="condition"),
        pytest.param(
            "track",
            {"clips/a1.mp4 #1": 4, "clips/a2.mp4 #1": 2, "clips/b1.mp4 #1": 2, "clips/b1.mp4 #3": 2},
            id="track",
        ),
    ],
)
def test_summaries_of_several_tables(videos, tmp_path, by, expected):
    summary = summarize(videos, conditions=tmp_path / "who.csv", by=by)
    found = {group.name: (group.pictures, group.faces) for group in summary.groups}
    assert found == {name: (n, n) if isinstance(n, int) else n for name, n in expected.items()}
    assert summary.source == ", ".join(map(str, videos))
    assert (summary.parts, summary.parts_planned) == (3, None)


def test_people_of_one_frame_each_have_it(tmp_path):
    write_video(tmp_path / "t.csv", "clip.mp4", "1 happy, 2 sad", "")
    groups = summarize(tmp_path / "t.csv", by="track").groups
    assert {group.name: (group.pictures, group.without_face) for group in groups} == {
        "clip.mp4 #1": (1, 0),
        "clip.mp4 #2": (1, 0),
        "": (1, 1),
    }
    with pytest.raises(DatasetError, match="no column track"):
        summarize(write_batch(tmp_path / "out", [face("a.jpg")]), by="track")
    with pytest.raises(UsageError, match="Unknown grouping 'film'"):
        summarize(tmp_path / "t.csv", by="film")
