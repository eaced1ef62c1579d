"""Downloads against servers of our own on the loopback: what works, what is refused, what must not hang."""

import contextlib
import hashlib
import http.server
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ferkit._support import download
from ferkit._support.download import fetch, offline
from ferkit.errors import DownloadError, FerkitError

BODY = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(BODY).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """One path per behaviour; every request is noted in `server.seen`."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.seen.append((self.path, self.headers["User-Agent"]))
        name, _, rest = self.path[1:].partition("?")
        self.close_connection = True
        if hasattr(self, name):
            getattr(self, name)(rest)
        elif name.isdigit():
            self.answer(int(name), b"an explanation")
        else:
            self.answer(200, BODY)

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for key, value in ({"Content_Length": str(len(body))} | headers).items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        with contextlib.suppress(OSError):  # whoever asked may have heard enough
            self.wfile.write(body)

    def chunked(self, _: str) -> None:
        self.answer(200, b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", Content_Length="", Transfer_Encoding="chunked")

    def chunked_and_cut(self, _: str) -> None:
        self.answer(200, b"ff\r\nabc", Content_Length="", Transfer_Encoding="chunked")

    def cut(self, _: str) -> None:
        self.answer(200, b"abc", Content_Length="1000")

    def claims_much(self, _: str) -> None:
        self.answer(200, b"abc", Content_Length="99999999999")

    def endless(self, _: str) -> None:
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(b"x" * 65536)

    def redirects_endlessly(self, _: str) -> None:
        self.send_response(302)
        self.send_header("Location", "/good")
        self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(b"x" * 65536)

    def zipped(self, _: str) -> None:
        self.answer(200, BODY, Content_Encoding="gzip")

    def to(self, target: str) -> None:
        self.answer(302, b"", Location=target)

    def down(self, number: str) -> None:
        left = int(number)
        self.answer(301, b"", Location=f"down?{left - 1}" if left else "/good")

    def silent(self, _: str) -> None:
        time.sleep(3)

    def drip(self, _: str) -> None:
        self.send_response(200)
        self.end_headers()
        self.drop(b"x")

    def drip_headers(self, _: str) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        self.drop(b"x")

    def drop(self, letter: bytes) -> None:
        with contextlib.suppress(OSError):
            for _ in range(100):
                self.wfile.write(letter)
                self.wfile.flush()
                time.sleep(0.05)

    def nonsense(self, _: str) -> None:
        self.wfile.write(b"hello, I am no HTTP\r\n\r\n")

    def hangs_up(self, _: str) -> None:
        pass

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[http.server.ThreadingHTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    server.seen = []
    server.handle_error = lambda *_: None
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.url = f"{'https' if context else 'http'}://localhost:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def server():
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def online(monkeypatch):
    """On the loopback only: every other address would go to a proxy that does not answer."""
    monkeypatch.delenv("FERKIT_OFFLINE")
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")


def refused(url: str, *, limit: int = 10**6, **options: float) -> str:
    """The one line with which an address is refused."""
    started = time.monotonic()
    with pytest.raises(DownloadError) as caught:
        fetch(url, limit=limit, **options)
    assert isinstance(caught.value, FerkitError)
    assert time.monotonic() - started < 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param("good", BODY, id="plain"),
        pytest.param("good#part?x", BODY, id="fragment"),
        pytest.param("drei Bären/ü.png?q=ä b", BODY, id="as in a browser's address bar"),
        pytest.param("chunked", b"abcde", id="chunked"),
        pytest.param("to?good", BODY, id="relative redirect"),
        pytest.param("down?4", BODY, id="five redirects"),
        pytest.param("redirects_endlessly", BODY, id="the body of a redirect is not read"),
        pytest.param("203", b"an explanation", id="another status of success"),
    ],
)
def test_what_is_fetched(server, path, expected):
    assert fetch(f" {server.url}/{path} ", limit=10**6) == expected
    assert all(agent.startswith("ferkit/") for _, agent in server.seen)


def test_letters_go_over_the_wire_quoted_once(server):
    for path in ("/drei Bären.png", "/drei%20B%C3%A4ren.png"):
        fetch(server.url + path, limit=10**6)
    assert {path for path, _ in server.seen} == {"/drei%20B%C3%A4ren.png"}


@pytest.mark.parametrize(
    ("path", "words"),
    [
        pytest.param("404", "the server has no such file (404).", id="not there"),
        pytest.param("403", "the server answered 403 (Forbidden).", id="forbidden"),
        pytest.param("503", "503 (Service Unavailable)", id="server error"),
        pytest.param("299999", "no proper HTTP", id="status of six digits"),
        pytest.param("304", "304 (Not Modified)", id="redirect without a place"),
        pytest.param("endless", "it has more than 1,000,000 bytes.", id="too large, not said before"),
        pytest.param("claims_much", "it has 99,999,999,999 bytes; expected at most 1,000,000.", id="too large, said"),
        pytest.param("cut", "broke after 3 of 1,000 bytes", id="cut off"),
        pytest.param("chunked_and_cut", "the connection broke", id="chunks cut off"),
        pytest.param("zipped", "compressed (gzip)", id="compressed"),
        pytest.param("down?5", "redirected more than 5 times", id="six redirects"),
        pytest.param("to?/to?/to", "redirected more than 5 times", id="circle"),
        pytest.param("to?file:///etc/hosts", "begins with https:// or http://, received file:", id="to a file"),
        pytest.param("to?ftp://localhost/a.png", "received ftp:", id="to ftp"),
        pytest.param("to?data:text/plain,a", "received data:", id="to data"),
        pytest.param("to?http://localhost:bad/", "Port could not be cast", id="to a bad address"),
        pytest.param("nonsense", "no proper HTTP (BadStatusLine)", id="no http"),
        pytest.param("hangs_up", "the connection broke", id="hangs up"),
        pytest.param("silent", "the server was silent for 0.3 seconds", id="silent"),
        pytest.param("drip", "not done after 0.8 seconds", id="dripping body"),
        pytest.param("drip_headers", "not done after 0.8 seconds", id="dripping headers"),
    ],
)
def test_what_is_refused(server, path, words):
    line = refused(f"{server.url}/{path}", timeout=0.3, seconds=0.8)
    assert words in line
    assert line.startswith(f"Cannot fetch {server.url}/{path}: ")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        pytest.param("file:///etc/hosts", "received file:", id="file"),
        pytest.param("ftp://localhost/a.png", "received ftp:", id="ftp"),
        pytest.param("/etc/hosts", "received none:", id="path"),
        pytest.param("", "received none:", id="nothing"),
        pytest.param("http:///a.png", "names no host", id="no host"),
        pytest.param("http://[::1/a.png", "Invalid IPv6 URL", id="open bracket"),
        pytest.param("http://localhost:99999/", "Port out of range 0-65535.", id="large port"),
        pytest.param("http://localhost:x/", "Port could not be cast", id="port in letters"),
        pytest.param("http://a\nb/", "no such host", id="two lines"),
        pytest.param("http://" + "ä" * 80 + ".de/", "no valid address", id="name too long"),
        pytest.param("http://me:secret@localhost/", "user name", id="password"),
        pytest.param("http://localhost/" + "a" * 999, "...: ", id="long"),
    ],
)
def test_addresses_that_cannot_be(url, words, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    assert words in refused(url)


def test_nobody_there(monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert "refused the connection" in refused(f"http://127.0.0.1:{unused.getsockname()[1]}/")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: (_ for _ in ()).throw(socket.gaierror(-2, "Name")))
    assert "no such host, or no network" in refused("http://localhost/")


@pytest.mark.parametrize(("value", "expected"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_offline_never_touches_the_network(server, monkeypatch, value, expected):
    monkeypatch.setenv("FERKIT_OFFLINE", value)
    assert offline() is expected
    if expected:
        assert "FERKIT_OFFLINE is set" in refused(f"{server.url}/good")
        assert not server.seen
    else:
        assert fetch(f"{server.url}/good", limit=10**6) == BODY


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """Certificate of localhost and its key, in one file."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl here to make a certificate")
    path = tmp_path_factory.mktemp("certificate") / "localhost.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    kind = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command = ["openssl", *kind, *names, "-keyout", path, "-out", path.with_suffix(".crt")]
    subprocess.run(command, check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + path.with_suffix(".crt").read_bytes())
    return path


