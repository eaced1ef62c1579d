import json
import pickle

import numpy as np
import pytest

from ferkit.errors import FerkitError
from ferkit.labels import EMOTIONS
from ferkit.results import UNCERTAIN, Box, Face, FaceEmotion, PictureResult, Results
from recognition import RIGHT_EYE_TO_MOUTH, emotion, face_at


@pytest.mark.parametrize(
    "corners",
    [
        pytest.param((-1, 0, 5, 5), id="left of the picture"),
        pytest.param((0, -1, 5, 5), id="above the picture"),
        pytest.param((5, 0, 5, 5), id="no width"),
        pytest.param((0, 6, 5, 5), id="upside down"),
    ],
)
def test_box_refuses(corners):
    with pytest.raises(FerkitError, match="Received"):
        Box(*corners)


@pytest.mark.parametrize(
    ("corners", "expected"),
    [
        pytest.param((2, 3, 8, 9), (2, 3, 8, 9), id="inside"),
        pytest.param((-4, -4, 30, 30), (0, 0, 20, 10), id="all around"),
        pytest.param((1.6, 2.4, 5.5, 6.6), (2, 2, 6, 7), id="rounded"),
        pytest.param((25, 0, 30, 5), None, id="outside"),
        pytest.param((3.1, 3.1, 3.2, 3.2), None, id="less than a pixel"),
    ],
)
def test_box_inside(corners, expected):
    box = Box.inside(corners, width=20, height=10)
    assert (box and tuple(box.to_list())) == expected


@pytest.mark.parametrize(
    "corner",
    [
        pytest.param(10.6, id="fraction"),
        pytest.param(np.float32(10), id="float of NumPy"),
        pytest.param("10", id="text"),
        pytest.param(None, id="nothing"),
    ],
)
def test_box_takes_whole_pixels_only(corner):
    with pytest.raises(FerkitError, match=r"Box\.inside.*Received: x2="):
        Box(0, 0, corner, 20)


def test_numbers_of_numpy_become_plain_ones():
    """As OpenCV's detectors give them; JSON, and tables, know Python's numbers only."""
    x, y, wide, high = np.array([10, 10, 40, 50], np.int32)
    points = np.array(RIGHT_EYE_TO_MOUTH, np.float32)
    face = Face(Box(x, y, x + wide, y + high), np.float32(0.5), points)
    assert face == Face(Box(10, 10, 50, 60), 0.5, RIGHT_EYE_TO_MOUTH)
    shares = dict(zip(EMOTIONS, np.eye(7, dtype=np.float32)[3], strict=True))
    found = FaceEmotion(face, "happy", np.float32(1), shares)
    document = json.loads(json.dumps(PictureResult("a.jpg", 100, 80, (found,)).to_dict()))
    assert document["faces"][0]["box"] == [10, 10, 50, 60]
    assert json.loads(json.dumps(face.landmarks)) == [list(point) for point in RIGHT_EYE_TO_MOUTH]
    assert hash(face) == hash(Face(Box(10, 10, 50, 60), 0.5, RIGHT_EYE_TO_MOUTH))


