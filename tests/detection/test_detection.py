import csv
import hashlib
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path

import cv2
import numpy as np
import pytest

from ferkit._support.registry import describe
from ferkit.detection import DETECTORS, drop_overlaps, haar, load_detector, views, yunet
from ferkit.detection.orientation import find_in_any_orientation
from ferkit.errors import ImageError, MissingDependencyError, UsageError
from ferkit.models import sample_picture
from ferkit.recognizer import EmotionRecognizer
from ferkit.results import Box, Face
from ferkit.sources.images import read_image
from recognition import BrightnessClassifier, face_at

# The face of the sample picture, from ear to ear and from the forehead to the chin.
ASTRONAUT = Box(181, 62, 267, 174)


@pytest.fixture
def yunet_detector():
    return load_detector("yunet")


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
@pytest.mark.parametrize("name", DETECTORS)
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


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_finds_the_astronaut(name):
    image = read_image(sample_picture())
    (face,) = DETECTORS[name]()(image)
    if name == "none":
        return
    assert face.landmarks is None or all(0 < x < 512 and 0 < y < 512 for x, y in face.landmarks)
    assert face.box.overlap(ASTRONAUT) > 0.75


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
    assert np.array(face.box.to_list()) / scale == pytest.approx(ASTRONAUT.to_list(), abs=15)


@pytest.mark.shared
def test_boxes_of_all_detectors_mean_the_same(shared, yunet_detector):
    """The boxes of the cascade around the faces of the scenes are as large as YuNet's, and where those are."""
    cascade = load_detector("haar")
    ratios = []
    for _, _, image in scenes(shared):
        real = yunet_detector(image)
        for face in cascade(image):
            (other,) = [one.box for one in real if one.box.overlap(face.box) > 0.5]
            box = face.box
            middles = (box.x1 + box.x2 - other.x1 - other.x2) / 2, (box.y1 + box.y2 - other.y1 - other.y2) / 2
            ratios.append(
                (box.width / other.width, box.height / other.height, *(one / other.height for one in middles))
            )
    assert np.median(ratios, axis=0) == pytest.approx([1, 1, 0, 0], abs=0.03)


def test_a_callable_is_a_detector():
    def mine(image):
        return [face_at(0, 0, 5, 5)]

    assert load_detector(mine) is mine


def test_unknown_detector_suggests_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'yunet'"):
        load_detector("yunit")


def test_no_detection_is_never_suggested():
    """ "nope" is nearest to "none", and whoever took that would get a face of every picture."""
    with pytest.raises(UsageError, match=r"^Unknown detector 'nope'\. Choices: auto, .*, none\.$"):
        load_detector("nope")


def test_auto_takes_yunet():
    assert isinstance(load_detector("auto"), yunet.YunetDetector)


def test_the_packaged_network_is_the_published_one():
    digest = hashlib.sha256(Path(yunet.__file__).with_name(yunet.NAME).read_bytes()).hexdigest()
    assert digest == "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
    assert "MIT License" in Path(yunet.__file__).with_name("LICENSE.face_detection_yunet").read_text()


def test_a_network_of_the_users_own(monkeypatch, tmp_path):
    own = tmp_path / "own.onnx"
    monkeypatch.setenv("FERKIT_YUNET", str(own))
    with pytest.raises(MissingDependencyError, match=r"own\.onnx, which is not a file\. Set it to a .*, or unset it"):
        load_detector("auto")
    own.write_bytes(b"no network")
    with pytest.raises(MissingDependencyError, match="not a readable YuNet network"):
        load_detector("yunet")
    own.write_bytes(Path(yunet.__file__).with_name(yunet.NAME).read_bytes())
    assert len(load_detector("yunet")(read_image(sample_picture()))) == 1


def test_overlaps_keep_the_better():
    best, worse, apart = face_at(0, 0, 10, 10, 0.9), face_at(1, 1, 11, 11, 0.8), face_at(20, 0, 30, 10, 0.1)
    assert drop_overlaps([worse, apart, best]) == [best, apart]
    assert drop_overlaps([]) == []


