"""What does `kill -9` leave behind, whenever it comes?

    python stress/kill.py [--command train evaluate batch export] [--times 20] [--seed 0]

Each command is run undisturbed; then, --times times, it is killed with all its processes: every other time at a random
moment of its run, every other time at (or up to 5 ms after) a random one of the changes that it makes on the disk. After
each kill every file under a final name must be whole, the next start must end well, and what it leaves must equal what
the undisturbed run left. Exit code 1 where anything is amiss.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs import Job, Place
from trials import Trial, disturb
from whole import drafts_of, problems_of

_DYING = str(Path(__file__).parent / "dying")
_LATEST_DELAY_S = 0.005


@dataclass
class Undisturbed:
    """A run that nobody disturbs: how long it takes, how often it changes the disk, what it leaves."""

    seconds: float
    changes: int
    outcome: dict[str, Any]


def watched(place: Place, at: int = 0, delay: float = 0.0) -> dict[str, str]:
    """What a command needs in its environment to count its changes of the disk, and to die at one of them."""
    counter = place.root / "counter"
    counter.unlink(missing_ok=True)
    return {
        "PYTHONPATH": os.pathsep.join([_DYING, *filter(None, [os.environ.get("PYTHONPATH")])]),
        "STRESS_PLACE": str(place.root),
        "STRESS_COUNTER": str(counter),
        "STRESS_DIE_AT": str(at),
        "STRESS_DELAY": str(delay),
    }


def undisturbed(job: Job, place: Place) -> Undisturbed:
    place.make()
    started = time.monotonic()
    process = job.start(place, more=watched(place))
    errors = process.communicate()[1]
    seconds = time.monotonic() - started
    found = problems_of(*place.kept)
    if process.returncode != job.expected or found:
        raise SystemExit(f"{job.name} fails undisturbed ({process.returncode}): {errors}{found}")
    return Undisturbed(seconds, (place.root / "counter").stat().st_size, job.outcome(place.root / "out"))


def kill(job: Job, place: Place, usual: Undisturbed, share: float, rng: random.Random, by_change: bool) -> Trial:
    """Start, kill at a share of the run, look, start again, look again."""
    place.make()
    at, delay = 0, 0.0
    if by_change:
        at = 1 + int(share * usual.changes)
        delay = rng.choice([0.0, rng.uniform(0, _LATEST_DELAY_S)])
    process = job.start(place, more=watched(place, at, delay))
    done = Trial(job.name, f"change {at} of {usual.changes}" if by_change else f"{share:.0%} of {usual.seconds:.1f} s")
    try:
        process.wait(timeout=None if by_change else share * usual.seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    if process.returncode != -signal.SIGKILL:
        done.notes.append("over before")
    _wait_for_group(process.pid)
    done.look(place, "after the kill")
    if drafts_of(place.root):
        done.notes.append("in the middle of a write")
    done.start_again(job, place, usual.outcome)
    return done


def _wait_for_group(group: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    raise SystemExit(f"Processes of group {group} outlive SIGKILL.")


def kills_of(jobs: list[Job], folder: Path, options: argparse.Namespace) -> list[Trial]:
    rng = random.Random(f"{options.seed} {jobs[0].name}")  # noqa: S311 - moments, no secrets
    usual = {job.name: undisturbed(job, Place(folder / job.name, folder / "material")) for job in jobs}
    # Even shares, each moved at random within its stretch, so that no part of a run is left out; in random order.
    half = options.times // 2
    shares = [rng.sample([(i + rng.random()) / half for i in range(half)], half) for _ in range(2)]
    found = []
    for number in range(2 * half):
        job = jobs[number // 2 % len(jobs)]
        place = Place(folder / f"{jobs[0].name}-{number}", folder / "material")
        one = kill(job, place, usual[job.name], shares[number % 2].pop(), rng, by_change=bool(number % 2))
        found.append(one)
        print(one, flush=True)
        if not one.problems:
            shutil.rmtree(place.root)
    return found


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    return disturb(parser, words, kills_of)


if __name__ == "__main__":
    sys.exit(main())
