"""What pictures can be put together by."""

from dataclasses import dataclass

from ferkit.registry import Registry


@dataclass(frozen=True)
class Grouping:
    """What pictures are put together by.

    key: SQL of a row's group, made of `source` and `taken`. name: SQL of what it is called, made of `grp`; `$root` and
    `$depth` stand for what is common to all folders, and for how many levels below count. timed: groups come in order
    of time; else the largest come first.
    """

    help: str
    key: str
    name: str = "grp"
    timed: bool = False


GROUPINGS: Registry[Grouping] = Registry("grouping")
GROUPINGS.register("label")(Grouping("all pictures together", "''"))
# Archives count as folders. Backslashes divide where there is no slash: a table may come from Windows.
_AS_PATH = r"CASE WHEN contains(source, '/') THEN source ELSE replace(source, '\', '/') END"
GROUPINGS.register("folder")(
    Grouping(
        "by folder of the source, archives included",
        f"parse_dirpath(replace({_AS_PATH}, '::', '/'))",
        "coalesce(nullif(array_to_string("
        "string_split(ltrim(substr(grp, length($root) + 1), '/'), '/')[:$depth], '/'), ''), '.')",
    )
)
GROUPINGS.register("day")(Grouping("by the day they were taken (EXIF)", "CAST(taken AS DATE)", timed=True))
GROUPINGS.register("month")(
    Grouping("by the month they were taken (EXIF)", "CAST(date_trunc('month', taken) AS DATE)", "grp[:7]", timed=True)
)
