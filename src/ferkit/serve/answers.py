"""Schemas of the responses for the OpenAPI document, and the handler of `POST /v1/explain`."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import Query
from pydantic import BaseModel, ConfigDict, create_model

from ferkit.errors import ImageError, UsageError
from ferkit.evaluation import USUAL, Method, available, explain_faces, open_method, ramp
from ferkit.labels import EMOTIONS, color_of
from ferkit.models import INTENDED_USE
from ferkit.recognizer import EmotionRecognizer
from ferkit.results import FACE_VALUES, Box, Face, FaceEmotion, PictureResult
from ferkit.serve.requests import JSON_EXAMPLE, RequestError, Upload, check_picture
from ferkit.serve.settings import Limits
from ferkit.sources import FaceInput, read_image

Sensitivity = Annotated[
    float | None,
    Query(
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Correction for class imbalance: 0 expects each class as often as in training, 1 all classes equally "
        "often. Default: the server's.",
    ),
]


class FaceAnswer(create_model("FaceValues", **{one.name: (one.kind, ...) for one in FACE_VALUES})):  # type: ignore[misc]
    """A face as `ferkit.results` has it."""


def _example() -> dict[str, Any]:
    """What `/v1/predict` answers of a picture, made as its answers are: an example cannot go stale."""
    shares = np.array([0.01, 0.0, 0.02, 0.88, 0.01, 0.03, 0.05])
    face = FaceEmotion.from_probabilities(Face(Box(172, 68, 278, 212), 0.94, roll=-4.0), EMOTIONS, shares, 0.0)
    return PictureResult("photo.jpg", 512, 512, faces=(face,), classes=EMOTIONS).to_dict()


PICTURE_EXAMPLE = _example()
_EXPLAINED = {
    "explained": "happy",
    "explained_probability": 0.88,
    "method": "occlusion",
    "peak": 0.61,
    "strength": 0.42,
    "to_picture": [[2.2, 0.0, 172.0], [0.0, 3.0, 68.0]],
    "heatmap": [[0.0, 0.4], [0.1, 1.0]],
}


def _with(example: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [example]})


class PictureAnswer(BaseModel):
    model_config = _with(PICTURE_EXAMPLE)

    source: str
    width: int
    height: int
    faces: list[FaceAnswer]
    error: str | None


class ExplainedFace(FaceAnswer):
    explained: str
    explained_probability: float
    method: str
    peak: float | None
    strength: float
    to_picture: list[list[float]]
    heatmap: list[list[float]]


class ExplanationAnswer(BaseModel):
    model_config = _with(
        {
            **{key: PICTURE_EXAMPLE[key] for key in ("source", "width", "height")},
            "method": "occlusion",
            "ramp": ["#000004", "#fcffa4"],
            "faces": [{**PICTURE_EXAMPLE["faces"][0], **_EXPLAINED}],
        }
    )

    source: str
    width: int
    height: int
    method: str
    ramp: list[str]
    faces: list[ExplainedFace]


class ModelAnswer(BaseModel):
    model_config = _with(
        {
            "name": "default",
            "version": "0.1.0",
            "classes": list(EMOTIONS),
            "colors": {name: color_of(name) for name in EMOTIONS},
            "face_input": asdict(FaceInput()),
            "temperature": 1.0,
            "sensitivity": 0.5,
            "detector": "yunet",
            "explanations": ["occlusion", "grad-cam"],
            "card": {"classes": list(EMOTIONS)},
            "markdown": "# Model card",
            "notice": INTENDED_USE,
        }
    )

    name: str
    version: str
    classes: list[str]
    colors: dict[str, str]
    face_input: dict[str, Any]
    temperature: float
    sensitivity: float | None
    detector: str
    explanations: list[str]
    card: dict[str, Any]
    markdown: str
    notice: str


class Health(BaseModel):
    model_config = _with({"status": "ok", "version": "0.1.0"})

    status: str
    version: str


class Problem(BaseModel):
    code: str
    message: str


class ProblemAnswer(BaseModel):
    error: Problem


# Of each status the cause, and one of its error codes with a message.
_REASONS = {
    400: ("The body cannot be read.", "bad_body", f"The body is not valid JSON. Expected {JSON_EXAMPLE}."),
    401: (
        "The API key is missing or wrong.",
        "wrong_key",
        "Expected the API key as Authorization: Bearer KEY, or X-API-Key: KEY.",
    ),
    403: ("The host or the origin is not allowed.", "wrong_host", "This Host header is not accepted."),
    408: ("The body arrived too slowly.", "too_slow", "The body did not arrive within 30 s."),
    413: (
        "The body is too long, an image has too many pixels, or there are too many images.",
        "body_too_large",
        "Expected a body of at most 20,000,000 bytes. Send fewer or smaller images.",
    ),
    415: (
        "The content type is not supported.",
        "wrong_type",
        "Expected multipart/form-data, application/json or image/*.",
    ),
    422: (
        "The image cannot be read or is missing, or a parameter is invalid.",
        "bad_picture",
        "photo.jpg cannot be read. Expected a complete image: JPEG, PNG.",
    ),
    429: (
        "Too many requests, or too many bodies at once; Retry-After says when to try again.",
        "too_many_requests",
        "Too many requests: at most 50 per second. Try again in 1 s.",
    ),
    503: (
        "All workers are busy, no result came in time, or workers are stuck; Retry-After says when to try again.",
        "busy",
        "All workers are busy: 66 requests are running or waiting. Try again in 1 s.",
    ),
}
_RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a FastAPI route."""
    return {status: _problem(status) for status in statuses}


