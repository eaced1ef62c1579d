import importlib
import json
import sys
import threading
import webbrowser

import cv2
import httpx
import numpy as np
import PIL.Image
import pytest

from ferkit.errors import MissingDependencyError, UsageError, VideoError
from ferkit.serve.server import WebServer
from ferkit.serve.window import LiveWindow, load_pygame
from ferkit.video.frames import Every, FrameSource
from web import fast_recognizer

# By these names the package has the functions.
command, serve = (importlib.import_module(f"ferkit.cli.{name}") for name in ("live", "serve"))


def run(*arguments):
    from ferkit.cli import app

    return app(["live", *arguments], standalone_mode=False)


@pytest.fixture
def quick(monkeypatch):
    """No model to load; yields what was asked for."""
    asked = []
    for module in (command, serve):
        monkeypatch.setattr(module, "load_recognizer", lambda *words: asked.append(words) or fast_recognizer())
    return asked


@pytest.mark.parametrize(
    ("arguments", "ending"),
    [pytest.param([], "/", id="usual"), pytest.param(["--blur-faces"], "/#blur", id="blurred")],
)
def test_it_serves_on_a_free_port_and_opens_the_page(quick, monkeypatch, capsys, arguments, ending):
    opened, servers = [], []
    begin = WebServer.startup

    async def startup(self, sockets=None):
        servers.append(self)
        await begin(self, sockets)

    def look(page):
        opened.append((page, httpx.get(page).text))
        servers[0].stop()
        return True

    monkeypatch.setattr(WebServer, "startup", startup)
    monkeypatch.setattr(webbrowser, "open", look)
    run("--json", *arguments)
    ((page, text),) = opened
    assert json.loads(capsys.readouterr().out) == {"address": page}
    assert page.startswith("http://127.0.0.1:")
    assert page.endswith(ending)
    assert "<title>ferkit live</title>" in text


def test_where_no_browser_opens_it_says_where_to_go(quick, monkeypatch, capsys):
    told = threading.Event()
    monkeypatch.setattr(webbrowser, "open", lambda page: False)
    monkeypatch.setattr(command, "say", lambda text: "No browser" in text and told.set())
    monkeypatch.setattr(command, "run_server", lambda recognizer, settings, port, ready: ready("http://127.0.0.1:1/"))
    run()
    assert told.wait(5)
    assert "Live at http://127.0.0.1:1/" in capsys.readouterr().out


def test_a_source_is_for_the_window(quick):
    with pytest.raises(UsageError, match=r"ferkit live clip\.mp4 --window"):
        run("clip.mp4")


def test_saving_is_for_the_window(quick):
    with pytest.raises(UsageError, match="--save needs --window"):
        run("--save", "frames")


# --- The window ---


@pytest.fixture
def pygame(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    return pytest.importorskip("pygame")


class Frames(FrameSource):
    """A live source of gray frames, and whatever `each` does before each of them; ends after `count` frames."""

    live = True

    def __init__(self, count=10_000, each=lambda number: None, value=255):
        super().__init__("frames", Every())
        self.count, self.each, self.value = count, each, value

    def _frames(self):
        for number in range(self.count):
            self.each(number)
            yield number, number / 10, lambda: np.full((90, 160, 3), self.value, np.uint8)

    def close(self): ...


@pytest.mark.parametrize(
    "ending",
    [
        pytest.param(lambda game: game.event.Event(game.KEYDOWN, key=game.K_q), id="q"),
        pytest.param(lambda game: game.event.Event(game.KEYDOWN, key=game.K_ESCAPE), id="escape"),
        pytest.param(lambda game: game.event.Event(game.QUIT), id="closed"),
    ],
)
def test_the_window_ends(pygame, ending):
    def each(number):
        if number and pygame.display.get_init() and pygame.display.get_surface() is not None:
            pygame.event.post(ending(pygame))

    window = LiveWindow(Frames(each=each), fast_recognizer())
    window.show()
    assert 0 < window.frames < 10_000
    assert not pygame.display.get_init()


def test_s_saves_what_is_seen(pygame, tmp_path):
    said, pressed = [], threading.Event()

    def each(number):
        if pygame.display.get_init() and pygame.display.get_surface() is not None:
            key = pygame.K_q if said else pygame.K_s
            if key == pygame.K_q or not pressed.is_set():
                pressed.set()
                pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=key))

    LiveWindow(Frames(each=each), fast_recognizer(), folder=tmp_path, say=said.append).show()
    (path,) = tmp_path.iterdir()
    assert said == [f"Wrote {path}"]
    with PIL.Image.open(path) as image:
        assert image.format == "PNG"
        assert len(image.getcolors(1 << 20)) > 10  # a box, a label and bars on white


def test_blurring_hides_the_face(pygame, tmp_path):
    noise = np.random.default_rng(0).integers(50, 255, (90, 160, 3)).astype(np.uint8)

    def detail(blur_faces):
        window = LiveWindow(Frames(3), fast_recognizer(), blur_faces=blur_faces)
        window.source._frames = lambda: iter([(n, n / 10, lambda: noise) for n in range(3)])
        window.show()
        height, width = window._newest.shape[:2]
        middle = window._newest[height * 2 // 5 : height * 3 // 5, width * 2 // 5 : width * 3 // 5]
        return cv2.Laplacian(middle, cv2.CV_32F).std()

    assert detail(blur_faces=True) < detail(blur_faces=False) / 4


def test_the_window_passes_on_what_goes_wrong(pygame):
    def each(number):
        raise VideoError("The camera burns.")

    with pytest.raises(VideoError, match="burns"):
        LiveWindow(Frames(each=each), fast_recognizer()).show()


def test_a_clip_is_shown_from_the_command_line(pygame, quick, tmp_path, capsys):
    av = pytest.importorskip("av")
    clip = tmp_path / "clip.mp4"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("libx264", rate=20, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 160, 90, "yuv420p"
        for _ in range(4):
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.full((90, 160, 3), 255, np.uint8), format="rgb24"))
            )
        container.mux(stream.encode())
    run(str(clip), "--window", "--json", "--model", "default-int8")
    shown = json.loads(capsys.readouterr().out)
    assert shown["source"] == str(clip)
    assert 1 <= shown["frames"] <= 4
    assert quick == [("default-int8", "auto", 0.0, None, None, None, "upright")]


def test_without_the_extra_it_says_which_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'ferkit\[window\]'"):
        load_pygame()


def test_a_window_without_a_display_says_so(monkeypatch):
    pytest.importorskip("pygame")
    for name in ("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    window = LiveWindow(Frames(), fast_recognizer())
    with pytest.raises(MissingDependencyError, match="needs a display"):
        window.show()
    assert window.frames == 0


def test_no_display_is_said_before_a_camera_is_opened(monkeypatch, quick):
    pytest.importorskip("pygame")
    for name in ("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(MissingDependencyError, match="needs a display"):
        run("--window", "no such video.mp4")
