"""What happens when the disk is full?

    python stress/full_disk.py [--command train evaluate batch export] [--sizes 4] [--write]

Each command is run on a small disk of its own (a tmpfs, which needs root) that holds results, cache and temporary files.
First there is room, to see how much it takes; then less and less, so that the disk fills at different moments. Each time
the command must end with exit code 1 and one line, or do without what has no room; every file under a final name must be
whole; and when there is room again, the next start must end well and leave what a run with room left. Exit code 1 where
anything is amiss. --write keeps the table in stress/RESULTS.md.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import material
import pages
from jobs import JOBS, Job, Place, differing
from whole import drafts_of, problems_of

_ROOMY = 1 << 30
_FEWEST = 1 << 16


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A disk of so many bytes, as long as the block lasts."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def make_room(folder: Path) -> None:
    subprocess.run(["mount", "-o", f"remount,size={_ROOMY}", folder], check=True)


@dataclass
class Trial:
    """A command on a disk that fills, and after it."""

    job: str
    size: int
    ended: int = 0
    said: str = ""
    left_over: int = 0
    problems: list[str] = field(default_factory=list)


def with_room(job: Job, place: Place) -> tuple[int, dict[str, Any]]:
    """The most bytes that a job takes at once, and what it leaves."""
    place.make()
    most, ended = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not ended.wait(0.01):
            most = max(most, shutil.disk_usage(place.root).used)

    watcher = threading.Thread(target=watch)
    watcher.start()
    process = job.start(place)
    errors = process.communicate()[1]
    ended.set()
    watcher.join()
    if process.returncode not in (0, _expected(job)):
        raise SystemExit(f"{job.name} fails with room, too: {errors}")
    return most, job.outcome(place.root / "out")


def _expected(job: Job) -> int:
    return 1 if job.name == "batch" else 0  # a few of its pictures cannot be read


def fill(job: Job, place: Place, size: int, usual: dict[str, Any]) -> Trial:
    """Run on the small disk, look, make room, start again, look again."""
    place.make()
    done = Trial(job.name, size)
    process = job.start(place)
    errors = process.communicate()[1]
    done.ended = process.returncode
    lines = [line for line in errors.splitlines() if line.startswith("ferkit: ")]
    done.said = lines[-1] if lines else errors.strip()[-200:]
    if "Traceback" in errors or done.ended not in (0, 1) or (done.ended and job.name != "batch" and len(lines) != 1):
        done.problems.append(f"ended with {done.ended}: {errors.strip()[-400:]}")
    done.problems += [f"when full: {one}" for one in problems_of(*place.kept)]
    done.left_over = len(drafts_of(place.root))
    make_room(place.root)
    code, _, errors = job.next_start(place)
    if code != _expected(job) or "Traceback" in errors:
        done.problems.append(f"with room again it ended with {code}: {errors.strip()[-300:]}")
        return done
    done.problems += [f"with room again: {one}" for one in problems_of(*place.kept)]
    done.problems += [f"{name} differs" for name in differing(job.outcome(place.root / "out"), usual)]
    return done


def trials_of(command: str, sizes: int, folder: Path) -> list[Trial]:
    found = []
    for job in JOBS[command]:
        root = folder / job.name.replace(" ", "-")
        with small_disk(root / "roomy", _ROOMY) as disk:
            most, usual = with_room(job, Place(disk, folder / "material"))
        for number in range(sizes):
            size = max(_FEWEST, int(most * number / sizes))
            with small_disk(root / str(number), size) as disk:
                one = fill(job, Place(disk, folder / "material"), size, usual)
            found.append(one)
            state = "AMISS" if one.problems else "ok   "
            print(f"{state} {one.job} on {size:,} of {most:,} bytes: {one.ended}, {one.said}", *one.problems, sep="; ")
            sys.stdout.flush()
    return found


def row(trials: Sequence[Trial]) -> dict[str, Any]:
    return {
        "disks": len(trials),
        "ended with 1": sum(one.ended == 1 for one in trials),
        "did without": sum(one.ended == 0 for one in trials),
        "drafts left": sum(one.left_over for one in trials),
        "amiss": sum(bool(one.problems) for one in trials),
    }


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--command", nargs="+", choices=list(JOBS), default=list(JOBS))
    parser.add_argument("--sizes", type=int, default=4, help="disks per command, from next to nothing upwards")
    parser.add_argument("--data", help="FER-2013, of which a few faces are taken; default: drawn faces")
    parser.add_argument("--write", action="store_true", help="keep the table in stress/RESULTS.md")
    options = parser.parse_args(words)
    if os.geteuid() != 0:
        raise SystemExit("A disk can be made by root alone. Try: sudo, or unshare --map-root-user --mount.")

    found: dict[str, list[Trial]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ferkit-stress-")))
        material.make(folder / "material", options.data)
        for command in options.command:
            found[command] = trials_of(command, options.sizes, folder)
    print("\n".join(pages.table("command", {name: row(trials) for name, trials in found.items()})))
    if options.write:
        pages.keep("full_disk", {name: row(trials) for name, trials in found.items()})
    return 1 if any(one.problems for trials in found.values() for one in trials) else 0


if __name__ == "__main__":
    sys.exit(main())
