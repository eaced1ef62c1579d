"""What is looked at before any work is done: bytes, pixels, kinds, rates."""

import asyncio
import io
import ipaddress
import time
from collections.abc import AsyncGenerator, Callable

import PIL.Image
from fastapi import Request
from starlette.requests import ClientDisconnect

from ferkit.images import FORMATS
from ferkit.web.problems import Refusal

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
