"""The ASGI application and its routes."""

import dataclasses
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Annotated

import python_multipart  # noqa: F401 - Starlette and uvicorn import these two only when needed
import websockets  # noqa: F401
from fastapi import Depends, FastAPI, Request, Response, Security, WebSocket
from fastapi.responses import FileResponse, JSONResponse
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.middleware.cors import CORSMiddleware
from starlette.staticfiles import StaticFiles

import ferkit
from ferkit.detection import DETECTORS, FaceDetector
from ferkit.errors import ImageError
from ferkit.evaluation import text_of
from ferkit.labels import color_of
from ferkit.models import INTENDED_USE
from ferkit.recognizer import EmotionRecognizer
from ferkit.results import PictureResult
from ferkit.serve.answers import (
    PICTURES_BODY,
    Explainer,
    ExplanationAnswer,
    Health,
    ModelAnswer,
    PictureAnswer,
    Sensitivity,
    Wanted,
    at_sensitivity,
    problems,
    wanted_of,
)
from ferkit.serve.guard import CONTENT_TYPE, Guard, WebMetrics
from ferkit.serve.requests import Bodies, Body, RequestError, Upload, answer_problems, check_picture, read_uploads
from ferkit.serve.server import Workers
from ferkit.serve.settings import Limits, Settings, network_of
from ferkit.serve.stream import Follow, Streams
from ferkit.video import FaceFollower

STATIC = Path(__file__).parent / "static"
_ABOUT = (
    "Predicts the expression that people perceive in a face, not what a person feels. Images and frames are not stored. "
    "Live frames go through the WebSocket /v1/stream: send binary JPEG or WebP, receive JSON."
)


def create_app(
    recognizer: EmotionRecognizer,
    settings: Settings | None = None,
    *,
    follower: Callable[[EmotionRecognizer], Follow] = FaceFollower,
) -> FastAPI:
    """Create the ASGI application. Several may run in one process, each with its own metrics.

    Args:
        recognizer: Shared by all requests.
        settings: Access and limits; None stands for the defaults.
        follower: Creates the tracker of a live stream.

    Example:
        app = ferkit.serve.create_app(ferkit.EmotionRecognizer())  # uvicorn module:app

    """
    settings = settings or Settings()
    metrics, workers = WebMetrics(), Workers(settings.limits)
    streams = Streams(settings, workers, metrics, recognizer.classes)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await streams.close_all()
        workers.close()

    # FastAPI's interactive pages load scripts from other hosts, which the content policy forbids.
    app = FastAPI(
        title="ferkit", version=ferkit.__version__, description=_ABOUT, docs_url=None, redoc_url=None, lifespan=lifespan
    )
    app.state.streams, app.state.metrics, app.state.workers = streams, metrics, workers
    answer_problems(app)
    _add_routes(app, recognizer, settings, workers, metrics)
    _add_pages(app)

    @app.websocket("/v1/stream")
    async def stream(websocket: WebSocket, sensitivity: Sensitivity = None) -> None:
        try:
            used = at_sensitivity(recognizer, sensitivity)
        except RequestError as problem:
            await streams.refuse(websocket, problem)
        else:
            await streams.serve(websocket, lambda: follower(used))

    app.add_middleware(Guard, settings=settings, metrics=metrics)
    if settings.allow_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.allow_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key"],
        )
    return app


