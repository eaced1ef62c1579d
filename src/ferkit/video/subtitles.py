"""What each person showed and for how long, as subtitles for players (WebVTT, SRT) and tiers for ELAN (.eaf)."""

import mimetypes
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from xml.etree import ElementTree as Xml

from ferkit._support.files import write_atomically
from ferkit.errors import UsageError, VideoError
from ferkit.sources import is_address, printable_name
from ferkit.video.timeline import Stretch, Timeline

Segment = tuple[int, Stretch]  # the person's track, and what was shown from when to when

_EAF = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
_XSI = "http://www.w3.org/2001/XMLSchema-instance"


def write_subtitles(timeline: Timeline, target: Path) -> None:
    """Write a segment for each period in which a person showed one expression without a break, in order of time.

    Args:
        timeline: What was found, with its `stretches`.
        target: A name that ends in .vtt, .srt or .eaf. ELAN's file has a tier for each person.

    Raises:
        UsageError: Another ending. VideoError: The file cannot be written.
    """
    write = check_subtitles(target)
    stretches = timeline.stretches or {}
    # A last frame may have no duration, and players and ELAN take no segment without one.
    segments = [(track, one) for (track, _), one in stretches.items() if _ms(one.end_s) > _ms(one.start_s)]
    segments.sort(key=lambda segment: (segment[1].start_s, segment[0]))
    with write_atomically(target, VideoError) as draft:
        draft.write_text(write(timeline.source, segments), encoding="utf-8")


def check_subtitles(target: Path) -> Callable[[str, list[Segment]], str]:
    """The writer that a file name asks for by its suffix; `UsageError` for another."""
    write = _WRITERS.get(target.suffix.lower())
    if write is None:
        endings = ", ".join(_WRITERS)
        raise UsageError(f"{target} is no subtitle file that ferkit writes. Expected a name that ends in {endings}.")
    return write


def _vtt(_: str, segments: list[Segment]) -> str:
    return "\n".join(
        ["WEBVTT\n", *(f"{times}\n{escape(words, quote=False)}\n" for times, words in _cues(segments, "."))]
    )


def _srt(_: str, segments: list[Segment]) -> str:
    cues = enumerate(_cues(segments, ","), start=1)
    return "\n".join(f"{number}\n{times}\n{words}\n" for number, (times, words) in cues)


def _cues(segments: list[Segment], point: str) -> Iterator[tuple[str, str]]:
    several = len({track for track, _ in segments}) > 1
    for track, one in segments:
        who = f"Person {track}: " if several else ""
        times = f"{_clock(one.start_s, point)} --> {_clock(one.end_s, point)}"
        yield times, f"{who}{printable_name(one.label)} ({one.seconds:.1f} s)"


def _clock(seconds: float, point: str) -> str:
    """A time as subtitles write it.

    >>> _clock(3661.5, ",")
    '01:01:01,500'
    """
    minutes, ms = divmod(_ms(seconds), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{ms // 1000:02}{point}{ms % 1000:03}"


def _ms(seconds: float) -> int:
    return round(1000 * seconds)


def _eaf(source: str, segments: list[Segment]) -> str:
    """ELAN's annotation format 3.0: times in milliseconds, a tier for each person."""
    document = Xml.Element("ANNOTATION_DOCUMENT", AUTHOR="ferkit", FORMAT="3.0", VERSION="3.0")
    document.set("DATE", datetime.now(UTC).isoformat(timespec="seconds"))
    document.set("xmlns:xsi", _XSI)
    document.set("xsi:noNamespaceSchemaLocation", _EAF)
    header = Xml.SubElement(document, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    media = Xml.SubElement(header, "MEDIA_DESCRIPTOR")
    media.set("MEDIA_URL", source if is_address(source) else Path(source).absolute().as_uri())
    media.set("MIME_TYPE", mimetypes.guess_type(source)[0] or "unknown")
    times = sorted({_ms(time) for _, one in segments for time in (one.start_s, one.end_s)})
    slots = {time: f"ts{number}" for number, time in enumerate(times, start=1)}
    order = Xml.SubElement(document, "TIME_ORDER")
    for time, slot in slots.items():
        Xml.SubElement(order, "TIME_SLOT", TIME_SLOT_ID=slot, TIME_VALUE=str(time))
    tiers: dict[int, Xml.Element] = {}
    for track in sorted({track for track, _ in segments}):
        tiers[track] = Xml.SubElement(document, "TIER", LINGUISTIC_TYPE_REF="emotion", TIER_ID=f"person {track}")
    for number, (track, one) in enumerate(segments, start=1):
        annotation = Xml.SubElement(Xml.SubElement(tiers[track], "ANNOTATION"), "ALIGNABLE_ANNOTATION")
        annotation.set("ANNOTATION_ID", f"a{number}")
        annotation.set("TIME_SLOT_REF1", slots[_ms(one.start_s)])
        annotation.set("TIME_SLOT_REF2", slots[_ms(one.end_s)])
        Xml.SubElement(annotation, "ANNOTATION_VALUE").text = printable_name(one.label)
    Xml.SubElement(
        document, "LINGUISTIC_TYPE", GRAPHIC_REFERENCES="false", LINGUISTIC_TYPE_ID="emotion", TIME_ALIGNABLE="true"
    )
    Xml.indent(document)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(document, encoding="unicode") + "\n"


_WRITERS = {".vtt": _vtt, ".srt": _srt, ".eaf": _eaf}
