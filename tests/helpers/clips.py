"""Small videos made on the spot, with PyAV alone: what is tested has no part in it."""

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np

OPTIONS = {
    "libx264": {"preset": "ultrafast", "crf": "10"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8"},
    "mpeg4": {"qscale": "2"},
}


def gray(*levels, width=64, height=48) -> list[np.ndarray]:
    """Frames of one gray each."""
    return [np.full((height, width, 3), level, np.uint8) for level in levels]


def counted(count: int, **size) -> list[np.ndarray]:
    """Frames that get brighter, so that each can be told from its neighbours."""
    return gray(*np.linspace(20, 230, count).round().astype(int), **size)


def write_clip(
    path: Path,
    frames,
    *,
    times=None,
    codec="libx264",
    sound=None,
    sound_start=0.0,
    form=None,
    options=None,
    encode=None,
):
    """Write frames, RGB uint8, at their times in seconds (else 10 per second).

    sound: name of a codec for a tone. encode: options of the encoder, beside those for speed.
    """
    import av

    times = [place / 10 for place in range(len(frames))] if times is None else times
    with av.open(str(path), "w", format=form, options=options or {}) as file:
        stream = file.add_stream(codec, rate=10, options={**OPTIONS.get(codec, {}), **(encode or {})})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "rgb24" if codec == "png" else "yuv420p"
        stream.codec_context.time_base = Fraction(1, 10 if path.suffix == ".avi" else 1000)
        audio = file.add_stream(sound, rate=44100, layout="mono") if sound else None
        for pixels, time_s in zip(frames, times, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.time_base = stream.codec_context.time_base
            frame.pts = round(time_s / frame.time_base)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
        if audio is not None:
            _write_tone(file, audio, sound_start, times[-1])
    return path


def _write_tone(file, stream, start_s: float, end_s: float) -> None:
    import av

    kind = "s16" if stream.codec_context.name.startswith("pcm") else "fltp"
    for first in range(round(start_s * 44100), round(end_s * 44100), 1024):
        wave = np.sin(np.arange(first, first + 1024) / 44100 * 2 * np.pi * 440)
        samples = (wave * 9000).astype(np.int16) if kind == "s16" else wave.astype(np.float32)
        frame = av.AudioFrame.from_ndarray(samples[None], format=kind, layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 44100, first, Fraction(1, 44100)
        file.mux(stream.encode(frame))
    file.mux(stream.encode(None))


def streams_of(path: Path) -> dict[str, dict]:
    """What is in a file: by kind, the codec and the times of all packets in seconds."""
    import av

    with av.open(str(path)) as file:
        found = {}
        for stream in file.streams:
            codec = stream.codec_context
            found[stream.type] = {
                "codec": codec.name,
                "times": [],
                "bytes": [],
                "form": getattr(codec, "pix_fmt", None),
            }
        for packet in file.demux():
            if packet.pts is not None:
                found[packet.stream.type]["times"].append(float(packet.pts * packet.time_base))
                found[packet.stream.type]["bytes"].append(bytes(packet))
    for one in found.values():
        one["times"].sort()
    return found


def turn(path: Path, degrees: int) -> Path:
    """Say in an MP4 that it is to be shown turned clockwise, as telephones do."""
    matrices = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}
    a, b, c, d = (value * 0x10000 for value in matrices[degrees])
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    struct.pack_into(">9i", data, place, a, b, 0, c, d, 0, 0, 0, 0x40000000)
    path.write_bytes(data)
    return path


def packet_places(path: Path) -> list[tuple[int, int]]:
    """Where in the file each packet of the pictures stands: first byte and size."""
    import av

    with av.open(str(path)) as file:
        return [(packet.pos, packet.size) for packet in file.demux(video=0) if packet.size]
