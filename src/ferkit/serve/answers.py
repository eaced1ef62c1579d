"""Schemas of the responses for the OpenAPI document, and the handler of `POST /v1/explain`."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel, create_model

from ferkit.errors import ImageError, UsageError
from ferkit.evaluation import Method, available, explain_faces, open_method, ramp
from ferkit.recognizer import EmotionRecognizer
from ferkit.results import FACE_VALUES, Face
from ferkit.serve.requests import JSON_EXAMPLE, RequestError, Upload, check_picture
from ferkit.serve.settings import Limits
from ferkit.sources import read_image

Sensitivity = Annotated[
    float | None,
    Query(
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="How readily rare expressions are predicted: 0 as common as in life, 1 every class alike. Default: the server's.",
    ),
]


class FaceAnswer(create_model("FaceValues", **{one.name: (one.kind, ...) for one in FACE_VALUES})):  # type: ignore[misc]
    """A face as `ferkit.results` has it."""


class PictureAnswer(BaseModel):
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
    source: str
    width: int
    height: int
    method: str
    ramp: list[str]
    faces: list[ExplainedFace]


class ModelAnswer(BaseModel):
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
    status: str
    version: str


class Problem(BaseModel):
    code: str
    message: str


class ProblemAnswer(BaseModel):
    error: Problem


_REASONS = {
    400: "The body cannot be read.",
    401: "The API key is missing or wrong.",
    403: "The host or the origin is not allowed.",
    408: "The body arrived too slowly.",
    413: "The body is too long, an image has too many pixels, or there are too many images.",
    415: "The content type is not supported.",
    422: "The image cannot be read or is missing, or a parameter is invalid.",
    429: "Too many requests, or too many bodies at once; Retry-After says when to try again.",
    503: "All workers are busy, no result came in time, or workers are stuck; Retry-After says when to try again.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a FastAPI route."""
    return {status: {"model": ProblemAnswer, "description": _REASONS[status]} for status in statuses}


_BASE64 = {"type": "string", "format": "byte"}
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
                }
            },
            "image/*": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


# Occlusion explains the deployed network, whatever runs it. Grad-CAM loads Keras into the server, 0.7 GB, so it has to
# be asked for.
USUAL: Literal["occlusion"] = "occlusion"
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
        except ImageError as problem:
            raise RequestError(422, "bad_picture", str(problem)) from None
        faces = self._chosen(self.recognizer.detect(image), wanted)
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
