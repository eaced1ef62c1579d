import itertools

import numpy as np
import pytest

from ferkit.errors import UsageError
from ferkit.labels import EMOTIONS
from ferkit.recognizer import EmotionRecognizer
from ferkit.results import Box, Face
from ferkit.video.follower import FaceFollower
from ferkit.video.tracking import Followed, Gray, follow
from moving import Told, box_at, scene
from recognition import BrightnessClassifier

FRAME = 1 / 30


def follower(told, **options):
    return FaceFollower(EmotionRecognizer(BrightnessClassifier(), told), **options)


def test_a_face_is_followed_between_searches():
    told = Told()
    follow = follower(told, detect_every_s=10)
    for step in range(25):
        place = (40 + 4 * step, 50 + 2 * step)
        told.places = [place]
        (face,) = follow(scene(place), step * FRAME)
        assert face.track == 1
        assert face.face.box.overlap(box_at(*place)) > 0.8
    assert told.asked == 1


def test_the_detector_is_asked_as_often_as_said():
    told = Told([(40, 50)])
    follow = follower(told, detect_every_s=0.2)
    for step in range(31):
        follow(scene((40, 50)), step * FRAME)
    assert told.asked == 6


def test_every_frame_if_wanted():
    told = Told([(40, 50)])
    follow = follower(told, detect_every_s=0)
    for step in range(5):
        follow(scene((40, 50)), step * FRAME)
    assert told.asked == 5


def test_a_face_that_goes_is_gone_at_once_and_searched_for():
    told = Told([(40, 50)])
    follow = follower(told, detect_every_s=10)
    follow(scene((40, 50)), 0.0)
    told.places = []
    assert follow(scene(), FRAME) == []
    assert told.asked == 2


def test_a_face_behind_something_for_half_a_second_keeps_its_number():
    told = Told([(40, 50)])
    follow = follower(told)
    numbers = []
    for step in range(45):
        hidden = 10 <= step < 25
        told.places = [] if hidden else [(40 + step, 50)]
        numbers.append([face.track for face in follow(scene(*told.places), step * FRAME)])
    assert numbers[:25] == [[1]] * 10 + [[]] * 15
    back = numbers[25:].index([1])  # the next search finds it
    assert back <= 6
    assert numbers[25 + back :] == [[1]] * (20 - back)


def test_a_face_that_turns_into_something_else_is_lost():
    """Slowly, so that every point of it can be followed from frame to frame."""
    told = Told([(40, 50)])
    follow = follower(told, detect_every_s=10)
    face, other = scene((40, 50)).astype(float), scene((40, 50)).astype(float)
    other[50:122, 40:112] = other[50:122, 40:112][::-1]
    for step in range(41):
        faces = follow(((1 - step / 40) * face + step / 40 * other).astype(np.uint8), step * FRAME)
        told.places = []
    assert faces == []
    assert told.asked == 2


def test_two_people_have_two_numbers():
    told = Told()
    follow = follower(told)
    for step in range(30):
        told.places = [(10 + 2 * step, 20), (230 - 2 * step, 90)]
        faces = follow(scene(*told.places), step * FRAME)
        assert [face.track for face in faces] == [1, 2]
        assert faces[0].face.box.x1 < faces[1].face.box.x1


def test_a_cut_to_somebody_elsewhere_is_somebody_new():
    told = Told([(10, 20)])
    follow = follower(told, detect_every_s=10)
    follow(scene((10, 20)), 0.0)
    told.places = [(230, 90)]
    (face,) = follow(scene((230, 90)), FRAME)
    assert face.track == 2


def test_a_cut_to_somebody_in_the_same_place_is_somebody_new():
    told = Told([(40, 50)])
    follow = follower(told, detect_every_s=10)
    follow(scene((40, 50)), 0.0)
    other = scene((40, 50))[:, ::-1].copy()
    other[:, :160] = np.linspace(0, 255, 180, dtype=np.uint8)[:, None, None]
    assert [face.track for face in follow(other, FRAME)] == [2]


def test_after_a_cut_is_searched_at_once():
    told = Told()
    follow = follower(told, detect_every_s=10)
    assert follow(scene(), 0.0) == []
    told.places = [(40, 50)]
    other = scene((40, 50)).copy()
    other[:, 160:] = np.linspace(0, 255, 180, dtype=np.uint8)[:, None, None]
    assert [face.track for face in follow(other, FRAME)] == [1]


def test_a_flash_is_no_cut():
    told = Told([(40, 50)])
    follow = follower(told)
    follow(scene((40, 50)), 0.0)
    flash = np.clip(scene((40, 50)).astype(int) * 2 + 40, 0, 255).astype(np.uint8)
    for step, frame in enumerate([flash, scene((40, 50))], start=1):
        assert [face.track for face in follow(frame, step * 0.2)] == [1]


