"""examples/browser in a real browser: the exported model answers there as it does in Python.

Needs ONNX Runtime's package for browsers: `npm install` in examples/browser.
"""

import functools
import http.server
import shutil
import threading
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from ferkit.labels import EMOTIONS
from ferkit.models.exporting import export
from ferkit.models.samples import sample_picture
from ferkit.sources.images import read_image

EXAMPLE = Path(__file__).parents[2] / "examples" / "browser"
FACE = (165, 57, 285, 177)  # in the sample portrait: x1 y1 x2 y2


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def site(tmp_path):
    """The example as a reader has it, on a free port: its files, the package, the model."""
    if not (EXAMPLE / "node_modules").is_dir():
        pytest.skip("run npm install in examples/browser")
    (tmp_path / "site").mkdir()
    for name in ("index.html", "page.js", "emotions.js"):
        shutil.copyfile(EXAMPLE / name, tmp_path / "site" / name)
    (tmp_path / "site" / "node_modules").symlink_to(EXAMPLE / "node_modules")
    export("default", tmp_path / "site" / "emotions.onnx", "onnx")
    session = onnxruntime.InferenceSession(tmp_path / "site" / "emotions.onnx")
    (tmp_path / "site" / "emotions.json").write_text(session.get_modelmeta().custom_metadata_map["ferkit"])
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path / "site"))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", session
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
@pytest.mark.keras
def test_the_browser_answers_as_python_does(site):
    pytest.importorskip("keras")
    driver = pytest.importorskip("playwright.sync_api", reason="Playwright drives the browser")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no browser is installed")
    address, session = site
    x1, y1, x2, y2 = FACE
    with (
        driver.sync_playwright() as running,
        running.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"]) as browser,
    ):
        page = browser.new_page(viewport={"width": 700, "height": 1100})
        problems, asked = [], []
        page.on("pageerror", lambda problem: problems.append(str(problem)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        page.get_by_text("Choose a picture.", exact=True).wait_for(timeout=60_000)
        page.set_input_files("input", str(sample_picture()))
        page.get_by_text("Draw a square around a face.").wait_for()
        corner = page.locator("canvas").bounding_box()
        page.mouse.move(corner["x"] + x1, corner["y"] + y1)
        page.mouse.down()
        page.mouse.move(corner["x"] + x2, corner["y"] + y2, steps=3)
        page.mouse.up()
        page.locator("tr").first.wait_for(timeout=60_000)
        rows = page.locator("tr").evaluate_all(
            "rows => rows.map(row => [row.dataset.emotion, row.dataset.probability])"
        )
    assert not problems
    assert all(one.startswith((address, "data:", "blob:")) for one in asked)

    face = read_image(sample_picture())[y1:y2, x1:x2]
    expected = session.run(None, {"faces": face[None]})[0][0]
    seen = {name: float(probability) for name, probability in rows}
    assert next(iter(seen)) == "happy"  # the most probable comes first
    np.testing.assert_allclose([seen[name] for name in EMOTIONS], expected, atol=1e-4)