def test_overlap():
    assert Box(0, 0, 10, 10).overlap(Box(0, 0, 10, 10)) == 1
    assert Box(0, 0, 10, 10).overlap(Box(5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert Box(0, 0, 10, 10).overlap(Box(10, 0, 20, 10)) == 0


@pytest.mark.parametrize(
    ("score", "landmarks"),
    [
        pytest.param(1.1, None, id="score above 1"),
        pytest.param(float("nan"), None, id="score NaN"),
        pytest.param(None, None, id="no score"),
        pytest.param(0.5, RIGHT_EYE_TO_MOUTH[:3], id="three landmarks"),
        pytest.param(0.5, ((1, 2, 3),) * 5, id="landmarks in space"),
        pytest.param(0.5, (1, 2, 3, 4, 5), id="landmarks that are no points"),
    ],
)
def test_face_refuses(score, landmarks):
    with pytest.raises(FerkitError, match="Received"):
        Face(Box(0, 0, 1, 1), score, landmarks)


@pytest.mark.parametrize(
    ("label", "probabilities"),
    [
        pytest.param("happy", {"happy": 0.5, "sad": 0.4}, id="do not sum to 1"),
        pytest.param("happy", {"happy": 1.5, "sad": -0.5}, id="negative"),
        pytest.param("happy", {"happy": float("nan"), "sad": 0.5}, id="NaN"),
        pytest.param("happy", {}, id="none"),
        pytest.param("calm", {"happy": 0.5, "sad": 0.5}, id="label is no class"),
    ],
)
def test_face_emotion_refuses(label, probabilities):
    with pytest.raises(FerkitError):
        FaceEmotion(face_at(0, 0, 1, 1), label, 0.5, probabilities)


@pytest.mark.parametrize(
    ("min_confidence", "label"),
    [
        pytest.param(0.0, "sad", id="no limit"),
        pytest.param(0.6, "sad", id="at"),
        pytest.param(0.61, UNCERTAIN, id="below"),
    ],
)
def test_uncertain_keeps_the_confidence(min_confidence, label):
    values = np.array([0.1, 0.0, 0.1, 0.1, 0.6, 0.1, 0.0])
    face = FaceEmotion.from_probabilities(face_at(0, 0, 9, 9), EMOTIONS, values, min_confidence)
    assert (face.label, face.confidence) == (label, 0.6)
    assert list(face.probabilities) == list(EMOTIONS)
    assert face.top(1) == [("sad", 0.6)]


def test_picture_result_is_its_faces():
    result = PictureResult("a.jpg", 100, 80, (emotion("happy"), emotion("sad")))
    assert [face.label for face in result] == ["happy", "sad"]
    assert len(result) == 2
    assert result[1].box == Box(10, 10, 50, 60)


def test_picture_result_refuses_boxes_outside():
    with pytest.raises(FerkitError, match="not inside the picture"):
        PictureResult("a.jpg", 40, 80, (emotion(),))


def test_json_is_the_contract():
    document = PictureResult("a.jpg", 100, 80, (emotion("happy", 0.7),)).to_dict()
    assert json.loads(json.dumps(document)) == {
        "source": "a.jpg",
        "width": 100,
        "height": 80,
        "faces": [
            {
                "box": [10, 10, 50, 60],
                "detection_score": 0.9,
                "label": "happy",
                "confidence": 0.7,
                "probabilities": {name: 0.7 if name == "happy" else 0.05 for name in EMOTIONS},
                "roll": None,
            }
        ],
        "error": None,
    }
    assert list(document["faces"][0]["probabilities"]) == list(EMOTIONS)


def test_failed_result():
    assert PictureResult.failed("b.jpg", "gone").to_dict() == {
        "source": "b.jpg",
        "width": 0,
        "height": 0,
        "faces": [],
        "error": "gone",
    }


def test_results_travel_between_processes():
    result = PictureResult("a.jpg", 100, 80, (emotion(),), pixels=np.zeros((80, 100, 3), np.uint8))
    copy = pickle.loads(pickle.dumps(result))  # noqa: S301
    assert copy == result
    assert result.without_pixels().pixels is None


def test_names_that_are_no_text_can_be_stored():
    """Linux hands the byte 0xff of a file name over as a lone surrogate, which no encoding takes."""
    document = PictureResult.failed("caf\udcff.jpg", "Cannot read caf\udcff.jpg.").to_dict()
    assert document["source"] == "caf\\udcff.jpg"
    assert json.dumps(document, ensure_ascii=False).encode("utf-8")


def test_results_know_their_classes():
    assert PictureResult("a.jpg", 100, 80, (emotion(),)).classes == EMOTIONS
    assert PictureResult("a.jpg", 100, 80).classes == ()
    with pytest.raises(FerkitError, match=r"All faces of a\.jpg must have the classes"):
        PictureResult("a.jpg", 100, 80, (emotion(),), classes=EMOTIONS[::-1])


def test_many_results_are_a_list():
    one, two = PictureResult("a.jpg", 100, 80, (emotion(),)), PictureResult.failed("b.jpg", "gone")
    results = Results([one, two])
    assert results == [one, two]
    assert isinstance(results, list)
    assert results[1] is two
    assert isinstance(results[:1], Results)
    assert results[-1:] == [two]
    assert results.to_dicts() == [one.to_dict(), two.to_dict()]
    assert Results([one], EMOTIONS)[:0].classes == EMOTIONS
    results = Results([one, two], EMOTIONS)
    copy = pickle.loads(pickle.dumps(results))  # noqa: S301
    assert (copy, type(copy), copy.classes) == (results, Results, EMOTIONS)


def test_results_print_a_line_each():
    happy = emotion("happy", 0.7, (1, 2, 30, 40))
    results = Results(
        [PictureResult("a.jpg", 50, 50, (happy,)), PictureResult("b.jpg", 9, 9), PictureResult.failed("c", "gone")]
    )
    assert str(results[0][0]) == "happy 70% at (1, 2, 30, 40)"
    assert str(results).splitlines() == [f"a.jpg: {happy}", "b.jpg: no face", "c: gone"]
