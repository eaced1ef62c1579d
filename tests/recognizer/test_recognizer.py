import io
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL.Image
import pytest

from ferkit.detection.detectors import DETECTORS
from ferkit.errors import FerkitError, ImageError, ModelError, UsageError
from ferkit.labels import EMOTIONS
from ferkit.models import sample_picture
from ferkit.recognizer import EmotionRecognizer
from ferkit.results import UNCERTAIN
from recognition import BrightnessClassifier, face_at


def gray(value: int, width: int = 60, height: int = 40) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def test_one_picture():
    recognizer = EmotionRecognizer(BrightnessClassifier(), "none")
    result = recognizer(gray(255))
    assert [face.label for face in result] == ["neutral"]
    assert (result.source, result.width, result.height) == ("array", 60, 40)
    assert np.array_equal(result.pixels, gray(255))
    assert recognizer.classes == EMOTIONS


@pytest.mark.parametrize("channels", [1, 3])
def test_real_picture_and_detector(channels):
    (face,) = EmotionRecognizer(BrightnessClassifier(channels), "haar")(sample_picture())
    assert sum(face.probabilities.values()) == pytest.approx(1)
    assert face.box.width > 80


def test_a_list_keeps_order_and_goes_on_after_errors(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    sources = [gray(0), tmp_path / "broken.jpg", gray(255), "gone.jpg", gray(130)]
    results = EmotionRecognizer(BrightnessClassifier(), "none")(sources)
    assert [[face.label for face in result] for result in results] == [["angry"], [], ["neutral"], [], ["happy"]]
    assert [bool(result.error) for result in results] == [False, True, False, True, False]
    assert results[1].source == str(tmp_path / "broken.jpg")
    assert all(result.pixels is None for result in results)


class Series(list):
    """As pandas and Polars have it: an array, too."""

    def __array__(self, *_, **__):
        raise AssertionError("taken for an array")

    def to_list(self):
        return list(self)


@pytest.mark.parametrize(
    "many",
    [
        pytest.param(lambda one: np.stack([one, one]), id="array of four axes"),
        pytest.param(lambda one: (each for each in [one, one]), id="generator"),
        pytest.param(lambda one: Series([one, one]), id="series"),
    ],
)
def test_many_are_taken_as_they_come(many):
    results = EmotionRecognizer(BrightnessClassifier(), "none")(many(gray(255)))
    assert [[face.label for face in result] for result in results] == [["neutral"], ["neutral"]]


@pytest.mark.parametrize("source", [7, {"a": "photo.jpg"}, None])
def test_what_is_no_picture_is_said_in_one_line(source):
    with pytest.raises(ImageError, match=f"Received: {type(source).__name__}"):
        EmotionRecognizer(BrightnessClassifier(), "none")(source)


def test_channels_of_an_array_have_the_order_that_is_said():
    colored = np.zeros((40, 60, 3), np.uint8)
    colored[..., 0] = 200
    recognizer = EmotionRecognizer(BrightnessClassifier(), "none")
    assert recognizer(colored, order="bgr").pixels[0, 0].tolist() == [0, 0, 200]
    assert recognizer(colored).pixels[0, 0].tolist() == [200, 0, 0]
    (found,) = recognizer.stream(colored, order="bgr", keep_pixels=True)
    assert found.pixels[0, 0].tolist() == [0, 0, 200]
    with pytest.raises(UsageError, match="order must be one of rgb, bgr"):
        recognizer(colored, order="gbr")


def test_swapped_channels_are_noted(caplog):
    portrait = np.asarray(PIL.Image.open(sample_picture()).convert("RGB"))
    recognizer = EmotionRecognizer("fer2013-int8", "haar")
    for _ in range(2):
        (note,) = recognizer(portrait[..., ::-1]).notes
        assert "order='bgr'" in note
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    gray_portrait = np.repeat(portrait[..., :1], 3, axis=2)
    for array, order in ((portrait, "rgb"), (portrait[..., ::-1], "bgr"), (gray_portrait, "rgb")):
        assert recognizer(array, order=order).notes == ()


def test_a_path_may_begin_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "me").mkdir()
    PIL.Image.fromarray(gray(255)).save(tmp_path / "me" / "me.png")
    recognizer = EmotionRecognizer(BrightnessClassifier(), "none")
    assert recognizer("~/me/me.png")[0].label == "neutral"
    assert len(recognizer("~/me")) == len(recognizer("~/me/*.png")) == 1


def test_another_process_has_the_same_recognizer():
    recognizer = EmotionRecognizer("fer2013-int8", tta="flip", min_confidence=0.1, threads=1)
    other = pickle.loads(pickle.dumps(recognizer))  # noqa: S301
    assert other(sample_picture()).to_dict() == recognizer(sample_picture()).to_dict()
    assert other.classifier.name == "fer2013-int8"
    calm = pickle.loads(pickle.dumps(EmotionRecognizer(sensitivity=0.1).classifier))  # noqa: S301
    assert (calm.name, calm.sensitivity) == ("default", 0.1)


