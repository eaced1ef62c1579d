"""Where video comes from: files and addresses (FFmpeg through PyAV), cameras (OpenCV), folders of frames."""

import math
import os
import re
import time
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np

from ferkit.download import offline
from ferkit.errors import ImageError, MissingDependencyError, UsageError, VideoError
from ferkit.images import RgbImage, read_image
from ferkit.sources import expand_sources, is_many, printable_name
from ferkit.video.frames import Every, FrameSource, Pending, RisingClock

DEFAULT_FPS = 25.0
# What may be opened by which kind of address. A playlist inside of a file must not lead anywhere else: FFmpeg would fetch
# whatever it names.
_WEB = "http,https,tcp,tls,crypto"
_PROTOCOLS = {
    "http": _WEB,
    "https": _WEB,
    "rtsp": "rtsp,rtp,udp,tcp",
    "rtsps": "rtsp,rtsps,srtp,rtp,udp,tcp,tls,crypto",
    "rtmp": "rtmp,tcp",
    "rtmps": "rtmps,tcp,tls,crypto",
}
_LIVE = ("rtsp", "rtsps", "rtmp", "rtmps")
_SILENCE_S = 10.0  # after which a server is given up
_CAMERA_SILENCE_S = 3.0
# A file whose frames end that much before their time broke off; less is sloppiness of whoever wrote it.
_MISSING_S, _MISSING_PART = 1.0, 0.05
_TURNS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}

VideoSource = str | os.PathLike[str] | int


def open_video(source: VideoSource, *, every: str | int | Every = 1, fps: float = DEFAULT_FPS) -> FrameSource:
    """Open a video; iterating the result gives its frames, `with` closes it.

    source: path of a video (whatever FFmpeg reads: mp4, mov, avi, mkv, webm, ...), address (https, http, rtsp, rtmp),
        number of a camera (0 or "0"), or a folder or glob of frames, taken in natural order.
    every: 5 takes each fifth frame, "0.5s" one every half second.
    fps: frames per second of a folder of frames; all else says itself when its frames are.

    Raises `VideoError` where there is no video, `UsageError` for values that make no sense, `MissingDependencyError`
    without PyAV, which `ferkit[video]` brings.
    """
    every = Every.of(every)
    if isinstance(source, int) and not isinstance(source, bool):
        return Camera(source, every)
    if not isinstance(source, str | os.PathLike):
        raise VideoError(f"Expected a video as path, address or camera number. Received: {type(source).__name__}.")
    text = os.fsdecode(source)
    if re.fullmatch(r"\d{1,3}", text) and not os.path.lexists(text):
        return Camera(int(text), every)
    if scheme := re.match(r"([a-z][a-z0-9+.-]+)://", text, re.IGNORECASE):
        return _address(text, scheme[1].lower(), every)
    if is_many(text):
        return FrameFolder(text, every, fps)
    if not os.path.isfile(text):  # noqa: PTH113 - Path's raises for what can be no path
        raise VideoError(_not_there(text))
    # "file:" keeps names with a colon from being taken for protocols.
    return Stream(f"file:{text}", printable_name(text), every, protocols="file,crypto,data", sound=True)


def load_av() -> ModuleType:
    """PyAV, or an error that says how to get it."""
    try:
        import av
    except ImportError as problem:
        raise MissingDependencyError(
            "Videos need PyAV, which the base install leaves out. Install it with: pip install 'ferkit[video]'."
        ) from problem
    module: ModuleType = av
    return module


class Stream(FrameSource):
    """A video file, or a stream at an address.

    target: as FFmpeg takes it. protocols: what it may open.
    """

    def __init__(self, target: str, name: str, every: Every, *, protocols: str, sound: bool) -> None:
        super().__init__(name, every)
        self._av = load_av()
        self._options = {"protocol_whitelist": protocols}
        if target.startswith("rtsp"):
            self._options["rtsp_transport"] = "tcp"  # over UDP, frames come with holes
        try:
            self._container = self._av.open(
                target, options=self._options, timeout=_SILENCE_S, metadata_errors="replace"
            )
        except (self._av.FFmpegError, OSError, ValueError) as problem:
            raise VideoError(
                f"Cannot read {name}: {_reason(problem)}. Expected a video that FFmpeg knows."
            ) from problem
        self._stream = self._container.streams.best("video")
        if self._stream is None:
            kinds = ", ".join(sorted({stream.type for stream in self._container.streams})) or "nothing"
            self.close()
            raise VideoError(f"{name} holds no moving picture (it has: {kinds}). Expected a video.")
        self._stream.thread_type = "AUTO"
        rate = self._stream.average_rate or self._stream.guessed_rate
        self.rate = float(rate) if rate and 0 < rate <= 1000 else None
        self.duration_s = _duration(self._stream, self._container)
        if sound and self._container.streams.audio:
            self.sound = target

    @property
    def start_s(self) -> float | None:
        """Where the file's own clock begins; sound and picture both count from there."""
        start = self._container.start_time
        return None if start is None else start / 1e6

    def _frames(self) -> Iterator[Pending]:
        clock = RisingClock(self.start_s, 1 / (self.rate or DEFAULT_FPS))
        number, time_s = 0, 0.0
        for decoded in self._decoded():
            if decoded is None or decoded.is_corrupt:
                self.broken += 1
            else:
                time_s = clock(_stamp(decoded))
                yield number, time_s, partial(_pixels, decoded, _aspect(self._stream))
            number += 1
        if self.problem is None and number > self.broken and self._stream.duration and self.duration_s is not None:
            missing = self.duration_s - time_s
            if missing > max(_MISSING_S, _MISSING_PART * self.duration_s):
                self.problem = f"it breaks off after {time_s:.1f} of {self.duration_s:.1f} seconds"

    def _decoded(self) -> Iterator[Any]:
        """Frames as FFmpeg gives them, None for one that it cannot decode."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except self._av.error.EOFError:
                return
            except (self._av.FFmpegError, OSError) as problem:
                self.problem = f"it breaks off ({_reason(problem)})"
                return
            if packet is None:
                return
            try:
                frames = packet.decode()
            except self._av.error.EOFError:
                return
            except self._av.FFmpegError:
                frames = [None]
            yield from frames

    def close(self) -> None:
        self._container.close()


class Camera(FrameSource):
    """A camera of this machine, by number, through OpenCV: PyAV's wheels read none."""

    live = True

    def __init__(self, number: int, every: Every) -> None:
        super().__init__(f"camera {number}", every)
        self._camera = cv2.VideoCapture(number)
        if not self._camera.isOpened():
            raise VideoError(f"There is no camera {number} that can be opened. Does another program use it?")
        # An old frame is worth nothing.
        self._camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        rate = self._camera.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate <= 1000 else None

    def _frames(self) -> Iterator[Pending]:
        # What cameras say of time is mostly made up; the moment when a frame arrived is not.
        clock = RisingClock(None, 1e-3)
        number, last = 0, time.monotonic()
        while True:
            there, picture = self._camera.read()
            now = time.monotonic()
            if there and picture is not None:
                last = now
                yield number, clock(now), partial(_from_bgr, picture)
                number += 1
            elif now - last > _CAMERA_SILENCE_S:
                self.problem = f"it gave no picture for {_CAMERA_SILENCE_S:g} seconds"
                return
            else:
                self.broken += 1
                time.sleep(0.02)

    def close(self) -> None:
        self._camera.release()