def test_a_face_missed_once_is_kept_and_missed_twice_is_not():
    told = Told([(40, 50)])
    follow = follower(told, detect_every_s=0.2)
    follow(scene((40, 50)), 0.0)
    told.places = []
    assert len(follow(scene((40, 50)), 0.2)) == 1
    assert len(follow(scene((40, 50)), 0.3)) == 1
    assert follow(scene((40, 50)), 0.4) == []


def test_probabilities_are_smoothed_and_raw_ones_kept():
    told = Told([(0, 0)])
    follow = follower(told, detect_every_s=0, time_constant_s=1.0)
    black, white = np.zeros((180, 320, 3), np.uint8), np.full((180, 320, 3), 255, np.uint8)
    follow(black, 0.0)
    (face,) = follow(white, 0.1)
    assert face.face.label == "angry"
    assert face.raw["neutral"] == pytest.approx(0.7)
    assert face.face.probabilities["neutral"] == pytest.approx(0.05 + 0.65 * (1 - np.exp(-0.1)))
    (face,) = follow(white, 1.0)
    assert face.face.label == "neutral"


def test_a_new_person_begins_without_the_past_of_another():
    told = Told([(0, 0)])
    follow = follower(told, detect_every_s=0, time_constant_s=9.0, max_gap_s=0.1)
    follow(np.zeros((180, 320, 3), np.uint8), 0.0)
    told.places = []
    follow(np.zeros((180, 320, 3), np.uint8), 0.5)
    told.places = [(0, 0)]
    (face,) = follow(np.full((180, 320, 3), 255, np.uint8), 1.0)
    assert (face.track, face.face.label) == (2, "neutral")
    assert follow._smoother._means.keys() == {2}


def test_to_dict_is_the_contract_with_two_more():
    (face,) = follower(Told([(40, 50)]))(scene((40, 50)), 0.0)
    shown = face.to_dict()
    assert list(shown) == ["box", "detection_score", "label", "confidence", "probabilities", "roll", "track", "raw"]
    assert (shown["track"], list(shown["raw"])) == (1, list(EMOTIONS))


def test_a_fade_between_two_scenes_is_a_cut():
    told = Told([(40, 50)])
    follow = follower(told, detect_every_s=10)
    follow(scene((40, 50)), 0.0)
    told.places = []
    follow(np.zeros((180, 320, 3), np.uint8), 0.1)
    told.places = [(40, 50)]
    other = scene((40, 50))[:, ::-1].copy()
    other[:, :160] = np.linspace(0, 255, 180, dtype=np.uint8)[:, None, None]
    assert [face.track for face in follow(other, 0.2)] == [2]


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param([(320, 180), (200, 300), (320, 180)], id="turned"),
        pytest.param([(320, 180), (96, 90), (2000, 90)], id="resized"),
    ],
)
def test_frames_may_change_their_size(frames):
    told = Told([(10, 10)])
    follow = follower(told)
    for step, (width, height) in enumerate(frames):
        assert len(follow(scene((10, 10), width=width, height=height), step * FRAME)) == 1


def test_flow_does_not_mix_frames_of_two_scales():
    """Both are 640 pixels wide where they are followed."""
    same, large = (Gray.of(scene((40, 50)).repeat(by, 0).repeat(by, 1)) for by in (2, 4))
    assert (same.pixels.shape, same.scale, large.scale) == (large.pixels.shape, 1, 0.5)
    one = Followed.found(Face(Box(80, 100, 200, 220), 0.9), same)
    assert list(follow({1: one}, same, same, 640, 360)) == [1]
    assert follow({1: one}, same, large, 1280, 720) == {}
    assert follow({1: one}, large, same, 640, 360) == {}


def test_time_that_jumps_back_searches_again():
    told = Told([(40, 50)])
    follow = follower(told, detect_every_s=10)
    for time_s in (100.0, 100.1, 0.0):
        assert [face.track for face in follow(scene((40, 50)), time_s)] == [1]
    assert told.asked == 2


def test_wrong_options():
    with pytest.raises(UsageError, match="detect_every_s must be 0 or more"):
        follower(Told(), detect_every_s=-1)


@pytest.mark.shared
@pytest.mark.parametrize("detector", ["yunet", "haar"])
def test_a_real_smile(shared, detector):
    av = pytest.importorskip("av")
    follow = FaceFollower(EmotionRecognizer(detector=detector))
    with av.open(str(shared / "scenes" / "pf_single_face.mp4")) as clip:
        frames = [follow(frame.to_ndarray(format="rgb24"), frame.time) for frame in clip.decode(video=0)]
    assert {len(faces) for faces in frames} == {1}
    assert {faces[0].track for faces in frames} == {1}
    labels = [faces[0].face.label for faces in frames]
    assert (labels[0], labels[-1]) == ("neutral", "happy")
    assert sum(one != other for one, other in itertools.pairwise(labels)) == 1