def test_one_picture_that_cannot_be_read_raises():
    with pytest.raises(ImageError, match=r"File not found: gone\.jpg"):
        EmotionRecognizer(BrightnessClassifier(), "none")("gone.jpg")


def test_a_folder_and_a_glob_are_many(tmp_path):
    for name, value in (("1.png", 0), ("deep/2.png", 255)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        PIL.Image.fromarray(gray(value)).save(tmp_path / name)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    recognizer = EmotionRecognizer(BrightnessClassifier(), "none")
    assert [[face.label for face in result] for result in recognizer(tmp_path)] == [["angry"], [], ["neutral"]]
    assert [result.source for result in recognizer(f"{tmp_path}/*/*.png")] == [str(tmp_path / "deep" / "2.png")]
    mixed = recognizer([gray(130), str(tmp_path), b"bytes"])
    assert [result.error is None for result in mixed] == [True, True, False, True, False]
    assert len(mixed.to_dicts()) == 5


def test_no_face_is_an_empty_result():
    classifier = BrightnessClassifier()
    result = EmotionRecognizer(classifier, lambda image: [])(gray(9))
    assert (len(result), result.error) == (0, None)
    assert classifier.batches == []


def test_faces_of_many_pictures_share_batches():
    classifier = BrightnessClassifier()
    boxes = [face_at(0, 0, 10, 10), face_at(20, 0, 30, 10), face_at(40, 0, 50, 10)]
    image = gray(0)
    image[:, 20:30], image[:, 40:50] = 130, 255
    results = EmotionRecognizer(classifier, lambda image: boxes)([image] * 50)
    assert all([face.label for face in result] == ["angry", "happy", "neutral"] for result in results)
    assert sum(classifier.batches) == 150
    assert max(classifier.batches) <= 66
    assert len(classifier.batches) <= 3


class Fickle(BrightnessClassifier):
    """Answers differently when it sees another number of faces, as networks do in the last bit."""

    def predict_proba(self, faces):
        answers = super().predict_proba(faces)
        answers[:, 0] += len(faces) / 1000
        return answers / answers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("faces", [0, 1, 3, 5])
def test_a_batch_size_makes_answers_independent_of_what_comes_together(faces, monkeypatch):
    monkeypatch.setattr("ferkit.recognizer._WAITING_SECONDS", 0.0)
    classifier = Fickle()
    recognizer = EmotionRecognizer(classifier, lambda image: [face_at(0, 0, 10, 10)] * faces)
    pictures = [gray(value) for value in (0, 130, 255)]
    together = list(recognizer.stream(pictures, batch_size=4))
    assert set(classifier.batches) <= {4}
    assert len(classifier.batches) == -(-3 * faces // 4)
    assert together == [result for one in pictures for result in recognizer.stream(one, batch_size=4)]
    assert [len(result) for result in together] == [faces] * 3


def test_a_batch_size_must_make_sense():
    with pytest.raises(UsageError, match="batch_size must be at least 1"):
        next(EmotionRecognizer(BrightnessClassifier(), "none").stream([gray(0)], batch_size=0))


def test_stream_is_lazy_and_bounded():
    asked = 0

    def endless():
        nonlocal asked
        while True:
            asked += 1
            yield gray(0)

    stream = EmotionRecognizer(BrightnessClassifier(), "none").stream(endless(), keep_pixels=True)
    assert asked == 0
    for _ in range(100):
        assert next(stream).pixels is not None
    assert asked <= 200


@pytest.mark.parametrize(("threads", "ahead"), [pytest.param(1, 0, id="one"), pytest.param(3, 6, id="three")])
def test_large_pictures_with_pixels_do_not_pile_up(monkeypatch, threads, ahead):
    monkeypatch.setattr("ferkit.recognizer._WAITING_BYTES", 3 * gray(0).nbytes - 1)
    asked = []
    stream = EmotionRecognizer(BrightnessClassifier(), "none", threads=threads).stream(
        (asked.append(1) or gray(0) for _ in range(50)), keep_pixels=True
    )
    next(stream)
    assert 3 <= len(asked) <= 3 + ahead


def test_a_slow_supply_does_not_wait_for_a_full_batch(monkeypatch):
    monkeypatch.setattr("ferkit.recognizer._WAITING_SECONDS", 0.0)
    asked = []
    stream = EmotionRecognizer(BrightnessClassifier(), "none", threads=1).stream(
        asked.append(1) or gray(0) for _ in range(50)
    )
    next(stream)
    assert len(asked) == 1


@pytest.mark.parametrize("threads", [1, 3])
def test_what_was_found_before_a_failure_comes_first(threads):
    def detect(image):
        if image[0, 0, 0] == 255:
            raise RuntimeError("broken detector")
        return []

    def supply():
        yield gray(0)
        yield gray(1)
        raise OSError("camera gone")

    recognizer = EmotionRecognizer(BrightnessClassifier(), detect, threads=threads)
    for sources, error in (([gray(0), gray(1), gray(255), gray(2)], RuntimeError), (supply(), OSError)):
        stream = recognizer.stream(sources)
        assert [len(next(stream)), len(next(stream))] == [0, 0]
        with pytest.raises(error):
            next(stream)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_failure_of_the_detector_may_cost_its_picture_alone(threads):
    def detect(image):
        if image[0, 0, 0] == 1:
            raise RuntimeError("broken\ndetector")
        if image[0, 0, 0] == 3:
            raise UsageError("not for this picture alone")
        return []

    stream = EmotionRecognizer(BrightnessClassifier(), detect, threads=threads).stream(
        [gray(0), gray(1), gray(2), gray(3)], report_failures=True
    )
    errors = [next(stream).error for _ in range(3)]
    assert errors == [None, "Cannot read array: it was decoded, and then RuntimeError: broken detector.", None]
    with pytest.raises(UsageError, match="not for this picture alone"):
        next(stream)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_camera_may_fill_one_array_again_and_again(threads):
    frame = gray(0)

    def camera():
        for value in (0, 130, 255):
            frame[:] = value
            yield frame

    recognizer = EmotionRecognizer(BrightnessClassifier(), "none", threads=threads)
    results = list(recognizer.stream(camera(), keep_pixels=True))
    assert [result[0].label for result in results] == ["angry", "happy", "neutral"]
    assert [result.pixels[0, 0, 0] for result in results] == [0, 130, 255]


@pytest.mark.parametrize("single", [gray(0), b"bytes", "gone.jpg", io.BytesIO(b"file")])
def test_a_single_source_can_be_streamed(single):
    assert len(list(EmotionRecognizer(BrightnessClassifier(), "none").stream(single))) == 1


def test_detection_runs_on_several_threads_each_with_its_own_detector():
    together = threading.Barrier(3, timeout=20)
    users: dict[int, set[int]] = {}

    @DETECTORS.register("test-barrier")
    class Waiting:
        """Returns only when three threads are in it at once."""

        def __call__(self, image, /):
            users.setdefault(id(self), set()).add(threading.get_ident())
            together.wait()
            return []

    try:
        EmotionRecognizer(BrightnessClassifier(), "test-barrier", threads=3)([gray(0)] * 6)
    finally:
        DETECTORS._choices.pop("test-barrier")
    assert len(users) == 3


def test_a_callable_is_used_by_one_thread_at_a_time():
    inside = []

    def mine(image):
        inside.append(1)
        time.sleep(0.01)
        assert len(inside) == 1
        inside.pop()
        return []

    assert len(EmotionRecognizer(BrightnessClassifier(), mine, threads=3)([gray(0)] * 9)) == 9


def test_threads_may_share_a_recognizer():
    recognizer = EmotionRecognizer(BrightnessClassifier(), "haar")
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(recognizer, [str(sample_picture())] * 8))
    assert {len(result) for result in results} == {1}
    assert len({result[0].box for result in results}) == 1


@pytest.mark.parametrize(
    ("min_confidence", "label"), [pytest.param(0.5, "angry", id="sure"), pytest.param(0.8, UNCERTAIN, id="not sure")]
)
def test_min_confidence(min_confidence, label):
    (face,) = EmotionRecognizer(BrightnessClassifier(), "none", min_confidence=min_confidence)(gray(0))
    assert (face.label, round(face.confidence, 3)) == (label, 0.7)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        pytest.param({"min_confidence": 1.5}, UsageError, id="confidence above 1"),
        pytest.param({"min_confidence": float("nan")}, UsageError, id="confidence NaN"),
        pytest.param({"detector": "yunit"}, UsageError, id="unknown detector"),
        pytest.param({"threads": 0}, UsageError, id="no threads"),
        pytest.param({"model": "no/such/model", "detector": "none"}, ModelError, id="no model"),
    ],
)
def test_refuses(arguments, error):
    with pytest.raises(error):
        EmotionRecognizer(**{"model": BrightnessClassifier(), **arguments})


@pytest.mark.parametrize(
    "found",
    [
        pytest.param([(0, 0, 5, 5)], id="plain boxes"),
        pytest.param(None, id="None"),
        pytest.param([face_at(0, 0, 500, 500)], id="outside the picture"),
    ],
)
def test_a_detector_that_breaks_its_contract_is_named(found):
    with pytest.raises(FerkitError, match="detector"):
        EmotionRecognizer(BrightnessClassifier(), lambda image: found)(gray(0))
