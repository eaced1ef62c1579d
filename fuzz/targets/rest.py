"""Requests over HTTP: paths, headers and bodies, to three servers that differ in whom they trust."""

import base64
import json

from fuzz.asgi import SETTINGS, ask, headers_of
from fuzz.judge import Choices, Finding, check_message, sized
from web import picture

WORDS = (b"--x\r\n", b"\r\n--x--\r\n", b'Content-Disposition: form-data; name="a"; filename="b"\r\n', b"multipart/form-data; boundary=x",
         b"; charset=", b"filename*=utf-8''", b"application/json", b"image/jpeg", b'{"pictures": [', b'"data:', b"http://127.0.0.1/",
         b"http://169.254.169.254/", b"file:///etc/passwd", b"/v1/predict", b"/v1/model", b"/static/", b"/static/../", b"%2e%2e/",
         b"/healthz", b"/metrics", b"/openapi.json", b"content-type", b"content-length", b"host", b"origin", b"authorization",
         b"Bearer key", b"x-api-key", b"transfer-encoding", b"null", b"\\ud800", b"[[[[[[[[", b"9" * 40)  # fmt: skip
LONGEST = 8192

PATHS = ("/v1/predict", "/v1/model", "/healthz", "/metrics", "/openapi.json", "/docs", "/", "/static/live.js", "/v1/stream",
         "/v1/explain")  # fmt: skip
METHODS = ("POST", "GET", "HEAD", "OPTIONS", "PUT", "DELETE", "\xff")
TYPES = (b"multipart/form-data; boundary=x", b"application/json", b"image/jpeg", b"text/plain", b"")
ANSWERS = {200, 206, 304, 307, 400, 401, 403, 404, 405, 408, 413, 415, 416, 422, 429, 503}


def _form(*parts: bytes) -> bytes:
    return b"".join(b"--x\r\n" + part + b"\r\n" for part in parts) + b"--x--\r\n"


def seeds() -> dict[str, bytes]:
    file = b'Content-Disposition: form-data; name="picture"; filename="me.png"\r\nContent-Type: image/png\r\n\r\n'
    small = picture(size=(8, 6), form="PNG")
    text = base64.b64encode(small).decode()
    named = json.dumps({"pictures": [{"name": "me", "data": "data:image/png;base64," + text}, 5]}).encode()
    bodies = {
        "form": (0, _form(file + small)),
        "form of two": (0, _form(file + small, file + b"junk")),
        "form of a field": (0, _form(b'Content-Disposition: form-data; name="a"\r\n\r\nb')),
        "form cut off": (0, _form(file + small)[:-20]),
        "json": (1, json.dumps({"pictures": [text]}).encode()),
        "json named": (1, named),
        "json of an address": (1, b'{"pictures": ["http://127.0.0.1/a.png", "file:///etc/passwd"]}'),
        "picture": (2, small),
        "text": (3, b"hello"),
        "nothing": (4, b""),
    }
    found = {
        f"{name} {server}": bytes([server, 0, 0, kind]) + sized(b"") + b"\0" + body
        for name, (kind, body) in bodies.items()
        for server in range(2)
    }
    header = sized(b"charset\0utf-8")
    found |= {f"path {number}": bytes([number % 3, number, 1, 4]) + sized(b"") + b"\0" for number in range(len(PATHS))}
    found |= {
        "headers": bytes([1, 0, 0, 0]) + sized(b"") + b"\2" + header + sized(b"host\0[::1") + _form(file + small),
        "key": bytes([2, 1, 1, 4]) + sized(b"") + b"\2" + sized(b"authorization\0Bearer key") + sized(b"host\0a.example"),
        "another path": bytes([1, 8, 1, 4]) + sized(b"/static/../../x") + b"\1" + sized(b"host\0[bad"),
        "origin": bytes([0, 0, 0, 1]) + sized(b"") + b"\1" + sized(b"origin\0http://[evil") + b"{}",
        "preflight": bytes([1, 0, 3, 4]) + sized(b"") + b"\2" + sized(b"origin\0http://a") + sized(b"access-control-request-method\0POST"),
        "type": bytes([1, 0, 0, 4]) + sized(b"") + b"\1" + sized(b"content-type\0multipart/form-data; boundary=x; charset=hex") + _form(file + small),
        "range": bytes([1, 7, 1, 4]) + sized(b"") + b"\1" + sized(b"range\0bytes=0-1,5-"),
    }  # fmt: skip
    return found


def look(data: bytes) -> None:
    choices = Choices(data)
    server, path, method = choices.one_of(tuple(SETTINGS)), choices.one_of(PATHS), choices.one_of(METHODS)
    kind, other = choices.one_of(TYPES), choices.bytes(200)
    headers = [(b"content-type", kind)] if kind else []
    headers += headers_of(choices, 5, 300, server)
    if other:
        path = "/" + other.decode("utf-8", "replace").lstrip("/")
    body = choices.bytes()
    scope = {"type": "http", "method": method, "scheme": "http", "path": path, "headers": headers}
    half = len(body) // 2
    messages = [
        {"type": "http.request", "body": body[:half], "more_body": True},
        {"type": "http.request", "body": body[half:], "more_body": False},
    ]
    check_answer(ask(server, scope, messages), path)


def check_answer(sent: list[dict[str, object]], path: str) -> None:
    """Raise `Finding` where the answer is none, is unknown, or says more or less than it should."""
    starts = [message for message in sent if message["type"] == "http.response.start"]
    if len(starts) != 1:
        raise Finding(f"{len(starts)} answers")
    status = starts[0]["status"]
    if status not in ANSWERS:
        raise Finding(f"answered {status}")
    body = b"".join(message.get("body", b"") for message in sent if message["type"] == "http.response.body")  # type: ignore[misc]
    if isinstance(status, int) and status >= 400 and body and path != "/":
        kind = dict(starts[0]["headers"]).get(b"content-type", b"")  # type: ignore[call-overload]
        if not kind.startswith(b"application/json"):
            return
        problem = json.loads(body)["error"]
        check_message(problem["message"])
