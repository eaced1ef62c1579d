"""Frames with timestamps: the base class of video sources, frame selection, and files and streams decoded by PyAV."""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from types import ModuleType, TracebackType
from typing import Any, NamedTuple, Self

import cv2
import numpy as np

from ferkit._support.parallel import Aside, usable_cores
from ferkit.errors import ImageError, MissingDependencyError, UsageError, VideoError
from ferkit.sources import PICTURE_SUFFIXES, RgbImage

# For sources that do not state their frame rate.
DEFAULT_FPS = 25.0


class Frame(NamedTuple):
    """A frame of a video.

    Attributes:
        number: Index among all frames of the source, from 0, including skipped and undecodable ones.
        time_s: Seconds from the beginning, by the source's own clock.
        pixels: RGB uint8 (H, W, 3), upright.

    """

    number: int
    time_s: float
    pixels: RgbImage


# Number, time, and a function that converts the frame to RGB, which takes as long as decoding it, or raises
# `ImageError`.
Pending = tuple[int, float, Callable[[], RgbImage]]


def parse_time(text: str | float) -> float:
    """Seconds of a time in a video, as players show it.

    >>> parse_time("1:30"), parse_time("1:02:03.5"), parse_time(12)
    (90.0, 3723.5, 12.0)
    """
    found = re.fullmatch(r"(?:(?:(\d{1,6}):)?(\d{1,2}):)?(\d{1,9}(?:\.\d*)?|\.\d+)", str(text).strip())
    if found is None:
        raise UsageError(f"Expected a time as seconds, such as 90, or as 1:30. Received: {text!r}.")
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds


@dataclass(frozen=True)
class Every:
    """Which frames to process: every n-th, or one per interval in seconds; from `start_s` to before `end_s`."""

    frames: int = 1
    seconds: float = 0.0
    start_s: float = 0.0
    end_s: float | None = None

    @classmethod
    def of(cls, text: "str | int | Every") -> "Every":
        """Read `5` or "5" as frames, "0.5s" as seconds.

        >>> Every.of("0.5s").seconds
        0.5
        """
        if isinstance(text, Every):
            return text
        if re.fullmatch(r"\d{1,9}", str(text).strip()) and int(text) >= 1:
            return cls(frames=int(text))
        found = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*s", str(text).strip())
        if found and float(found[1]) > 0:
            return cls(seconds=float(found[1]))
        raise UsageError(f"Expected every as frames, such as 5, or seconds, such as 0.5s. Received: {text!r}.")

    def __str__(self) -> str:
        return f"{self.seconds:g}s" if self.seconds else str(self.frames)

    def within(self, start: str | float | None, end: str | float | None) -> "Every":
        """The same between two times, as `parse_time` reads them; None is the beginning or the end of the video."""
        start_s = 0.0 if start is None else parse_time(start)
        end_s = None if end is None else parse_time(end)
        if end_s is not None and end_s <= start_s:
            raise UsageError(f"end must be after start ({start_s:g} s). Received: {end_s:g} s.")
        return replace(self, start_s=start_s, end_s=end_s)

    def of_these(self, frames: Iterator[Pending]) -> Iterator[Pending]:
        """Select frames. With an interval, the first frame at or after each step."""
        due = -math.inf
        # Tolerance for rounding errors: 0.3 / 0.1 is less than 3.
        for number, time_s, pixels in frames:
            if self.end_s is not None and time_s >= self.end_s - 1e-6:
                return
            if time_s < self.start_s - 1e-6:
                continue
            if self.seconds:
                if time_s < due - 1e-6:
                    continue
                due = (math.floor(time_s / self.seconds + 1e-6) + 1) * self.seconds
            elif number % self.frames:
                continue
            yield number, time_s, pixels


