"""A browser with a camera that plays a clip, and pages in it that may not complain."""

import shutil
from urllib.parse import urlsplit

import cv2
import pytest

from web import FOUND, scene


@pytest.fixture(scope="module")
def fake_camera(tmp_path_factory):
    """What Chromium plays as the camera: JPEGs one after the other."""
    path = tmp_path_factory.mktemp("camera") / "people.mjpeg"
    with path.open("wb") as file:
        for step in range(30):
            file.write(cv2.imencode(".jpg", scene(step)[..., ::-1])[1].tobytes())
    return path


@pytest.fixture(scope="module")
def browser(fake_camera):
    driver = pytest.importorskip("playwright.sync_api", reason="Playwright drives the browser")
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(names)} is installed")
    flags = (
        "no-sandbox",
        "disable-gpu",
        "use-fake-device-for-media-stream",
        f"use-file-for-fake-video-capture={fake_camera}",
    )
    with driver.sync_playwright() as running_driver:
        started = running_driver.chromium.launch(executable_path=program, args=[f"--{flag}" for flag in flags])
        yield started
        started.close()


@pytest.fixture
def open_page(browser):
    """Opens pages; at the end none of them may have complained or asked another host."""
    complaints, contexts = [], []

    def open_(server, *, camera=True, quiet=True, script=None, wait=True, **options):
        options = {"viewport": {"width": 640, "height": 480}, **options}
        context = browser.new_context(permissions=["camera"] if camera else [], **options)
        contexts.append(context)
        context.set_default_timeout(FOUND)
        page = context.new_page()
        own = urlsplit(server.address).netloc
        page.on("request", lambda one: _own(one.url, own) or complaints.append(f"asked {one.url}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        if quiet:
            page.on("console", lambda one: one.type in ("error", "warning") and complaints.append(one.text))
        if script:
            page.add_init_script(script)
        page.goto(server.address)
        if wait:
            page.wait_for_selector("#ghost-bars li")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []


def _own(url: str, own: str) -> bool:
    return urlsplit(url).netloc == own or url.startswith(("blob:", "data:"))
