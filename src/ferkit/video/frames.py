"""Frames with their times: what all sources of video have in common, and which of the frames are wanted.

A video file or stream, decoded by FFmpeg through PyAV: frames with the times that it gives them.
"""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from types import ModuleType, TracebackType
from typing import Any, NamedTuple, Self

import cv2
import numpy as np

from ferkit.errors import ImageError, MissingDependencyError, UsageError, VideoError
from ferkit.sources import RgbImage

# Where a source says nothing of its rate.
DEFAULT_FPS = 25.0


class Frame(NamedTuple):
    """A frame of a video.

    number: of the source's frames, from 0, those left out and broken ones included.
    time_s: seconds from the beginning, by the source's own clock.
    pixels: RGB uint8 (H, W, 3), upright.
    """

    number: int
    time_s: float
    pixels: RgbImage


# Pixels are made when they are wanted: turning a frame into RGB takes as long as decoding it. `ImageError` says that this
# cannot be done.
Pending = tuple[int, float, Callable[[], RgbImage]]


@dataclass(frozen=True)
class Every:
    """Which frames are wanted: each n-th, or one every so many seconds."""

    frames: int = 1
    seconds: float = 0.0

    @classmethod
    def of(cls, text: "str | int | Every") -> "Every":
        """Read `5` or "5" as frames, "0.5s" as seconds.

        >>> Every.of("0.5s")
        Every(frames=1, seconds=0.5)
        """
        if isinstance(text, Every):
            return text
        if re.fullmatch(r"\d{1,9}", str(text).strip()) and int(text) >= 1:
            return cls(frames=int(text))
        found = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*s", str(text).strip())
        if found and float(found[1]) > 0:
            return cls(seconds=float(found[1]))
        raise UsageError(f"Expected every as frames, such as 5, or seconds, such as 0.5s. Received: {text!r}.")

    def of_these(self, frames: Iterator[Pending]) -> Iterator[Pending]:
        """The wanted ones of all frames. By seconds the first frame at or after each step is taken."""
        due = -math.inf
        for number, time_s, pixels in frames:
            if self.seconds:
                # A rounding error is not to cost a frame: 0.3 / 0.1 is less than 3.
                if time_s < due - 1e-6:
                    continue
                due = (math.floor(time_s / self.seconds + 1e-6) + 1) * self.seconds
            elif number % self.frames:
                continue
            yield number, time_s, pixels


class FrameSource(ABC):
    """Frames of one video, each in its turn; memory holds one of them. A context manager that closes what it opened.

    name: what tables call it. duration_s: how long it should be, None where that is not known, as with cameras. end_s:
    when the last frame that came is over, None where that is not known.
    rate: frames per second, on average, None where not known. live: whether it ends only when somebody ends it.
    broken: frames that could not be decoded so far. problem: why it broke off, in a sentence; None if it did not.
    sound: what `ferkit.video.clip` may take the sound from; None where there is none to be had.
    """

    duration_s: float | None = None
    end_s: float | None = None
    rate: float | None = None
    live = False
    sound: str | None = None

    def __init__(self, name: str, every: Every) -> None:
        self.name = name
        self.every = every
        self.broken = 0
        self.problem: str | None = None
        self._whole = 0  # frames that could be decoded

    @property
    def step_s(self) -> float:
        """Seconds between two wanted frames, roughly; 0 where not known."""
        return self.every.seconds or (self.every.frames / self.rate if self.rate else 0.0)

    def __iter__(self) -> Iterator[Frame]:
        for number, time_s, pixels in self.every.of_these(self._counted()):
            try:
                picture = pixels()
            except ImageError:
                self.broken += 1
                self._whole -= 1
                continue
            yield Frame(number, time_s, picture)
        if not self._whole and self.problem is None:
            self.problem = f"none of its {self.broken} frames can be decoded" if self.broken else "it has no frames"

    def _counted(self) -> Iterator[Pending]:
        for pending in self._frames():
            self._whole += 1
            yield pending

    @abstractmethod
    def _frames(self) -> Iterator[Pending]:
        """All frames in order, times rising."""

    @abstractmethod
    def close(self) -> None:
        """Let go of file or camera; may be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class RisingClock:
    """Times of frames from what a stream says of them: seconds from its beginning that only rise.

    start: what the stream counts from, None if from its first frame. step: seconds between two frames, where it says
    nothing.
    """

    # A stream that goes back further than that began to count anew; less is a frame out of order.
    _ANEW = 1.0

    def __init__(self, start: float | None, step: float) -> None:
        self._start, self._step = start, step
        self._last: float | None = None

    def __call__(self, stamp: float | None) -> float:
        """The time of the next frame, whose own time may be missing or wrong."""
        after = 0.0 if self._last is None else self._last + self._step
        if stamp is None or not math.isfinite(stamp):
            time_s = after
        else:
            if self._start is None:
                self._start = stamp - after
            time_s = stamp - self._start
            if self._last is None:
                time_s = max(time_s, 0.0)
            elif time_s < self._last - self._ANEW:
                time_s, self._start = after, stamp - after
            elif time_s <= self._last:
                time_s = self._last + min(self._step, 1e-3)
        self._last = time_s
        return time_s


_SILENCE_S = 10.0  # after which a server is given up
# A file whose frames end that much before their time broke off; less is sloppiness of whoever wrote it.
_MISSING_S, _MISSING_PART = 0.9, 0.05
_TELLING = {"mov", "mp4", "matroska", "webm", "avi"}
# What may be opened by which kind of address. A playlist inside of a file must not lead anywhere else: FFmpeg would fetch
# whatever it names.
_WEB = "http,https,tcp,tls,crypto"
PROTOCOLS = {
    "http": _WEB,
    "https": _WEB,
    "rtsp": "rtsp,rtp,udp,tcp",
    "rtsps": "rtsp,rtsps,srtp,rtp,udp,tcp,tls,crypto",
    "rtmp": "rtmp,tcp",
    "rtmps": "rtmps,tcp,tls,crypto",
}
_OF_FILES = "file,crypto,data"
_TURNS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}


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


def open_container(target: str) -> Any:
    """A file or an address, for reading. Raises PyAV's errors, `OSError` and `ValueError`."""
    options = {"protocol_whitelist": PROTOCOLS.get(target.partition(":")[0].lower(), _OF_FILES)}
    if target.lower().startswith("rtsp"):
        options["rtsp_transport"] = "tcp"  # over UDP, frames come with holes
    av = load_av()
    # From version 19 on PyAV bears metadata that are no UTF-8 by itself, and knows no such word.
    lenient = {} if int(av.__version__.partition(".")[0]) >= 19 else {"metadata_errors": "replace"}
    return av.open(target, options=options, timeout=_SILENCE_S, **lenient)