class FrameSource(ABC):
    """The frames of one video, one at a time. A context manager that closes what it opened.

    Attributes:
        name: Its name in tables.
        duration_s: Expected duration, None if not known, as for cameras.
        end_s: End of the last frame so far, None if not known.
        rate: Mean frames per second, None if not known.
        path: The file, None for what is not one.
        live: Whether it only ends when it is stopped.
        broken: Number of undecodable frames so far.
        problem: Why it broke off, None if it did not.
        sound: Where `ferkit.video.ClipWriter` can read its sound, None if there is none.

    """

    duration_s: float | None = None
    end_s: float | None = None
    rate: float | None = None
    path: str | None = None
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
        """Approximate seconds between two processed frames; 0 if not known."""
        return self.every.seconds or (self.every.frames / self.rate if self.rate else 0.0)

    def __iter__(self) -> Iterator[Frame]:
        shown = 0
        for number, time_s, pixels in self.every.of_these(self._counted()):
            try:
                picture = pixels()
            except ImageError:
                self.broken += 1
                self._whole -= 1
                continue
            shown += 1
            yield Frame(number, time_s, picture)
        if self.every.end_s is not None and self.end_s is not None:
            self.end_s = min(self.end_s, self.every.end_s)
        if self.problem is None and not (shown or self._whole):
            self.problem = f"none of its {self.broken} frames can be decoded" if self.broken else "it has no frames"
        if self.problem is None and not shown:
            self.problem = f"it has no frame from {self.every.start_s:g} seconds on"

    def _counted(self) -> Iterator[Pending]:
        for pending in self._frames():
            self._whole += 1
            yield pending

    @abstractmethod
    def _frames(self) -> Iterator[Pending]:
        """All frames in order, with increasing times."""

    @abstractmethod
    def close(self) -> None:
        """Release the file or camera; may be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class RisingClock:
    """Strictly increasing times in seconds, from the timestamps of a stream.

    start: timestamp of the beginning, None for that of the first frame. step: seconds between two frames without
    timestamps.
    """

    # A jump back by more seconds than this is a restarted clock; a smaller one is a frame out of order.
    _RESTART_S = 1.0

    def __init__(self, start: float | None, step: float) -> None:
        self._start, self._step = start, step
        self._last: float | None = None

    def __call__(self, stamp: float | None) -> float:
        """The time of the next frame, whose timestamp may be missing or wrong."""
        after = 0.0 if self._last is None else self._last + self._step
        if stamp is None or not math.isfinite(stamp):
            time_s = after
        else:
            if self._start is None:
                self._start = stamp - after
            time_s = stamp - self._start
            if self._last is None:
                time_s = max(time_s, 0.0)
            elif time_s < self._last - self._RESTART_S:
                time_s, self._start = after, stamp - after
            elif time_s <= self._last:
                time_s = self._last + min(self._step, 1e-3)
        self._last = time_s
        return time_s


_TIMEOUT_S = 10.0  # of a server that sends nothing
_OPENING_S, _FRAME_S = 60.0, 30.0  # all else: a frame may be built to take hours
# A file whose frames end this much before its stated duration is truncated; less is imprecision of its writer.
_MISSING_S, _MISSING_PART = 0.9, 0.05
_WITH_DURATION = {"mov", "mp4", "matroska", "webm", "avi"}
_INDEXED = {"mov", "mp4", "matroska", "webm"}  # each packet has its time, and they can be sought
# Protocols that FFmpeg may open, by URL scheme: a playlist in a file must not make it fetch anything else.
_WEB = "http,https,tcp,tls,crypto"
PROTOCOLS = {
    "http": _WEB,
    "https": _WEB,
    "rtsp": "rtsp,rtp,udp,tcp",
    "rtsps": "rtsp,rtsps,srtp,rtp,udp,tcp,tls,crypto",
    "rtmp": "rtmp,tcp",
    "rtmps": "rtmps,tcp,tls,crypto",
}
_FILE_PROTOCOLS = "file"
# The formats that FFmpeg may recognise. None of these names other files, as playlists, concat scripts and image
# sequences do. Sound alone is among them so that the error can say so.
_FORMATS = (
    "mov,mp4,matroska,webm,avi,mpeg,mpegts,mpegvideo,flv,live_flv,asf,ogg,rm,dv,mxf,nut,wtv,ivf,obu,av1,h261,h263,h264,"
    "hevc,vvc,m4v,vc1,mjpeg,mpjpeg,gif,apng,yuv4mpegpipe,swf,amv,nsv,gxf,wav,mp3,flac,aac"
)
# Of live streams: a playlist there names addresses only, by the protocols above.
_WEB_FORMATS = f"{_FORMATS},hls,rtsp,rtp"
# The largest picture that ferkit holds (`ferkit.sources.images`).
_MAX_FRAME_PIXELS = 178_956_970
_TURNS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}


def load_av() -> ModuleType:
    """Import PyAV, or raise an error that says how to install it."""
    try:
        import av
    except ImportError as problem:
        raise MissingDependencyError(
            "Videos need PyAV, which the base install leaves out. Install it with: pip install 'ferkit[video]'."
        ) from problem
    module: ModuleType = av
    return module


def open_container(target: str, aside: Aside | None = None) -> Any:
    """Open a file or URL for reading. Raises PyAV's errors, `OSError` (also if it takes too long) and `ValueError`."""
    scheme = target.partition(":")[0].lower()
    options = {
        "protocol_whitelist": PROTOCOLS.get(scheme, _FILE_PROTOCOLS),
        "format_whitelist": _WEB_FORMATS if scheme in PROTOCOLS else _FORMATS,
    }
    if target.lower().startswith("rtsp"):
        options["rtsp_transport"] = "tcp"  # over UDP parts of frames get lost
    av = load_av()
    # From version 19 PyAV accepts metadata that is not UTF-8 and has no such option.
    lenient = {} if int(av.__version__.partition(".")[0]) >= 19 else {"metadata_errors": "replace"}
    thread = aside or Aside()
    try:  # FFmpeg decodes some frames to see what is in a file
        return thread.run(lambda: av.open(target, options=options, timeout=_TIMEOUT_S, **lenient), _OPENING_S)
    finally:
        if aside is None:
            thread.close()


