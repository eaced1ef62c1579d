"""The page in a real browser, with a camera that plays a clip made of the sample portrait."""

import base64
import io
import re

import cv2
import numpy as np
import PIL.Image
import pytest

from ferkit.labels import EMOTIONS
from ferkit.models import sample_picture
from ferkit.models.classifier import EmotionClassifier
from ferkit.recognizer import EmotionRecognizer
from ferkit.results import Box, Face, FaceEmotion
from ferkit.serve.settings import Limits, Settings
from ferkit.video.follower import TrackedFace
from web import HEIGHT, WIDTH, NobodyHidden, in_the_middle, labels, picture, running, scene, until

PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def server():
    """With a packaged model that hesitates over the sample portrait, so that covering a place shows."""
    with running(recognizer=EmotionRecognizer("fer2013", detector="haar", threads=1)) as started:
        yield started


def test_two_people_on_the_camera_have_two_numbers_and_smile(open_page, server):
    page = open_page(server)
    page.click("#start-button")
    page.wait_for_selector(".person[data-track='2']")
    page.wait_for_selector("#status[data-state='live']")
    assert labels(page) == {"1": "happy", "2": "happy"}
    page.wait_for_selector("#timeline .row:nth-child(2) canvas")
    assert page.eval_on_selector("#video", "video => [video.videoWidth, video.videoHeight]") == [WIDTH, HEIGHT]
    page.wait_for_selector("#spoken >> text=Person 2: happy", state="attached")

    # A second later they are the same two.
    played = "document.getElementById('video').currentTime"
    until(page, f"{played} > {page.evaluate(played)} + 1")
    assert set(labels(page)) == {"1", "2"}

    sharp, blurred = (saved(page, key) for key in ("", "b"))
    assert sharp.size == blurred.size == (WIDTH, HEIGHT)
    assert page.get_attribute("#blur-button", "aria-pressed") == "true"
    assert detail(sharp) > 4 * detail(blurred)

    # Unplugged: the page says so, and works again.
    page.evaluate("document.getElementById('video').srcObject.getTracks()[0].dispatchEvent(new Event('ended'))")
    page.wait_for_selector("text=The camera was unplugged")
    page.click("#message-retry")
    page.wait_for_selector(".person[data-track='1']")


def saved(page, key: str) -> PIL.Image.Image:
    if key:
        page.keyboard.press(key)
    with page.expect_download() as download:
        page.keyboard.press("s")
    assert download.value.suggested_filename.endswith(".png")
    with open(download.value.path(), "rb") as file:  # noqa: PTH123
        return PIL.Image.open(io.BytesIO(file.read())).convert("L")


def detail(image: PIL.Image.Image) -> float:
    """How much happens from pixel to pixel in the middle of the left face, wherever it has moved."""
    eyes = np.asarray(image, np.float32)[94:139, 107:159]
    return float(np.abs(cv2.Laplacian(eyes, cv2.CV_32F)).mean())


GIVE = """([kind, data]) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([Uint8Array.from(atob(data), one => one.charCodeAt(0))], 'x.jpg', {type: 'image/jpeg'}));
    const init = {bubbles: true, cancelable: true};
    document.dispatchEvent(kind === 'drop' ? new DragEvent('drop', {...init, dataTransfer: transfer})
        : new ClipboardEvent('paste', {...init, clipboardData: transfer}));
}"""


def test_pictures_are_uploaded_dropped_and_pasted(open_page, server):
    page = open_page(server, camera=False)
    night = {"name": "night.jpg", "mimeType": "image/jpeg", "buffer": picture(0)}
    smile = {"name": "smile.jpg", "mimeType": "image/jpeg", "buffer": sample_picture().read_bytes()}
    page.set_input_files("#files", [smile, night])
    page.wait_for_selector(".person[data-track='1']")
    assert labels(page) == {"1": "happy"}
    assert page.inner_text("#status-text") == "1 face"
    page.focus(".thumb[aria-current='true']")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("text=No face found in this image.")
    assert labels(page) == {}
    page.keyboard.press("b")
    small = "all => all.map(one => getComputedStyle(one).filter.startsWith('blur'))"
    assert page.eval_on_selector_all(".thumb img", small) == [True, True]

    for kind in ("drop", "paste"):
        page.set_input_files("#files", [{"name": "a.txt", "mimeType": "text/plain", "buffer": b"words"}])
        page.wait_for_selector("text=That file is not an image or video")
        page.evaluate(GIVE, [kind, base64.b64encode(picture(0)).decode()])
        page.wait_for_selector("text=No face found in this image.")


