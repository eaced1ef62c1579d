"""What a client sends: images out of a request's body, within limits, and the errors that answer what is wrong.

A body is multipart form, JSON with base64, or one image. Nothing touches the disk.
"""

import asyncio
import base64
import binascii
import io
import json
import re
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import PIL.Image
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from ferkit.errors import FerkitError, ImageError
from ferkit.serve.settings import Limits
from ferkit.sources import FORMATS, check_cost

_LONGEST_NAME = 200
_EXPECTED = "Expected multipart/form-data, application/json or image/*"
JSON_EXAMPLE = '{"pictures": ["BASE64", {"name": "me.jpg", "data": "BASE64"}]}'
# How much of a rejected body is still read, so that the client can read the answer.
_DRAINED_BYTES = 64_000_000
_DRAINING_S = 5.0

FRAME_FORMATS = ("JPEG", "WEBP")


class RequestError(FerkitError):
    """A request that is rejected: HTTP status, an error code for programs, one line for people."""

    def __init__(self, status: int, code: str, message: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, str(self), headers or {}

    def to_dict(self) -> dict[str, Any]:
        return {"error": {"code": self.code, "message": self.message}}

    def response(self) -> JSONResponse:
        return JSONResponse(self.to_dict(), self.status, self.headers)


def answer_problems(app: FastAPI) -> None:
    """Answer every error of `app` in this shape, also those of the framework."""

    @app.exception_handler(RequestError)
    async def rejected(request: Request, problem: RequestError) -> JSONResponse:
        return problem.response()

    @app.exception_handler(HTTPException)
    async def of_framework(request: Request, problem: HTTPException) -> JSONResponse:
        code = {404: "not_found", 405: "method_not_allowed"}.get(problem.status_code, "refused")
        message = f"{request.method} {request.url.path[:200]}: {problem.detail}."
        return RequestError(problem.status_code, code, message, headers=dict(problem.headers or {})).response()

    @app.exception_handler(RequestValidationError)
    async def bad_parameter(request: Request, problem: RequestValidationError) -> JSONResponse:
        request.app.state.metrics.refusals.labels("bad_parameter").inc()
        first = problem.errors()[0]
        return RequestError(422, "bad_parameter", f"{first['loc'][-1]}: {first['msg']}.").response()

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, problem: Exception) -> JSONResponse:
        # The server logs what happened; the client does not learn it.
        return RequestError(500, "internal", "Internal error; see the server's log.").response()


class Upload(io.BytesIO):
    """An encoded image in memory; results and errors call it `name`."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


async def read_uploads(request: Request, limits: Limits, body: "Body") -> Callable[[], list[Upload]]:
    """Read the body; the returned function unpacks it, which may take a while and belongs on a worker.

    Both raise `RequestError`: 400, 408, 413, 415, 422, 429, 503.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    pieces = body_pieces(request, limits.body_bytes, limits.upload_s, body)
    if kind == "multipart/form-data":
        found = await _from_form(request, pieces, limits)
        return lambda: _checked(found, limits)
    if kind == "application/json":
        document = b"".join([piece async for piece in pieces])
        return lambda: _checked(_from_json(document, limits), limits)
    if kind.startswith("image/"):
        picture = b"".join([piece async for piece in pieces])
        return lambda: _checked([Upload(picture, "picture")] if picture else [], limits)
    raise RequestError(415, "wrong_type", f"{_EXPECTED}. Received: {kind[:100] or 'no Content-Type'}.")


class _InMemory(MultiPartParser):
    """Starlette's writes parts of more than a megabyte to temporary files."""

    spool_max_size = max_file_size = 1 << 62  # the second is its name before 0.46


async def _from_form(request: Request, pieces: AsyncGenerator[bytes, None], limits: Limits) -> list[Upload]:
    parser = _InMemory(request.headers, pieces, max_files=limits.pictures, max_fields=limits.pictures)
    try:
        form = await parser.parse()
    except FormParserError as problem:
        raise RequestError(400, "bad_body", f"The multipart form cannot be read: {problem}") from None
    except MultiPartException as problem:
        if "Too many" in problem.message:
            raise _too_many(limits) from None
        raise RequestError(400, "bad_body", f"The multipart form cannot be read: {problem.message}") from None
    except RequestError:
        raise
    except (ValueError, LookupError, AttributeError) as problem:  # an unknown charset, for instance
        raise RequestError(400, "bad_body", f"The multipart form cannot be read: {problem}") from None
    files = [(key, value) for key, value in form.multi_items() if isinstance(value, UploadFile)]
    try:
        return [Upload(await file.read(), file.filename or key) for key, file in files]
    finally:
        await form.close()


