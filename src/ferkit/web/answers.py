"""What routes answer, for the OpenAPI document; results themselves write the JSON."""

from typing import Any

from pydantic import BaseModel

from ferkit.web.uploads import JSON_EXAMPLE


class FaceAnswer(BaseModel):
    box: tuple[int, int, int, int]
    detection_score: float
    label: str
    confidence: float
    probabilities: dict[str, float]


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
    408: "The body came too slowly.",
    413: "The body is too long, a picture has too many pixels, or there are too many pictures.",
    415: "The content type is none of those taken.",
    422: "The picture cannot be read, or there is none, or what is asked of it makes no sense.",
    429: "Too many requests; Retry-After says when to come back.",
    503: "All workers are busy and the queue is full; Retry-After says when to come back.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What FastAPI takes as `responses`."""
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
