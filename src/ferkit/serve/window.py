"""A desktop window that shows a camera or video with its faces. Needs the extra `window`.

The headless OpenCV that ferkit depends on has no windows; pygame-ce has.
"""

import io
import os
import threading
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import PIL.Image

from ferkit._support.files import write_encoded
from ferkit.errors import MissingDependencyError
from ferkit.recognizer import EmotionRecognizer
from ferkit.sources import RgbImage
from ferkit.video import DETECT_EVERY_S, FaceFollower, Frame, FrameFaces, FrameSource, Overlay

_MAX_WIDTH, _MAX_HEIGHT = 1280, 720  # of the window at first; it can be resized
_BACKGROUND = (11, 12, 14)
# Frames of a file that are later than this are skipped, so that the clip plays at its own speed.
_LATE_S = 0.1
_FPS = 60
# Drivers that SDL takes where no display answers.
_HEADLESS = ("dummy", "offscreen", "evdev")


def load_pygame() -> ModuleType:
    """Import pygame-ce, or an error that says how to get it."""
    try:
        # It prints a greeting to standard output.
        with redirect_stdout(io.StringIO()):
            import pygame
    except ImportError as problem:
        raise MissingDependencyError("A window needs pygame-ce: pip install 'ferkit[window]'.") from problem
    module: ModuleType = pygame
    return module


def open_display(pygame: Any) -> None:
    """Start pygame's display; where there is none it would play to nobody, unless that driver was asked for."""
    try:
        pygame.display.init()
        driver = pygame.display.get_driver()
    except pygame.error as problem:
        driver = str(problem)
    if driver not in _HEADLESS and pygame.display.get_init():
        return
    if os.environ.get("SDL_VIDEODRIVER", "") != driver:
        pygame.display.quit()
        raise MissingDependencyError(
            f"A window needs a display, and this machine has none ({driver}). Use the page instead: ferkit live --no-open"
        )


class LiveWindow:
    """Shows a source until it ends, q or Escape is pressed, or the window is closed; s saves a frame.

    Args:
        source: Frames, as `ferkit.video.open_video` returns them; live ones are mirrored.
        recognizer: Detects and classifies faces.
        blur_faces: Blur faces.
        folder: Where frames are saved.
        say: Called with a message when a frame was saved.

    """

    def __init__(
        self,
        source: FrameSource,
        recognizer: EmotionRecognizer,
        *,
        blur_faces: bool = False,
        folder: str | Path = ".",
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.source, self.folder, self.say = source, Path(folder), say
        # With blurring every frame is searched: a face must not be seen before it is found.
        self._follow = FaceFollower(recognizer, detect_every_s=0 if blur_faces else DETECT_EVERY_S)
        self._overlay = Overlay(recognizer.classes, blur_faces=blur_faces)
        self._newest: RgbImage | None = None
        self._ending = threading.Event()
        self._problem: BaseException | None = None
        self.frames = 0

    def show(self) -> None:
        """Open the window and stay until it ends. Call it from the main thread: some systems insist."""
        pygame = load_pygame()
        open_display(pygame)
        worker = threading.Thread(target=self._process, name="ferkit-window", daemon=True)
        try:
            worker.start()
            self._run(pygame)
        finally:
            self._ending.set()
            worker.join(timeout=5)
            self.source.close()
            pygame.display.quit()
        if self._problem is not None:
            raise self._problem

    def _run(self, pygame: ModuleType) -> None:
        screen, clock = None, pygame.time.Clock()
        shown: RgbImage | None = None
        while True:
            ended = self._ending.is_set()
            newest = self._newest
            if newest is not None and newest is not shown:
                shown = newest
                screen = screen or self._open(pygame, shown)
                self._draw(pygame, screen, shown)
            for event in pygame.event.get() if screen is not None else ():
                key = event.key if event.type == pygame.KEYDOWN else None
                if event.type == pygame.QUIT or key in (pygame.K_q, pygame.K_ESCAPE):
                    return
                if key == pygame.K_s and shown is not None:
                    self.say(f"Wrote {self._save(shown)}")
                if event.type == pygame.VIDEORESIZE and shown is not None and screen is not None:
                    self._draw(pygame, screen, shown)
            if ended:
                return
            clock.tick(_FPS)

    def _open(self, pygame: ModuleType, image: RgbImage) -> Any:
        height, width = image.shape[:2]
        scale = min(_MAX_WIDTH / width, _MAX_HEIGHT / height, 1.0)
        pygame.display.set_caption(
            "ferkit live: q quits, s saves a frame. Perceived expression, not what a person feels"
        )
        size = max(round(width * scale), 1), max(round(height * scale), 1)
        return pygame.display.set_mode(size, pygame.RESIZABLE)

    def _draw(self, pygame: ModuleType, screen: Any, image: RgbImage) -> None:
        surface = pygame.image.frombuffer(np.ascontiguousarray(image).tobytes(), image.shape[1::-1], "RGB")
        width, height = screen.get_size()
        scale = min(width / image.shape[1], height / image.shape[0])
        size = max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1)
        screen.fill(_BACKGROUND)
        place = (width - size[0]) // 2, (height - size[1]) // 2
        screen.blit(pygame.transform.smoothscale(surface, size), place)
        pygame.display.flip()

    def _save(self, image: RgbImage) -> Path:
        path = self.folder / f"ferkit-{datetime.now().astimezone():%Y-%m-%d-%H-%M-%S-%f}.png"
        write_encoded(path, lambda stream: PIL.Image.fromarray(image).save(stream, "PNG"))
        return path

    def _process(self) -> None:
        """Runs on its own thread, so that the window stays responsive."""
        try:
            start: float | None = None
            for frame in self.source:
                if self._ending.is_set():
                    return
                if not self.source.live:
                    start = time.monotonic() - frame.time_s if start is None else start
                    late = time.monotonic() - start - frame.time_s
                    if late > _LATE_S and self.frames:
                        continue
                    if self._ending.wait(max(-late, 0)):
                        return
                self._newest = self._annotated(frame)
                self.frames += 1
        except BaseException as problem:  # raised by the thread that shows
            self._problem = problem
        finally:
            self._ending.set()

    def _annotated(self, frame: Frame) -> RgbImage:
        if self.source.live:
            frame = frame._replace(pixels=np.ascontiguousarray(frame.pixels[:, ::-1]))
        faces = self._follow(frame.pixels, frame.time_s)
        return self._overlay(FrameFaces(frame, tuple(faces), self._follow.hidden(frame.time_s)))
