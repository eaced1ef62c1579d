import csv

import numpy as np
import pytest

from ferkit import detection
from ferkit.detection import DETECTORS, drop_overlaps, load_detector
from ferkit.errors import MissingDependencyError, UsageError
from ferkit.images import read_image
from ferkit.registry import describe
from ferkit.results import Face
from ferkit.samples import sample_picture
from recognition import face_at

HERE = [name for name, detector in DETECTORS.items() if not detector.problem()]


@pytest.fixture
def yunet(shared, monkeypatch):
    monkeypatch.setenv("FERKIT_YUNET", str(shared / "models" / detection.YUNET_FILE))
    return load_detector("yunet")


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize(
    "shape",
    [
        pytest.param((1, 1), id="1x1"),
        pytest.param((1, 5000), id="1x5000"),
        pytest.param((5000, 1), id="5000x1"),
        pytest.param((300, 200), id="300x200"),
    ],
)
def test_contract_of_every_detector(name, shape):
    """Faces inside the picture from any picture; nothing invented on plain ground."""
    faces = DETECTORS[name]()(np.full((*shape, 3), 128, np.uint8))
    assert len(faces) == (1 if name == "none" else 0)
    for face in faces:
        assert isinstance(face, Face)
        assert (face.box.x2, face.box.y2) == shape[::-1]


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_describes_itself(name):
    assert describe(DETECTORS[name]).endswith(".")
    assert DETECTORS[name].licence


def test_none_takes_the_whole_picture():
    (face,) = load_detector("none")(np.zeros((30, 40, 3), np.uint8))
    assert face.box.to_list() == [0, 0, 40, 30]


@pytest.mark.parametrize("scale", [1, 3])
def test_haar_finds_the_astronaut_in_original_pixels(scale):
    image = np.kron(read_image(sample_picture()), np.ones((scale, scale, 1), np.uint8))
    (face,) = load_detector("haar")(image)
    centre = (face.box.x1 + face.box.x2) / 2 / scale, (face.box.y1 + face.box.y2) / 2 / scale
    assert centre == pytest.approx((224, 118), abs=15)
    assert 80 < face.box.width / scale < 140


def test_a_callable_is_a_detector():
    def mine(image):
        return [face_at(0, 0, 5, 5)]

    assert load_detector(mine) is mine


def test_unknown_detector_suggests_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'yunet'"):
        load_detector("yunit")


def test_overlaps_keep_the_better():
    best, worse, apart = face_at(0, 0, 10, 10, 0.9), face_at(1, 1, 11, 11, 0.8), face_at(20, 0, 30, 10, 0.1)
    assert drop_overlaps([worse, apart, best]) == [best, apart]


def test_auto_without_yunet_is_haar_and_says_why(monkeypatch):
    monkeypatch.delenv("FERKIT_YUNET", raising=False)
    auto = detection.AutoDetector()
    assert auto.name == "haar"
    assert detection.YUNET_FILE in auto.reason


def test_yunet_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.delenv("FERKIT_YUNET", raising=False)
    with pytest.raises(MissingDependencyError, match="--detector haar"):
        load_detector("yunet")
    monkeypatch.setenv("FERKIT_YUNET", str(tmp_path / "gone.onnx"))
    with pytest.raises(MissingDependencyError, match=r"gone\.onnx, where no file is"):
        load_detector("yunet")


def test_yunet_with_a_wrong_file(monkeypatch, tmp_path):
    wrong = detection.cache_folder() / "models" / detection.YUNET_FILE
    wrong.parent.mkdir()
    wrong.write_bytes(b"half a download")
    monkeypatch.delenv("FERKIT_YUNET", raising=False)
    with pytest.raises(MissingDependencyError, match="checksum"):
        load_detector("yunet")
    assert detection.AutoDetector().name == "haar"
    monkeypatch.setenv("FERKIT_YUNET", str(wrong))
    with pytest.raises(MissingDependencyError, match="no YuNet network"):
        load_detector("yunet")


def test_haar_without_cascades(monkeypatch):
    monkeypatch.setattr(detection, "_cascade_path", lambda name: "")
    with pytest.raises(MissingDependencyError, match="below 5"):
        load_detector("haar")


def scenes(shared):
    with (shared / "scenes" / "MANIFEST.csv").open() as file:
        for row in csv.DictReader(file):
            if not row["file"].endswith((".mp4", ".mov")):
                yield row["file"], int(row["frontal_faces"]), read_image(shared / "scenes" / row["file"])


@pytest.mark.shared
def test_yunet_on_scenes_finds_all_faces_and_no_others(shared, yunet):
    assert {name: len(yunet(image)) for name, _, image in scenes(shared)} == {
        name: count for name, count, _ in scenes(shared)
    }


@pytest.mark.shared
def test_yunet_on_strips_invents_nothing(yunet):
    for shape in ((1, 1), (5, 5), (20, 20), (1, 5000), (5000, 1)):
        assert yunet(np.zeros((*shape, 3), np.uint8)) == []


@pytest.mark.shared
def test_yunet_landmarks_are_the_persons_own_right_eye_first(shared, yunet):
    (face,) = yunet(read_image(sample_picture()))
    right_eye, left_eye, nose, right_mouth, left_mouth = face.landmarks
    assert right_eye[0] < nose[0] < left_eye[0]
    assert right_mouth[0] < left_mouth[0]
    assert right_eye[1] < nose[1] < right_mouth[1]


@pytest.mark.shared
def test_haar_on_scenes(shared, yunet):
    """At least 20 of the 22 faces, and none that YuNet, which finds exactly the annotated ones, does not see."""
    haar = load_detector("haar")
    found = false = 0
    for _, _, image in scenes(shared):
        real = yunet(image)
        hits = [any(face.box.overlap(other.box) > 0.35 for other in real) for face in haar(image)]
        found += sum(hits)
        false += len(hits) - sum(hits)
    assert found >= 20
    assert false == 0