class Stream(FrameSource):
    """A video file, or a stream at an address. target: as FFmpeg takes it."""

    def __init__(self, target: str, name: str, every: Every, *, sound: bool) -> None:
        super().__init__(name, every)
        self._av = load_av()
        try:
            self._container = open_container(target)
        except (self._av.FFmpegError, OSError, ValueError) as problem:
            raise VideoError(
                f"Cannot read {name}: {_reason(problem)}. Expected a video that FFmpeg knows."
            ) from problem
        self._stream = self._container.streams.best("video")
        if self._stream is None:
            kinds = ", ".join(sorted({stream.type for stream in self._container.streams})) or "nothing"
            self.close()
            raise VideoError(f"{name} holds no moving picture (it has: {kinds}). Expected a video.")
        # Not by frames: an error would then be told with a later packet, and good frames be lost with it.
        self._stream.thread_type = "SLICE"
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
        step = 1 / (self.rate or DEFAULT_FPS)
        clock = RisingClock(self.start_s, step)
        number, time_s, lasting = 0, 0.0, 0.0
        for decoded in self._decoded():
            if decoded is None or decoded.is_corrupt:
                self.broken += 1
            else:
                time_s = clock(_stamp(decoded))
                lasting = _lasting(decoded)
                self.end_s = time_s + (lasting or step)
                yield number, time_s, partial(_pixels, decoded, _aspect(self._stream))
            number += 1
        told = _told_duration(self._stream, self._container)
        missing = told - time_s - lasting
        if self.problem is None and number > self.broken and missing > max(_MISSING_S, _MISSING_PART * told):
            self.problem = f"it breaks off after {time_s:.1f} of {told:.1f} seconds"

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


def _duration(stream: Any, container: Any) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / 1e6 if container.duration and container.duration > 0 else None


def _told_duration(stream: Any, container: Any) -> float:
    """How long the file says that its pictures last, 0 where it does not say: most kinds of files can only be guessed."""
    if not set(container.format.name.split(",")) & _TELLING:
        return 0.0
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    # Matroska tells the length of the whole, and FFmpeg and others write that of each stream as a tag.
    if found := re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", "")):
        hours, minutes, seconds = map(float, found.groups())
        return hours * 3600 + minutes * 60 + seconds
    return float(container.duration or 0) / 1e6 if len(container.streams) == 1 else 0.0


def _stamp(frame: Any) -> float | None:
    """When a frame is shown, by its stream's clock. AVI has no such times, only when it is decoded."""
    stamp = frame.pts if frame.pts is not None else frame.dts
    return None if stamp is None or frame.time_base is None else float(stamp * frame.time_base)


def _lasting(frame: Any) -> float:
    """For how many seconds a frame is shown, 0 where the file does not say."""
    return float(frame.duration * frame.time_base) if frame.duration and frame.time_base else 0.0


def _aspect(stream: Any) -> Fraction:
    """Width of a pixel to its height."""
    aspect = stream.sample_aspect_ratio
    return aspect if aspect and Fraction(1, 4) < aspect < 4 else Fraction(1)


def _pixels(frame: Any, aspect: Fraction) -> RgbImage:
    """RGB uint8 of a decoded frame, upright, with square pixels."""
    width = round(frame.width * aspect)
    try:
        if width == frame.width:
            pixels = frame.to_ndarray(format="rgb24")
        else:
            pixels = frame.reformat(width=width, height=frame.height, format="rgb24").to_ndarray()
    except Exception as problem:  # FFmpeg's errors share no base but Exception
        raise ImageError(f"A frame cannot be turned into RGB: {_reason(problem)}.") from problem
    turn = _TURNS.get(round(frame.rotation / 90) * 90 % 360)
    return np.asarray(pixels if turn is None else cv2.rotate(pixels, turn), np.uint8)


def _reason(problem: BaseException) -> str:
    text = getattr(problem, "strerror", None) or str(problem)
    return " ".join(str(text).split()).rstrip(".").lower() or type(problem).__name__