def _problem(status: int) -> dict[str, Any]:
    reason, code, message = _REASONS[status]
    example = {"error": {"code": code, "message": message}}
    described = {"model": ProblemAnswer, "description": reason, "content": {"application/json": {"example": example}}}
    return described | ({"headers": _RETRY_AFTER} if status in (429, 503) else {})


_BASE64 = {"type": "string", "format": "byte"}
# A white PNG of 8x8 pixels.
_DOT = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAIAQAAAADsdIMmAAAADElEQVR42mP4z4ACAT/QB/lnLUmhAAAAAElFTkSuQmCC"
PICTURES_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"picture": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            },
            "application/json": {
                "example": {"pictures": [{"name": "dot.png", "data": _DOT}]},
                "schema": {
                    "type": "object",
                    "description": f"Base64, or data URIs: {JSON_EXAMPLE}",
                    "properties": {
                        "pictures": {
                            "type": "array",
                            "minItems": 1,
                            "items": {
                                "anyOf": [
                                    _BASE64,
                                    {
                                        "type": "object",
                                        "properties": {"name": {"type": "string"}, "data": _BASE64},
                                        "required": ["data"],
                                    },
                                ]
                            },
                        }
                    },
                    "required": ["pictures"],
                },
            },
            "image/*": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


_COLORS = 33


@dataclass(frozen=True)
class Wanted:
    """What to explain.

    method: a name from `ferkit.evaluation.explanation.METHODS`. label: a class; None: the most probable one. face:
    number of a face, from 1, from left to right. x, y: only the face at this pixel of the image. Without face, x and y
    all faces. sensitivity: None takes the server's.
    """

    method: str = USUAL
    label: str | None = None
    face: int | None = None
    x: float | None = None
    y: float | None = None
    sensitivity: float | None = None


def wanted_of(
    method: Annotated[Literal["occlusion", "grad-cam"], Query(description="Explanation method.")] = USUAL,
    label: Annotated[
        str | None, Query(max_length=200, description="Class to explain. Default: the most probable one.")
    ] = None,
    face: Annotated[int | None, Query(ge=1, le=100_000, description="Only this face, counted from the left.")] = None,
    x: Annotated[float | None, Query(description="Only the face at x, y, in pixels of the image.")] = None,
    y: Annotated[float | None, Query(description="See x.")] = None,
    sensitivity: Sensitivity = None,
) -> Wanted:
    """Read the query of a request."""
    return Wanted(method, label, face, x, y, sensitivity)


