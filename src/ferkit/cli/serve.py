"""`ferkit serve`: images over HTTP, live frames over a WebSocket, and the page."""

import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from ferkit.cli.console import leave, no_native_chatter, notes, output, print_json
from ferkit.cli.options import Classes, Detector, MinConfidence, Model, Orientation, PixelScaleOption, Sensitivity

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferkit.recognizer import EmotionRecognizer
    from ferkit.serve import Settings


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 accepts other machines.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one.")] = 8000,
    model: Model = "default",
    detector: Detector = "auto",
    min_confidence: MinConfidence = 0.0,
    sensitivity: Sensitivity = None,
    classes: Classes = None,
    pixel_scale: PixelScaleOption = None,
    orientation: Orientation = "upright",
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="FERKIT_API_KEY",
            help="API key that clients must send. Prefer FERKIT_API_KEY: options are visible in `ps`.",
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option(metavar="ORIGIN", help="Allowed CORS origin, or *; repeatable.")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Additional accepted Host header; repeatable.")
    ] = None,
    trusted_proxy: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Reverse proxy whose X-Forwarded-For header is trusted.")
    ] = None,
    limits: Annotated[
        list[str] | None,
        typer.Option(
            "--limit", metavar="NAME=VALUE", help="Change a limit, such as rate=100; docs/serve.md lists them."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON with the URL once the server is ready.")
    ] = False,
) -> None:
    """Serve predictions over HTTP and WebSocket.

    Serves REST, a WebSocket for live frames, and a page with the camera. Nothing is stored.

    Ctrl-C or SIGTERM stops it after the running requests.

    Example: ferkit serve --port 8000
    """
    from ferkit.serve import Limits, Settings

    settings = Settings(
        host=host,
        api_key=api_key or None,
        allow_origins=tuple(allow_origin or ()),
        allow_hosts=tuple(allow_host or ()),
        limits=Limits.changed(limits or []),
    )

    if not settings.on_loopback and settings.api_key is None:
        notes.print("Note: anyone who can reach this machine can send requests. Set an API key: FERKIT_API_KEY.")
    recognizer = load_recognizer(model, detector, min_confidence, sensitivity, classes, pixel_scale, orientation)
    run_server(recognizer, settings, port, partial(announce, "Serving at", as_json), trusted_proxy)


def announce(words: str, as_json: bool, address: str) -> None:
    """Say on standard output where the server is ready."""
    if as_json:
        print_json({"address": address})
        sys.stdout.flush()
    else:
        output.print(f"{words} {address}", markup=False, soft_wrap=True)
        notes.print("Stop with Ctrl-C.")


def run_server(
    recognizer: "EmotionRecognizer",
    settings: "Settings",
    port: int,
    on_ready: "Callable[[str], None]",
    trusted_proxies: str | None = None,
) -> None:
    """Serve until stopped."""
    import warnings

    from ferkit.serve import WebServer, create_app

    # Pillow warns of large pictures and odd metadata; what cannot be read is refused anyway.
    warnings.filterwarnings("ignore", module="PIL")
    app = create_app(recognizer, settings)
    WebServer(app, settings, port=port, trusted_proxies=trusted_proxies, on_ready=on_ready).serve_until_stopped()
    if app.state.workers.running:
        leave(0)  # Python itself would wait for its threads, and a decoder cannot be interrupted


def load_recognizer(
    model: str,
    detector: str,
    min_confidence: float = 0.0,
    sensitivity: float | None = None,
    classes: str | None = None,
    pixel_scale: str | None = None,
    orientation: Orientation = "upright",
) -> "EmotionRecognizer":
    """A recognizer for live use."""
    from ferkit.recognizer import EmotionRecognizer

    with no_native_chatter():
        return EmotionRecognizer(
            model,
            detector,
            min_confidence=min_confidence,
            sensitivity=sensitivity,
            classes=classes,
            pixel_scale=pixel_scale,
            orientation=orientation,
        )
