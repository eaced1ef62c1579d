"""What strangers send to a server: heads without end, bodies of the wrong kind, addresses that it should ask for them."""

import asyncio
import base64
import json
import socket

import httpx
import pytest
import websockets
from websockets.exceptions import ConnectionClosed, InvalidStatus

from ferkit.serve.settings import Limits, Settings
from web import client_of, picture, running

WHITE = picture()
HEAD = b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\n"


def ask(method, path, settings=None, **request):
    async def go():
        async with client_of(settings) as client:
            return await client.request(method, path, **request)

    return asyncio.run(go())


@pytest.fixture(scope="module")
def usual():
    with running() as server:
        yield server


def send(server, *pieces: bytes) -> bytes:
    """What a server answers to these bytes until it closes the connection, or has answered once."""
    with socket.create_connection(server.listening.getsockname(), timeout=10) as raw:
        for piece in pieces:
            try:
                raw.sendall(piece)
            except OSError:  # it is cut off already
                break
        try:
            return raw.recv(1 << 16)
        except OSError:
            return b""


def goes_on(server) -> bool:
    return httpx.post(f"{server.address}v1/predict", files={"a": WHITE}).status_code == 200


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        pytest.param([HEAD + b"X-A: " + b"a" * 200_000], b" 400 ", id="a-header-without-end"),
        pytest.param([HEAD + b"X-A: a\r\n" * 20_000], b" 400 ", id="headers-without-end"),
        pytest.param([b"POST /" + b"a" * 200_000], b" 400 ", id="an-address-without-end"),
        pytest.param([HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"], b" 400 ", id="two-lengths"),
        pytest.param([HEAD + b"Content-Length: -5\r\n\r\n"], b" 400 ", id="a-negative-length"),
        pytest.param([HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"], b" 4", id="two-framings"),
        pytest.param([HEAD + b"Transfer-Encoding: gzip\r\n\r\n"], b" 400 ", id="a-packed-body"),
        pytest.param([HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n"], b" 4", id="a-chunk-of-exabytes"),
        pytest.param([b"\x16\x03\x01\x02\0\x01\0\x01"], b" 400 ", id="tls"),
        pytest.param([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], b" 4", id="http-2"),
        pytest.param([b"GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"], b" 4", id="half-a-websocket"),
    ],
)  # fmt: skip
def test_what_is_no_http_is_refused_and_others_are_served(pieces, status, usual):
    assert status in send(usual, *pieces).split(b"\r\n")[0] + b" "
    assert goes_on(usual)


@pytest.mark.parametrize(
    ("whole", "half"),
    [
        pytest.param(b"", b"", id="nothing"),
        pytest.param(b"", HEAD + b"X-A: ", id="half-a-head"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"GET /hea", id="half-a-second-head"),
    ],
)
def test_a_head_that_does_not_come_is_given_up(whole, half, monkeypatch):
    """Slowloris: connections that send a letter now and then, and keep what a server holds for each."""
    monkeypatch.setattr("ferkit.serve.server._TimedHeadProtocol.head_s", 0.2)
    with running() as server, socket.create_connection(server.listening.getsockname(), timeout=10) as raw:
        if whole:
            raw.sendall(whole)
            assert b" 200 " in receive(raw)
        raw.sendall(half)
        while receive(raw):
            pass


def receive(raw: socket.socket) -> bytes:
    """The next bytes, none once the server has cut the connection; a test that waits too long fails by its time-out."""
    try:
        return raw.recv(1 << 16)
    except ConnectionResetError:
        return b""


def test_a_request_at_work_is_not_cut(monkeypatch):
    """The time for a head ends where the head does: a body has a limit of its own, and so has a stream."""
    monkeypatch.setattr("ferkit.serve.server._TimedHeadProtocol.head_s", 0.1)

    async def go(server):
        host, port = server.listening.getsockname()
        reader, writer = await asyncio.open_connection(host, port)
        body = b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(WHITE)
        writer.write(HEAD + body + WHITE[:50])
        async with websockets.connect(server.address.replace("http", "ws") + "v1/stream", proxy=None) as stream:
            await asyncio.wait_for(stream.recv(), 10)
            await asyncio.sleep(0.4)  # longer than a head may take: nothing else shows that it is not cut
            await stream.send(WHITE)
            answer = json.loads(await asyncio.wait_for(stream.recv(), 10))
        writer.write(WHITE[50:])
        status = await asyncio.wait_for(reader.readline(), 10)
        writer.close()
        return answer["type"], status

    with running() as server:
        kind, status = asyncio.run(go(server))
    assert (kind, status.split()[1]) == ("faces", b"200")


@pytest.mark.parametrize(
    ("kind", "body", "status", "code"),
    [
        pytest.param("application/json", WHITE, 400, "bad_body", id="picture-as-json"),
        pytest.param("image/jpeg", b'{"pictures": []}', 422, "bad_picture", id="json-as-picture"),
        pytest.param("multipart/form-data", b"x", 400, "bad_body", id="form-without-boundary"),
        pytest.param("multipart/form-data; boundary=x; charset=a\0b", b"--x\r\n", 400, "bad_body", id="charset-with-a-null"),
        pytest.param("multipart/form-data; boundary=" + "x" * 9999, b"x", 400, "bad_body", id="boundary-without-end"),
        pytest.param("application/x-www-form-urlencoded", b"a=b", 415, "wrong_type", id="urlencoded"),
        pytest.param("text/html", b"<script>", 415, "wrong_type", id="html"),
        pytest.param("application/python-pickle", b"\x80\x04.", 415, "wrong_type", id="pickle"),
        pytest.param("", b"x", 415, "wrong_type", id="none"),
        pytest.param("IMAGE/svg+xml", b"<svg/>", 422, "bad_picture", id="svg"),
        pytest.param("application/json", b"[" * 19_000, 400, "bad_body", id="deep"),
        pytest.param("application/json", b'{"pictures": ' + b"9" * 9000 + b"}", 400, "bad_body", id="a-long-number"),
        pytest.param("application/json", b'{"pictures": [{"name": ' + b"[" * 900 + b"]" * 900 + b', "data": ""}]}', 422, None, id="a-name-of-lists"),
        pytest.param("application/json", b'{"pictures": [{"name": "\\ud800", "data": "eA=="}]}', 422, "bad_picture", id="a-name-of-half-a-letter"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("route", ["/v1/predict", "/v1/explain"])
def test_the_wrong_kind_of_body(route, kind, body, status, code):
    response = ask("POST", route, content=body, headers={"content-type": kind} if kind else {})
    assert response.status_code == status
    assert code is None or response.json()["error"]["code"] == code
    assert "\n" not in response.json()["error"]["message"]


ADDRESSES = [
    "http://127.0.0.1:8000/v1/model",
    "http://localhost/",
    "http://2130706433/",
    "http://0x7f.1/",
    "http://[::1]/",
    "http://[::ffff:169.254.169.254]/latest/meta-data/",
    "http://169.254.169.254/latest/meta-data/",
    "http://10.0.0.1/a.jpg",
    "http://example.org/redirects-to-loopback.jpg",
    "HTTPS://example.org/a.jpg",
    "file:///etc/passwd",
    "ftp://127.0.0.1/a.jpg",
    "s3://bucket/a.jpg",
    "/etc/passwd",
    "../../etc/passwd",
    "-",
    "*.jpg",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_word_of_a_client_is_ever_opened(address, monkeypatch):
    """Not as data, not as a name: the server opens no address and no file that a client names."""
    opened = []

    def refuse(source, *more, **named):
        opened.append(source)
        raise OSError("opened")

    for where in ("fetch", "_open_object", "_open_path", "_open_stdin", "_open_data_uri"):
        monkeypatch.setattr(f"ferkit.sources.pictures.{where}", refuse)
    monkeypatch.delenv("FERKIT_OFFLINE")
    encoded = base64.b64encode(WHITE).decode()
    for route in ("/v1/predict", "/v1/explain"):
        for body in ({"pictures": [address]}, {"pictures": [{"name": "a", "data": address}]}):
            response = ask("POST", route, json=body)
            assert (response.status_code, response.json()["error"]["code"]) == (422, "bad_picture")
        assert ask("POST", route, content=address, headers={"content-type": "image/jpeg"}).status_code == 422
    # A name may be anything; it names.
    for request in (
        {"json": {"pictures": [{"name": address, "data": encoded}]}},
        {"files": {address: (address, WHITE)}},
    ):
        response = ask("POST", "/v1/predict", **request)
        assert (response.status_code, response.json()[0]["source"]) == (200, address)
    assert not opened


def test_a_frame_that_is_an_address_is_not_opened(usual, monkeypatch):
    monkeypatch.setattr("ferkit.sources.pictures.fetch", lambda *a, **k: pytest.fail("fetched"))

    async def go():
        async with websockets.connect(usual.address.replace("http", "ws") + "v1/stream", proxy=None) as stream:
            await stream.recv()
            await stream.send(b"http://127.0.0.1/a.jpg")
            frame = json.loads(await stream.recv())
            await stream.send("http://127.0.0.1/a.jpg")
            with pytest.raises(ConnectionClosed) as closed:
                await stream.recv()
            return frame["code"], closed.value.rcvd.code

    assert asyncio.run(asyncio.wait_for(go(), 10)) == ("bad_picture", 1003)


def test_a_flood_of_frames_and_of_resets_holds_up_nobody_else(usual):
    """Frames beyond the newest are dropped, and others are served in between."""

    async def go():
        address = usual.address.replace("http", "ws") + "v1/stream"
        async with (
            websockets.connect(address, proxy=None) as stream,
            httpx.AsyncClient(base_url=usual.address) as client,
        ):
            await stream.recv()
            reading = asyncio.create_task(_read(stream))
            for number in range(600):
                await stream.send(WHITE if number % 2 else '{"type": "reset"}')
                if number % 200 == 0:
                    assert (await client.get("healthz", timeout=5)).status_code == 200
            await stream.close()
            return await reading

    answers = asyncio.run(asyncio.wait_for(go(), 60))
    assert answers
    assert all(one["type"] == "faces" for one in answers)
    assert max(one["received"] for one in answers) <= 300


async def _read(stream):
    found = []
    try:
        while True:
            found.append(json.loads(await stream.recv()))
    except ConnectionClosed:
        return found


def test_a_flood_of_connections_is_counted_by_client():
    async def go(server):
        address, statuses = server.address.replace("http", "ws") + "v1/stream", []
        for _ in range(6):
            try:
                async with websockets.connect(address, proxy=None):
                    statuses.append(101)
            except InvalidStatus as refused:
                statuses.append(refused.response.status_code)
        return statuses

    with running(Settings(limits=Limits(rate=0.01, streams=20))) as server:
        assert asyncio.run(go(server)) == [101, *[429] * 5]


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static//etc/passwd",
        "/static/\0",
        "/static/" + "a" * 5000,
        "/static/....//app.py",
        "/static/..\\app.py",
    ],
)
def test_static_files_end_at_their_folder(path, usual):
    with socket.create_connection(usual.listening.getsockname(), timeout=10) as raw:
        raw.sendall(b"GET " + path.encode().replace(b"\0", b"%00") + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert raw.recv(4096).split()[1] == b"404"


@pytest.mark.parametrize("host", ["[::1", "a b", "\xe4", "", "a" * 5000, "[bad]:99999999"])
@pytest.mark.parametrize("path", ["/nothing", "/static", "/v1/predict"])
def test_a_host_that_is_none_on_a_server_for_all(host, path):
    """The framework puts an address together out of this header."""
    settings = Settings(host="0.0.0.0")  # noqa: S104 - nothing listens there
    response = ask("GET", path, settings, headers={"host": host.encode("latin-1")})
    assert response.status_code in (200, 307, 400, 403, 404, 405)


def test_a_request_of_two_lengths_hides_no_other_one():
    """A proxy that goes by the other length takes what follows for somebody else's request."""
    both = b"Host: 127.0.0.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    with running() as one, socket.create_connection(one.listening.getsockname(), timeout=10) as raw:
        raw.sendall(b"POST /v1/predict HTTP/1.1\r\n" + both + b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        got = b""
        while piece := raw.recv(4096):
            got += piece
    assert got.startswith(b"HTTP/1.1 400 ")
    assert (got.count(b"HTTP/1.1"), b"two_lengths" in got) == (1, True)
