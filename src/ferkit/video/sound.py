"""The sound of a video, carried over into a clip packet by packet, as far as its pictures have come."""

from collections.abc import Iterator
from typing import Any, Self

from ferkit.video.stream import load_av, open_container

# What browsers play from MP4 and what needs no new encoding; everything else becomes AAC as well.
_COPIED = "aac"
# Sound that goes back further than that began to count anew.
_ANEW_S = 1.0


class Sound:
    """Sound on its way from one file into another, in step with the pictures.

    Use `into`. Times count from where the file's own clock begins, as those of pictures do.
    """

    def __init__(self, av: Any, container: Any, stream: Any, output: Any) -> None:
        self._av, self._container, self._source, self._output = av, container, stream, output
        context = stream.codec_context
        # Raw AAC, as in broadcasts, says nowhere how to decode it; MP4 needs that.
        self._copied = context.name == _COPIED and bool(context.extradata)
        if self._copied:
            self._stream = output.add_stream_from_template(stream)
        else:
            self._stream = output.add_stream("aac", rate=context.sample_rate or 48_000)
            self._stream.codec_context.layout = "mono" if context.channels == 1 else "stereo"
        self._start_s = (container.start_time or 0) / 1e6
        self._packets: Iterator[Any] | None = self._readable()
        self._waiting: Any = None

    @classmethod
    def into(cls, output: Any, source: str) -> Self | None:
        """Add the sound of a file to one that is being written; None where there is none that can be read."""
        av = load_av()
        try:
            container = open_container(source)
        except (av.FFmpegError, OSError, ValueError):
            return None
        stream = container.streams.best("audio")
        if stream is None or stream.codec_context is None:
            container.close()
            return None
        return cls(av, container, stream, output)

    def write_until(self, end_s: float) -> None:
        """Carry over what sounds before that time."""
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
        """End the sound."""
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
        """Packets whose times count from the beginning, and rise: MP4 takes no others."""
        last, after, shift = None, 0, None
        try:
            for packet in self._container.demux(self._source):
                if packet.pts is None:
                    continue
                if shift is None:
                    shift = round(self._start_s / float(packet.time_base))
                # As where recordings were joined; the clock of the pictures does the same.
                if last is not None and packet.pts - shift < last - _ANEW_S / float(packet.time_base):
                    shift = packet.pts - after
                packet.pts = packet.dts = packet.pts - shift
                if last is None or packet.pts > last:
                    last, after = packet.pts, packet.pts + max(packet.duration or 0, 1)
                    yield packet
        except (self._av.FFmpegError, OSError):
            return  # the pictures of a broken file end as well
