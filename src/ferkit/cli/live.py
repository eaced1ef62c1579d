"""`ferkit live`: the webcam in the browser, or in a desktop window."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ferkit.cli.console import command, print_json, say
from ferkit.cli.options import Classes, Detector, MinConfidence, Model, Orientation, PixelScaleOption, Sensitivity
from ferkit.cli.serve import announce, load_recognizer, run_server

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferkit.recognizer import EmotionRecognizer


def live(
    source: Annotated[
        str | None, typer.Argument(metavar="SOURCE", help="With --window: camera number or video. [default: 0]")
    ] = None,
    window: Annotated[bool, typer.Option("--window", help="Open a desktop window: q quits, s saves a frame.")] = False,
    blur_faces: Annotated[bool, typer.Option("--blur-faces", help="Blur faces on screen.")] = False,
    model: Model = "default",
    detector: Detector = "auto",
    min_confidence: MinConfidence = 0.0,
    sensitivity: Sensitivity = None,
    classes: Classes = None,
    pixel_scale: PixelScaleOption = None,
    orientation: Orientation = "upright",
    save: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for the frames that --window saves. [default: .]")
    ] = None,
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON: the URL, or the frames shown.")
    ] = False,
) -> None:
    """Show live webcam predictions in the browser or a window.

    The page is served to this machine only, on a free port, until Ctrl-C. Nothing is stored.

    Example: ferkit live
    """
    from ferkit.errors import UsageError

    if source is not None and not window:
        raise UsageError(
            f"The page chooses its camera or video itself. For {source} use: {command('live', source, '--window')}"
        )
    if save is not None and not window:
        raise UsageError("--save needs --window, which is missing.")

    def load() -> "EmotionRecognizer":
        return load_recognizer(model, detector, min_confidence, sensitivity, classes, pixel_scale, orientation)

    if window:
        _show_window(source or "0", blur_faces, load, save or Path(), as_json)
    else:
        _show_page(blur_faces, load, open_page, as_json)


def _show_window(
    source: str, blur_faces: bool, load: "Callable[[], EmotionRecognizer]", save: Path, as_json: bool
) -> None:
    from ferkit.serve import LiveWindow, load_pygame, open_display
    from ferkit.video import open_video

    open_display(load_pygame())  # what is missing is said before the model is loaded
    with open_video(source) as frames:
        recognizer = load()
        window = LiveWindow(frames, recognizer, blur_faces=blur_faces, folder=save, say=say)
        window.show()
    if as_json:
        print_json({"source": frames.name, "frames": window.frames})


def _show_page(blur_faces: bool, load: "Callable[[], EmotionRecognizer]", open_page: bool, as_json: bool) -> None:
    import threading
    import webbrowser

    from ferkit.serve import Limits, Settings

    def show(address: str) -> None:
        page = f"{address}#blur" if blur_faces else address
        announce("Live at", as_json, page)
        if open_page:
            # Some browsers hold up who opens them until they are closed.
            threading.Thread(target=_open, args=(page,), daemon=True).start()

    def _open(page: str) -> None:
        if not webbrowser.open(page):
            say(f"No browser opened; go to {page}")

    # Without a limit of the rate: the only client is the one who started it.
    run_server(load(), Settings(limits=Limits(rate=0)), 0, show)
