"""The page and the package that run without a server: what they answer in a browser is what Python answers.

Needs ONNX Runtime's package for browsers: `npm ci` in web.
"""

import base64
import functools
import http.server
import importlib.util
import io
import json
import re
import threading
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import PIL.Image
import pytest

from ferkit.detection import crops, views, yunet
from ferkit.models import sample_picture
from ferkit.models.model_folder import find
from ferkit.recognizer import EmotionRecognizer
from ferkit.results import Box
from ferkit.serve.app import STATIC
from ferkit.sources.images import read_image
from ferkit.video import follower, tracking
from ferkit.video.tracking import FaceTracker, Smoother
from web import FOUND, labels, until

ROOT = Path(__file__).parents[2]
WEB = ROOT / "web"


@pytest.fixture(scope="module")
def build_web():
    spec = importlib.util.spec_from_file_location("build_web", ROOT / "tools" / "build_web.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site(build_web, tmp_path_factory):
    """The page in a folder that is served as files; `address` is where."""
    if not build_web.RUNTIME.is_dir():
        pytest.skip("run npm ci in web")
    folder = build_web.build_page(tmp_path_factory.mktemp("site") / "try")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield SimpleNamespace(address=f"http://127.0.0.1:{server.server_port}/")
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def in_browser(browser, site):
    """Calls an async JavaScript function, in a page that offers `module(name)` of the package and its recognizer."""
    page = browser.new_page()
    page.set_default_timeout(2 * FOUND)
    page.goto(site.address)
    page.evaluate(
        """async () => {
            window.module = (name) => import(`./static/recognizer/${name}.js`);
            const runtime = await import("./static/runtime/ort.wasm.bundle.min.mjs");
            const { createRecognizer } = await module("recognizer");
            window.recognizer = await createRecognizer({
                runtime, model: "static/models/emotions.onnx", detector: "static/models/yunet.onnx" });
            window.bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
        }"""
    )
    yield page.evaluate
    page.close()


@pytest.fixture(scope="module")
def python():
    return EmotionRecognizer("default-int8", threads=1)


def encoded(image: np.ndarray, form: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    PIL.Image.fromarray(image).save(stream, form, **options)
    return stream.getvalue()


def recognised(in_browser, data: bytes, options: dict | None = None) -> dict:
    script = "async ([data, options]) => recognizer.recognize(new Blob([bytes(data)]), options)"
    return in_browser(script, [base64.b64encode(data).decode(), options or {}])


def check_same(found: dict, expected) -> None:
    """Boxes within a pixel, landmarks within a tenth, probabilities within 0.02."""
    assert (found["width"], found["height"]) == (expected.width, expected.height)
    assert len(found["faces"]) == len(expected)
    for one, other in zip(found["faces"], expected, strict=True):
        np.testing.assert_allclose(one["box"], other.box.to_list(), atol=1)
        np.testing.assert_allclose(one["landmarks"], other.landmarks, atol=0.1)
        np.testing.assert_allclose(
            [one["roll"], one["detection_score"]], [other.roll, other.detection_score], atol=0.01
        )
        assert list(one["probabilities"]) == list(other.probabilities)
        np.testing.assert_allclose(list(one["probabilities"].values()), list(other.probabilities.values()), atol=0.02)
        assert one["label"] == max(one["probabilities"], key=one["probabilities"].get)


def leaning(degrees: float) -> np.ndarray:
    portrait = read_image(sample_picture())
    matrix = cv2.getRotationMatrix2D((225, 120), -degrees, 1)
    return cv2.warpAffine(portrait, matrix, portrait.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)


def wide() -> np.ndarray:
    """Larger than what is searched at once: parts, and smaller copies."""
    canvas = np.full((900, 2600, 3), 90, np.uint8)
    portrait = read_image(sample_picture())
    canvas[:512, :512] = portrait
    canvas[600:800, 2300:2500] = cv2.resize(portrait, (200, 200), interpolation=cv2.INTER_AREA)
    return canvas


@pytest.mark.parametrize(
    ("make", "faces"),
    [
        pytest.param(lambda: sample_picture().read_bytes(), 1, id="as it is"),
        pytest.param(lambda: encoded(leaning(20)), 1, id="leaning"),
        pytest.param(lambda: encoded(np.rot90(read_image(sample_picture()), 2)), 1, id="on its head"),
        pytest.param(lambda: encoded(cv2.resize(read_image(sample_picture()), (210, 210))), 1, id="enlarged"),
        pytest.param(lambda: encoded(wide()), 2, id="in parts"),
        pytest.param(lambda: encoded(read_image(sample_picture())[62:174, 180:269].copy()), None, id="cut before"),
        pytest.param(
            lambda: encoded(read_image(sample_picture()), "JPEG", exif=turned_exif()), None, id="turned by EXIF"
        ),
        pytest.param(lambda: encoded(np.full((40, 60, 3), 120, np.uint8)), 0, id="no face"),
    ],
)
def test_the_browser_answers_as_python_does(make, faces, in_browser, python):
    data = make()
    expected = python(data)
    assert faces is None or len(expected) == faces
    check_same(recognised(in_browser, data), expected)


def turned_exif() -> bytes:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


@pytest.mark.slow
def test_the_browser_answers_as_python_does_on_scenes(shared, in_browser, python):
    scenes = [path for path in sorted((shared / "scenes").iterdir()) if path.suffix in (".jpg", ".png")]
    assert len(scenes) > 5
    for path in scenes:
        data = path.read_bytes()
        check_same(recognised(in_browser, data), python(data))


def test_other_models_answer_as_in_python(in_browser):
    """Their cards are inside the file; this one knows no sensitivity."""
    data = sample_picture().read_bytes()
    model = base64.b64encode(find("fer2013-int8").read_bytes()).decode()
    found, refused = in_browser(
        """async ([model, data]) => {
            const runtime = await import("./static/runtime/ort.wasm.bundle.min.mjs");
            const { createRecognizer } = await module("recognizer");
            const other = await createRecognizer({ runtime, model: bytes(model), detector: "static/models/yunet.onnx" });
            const image = new Blob([bytes(data)]);
            const found = await other.recognize(image);
            const refused = await other.recognize(image, { sensitivity: 0.5 }).catch(String);
            await other.close();
            return [found, refused];
        }""",
        [model, base64.b64encode(data).decode()],
    )
    check_same(found, EmotionRecognizer("fer2013-int8", threads=1)(data))
    assert "no sensitivity" in refused


@pytest.mark.parametrize("sensitivity", [0.0, 1.0])
def test_sensitivity_is_that_of_python(sensitivity, in_browser, python):
    data = encoded(cv2.GaussianBlur(read_image(sample_picture()), (0, 0), 3))  # so that it hesitates
    usual, expected = python(data), python.with_sensitivity(sensitivity)(data)
    assert usual[0].probabilities != expected[0].probabilities
    check_same(recognised(in_browser, data, {"sensitivity": sensitivity}), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"sensitivity": 2}, "A sensitivity is a number from 0 to 1. Received: 2.", id="sensitivity"),
        pytest.param({}, "The file cannot be read as an image", id="no image"),
    ],
)
def test_errors_say_what_came(options, message, in_browser):
    script = """async ([data, options]) => recognizer.recognize(new Blob([bytes(data)]), options).catch(String)"""
    data = encoded(np.zeros((8, 8, 3), np.uint8)) if options else b"nothing"
    assert message in in_browser(script, [base64.b64encode(data).decode(), options])