def _add_routes(
    app: FastAPI, recognizer: EmotionRecognizer, settings: Settings, workers: Workers, metrics: WebMetrics
) -> None:
    limits = settings.limits
    bodies = Bodies(limits)
    # For the description alone: the guard has checked the key by then.
    ways = (APIKeyHeader(name="X-API-Key", auto_error=False), HTTPBearer(auto_error=False))
    keys = [Security(way) for way in ways] if settings.api_key else []

    def body_of(request: Request) -> AbstractContextManager[Body]:
        # A full queue is said before a body is read for nothing, and counts only those that are there.
        client = network_of(request.client.host if request.client else "unknown")
        workers.check_room(client)
        return bodies.begin(client)

    @app.post(
        "/v1/predict",
        summary="Every face in one or more images",
        response_description="One object per image.",
        responses={200: {"model": list[PictureAnswer]}, **problems(400, 401, 403, 408, 413, 415, 422, 429, 503)},
        openapi_extra=PICTURES_BODY,
        dependencies=keys,
    )
    async def predict(request: Request, sensitivity: Sensitivity = None) -> Response:
        """One object per image, as `ferkit predict --json` prints. Among several, an unreadable image has an `error`."""
        start = time.perf_counter()
        try:
            used = at_sensitivity(recognizer, sensitivity)
            with body_of(request) as body:
                unpack = await read_uploads(request, limits, body)
                with workers.slot(body.client), metrics.waiting.track_inprogress():
                    results = await workers.on_pictures(body.client, _recognize, used, unpack, limits)
        except RequestError as problem:
            metrics.refusals.labels(problem.code).inc()
            raise
        for result in results:
            metrics.pictures.labels("unreadable" if result.error else "read").inc()
            metrics.faces.inc(len(result))
        metrics.seconds.observe(time.perf_counter() - start)
        return JSONResponse([result.to_dict() for result in results])

    explainer = Explainer(recognizer, limits)

    @app.post(
        "/v1/explain",
        summary="Which regions of a face support its prediction",
        response_description="A heatmap per face, and its position in the image.",
        responses={200: {"model": ExplanationAnswer}, **problems(400, 401, 403, 408, 413, 415, 422, 429, 503)},
        openapi_extra=PICTURES_BODY,
        dependencies=keys,
    )
    async def explain(request: Request, wanted: Annotated[Wanted, Depends(wanted_of)]) -> Response:
        """One image, as for `/v1/predict`; the response is what `ferkit explain --json` prints."""
        start = time.perf_counter()
        try:
            with body_of(request) as body:
                unpack = await read_uploads(request, limits, body)
                with workers.slot(body.client), metrics.waiting.track_inprogress():
                    answer = await workers.on_pictures(body.client, explainer, unpack, wanted)
        except RequestError as problem:
            metrics.refusals.labels(problem.code).inc()
            raise
        metrics.explanations.labels(answer["method"]).inc(len(answer["faces"]))
        metrics.explain_seconds.observe(time.perf_counter() - start)
        return JSONResponse(answer)

    about = about_model(recognizer, explainer.methods)

    @app.get(
        "/v1/model",
        summary="The model and its card",
        response_description="Its classes, and its card as JSON and Markdown.",
        responses=problems(401, 403, 429),
        dependencies=keys,
    )
    async def model() -> ModelAnswer:
        return about

    @app.get(
        "/healthz",
        summary="Whether the server is up",
        response_description="The server is up.",
        responses=problems(503),
    )
    async def healthz() -> Health:
        """200 while the server works; 503 once so many workers are stuck that it should be started again."""
        if workers.stuck:
            raise RequestError(503, "stuck", "Workers do not end their work. Start the server again.")
        return Health(status="ok", version=ferkit.__version__)

    @app.get(
        "/metrics",
        summary="Metrics for Prometheus",
        response_class=Response,
        response_description="Prometheus text format.",
        responses=problems(401, 403, 429),
        dependencies=keys,
    )
    async def counted() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE)


def _add_pages(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html", media_type="text/html; charset=utf-8")

    app.mount("/static", StaticFiles(directory=STATIC))


def _recognize(
    recognizer: EmotionRecognizer, unpack: Callable[[], list[Upload]], limits: Limits
) -> list[PictureResult]:
    """Runs on a worker. A single unreadable image is rejected; among several it gets an `error`."""
    uploads = unpack()
    if len(uploads) == 1:
        (upload,) = uploads
        check_picture(upload.getvalue(), upload.name, limits.pixels)
        try:
            return [recognizer(upload).without_pixels()]
        except ImageError as problem:
            raise RequestError(422, "bad_picture", str(problem)) from None
    good: list[Upload] = []
    rejected: dict[int, PictureResult] = {}
    pixels = 0
    for place, upload in enumerate(uploads):
        try:
            width, height = check_picture(upload.getvalue(), upload.name, limits.pixels)
            good.append(upload)
        except RequestError as problem:
            rejected[place] = PictureResult.failed(upload.name, problem.message)
            continue
        pixels += width * height
        if pixels > limits.total_pixels:
            message = (
                f"The images together have more than {limits.total_pixels:,} pixels. Send them in several requests."
            )
            raise RequestError(413, "too_many_pixels", message)
    read = iter(recognizer(good))
    return [rejected[place] if place in rejected else next(read) for place in range(len(uploads))]


def _name_of(detector: FaceDetector) -> str:
    named = (name for name, one in DETECTORS.items() if type(detector) is one and name != "auto")
    return next(named, type(detector).__name__)


def about_model(recognizer: EmotionRecognizer, explanations: list[str]) -> ModelAnswer:
    """What the page and other clients ask of the model."""
    classifier = recognizer.classifier
    face_input = dataclasses.asdict(classifier.face_input)
    temperature = float(getattr(classifier, "temperature", 1.0))
    card = dict(getattr(classifier, "card", {}))
    # A bare file and an ensemble have no card; a short one is made of what is known.
    shown = {"classes": list(recognizer.classes), "face_input": face_input, "temperature": temperature, **card}
    return ModelAnswer(
        # Not the path, which is private.
        name=Path(classifier.name).name,
        version=ferkit.__version__,
        classes=list(recognizer.classes),
        colors={name: color_of(name) for name in recognizer.classes},
        face_input=face_input,
        temperature=temperature,
        sensitivity=getattr(classifier, "sensitivity", None),
        detector=_name_of(recognizer.detector),
        explanations=explanations,
        card=card,
        markdown=text_of(shown),
        notice=INTENDED_USE,
    )
