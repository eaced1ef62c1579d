"""What a client sends: images out of a request's body, within limits, and the errors that answer what is wrong.

A body is multipart form, JSON with base64, or one image. Nothing touches the disk.
"""

import asyncio
import base64
import binascii
import io
import json
from collections.abc import AsyncGenerator, Callable
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


async def read_uploads(request: Request, limits: Limits) -> Callable[[], list[Upload]]:
    """Read the body; the returned function unpacks it, which may take a while and belongs on a worker.

    Both raise `RequestError`: 400, 408, 413, 415, 422.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    pieces = body_pieces(request, limits.body_bytes, limits.upload_s)
    if kind == "multipart/form-data":
        found = await _from_form(request, pieces, limits)
        return lambda: _checked(found, limits)
    if kind == "application/json":
        body = b"".join([piece async for piece in pieces])
        return lambda: _checked(_from_json(body), limits)
    if kind.startswith("image/"):
        body = b"".join([piece async for piece in pieces])
        return lambda: _checked([Upload(body, "picture")] if body else [], limits)
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


def _from_json(body: bytes) -> list[Upload]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise RequestError(400, "bad_body", f"The body is not valid JSON. Expected {JSON_EXAMPLE}.") from None
    entries = document.get("pictures") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise RequestError(422, "no_pictures", f"Expected {JSON_EXAMPLE}.")
    return [_from_entry(entry, f"picture {number}") for number, entry in enumerate(entries, start=1)]


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
        return Upload(base64.b64decode("".join(text.split()), validate=True), name)
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


async def body_pieces(request: Request, limit: int, seconds: float) -> AsyncGenerator[bytes, None]:
    """The body of a request as it arrives: 413 as soon as it is too long, 408 if it takes too long."""
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
        raise RequestError(408, "too_slow", f"The body did not arrive within {seconds:g} s.") from None
    except ClientDisconnect:
        raise RequestError(400, "gone", "The client disconnected in the middle of the body.") from None


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