def test_a_slider_sets_the_sensitivity_of_pictures_and_streams(open_page, server):
    page = open_page(server, camera=False)
    assert not page.is_visible("#sensitivity-control")  # fer2013 has none
    with running(recognizer=EmotionRecognizer("default", detector=in_the_middle, threads=1)) as sensitive:
        page = open_page(sensitive)
        assert page.input_value("#sensitivity") == f"{sensitive_default():g}"
        smile = {"name": "smile.jpg", "mimeType": "image/jpeg", "buffer": sample_picture().read_bytes()}
        page.set_input_files("#files", [smile])
        page.wait_for_selector(".person[data-track='1']")
        with page.expect_response("**/v1/predict?sensitivity=1") as response:
            page.fill("#sensitivity", "1")
        assert response.value.status == 200
        with page.expect_websocket(lambda stream: stream.url.endswith("/v1/stream?sensitivity=1")):
            page.click("#camera-button")
        page.wait_for_selector("#status[data-state='live']")
        with page.expect_websocket(lambda stream: stream.url.endswith("/v1/stream?sensitivity=0.2")):
            page.fill("#sensitivity", "0.2")
        page.wait_for_selector("#status[data-state='live']")


def sensitive_default() -> float:
    return EmotionClassifier.load("default").sensitivity


def test_why_shows_the_places_that_count_until_something_else_is_looked_at(open_page, server):
    page = open_page(server, camera=False, viewport=PHONE)
    smile = {"name": "smile.jpg", "mimeType": "image/jpeg", "buffer": sample_picture().read_bytes()}
    night = {"name": "night.jpg", "mimeType": "image/jpeg", "buffer": picture(0)}
    page.set_input_files("#files", [smile, night])
    page.wait_for_selector(".person[data-track='1']")
    without = saved(page, "")
    page.click(".why-button")
    page.wait_for_selector(".why >> text=Covering the brightest place takes")
    assert "This frame alone" not in page.inner_text(".why")
    assert page.get_attribute(".why-button", "aria-expanded") == "true"
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert changed(without, saved(page, "")) > 0
    # A face from near: something is drawn on it, unless faces are to be blurred.
    drawn = (
        "(canvas) => new Set(new Uint32Array(canvas.getContext('2d').getImageData(0, 0, 200, 200).data.buffer)).size"
    )
    assert page.eval_on_selector(".why canvas", drawn) > 1000
    filtered = "canvas => getComputedStyle(canvas).filter"
    page.keyboard.press("b")
    assert page.eval_on_selector(".why canvas", filtered).startswith("blur")
    page.keyboard.press("b")
    assert page.eval_on_selector(".why canvas", filtered) == "none"

    page.click(".why-button")
    until(page, "document.querySelector('.why').hidden")
    assert changed(without, saved(page, "")) == 0
    page.click(".why-button")
    page.wait_for_selector(".why-legend")
    page.focus(".thumb[aria-current='true']")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("text=No face found in this image.")
    assert page.query_selector(".why") is None


def changed(before: PIL.Image.Image, after: PIL.Image.Image) -> int:
    """Pixels that two saved frames do not share."""
    return int((np.abs(np.asarray(before, int) - np.asarray(after, int)) > 8).sum())


def test_why_stops_the_camera_and_lets_it_go_on(open_page, server):
    page = open_page(server)
    page.click("#start-button")
    page.wait_for_selector(".person[data-track='2']")
    page.click(".person[data-track='2'] .why-button")
    page.wait_for_selector(".person[data-track='2'] .why-legend")
    assert page.evaluate("document.getElementById('video').paused")
    page.click(".person[data-track='2'] .why-button")
    until(page, "!document.getElementById('video').paused")
    assert page.query_selector(".why:not([hidden])") is None


