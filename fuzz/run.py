"""Fuzz ferkit: `python fuzz/run.py --minutes 30 [--target NAME]`. Needs atheris beside ferkit[train,web,batch].

Each target runs for so many minutes, `--jobs` of them side by side; one that a crash, a hang or too much memory ends is
started again for the rest of its time. Corpus and findings lie in fuzz/work, so the next run goes on from them. Exit code 1
where there are findings or a target does not start.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from fuzz.targets import PACKAGES  # noqa: E402 - the folder above is where it is found

WORK = ROOT / "fuzz" / "work"
# Targets write a file for each input: into memory, where there is such a place.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - likewise
_OPTIONS = ("-timeout=30", "-rss_limit_mb=2048", "-close_fd_mask=3", "-print_final_stats=1")
_EXECUTED = re.compile(r"stat::number_of_executed_units:\s+(\d+)")
_INTERRUPTED = 72  # as libFuzzer ends on Ctrl-C
_LEAST_SECONDS = 5


def findings(name: str) -> list[Path]:
    """Inputs that made trouble: exceptions, and what libFuzzer ended a run for."""
    return sorted((*(WORK / name).glob("findings/*.bin"), *(WORK / name).glob("artifacts/*")))


def fuzz(name: str, minutes: float) -> bool:
    """Run a target for so long; whether it ran and found nothing."""
    folder, until, executed = WORK / name, time.monotonic() + 60 * minutes, 0
    folder.mkdir(parents=True, exist_ok=True)
    while (left := round(until - time.monotonic())) >= _LEAST_SECONDS:
        command = [sys.executable, "-m", "fuzz.harness", name, str(folder), f"-max_total_time={left}", *_OPTIONS]
        # libFuzzer ends without cleaning up.
        with tempfile.TemporaryDirectory(prefix="ferkit-fuzz-", dir=MEMORY) as scratch:
            environment = os.environ | {"TMPDIR": scratch}
            with (folder / "log.txt").open("wb") as log:
                done = subprocess.run(  # noqa: S603 - names of our own
                    command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
                )
        told = _EXECUTED.findall((folder / "log.txt").read_text(errors="replace"))
        if not told or done.returncode == _INTERRUPTED:
            print(f"{name}: it did not start or was interrupted, see {folder / 'log.txt'}", flush=True)
            return False
        executed += int(told[-1])
    found = findings(name)
    print(f"{name}: {executed:,} executions, {len(found)} findings in {folder}", flush=True)
    return not found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30, help="for each target")
    parser.add_argument("--target", action="append", choices=list(PACKAGES), help="only this one; may be repeated")
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side")
    asked = parser.parse_args()
    with ThreadPoolExecutor(asked.jobs) as pool:
        fine = list(pool.map(partial(fuzz, minutes=asked.minutes), asked.target or PACKAGES))
    return int(not all(fine))


if __name__ == "__main__":
    sys.exit(main())