# Strings of JSON. What is left without them are brackets, numbers and blanks, of which images need few.
_STRING = re.compile(rb'"[^"\\\\]*(?:\\\\.[^"\\\\]*)*"', re.DOTALL)
_QUOTES, _LEFT = 20, 4096


def _from_json(body: bytes, limits: Limits) -> list[Upload]:
    # Parsed, a list of empty lists is thirty times as large, and nothing else runs meanwhile.
    most = 1 + limits.pictures
    simple = body.count(b'"') <= _QUOTES * most and len(b"".join(_STRING.sub(b"", body).split(None, _LEFT))) <= (
        _LEFT + 100 * most
    )
    try:
        document = json.loads(body.decode("utf-8-sig")) if simple else None
    except (ValueError, RecursionError):
        simple = False
    if not simple:
        message = f"The body is not valid JSON, or has far more than images in it. Expected {JSON_EXAMPLE}."
        raise RequestError(400, "bad_body", message)
    entries = document.get("pictures") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise RequestError(422, "no_pictures", f"Expected {JSON_EXAMPLE}.")
    return [_from_entry(entry, f"picture {number}") for number, entry in enumerate(entries, start=1)]


_BLANKS = b" \t\r\n\v\f"


def _from_entry(entry: Any, name: str) -> Upload:
    if isinstance(entry, dict):
        given, entry = entry.get("name", name), entry.get("data")
        if not isinstance(given, str):
            raise RequestError(422, "bad_parameter", f"The name of {name} is not a string. Expected {JSON_EXAMPLE}.")
        name = given or name
    if not isinstance(entry, str):
        raise RequestError(422, "no_pictures", f"{name[:_LONGEST_NAME]} has no data. Expected {JSON_EXAMPLE}.")
    # URLs are not fetched: a server that did so would let clients reach its internal network (SSRF).
    text = entry.partition(",")[2] if entry.startswith("data:") else entry
    try:
        return Upload(base64.b64decode(text.encode().translate(None, _BLANKS), validate=True), name)
    except (binascii.Error, ValueError):
        message = f"{name[:_LONGEST_NAME]} is not base64. URLs are not fetched; send the image itself."
        raise RequestError(422, "bad_picture", message) from None


def _checked(uploads: list[Upload], limits: Limits) -> list[Upload]:
    if not uploads:
        raise RequestError(422, "no_pictures", "The request contains no image. Expected one or more files.")
    if len(uploads) > limits.pictures:
        raise _too_many(limits)
    for upload in uploads:
        upload.name = "".join(letter for letter in upload.name if letter.isprintable())[:_LONGEST_NAME] or "picture"
    return uploads


def _too_many(limits: Limits) -> RequestError:
    return RequestError(413, "too_many_pictures", f"Expected at most {limits.pictures} images in one request.")


# A body whose last piece came so long ago gives its place to another one of the same client.
_STALLED_S = 1.0
# Bodies of the largest size that may be in memory at once, from one client and from all.
_HELD_OF_CLIENT, _HELD = 10, 20


@dataclass(eq=False)
class Body:
    """The body of one request, from its first byte to the response."""

    bodies: "Bodies"
    client: str
    size: int = 0
    touched: float = field(default_factory=time.monotonic)
    timeout: asyncio.Timeout | None = None  # while it arrives

    def grow(self, size: int) -> None:
        """Count a piece. Raises `RequestError` 503 if there is no memory for it."""
        self.size += size
        self.touched = time.monotonic()
        self.bodies.take_memory(self, size)


