"""Pictures out of a request: multipart form, JSON with base64, or one picture as the body. Nothing touches the disk."""

import base64
import binascii
import io
import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

from fastapi import Request
from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from ferkit.serve.limits import Refusal, body_pieces
from ferkit.serve.settings import Limits

_LONGEST_NAME = 200
_EXPECTED = "Expected multipart/form-data, application/json or image/*"
JSON_EXAMPLE = '{"pictures": ["BASE64", {"name": "me.jpg", "data": "BASE64"}]}'


class Upload(io.BytesIO):
    """An encoded picture in memory; `name` is what results and errors call it."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


async def read_uploads(request: Request, limits: Limits) -> Callable[[], list[Upload]]:
    """Read the body; what comes back unpacks it, which may take a while and belongs on a worker.

    Raises `Refusal`, now or then: 400, 408, 413, 415, 422.
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
    raise Refusal(415, "wrong_type", f"{_EXPECTED}. Received: {kind[:100] or 'no Content-Type'}.")


class _InMemory(MultiPartParser):
    """Starlette's writes parts of more than a megabyte to temporary files."""

    spool_max_size = max_file_size = 1 << 62  # the second is its name before 0.46


async def _from_form(request: Request, pieces: AsyncGenerator[bytes, None], limits: Limits) -> list[Upload]:
    parser = _InMemory(request.headers, pieces, max_files=limits.pictures, max_fields=limits.pictures)
    try:
        form = await parser.parse()
    except FormParserError as problem:
        raise Refusal(400, "bad_body", f"The multipart form cannot be read: {problem}") from None
    except MultiPartException as problem:
        if "Too many" in problem.message:
            raise _too_many(limits) from None
        raise Refusal(400, "bad_body", f"The multipart form cannot be read: {problem.message}") from None
    except Refusal:
        raise
    except (ValueError, LookupError, AttributeError) as problem:  # of a charset that is none, for instance
        raise Refusal(400, "bad_body", f"The multipart form cannot be read: {problem}") from None
    files = [(key, value) for key, value in form.multi_items() if isinstance(value, UploadFile)]
    try:
        return [Upload(await file.read(), file.filename or key) for key, file in files]
    finally:
        await form.close()


def _from_json(body: bytes) -> list[Upload]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise Refusal(400, "bad_body", f"The body is no JSON. Expected {JSON_EXAMPLE}.") from None
    entries = document.get("pictures") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise Refusal(422, "no_pictures", f"Expected {JSON_EXAMPLE}.")
    return [_from_entry(entry, f"picture {number}") for number, entry in enumerate(entries, start=1)]


def _from_entry(entry: Any, name: str) -> Upload:
    if isinstance(entry, dict):
        given, entry = entry.get("name", name), entry.get("data")
        if not isinstance(given, str):
            raise Refusal(422, "bad_parameter", f"The name of {name} is no text. Expected {JSON_EXAMPLE}.")
        name = given or name
    if not isinstance(entry, str):
        raise Refusal(422, "no_pictures", f"{name[:_LONGEST_NAME]} has no data. Expected {JSON_EXAMPLE}.")
    # Addresses are not fetched: a server that did so would ask its neighbours whatever a stranger wants asked.
    text = entry.partition(",")[2] if entry.startswith("data:") else entry
    try:
        return Upload(base64.b64decode("".join(text.split()), validate=True), name)
    except (binascii.Error, ValueError):
        message = f"{name[:_LONGEST_NAME]} is not base64. Addresses are not fetched; send the picture itself."
        raise Refusal(422, "bad_picture", message) from None


def _checked(uploads: list[Upload], limits: Limits) -> list[Upload]:
    if not uploads:
        raise Refusal(422, "no_pictures", "The request holds no picture. Expected one or several, as files.")
    if len(uploads) > limits.pictures:
        raise _too_many(limits)
    for upload in uploads:
        upload.name = "".join(letter for letter in upload.name if letter.isprintable())[:_LONGEST_NAME] or "picture"
    return uploads


def _too_many(limits: Limits) -> Refusal:
    return Refusal(413, "too_many_pictures", f"Expected at most {limits.pictures} pictures in one request.")
