"""Fuzz ferkit: `python fuzz/run.py --minutes 30 [--target NAME]`. Needs atheris beside ferkit[train,web,batch].

Each target runs until it has had so many minutes in all, in slices, `--jobs` of them side by side. Corpus, findings and the
account of time lie in fuzz/work, so that a run that was ended goes on. At the end, or with `--write`, the table in
fuzz/RESULTS.md is written anew, after every finding was tried again.
"""

import argparse
import datetime
import json
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from fuzz.scratch import PLACE, prefix  # noqa: E402 - the folder above is what they are found in
from fuzz.targets import PACKAGES  # noqa: E402

WORK = ROOT / "fuzz" / "work"
_LINE = re.compile(r"^#(\d+)\s.*?\bcov: (\d+) ft: (\d+) corp: (\d+)/", re.MULTILINE)
_DONE = re.compile(r"^Done (\d+) runs in (\d+) second", re.MULTILINE)
_EXECUTED = re.compile(r"stat::number_of_executed_units:\s+(\d+)")
# Starting takes some of the time of a process, in which nothing is tried.
_STARTING_SECONDS = 15


@dataclass
class Account:
    """What a target has had so far, over all runs."""

    seconds: float = 0
    executions: int = 0
    edges: int = 0
    inputs: int = 0
    ended_early: int = 0  # by a crash, a hang or too much memory

    @classmethod
    def load(cls, name: str) -> "Account":
        path = WORK / name / "account.json"
        return cls(**json.loads(path.read_text())) if path.exists() else cls()

    def save(self, name: str) -> None:
        path = WORK / name / "account.json"
        path.with_suffix(".new").write_text(json.dumps(asdict(self)))
        path.with_suffix(".new").replace(path)