class MissesAll(NobodyHidden):
    """Finds a face in its first frame, and only knows later where it must be."""

    place = Box(300, 30, 420, 190)  # on the left of what the page shows, which is a mirror

    def __init__(self):
        self.missing = False

    def __call__(self, image, time_s):
        missed, self.missing = self.missing, True
        emotion = FaceEmotion.from_probabilities(Face(self.place, 0.5), EMOTIONS, np.eye(7)[3])
        return [] if missed else [TrackedFace(1, emotion, dict(emotion.probabilities))]

    def hidden(self, time_s):
        return (self.place,)


def test_a_missed_face_stays_blurred(open_page):
    with running(follower=lambda recognizer: MissesAll()) as started:
        page = open_page(started)
        page.click("#start-button")
        page.wait_for_selector(".person[data-track='1'][data-gone='true']")
        page.wait_for_timeout(500)  # longer than a face that is gone is still drawn
        sharp, blurred = (saved(page, key) for key in ("", "b"))
        assert detail(sharp) > 4 * detail(blurred)
        page.close()  # before the server: else it complains of a lost connection


class DisgustInTheMiddle(NobodyHidden):
    """What follows faces and remembers: it says what no frame alone shows."""

    def __call__(self, image, time_s):
        (face,) = in_the_middle(image)
        emotion = FaceEmotion.from_probabilities(face, EMOTIONS, np.eye(7)[1])
        return [TrackedFace(1, emotion, dict(emotion.probabilities))]


def test_why_says_what_the_frame_alone_shows_where_the_bars_say_otherwise(open_page):
    with running(follower=lambda recognizer: DisgustInTheMiddle()) as started:
        page = open_page(started)
        page.click("#start-button")
        page.wait_for_selector(".person[data-track='1']")
        page.click(".why-button")
        page.wait_for_selector(".why-legend")
        assert labels(page) == {"1": "disgust"}
        assert re.search(r"This frame alone: (?!disgust)\w+\.", page.inner_text(".why"))
        page.close()  # before the server: else it complains of a lost connection


def test_a_video_is_played_here_and_its_frames_are_looked_at(open_page, server, tmp_path):
    av = pytest.importorskip("av")
    clip = tmp_path / "clip.mp4"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for step in range(20):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(scene(step), format="rgb24")))
        container.mux(stream.encode())
    page = open_page(server, camera=False)
    if not page.evaluate("document.createElement('video').canPlayType('video/mp4; codecs=\"avc1.42E01E\"')"):
        pytest.skip("this browser plays no H.264")
    page.set_input_files("#files", str(clip))
    page.wait_for_selector(".person[data-track='2']")
    assert set(labels(page).values()) == {"happy"}


@pytest.mark.parametrize(
    ("script", "says"),
    [
        pytest.param(None, "The camera is not allowed", id="not-allowed"),
        pytest.param("Object.defineProperty(window, 'isSecureContext', {value: false})", "No camera on this address", id="http"),
        pytest.param(
            "MediaDevices.prototype.getUserMedia = () => Promise.reject(new DOMException('', 'NotFoundError'))",
            "No camera found",
            id="none",
        ),
    ],
)  # fmt: skip
def test_without_a_camera_the_page_says_what_to_do(open_page, quick, script, says):
    page = open_page(quick, camera=False, script=script, viewport=PHONE)
    page.keyboard.press("c")
    page.wait_for_selector(f"text={says}")
    assert page.is_visible("#message-choose")
    assert page.is_visible("#message-retry") == ("address" not in says)


class OneFace(NobodyHidden):
    def __call__(self, image, time_s):
        emotion = FaceEmotion.from_probabilities(Face(Box(9, 9, 99, 99), 0.5), EMOTIONS, np.eye(7)[3])
        return [TrackedFace(1, emotion, dict(emotion.probabilities))]


@pytest.fixture(scope="module")
def quick():
    with running(follower=lambda recognizer: OneFace()) as started:
        yield started


