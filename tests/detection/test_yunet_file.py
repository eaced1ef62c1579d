"""Getting YuNet's weights, against servers of our own on the loopback; no test leaves this machine."""

import hashlib
import http.server
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from ferkit._support.files import cache_folder
from ferkit.detection import detectors as auto
from ferkit.detection import yunet_file
from ferkit.detection.detectors import DETECTORS, AutoDetector, Downloads, load_detector
from ferkit.errors import MissingDependencyError

BODY = bytes(range(256)) * 900


class Handler(http.server.BaseHTTPRequestHandler):
    """`/right`, `/wrong`, `/gone`; `/slow` sends half and then waits until the test opens `server.gate`."""

    def do_GET(self):
        self.server.seen.append(self.path)
        if self.path == "/gone":
            self.send_error(404)
            return
        body = BODY[::-1] if self.path == "/wrong" else BODY
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(body[: len(body) // 2])
            if self.path == "/slow":
                self.server.gate.wait(30)
            self.wfile.write(body[len(body) // 2 :])

    def log_message(self, *details):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.seen, running.gate = [], threading.Event()
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.gate.set()
        running.shutdown()


@pytest.fixture
def online(server, monkeypatch):
    """The network is there, and the mirrors are those paths of the server: `online("gone", "right")`."""
    monkeypatch.delenv("FERKIT_OFFLINE")
    monkeypatch.delenv("FERKIT_YUNET", raising=False)
    monkeypatch.setattr(yunet_file, "SHA256", hashlib.sha256(BODY).hexdigest())
    monkeypatch.setattr(yunet_file, "SIZE", len(BODY))

    def choose(*paths):
        urls = tuple(f"http://127.0.0.1:{server.server_address[1]}/{path}" for path in paths)
        monkeypatch.setattr(yunet_file, "URLS", urls)
        return urls

    choose("right")
    return choose


def weights():
    return cache_folder() / "models" / yunet_file.NAME


def test_it_is_downloaded_once_with_progress(online, server):
    told = []
    yunet_file.download(lambda url, done, total: told.append((url, done, total)))
    yunet_file.download()
    assert weights().read_bytes() == BODY
    assert server.seen == ["/right"]
    assert told[-1] == (yunet_file.URLS[0], len(BODY), len(BODY))
    assert yunet_file.find() == (weights(), None)


def test_the_next_mirror_is_asked(online, server):
    online("gone", "wrong", "right")
    yunet_file.download()
    assert weights().read_bytes() == BODY
    assert server.seen == ["/gone", "/wrong", "/right"]


def test_what_no_mirror_has_is_one_line(online):
    urls = online("gone", "wrong")
    with pytest.raises(MissingDependencyError, match="--detector haar") as caught:
        load_detector("yunet")
    assert all(url in str(caught.value) for url in urls)
    assert "\n" not in str(caught.value)
    assert not weights().exists()


def test_a_wrong_file_is_said_and_replaced(online, caplog):
    weights().parent.mkdir(parents=True)
    weights().write_bytes(b"half a download")
    yunet_file.download()
    assert weights().read_bytes() == BODY
    assert "has not the checksum" in caplog.text


def test_offline_touches_no_network(online, server, monkeypatch):
    monkeypatch.setenv("FERKIT_OFFLINE", "1")
    for wrong in (False, True):
        if wrong:
            weights().parent.mkdir(parents=True)
            weights().write_bytes(b"half a download")
        assert "FERKIT_OFFLINE is set" in DETECTORS["yunet"].problem()
        with pytest.raises(MissingDependencyError, match="checksum" if wrong else "no face_detection") as caught:
            load_detector("yunet")
        said = str(caught.value)
        assert f"FERKIT_OFFLINE is set. Unset FERKIT_OFFLINE to have it downloaded, put {yunet_file.NAME} into" in said
        assert said.endswith("name it in FERKIT_YUNET, or use --detector haar.")
        assert load_detector("auto").name == "haar"
        assert yunet_file.download_note() is None
    assert server.seen == []
    assert weights().read_bytes() == b"half a download"


def test_a_file_of_the_users_own_is_never_replaced(online, server, monkeypatch, tmp_path):
    monkeypatch.setenv("FERKIT_YUNET", str(tmp_path / "gone.onnx"))
    with pytest.raises(
        MissingDependencyError, match=r"gone\.onnx, where no file is\. Name .*, unset FERKIT_YUNET .*haar"
    ):
        load_detector("yunet")
    (tmp_path / "gone.onnx").write_bytes(b"something else")
    with pytest.raises(MissingDependencyError, match="no YuNet network"):
        load_detector("yunet")
    assert server.seen == []


def test_listing_detectors_downloads_nothing(online, server):
    notes = {name: one.download_note() for name, one in DETECTORS.items() if isinstance(one, Downloads)}
    assert notes == dict.fromkeys(("auto", "yunet"), "downloads 0.2 MB on first use")
    assert not any(detector.problem() for detector in DETECTORS.values())
    assert server.seen == []
    yunet_file.download()
    assert yunet_file.download_note() is None


def test_auto_downloads(online, server):
    AutoDetector.download()
    assert weights().read_bytes() == BODY
    assert server.seen == ["/right"]


def test_auto_gives_up_soon_and_does_not_try_again_within_the_hour(online, server, monkeypatch):
    monkeypatch.setattr(yunet_file, "_SHORT_SECONDS", 0.3)
    online("slow")
    began = time.monotonic()
    detector = load_detector("auto")
    assert time.monotonic() - began < 2
    assert detector.name == "haar"
    assert "was not here after 0.3 seconds" in detector.reason
    began = time.monotonic()
    assert load_detector("auto").name == "haar"
    assert time.monotonic() - began < 0.3
    assert server.seen == ["/slow"]
    marker = weights().with_name(f"{yunet_file.NAME}.failed.txt")
    os.utime(marker, (time.time() - 3601,) * 2)
    monkeypatch.setattr(yunet_file, "_SHORT_SECONDS", 30)
    online("gone")
    assert "no such file" in load_detector("auto").reason
    assert server.seen == ["/slow", "/gone"]


def test_auto_works_where_nothing_can_be_written(online, monkeypatch):
    online("gone")
    monkeypatch.setenv("FERKIT_CACHE", "/dev/null/cache")
    assert load_detector("auto").name == "haar"


def test_a_late_download_is_there_for_the_next_start(online, server, monkeypatch):
    monkeypatch.setattr(yunet_file, "_SHORT_SECONDS", 0.1)
    online("slow")
    told = []
    AutoDetector.download(lambda *state: told.append(state))
    before = len(told)
    server.gate.set()
    deadline = time.monotonic() + 10
    while not weights().exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert weights().read_bytes() == BODY
    assert len(told) == before  # nobody looks at the progress any more


def test_auto_says_once_what_it_took(caplog, monkeypatch):
    monkeypatch.delenv("FERKIT_YUNET", raising=False)
    auto._say_once.cache_clear()
    with caplog.at_level(logging.INFO, "ferkit"):
        for _ in range(3):
            load_detector("auto")
    (said,) = caplog.messages
    assert said.startswith("Faces are found by the haar detector: no face_detection_yunet")


SCRIPT = """
import hashlib, sys
from ferkit.detection import yunet_file
yunet_file.SHA256, yunet_file.SIZE, yunet_file.URLS = sys.argv[1], int(sys.argv[2]), (sys.argv[3],)
print("ready", flush=True)
sys.stdin.readline()
yunet_file.download(lambda url, done, total: print(done, flush=True))
print("done", yunet_file.find()[1])
"""


def start(url):
    options = [hashlib.sha256(BODY).hexdigest(), str(len(BODY)), url]
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


def go(process):
    process.stdin.write("\n")
    process.stdin.flush()


def test_two_processes_at_once_both_end_well(online, server):
    (url,) = online("slow")
    both = [start(url), start(url)]
    for process in both:
        go(process)
    for process in both:
        assert int(process.stdout.readline()) < len(BODY)  # both are in the middle of it
    server.gate.set()
    for process in both:
        assert process.communicate(timeout=60)[0].splitlines()[-1] == "done None"
    assert server.seen == ["/slow", "/slow"]
    assert weights().read_bytes() == BODY
    assert [path.name for path in weights().parent.iterdir()] == [yunet_file.NAME]


def test_killed_in_mid_download_leaves_nothing_that_is_used(online, server):
    (url,) = online("slow")
    process = start(url)
    go(process)
    assert int(process.stdout.readline()) < len(BODY)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    server.gate.set()
    assert not weights().exists()
    assert yunet_file.find()[1]
    online("right")
    yunet_file.download()
    assert weights().read_bytes() == BODY