def test_pixels_are_those_of_opencv(in_browser, rng):
    """Resizing, gray and warping: here to the last bit but for cubic; builds of OpenCV differ by a level now and then."""
    image = rng.integers(0, 256, (61, 83, 3), np.uint8)
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    matrix = np.array([[0.62, -0.31, 20.3], [0.31, 0.62, -7.7]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    # Name, arguments, what OpenCV makes of the gray picture.
    steps = [
        ("resize", [40, 30, "area"], cv2.resize(gray, (40, 30), interpolation=cv2.INTER_AREA)),
        ("resize", [83, 20, "area"], cv2.resize(gray, (83, 20), interpolation=cv2.INTER_AREA)),
        ("resize", [60, 50, "linear"], cv2.resize(gray, (60, 50), interpolation=cv2.INTER_LINEAR)),
        ("resize", [120, 95, "linear"], cv2.resize(gray, (120, 95), interpolation=cv2.INTER_LINEAR)),
        ("resize", [190, 150, "cubic"], cv2.resize(gray, (190, 150), interpolation=cv2.INTER_CUBIC)),
        ("warp", [matrix.tolist(), 48, 48], cv2.warpAffine(gray, matrix, (48, 48), flags=flags, borderMode=cv2.BORDER_REPLICATE)),
        ("turned", [1], cv2.rotate(gray, cv2.ROTATE_90_COUNTERCLOCKWISE)),
    ]  # fmt: skip
    made = in_browser(
        """async ([data, width, height, steps]) => {
            const pixels = await module("pixels");
            const gray = pixels.gray({ data: bytes(data), width, height, channels: 4 });
            return [Array.from(gray.data), ...steps.map(([name, values]) => Array.from(pixels[name](gray, ...values).data))];
        }""",
        [
            base64.b64encode(np.dstack([image, np.full(image.shape[:2], 255, np.uint8)]).tobytes()).decode(),
            *gray.shape[::-1],
            [step[:2] for step in steps],
        ],
    )
    for one, expected in zip(made, [gray, *(step[2] for step in steps)], strict=True):
        difference = np.abs(np.array(one, int) - expected.reshape(-1))
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.001


def test_people_keep_the_numbers_that_python_gives(in_browser, rng):
    """Three people who walk, jitter, vanish and come back."""
    places, speeds = rng.uniform(80, 500, (3, 2)), rng.uniform(-60, 60, (3, 2))
    frames = []
    for step in range(120):
        here = [k for k in range(3) if (step // 17 + k) % 4]  # gone for two thirds of a second, now and then
        middles = places + speeds * step * 0.04 + rng.normal(0, 1.5, (3, 2))
        boxes = [Box.inside((x - 30, y - 40, x + 30, y + 40), 1280, 720) for x, y in middles[here]]
        frames.append((step * 0.04, [box.to_list() for box in boxes if box], rng.dirichlet(np.ones(7)).tolist()))
    tracker, smoother = FaceTracker(), Smoother(0.3)
    expected = [
        (tracker.update([Box(*box) for box in boxes], time_s), smoother.update(1, time_s, np.array(row)).tolist())
        for time_s, boxes, row in frames
    ]
    found = in_browser(
        """async (frames) => {
            const { FaceTracker, Smoother } = await module("follow");
            const [tracker, smoother] = [new FaceTracker(), new Smoother(0.3)];
            return frames.map(([time, boxes, row]) => [tracker.update(boxes, time), smoother.update(1, time, row)]);
        }""",
        frames,
    )
    assert len({number for numbers, _ in expected for number in numbers}) >= 3
    assert [numbers for numbers, _ in found] == [numbers for numbers, _ in expected]
    np.testing.assert_allclose([row for _, row in found], [row for _, row in expected])


def test_the_page_runs_on_the_camera_and_then_without_a_network(open_page, site):
    page = open_page(site)
    assert "no frame leaves this device" in page.inner_text(".privacy")
    page.click("#start-button")
    page.wait_for_selector(".person[data-track='2']", timeout=2 * FOUND)
    page.wait_for_selector("#status[data-state='live']")
    assert labels(page) == {"1": "happy", "2": "happy"}
    page.wait_for_selector("#timeline .row:nth-child(2) canvas")
    assert page.is_hidden(".why-button")

    page.context.set_offline(True)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    before = page.evaluate("document.getElementById('video').currentTime")
    until(page, f"document.getElementById('video').currentTime > {before} + 1")
    assert set(labels(page)) == {"1", "2"}
    page.set_input_files("#files", str(sample_picture()))
    until(page, "document.getElementById('status-text').textContent === '1 face'")
    page.wait_for_selector(".person[data-track='1']")
    assert labels(page) == {"1": "happy"}
    assert not [url for url in asked if not url.startswith(("blob:", "data:"))]


def test_both_engines_offer_the_same_names():
    """The page takes either."""
    server = re.findall(r"export \{([^}]*)\}", (STATIC / "engine.js").read_text())
    local = re.findall(
        r"^export (?:async )?(?:function|class|const) (\w+)", (WEB / "page" / "engine.js").read_text(), re.M
    )
    assert sorted(", ".join(server).replace(" ", "").split(",")) == sorted(local)
    methods = [
        set(re.findall(r"^  (?:get |async )?(\w+)\(.*\{", path.read_text(), re.MULTILINE))
        for path in (STATIC / "stream.js", WEB / "page" / "engine.js")
    ]
    assert methods[0] <= methods[1]


def test_constants_are_those_of_python():
    """Where no browser is, this still says that one side was changed alone."""
    given = {}
    for path in (WEB / "src").glob("*.js"):
        for names in re.findall(r"^const ([A-Z_]+ = .+);$", path.read_text(), re.MULTILINE):
            for name, value in re.findall(r"([A-Z_]+) = ([\d._]+)", names):
                given[path.stem, name] = float(value.replace("_", ""))
    modules = {"yunet": [yunet, views], "cut": [crops], "follow": [tracking, follower]}
    twins = {
        (stem, name): next(
            float(vars(module)[twin]) for module in modules[stem] for twin in (f"_{name}", name) if twin in vars(module)
        )
        for stem, name in given
        if any(twin in vars(module) for module in modules.get(stem, ()) for twin in (f"_{name}", name))
    }
    detector = yunet.YunetDetector
    twins |= {("yunet", name): getattr(detector, name.lower()) for name in ("MIN_SCORE", "SURE_SCORE", "CLEARLY")}
    assert len(twins) > 30
    assert twins == {key: given[key] for key in twins}


def test_the_lock_file_has_hashes_and_names_no_registry():
    lock = json.loads((WEB / "package-lock.json").read_text())
    packages = [one for name, one in lock["packages"].items() if name]
    assert all(one["integrity"].startswith("sha512-") and "resolved" not in one for one in packages)
    wanted = json.loads((WEB / "package.json").read_text())["dependencies"]
    assert wanted == lock["packages"][""]["dependencies"]
    assert all(re.fullmatch(r"[\d.]+", version) for version in wanted.values())


def test_the_package_has_the_version_of_ferkit():
    import ferkit

    assert json.loads((WEB / "package.json").read_text())["version"] == ferkit.__version__