class Bodies:
    """The bodies in progress: how many each client sends at the same time, and how much memory all take.

    A client that stops sending its bodies loses them itself; others keep their place.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held: dict[str, set[Body]] = {}
        self._bytes: Counter[str] = Counter()
        self._total = 0

    @contextmanager
    def begin(self, client: str) -> Iterator[Body]:
        """Hold a body until the block ends. Raises `RequestError` 429 if this client has too many."""
        body = Body(self, client)
        mine = self._held.setdefault(client, set())
        if sum(one.timeout is not None for one in mine) >= self._limits.bodies and not _end_stalled(mine, body.touched):
            message = f"Too many bodies at once: at most {self._limits.bodies} per client. Try again in 1 s."
            raise RequestError(429, "too_many_requests", message, headers={"Retry-After": "1"})
        mine.add(body)
        try:
            yield body
        finally:
            mine.discard(body)
            self._total -= body.size
            self._bytes[client] -= body.size
            if not mine:
                self._held.pop(client, None)
                self._bytes.pop(client, None)

    def take_memory(self, body: Body, size: int) -> None:
        self._bytes[body.client] += size
        self._total += size
        largest = self._limits.body_bytes
        if self._bytes[body.client] > _HELD_OF_CLIENT * largest:
            held = self._held[body.client]
        elif self._total > _HELD * largest:
            held = set().union(*self._held.values())
        else:
            return
        if not _end_stalled(held, body.touched):
            message = "Other requests take all memory that there is for bodies. Try again in 1 s."
            raise RequestError(503, "busy", message, headers={"Retry-After": "1"})


def _end_stalled(held: Iterable[Body], now: float) -> bool:
    """Let the body that stalled first run into its time limit now."""
    stalled = [one for one in held if one.timeout is not None and now - one.touched >= _STALLED_S]
    if not stalled:
        return False
    first = min(stalled, key=lambda one: one.touched)
    if first.timeout is not None:
        first.timeout.reschedule(asyncio.get_running_loop().time())
    first.timeout = None
    return True


async def body_pieces(request: Request, limit: int, seconds: float, body: Body) -> AsyncGenerator[bytes, None]:
    """The body of a request as it arrives: 413 as soon as it is too long, 408 if it takes too long."""
    try:
        async with asyncio.timeout(seconds) as body.timeout:
            claimed = request.headers.get("content-length", "")
            if claimed.isdigit() and int(claimed) > limit:
                await _drain(request, int(claimed))
                raise _too_long(limit)
            async for piece in request.stream():
                body.grow(len(piece))
                if body.size > limit:
                    await _drain(request, 0)
                    raise _too_long(limit)
                yield piece
    except TimeoutError:
        message = f"The body did not arrive within {seconds:g} s, or others of this client took its place."
        raise RequestError(408, "too_slow", message) from None
    except ClientDisconnect:
        raise RequestError(400, "gone", "The client disconnected in the middle of the body.") from None
    finally:
        body.timeout = None


async def _drain(request: Request, claimed: int) -> None:
    """Read what a client is still sending: if the connection is closed meanwhile, it often never reads the answer."""
    if claimed > _DRAINED_BYTES:
        return
    taken = 0
    try:
        async with asyncio.timeout(_DRAINING_S):
            async for piece in request.stream():
                taken += len(piece)
                if taken > _DRAINED_BYTES:
                    return
    except (TimeoutError, RuntimeError):  # RuntimeError: the caller is reading the stream
        return


def _too_long(limit: int) -> RequestError:
    return RequestError(
        413, "body_too_large", f"Expected a body of at most {limit:,} bytes. Send fewer or smaller images."
    )


def check_picture(data: bytes, name: str, most_pixels: int, formats: tuple[str, ...] = FORMATS) -> tuple[int, int]:
    """Width and height of an encoded image, counted from its bytes: nothing is decoded.

    Raises `RequestError`: 422 if it is in none of `formats` or slow to decode, 413 if its header claims too many pixels.
    """
    file = io.BytesIO(data)
    try:
        check_cost(file, name)
        with PIL.Image.open(file, formats=formats) as picture:
            width, height = picture.size
    except ImageError as problem:
        raise RequestError(422, "bad_picture", str(problem)) from None
    except PIL.Image.DecompressionBombError:
        raise _too_many_pixels(name, "too many", most_pixels) from None
    except Exception:  # damaged headers raise nearly any exception
        kinds = ", ".join(formats)
        raise RequestError(422, "bad_picture", f"{name} cannot be read. Expected a complete image: {kinds}.") from None
    if width * height > most_pixels:
        raise _too_many_pixels(name, f"{width}x{height}", most_pixels)
    return width, height


def _too_many_pixels(name: str, size: str, most: int) -> RequestError:
    return RequestError(
        413, "picture_too_large", f"{name} has {size} pixels. Expected at most {most:,}. Resize the image."
    )