def at_sensitivity(recognizer: EmotionRecognizer, sensitivity: float | None) -> EmotionRecognizer:
    """The recognizer at the sensitivity that a client asks for."""
    if sensitivity is None:
        return recognizer
    try:
        return recognizer.with_sensitivity(sensitivity)
    except UsageError as problem:
        raise RequestError(422, "bad_parameter", str(problem)) from None


class Explainer:
    """Explains images for all clients; a method is loaded on first use."""

    def __init__(self, recognizer: EmotionRecognizer, limits: Limits) -> None:
        self.recognizer, self.limits = recognizer, limits
        self.methods = sorted(available(recognizer.classifier), key=lambda name: name != USUAL)
        self._open: dict[str, Method] = {}
        self._opening = threading.Lock()

    def __call__(self, unpack: Callable[[], list[Upload]], wanted: Wanted) -> dict[str, Any]:
        """The response, an `ExplanationAnswer`. Runs on a worker: it takes as long as hundreds of predictions.

        Raises `RequestError` 413 or 422.
        """
        uploads = unpack()
        if len(uploads) > 1:
            raise RequestError(413, "too_many_pictures", f"Expected one image. Received: {len(uploads)}.")
        (upload,) = uploads
        check_picture(upload.getvalue(), upload.name, self.limits.pixels)
        if (wanted.x is None) != (wanted.y is None):
            raise RequestError(422, "bad_parameter", "x and y must be given together. Received one of them.")
        if wanted.method not in self.methods:
            message = f"Unknown method {wanted.method!r}. Choices here: {', '.join(self.methods)}."
            raise RequestError(422, "bad_parameter", message)
        try:
            image = read_image(upload)
            found_faces = self.recognizer.detect(image)
        except ImageError as problem:
            raise RequestError(422, "bad_picture", str(problem)) from None
        faces = self._chosen(found_faces, wanted)
        try:
            classifier = at_sensitivity(self.recognizer, wanted.sensitivity).classifier
            found = explain_faces(classifier, self._method(wanted.method), image, faces, label=wanted.label)
        except UsageError as problem:
            raise RequestError(422, "bad_parameter", str(problem)) from None
        return {
            "source": upload.name,
            "width": image.shape[1],
            "height": image.shape[0],
            "method": wanted.method,
            "ramp": ramp(_COLORS),
            "faces": [one.to_dict() for one in found],
        }

    def _method(self, name: str) -> Method:
        with self._opening:  # concurrent clients share one
            if name not in self._open:
                self._open[name] = open_method(self.recognizer.classifier, name)
            return self._open[name]

    def _chosen(self, faces: Sequence[Face], wanted: Wanted) -> Sequence[Face]:
        if not faces:
            raise RequestError(422, "no_face", "No face was found in this image.")
        if (x := wanted.x) is not None and (y := wanted.y) is not None:
            there = [one for one in faces if one.box.x1 <= x < one.box.x2 and one.box.y1 <= y < one.box.y2]
            # Of overlapping faces the one whose center is nearest.
            there.sort(key=lambda one: abs(one.box.x1 + one.box.x2 - 2 * x) + abs(one.box.y1 + one.box.y2 - 2 * y))
            faces = there[:1]
        elif wanted.face is not None:
            if wanted.face > len(faces):
                message = f"face must be 1 to {len(faces)}, the number of faces in this image. Received: {wanted.face}."
                raise RequestError(422, "no_face", message)
            faces = faces[wanted.face - 1 : wanted.face]
        if not faces:
            raise RequestError(422, "no_face", "No face was found there.")
        if len(faces) > self.limits.explained:
            message = f"Expected at most {self.limits.explained} faces, found {len(faces)}. Choose one with face=1, or x and y."
            raise RequestError(413, "too_many_faces", message)
        return faces
