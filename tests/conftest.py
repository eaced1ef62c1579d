"""What tests share: where the development data lies, and small faces made on the spot."""

import csv
import http.server
import os
import sys
import threading
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from faces import face_set

# Busy machines are slow now and then; a hang fails by the time-out in pyproject.toml.
hypothesis.settings.register_profile("ferkit", deadline=None)
hypothesis.settings.load_profile("ferkit")


def pytest_collection_modifyitems(items):
    if os.environ.get("FERKIT_SLOW_TESTS") != "1":
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow; set FERKIT_SLOW_TESTS=1"))


@pytest.fixture(scope="session")
def shared() -> Path:
    folder = Path(os.environ.get("FERKIT_SHARED") or Path(__file__).parents[1] / ".." / "shared").resolve()
    if not (folder / "data").is_dir():
        pytest.skip(f"no development data at {folder}; set FERKIT_SHARED")
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Tests neither read nor fill the user's cache, and never touch the network."""
    monkeypatch.setenv("FERKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("FERKIT_OFFLINE", "1")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def no_serving_copy(monkeypatch):
    """Runs leave model.onnx out, as where TensorFlow is missing: for tests that look at something else, in half the time."""
    from ferkit.errors import ModelError
    from ferkit.models import exporting as export

    def refuse(*_):
        raise ModelError("left out by the test")

    monkeypatch.setattr(export, "to_onnx", refuse)


@pytest.fixture(scope="session")
def table(tmp_path_factory) -> Path:
    """A FER-2013 CSV of 56 faces."""
    path = tmp_path_factory.mktemp("data") / "fer2013.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["emotion", "pixels", "Usage"])
        for n, seed, usage in ((35, 1, "Training"), (21, 2, "PublicTest")):
            faces = face_set(n, seed, usage)
            for image, label in zip(faces.images, faces.labels, strict=True):
                writer.writerow([label, " ".join(map(str, image.ravel())), usage])
    return path


@pytest.fixture
def run_ferkit(monkeypatch, capsys):
    """Run a command in this process as the console script does: exit code, standard output, standard error."""
    from ferkit.cli import app, console

    monkeypatch.setattr(console, "leave", sys.exit)  # which would end the tests
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["ferkit", *map(str, words)])
        try:
            console.run(app)
            code = 0
        except SystemExit as leaving:
            code = leaving.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def stub_model(monkeypatch):
    """Commands load this classifier in place of every model, or of a dict the one of that name."""
    from ferkit.models import EmotionClassifier

    def stub(model):
        monkeypatch.setattr(
            EmotionClassifier, "load", lambda name, **_: model[name] if isinstance(model, dict) else model
        )

    return stub


@pytest.fixture
def file_server(monkeypatch):
    """A server of the bytes in `files`, by path; an int is the status that it answers instead."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            found = server.files.get(self.path, 404)
            body = found if isinstance(found, bytes) else b""
            self.send_response(200 if body else found)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    monkeypatch.delenv("FERKIT_OFFLINE")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.url = {}, f"http://127.0.0.1:{server.server_address[1]}"
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    serving.start()
    yield server
    server.shutdown()
    serving.join()
    server.server_close()
