"""A job as it stands in `OUT/_job/job.json`: what is done, with which settings, on which plan."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ferkit.batch.settings import Settings
from ferkit.batch.storage import Storage, open_storage
from ferkit.errors import FerkitError, UsageError

FOLDER = "_job"
JOB_FILE = f"{FOLDER}/job.json"
FORMAT = 1
_PART = re.compile(r"part-(\d{6,})\.parquet")


@dataclass(frozen=True)
class Job:
    """A job whose plan is written. It pickles: engines send it to their workers.

    out: folder or address. source: what was given as SRC. settings: with the detector that "auto" took. parts: how many.
    pictures: how many, or None where tars are opened by the workers only. classes: of the model.
    checksums: SHA-256 of model and detector as they were at the start, hex, by their names in `settings`.
    """

    out: str
    source: str
    settings: Settings
    parts: int
    pictures: int | None
    classes: tuple[str, ...]
    checksums: Mapping[str, str]

    def storage(self) -> Storage:
        return open_storage(self.out)

    def to_dict(self) -> dict[str, Any]:
        """What job.json holds. Not `out`: a folder of results may be moved."""
        words = {name: value for name, value in vars(self).items() if name != "out"}
        return {"format": FORMAT, **words, "settings": self.settings.words()}


def part_name(part: int) -> str:
    return f"part-{part:06}.parquet"


def done_parts(storage: Storage) -> set[int]:
    """Numbers of the parts that are there, which is: done."""
    return {int(match[1]) for match in map(_PART.fullmatch, storage.names()) if match}


def read_job(storage: Storage, out: str) -> dict[str, Any] | None:
    """What job.json says; None where no job was planned to its end."""
    data = storage.read(JOB_FILE)
    if data is None:
        return None
    try:
        found = dict(json.loads(data))
        version = found["format"]
    except (ValueError, KeyError, TypeError) as problem:
        raise FerkitError(f"{out}/{JOB_FILE} is damaged ({problem}). Choose another OUT.") from problem
    if version != FORMAT:
        raise UsageError(f"{out} holds a job of another version of ferkit. Choose another OUT.")
    return found
