"""What tests of the server share: recognition that takes no time, and a server on a free port."""

import io
import threading
from contextlib import contextmanager

import httpx
import numpy as np
import PIL.Image

from ferkit.recognizer import EmotionRecognizer
from ferkit.serve.app import create_app
from ferkit.serve.server import WebServer
from ferkit.serve.settings import Settings
from recognition import BrightnessClassifier, face_at

HEADERS = {"host": "127.0.0.1"}


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
