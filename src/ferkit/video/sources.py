"""Open videos: files and URLs (FFmpeg through PyAV), cameras (OpenCV), folders of frames."""

import math
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np

from ferkit._support.download import offline
from ferkit.errors import FerkitError, UsageError, VideoError, count
from ferkit.sources import (
    FILE,
    MANY_SUFFIXES,
    PICTURE_SUFFIXES,
    SHARD,
    VIDEO_SUFFIXES,
    Reference,
    RgbImage,
    absolute,
    expand_sources,
    is_many,
    list_references,
    list_sources,
    one_or_many,
    printable_name,
    read_image,
)
from ferkit.video.frames import DEFAULT_FPS, PROTOCOLS, Every, FrameSource, Pending, RisingClock, Stream

_LIVE = ("rtsp", "rtsps", "rtmp", "rtmps")
_CAMERA_TIMEOUT_S = 3.0

VideoSource = str | os.PathLike[str] | int | Reference


def open_video(
    source: VideoSource,
    *,
    every: str | int | Every = 1,
    fps: float | None = None,
    start: str | float | None = None,
    end: str | float | None = None,
) -> FrameSource:
    """Open a video; iterating the result gives its frames, `with` closes it.

    Args:
        source: Path of a video (whatever FFmpeg reads: mp4, mov, avi, mkv, webm, ...), address (https, http, rtsp,
            rtmp), number of a camera (0 or "0"), or frames in natural order: a folder, a glob, an archive, a list, an
            address such as `s3://bucket/frames`.
        every: 5 takes each fifth frame, "0.5s" one every half second.
        fps: Frames per second of frames in files, 25 if None; all else says itself when its frames are.
        start: Where to begin, in seconds or as "1:30".
        end: Where to end; the frame at that time is left out.

    Returns:
        The frames, each read in its turn.

    Raises:
        VideoError: There is no video.
        UsageError: A value makes no sense.
        MissingDependencyError: PyAV is missing, which `ferkit[video]` brings.
    """
    every = Every.of(every)
    if start is not None or end is not None:
        every = every.within(start, end)
    if isinstance(source, Reference):
        if source.problem is not None:
            raise VideoError(source.problem)
        frames = open_video(source.path, every=every, fps=fps)
        frames.name = video_name(source)
        return frames
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
        return FrameFolder(text, every, DEFAULT_FPS if fps is None else fps)
    if not os.path.isfile(text):  # noqa: PTH113 - Path's raises for what can be no path
        raise VideoError(_not_there(text))
    # "file:" keeps names with a colon from being taken for protocols.
    stream = Stream(f"file:{text}", printable_name(text), every, sound=True)
    stream.path = text
    return stream


@dataclass(frozen=True)
class FoundVideos:
    """What sources hold.

    Attributes:
        videos: Each once, in natural order within its source.
        several: Whether a source was named that may stand for any number of videos, or several were.
        notes: What was done with images, where a source has some.

    """

    videos: tuple[VideoSource, ...]
    several: bool
    notes: tuple[str, ...] = ()


def list_videos(sources: VideoSource | Iterable[VideoSource], fps: float | None = None) -> FoundVideos:
    """Put the videos in folders, globs and lists in their place; memory holds their names.

    A folder or glob without videos stands for the frames of one video. With `fps` all of them do.

    Args:
        sources: What `open_video` takes, and folders, globs and lists of videos.
        fps: Frames per second of frames in files; None where nothing was said.
    """
    given = list(one_or_many(sources))
    found: dict[object, VideoSource] = {}
    notes = []
    several = len(given) > 1
    for source in given:
        if not is_many(source):
            found.setdefault(_key(source), source)
            continue
        text = os.fsdecode(source)
        videos, images = _listed(text, VIDEO_SUFFIXES), _listed(text, PICTURE_SUFFIXES)
        if videos and fps is None:
            several = True
            found |= {_key(video): video for video in videos if _key(video) not in found}
            if images:
                notes.append(
                    f"{text}: {count(len(videos), 'video')}; {count(len(images), 'image')} in it left out. With --fps, "
                    "images are the frames of a video."
                )
            continue
        found.setdefault(text, text)
        if images:
            rate = f"{fps or DEFAULT_FPS:g} per second{'' if fps else '; change it with --fps'}"
            others = f"; {count(len(videos), 'video')} in it left out" if videos else ""
            notes.append(f"{text}: one video of {count(len(images), 'image')}, {rate}{others}.")
    return FoundVideos(tuple(found.values()), several, tuple(notes))


def _listed(source: str, suffixes: tuple[str, ...]) -> list[VideoSource]:
    """The videos or the images that a source holds as files."""
    try:
        found = [one for one in list_references(source, suffixes) if one.path.lower().endswith(suffixes)]
    except FerkitError:
        return []
    return [one.name if absolute(one.name) == one.path else one for one in found if one.kind == FILE]


def _key(video: VideoSource) -> object:
    """The same for a video that is found twice."""
    if isinstance(video, Reference):
        return video.path
    return absolute(video) if isinstance(video, str | os.PathLike) else video


def video_name(source: VideoSource) -> str:
    """The name of a video in tables."""
    if isinstance(source, Reference):
        return printable_name(source.name)
    text = os.fsdecode(source) if isinstance(source, str | os.PathLike) else str(source)
    if re.fullmatch(r"\d{1,3}", text) and not os.path.lexists(text):
        return f"camera {int(text)}"
    return printable_name(_without_user(text) if "://" in text else text)


def _are_frames(address: str, scheme: str) -> bool:
    """Whether an address holds frames rather than a video: an archive, a glob of pictures, a folder of a store."""
    if address.lower().endswith((*MANY_SUFFIXES, *PICTURE_SUFFIXES)):
        return is_many(address)
    return scheme not in PROTOCOLS and "." not in address.rpartition("/")[2]


class Camera(FrameSource):
    """A camera of this machine, by number, through OpenCV: PyAV's wheels read none."""

    live = True

    def __init__(self, number: int, every: Every) -> None:
        super().__init__(video_name(number), every)
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
    shown = video_name(url)
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
    return f"Video not found: {name}. Expected a file, URL, camera number or folder of frames."


def _from_bgr(picture: Any) -> RgbImage:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)
