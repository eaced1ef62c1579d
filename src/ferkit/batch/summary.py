"""Summaries of tables of faces: pictures, faces, errors, and the share of each perceived emotion, by folder or time."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ferkit._support.registry import Registry


@dataclass(frozen=True)
class Grouping:
    """What pictures are put together by.

    key: SQL of a row's group, made of `source`, `track` and `taken`. name: SQL of what it is called, made of `grp`; `$root` and
    `$depth` stand for what is common to all folders, and for how many levels below count. timed: groups come in order
    of time; else the largest come first. tracked: by the people of videos.
    """

    help: str
    key: str
    name: str = "grp"
    timed: bool = False
    tracked: bool = False


# Archives count as folders. Backslashes divide where there is no slash: a table may come from Windows.
_AS_PATH = r"CASE WHEN contains(source, '/') THEN source ELSE replace(source, '\', '/') END"
_BELOW_ROOT = "string_split(ltrim(substr(grp, length($root) + 1), '/'), '/')[:$depth]"
GROUPINGS: Registry[Grouping] = Registry.of(
    "grouping",
    {
        "label": Grouping("all pictures together", "''"),
        "folder": Grouping(
            "by folder of the source, archives included",
            f"parse_dirpath(replace({_AS_PATH}, '::', '/'))",
            f"coalesce(nullif(array_to_string({_BELOW_ROOT}, '/'), ''), '.')",
        ),
        "source": Grouping("by image or video", "source"),
        "track": Grouping("by person of a video", "source || ' #' || track", tracked=True),
        "day": Grouping("by the day they were taken (EXIF)", "CAST(taken AS DATE)", timed=True),
        "month": Grouping(
            "by the month they were taken (EXIF)", "CAST(date_trunc('month', taken) AS DATE)", "grp[:7]", timed=True
        ),
    },
)


@dataclass(frozen=True)
class LabelCount:
    """How many faces have a label, and the mean of the confidence in it (None where no row has one)."""

    faces: int
    mean_confidence: float | None


@dataclass(frozen=True)
class GroupSummary:
    """What is in some pictures. name: the folder, day (2026-07-31) or month; "" for pictures without a date.

    labels: of those that occur, in the order of the classes.
    """

    name: str
    pictures: int
    without_face: int
    errors: int
    labels: Mapping[str, LabelCount]

    @property
    def faces(self) -> int:
        return sum(count.faces for count in self.labels.values())

    def share(self, label: str) -> float | None:
        """Part of the faces that has the label; None where there are no faces."""
        count = self.labels.get(label)
        return (count.faces if count else 0) / self.faces if self.faces else None

    def to_dict(self) -> dict[str, Any]:
        return {
            "pictures": self.pictures,
            "faces": self.faces,
            "pictures_without_face": self.without_face,
            "errors": self.errors,
            "labels": {
                label: {"faces": count.faces, "share": self.share(label), "mean_confidence": count.mean_confidence}
                for label, count in self.labels.items()
            },
        }


@dataclass(frozen=True)
class Summary:
    """Answers about a table of faces.

    source: the tables. parts: their files; parts_planned: how many the batch will have, or None for other tables. classes:
    of the model, in its order. total: all of it; `total.name` is "". first, last: when the earliest and the latest
    picture was taken, as ISO 8601 without time zone, or None; undated: pictures that do not say.
    messages: the most frequent errors, without the names of the pictures. groups: at most 10,000; groups_left_out: how
    many more there are. root: what all folders have in common.
    """

    source: str
    parts: int
    parts_planned: int | None
    classes: tuple[str, ...]
    min_confidence: float
    total: GroupSummary
    first: str | None
    last: str | None
    undated: int
    messages: tuple[tuple[str, int], ...]
    by: str
    root: str = ""
    groups: tuple[GroupSummary, ...] = ()
    groups_left_out: int = 0

    def to_dict(self) -> dict[str, Any]:
        """What `ferkit summarize --json` prints."""
        return {
            "source": self.source,
            "parts": {"done": self.parts, "planned": self.parts_planned},
            "classes": list(self.classes),
            "min_confidence": self.min_confidence,
            **self.total.to_dict(),
            "taken": {"first": self.first, "last": self.last, "pictures_without": self.undated},
            "messages": [{"message": message, "n": n} for message, n in self.messages],
            "by": self.by,
            "root": self.root,
            "groups": [{"group": group.name, **group.to_dict()} for group in self.groups],
            "groups_left_out": self.groups_left_out,
        }
