"""A video file or stream, decoded by FFmpeg through PyAV: frames with the times that it gives them."""

import re
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from types import ModuleType
from typing import Any

import cv2
import numpy as np

from ferkit.errors import ImageError, MissingDependencyError, VideoError
from ferkit.images import RgbImage
from ferkit.video.frames import DEFAULT_FPS, Every, FrameSource, Pending, RisingClock

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
