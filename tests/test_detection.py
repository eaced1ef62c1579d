import csv

import numpy as np
import pytest

from ferkit.detection import DETECTORS, drop_overlaps, haar, load_detector, yunet_file
from ferkit.errors import MissingDependencyError, UsageError
from ferkit.images import read_image
from ferkit.registry import describe
from ferkit.results import Box, Face
from ferkit.samples import sample_picture
from recognition import face_at


@pytest.fixture
def yunet_detector(shared, monkeypatch):
    monkeypatch.setenv("FERKIT_YUNET", str(shared / "models" / yunet_file.NAME))
    return load_detector("yunet")


@pytest.fixture(params=DETECTORS)
def name(request):
    """Every registered detector, ready to be made; YuNet where its file is."""
    if request.param == "yunet":
        request.getfixturevalue("yunet_detector")
    return request.param


PICTURES = {
    "1x1": np.full((1, 1, 3), 128, np.uint8),
    "1x5000": np.full((1, 5000, 3), 128, np.uint8),
    "5000x1": np.full((5000, 1, 3), 128, np.uint8),
    "white": np.full((300, 200, 3), 255, np.uint8),
    "large and plain": np.full((2000, 3500, 3), 90, np.uint8),
    "noise": np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8),
    "coarse noise": np.kron(
        np.random.default_rng(1).integers(0, 256, (30, 40, 3), dtype=np.uint8), np.ones((40, 40, 1), np.uint8)
    ),
    "read-only, strided": np.broadcast_to(np.uint8(77), (64, 400, 3))[:, ::2],
}


@pytest.mark.parametrize("picture", PICTURES)
def test_contract_of_every_detector(name, picture):
    """Faces inside the picture from any picture; nothing invented where there is none; the picture is left alone."""
    image = PICTURES[picture]
    before = image.copy()
    detector = DETECTORS[name]()
    faces = detector(image)
    assert len(faces) == (1 if name == "none" else 0)
    assert detector(image) == faces
    for face in faces:
        assert isinstance(face, Face)
        assert (face.box.x2, face.box.y2) == image.shape[1::-1]
    assert np.array_equal(image, before)


def test_every_detector_finds_the_astronaut(name):
    image = read_image(sample_picture())
    (face,) = DETECTORS[name]()(image)
    if name == "none":
        return
    assert face.landmarks is None or all(0 < x < 512 and 0 < y < 512 for x, y in face.landmarks)
    assert face.box.overlap(Box(180, 60, 270, 180)) > 0.6


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


def test_haar_without_cascades(monkeypatch):
    monkeypatch.setattr(haar, "_cascade_path", lambda name: "")
    with pytest.raises(MissingDependencyError, match="below 5"):
        load_detector("haar")


def scenes(shared):
    with (shared / "scenes" / "MANIFEST.csv").open() as file:
        for row in csv.DictReader(file):
            if not row["file"].endswith((".mp4", ".mov")):
                yield row["file"], int(row["frontal_faces"]), read_image(shared / "scenes" / row["file"])


@pytest.mark.shared
def test_yunet_on_scenes_finds_all_faces_and_no_others(shared, yunet_detector):
    assert {name: len(yunet_detector(image)) for name, _, image in scenes(shared)} == {
        name: count for name, count, _ in scenes(shared)
    }


@pytest.mark.shared
def test_yunet_on_strips_invents_nothing(yunet_detector):
    for shape in ((1, 1), (5, 5), (20, 20), (1, 5000), (5000, 1)):
        assert yunet_detector(np.zeros((*shape, 3), np.uint8)) == []


@pytest.mark.shared
def test_yunet_landmarks_are_the_persons_own_right_eye_first(shared, yunet_detector):
    (face,) = yunet_detector(read_image(sample_picture()))
    right_eye, left_eye, nose, right_mouth, left_mouth = face.landmarks
    assert right_eye[0] < nose[0] < left_eye[0]
    assert right_mouth[0] < left_mouth[0]
    assert right_eye[1] < nose[1] < right_mouth[1]


@pytest.mark.shared
def test_haar_on_scenes(shared, yunet_detector):
    """At least 20 of the 22 faces, and none that YuNet, which finds exactly the annotated ones, does not see."""
    haar = load_detector("haar")
    found = false = 0
    for _, _, image in scenes(shared):
        real = yunet_detector(image)
        hits = [any(face.box.overlap(other.box) > 0.35 for other in real) for face in haar(image)]
        found += sum(hits)
        false += len(hits) - sum(hits)
    assert found >= 20
    assert false == 0
