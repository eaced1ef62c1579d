"""What one client can hold of a server: memory, connections, places in the queue, time. Others must not notice."""

import asyncio
import base64
import json
import logging
import resource
import socket
import threading
import time
from contextlib import ExitStack, suppress
from types import SimpleNamespace

import httpx
import pytest
import websockets
from websockets.exceptions import ConnectionClosed

from ferkit.recognizer import EmotionRecognizer
from ferkit.serve import requests, server
from ferkit.serve.requests import Bodies, RequestError
from ferkit.serve.settings import Limits, Settings
from recognition import BrightnessClassifier
from web import client_of, in_the_middle, picture, running

WHITE = picture()
ENCODED = base64.b64encode(WHITE).decode()
HEAD = b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"


def ask(method, path, settings=None, recognizer=None, **request):
    async def go():
        async with client_of(settings, recognizer) as client:
            return await client.request(method, path, **request)

    return asyncio.run(go())


def connect(running_server, *, receive_bytes=None) -> socket.socket:
    raw = socket.socket()
    if receive_bytes is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    raw.settimeout(10)
    raw.connect(running_server.listening.getsockname())
    return raw


def is_well(raw: socket.socket) -> bool:
    raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    got = b""
    while not got.endswith(b"}"):
        got += raw.recv(4096)
    return b" 200 " in got


def closed(raw: socket.socket) -> bool:
    """Whether the server closed it, read to the end; a test that waits too long fails by its time-out."""
    try:
        while raw.recv(1 << 16):
            pass
    except ConnectionResetError:
        return True
    return True


class Held(EmotionRecognizer):
    """Dark pictures take until they are let go, white ones no time."""

    def __init__(self):
        super().__init__(BrightnessClassifier(), detector=in_the_middle, threads=1)
        self.let_go = threading.Event()

    def _find_faces(self, source, order):
        found = super()._find_faces(source, order)
        if not found.faces:
            self.let_go.wait(30)
        return found


@pytest.fixture
def held():
    recognizer = Held()
    yield recognizer
    recognizer.let_go.set()


UNITS = [b"[],", b"[[]],", b"{},", b'{"":0},', b"1e1,", b'"",', b"null,", b" 1, "]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("form", ['{"pictures":[%s0]}', "[%s0]", '{"pictures":["%s'])  # fmt: skip
def test_json_that_is_not_images_is_not_parsed(unit, form, monkeypatch):
    """Parsed, 20 MB of it were 0.7 GB, and nothing else ran meanwhile."""
    monkeypatch.setattr(requests, "json", SimpleNamespace(loads=lambda text: pytest.fail("parsed")))
    body = form.encode() % (unit * (200_000 // len(unit)))
    response = ask("POST", "/v1/predict", content=body, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "bad_body")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_json_is_utf_8(encoding):
    body = json.dumps({"pictures": [ENCODED]}).encode(encoding)
    assert ask("POST", "/v1/predict", content=body, headers={"content-type": "application/json"}).status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(json.dumps({"pictures": [{"name": f"{n}.jpg", "data": ENCODED} for n in range(32)]}, indent=8), id="indented"),
        pytest.param(json.dumps({"pictures": [{"name": '[{"a\\": 1}, 2]' * 5, "data": ENCODED}] * 5}), id="odd-names"),
        pytest.param("\ufeff" + json.dumps({"pictures": [f"data:image/jpeg;base64,{ENCODED}"] * 32}), id="with-a-mark"),
        pytest.param(json.dumps({"pictures": ["\n ".join(ENCODED[n : n + 8] for n in range(0, len(ENCODED), 8))]}), id="base64-with-breaks"),
        pytest.param(json.dumps({"pictures": [ENCODED], "comment": "ü日本" * 9999}, ensure_ascii=False), id="not-ascii"),
    ],
)  # fmt: skip
def test_json_of_images_is_taken_however_it_is_written(body):
    response = ask("POST", "/v1/predict", content=body.encode(), headers={"content-type": "application/json"})
    assert response.status_code == 200
    assert all(one["faces"] for one in response.json())


def test_blanks_in_base64_take_no_memory():
    """A list of all words between them was twenty times as large."""
    assert requests._from_entry("eA=" + " \r\n" * 9 + "=", "a").getvalue() == b"x"


