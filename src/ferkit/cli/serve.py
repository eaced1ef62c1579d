"""`ferkit serve`: pictures by HTTP, live frames by WebSocket, and the page."""

import dataclasses
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ferkit.cli.console import no_native_chatter, notes, output, print_json
from ferkit.cli.options import Detector, MinConfidence, Model

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferkit.recognizer import EmotionRecognizer
    from ferkit.serve import Limits, Settings


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 8000,
    model: Model = "default",
    detector: Detector = "auto",
    min_confidence: MinConfidence = 0.0,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="FERKIT_API_KEY", help="What clients must send. Better in the environment: ps shows this."),
    ] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option(metavar="ORIGIN", help="A page of another host that may ask, or *.")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A further name by which browsers reach this server.")
    ] = None,
    trusted_proxy: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="A proxy whose X-Forwarded-For is believed.")
    ] = None,
    limits: Annotated[
        list[str] | None, typer.Option("--limit", metavar="NAME=VALUE", help="Such as rate=100; docs/serve.md has all.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON with the address, once it serves.")] = False,
) -> None:
    """Serve the model: REST, a WebSocket for live frames, and a page with the camera. Nothing is stored.

    Ends with Ctrl-C or SIGTERM, once requests at work are answered.

    Example: ferkit serve --port 8000
    """
    from ferkit.serve import Settings

    settings = Settings(
        host=host,
        api_key=api_key or None,
        allow_origins=tuple(allow_origin or ()),
        allow_hosts=tuple(allow_host or ()),
        limits=changed_limits(limits or []),
    )

    def announce(address: str) -> None:
        if as_json:
            print_json({"address": address})
            sys.stdout.flush()
        else:
            output.print(f"Serving at {address}", markup=False, soft_wrap=True)
            notes.print("Stop with Ctrl-C.")

    if not settings.on_loopback and settings.api_key is None:
        notes.print("Note: whoever can reach this machine can ask. Set a key: FERKIT_API_KEY.")
    run_server(load_recognizer(model, detector, min_confidence), settings, port, announce, trusted_proxy)


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


def load_recognizer(model: str, detector: str, min_confidence: float = 0.0) -> "EmotionRecognizer":
    """A recognizer for live use; the detector's weights are fetched where they are missing."""
    from ferkit.cli.console import download_bar
    from ferkit.detection import fetch_weights
    from ferkit.recognizer import EmotionRecognizer

    with download_bar() as progress:
        fetch_weights(detector, progress)
    with no_native_chatter():
        return EmotionRecognizer(model, detector, min_confidence=min_confidence)


def changed_limits(words: "list[str]") -> "Limits":
    """Limits with the values that `NAME=VALUE` words give; a wrong one is a `UsageError`."""
    from ferkit.errors import UsageError
    from ferkit.serve import Limits

    usual = dataclasses.asdict(Limits())
    changes = {}
    for word in words:
        name, _, value = word.partition("=")
        if name not in usual:
            raise UsageError(f"Unknown limit {name!r}. Choices: {', '.join(usual)}.")
        try:
            changes[name] = type(usual[name])(value)
        except ValueError:
            raise UsageError(f"{name} must be a number, as in {name}={usual[name]}. Received: {word!r}.") from None
    return Limits(**changes)
