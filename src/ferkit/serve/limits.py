"""How a server says no: one JSON object, the same for every reason.

What is looked at before any work is done: bytes, pixels, kinds, rates.
"""

import asyncio
import io
import ipaddress
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

import PIL.Image
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from ferkit.errors import FerkitError
from ferkit.sources import FORMATS


class Refusal(FerkitError):  # noqa: N818 - answering no is no error of ours
    """A request that is not answered: HTTP status, a word for programs, one line for people."""

    def __init__(self, status: int, code: str, message: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, str(self), headers or {}

    def to_dict(self) -> dict[str, Any]:
        return {"error": {"code": self.code, "message": self.message}}

    def response(self) -> JSONResponse:
        return JSONResponse(self.to_dict(), self.status, self.headers)


def answer_problems(app: FastAPI) -> None:
    """Give every error of `app` this shape, also those of the framework."""

    @app.exception_handler(Refusal)
    async def refused(request: Request, problem: Refusal) -> JSONResponse:
        return problem.response()

    @app.exception_handler(HTTPException)
    async def of_framework(request: Request, problem: HTTPException) -> JSONResponse:
        code = {404: "not_found", 405: "method_not_allowed"}.get(problem.status_code, "refused")
        message = f"{request.method} {request.url.path[:200]}: {problem.detail}."
        return Refusal(problem.status_code, code, message, headers=dict(problem.headers or {})).response()

    @app.exception_handler(RequestValidationError)
    async def bad_parameter(request: Request, problem: RequestValidationError) -> JSONResponse:
        request.app.state.metrics.refusals.labels("bad_parameter").inc()
        first = problem.errors()[0]
        return Refusal(422, "bad_parameter", f"{first['loc'][-1]}: {first['msg']}.").response()

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, problem: Exception) -> JSONResponse:
        # What happened is logged by the server; the client gets no insight into it.
        return Refusal(500, "internal", "Something went wrong here; the server's log says what.").response()


# Clients that are remembered; beyond it those that were quiet longest are forgotten, which only ever helps them.
_CLIENTS = 4096
# What is still read of a body that is refused, so that the client gets to read why.
_DRAINED_BYTES = 64_000_000
_DRAINING_S = 5.0

FRAME_FORMATS = ("JPEG", "WEBP")


async def body_pieces(request: Request, limit: int, seconds: float) -> AsyncGenerator[bytes, None]:
    """The body of a request as it comes: 413 as soon as it is too long, 408 where it takes too long."""
    try:
        async with asyncio.timeout(seconds):
            claimed = request.headers.get("content-length", "")
            if claimed.isdigit() and int(claimed) > limit:
                await _drain(request, int(claimed))
                raise _too_long(limit)
            length = 0
            async for piece in request.stream():
                length += len(piece)
                if length > limit:
                    await _drain(request, 0)
                    raise _too_long(limit)
                yield piece
    except TimeoutError:
        raise Refusal(408, "too_slow", f"The body did not come within {seconds:g} s.") from None
    except ClientDisconnect:
        raise Refusal(400, "gone", "The client left in the middle of the body.") from None


async def _drain(request: Request, claimed: int) -> None:
    """Take what a client is sending anyway: one that is cut off while it sends often never reads the answer."""
    if claimed > _DRAINED_BYTES:
        return
    taken = 0
    try:
        async with asyncio.timeout(_DRAINING_S):
            async for piece in request.stream():
                taken += len(piece)
                if taken > _DRAINED_BYTES:
                    return
    except (TimeoutError, RuntimeError):  # RuntimeError: the stream is being read by who called
        return


def _too_long(limit: int) -> Refusal:
    return Refusal(
        413, "body_too_large", f"Expected a body of at most {limit:,} bytes. Send fewer or smaller pictures."
    )


def check_picture(data: bytes, name: str, most_pixels: int, formats: tuple[str, ...] = FORMATS) -> tuple[int, int]:
    """Width and height of an encoded picture, from its header alone: nothing is decoded.

    Raises `Refusal`: 422 where it is none of `formats`, 413 where it claims too many pixels.
    """
    try:
        with PIL.Image.open(io.BytesIO(data), formats=formats) as picture:
            width, height = picture.size
    except PIL.Image.DecompressionBombError:
        raise _too_many_pixels(name, "too many", most_pixels) from None
    except Exception:  # damaged headers raise nearly anything
        kinds = ", ".join(formats)
        raise Refusal(422, "bad_picture", f"{name} cannot be read. Expected a whole picture: {kinds}.") from None
    if width * height > most_pixels:
        raise _too_many_pixels(name, f"{width}x{height}", most_pixels)
    return width, height


def _too_many_pixels(name: str, size: str, most: int) -> Refusal:
    return Refusal(413, "picture_too_large", f"{name} has {size} pixels. Expected at most {most:,} in all. Shrink it.")


class RateLimit:
    """A bucket of tokens for each client, refilled with `rate` a second and holding those of two seconds.

    clock: seconds, for tests.
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self.most, self.clock = rate, max(2 * rate, 1.0), clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def check(self, client: str) -> None:
        """Take a token of this client. Raises `Refusal` 429, which says when to come back."""
        if not self.rate:
            return
        now, who = self.clock(), _network_of(client)
        tokens, since = self._buckets.pop(who, (self.most, now))  # popped, so that the dict is ordered by last use
        tokens = min(tokens + (now - since) * self.rate, self.most)
        self._buckets[who] = (max(tokens - 1, 0) if tokens >= 1 else tokens, now)
        if len(self._buckets) > _CLIENTS:
            del self._buckets[next(iter(self._buckets))]
        if tokens < 1:
            wait = max(1, round((1 - tokens) / self.rate + 0.5))
            message = f"Too many requests: at most {self.rate:g} a second. Try again in {wait} s."
            raise Refusal(429, "too_many_requests", message, headers={"Retry-After": str(wait)})


def _network_of(client: str) -> str:
    """Who is counted: an address, of IPv6 its /64, for a single household has as many addresses as it likes."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client
    if address.version == 6:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return client
