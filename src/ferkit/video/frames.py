"""Frames with their times: what all sources of video have in common, and which of the frames are wanted."""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Self

from ferkit.errors import ImageError, UsageError
from ferkit.images import RgbImage

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