class Slice:
    """A target that is running."""

    def __init__(self, name: str, seconds: float) -> None:
        self.name, self.started = name, time.monotonic()
        folder = WORK / name
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "log.txt"
        options = [f"-max_total_time={round(seconds)}", "-timeout=30", "-rss_limit_mb=2048", "-close_fd_mask=3",
                   "-print_final_stats=1", "-verbosity=1"]  # fmt: skip
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(  # noqa: S603 - names of our own
                [sys.executable, "-m", "fuzz.harness", name, str(folder), *options],
                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def account(self) -> bool:
        """Add what the slice did to the account of its target; whether it did anything."""
        total, text = Account.load(self.name), self.log.read_text(errors="replace")
        lines, executed, done = _LINE.findall(text), _EXECUTED.findall(text), _DONE.findall(text)
        if lines:
            lasted = max(0, time.monotonic() - self.started - _STARTING_SECONDS)
            total.seconds += float(done[-1][1]) if done else lasted
            last = lines[-1]
            total.executions += int(executed[-1] if executed else last[0])
            total.edges, total.inputs = max(total.edges, int(last[1])), int(last[3])
        total.ended_early += self.process.returncode not in (0, 72, -signal.SIGINT)
        total.save(self.name)
        print(f"{self.name}: {total.seconds / 60:.1f} min, {total.executions:,} runs, {total.edges:,} edges, "
              f"{len(findings(self.name))} findings{'' if lines else ', it did not start, see ' + str(self.log)}", flush=True)  # fmt: skip
        for left in PLACE.glob(f"{prefix(self.process.pid)}-*"):
            shutil.rmtree(left, ignore_errors=True)
        return bool(lines)


def findings(name: str) -> list[Path]:
    """Inputs that once made trouble: exceptions, and what libFuzzer ended a run for."""
    folder = WORK / name
    return sorted((*folder.glob("findings/*.bin"), *folder.glob("artifacts/*")))


def fuzz(names: list[str], minutes: float, *, jobs: int, seconds: float) -> None:
    """Run targets until each has had its minutes, those first that have had the least."""
    running: list[Slice] = []
    unstarted: Counter[str] = Counter()
    try:
        while True:
            for one in [one for one in running if one.process.poll() is not None]:
                running.remove(one)
                unstarted[one.name] += not one.account()
            busy = {one.name for one in running}
            left = {name: 60 * minutes - Account.load(name).seconds for name in names}
            due = [
                name
                for name in sorted(left, key=lambda name: -left[name])
                if left[name] > 5 and name not in busy and unstarted[name] < 5
            ]
            if not due and not running:
                return
            running += [Slice(name, min(seconds, left[name])) for name in due[: jobs - len(running)]]
            time.sleep(1)
    finally:
        for one in running:
            one.process.send_signal(signal.SIGINT)
        for one in running:
            try:
                one.process.wait(20)
            except subprocess.TimeoutExpired:
                one.process.kill()
                one.process.wait()
            one.account()


_AGAIN = """
import sys
sys.path[:0] = sys.argv[1:3]
from pathlib import Path
from fuzz.targets import target
looked_at = target(sys.argv[3])
for path in sys.argv[4:]:
    try:
        looked_at.look(Path(path).read_bytes())
    except Exception:
        print("fails", path, flush=True)
    else:
        print("fine", path, flush=True)
"""


def still_failing(name: str, paths: list[Path]) -> int:
    """How many of the inputs that once made trouble still do: tried in a process, in another one after a crash or a hang."""
    failing, left = 0, list(paths)
    while left:
        words = [sys.executable, "-c", _AGAIN, str(ROOT), str(ROOT / "tests" / "helpers"), name, *map(str, left)]
        try:
            done = subprocess.run(words, cwd=ROOT, capture_output=True, timeout=300, check=False)  # noqa: S603 - likewise
            said = done.stdout.decode()
        except subprocess.TimeoutExpired as problem:
            said = (problem.stdout or b"").decode()
        tried = said.splitlines()
        failing += sum(line.startswith("fails") for line in tried)
        left = left[len(tried) :]
        if left:  # this is the one that it ended with
            failing, left = failing + 1, left[1:]
    return failing


def write(names: list[str]) -> None:
    """The table of what was done and found."""
    rows = [
        "| target | minutes | executions | edges | inputs kept | found | still open |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name in names:
        total, found = Account.load(name), findings(name)
        still = still_failing(name, found)
        rows.append(f"| {name} | {total.seconds / 60:.0f} | {total.executions:,} | {total.edges:,} | {total.inputs:,} "
                    f"| {len(found)} | {still} |")  # fmt: skip
    packages = (
        "atheris",
        "pillow",
        "opencv-python-headless",
        "pyarrow",
        "onnxruntime",
        "h5py",
        "starlette",
        "python-multipart",
    )
    versions = ", ".join(f"{one} {metadata.version(one)}" for one in packages)
    (ROOT / "fuzz" / "RESULTS.md").write_text(
        "# What fuzzing did\n\n"
        f"Written by `python fuzz/run.py --write` on {datetime.datetime.now(datetime.UTC).date()}; Python "
        f"{platform.python_version()}, {versions}. Minutes are of one process; edges are those of the Python code that "
        "`targets/__init__.py` names. Found: different places in the code at which something was raised, hung or grew that "
        "must not, counted once each over all runs; [README.md](README.md) says what they were. Still open: those whose "
        "input still does it.\n\n" + "\n".join(rows) + "\n"
    )
    print("\n".join(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30, help="for each target, over all runs")
    parser.add_argument("--target", action="append", choices=list(PACKAGES), help="only this one; may be repeated")
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side")
    parser.add_argument("--slice", type=float, default=300, help="seconds until the next target has its turn")
    parser.add_argument("--write", action="store_true", help="only try the findings again and write the table")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if not asked.write:
        try:
            fuzz(asked.target or list(PACKAGES), asked.minutes, jobs=asked.jobs, seconds=asked.slice)
        except KeyboardInterrupt:
            sys.exit(130)
    write(list(PACKAGES))


if __name__ == "__main__":
    main()
