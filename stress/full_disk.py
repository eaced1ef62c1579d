"""What happens when the disk is full?

    python stress/full_disk.py [--command train evaluate batch export] [--sizes 4]

Each command is run on a small disk of its own (a tmpfs, which needs root) that holds results, cache and temporary files.
First there is room, to see how much it takes; then less and less, so that the disk fills at different moments. Each time
the command must end with exit code 1 and one line, or do without what has no room; every file under a final name must be
whole; and when there is room again, the next start must end well and leave what a run with room left. Exit code 1 where
anything is amiss.
"""

import argparse
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jobs import Job, Place
from trials import Trial, disturb

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
    if process.returncode != job.expected:
        raise SystemExit(f"{job.name} fails with room, too: {errors}")
    return most, job.outcome(place.root / "out")


def fill(job: Job, place: Place, moment: str, usual: dict[str, Any]) -> Trial:
    """Run on the small disk, look, make room, start again, look again."""
    place.make()
    done = Trial(job.name, moment)
    process = job.start(place)
    errors = process.communicate()[1]
    code = process.returncode
    lines = [line for line in errors.splitlines() if line.startswith("ferkit: ")]
    done.notes.append(f"ended with {code} ({lines[-1] if lines else errors.strip()[-200:]})")
    if "Traceback" in errors or code not in (0, 1) or (code > job.expected and len(lines) != 1):
        done.problems.append(f"ended with {code}: {errors.strip()[-400:]}")
    done.look(place, "when full")
    subprocess.run(["mount", "-o", f"remount,size={_ROOMY}", place.root], check=True)
    done.start_again(job, place, usual)
    return done


def trials_of(jobs: list[Job], folder: Path, options: argparse.Namespace) -> list[Trial]:
    found = []
    for job in jobs:
        root = folder / job.name.replace(" ", "-")
        with small_disk(root / "roomy", _ROOMY) as disk:
            most, usual = with_room(job, Place(disk, folder / "material"))
        for number in range(options.sizes):
            size = max(_FEWEST, int(most * number / options.sizes))
            with small_disk(root / str(number), size) as disk:
                one = fill(job, Place(disk, folder / "material"), f"{size:,} of {most:,} bytes", usual)
            found.append(one)
            print(one, flush=True)
    return found


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, default=4, help="disks per command, from next to nothing upwards")
    if os.geteuid() != 0 and "--help" not in sys.argv:
        raise SystemExit("A disk can be made by root alone. Try: sudo, or unshare --map-root-user --mount.")
    return disturb(parser, words, trials_of)


if __name__ == "__main__":
    sys.exit(main())
