"""The WebSocket: subprotocols, headers, and any sequence of binary and text messages."""

import base64
import json

from fuzz.asgi import SETTINGS, ask, headers_of
from fuzz.judge import Choices, Finding, check_message, sized
from web import picture

WORDS = (b'{"type": "reset"}', b'{"type":', b"reset", b"ferkit.v1", b"ferkit.key.", b"a2V5", b"host", b"origin", b"null",
         b"[[[[[[[[", b"\\ud800", b"9" * 40, b"\xff\xd8\xff", b"RIFF", b"WEBPVP8 ", b"http://[::1")  # fmt: skip
LONGEST = 8192

CLOSES = {1000, 1001, 1003, 1008, 1009, 1011, 1013, 4401}
JPEG, WEBP = picture(size=(8, 6)), picture(size=(8, 6), form="WEBP")


def seeds() -> dict[str, bytes]:
    reset = b"\1" + sized(b'{"type": "reset"}')
    frames = [b"\0" + sized(frame) for frame in (JPEG, WEBP, picture(size=(8, 6), form="PNG"), b"", b"junk")]
    plain = sized(b"ferkit.v1") + b"\0"
    key = base64.urlsafe_b64encode(b"key").rstrip(b"=")
    return {
        "frames": b"\0" + plain + b"".join(frames),
        "resets": b"\0" + plain + frames[0] + reset + frames[1] + reset,
        "open": b"\1" + sized(b"") + b"\1" + sized(b"origin\0http://a") + frames[0],
        "locked": b"\2" + plain + frames[0],
        "key": b"\2" + sized(b"ferkit.v1,ferkit.key." + key) + b"\0" + frames[0] + reset,
        "words": b"\0" + plain + b"\1" + sized(b'{"type": []}') + b"\1" + sized(b"[]"),
        "deep": b"\0" + plain + b"\1" + sized(b"[" * 3000),
        "neither": b"\0" + plain + b"\2" + sized(b"") + b"\0" + sized(JPEG),
        "stranger": b"\0" + plain[:-1] + b"\1" + sized(b"host\0evil.example"),
    }


def look(data: bytes) -> None:
    choices = Choices(data)
    server = choices.one_of(tuple(SETTINGS))
    subprotocols = [one for one in choices.bytes(200).decode("latin-1").split(",") if one]
    headers = headers_of(choices, 4, 200, server)
    messages: list[dict[str, object]] = [{"type": "websocket.connect"}]
    while choices.rest and len(messages) < 20:
        kind, content = choices.number(3), choices.bytes(6000)
        message: dict[str, object] = {"type": "websocket.receive"}
        if kind == 0:
            message["bytes"] = content
        elif kind == 1:
            message["text"] = content.decode("utf-8", "replace")
        messages.append(message)
    scope = {
        "type": "websocket",
        "scheme": "ws",
        "path": "/v1/stream",
        "headers": headers,
        "subprotocols": subprotocols,
        "extensions": {"websocket.http.response": {}},
    }
    check_answers(ask(server, scope, messages))


def check_answers(sent: list[dict[str, object]]) -> None:
    """Raise `Finding` for an answer that is no JSON, an error that is no line, or a way of closing that is not told."""
    for message in sent:
        if message["type"] == "websocket.send":
            document = json.loads(str(message["text"]))
            if document["type"] == "error":
                check_message(document["message"])
        elif message["type"] == "websocket.close" and message["code"] not in CLOSES:
            raise Finding(f"closed with {message['code']}")
        elif message["type"] == "websocket.http.response.start" and message["status"] not in (401, 403, 429):
            raise Finding(f"refused with {message['status']}")
