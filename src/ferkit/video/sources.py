"""Open videos: files and URLs (FFmpeg through PyAV), cameras (OpenCV), folders of frames."""

import math
import os
import re
import time
from collections.abc import Iterator
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np

from ferkit._support.download import offline
from ferkit.errors import UsageError, VideoError
from ferkit.sources import (
    MANY_SUFFIXES,
    PICTURE_SUFFIXES,
    SHARD,
    Reference,
    RgbImage,
    expand_sources,
    is_many,
    list_sources,
    printable_name,
    read_image,
)
from ferkit.video.frames import DEFAULT_FPS, PROTOCOLS, Every, FrameSource, Pending, RisingClock, Stream

_LIVE = ("rtsp", "rtsps", "rtmp", "rtmps")
_CAMERA_TIMEOUT_S = 3.0

VideoSource = str | os.PathLike[str] | int


def open_video(source: VideoSource, *, every: str | int | Every = 1, fps: float = DEFAULT_FPS) -> FrameSource:
    """Open a video; iterating the result gives its frames, `with` closes it.

    Args:
        source: Path of a video (whatever FFmpeg reads: mp4, mov, avi, mkv, webm, ...), address (https, http, rtsp,
            rtmp), number of a camera (0 or "0"), or frames in natural order: a folder, a glob, an archive, a list, an
            address such as `s3://bucket/frames`.
        every: 5 takes each fifth frame, "0.5s" one every half second.
        fps: Frames per second of frames in files; all else says itself when its frames are.

    Returns:
        The frames, each read in its turn.

    Raises:
        VideoError: There is no video.
        UsageError: A value makes no sense.
        MissingDependencyError: PyAV is missing, which `ferkit[video]` brings.
    """
    every = Every.of(every)
    if isinstance(source, int) and not isinstance(source, bool):
        return Camera(source, every)
    if not isinstance(source, str | os.PathLike):
        raise VideoError(f"Expected a video as a path, URL or camera number. Received: {type(source).__name__}.")
    text = os.fsdecode(source)
    if re.fullmatch(r"\d{1,3}", text) and not os.path.lexists(text):
        return Camera(int(text), every)
    scheme = re.match(r"([a-z][a-z0-9+.-]+)://", text, re.IGNORECASE)
    if scheme and not _are_frames(text, scheme[1].lower()):
        return _address(text, scheme[1].lower(), every)
    if is_many(text):
        return FrameFolder(text, every, fps)
    if not os.path.isfile(text):  # noqa: PTH113 - Path's raises for what can be no path
        raise VideoError(_not_there(text))
    # "file:" keeps names with a colon from being taken for protocols.
    return Stream(f"file:{text}", printable_name(text), every, sound=True)


def _are_frames(address: str, scheme: str) -> bool:
    """Whether an address holds frames rather than a video: an archive, a glob of pictures, a folder of a store."""
    if address.lower().endswith((*MANY_SUFFIXES, *PICTURE_SUFFIXES)):
        return is_many(address)
    return scheme not in PROTOCOLS and "." not in address.rpartition("/")[2]


class Camera(FrameSource):
    """A camera of this machine, by number, through OpenCV: PyAV's wheels read none."""

    live = True

    def __init__(self, number: int, every: Every) -> None:
        super().__init__(f"camera {number}", every)
        self._camera = cv2.VideoCapture(number)
        if not self._camera.isOpened():
            raise VideoError(f"Cannot open camera {number}. Does another program use it?")
        # Old frames are useless.
        self._camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        rate = self._camera.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate <= 1000 else None

    def _frames(self) -> Iterator[Pending]:
        # Timestamps of cameras are unreliable; the time of arrival is not.
        clock = RisingClock(None, 1e-3)
        number, last = 0, time.monotonic()
        while True:
            there, picture = self._camera.read()
            now = time.monotonic()
            if there and picture is not None:
                last = now
                yield number, clock(now), partial(_from_bgr, picture)
                number += 1
            elif now - last > _CAMERA_TIMEOUT_S:
                self.problem = f"it returned no image for {_CAMERA_TIMEOUT_S:g} seconds"
                return
            else:
                self.broken += 1
                time.sleep(0.02)

    def close(self) -> None:
        self._camera.release()


class FrameFolder(FrameSource):
    """Pictures of a folder, a glob, a list or an archive as the frames of a video, in natural order."""

    def __init__(self, pattern: str, every: Every, fps: float) -> None:
        super().__init__(printable_name(pattern), every)
        if not (math.isfinite(fps) and fps > 0):
            raise UsageError(f"fps must be more than 0 frames per second. Received: {fps}.")
        self.rate = fps
        self._pictures: list[str | Reference] = list(list_sources([pattern]))
        if self._pictures == [pattern]:
            raise VideoError(f"{self.name} contains no images. Expected a folder of frames, or a video file.")
        first = self._pictures[0]
        if isinstance(first, Reference) and first.problem and len(self._pictures) == 1:
            raise VideoError(first.problem)
        # How many frames a packed tar holds is known at its end.
        if not any(isinstance(one, Reference) and one.kind == SHARD for one in self._pictures):
            self.duration_s = self.end_s = len(self._pictures) / fps

    def _frames(self) -> Iterator[Pending]:
        for number, picture in enumerate(expand_sources(self._pictures)):
            yield number, number / float(self.rate or DEFAULT_FPS), partial(read_image, picture)

    def close(self) -> None: ...


def _address(url: str, scheme: str, every: Every) -> Stream:
    shown = printable_name(_without_user(url))
    if scheme not in PROTOCOLS:
        raise VideoError(f"{shown} has an unsupported URL scheme. Expected {', '.join(PROTOCOLS)}, or a file.")
    if offline():
        raise VideoError(f"Cannot read {shown}: FERKIT_OFFLINE is set. Unset it, or give a file.")
    stream = Stream(url, shown, every, sound=True)
    stream.live = scheme in _LIVE or stream.duration_s is None
    if stream.live:
        stream.sound = None  # it would have to be opened a second time, at another position
    return stream


def _without_user(url: str) -> str:
    """A URL without the user name and password of a camera, for tables."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _not_there(path: str) -> str:
    name = printable_name(path)
    if path == "-":
        return "Videos cannot be read from standard input. Expected a file, URL, camera number or folder."
    if os.path.exists(path):  # noqa: PTH110
        return f"{name} is neither a file nor a folder. Expected a video."
    return f"There is no video {name}. Expected a file, URL, camera number or folder of frames."


def _from_bgr(picture: Any) -> RgbImage:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)
