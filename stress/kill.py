"""What does `kill -9` leave behind, whenever it comes?

    python stress/kill.py [--command train evaluate batch export] [--times 20] [--seed 0] [--write]

Each command is run undisturbed; then, --times times, it is killed with all its processes: every other time at a random
moment of its run, every other time at (or up to 5 ms after) a random one of the changes that it makes on the disk. After
each kill every file under a final name must be whole, the next start must end well, and what it leaves must equal what
the undisturbed run left. Exit code 1 where anything is amiss. --write keeps the table in stress/RESULTS.md.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import material
import pages
from jobs import JOBS, Job, Place, differing
from whole import drafts_of, problems_of

_DYING = str(Path(__file__).parent / "dying")
_LATEST_DELAY_S = 0.005


@dataclass
class Undisturbed:
    """A run that nobody disturbs: how long it takes, how often it changes the disk, what it leaves."""

    seconds: float
    changes: int
    outcome: dict[str, Any]


@dataclass
class Kill:
    """One kill and what came after it."""

    job: str
    moment: str
    killed: bool = True
    half_written: bool = False
    next_start: str = ""
    left_over: int = 0
    problems: list[str] = field(default_factory=list)


def watched(place: Place, at: int = 0, delay: float = 0.0) -> dict[str, str]:
    """What a command needs in its environment to count its changes of the disk, and to die at one of them."""
    counter = place.root / "counter"
    counter.unlink(missing_ok=True)
    path = os.pathsep.join([_DYING, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {
        "PYTHONPATH": path,
        "STRESS_PLACE": str(place.root),
        "STRESS_COUNTER": str(counter),
        "STRESS_DIE_AT": str(at),
        "STRESS_DELAY": str(delay),
    }


def undisturbed(job: Job, place: Place) -> Undisturbed:
    """Run a job to its end."""
    place.make()
    started = time.monotonic()
    process = job.start(place, more=watched(place))
    errors = process.communicate()[1]
    seconds = time.monotonic() - started
    found = problems_of(*place.kept)
    if process.returncode not in (0, _expected(job)) or found:
        raise SystemExit(f"{job.name} fails undisturbed ({process.returncode}): {errors}{found}")
    return Undisturbed(seconds, (place.root / "counter").stat().st_size, job.outcome(place.root / "out"))


def _expected(job: Job) -> int:
    return 1 if job.name == "batch" else 0  # a few of its pictures cannot be read


def kill(job: Job, place: Place, usual: Undisturbed, share: float, rng: random.Random, by_change: bool) -> Kill:
    """Start, kill at a share of the run, look, start again, look again."""
    place.make()
    at, delay = 0, 0.0
    if by_change:
        at = 1 + int(share * usual.changes)
        delay = rng.choice([0.0, rng.uniform(0, _LATEST_DELAY_S)])
    process = job.start(place, more=watched(place, at, delay))
    done = Kill(job.name, f"change {at} of {usual.changes}" if by_change else f"{share:.0%} of {usual.seconds:.1f} s")
    try:
        process.wait(timeout=None if by_change else share * usual.seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    done.killed = process.returncode == -signal.SIGKILL
    _wait_for_group(process.pid)
    done.problems += [f"after the kill: {one}" for one in problems_of(*place.kept)]
    done.half_written = bool(drafts_of(place.root))

    code, done.next_start, errors = job.next_start(place)
    if code != _expected(job) or "Traceback" in errors:
        done.problems.append(f"the next start ended with {code}: {errors.strip()[-300:]}")
        return done
    done.problems += [f"after the next start: {one}" for one in problems_of(*place.kept)]
    done.left_over = len(drafts_of(place.root))
    done.problems += [f"{name} differs" for name in differing(job.outcome(place.root / "out"), usual.outcome)]
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


def kills_of(command: str, times: int, seed: int, folder: Path) -> list[Kill]:
    rng = random.Random(f"{seed} {command}")  # noqa: S311 - moments, no secrets
    jobs = JOBS[command]
    usual = {job.name: undisturbed(job, Place(folder / job.name, folder / "material")) for job in jobs}
    # Even shares, each moved at random within its stretch, so that no part of a run is left out; in random order.
    shares = {
        by_change: rng.sample([(i + rng.random()) / (times // 2) for i in range(times // 2)], times // 2)
        for by_change in (False, True)
    }
    found = []
    for number in range(times // 2 * 2):
        by_change = bool(number % 2)
        job = jobs[number // 2 % len(jobs)]
        place = Place(folder / f"{command}-{number}", folder / "material")
        one = kill(job, place, usual[job.name], shares[by_change].pop(), rng, by_change)
        found.append(one)
        state = "AMISS" if one.problems else "ok   "
        print(
            f"{state} {one.job}, {one.moment}{'' if one.killed else ' (over before)'}: "
            f"{'half-written, ' if one.half_written else ''}{one.next_start}{''.join(f'; {p}' for p in one.problems)}",
            flush=True,
        )
        if not one.problems:
            shutil.rmtree(place.root)
    return found


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--command", nargs="+", choices=list(JOBS), default=list(JOBS))
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", help="FER-2013, of which a few faces are taken; default: drawn faces")
    parser.add_argument("--keep", type=Path, help="folder to work in; what went wrong stays there")
    parser.add_argument("--write", action="store_true", help="keep the table in stress/RESULTS.md")
    options = parser.parse_args(words)

    found: dict[str, list[Kill]] = {}
    with ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ferkit-stress-")))
        material.make(folder / "material", options.data)
        for command in options.command:
            found[command] = kills_of(command, options.times, options.seed, folder)
    pages.show_kills(found)
    if options.write:
        pages.keep("kill", {name: pages.kill_row(kills) for name, kills in found.items()}, options.seed)
    return 1 if any(one.problems for kills in found.values() for one in kills) else 0


if __name__ == "__main__":
    sys.exit(main())
