"""How a job begins: planned anew, or found in OUT."""

import json
from collections.abc import Callable

from ferkit.batch.job import FOLDER, JOB_FILE, Job, read_job
from ferkit.batch.listing import list_references
from ferkit.batch.plan import write_plan
from ferkit.batch.settings import Settings, checksums, load_recognizer
from ferkit.batch.storage import Storage
from ferkit.batch.table import schema_of
from ferkit.errors import UsageError


def prepare(storage: Storage, out: str, source: str, settings: Settings) -> Callable[[], Job]:
    """Check all that can be checked before anything is written; what comes back then finds or plans the job.

    Raises `UsageError` where other things are in OUT, or a job that was given other settings, and what listing SRC and
    loading the model raise.
    """
    _check_free(storage, out)
    settings = settings.settled()
    resumed = _resumed(storage, out, source, settings)
    if resumed is not None:
        return lambda: resumed
    references = list_references(source)
    classes = load_recognizer(settings).classes
    schema_of(classes)

    def alone() -> None:
        if storage.read(JOB_FILE) is not None:
            raise UsageError(f"Another run has begun a job in {out} meanwhile. Give the same command again to go on.")

    def plan() -> Job:
        alone()
        parts, pictures = write_plan(storage, references, settings.part_size)
        job = Job(out, source, settings, parts, pictures, classes, checksums(settings))
        alone()  # again: nothing holds an object store while hours of listing go by
        # The last of all: it says that the plan is whole.
        storage.write(JOB_FILE, json.dumps(job.to_dict(), indent=1).encode())
        return job

    return plan


def _check_free(storage: Storage, out: str) -> None:
    """Refuse an OUT with other things in it: whoever reads the results would take them for some."""
    names = storage.names()
    other = next((name for name in names if not name.startswith((FOLDER, "."))), None)
    if other is not None and FOLDER not in names:
        raise UsageError(f"{out} holds other things, such as {other}. Choose a new folder, or an empty one.")


def _resumed(storage: Storage, out: str, source: str, settings: Settings) -> Job | None:
    """The job that is in OUT, if it is the one that is asked for; None where there is none."""
    found = read_job(storage, out)
    if found is None:
        return None
    sums = checksums(settings)
    asked = {"source": source, **settings.words(), **_named(sums)}
    there = {"source": found["source"], **found["settings"], **_named(found["checksums"])}
    if settings.part_size is None:
        asked["part_size"] = there["part_size"]
    for name in asked | there:
        if asked.get(name) != there.get(name):
            raise UsageError(
                f"{out} holds another job: {name} was {there.get(name)} there and is {asked.get(name)} now. "
                "Give what was given then, or choose another OUT."
            )
    return Job(out, source, settings, found["parts"], found["pictures"], tuple(found["classes"]), sums)


def _named(sums: dict[str, str]) -> dict[str, str]:
    return {f"SHA-256 of the {name}": value for name, value in sums.items()}
