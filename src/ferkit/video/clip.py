"""Write clips that every browser plays: H.264 in MP4, with the sound of the original video.

Each frame keeps its time, so a variable frame rate stays in sync with the sound, and skipped frames leave no gap.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np

from ferkit._support.files import blame, drafted
from ferkit._support.parallel import usable_cores
from ferkit.errors import UsageError, VideoError
from ferkit.sources import RgbImage
from ferkit.video.frames import DEFAULT_FPS, load_av, open_container

# Browsers play AAC in MP4, so it is copied; other codecs are transcoded to AAC.
_COPIED = "aac"
# A jump back by more seconds than this is a restarted clock.
_RESTART_S = 1.0


class Sound:
    """Copies sound from one file into another, in sync with the frames.

    Use `into`. Times count from `start_s` after the file's own clock begins.
    """

    def __init__(self, av: Any, container: Any, stream: Any, output: Any, start_s: float) -> None:
        self._av, self._container, self._source, self._output = av, container, stream, output
        context = stream.codec_context
        # Raw AAC, as in broadcasts, lacks the decoder configuration that MP4 needs.
        self._copied = context.name == _COPIED and bool(context.extradata)
        if self._copied:
            self._stream = output.add_stream_from_template(stream)
        else:
            self._stream = output.add_stream("aac", rate=context.sample_rate or 48_000)
            self._stream.codec_context.layout = "mono" if context.channels == 1 else "stereo"
        self._start_s, self._later = (container.start_time or 0) / 1e6 + start_s, start_s > 0
        self._packets: Iterator[Any] | None = self._readable()
        self._waiting: Any = None

    @classmethod
    def into(cls, output: Any, source: str, start_s: float = 0.0) -> Self | None:
        """Add the sound of a file to one that is being written; None if it has no readable sound."""
        av = load_av()
        try:
            container = open_container(source)
        except (av.FFmpegError, OSError, ValueError):
            return None
        stream = container.streams.best("audio")
        if stream is None or stream.codec_context is None:
            container.close()
            return None
        return cls(av, container, stream, output, start_s)

    def write_until(self, end_s: float) -> None:
        """Copy the sound before that time."""
        while self._packets is not None:
            if self._waiting is None:
                self._waiting = next(self._packets, None)
            if self._waiting is None:
                self._packets = None
                return
            if self._time(self._waiting) >= end_s:
                return
            packet, self._waiting = self._waiting, None
            self._write(packet)

    def flush(self) -> None:
        """Flush the encoder."""
        if not self._copied:
            self._output.mux(self._stream.encode(None))

    def close(self) -> None:
        self._container.close()

    def _time(self, packet: Any) -> float:
        return float(packet.pts * packet.time_base)

    def _write(self, packet: Any) -> None:
        if self._copied:
            packet.stream = self._stream
            self._output.mux(packet)
            return
        try:
            frames = packet.decode()
        except self._av.FFmpegError:
            return  # a moment of silence
        for frame in frames:
            self._output.mux(self._stream.encode(frame))

    def _readable(self) -> Iterator[Any]:
        """Packets with increasing times from the beginning, as MP4 requires."""
        last, after, shift = None, 0, None
        # An encoder begins a moment before zero; what a later start leaves out does not.
        first = 0 if self._later else -math.inf
        try:
            for packet in self._container.demux(self._source):
                if packet.pts is None:
                    continue
                if shift is None:
                    shift = round(self._start_s / float(packet.time_base))
                # As in joined recordings; the clock of the frames does the same.
                if last is not None and packet.pts - shift < last - _RESTART_S / float(packet.time_base):
                    shift = packet.pts - after
                packet.pts = packet.dts = packet.pts - shift
                if packet.pts >= first and (last is None or packet.pts > last):
                    last, after = packet.pts, packet.pts + max(packet.duration or 0, 1)
                    yield packet
        except (self._av.FFmpegError, OSError):
            return  # the frames of a damaged file end as well


# Ticks per second, as usual in MPEG: 24, 25, 30 and 60 frames per second are exact.
_CLOCK = 90_000
_ENCODERS = ("libx264", "libopenh264")
# CRF 20 keeps letters sharp; "veryfast" makes writing a clip no slower than recognition.
_X264 = {"preset": "veryfast", "crf": "20"}
_BT709 = 1  # the H.264 code of this color space, its primaries and its transfer function


class ClipWriter:
    """An MP4 file that grows frame by frame and appears when its `with` block ends, with all frames until then.

    Args:
        target: The file, .mp4.
        rate: Approximate frames per second, None if not known.
        sound: Where to read the sound, as `FrameSource.sound` says; None for silence. Unreadable sound is omitted.
        start_s: Time of frames and sound at which the clip begins.

    """

    def __init__(
        self, target: str | Path, *, rate: float | None = None, sound: str | None = None, start_s: float = 0.0
    ) -> None:
        self.target = Path(target)
        if self.target.suffix.lower() != ".mp4":
            raise UsageError(f"Clips cannot be written as {target}. Expected a name that ends in .mp4.")
        if self.target.is_dir():
            raise UsageError(f"{target} is a folder. Expected a file to write.")
        self._av = load_av()
        self._rate = rate or DEFAULT_FPS
        self._sound_source, self._start_s = sound, start_s
        self._sound: Sound | None = None
        self._stream: Any = None
        self._shown: RgbImage | None = None
        self._last = -1
        self._step = round(_CLOCK / self._rate)
        self._open: ExitStack | None = None

    def __enter__(self) -> Self:
        with self._blamed(), ExitStack() as opening:
            draft = opening.enter_context(drafted(self.target, VideoError))
            self._container = opening.enter_context(
                self._av.open(str(draft), "w", format="mp4", options={"movflags": "+faststart"})
            )
            opening.push(self._finish)
            self._open = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        opened, self._open = self._open, None
        if opened is not None:
            try:
                with self._blamed():
                    opened.__exit__(kind, problem, trace)
            except VideoError:
                # The exception that ended the block is the one to raise.
                if problem is None:
                    raise

    def write(self, pixels: RgbImage, time_s: float) -> None:
        """Append a frame, RGB uint8 (H, W, 3), shown from `time_s` on. Times must increase; the first frame sets the size."""
        if self._open is None:
            raise UsageError(f"{self.target} is not open. Expected frames inside the clip's `with` block.")
        time_s -= self._start_s
        with self._blamed():
            if self._stream is None:
                self._start(pixels)
            frame = self._av.VideoFrame.from_ndarray(self._fitted(pixels), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=_BT709, dst_color_range=1)
            stamp = max(round(time_s * _CLOCK), self._last + 1)
            frame.pts, frame.time_base = stamp, Fraction(1, _CLOCK)
            self._last = stamp
            self._container.mux(self._stream.encode(frame))
            self._shown = pixels
            if self._sound is not None:
                self._sound.write_until(time_s)

    def hold(self, end_s: float) -> None:
        """Show the last frame until that time."""
        if self._shown is not None and (end_s - self._start_s) * _CLOCK - self._last > 1.5 * self._step:
            # Players choose how long the last frame of a file lasts.
            self.write(self._shown, end_s - self._step / _CLOCK)

    @contextmanager
    def _blamed(self) -> Iterator[None]:
        """Turn errors of FFmpeg and the system into one line that names the file."""
        with blame(self.target, VideoError):
            try:
                yield
            except self._av.FFmpegError as problem:
                if isinstance(problem, OSError):
                    raise
                raise VideoError(f"Cannot write {self.target}: FFmpeg says {problem}.") from problem

    def _start(self, pixels: RgbImage) -> None:
        """Add the streams, as soon as the size is known: all must exist before the first byte is written."""
        encoder = next((name for name in _ENCODERS if _can_encode(self._av, name)), None)
        if encoder is None:
            raise VideoError("This PyAV has no H.264 encoder. Install the wheel: pip install --force-reinstall av.")
        height, width = pixels.shape[:2]
        self._stream = self._container.add_stream(encoder, rate=Fraction(self._rate).limit_denominator(1001))
        context = self._stream.codec_context
        # H.264 with chroma subsampling needs even sides.
        context.width, context.height = width + width % 2, height + height % 2
        context.pix_fmt = "yuv420p"
        context.time_base = Fraction(1, _CLOCK)
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = 1
        context.gop_size = round(min(max(2 * self._rate, 2), 250))  # a player seeks in steps of two seconds
        context.thread_count = usable_cores()
        context.options = _X264 if encoder == "libx264" else {}
        if self._sound_source is not None:
            self._sound = Sound.into(self._container, self._sound_source, self._start_s)

    def _fitted(self, pixels: RgbImage) -> RgbImage:
        """A frame at the clip's size: padded by a pixel, or shrunk into black where frames change their size."""
        wide, high = self._stream.codec_context.width, self._stream.codec_context.height
        height, width = pixels.shape[:2]
        if (wide - width, high - height) == (0, 0):
            return np.ascontiguousarray(pixels)
        if not (0 <= wide - width <= 1 and 0 <= high - height <= 1):
            scale = min(wide / width, high / height)
            size = max(round(width * scale), 1), max(round(height * scale), 1)
            canvas = np.zeros((high, wide, 3), np.uint8)
            left, top = (wide - size[0]) // 2, (high - size[1]) // 2
            canvas[top : top + size[1], left : left + size[0]] = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
            return canvas
        edge = cv2.copyMakeBorder(pixels, 0, high - height, 0, wide - width, cv2.BORDER_REPLICATE)
        return np.asarray(edge, np.uint8)

    def _finish(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._stream is not None and kind is None:
            self._container.mux(self._stream.encode(None))
            if self._sound is not None:
                self._sound.write_until((self._last + self._step) / _CLOCK)
                self._sound.flush()
        if self._sound is not None:
            self._sound.close()
        if self._stream is None and kind is None:
            raise VideoError(f"Nothing was written to {self.target}: there was no frame.")


def _can_encode(av: Any, name: str) -> bool:
    try:
        av.codec.Codec(name, "w")
    except Exception:  # PyAV's own kind, which differs from one version to the next
        return False
    return True
