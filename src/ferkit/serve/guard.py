"""Access control and headers: host, origin, rate limit and API key are checked before any route runs.

Also the Prometheus metrics. Each application has its own registry.
"""

import base64
import binascii
import hmac
import time
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ferkit.serve.requests import RequestError
from ferkit.serve.settings import Settings, network_of

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class WebMetrics:
    """Metrics of one server. None of them is about a person: no emotions, addresses or names."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = Counter("ferkit_requests", "Responses by route and HTTP status.", ["route", "status"], **own)
        self.seconds = Histogram(
            "ferkit_request_seconds",
            "Seconds from the first byte of a request to /v1/predict to its response.",
            buckets=_SECONDS,
            **own,
        )
        self.explanations = Counter("ferkit_explanations", "Explained faces by method.", ["method"], **own)
        self.explain_seconds = Histogram(
            "ferkit_explain_seconds",
            "Seconds from the first byte of a request to /v1/explain to its response.",
            buckets=_SECONDS,
            **own,
        )
        self.pictures = Counter("ferkit_pictures", "Images by outcome: read, unreadable.", ["outcome"], **own)
        self.faces = Counter("ferkit_faces", "Faces found in images and frames.", **own)
        self.refusals = Counter("ferkit_refusals", "Rejected requests by error code.", ["code"], **own)
        self.waiting = Gauge("ferkit_requests_in_progress", "Requests that are processed or wait for a worker.", **own)
        self.streams = Gauge("ferkit_streams", "Open live streams.", **own)
        self.frames = Counter("ferkit_frames", "Frames by outcome: answered, dropped, unreadable.", ["outcome"], **own)
        self.frame_seconds = Histogram(
            "ferkit_frame_seconds", "Seconds from the arrival of a frame to its response.", buckets=_SECONDS, **own
        )
        for outcome in ("answered", "dropped", "unreadable"):
            self.frames.labels(outcome)  # zero rather than absent

    def text(self) -> bytes:
        return bytes(generate_latest(self.registry))


# Clients whose rate is tracked; beyond that the least recently active ones are forgotten, which only helps them.
_CLIENTS = 4096
PROTOCOL = "ferkit.v1"
KEY_PREFIX = "ferkit.key."
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
# Answers that take as long to make as those of /v1/.
_COSTLY = ("/openapi.json", "/metrics")
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
# Blobs are images and videos that the page made or that its user chose.
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
        except RequestError as problem:
            self.metrics.refusals.labels(problem.code).inc()
            if is_http:
                await problem.response()(scope, receive, send_safely)
            else:
                await _deny(problem, scope, receive, send)
            return
        await self.app(scope, receive, send_safely if is_http else send)

    def _check(self, scope: Scope) -> None:
        headers, is_http = Headers(scope=scope), scope["type"] == "http"
        if "transfer-encoding" in headers and "content-length" in headers:
            # A proxy may go by the other one, and take the rest of the body for somebody's next request.
            message = "Expected either Content-Length or Transfer-Encoding. Received both."
            raise RequestError(400, "two_lengths", message, headers={"Connection": "close"})
        check_host(headers.get("host", ""), self.settings)
        if not is_http or scope["method"] not in _SAFE_METHODS:
            check_origin(headers.get("origin"), headers.get("host", ""), self.settings.allow_origins)
        path = scope["path"]
        if path.startswith("/v1/") or path in _COSTLY:
            self.rate.check((scope.get("client") or ("unknown",))[0])
        # Streams check the key themselves: browsers see no HTTP status of a WebSocket, only its close code.
        if is_http and (path.startswith("/v1/") or path == "/metrics"):
            check_key(key_of(headers), self.settings.api_key)


class RateLimit:
    """A token bucket per client, refilled with `rate` tokens per second, with a burst of two seconds.

    clock: returns seconds.
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self.most, self.clock = rate, max(2 * rate, 1.0), clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def check(self, client: str) -> None:
        """Take a token of this client. Raises `RequestError` 429, with the time to wait."""
        if not self.rate:
            return
        now, who = self.clock(), network_of(client)
        tokens, since = self._buckets.pop(who, (self.most, now))  # popped, so that the dict is ordered by last use
        tokens = min(tokens + (now - since) * self.rate, self.most)
        self._buckets[who] = (max(tokens - 1, 0) if tokens >= 1 else tokens, now)
        if len(self._buckets) > _CLIENTS:
            del self._buckets[next(iter(self._buckets))]
        if tokens < 1:
            wait = max(1, round((1 - tokens) / self.rate + 0.5))
            message = f"Too many requests: at most {self.rate:g} per second. Try again in {wait} s."
            # Closed, so that requests which were sent ahead are not answered one by one.
            headers = {"Retry-After": str(wait), "Connection": "close"}
            raise RequestError(429, "too_many_requests", message, headers=headers)


def check_host(host: str, settings: Settings) -> None:
    """Protect against DNS rebinding: a page must not reach this server through a name that it made point here."""
    if not settings.on_loopback and not settings.allow_hosts:
        return
    name = _name(host)
    if name not in (*_LOOPBACK, *map(str.lower, settings.allow_hosts), settings.host):
        message = "This Host header is not accepted. Add it with --allow-host, or use the server's address."
        raise RequestError(403, "wrong_host", message)


def check_origin(origin: str | None, host: str, allowed: Iterable[str]) -> None:
    """Accept the server's own page and allowed origins. Programs other than browsers send no Origin header."""
    if origin is None or origin in (allowed := tuple(allowed)) or "*" in allowed:
        return
    # The scheme is not compared: behind a TLS proxy it is http here and https in the browser.
    if not host or _netloc(origin).lower() != host.lower():
        raise RequestError(
            403, "wrong_origin", "Requests from pages of other origins are rejected. Allow one with --allow-origin."
        )


def check_key(given: str | None, expected: str | None) -> None:
    if expected is None:
        return
    if given is None or not hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode()):
        message = "Expected the API key as Authorization: Bearer KEY, or X-API-Key: KEY."
        raise RequestError(401, "wrong_key", message, headers={"WWW-Authenticate": "Bearer"})


def key_of(headers: Headers, subprotocols: Iterable[str] = ()) -> str | None:
    """The API key of a request: a header, or a WebSocket subprotocol, because browsers cannot set headers there."""
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and value:
        return value.strip()
    for one in subprotocols:
        if one.startswith(KEY_PREFIX):
            return _decoded(one.removeprefix(KEY_PREFIX))
    return headers.get("x-api-key")


def _decoded(text: str) -> str | None:
    """URL-safe base64 without padding, the only form that a subprotocol may contain."""
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
    """The name in a Host header, without its port; "" for what is more than these."""
    if set(host) & set("@/?#\\"):
        return ""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _add_headers(message: MutableMapping[str, Any]) -> None:
    headers = MutableHeaders(raw=message["headers"])
    for name, value in _HEADERS.items():
        headers[name] = value


def _route(scope: Scope) -> str:
    """One of a few fixed names: clients may request any number of paths."""
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


async def _deny(problem: RequestError, scope: Scope, receive: Receive, send: Send) -> None:
    """Reject a WebSocket before it is accepted, with an HTTP status if the server supports that."""
    await receive()
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008, "reason": problem.code})
        return
    response = problem.response()
    start = {"type": "websocket.http.response.start", "status": problem.status, "headers": response.raw_headers}
    await send(start)
    await send({"type": "websocket.http.response.body", "body": response.body})
