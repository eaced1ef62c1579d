"""analyze_video(): a video in, the people in it and their emotions over time out."""

from collections.abc import Generator, Iterator
from types import TracebackType
from typing import Self

from ferkit.errors import VideoError
from ferkit.recognizer import EmotionRecognizer
from ferkit.video.follower import DETECT_EVERY_S, MAX_GAP_S, TIME_CONSTANT_S, FaceFollower
from ferkit.video.frames import DEFAULT_FPS, Every, FrameSource
from ferkit.video.sources import VideoSource, open_video
from ferkit.video.timeline import FrameFaces, Timeline


def analyze_video(
    source: VideoSource | FrameSource,
    recognizer: EmotionRecognizer | None = None,
    *,
    every: str | int | Every = 1,
    detect_every_s: float = DETECT_EVERY_S,
    smooth_s: float = TIME_CONSTANT_S,
    fps: float = DEFAULT_FPS,
) -> "VideoAnalysis":
    """Find the people in a video and the emotions that they are perceived to show over time.

    Args:
        source: path, address, camera number, or a folder of frames; see `ferkit.video.sources.open_video`. What that
            returned is taken too; it has its own `every` and `fps`.
        recognizer: what finds and classifies faces; None makes one with the packaged model.
        every: which frames to look at: 5 is each fifth, "0.5s" one every half second.
        detect_every_s: seconds between two searches of the detector; in between faces are followed.
        smooth_s: time constant of the smoothing in seconds; 0 smooths nothing.
        fps: frames per second of a folder of frames.

    Returns:
        A `VideoAnalysis`: iterate over it for the faces of each frame as they are found, or let it `finish()`.

    Raises:
        VideoError: no video, or nothing in it can be decoded. UsageError: values that make no sense.

    Example:
        analysis = ferkit.analyze_video("clip.mp4")
        for found in analysis:
            print(found.time_s, [(face.track, face.face.label) for face in found.faces])
        print(analysis.timeline.summary())

    """
    frames = source if isinstance(source, FrameSource) else open_video(source, every=every, fps=fps)
    try:
        follower = FaceFollower(
            recognizer or EmotionRecognizer(),
            detect_every_s=detect_every_s,
            time_constant_s=smooth_s,
            # Who is missing in one frame of few is not gone.
            max_gap_s=max(MAX_GAP_S, 2.5 * frames.step_s),
        )
    except Exception:
        frames.close()
        raise
    return VideoAnalysis(frames, follower)


class VideoAnalysis:
    """The faces of a video, frame by frame, and the timeline that they add up to so far.

    An iterator, and a context manager that closes the video; it also closes when all frames were looked at.

    source: the video. timeline: what was found until now.
    """

    def __init__(self, source: FrameSource, follower: FaceFollower) -> None:
        self.source = source
        self.timeline = Timeline(source.name, follower.recognizer.classes)
        self._follower = follower
        self._found = self._look()

    def __iter__(self) -> Iterator[FrameFaces]:
        return self

    def __next__(self) -> FrameFaces:
        return next(self._found)

    def finish(self) -> Timeline:
        """Look at all frames that are left; returns the timeline."""
        for _ in self:
            pass
        return self.timeline

    def close(self) -> None:
        """Look at no more frames; the timeline stays, with what was found until now."""
        self._found.close()
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _look(self) -> Generator[FrameFaces, None, None]:
        try:
            for frame in self.source:
                faces = self._follower(frame.pixels, frame.time_s)
                found = FrameFaces(frame, tuple(faces), self._follower.hidden(frame.time_s))
                self.timeline.add(found)
                self.timeline.broken = self.source.broken
                yield found
            self.timeline.finish(self.source.end_s)
        finally:
            self._end()
        if self.source.problem is not None and not self.timeline.frames:
            raise VideoError(f"Cannot read {self.source.name}: {self.source.problem}. Expected a video that is whole.")

    def _end(self) -> None:
        self.timeline.finish()
        self.timeline.broken, self.timeline.problem = self.source.broken, self.source.problem
        self.source.close()
