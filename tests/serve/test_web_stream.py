"""Live frames by WebSocket, over real connections."""

import asyncio
import base64
import json
import socket
import threading

import numpy as np
import pytest
import websockets
from websockets.exceptions import ConnectionClosed, InvalidStatus

from ferkit.labels import EMOTIONS
from ferkit.results import Box, Face, FaceEmotion
from ferkit.serve.settings import Limits, Settings
from ferkit.video.follower import FaceFollower, TrackedFace
from web import NobodyHidden, claims, picture, running

FRAME = picture(255)


class Follower(NobodyHidden):
    """Finds one face in everything, and counts what it is shown; `gate` holds it up."""

    def __init__(self, gate=None, seen=None):
        self.gate, self.seen, self.calls = gate, seen, 0

    def __call__(self, image, time_s):
        self.calls += 1
        if self.seen is not None:
            self.seen.release()
        if self.gate is not None:
            assert self.gate.wait(10)
        values = np.eye(7)[6]
        emotion = FaceEmotion.from_probabilities(Face(Box(1, 1, 9, 9), 0.5), EMOTIONS, values)
        return [TrackedFace(self.calls, emotion, dict(emotion.probabilities))]


def socket_of(server, path="v1/stream", **more):
    return websockets.connect(server.address.replace("http", "ws") + path, proxy=None, **more)


async def receive(connection):
    return json.loads(await asyncio.wait_for(connection.recv(), 10))


async def close_of(connection):
    """The code and reason with which the server ends a connection."""
    while True:
        try:
            await asyncio.wait_for(connection.recv(), 10)
        except ConnectionClosed as closed:
            return closed.rcvd.code, closed.rcvd.reason


@pytest.fixture(scope="module")
def usual():
    """A server as it comes, for the tests that need no other."""
    with running(follower=lambda recognizer: Follower()) as server:
        yield server


def stream(test, server, **more):
    """Run `test(connection, server)` with an open stream that has said hello."""

    async def go():
        async with socket_of(server, **more) as connection:
            assert (await receive(connection))["type"] == "hello"
            return await test(connection, server)

    return asyncio.run(go())


def stream_of(test, limits, make=lambda recognizer: Follower(), **more):
    """The same on a server of its own."""
    with running(Settings(limits=Limits(**limits)), follower=make) as server:
        return stream(test, server, **more)


def test_hello_says_what_may_be_sent():
    async def test(server):
        async with socket_of(server, subprotocols=["ferkit.v1"]) as connection:
            return await receive(connection), connection.subprotocol

    with running(Settings(limits=Limits(frame_bytes=123_456)), follower=lambda recognizer: Follower()) as server:
        hello, chosen = asyncio.run(test(server))
    assert chosen == "ferkit.v1"
    assert hello["classes"] == list(EMOTIONS)
    assert hello["frame_bytes"] == 123_456


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_a_frame_is_answered(form, usual):
    async def test(connection, server):
        await connection.send(picture(255, (64, 48), form))
        return await receive(connection)

    answer = stream(test, usual)
    assert {name: answer[name] for name in ("type", "frame", "received", "dropped", "width", "height")} == {
        "type": "faces", "frame": 1, "received": 1, "dropped": 0, "width": 64, "height": 48,
    }  # fmt: skip
    (face,) = answer["faces"]
    assert (face["track"], face["label"], face["box"]) == (1, "neutral", [1, 1, 9, 9])
    assert face["raw"]["neutral"] == 1
    assert answer["worked_ms"] >= 0


def test_a_face_that_is_missed_for_a_moment_is_where_it_must_be_hidden():
    async def test(connection, server):
        answers = []
        for value in (255, 0):  # in a dark frame the detector sees none
            await connection.send(picture(value))
            answers.append(await receive(connection))
        return [([face["track"] for face in one["faces"]], one["hidden"]) for one in answers]

    assert stream_of(test, {}, FaceFollower) == [([1], []), ([], [[16, 12, 48, 36]])]