class Stream(FrameSource):
    """A video file, or a stream at a URL. target: as FFmpeg expects it."""

    def __init__(self, target: str, name: str, every: Every, *, sound: bool) -> None:
        super().__init__(name, every)
        self._av, self._aside = load_av(), Aside()
        try:
            self._container = open_container(target, self._aside)
        except (self._av.FFmpegError, OSError, ValueError) as problem:
            self._aside.close()
            if not isinstance(problem, self._av.error.ArgumentError):
                why = _reason(problem)
            elif target.lower().endswith(PICTURE_SUFFIXES):
                why = "it is not a video but, by its name, an image (use: ferkit predict)"
            else:
                why = "it is not a video, or it refers to other files, like a playlist"
            raise VideoError(f"Cannot read {name}: {why}. Expected a video that FFmpeg supports.") from problem
        self._stream = self._container.streams.best("video")
        if self._stream is None:
            kinds = ", ".join(sorted({stream.type for stream in self._container.streams})) or "nothing"
            self.close()
            raise VideoError(f"{name} contains no video stream (it contains: {kinds}). Expected a video.")
        # Not "FRAME": errors would be reported with later packets, which loses valid frames.
        self._stream.thread_type = "SLICE"
        self._stream.codec_context.thread_count = usable_cores()
        self._stream.codec_context.options = {"max_pixels": str(_MAX_FRAME_PIXELS)}
        rate = self._stream.average_rate or self._stream.guessed_rate
        self.rate = float(rate) if rate and 0 < rate <= 1000 else None
        self.duration_s = _duration(self._stream, self._container)
        if sound and self._container.streams.audio:
            self.sound = target

    @property
    def start_s(self) -> float | None:
        """Where the file's own clock begins, for sound and video."""
        start = self._container.start_time
        return None if start is None else start / 1e6

    def _frames(self) -> Iterator[Pending]:
        step = 1 / (self.rate or DEFAULT_FPS)
        clock = RisingClock(self.start_s, step)
        time_s, lasting = 0.0, 0.0
        number, key = self._skip()
        for decoded in self._decoded():
            if key is not None:
                if decoded is None or decoded.pts is None or decoded.pts < key:
                    continue  # shown before the keyframe, and counted with what was left out
                key = None
            if decoded is None or decoded.is_corrupt:
                self.broken += 1
            else:
                time_s = clock(_stamp(decoded))
                lasting = _frame_duration(decoded)
                self.end_s = time_s + (lasting or step)
                yield number, time_s, partial(_pixels, decoded, _aspect(self._stream))
            number += 1
        stated = _stated_duration(self._stream, self._container)
        missing = stated - time_s - lasting
        if self.problem is None and number > self.broken and missing > max(_MISSING_S, _MISSING_PART * stated):
            self.problem = f"it breaks off after {time_s:.1f} of {stated:.1f} seconds"

    def _skip(self) -> tuple[int, int | None]:
        """Seek to the last keyframe at or before the start; return its number and timestamp.

        Numbers are those of the whole video: what lies before is read, which takes no time, but not decoded. (0, None)
        for the beginning, and for files whose packets do not say where they are.
        """
        begin, wanted = self.start_s, self.every.start_s
        if wanted <= 0 or begin is None or not set(self._container.format.name.split(",")) & _INDEXED:
            return 0, None
        count = number = leading = 0
        key = None
        try:
            for packet in self._container.demux(self._stream):
                if packet.pts is None or packet.time_base is None:
                    break
                time_s = float(packet.pts * packet.time_base) - begin
                if packet.is_keyframe and time_s <= wanted:
                    key, number, leading = packet, count, 0
                elif key is not None and packet.pts < key.pts:
                    leading += 1
                elif time_s > wanted:
                    break
                count += not packet.is_discard
        except (self._av.FFmpegError, OSError):
            pass  # decoding meets it again, and says so
        if key is None or number == 0:
            self._container.seek(self._container.start_time)
            return 0, None
        # Formats find packets by either of their timestamps: by the earlier one never behind it.
        self._container.seek(key.pts if key.dts is None else min(key.dts, key.pts), stream=self._stream)
        return number + leading, key.pts

    def _decoded(self) -> Iterator[Any]:
        """Decoded frames, None for an undecodable one."""
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
                frames = self._aside.run(packet.decode, _FRAME_S)
            except self._av.error.EOFError:
                return
            except TimeoutError:
                self.problem = f"a frame takes longer than {_FRAME_S:g} seconds to decode"
                return
            except self._av.FFmpegError:
                frames = [None]
            yield from frames

    def close(self) -> None:
        self._aside.close()
        if not self._aside.stuck:
            self._container.close()