def test_pixels_of_a_request_are_counted_together():
    files = [("a", picture(size=(100, 100))) for _ in range(3)]
    fits, exceeds = Settings(limits=Limits(total_pixels=30_000)), Settings(limits=Limits(total_pixels=29_999))
    assert ask("POST", "/v1/predict", fits, files=files).status_code == 200
    response = ask("POST", "/v1/predict", exceeds, files=files)
    assert (response.status_code, response.json()["error"]["code"]) == (413, "too_many_pixels")


def test_bodies_that_do_not_come_hold_no_place_and_cost_their_client_alone(monkeypatch):
    monkeypatch.setattr(requests, "_STALLED_S", 0.1)
    with running(Settings(limits=Limits(queue=0, bodies=4))) as one, ExitStack() as opened:
        halves = [opened.enter_context(connect(one)) for _ in range(4)]
        for raw in halves:
            raw.sendall(HEAD % 1000 + b"x")
        time.sleep(0.3)
        for _ in range(2):
            good = httpx.post(f"{one.address}v1/predict", content=WHITE, headers={"content-type": "image/jpeg"})
            assert good.status_code == 200
        assert b" 408 " in halves[0].recv(4096)


def test_a_client_that_sends_too_many_bodies_is_told(monkeypatch):
    bodies = Bodies(Limits(bodies=2))

    async def go():
        with ExitStack() as opened:
            for client in ("a", "a", "b"):
                body = opened.enter_context(bodies.begin(client))
                body.timeout = opened.enter_context(Entered(asyncio.timeout(30)))
            with pytest.raises(RequestError, match="at most 2 per client") as refused, bodies.begin("a"):
                pass
            assert (refused.value.status, refused.value.headers["Retry-After"]) == (429, "1")
            with bodies.begin("b"):
                pass
        with bodies.begin("a"), bodies.begin("a"):
            pass

    asyncio.run(go())
    assert not bodies._held


class Entered:
    """Nothing but a time limit that nobody waits for."""

    def __init__(self, timeout):
        self.timeout = timeout

    def __enter__(self):
        return self.timeout

    def __exit__(self, *_):
        return None


def test_memory_of_bodies_is_bounded_for_a_client_and_for_all():
    bodies = Bodies(Limits(body_bytes=100, bodies=99))

    def fill(opened, client):
        """How many bodies of the largest size it gets."""
        got = 0
        with suppress(RequestError):
            while got < 99:
                opened.enter_context(bodies.begin(client)).grow(100)
                got += 1
        return got

    with ExitStack() as opened:
        assert [fill(opened, client) for client in "abc"] == [10, 9, 0]
    assert (bodies._total, bodies._held) == (0, {})
    with ExitStack() as opened:
        assert fill(opened, "a") == 10


def test_answers_that_are_not_read_end_their_connection():
    """Neither answers in the middle, nor those of a connection that is closing, are waited for."""
    with running(Settings(limits=Limits(send_s=0.2, rate=0))) as one, connect(one, receive_bytes=2048) as raw:
        raw.setblocking(False)
        with suppress(BlockingIOError, ConnectionError):
            while True:
                raw.send(b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 100)
        begun = time.monotonic()
        while one.server_state.connections:
            assert time.monotonic() - begun < 5
            time.sleep(0.02)
        assert httpx.get(f"{one.address}healthz").status_code == 200