class FrameFolder(FrameSource):
    """Pictures of a folder or glob as the frames of a video, in natural order."""

    def __init__(self, pattern: str, every: Every, fps: float) -> None:
        super().__init__(printable_name(pattern), every)
        if not (math.isfinite(fps) and fps > 0):
            raise UsageError(f"fps must be more than 0 frames per second. Received: {fps}.")
        self.rate = fps
        self._pictures = list(expand_sources([pattern]))
        if self._pictures == [pattern]:
            raise VideoError(f"{self.name} holds no pictures. Expected a folder of frames, or a video file.")
        self.duration_s = len(self._pictures) / fps

    def _frames(self) -> Iterator[Pending]:
        for number, path in enumerate(self._pictures):
            if (number % self.every.frames) == 0:
                try:
                    picture = read_image(path)
                except ImageError:
                    self.broken += 1
                    continue
                yield number, number / float(self.rate or DEFAULT_FPS), partial(np.asarray, picture)

    def close(self) -> None: ...


def _address(url: str, scheme: str, every: Every) -> Stream:
    shown = printable_name(_without_user(url))
    if scheme not in _PROTOCOLS:
        raise VideoError(f"{shown} is an address that ferkit cannot read. Expected {', '.join(_PROTOCOLS)}, or a file.")
    if offline():
        raise VideoError(f"Cannot read {shown}: FERKIT_OFFLINE is set. Unset it, or give a file.")
    stream = Stream(url, shown, every, protocols=_PROTOCOLS[scheme], sound=False)
    stream.live = scheme in _LIVE or stream.duration_s is None
    if not stream.live and stream._container.streams.audio:
        stream.sound = url
    return stream


def _without_user(url: str) -> str:
    """An address without the name and password that cameras want in it: it stands in tables."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _not_there(path: str) -> str:
    name = printable_name(path)
    if path == "-":
        return "Videos are not read from standard input. Expected a file, an address, a camera number or a folder."
    if os.path.exists(path):  # noqa: PTH110
        return f"{name} is neither a file nor a folder. Expected a video."
    return f"There is no video {name}. Expected a file, an address, a camera number or a folder of frames."


def _duration(stream: Any, container: Any) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / 1e6 if container.duration and container.duration > 0 else None


def _stamp(frame: Any) -> float | None:
    """When a frame is shown, by its stream's clock. AVI has no such times, only when it is decoded."""
    stamp = frame.pts if frame.pts is not None else frame.dts
    return None if stamp is None or frame.time_base is None else float(stamp * frame.time_base)


def _aspect(stream: Any) -> Fraction:
    """Width of a pixel to its height."""
    aspect = stream.sample_aspect_ratio
    return aspect if aspect and Fraction(1, 4) < aspect < 4 else Fraction(1)


def _pixels(frame: Any, aspect: Fraction) -> RgbImage:
    """RGB uint8 of a decoded frame, upright, with square pixels."""
    width = round(frame.width * aspect)
    if width == frame.width:
        pixels = frame.to_ndarray(format="rgb24")
    else:
        pixels = frame.reformat(width=width, height=frame.height, format="rgb24").to_ndarray()
    turn = _TURNS.get(round(frame.rotation / 90) * 90 % 360)
    return np.asarray(pixels if turn is None else cv2.rotate(pixels, turn), np.uint8)


def _from_bgr(picture: Any) -> RgbImage:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def _reason(problem: BaseException) -> str:
    text = getattr(problem, "strerror", None) or str(problem)
    return " ".join(str(text).split()).rstrip(".").lower() or type(problem).__name__
