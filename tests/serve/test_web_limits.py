"""What one client can hold of a server: memory, connections, places in the queue, time. Others must not notice."""

import asyncio
import base64
import json
import logging
import resource
import socket
import threading
import time
from contextlib import AsyncExitStack, ExitStack, suppress
from types import SimpleNamespace

import httpx
import pytest
import websockets
from websockets.exceptions import ConnectionClosed

from ferkit.recognizer import EmotionRecognizer
from ferkit.serve import requests, server, stream
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


def test_work_of_one_client_does_not_hold_up_another(held, monkeypatch):
    """Neither the places in the queue nor the turns belong to who came first."""
    monkeypatch.setattr(server, "usable_cores", lambda: 1)
    dark, settings = picture(0), Settings(limits=Limits(queue=3))

    async def go():
        async with client_of(settings, held) as crowd:
            app = crowd._transport.app
            other = httpx.AsyncClient(
                transport=httpx.ASGITransport(app, client=("10.0.0.2", 1)), base_url="http://127.0.0.1:8000"
            )
            busy = [asyncio.ensure_future(crowd.post("/v1/predict", files={"a": dark})) for _ in range(4)]
            while app.state.workers.taken < 4:
                await asyncio.sleep(0.01)
            assert (await crowd.post("/v1/predict", files={"a": WHITE})).status_code == 503
            good = asyncio.ensure_future(other.post("/v1/predict", files={"a": WHITE}))
            done, _ = await asyncio.wait(busy, timeout=5, return_when=asyncio.FIRST_COMPLETED)
            assert [(one.result().status_code, one.result().json()["error"]["code"]) for one in done] == [(503, "busy")]
            order = []
            for name, one in (("good", good), *(("busy", one) for one in busy[1:-1])):
                one.add_done_callback(lambda _, name=name: order.append(name))
            held.let_go.set()
            statuses = [(await one).status_code for one in (*busy[:-1], good)]
            await other.aclose()
            return statuses, order, app.state.workers

    statuses, order, workers = asyncio.run(go())
    assert statuses == [200] * 4
    assert order.index("good") <= 1  # the crowd had its first turn before
    assert (workers.taken, workers._pictures.turns._free) == (0, 1)


def test_a_turn_that_nobody_waits_for_any_more_is_passed_on():
    async def go():
        turns = server._Turns(1)
        first = turns.of("a")
        await first.__aenter__()

        async def wait(client):
            async with turns.of(client):
                return client

        given_up, second, third = (asyncio.ensure_future(wait(client)) for client in "abb")
        await asyncio.sleep(0)
        await first.__aexit__(None, None, None)  # its turn comes, and it is given up before it is taken
        given_up.cancel()
        third.cancel()
        return await asyncio.wait_for(second, 1), given_up.cancelled() or given_up.exception(), turns

    got, _, turns = asyncio.run(go())
    assert (got, turns._free, turns._waiting) == ("b", 1, {})


def test_a_client_with_many_streams_loses_one_to_a_client_with_none(monkeypatch):
    names = iter(("a", "a", "a", "b", "b"))
    monkeypatch.setattr(stream, "network_of", lambda client: next(names))

    async def go(one):
        address = one.address.replace("http", "ws") + "v1/stream"
        async with AsyncExitStack() as opened:
            own = [await opened.enter_async_context(websockets.connect(address, proxy=None)) for _ in range(2)]
            for connection in own:
                await connection.recv()
            await own[0].send(WHITE)  # so the other one is the silent one
            await own[0].recv()
            refused = await opened.enter_async_context(websockets.connect(address, proxy=None))
            assert json.loads(await refused.recv())["code"] == "too_many_streams"
            other = await opened.enter_async_context(websockets.connect(address, proxy=None))
            assert json.loads(await other.recv())["type"] == "hello"
            with pytest.raises(ConnectionClosed) as ended:
                await own[1].recv()
            second = await opened.enter_async_context(websockets.connect(address, proxy=None))
            return ended.value.rcvd.code, json.loads(await second.recv())["code"]

    with running(Settings(limits=Limits(streams=2))) as one:
        assert asyncio.run(asyncio.wait_for(go(one), 10)) == (1013, "too_many_streams")


def test_a_body_in_tiny_chunks_is_refused_and_one_in_small_ones_is_not(monkeypatch):
    """Twenty megabytes of them kept the event loop busy for minutes."""
    monkeypatch.setattr(server._Parts, "burst", 2000.0)
    head = HEAD.replace(b"Content-Length: %d", b"Transfer-Encoding: chunked")
    with running() as one, connect(one) as raw:
        raw.sendall(head + b"1\r\nx\r\n" * 2500)
        got = b""
        with suppress(ConnectionError):
            while piece := raw.recv(4096):
                got += piece
        assert got.startswith(b"HTTP/1.1 400 ")
        assert b"too many small chunks" in got
    with running() as one, connect(one) as raw:
        pieces = [WHITE[n : n + 64] for n in range(0, len(WHITE), 64)]
        raw.sendall(head + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n")
        assert b" 200 " in raw.recv(4096)


def frame(opcode: int, data: bytes = b"", final: int = 0x80) -> bytes:
    """A message as a client writes it, with a mask of zeros."""
    return bytes([final | opcode, 0x80 | len(data)]) + bytes(4) + data


FLOODS = {
    "pings": frame(9, b"x"),
    "pongs": frame(10),
    "resets": frame(1, b'{"type": "reset"}'),
    "nothing": frame(2),
    "parts-of-a-frame": frame(0, final=0),
}


@pytest.mark.parametrize("unit", FLOODS.values(), ids=FLOODS)
def test_a_flood_of_messages_ends_its_stream(unit, monkeypatch):
    """Eight connections of pings kept `/healthz` waiting for twenty seconds."""
    monkeypatch.setattr(server._Parts, "burst", 2000.0)
    with running() as one, connect(one) as raw:
        raw.sendall(UPGRADE)
        while b"hello" not in raw.recv(4096):
            pass
        begin = frame(2, b"x", final=0) if unit is FLOODS["parts-of-a-frame"] else b""
        with suppress(ConnectionError):
            for _ in range(100):
                raw.sendall(begin + unit * 500)
                begin = b""
            assert closed(raw)
        assert httpx.get(f"{one.address}healthz", timeout=2).status_code == 200


UPGRADE = (
    b"GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff" * 9, b"\x81\x05abcde", frame(1, b"\xff\xfe"), frame(0, b"x"), frame(8, b"x")],
    ids=["half-open", "garbage", "no-mask", "no-text", "a-part-of-nothing", "half-a-code"],
)
@pytest.mark.parametrize("waits", [True, False])
def test_a_stream_that_breaks_its_protocol_leaves_no_traceback(data, waits, caplog):
    with running() as one, connect(one) as raw:
        raw.sendall(UPGRADE)
        if waits:
            while b"hello" not in raw.recv(4096):
                pass
        raw.sendall(data)
        if data and waits:
            assert closed(raw)
    assert [record for record in caplog.records if record.exc_info] == []


def test_what_anyone_can_make_a_server_say_is_said_seldom(caplog):
    with running() as one, caplog.at_level(logging.WARNING):
        for _ in range(20):
            with connect(one) as raw:
                raw.sendall(b"no http\r\n\r\n")
                assert b" 400 " in raw.recv(4096)
    assert [record.getMessage() for record in caplog.records] == ["Invalid HTTP request received."]
