"""What tests of the server and its page share: recognition that takes no time, a server on a free port, a scene to play."""

import io
import threading
from contextlib import contextmanager

import cv2
import httpx
import numpy as np
import PIL.Image
import pytest

from ferkit.models import sample_picture
from ferkit.recognizer import EmotionRecognizer
from ferkit.serve.app import create_app
from ferkit.serve.server import WebServer
from ferkit.serve.settings import Settings
from ferkit.sources.images import read_image
from recognition import BrightnessClassifier, face_at

HEADERS = {"host": "127.0.0.1"}
WIDTH, HEIGHT = 480, 270  # of what the camera plays: small, for Haar takes its time
FOUND = 30_000  # ms until a face must be seen: the machine may be busy


def in_the_middle(image):
    """A detector: one face in the middle, none in a dark picture."""
    height, width = image.shape[:2]
    return [face_at(width // 4, height // 4, width * 3 // 4, height * 3 // 4)] if image.max() > 40 else []


def fast_recognizer() -> EmotionRecognizer:
    """White is the last class, neutral."""
    return EmotionRecognizer(BrightnessClassifier(), detector=in_the_middle, threads=1)


class NobodyHidden:
    """Doubles that follow faces and never miss one derive from it."""

    def hidden(self, time_s):
        return ()


def picture(value=255, size=(64, 48), form="JPEG") -> bytes:
    """An encoded picture of one gray."""
    stream = io.BytesIO()
    PIL.Image.fromarray(np.full((size[1], size[0], 3), value, np.uint8)).save(stream, form)
    return stream.getvalue()


def claims(width, height) -> bytes:
    """A PNG of a few bytes that says it is so large: a bomb."""
    import struct
    import zlib

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"0" * 100)) + chunk(b"IEND", b"")


def client_of(settings=None, recognizer=None, address="127.0.0.1", **more) -> httpx.AsyncClient:
    """A client that asks the application directly, without a network."""
    app = create_app(recognizer or fast_recognizer(), settings, **more)
    transport = httpx.ASGITransport(app, client=(address, 1234), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000")


@contextmanager
def running(settings=None, recognizer=None, *, port=0, **more):
    """A real server in a thread, on a free port unless told which; yields it, with its `address`."""
    settings = settings or Settings()
    ready = threading.Event()
    app = create_app(recognizer or fast_recognizer(), settings, **more)
    server = WebServer(app, settings, port=port, on_ready=lambda address: ready.set())
    thread = threading.Thread(target=server.serve_until_stopped)
    thread.start()
    try:
        assert ready.wait(10)
        yield server
    finally:
        server.stop()
        thread.join(10)
        assert not thread.is_alive()


def scene(step: int) -> np.ndarray:
    """The portrait twice, side by side, both slowly moving: RGB uint8 (HEIGHT, WIDTH, 3)."""
    portrait = read_image(sample_picture())[0:300, 90:390]
    person = cv2.resize(portrait, (WIDTH // 2, WIDTH // 2), interpolation=cv2.INTER_AREA)
    canvas = np.full((HEIGHT, WIDTH, 3), (52, 58, 66), np.uint8)
    top = round(15 + 9 * np.sin(step / 30 * 2 * np.pi))
    canvas[top : top + WIDTH // 2, : WIDTH // 2] = canvas[top : top + WIDTH // 2, WIDTH // 2 :] = person
    return canvas


def until(page, expression: str) -> None:
    """Playwright's own way evaluates words, which the page's content policy forbids."""
    for _ in range(FOUND // 50):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never true: {expression}")


def labels(page) -> dict[str, str]:
    found = page.eval_on_selector_all(
        ".person[data-track]", "all => all.map(one => [one.dataset.track, one.querySelector('.label').textContent])"
    )
    return dict(found)