def test_it_fits_a_phone_works_by_keyboard_and_changes_its_colours(open_page, quick):
    page = open_page(quick, viewport=PHONE, color_scheme="dark", reduced_motion="reduce")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert "not what a person feels" in page.inner_text("footer")
    background = "getComputedStyle(document.documentElement).backgroundColor"
    dark = page.evaluate(background)
    for theme in ("dark", "light"):
        page.click("#theme-button")
        assert page.get_attribute("html", "data-theme") == theme
    assert page.evaluate(background) != dark
    page.reload()
    assert page.get_attribute("html", "data-theme") == "light"

    page.keyboard.press("m")
    page.wait_for_selector("#card[open] h2 >> text=Intended and prohibited use")
    page.keyboard.press("Escape")
    assert page.query_selector("#card[open]") is None
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"

    page.keyboard.press("c")
    page.wait_for_selector(".person[data-track='1']")
    page.fill(".person-name", "Ada")
    page.wait_for_selector(".row span >> text=Ada")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    # Bars change several times a second: read out, they would drown everything else.
    assert page.query_selector(".bars .number") is not None
    assert page.query_selector(".bars :is(output, [aria-live], [role=status])") is None


def test_the_page_comes_back_when_the_server_does(open_page):
    with running(follower=lambda recognizer: OneFace()) as first:
        port = first.listening.getsockname()[1]
        page = open_page(first, quiet=False)  # a browser complains of connections that are refused
        page.click("#start-button")
        page.wait_for_selector("#status[data-state='live']")
    page.wait_for_selector("#banner >> text=Trying again")
    with running(port=port, follower=lambda recognizer: OneFace()):
        page.wait_for_selector("#status[data-state='live']")
        page.wait_for_selector(".person[data-track='1'][data-gone='false']")


def test_a_stream_that_fell_asleep_wakes_with_the_next_frame(open_page):
    limits = Limits(idle_s=0.2)
    with running(Settings(limits=limits), follower=lambda recognizer: OneFace()) as server:
        page = open_page(server)
        page.click("#start-button")
        page.wait_for_selector(".person[data-track='1']")
        page.evaluate("document.getElementById('video').pause()")
        page.wait_for_selector("#status[data-state='idle']")
        page.evaluate("document.getElementById('video').play()")
        page.wait_for_selector("#status[data-state='live']")
        page.wait_for_selector(".person[data-track='1']")
        page.close()  # before the server: else it complains of a lost connection


ANSWERS = """async () => {
    const [seen, sent] = [[], []];
    class Told extends EventTarget { static OPEN = 1; readyState = 1; send(data) { sent.push(data); } close() {} }
    const {LiveStream} = await import(new URL('static/stream.js', document.baseURI));
    window.WebSocket = Told;
    const stream = new LiveStream({onAnswer: (answer) => seen.push(answer.frame), onState: () => {}});
    stream.open();
    const answer = (frame) => stream.socket.dispatchEvent(
        new MessageEvent('message', {data: JSON.stringify({type: 'faces', frame, faces: []})}));
    const before = stream.generation;
    stream.send('one', 0, before);
    stream.send('two', 0, before);
    answer(1);
    stream.reset();
    answer(2);
    stream.send('captured before the jump, encoded after it', 0, before);
    stream.send('three', 0, stream.generation);
    answer(3);
    return [seen, sent];
}"""


def test_what_comes_late_from_before_a_jump_is_neither_shown_nor_sent(open_page, quick):
    seen, sent = open_page(quick, camera=False).evaluate(ANSWERS)
    assert seen == [1, 3]
    assert sent == ["one", "two", '{"type":"reset"}', "three"]


def test_the_page_asks_for_the_key(open_page):
    with running(Settings(api_key="secret +/?"), follower=lambda recognizer: OneFace()) as server:
        page = open_page(server, quiet=False, wait=False)  # a browser complains of the refusal
        page.wait_for_selector("#key[open]")
        for _ in range(3):  # without a key nothing works, so the question stays
            page.keyboard.press("Escape")
        page.wait_for_selector("#key[open]")
        page.fill("#key-input", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("text=did not take that key")
        page.fill("#key-input", "secret +/?")
        page.keyboard.press("Enter")
        page.wait_for_selector("#ghost-bars li")
        page.click("#start-button")
        page.wait_for_selector(".person[data-track='1']")