def test_the_newest_frame_wins_and_answers_say_whose_they_are():
    gate, seen = threading.Event(), threading.Semaphore(0)

    async def test(connection, server):
        await connection.send(FRAME)
        await asyncio.to_thread(seen.acquire)  # the first one is at work
        for _ in range(9):
            await connection.send(FRAME)
        # An answer to a ping: the nine were read before it.
        await (await connection.ping())
        while server.app.state.metrics.frames.labels("dropped")._value.get() < 8:
            await asyncio.sleep(0.01)
        gate.set()
        return [await receive(connection), await receive(connection)]

    first, second = stream_of(test, {}, lambda recognizer: Follower(gate, seen))
    assert (first["frame"], second["frame"]) == (1, 10)
    assert (second["received"], second["dropped"]) == (10, 8)


def test_reset_starts_anew(usual):
    async def test(connection, server):
        tracks = []
        for message in (FRAME, FRAME, '{"type": "reset"}', FRAME):
            await connection.send(message)
            if isinstance(message, bytes):
                tracks.append((await receive(connection))["faces"][0]["track"])
        return tracks

    assert stream(test, usual) == [1, 2, 1]


def test_a_frame_from_before_a_reset_is_none_of_those_after():
    gate, seen = threading.Event(), threading.Semaphore(0)

    async def test(connection, server):
        await connection.send(FRAME)
        await asyncio.to_thread(seen.acquire)
        await connection.send(FRAME)  # waits until the first one is done
        await connection.send('{"type": "reset"}')
        await (await connection.ping())
        gate.set()
        before = [(await receive(connection))["faces"][0]["track"] for _ in range(2)]
        await connection.send(FRAME)
        return [*before, (await receive(connection))["faces"][0]["track"]]

    assert stream_of(test, {}, lambda recognizer: Follower(gate, seen)) == [1, 2, 1]


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        pytest.param(b"garbage", "bad_picture", id="garbage"),
        pytest.param(b"", "bad_picture", id="empty"),
        pytest.param(picture(255, (640, 480))[:300], "bad_picture", id="cut-off"),
        pytest.param(picture(255, form="PNG"), "bad_picture", id="png"),
        pytest.param(picture(255, (2000, 1100)), "picture_too_large", id="many-pixels"),
        pytest.param(claims(60_000, 60_000), "bad_picture", id="bomb"),
    ],
)
def test_a_frame_that_cannot_be_read_is_told_and_the_stream_goes_on(frame, code, usual):
    async def test(connection, server):
        await connection.send(frame)
        problem = await receive(connection)
        await connection.send(FRAME)
        return problem, await receive(connection)

    problem, answer = stream(test, usual)
    assert (problem["type"], problem["frame"], problem["code"]) == ("error", 1, code)
    assert (answer["type"], answer["frame"]) == ("faces", 2)


async def send_garbage(connection):
    for number in range(5):
        await connection.send(b"garbage")
        assert (await receive(connection))["frame"] == number + 1


@pytest.mark.parametrize(
    ("act", "limits", "code"),
    [
        pytest.param(send_garbage, {"bad_frames": 5}, 1003, id="only-garbage"),
        pytest.param(lambda connection: connection.send("what?"), {}, 1003, id="words"),
        pytest.param(lambda connection: connection.send('{"type": "dance"}'), {}, 1003, id="unknown-word"),
        pytest.param(lambda connection: connection.send("[" * 50_000), {}, 1003, id="deep-words"),
        pytest.param(lambda connection: connection.send(b"x" * 20_000), {"frame_bytes": 10_000}, 1009, id="too-long"),
        pytest.param(lambda connection: asyncio.sleep(0), {"idle_s": 0.05}, 1000, id="idle"),
    ],
)
def test_close_codes(act, limits, code, usual):
    async def test(connection, server):
        await act(connection)
        found = await close_of(connection)
        async with socket_of(server) as another:  # and others are served
            assert (await receive(another))["type"] == "hello"
        return found

    assert (stream_of(test, limits) if limits else stream(test, usual))[0] == code


def test_one_stream_too_many_is_told_to_try_later():
    async def test(connection, server):
        async with socket_of(server) as second:
            return await receive(second), await close_of(second)

    problem, (code, reason) = stream_of(test, {"streams": 1})
    assert (problem["type"], problem["frame"], problem["code"]) == ("error", None, "too_many_streams")
    assert code == 1013
    assert "in use" in reason


@pytest.fixture(scope="module")
def locked():
    with running(Settings(api_key="secret"), follower=lambda recognizer: Follower()) as server:
        yield server


