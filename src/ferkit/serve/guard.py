"""What the server counts, as Prometheus reads it. Each application has a registry of its own.

Who may ask, and what every answer carries: host, origin, rate and key checked before any route runs.
"""

import base64
import binascii
import hmac
from collections.abc import Iterable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ferkit.serve.limits import RateLimit, Refusal
from ferkit.serve.settings import Settings

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class WebMetrics:
    """Counters of one server. None of them says anything about a person: no emotions, no addresses, no names."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = Counter("ferkit_requests", "Answers by route and HTTP status.", ["route", "status"], **own)
        self.seconds = Histogram(
            "ferkit_request_seconds", "From the first byte of /v1/predict to its answer.", buckets=_SECONDS, **own
        )
        self.explanations = Counter("ferkit_explanations", "Faces that were explained, by method.", ["method"], **own)
        self.explain_seconds = Histogram(
            "ferkit_explain_seconds", "From the first byte of /v1/explain to its answer.", buckets=_SECONDS, **own
        )
        self.pictures = Counter("ferkit_pictures", "Pictures by outcome: read, unreadable.", ["outcome"], **own)
        self.faces = Counter("ferkit_faces", "Faces found in pictures and frames.", **own)
        self.refusals = Counter("ferkit_refusals", "What was refused, by code.", ["code"], **own)
        self.waiting = Gauge("ferkit_requests_in_progress", "Requests at work or waiting for a worker.", **own)
        self.streams = Gauge("ferkit_streams", "Live streams that are open.", **own)
        self.frames = Counter("ferkit_frames", "Frames by outcome: answered, dropped, unreadable.", ["outcome"], **own)
        self.frame_seconds = Histogram(
            "ferkit_frame_seconds", "From the arrival of a frame to its answer.", buckets=_SECONDS, **own
        )
        for outcome in ("answered", "dropped", "unreadable"):
            self.frames.labels(outcome)  # zero, rather than not there

    def text(self) -> bytes:
        return bytes(generate_latest(self.registry))


PROTOCOL = "ferkit.v1"
KEY_PREFIX = "ferkit.key."
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
# Blobs are pictures and videos that the page made itself or that its reader chose.
_CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": _CONTENT_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: WebMetrics) -> None:
        self.app, self.settings, self.metrics = app, settings, metrics
        self.rate = RateLimit(settings.limits.rate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        is_http = scope["type"] == "http"
        route = _route(scope)

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add_headers(message)
                self.metrics.requests.labels(route, str(message["status"])).inc()
            await send(message)

        try:
            self._check(scope)
        except Refusal as problem:
            self.metrics.refusals.labels(problem.code).inc()
            if is_http:
                await problem.response()(scope, receive, send_safely)
            else:
                await _deny(problem, scope, receive, send)
            return
        await self.app(scope, receive, send_safely if is_http else send)

    def _check(self, scope: Scope) -> None:
        headers, is_http = Headers(scope=scope), scope["type"] == "http"
        check_host(headers.get("host", ""), self.settings)
        if not is_http or scope["method"] not in _SAFE_METHODS:
            check_origin(headers.get("origin"), headers.get("host", ""), self.settings.allow_origins)
        path = scope["path"]
        if path.startswith("/v1/"):
            self.rate.check((scope.get("client") or ("unknown",))[0])
        # A stream says itself that its key is wrong, so that browsers, which see no status, can tell why.
        if is_http and (path.startswith("/v1/") or path == "/metrics"):
            check_key(key_of(headers), self.settings.api_key)


def check_host(host: str, settings: Settings) -> None:
    """On loopback a page of a stranger must not reach us through a name that it made point here (DNS rebinding)."""
    if not settings.on_loopback and not settings.allow_hosts:
        return
    name = _name(host)
    if name not in (*_LOOPBACK, *map(str.lower, settings.allow_hosts), settings.host):
        message = "This server is not called by that name. Name it with --allow-host, or use its address."
        raise Refusal(403, "wrong_host", message)


def check_origin(origin: str | None, host: str, allowed: Iterable[str]) -> None:
    """Browsers say which page asks; only our own may, and those that were allowed. Other programs say nothing."""
    if origin is None or origin in (allowed := tuple(allowed)) or "*" in allowed:
        return
    # Not the scheme: behind a proxy that does TLS, ours is http where the browser's is https.
    if not host or _netloc(origin).lower() != host.lower():
        raise Refusal(403, "wrong_origin", "Pages of other hosts may not ask here. Allow one with --allow-origin.")


def check_key(given: str | None, expected: str | None) -> None:
    if expected is None:
        return
    if given is None or not hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode()):
        message = "Expected the API key as Authorization: Bearer KEY, or X-API-Key: KEY."
        raise Refusal(401, "wrong_key", message, headers={"WWW-Authenticate": "Bearer"})


def key_of(headers: Headers, subprotocols: Iterable[str] = ()) -> str | None:
    """The key that came with a request: in a header, or as a WebSocket subprotocol, for browsers cannot set headers."""
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and value:
        return value.strip()
    for one in subprotocols:
        if one.startswith(KEY_PREFIX):
            return _unpacked(one.removeprefix(KEY_PREFIX))
    return headers.get("x-api-key")


def _unpacked(text: str) -> str | None:
    """Base64 in the letters of addresses, without padding: a subprotocol may hold no others."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        return None


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _add_headers(message: MutableMapping[str, Any]) -> None:
    headers = MutableHeaders(raw=message["headers"])
    for name, value in _HEADERS.items():
        headers[name] = value


def _route(scope: Scope) -> str:
    """A few fixed words, for a client may ask for any number of paths."""
    path = scope["path"]
    known = (
        "/",
        "/v1/predict",
        "/v1/explain",
        "/v1/model",
        "/v1/stream",
        "/healthz",
        "/metrics",
        "/openapi.json",
    )
    return path if path in known else "/static" if path.startswith("/static/") else "other"


async def _deny(problem: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse a WebSocket before it is one, with an HTTP status where the server knows how."""
    await receive()
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008, "reason": problem.code})
        return
    response = problem.response()
    start = {"type": "websocket.http.response.start", "status": problem.status, "headers": response.raw_headers}
    await send(start)
    await send({"type": "websocket.http.response.body", "body": response.body})