def _duration(stream: Any, container: Any) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if not container.duration or container.duration < 0:
        return None
    return max(container.duration / 1e6 - _before_start(container), 0.0) or None


def _stated_duration(stream: Any, container: Any) -> float:
    """The duration of the video stream as the file states it, 0 if it does not: most formats only allow an estimate."""
    if not set(container.format.name.split(",")) & _WITH_DURATION:
        return 0.0
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    # Matroska states the duration of the file; FFmpeg and others write that of each stream as a tag.
    if found := re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", "")):
        hours, minutes, seconds = map(float, found.groups())
        return hours * 3600 + minutes * 60 + seconds - _before_start(container)
    whole = float(container.duration or 0) / 1e6 - _before_start(container)
    return whole if len(container.streams) == 1 else 0.0


def _before_start(container: Any) -> float:
    """Seconds before the first frame that the durations of Matroska contain: they are times of ends, on its clock."""
    is_matroska = "matroska" in container.format.name.split(",")
    return max(float(container.start_time or 0) / 1e6, 0.0) if is_matroska else 0.0


def _stamp(frame: Any) -> float | None:
    """Presentation time by the stream's clock, or the decoding time where there is none, as in AVI."""
    stamp = frame.pts if frame.pts is not None else frame.dts
    return None if stamp is None or frame.time_base is None else float(stamp * frame.time_base)


def _frame_duration(frame: Any) -> float:
    """Duration of a frame in seconds, 0 if the file does not state it."""
    return float(frame.duration * frame.time_base) if frame.duration and frame.time_base else 0.0


def _aspect(stream: Any) -> Fraction:
    """Ratio of a pixel's width to its height."""
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
    except Exception as problem:  # FFmpeg's errors have no common base but Exception
        raise ImageError(f"A frame cannot be converted to RGB: {_reason(problem)}.") from problem
    turn = _TURNS.get(round(frame.rotation / 90) * 90 % 360)
    return np.asarray(pixels if turn is None else cv2.rotate(pixels, turn), np.uint8)


def _reason(problem: BaseException) -> str:
    if isinstance(problem, TimeoutError) and not str(problem):
        return f"it is not open after {_OPENING_S:g} seconds"
    text = getattr(problem, "strerror", None) or str(problem)
    return " ".join(str(text).split()).rstrip(".").lower() or type(problem).__name__
