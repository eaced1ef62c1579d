"""What `kill.py` and `full_disk.py` share: commands that are disturbed one after another, looked at, and started again."""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import material
from jobs import JOBS, Job, Place
from whole import drafts_of, problems_of


@dataclass
class Trial:
    """A command that was disturbed, and what came after it. moment: when, or by how small a disk."""

    job: str
    moment: str
    notes: list[str] = field(default_factory=list)
    drafts_left: int = 0
    problems: list[str] = field(default_factory=list)

    def look(self, place: Place, when: str) -> None:
        """Note every file under a final name that is not whole."""
        self.problems += [f"{when}: {problem}" for problem in problems_of(*place.kept)]

    def start_again(self, job: Job, place: Place, usual: dict[str, Any]) -> None:
        """The next start must end well and leave what an undisturbed run leaves."""
        code, how, errors = job.next_start(place)
        self.notes.append(how)
        if code != job.expected or "Traceback" in errors:
            self.problems.append(f"the next start ended with {code}: {errors.strip()[-300:]}")
            return
        self.look(place, "after the next start")
        self.drafts_left = len(drafts_of(place.root))
        outcome = job.outcome(place.root / "out")
        names = sorted({*outcome, *usual})
        self.problems += [f"{name} differs" for name in names if outcome.get(name) != usual.get(name)]

    def __str__(self) -> str:
        state = "AMISS" if self.problems else "ok   "
        return "; ".join([f"{state} {self.job}, {self.moment}: {', '.join(self.notes)}", *self.problems])


def disturb(
    parser: argparse.ArgumentParser,
    words: Sequence[str] | None,
    trials_of: Callable[[list[Job], Path, argparse.Namespace], list[Trial]],
) -> int:
    """Try every command that is asked for; 1 where anything is amiss. trials_of: those of a command, in a folder."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--command", nargs="+", choices=list(JOBS), default=list(JOBS))
    parser.add_argument("--data", help="FER-2013, of which a few faces are taken; default: drawn faces")
    options = parser.parse_args(words)
    found: dict[str, list[Trial]] = {}
    with tempfile.TemporaryDirectory(prefix="ferkit-stress-") as folder:
        material.make(Path(folder, "material"), options.data)
        for command in options.command:
            found[command] = trials_of(JOBS[command], Path(folder), options)
    print("\n| command | trials | drafts left | amiss |\n|---|---|---|---|")
    for command, trials in found.items():
        amiss = sum(bool(one.problems) for one in trials)
        print(f"| {command} | {len(trials)} | {sum(one.drafts_left for one in trials)} | {amiss} |")
    sys.stdout.flush()
    return int(any(one.problems for trials in found.values() for one in trials))