def test_overlaps_in_a_crowd(rng):
    """What is kept overlaps nothing that is kept; what is dropped overlaps something better."""
    corners = rng.integers(0, 300, (400, 2))
    sizes = rng.integers(1, 60, (400, 2))
    crowd = [
        face_at(*a, *(a + b), score) for a, b, score in zip(corners, sizes, rng.permutation(400) / 400, strict=True)
    ]
    kept = drop_overlaps(crowd, 0.3)
    for face in crowd:
        better = [one for one in kept if one is not face and face.box.overlap(one.box) > 0.3]
        assert (face in kept) != any(one.detection_score > face.detection_score for one in better)
    assert 20 < len(kept) < 380


def test_faces_of_an_image_are_bounded_before_they_are_compared_and_classified(rng):
    """A picture can be tiled with any number of small faces."""
    apart = [face_at(0, 9 * n, 8, 9 * n + 8) for n in range(1001)]
    recognizer = EmotionRecognizer(BrightnessClassifier(), detector=lambda image: apart[: image.shape[0]])
    assert len(recognizer.detect(np.zeros((1000, 9, 3), np.uint8))) == 1000
    crowd = np.zeros((1001, 9, 3), np.uint8)
    with pytest.raises(ImageError, match=r"^The image has more than 1,000 faces\."):
        recognizer(crowd)
    assert recognizer([crowd])[0].error.startswith("The image has more than 1,000 faces.")
    with pytest.raises(ImageError, match=r"^The image has more than 1,000 faces\."):
        drop_overlaps(apart * 2)


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
def test_yunet_on_enlarged_scenes(shared, yunet_detector):
    """Neither loses faces nor invents any in pictures so large that they are searched in parts."""
    for name, count, image in scenes(shared):
        if name in ("oa_test_image.jpg", "pf_multi_face.jpg", "vh_background.jpg"):
            large = cv2.resize(image, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
            assert len(yunet_detector(large)) == count, name


@pytest.mark.parametrize("side", [48, 100, 400, 700, 1300, 3000])
def test_yunet_finds_a_face_that_fills_the_picture(yunet_detector, side):
    box = ASTRONAUT
    face = read_image(sample_picture())[box.y1 : box.y2, box.x1 - 13 : box.x2 + 13]
    (found,) = yunet_detector(cv2.resize(face, (side, side), interpolation=cv2.INTER_CUBIC))
    assert found.box.height > 0.8 * side


@pytest.mark.parametrize(
    ("height", "width", "face_height"),
    [
        pytest.param(100, 100, 16, id="small face in a tiny picture"),
        pytest.param(480, 640, 30, id="small picture"),
        pytest.param(4000, 6000, 42, id="small face in 24 megapixels"),
        pytest.param(4000, 6000, 1200, id="large face in 24 megapixels"),
    ],
)
def test_yunet_finds_faces_of_all_sizes(yunet_detector, height, width, face_height):
    portrait = read_image(sample_picture())[:300, 80:380]
    factor = face_height / ASTRONAUT.height
    portrait = cv2.resize(portrait, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    image = np.full((height, width, 3), 128, np.uint8)
    top, left = height * 2 // 5 - len(portrait) // 3, width * 2 // 5
    image[top : top + len(portrait), left : left + portrait.shape[1]] = portrait
    (face,) = yunet_detector(image)
    expected = (np.array(ASTRONAUT.to_list()) - [80, 0, 80, 0]) * factor + [left, top, left, top]
    assert np.array(face.box.to_list()) == pytest.approx(expected, abs=0.15 * face_height)


def test_yunet_is_the_network_that_opencv_runs(yunet_detector):
    """Decoding its answers is ours; on pictures of any size the faces are those of OpenCV."""
    path = str(yunet_detector.weights())
    image = read_image(sample_picture())
    for height, width in ((512, 512), (256, 320), (448, 384)):
        theirs = cv2.FaceDetectorYN.create(path, "", (width, height), 0.8, 0.3, 5000)
        part = np.ascontiguousarray(image[:height, :width])
        _, expected = theirs.detect(cv2.cvtColor(part, cv2.COLOR_RGB2BGR))
        found = yunet.find_faces(yunet_detector._network, part, 0.8)
        found[:, 2:4] -= found[:, :2]
        assert found == pytest.approx(expected, abs=0.01)


def test_detectors_of_several_threads_share_the_network(yunet_detector):
    image = read_image(sample_picture())
    expected = yunet_detector(image)
    with ThreadPoolExecutor(4) as pool:
        for faces in pool.map(lambda _: load_detector("yunet")(image), range(12)):
            assert faces == expected


def all_views(image) -> list[views.View]:
    """Whatever may be looked at in a picture."""
    copies = list(views.copies(image))
    return [part for copy, less in zip_longest(copies, copies[1:]) for part in views.parts(copy, less)]


@pytest.mark.parametrize(
    ("width", "height"),
    [(1, 1), (48, 48), (640, 480), (1280, 960), (1300, 40), (6000, 4000), (1, 30_000), (9000, 300)],
)
def test_views_show_faces_of_all_sizes_at_a_bounded_cost(width, height):
    """Whatever lies anywhere in a picture is wholly seen by a view that shows it 28 to 400 pixels high."""
    seen = all_views(np.zeros((height, width, 3), np.uint8))
    assert sum(view.pixels.shape[0] * view.pixels.shape[1] for view in seen) < 16_000_000
    assert max(max(view.pixels.shape) for view in seen) <= 1600
    rng = np.random.default_rng(0)
    smallest = 28 / max(view.scale[1] for view in seen)
    for share in np.linspace(0, 1, 12):
        side = min(smallest ** (1 - share) * max(width, height) ** share, width, height)
        for x, y in rng.uniform(0, 1, (20, 2)) * [width - side, height - side]:
            assert any(
                side * view.scale[1] < 400
                and (side * view.scale[1] >= 27 or view.scale[1] == max(one.scale[1] for one in seen))
                and contains(view, x, y, side)
                for view in seen
            )


def contains(view, x, y, side) -> bool:
    corners = np.array([[x, y], [x + side, y + side]]) * view.scale - view.offset
    return bool((corners >= -1).all() and (corners <= np.array(view.pixels.shape[1::-1]) + 1).all())


def test_faces_cut_by_the_edge_of_a_part_are_left_to_another(yunet_detector, monkeypatch):
    image = np.zeros((3000, 4000, 3), np.uint8)
    offsets = {view.offset for view in all_views(image)}
    assert len(offsets) > 2
    row = np.array([[0, 100, 90, 200, *[150.0] * 10, 0.95]])
    monkeypatch.setattr(yunet, "find_faces", lambda network, pixels, min_score: row.copy())
    assert {face.box.x1 for face in yunet_detector(image)} == {0}


def test_faces_of_a_crowd_are_found_once(yunet_detector):
    """Too many faces are refused, so those that several copies show must not count several times."""
    portrait = np.ascontiguousarray(read_image(sample_picture())[40:200, 150:300])
    crowd = np.tile(cv2.resize(portrait, (60, 60), interpolation=cv2.INTER_AREA), (12, 16, 1))
    rows = np.concatenate(list(yunet_detector._looked_through(crowd)))
    assert len(yunet_detector(crowd)) == 12 * 16
    assert len(rows) < 1.25 * 12 * 16


def hint(x, y, side):
    return [x - side / 2, y - side / 2, x + side / 2, y + side / 2]


@pytest.mark.parametrize(
    ("hints", "places"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([(600, 400, 20)], [(536, 336, 128, 128)], id="a face with what is around it"),
        pytest.param([(600, 400, 160)], [(400, 200, 400, 400)], id="a larger one with more"),
        pytest.param([(0, 0, 20)], [(0, 0, 64, 64)], id="at the edge"),
        pytest.param([(600, 400, 20), (680, 400, 20)], [(536, 336, 208, 128)], id="neighbours in one place"),
        pytest.param([(100, 100, 20), (900, 700, 20)], [(36, 36, 128, 128), (836, 636, 128, 128)], id="apart"),
        pytest.param([(300, 300, 300), (900, 500, 300)], [(0, 0, 1200, 800)], id="much of the picture: all of it"),
    ],
)
def test_the_largest_copy_is_looked_at_around_hints(hints, places):
    largest, smaller, *_ = views.copies(np.zeros((800, 1200, 3), np.uint8))
    found = views.places(largest, smaller, np.array([hint(*one) for one in hints]).reshape(-1, 4))
    assert [(*view.offset, *view.pixels.shape[1::-1]) for view in found] == places


def test_a_view_knows_where_it_lies():
    image = np.zeros((3000, 4000, 3), np.uint8)
    image[2200:2240, 3100:3140] = 255
    parts = [view for view in all_views(image) if view.offset != (0, 0) and view.pixels.max() == 255]
    assert parts
    for view in parts:
        rows, columns = (view.pixels[..., 0] > 128).nonzero()
        corners = np.array([[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]])
        assert view.in_picture(corners).ravel() == pytest.approx([3100, 2200, 3140, 2240], abs=1.5)
        cut = np.array([[50, 50, 90, 90], [0, 50, 90, 90], [50, 50, view.pixels.shape[1], 90]], float)
        left, right = view.offset[0] > 0, view.offset[0] + view.pixels.shape[1] < view.size[0]
        assert view.cuts(cut).tolist() == [False, left, right]


def test_yunet_landmarks_are_the_persons_own_right_eye_first(yunet_detector):
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


def turned_portrait(quarters) -> np.ndarray:
    """The sample portrait turned clockwise."""
    return np.ascontiguousarray(np.rot90(read_image(sample_picture()), -quarters))


@pytest.mark.parametrize("quarters", range(4))
@pytest.mark.parametrize("name", ["yunet", "haar"])
def test_faces_are_found_in_any_orientation(name, quarters):
    detect, size = load_detector(name), len(read_image(sample_picture()))
    (upright,) = detect(turned_portrait(0))
    (face,) = find_in_any_orientation(detect, turned_portrait(quarters))
    x1, y1, x2, y2 = upright.box.to_list()
    corners = [(x1, y1, x2, y2), (size - y2, x1, size - y1, x2), (size - x2, size - y2, size - x1, size - y1)]
    expected = [*corners, (y1, size - x2, y2, size - x1)][quarters]
    assert face.box.to_list() == pytest.approx(expected, abs=10)
    assert ((face.roll or 0) - 90 * quarters + 180) % 360 - 180 == pytest.approx(0, abs=5)


def test_a_face_on_its_head_is_not_taken_for_an_upright_one(yunet_detector):
    """Which the network does: it scores such faces above its limit, and puts the eyes where the mouth is."""
    portrait = turned_portrait(2)
    assert len(yunet.find_faces(yunet_detector._network, portrait, yunet_detector.min_score)) == 1
    (face,) = yunet_detector(portrait)
    assert abs(face.roll) > 170
    assert face.landmarks[2][1] < face.landmarks[0][1]  # the nose above the eyes


def test_a_picture_that_is_one_face_is_not_turned():
    assert find_in_any_orientation(load_detector("none"), turned_portrait(1)) == [Face(Box(0, 0, 512, 512), 1.0)]


@pytest.mark.parametrize("score", [0.5, 0.9])
def test_faces_of_several_searches_are_one_by_the_best_of_them(score):
    """And two faces that overlap in one search stay two."""
    crowd = [Face(Box(10, 10, 30, 40), 0.8), Face(Box(18, 10, 38, 40), 0.7)]
    lying = iter([crowd, [Face(Box(10, 12, 40, 30), score)], [], []])
    found = find_in_any_orientation(lambda image: next(lying), np.zeros((60, 50, 3), np.uint8))
    alone = Face(Box(20, 10, 38, 40), score, roll=90)
    assert found == (crowd if score < 0.7 else [alone])


@pytest.mark.shared
def test_turned_scenes_hold_the_same_faces(shared, yunet_detector):
    for name, count, image in scenes(shared):
        small = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        if len(yunet_detector(small)) == count:
            assert len(find_in_any_orientation(yunet_detector, np.ascontiguousarray(np.rot90(small)))) == count, name