def test_an_answer_that_is_read_slowly_is_not_cut():
    with running(Settings(limits=Limits(send_s=0.2, rate=0))) as one, connect(one, receive_bytes=2048) as raw:
        request = b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        raw.sendall(request * 7 + request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        got = b""
        while piece := raw.recv(1 << 14):
            got += piece
            time.sleep(0.01)
    assert got.count(b"HTTP/1.1 200") == 8


def test_beyond_the_connections_the_one_that_was_silent_longest_is_closed():
    with running(Settings(limits=Limits(connections=4))) as one, ExitStack() as opened:
        idle = [opened.enter_context(connect(one)) for _ in range(4)]
        for raw in idle[1:] + idle[:1]:  # the first is the last to say something
            assert is_well(raw)
        for _ in range(3):
            assert httpx.get(f"{one.address}healthz", timeout=1).status_code == 200
        assert closed(idle[1])
        assert is_well(idle[0])


def test_the_client_with_the_most_connections_loses_one():
    class Connection:
        def __init__(self, network, touched):
            self.network, self.touched, self.transport = network, touched, self
            self.aborted = False

        def abort(self):
            self.aborted = True

    quiet, *crowd = [Connection("a", 0), *(Connection("b", n) for n in (3, 1, 2))]
    left = {quiet, *crowd}
    server._close_beyond(4, left)
    assert left == {quiet, *crowd}
    server._close_beyond(3, left)
    assert left == {quiet, crowd[0], crowd[2]}
    assert [one.aborted for one in (quiet, *crowd)] == [False, False, True, False]


@pytest.mark.parametrize(
    ("allowed", "least", "most"),
    [(resource.RLIM_INFINITY, 1000, 1000), (1_000_000, 1000, 1000), (256, 1, 70), (64, 1, 1)],
)
def test_connections_leave_descriptors_for_all_else(allowed, least, most, monkeypatch):
    monkeypatch.setattr("resource.getrlimit", lambda kind: (allowed, allowed))
    monkeypatch.setattr("os.listdir", lambda path: [""] * 20)
    assert least <= server._room(1000) <= most


def test_work_without_an_end_is_answered_and_others_go_on(held, monkeypatch):
    """More of it than there are threads: those that do not end are replaced."""
    monkeypatch.setattr(server, "usable_cores", lambda: 1)
    dark = picture(0)

    async def go():
        limits = Limits(work_s=0.3)
        async with client_of(Settings(limits=limits), held) as client:
            slow = [await client.post("/v1/predict", files={"a": dark}) for _ in range(3)]
            good = await client.post("/v1/predict", files={"a": WHITE})
            health = await client.get("/healthz")
            workers = client._transport.app.state.workers
            workers._pictures.lost += 9
            return slow, good, health, await client.get("/healthz"), workers

    slow, good, health, late, workers = asyncio.run(go())
    assert [(one.status_code, one.json()["error"]["code"]) for one in slow] == [(503, "too_slow")] * 3
    assert (good.status_code, health.status_code, late.status_code) == (200, 200, 503)
    assert late.json()["error"]["code"] == "stuck"
    assert workers.running
    held.let_go.set()
    for _ in range(100):
        if not workers.running:
            break
        time.sleep(0.02)
    assert (workers.running, workers._pictures.lost) == (False, 9)


def test_a_frame_without_an_end_ends_its_stream():
    let_go = threading.Event()

    class Follow:
        def __call__(self, image, time_s):
            let_go.wait(30)
            return []

    async def go(one):
        async with websockets.connect(one.address.replace("http", "ws") + "v1/stream", proxy=None) as stream:
            await stream.recv()
            await stream.send(WHITE)
            answer = json.loads(await stream.recv())
            with pytest.raises(ConnectionClosed) as ended:
                await stream.recv()
            return answer["code"], ended.value.rcvd.code

    with running(Settings(limits=Limits(work_s=0.3)), follower=lambda recognizer: Follow()) as one:
        assert asyncio.run(asyncio.wait_for(go(one), 10)) == ("too_slow", 1008)
        let_go.set()


def test_a_server_stops_whatever_its_workers_do(held, monkeypatch):
    monkeypatch.setattr(server, "_SHUTDOWN_S", 0.3)
    with running(recognizer=held) as one:
        raw = connect(one)
        raw.sendall(HEAD % len(dark := picture(0)) + dark)
        while not one.app.state.workers.running:
            time.sleep(0.01)
        begun = time.monotonic()
    raw.close()
    assert time.monotonic() - begun < 3


def test_what_anyone_can_make_a_server_say_is_said_seldom(caplog):
    with running() as one, caplog.at_level(logging.WARNING):
        for _ in range(20):
            with connect(one) as raw:
                raw.sendall(b"no http\r\n\r\n")
                assert b" 400 " in raw.recv(4096)
    assert [record.getMessage() for record in caplog.records] == ["Invalid HTTP request received."]
