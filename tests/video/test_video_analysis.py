import numpy as np
import pytest

pytest.importorskip("av")

import ferkit
from clips import counted, gray, streams_of, write_clip
from ferkit.errors import UsageError, VideoError
from ferkit.recognizer import EmotionRecognizer
from ferkit.video.sources import open_video
from moving import Told, scene
from recognition import BrightnessClassifier


def recognizer(detector="none"):
    return EmotionRecognizer(BrightnessClassifier(), detector)


def test_frame_by_frame(tmp_path):
    clip = write_clip(tmp_path / "clip.mkv", gray(5, 5, 250, width=320, height=180), times=[0, 0.1, 2.0])
    analysis = ferkit.analyze_video(clip, recognizer(), smooth_s=0)
    seen = [(found.number, found.time_s, [face.face.label for face in found.faces]) for found in analysis]
    assert seen == [(0, 0.0, ["angry"]), (1, 0.1, ["angry"]), (2, 2.0, ["neutral"])]
    assert analysis.timeline.summary()["transitions"] == [{"from": "angry", "to": "neutral", "count": 1}]


def test_finish(tmp_path):
    clip = write_clip(tmp_path / "clip.mkv", counted(10))
    timeline = ferkit.analyze_video(clip, recognizer(), every=2).finish()
    assert isinstance(timeline, ferkit.Timeline)
    assert (timeline.frames, timeline.source) == (5, str(clip))


def test_stopping_early_keeps_what_was_found_and_closes(tmp_path):
    frames = open_video(write_clip(tmp_path / "clip.mkv", counted(10)))
    closed = []
    frames.close = lambda: closed.append(True)
    with ferkit.analyze_video(frames, recognizer()) as analysis:
        for found in analysis:
            if found.number == 3:
                break
    assert closed
    assert analysis.timeline.summary()["seconds"] == 0.4
    assert list(analysis) == []


def test_files_are_complete_at_the_end_and_keep_what_was_found(tmp_path):
    clip = write_clip(tmp_path / "clip.mkv", gray(*[250] * 10, width=320, height=180))
    table, drawn, plot = tmp_path / "t.csv", tmp_path / "a.mp4", tmp_path / "p.png"
    analysis = ferkit.analyze_video(clip, recognizer(), out=table, annotate=str(drawn), plot=plot, seconds=0.45)
    next(analysis)
    assert analysis.written == []
    analysis.finish()
    assert analysis.written == [table, drawn, plot]
    assert len(table.read_text().splitlines()) == 1 + 6
    assert len(streams_of(drawn)["video"]["times"]) == 6
    assert plot.read_bytes().startswith(b"\x89PNG")

    with ferkit.analyze_video(clip, recognizer(), out=table) as analysis:
        next(analysis)
    assert len(table.read_text().splitlines()) == 1 + 1


def test_files_are_discarded_if_their_block_fails(tmp_path):
    clip = write_clip(tmp_path / "clip.mkv", counted(5))
    analysis = ferkit.analyze_video(clip, recognizer(), out=tmp_path / "t.csv", annotate=tmp_path / "a.mp4")

    def fails_after_a_frame():
        with analysis:
            next(analysis)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails_after_a_frame()
    assert analysis.written == []
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mkv"]


def test_the_video_is_closed_if_there_is_no_analysis(tmp_path):
    frames = open_video(write_clip(tmp_path / "clip.mkv", counted(3)))
    closed = []
    frames.close = lambda: closed.append(True)
    with pytest.raises(UsageError):
        ferkit.analyze_video(frames, recognizer(), smooth_s=-1)
    assert closed


def test_a_detector_that_fails_is_heard_and_costs_nothing_found(tmp_path):
    def detect(image):
        if image.mean() > 100:
            raise RuntimeError("too bright")
        return []

    analysis = ferkit.analyze_video(write_clip(tmp_path / "c.mkv", counted(10)), recognizer(detect), detect_every_s=0)
    with pytest.raises(RuntimeError, match="too bright"):
        analysis.finish()
    assert analysis.timeline.frames == 4


def test_a_video_without_a_frame_that_can_be_decoded(tmp_path):
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "1.png").write_bytes(b"broken")
    with pytest.raises(VideoError, match="none of its 1 frames"):
        ferkit.analyze_video(tmp_path / "frames", recognizer()).finish()


def test_two_people_an_occlusion_and_a_variable_frame_rate(tmp_path):
    """Two portraits move towards each other; one is gone for half a second; frames come 10 or 30 times a second."""
    times = np.concatenate([np.arange(0, 1, 0.1), np.arange(1, 2, 1 / 30), np.arange(2, 3, 0.1)])
    told, frames, where = Told(), [], []
    for time_s in times:
        places = [(20 + 30 * time_s, 40), (230 - 20 * time_s, 80)]
        where.append(places[:1] if 1.2 <= time_s < 1.7 else places)
        frames.append(scene(*where[-1]))
    clip = write_clip(tmp_path / "clip.mkv", frames, times=times)
    analysis = ferkit.analyze_video(clip, recognizer(told))
    tracks = []
    for places, time_s in zip(where, times, strict=True):
        told.places = places
        found = next(analysis)
        assert found.time_s == pytest.approx(time_s, abs=1e-3)
        tracks.append([face.track for face in found.faces])
    assert {tuple(one) for one in tracks} == {(1, 2), (1,)}
    assert tracks[-1] == [1, 2]
    person = analysis.finish().people[2]
    assert person.present_s == pytest.approx(2.5 + 0.1, abs=0.25)
    assert len(person.history.runs()) == 2


@pytest.mark.parametrize("detector", ["haar", "yunet"])
def test_two_real_faces(tmp_path, detector):
    import cv2

    from ferkit.sources.images import read_image

    portrait = cv2.resize(read_image(ferkit.sample_picture())[20:320, 60:360], (200, 200), interpolation=cv2.INTER_AREA)
    frames = []
    for step in range(12):
        frame = np.full((260, 520, 3), 128, np.uint8)
        for left, top in ((10 + 4 * step, 20), (300 - 3 * step, 50)):
            frame[top : top + 200, left : left + 200] = portrait
        frames.append(frame)
    clip = write_clip(tmp_path / "clip.mp4", frames)
    timeline = ferkit.analyze_video(clip, EmotionRecognizer(detector=detector)).finish()
    assert sorted(timeline.people) == [1, 2]
    assert [round(person.present_s, 1) for person in timeline.people.values()] == [1.2, 1.2]
    assert timeline.summary()["share"] == {"happy": 1.0}
