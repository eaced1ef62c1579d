import numpy as np
import pytest

from ferkit.labels import EMOTIONS
from ferkit.results import Box, Face, FaceEmotion, table_columns
from ferkit.video.follower import TrackedFace
from ferkit.video.frames import Frame
from ferkit.video.peaks import SIDE, Peaks, last_row, video_rows, video_table
from ferkit.video.timeline import FrameFaces, History, Stretch, Timeline

PIXELS = np.arange(120 * 160 * 3, dtype=np.uint32).reshape(120, 160, 3).astype(np.uint8)


def face(track, label, confidence=0.7, box=(40, 30, 90, 100), min_confidence=0.0):
    rest = (1 - confidence) / 6
    values = np.array([confidence if name == label else rest for name in EMOTIONS])
    emotion = FaceEmotion.from_probabilities(Face(Box(*box), 0.9), EMOTIONS, values, min_confidence)
    return TrackedFace(track, emotion, dict.fromkeys(EMOTIONS, 1 / 7))


def timeline_of(*frames, step=0.1, source="clip.mp4"):
    """From words such as "1 happy, 2 sad", one for each frame."""
    timeline = Timeline(source, EMOTIONS)
    for number, words in enumerate(frames):
        faces = [face(int(word.split()[0]), word.split()[1]) for word in words.split(", ") if word]
        timeline.add(FrameFaces(Frame(number, number * step, PIXELS), tuple(faces)))
    timeline.finish()
    return timeline


def test_time_per_emotion():
    timeline = timeline_of(*["1 happy"] * 3, "1 sad, 2 neutral", "2 neutral", "")
    one, two = timeline.summary()["tracks"]
    assert (one["track"], one["first_s"], one["last_s"], one["seconds"]) == (1, 0.0, 0.4, 0.4)
    assert one["share"] == {"happy": 0.75, "sad": 0.25}
    assert list(one["share"]) == ["happy", "sad"]
    assert two["share"] == {"neutral": 1.0}
    summary = timeline.summary()
    assert (summary["frames"], summary["frames_with_faces"], summary["seconds"]) == (6, 5, 0.6)
    assert summary["share"] == {
        "happy": 0.5,
        "neutral": pytest.approx(1 / 3, abs=1e-6),
        "sad": pytest.approx(1 / 6, abs=1e-6),
    }


def test_time_counts_and_not_frames():
    timeline = Timeline("clip.mp4", EMOTIONS)
    for number, (time_s, label) in enumerate([(0.0, "happy"), (0.1, "happy"), (0.2, "sad"), (2.0, "sad")]):
        timeline.add(FrameFaces(Frame(number, time_s, PIXELS), (face(1, label),)))
    timeline.finish()
    timeline.finish()
    assert timeline.people[1].seconds == pytest.approx({"happy": 0.2, "sad": 3.6})


def test_transitions():
    timeline = timeline_of("1 happy", "1 sad", "1 sad", "1 happy", "1 sad", "2 fear")
    (first, second) = timeline.summary()["tracks"][0]["transitions"]
    assert first == {"from": "happy", "to": "sad", "count": 2}
    assert second == {"from": "sad", "to": "happy", "count": 1}
    assert timeline.summary()["transitions"] == [first, second]


@pytest.mark.parametrize(
    ("frames", "longest"),
    [
        pytest.param(["1 sad", "1 happy", "1 happy", "1 sad"], Stretch("happy", 0.1, 0.3), id="in-the-middle"),
        pytest.param(["1 sad", "1 happy", "", "1 happy", "1 happy"], Stretch("happy", 0.3, 0.5), id="a-gap-ends-it"),
        pytest.param(["1 sad", "1 sad", "1 happy", "1 happy"], Stretch("sad", 0.0, 0.2), id="the-first-of-equals"),
    ],
)
def test_longest_stretch(frames, longest):
    found = timeline_of(*frames).people[1].longest
    assert (found.label, found.start_s, found.end_s) == pytest.approx((longest.label, longest.start_s, longest.end_s))


def test_one_frame_alone():
    summary = timeline_of("1 happy").summary()
    assert summary["share"] == {"happy": 1.0}
    assert summary["seconds"] == 0


def test_nobody():
    summary = timeline_of("", "").summary()
    assert (summary["share"], summary["tracks"], summary["frames_with_faces"]) == ({}, [], 0)


def test_uncertain_has_its_share():
    timeline = Timeline("clip.mp4", EMOTIONS)
    for number in range(2):
        timeline.add(FrameFaces(Frame(number, number / 10, PIXELS), (face(1, "sad", 0.4, min_confidence=0.5),)))
    timeline.finish()
    assert timeline.summary()["share"] == {"uncertain": 1.0}


def test_those_seen_longest_come_first():
    assert [one.track for one in timeline_of("1 sad, 2 sad", "2 sad", "3 sad", "3 sad").by_presence] == [2, 3, 1]


def test_a_long_history_stays_short_and_right():
    history, rng = History(), np.random.default_rng(0)
    values = rng.dirichlet(np.ones(3), 20_000)
    for place, value in enumerate(values):
        gap = 100.0 if place >= 10_000 else 0.0
        history.add(gap + place / 30, gap + (place + 1) / 30, value)
    assert len(history) <= 4096
    (first, early), (second, late) = history.runs()
    assert first[[0, -1]] == pytest.approx([0, 10_000 / 30])
    assert second[[0, -1]] == pytest.approx([100 + 10_000 / 30, 100 + 20_000 / 30])
    for times, means, part in ((first, early, values[:10_000]), (second, late, values[10_000:])):
        assert np.average(means[:-1], axis=0, weights=np.diff(times)) == pytest.approx(part.mean(axis=0))