def test_https(server, certificate, monkeypatch):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with serving(context) as secure:
        assert "cannot be trusted (self-signed certificate)" in refused(f"{secure.url}/good")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_suffix(".crt")))
        assert fetch(f"{secure.url}/good", limit=10**6) == BODY
        assert fetch(f"{server.url}/to?{secure.url}/good", limit=10**6) == BODY
        assert "leads away from https" in refused(f"{secure.url}/to?{server.url}/good")
        assert "cannot be trusted" in refused(f"{secure.url.replace('localhost', '127.0.0.1')}/good")
        assert "not done after" in refused(f"{secure.url}/drip", timeout=0.3, seconds=0.5)
    assert "no secure connection" in refused(f"{server.url.replace('http:', 'https:')}/good", timeout=0.5)


def test_a_wait_is_said(monkeypatch, caplog):
    def slow(*_words):
        time.sleep(0.2)
        yield b"done"

    monkeypatch.setenv("FERKIT_OFFLINE", "0")
    monkeypatch.setattr(download, "_answer", slow)
    monkeypatch.setattr(download, "_PATIENCE", 0.01)
    with caplog.at_level("INFO", "ferkit"):
        assert fetch("https://example.org/a", limit=100) == b"done"
    assert caplog.messages == ["Fetching https://example.org/a ..."]