def packed(key: str) -> str:
    return "ferkit.key." + base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    ("more", "accepted"),
    [
        pytest.param({"subprotocols": ["ferkit.v1", packed("secret")]}, True, id="subprotocol"),
        pytest.param({"additional_headers": {"Authorization": "Bearer secret"}}, True, id="header"),
        pytest.param({"subprotocols": ["ferkit.v1", packed("wrong")]}, False, id="wrong"),
        pytest.param({}, False, id="none"),
    ],
)
def test_keys(more, accepted, locked):
    async def test(server):
        async with socket_of(server, **more) as connection:
            first = await receive(connection)
            if not accepted:  # what a browser can follow, too
                assert "subprotocol ferkit.key.KEY" in first["message"]
            return first["type"] if accepted else (first["code"], (await close_of(connection))[0])

    assert asyncio.run(test(locked)) == ("hello" if accepted else ("wrong_key", 4401))


@pytest.mark.parametrize(
    ("name", "headers", "code"),
    [
        pytest.param("127.0.0.1", {"Origin": "https://evil.example"}, "wrong_origin", id="origin"),
        pytest.param("evil.example", {}, "wrong_host", id="host"),
    ],
)
def test_strangers_get_no_stream(name, headers, code, usual):
    host, port = usual.listening.getsockname()

    async def test():
        with pytest.raises(InvalidStatus) as refused:
            await websockets.connect(
                f"ws://{name}:{port}/v1/stream", additional_headers=headers, host=host, port=port, proxy=None
            )
        return refused.value.response

    response = asyncio.run(test())
    assert response.status_code == 403
    assert json.loads(response.body)["error"]["code"] == code


def test_stopping_says_goodbye_to_every_stream():
    async def test(connection, server):
        async with socket_of(server) as second:
            await receive(second)
            await connection.send(FRAME)
            await receive(connection)
            server.stop()
            return [await close_of(connection), await close_of(second)]

    assert stream_of(test, {}) == [(1001, "The server is stopping.")] * 2


def test_a_client_that_leaves_in_the_middle_of_a_frame_leaves_nothing_behind(usual):
    def half_a_frame(server):
        host, port = server.listening.getsockname()
        with socket.create_connection((host, port)) as raw:
            raw.sendall(
                f"GET /v1/stream HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            assert b"101" in raw.recv(4096)
            # A binary message of 1000 bytes, masked, of which ten come.
            raw.sendall(b"\x82\xfe\x03\xe8" + b"\0" * 4 + b"x" * 10)

    async def test(server):
        await asyncio.to_thread(half_a_frame, server)
        streams = server.app.state.streams
        while streams._open:
            await asyncio.sleep(0.01)
        async with socket_of(server) as connection:
            await receive(connection)
            await connection.send(FRAME)
            return (await receive(connection))["type"]

    assert asyncio.run(asyncio.wait_for(test(usual), 10)) == "faces"


def test_a_slow_reader_holds_up_itself_alone(monkeypatch):
    monkeypatch.setattr("ferkit.serve.server._TimedCloseProtocol.linger_s", 0.1)

    class Talkative(Follower):
        """Answers are large, so that a few fill the connection's buffers."""

        def __call__(self, image, time_s):
            return super().__call__(image, time_s) * 2000

    async def test(slow, server):
        # Bytes beyond what buffers hold; nothing of the answers is read by `slow`.
        slow.transport.pause_reading()
        sending = asyncio.create_task(_send_until_closed(slow))
        streams = server.app.state.streams
        while streams._open:
            await asyncio.sleep(0.01)
        sending.cancel()
        async with socket_of(server, max_size=None) as quick:
            await receive(quick)
            await quick.send(FRAME)
            answer = await receive(quick)
        while server.server_state.connections:  # it is cut off, though it takes no goodbye
            await asyncio.sleep(0.01)
        slow.transport.abort()
        return answer["type"]

    assert stream_of(test, {"send_s": 0.2}, lambda recognizer: Talkative(), max_size=None) == "faces"


async def _send_until_closed(connection):
    while True:
        await connection.send(FRAME)
        await asyncio.sleep(0.002)


def test_a_sensitivity_that_the_model_does_not_have_ends_the_stream(usual):
    async def go():
        async with socket_of(usual, "v1/stream?sensitivity=0.5") as connection:
            answer = await receive(connection)
            assert (answer["type"], answer["code"]) == ("error", "bad_parameter")
            assert "no sensitivity" in answer["message"]
            assert (await close_of(connection))[0] == 1008

    asyncio.run(go())