def test_rows():
    found = FrameFaces(Frame(7, 1.23456789, PIXELS), (face(2, "sad", box=(1, 2, 30, 40)), face(1, "happy")))
    first, second = video_rows("clip.mp4", found)
    head = ["source", "time_s", "frame", "track", "x1", "y1", "x2", "y2", "detection_score", "label", "confidence"]
    assert list(first) == [*head, *EMOTIONS, "roll", *(f"raw_{name}" for name in EMOTIONS)]
    assert [first[name] for name in head] == ["clip.mp4", 1.234568, 7, 2, 1, 2, 30, 40, 0.9, "sad", 0.7]
    assert (first["sad"], first["raw_sad"]) == (0.7, 0.142857)
    assert second["track"] == 1
    (nobody,) = video_rows("clip.mp4", FrameFaces(Frame(8, 2.0, PIXELS), ()))
    assert nobody == {"source": "clip.mp4", "time_s": 2.0, "frame": 8}


def test_columns_begin_as_the_contract_says(tmp_path):
    table = video_table(tmp_path / "t.csv", EMOTIONS)
    contract = list(table_columns(EMOTIONS, {"source": str, "time_s": float, "frame": int, "track": int}))
    assert list(table.columns)[: len(contract)] == contract
    assert list(table.columns)[len(contract) :] == [f"raw_{name}" for name in EMOTIONS]


def test_the_last_row_says_why_a_video_broke_off():
    timeline = timeline_of("1 happy", "1 happy")
    assert list(last_row(timeline)) == []
    timeline.problem = "it breaks off"
    assert list(last_row(timeline)) == [{"source": "clip.mp4", "time_s": 0.2, "error": "it breaks off"}]


def test_peaks():
    peaks = Peaks()
    for number, (label, confidence) in enumerate([("happy", 0.5), ("happy", 0.9), ("happy", 0.6), ("sad", 0.6)]):
        peaks.add(FrameFaces(Frame(number, number / 10, PIXELS), (face(1, label, confidence),)))
    assert [(peak.label, round(peak.confidence, 2), peak.time_s) for peak in peaks.of(1)] == [
        ("happy", 0.9, 0.1),
        ("sad", 0.6, 0.3),
    ]
    assert {peak.picture.shape for peak in peaks.of(1)} == {(SIDE, SIDE, 3)}
    assert peaks.of(2) == []


@pytest.mark.parametrize("box", [(0, 0, 160, 120), (0, 0, 10, 12), (150, 100, 160, 120)])
def test_peaks_at_the_edge(box):
    peaks = Peaks()
    peaks.add(FrameFaces(Frame(0, 0.0, PIXELS), (face(1, "happy", box=box),)))
    assert peaks.of(1)[0].picture.shape == (SIDE, SIDE, 3)


def test_peaks_of_a_crowd_are_bounded():
    peaks = Peaks()
    for number in range(300):
        crowd = (face(1, "happy"), face(number + 2, "sad"))
        peaks.add(FrameFaces(Frame(number, number / 10, PIXELS), crowd))
    assert len(peaks._peaks) <= 64
    assert len(peaks._seen) <= 64
    assert peaks.of(1)


def test_a_crowd_over_hours_is_bounded():
    """A plot shows those seen longest, so theirs is the history that stays."""
    timeline = Timeline("door", EMOTIONS)
    for number in range(1200):
        faces = (face(1, "happy"), face(number + 2, "sad")) if number < 40 else (face(number + 2, "sad"),)
        timeline.add(FrameFaces(Frame(number, number * 1.0, PIXELS), faces))
    timeline.finish()
    assert len(timeline.people) == 1201
    assert sum(len(person.history) > 0 for person in timeline.people.values()) <= 256
    assert len(timeline.people[1].history) == 40
    assert len(timeline.people[1201].history) == 1
    assert sum(person.present_s for person in timeline.people.values()) == 1240


def test_a_neighbour_is_blurred_as_well():
    """Between two faces that touch, in the picture of the one that is narrow."""
    striped = np.zeros((120, 160, 3), np.uint8)
    striped[:, ::4] = striped[:, 1::4] = 255
    peaks = Peaks(blur_faces=True)
    crowd = (face(1, "happy", box=(60, 20, 90, 100)), face(2, "sad", 0.6, box=(95, 20, 140, 100)))
    peaks.add(FrameFaces(Frame(0, 0.0, striped), crowd))
    right = peaks.of(1)[0].picture[30:66, 74:92].astype(int)
    assert np.abs(np.diff(right, axis=1)).mean() < 10


def test_the_last_frame_lasts_until_the_end():
    timeline = Timeline("clip.mp4", EMOTIONS)
    for number, time_s in enumerate([0.0, 7.0, 9.0]):
        timeline.add(FrameFaces(Frame(number, time_s, PIXELS), (face(1, "happy"),)))
    timeline.finish(9.5)
    timeline.finish()
    assert (timeline.end_s, timeline.people[1].present_s) == (9.5, 9.5)
