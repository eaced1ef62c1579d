"""What the benchmarks share: options, processes that answer, turns and their cost, photographs, pages."""

import argparse
import csv
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).parent
WORKER = HERE / "peers" / "worker.py"
STILL = (".jpg", ".jpeg", ".png")
PEAK_SIDE = 2048


def options_of(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the head of the script."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


@dataclass(frozen=True)
class Scene:
    """A photograph, how many faces it holds, and what a single face shows ("" where that is open)."""

    path: Path
    faces: int
    emotion: str


def read_scenes(folder: Path) -> list[Scene]:
    """The pictures of a folder whose MANIFEST.csv has the columns `file`, `frontal_faces` and `emotion`."""
    with (folder / "MANIFEST.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["file"].lower().endswith(STILL)]
    return [Scene(folder / row["file"], int(row["frontal_faces"]), row["emotion"]) for row in rows]


class Worker:
    """A contender of `peers/worker.py` in a process of its own: `start` it on some paths, then wait for its `answer`.

    cores: to which it is kept; 0 leaves it all. python: the interpreter that has what the contender needs.
    """

    def __init__(self, opened: ExitStack, contender: str, cores: int = 0, python: str = sys.executable) -> None:
        self.contender, self.cores = contender, cores
        # What libraries say is shown only if the worker dies of it.
        self._words: IO[str] = opened.enter_context(tempfile.TemporaryFile("w+"))  # noqa: SIM115 - a stack closes it
        self._process = opened.enter_context(
            subprocess.Popen(
                [python, str(WORKER), contender, str(cores)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._words,
                text=True,
            )
        )
        opened.callback(self._process.terminate)
        self.load = self.answer()

    def start(self, paths: Sequence[str]) -> None:
        assert self._process.stdin is not None  # noqa: S101 - for mypy; it is a pipe
        self._process.stdin.write(json.dumps(list(paths)) + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """`seconds`, `cpu_seconds`, memory in `mb`, and what was `found`."""
        assert self._process.stdout is not None  # noqa: S101 - likewise
        line = self._process.stdout.readline()
        if not line:
            self._words.seek(0)
            sys.exit(f"{self.contender} ended: {self._words.read()[-2000:]}")
        found: dict[str, Any] = json.loads(line)
        return found

    def ask(self, paths: Sequence[str]) -> dict[str, Any]:
        self.start(paths)
        return self.answer()


@dataclass(frozen=True)
class Cost:
    """What one turn took: wall time and CPU time of this process."""

    seconds: float
    cpu: float


def cost_of(work: Callable[[], object]) -> Cost:
    started, cpu = time.perf_counter(), time.process_time()
    work()
    return Cost(time.perf_counter() - started, time.process_time() - cpu)


def take_turns(contenders: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[Cost]]:
    """The cost of each contender, round by round, so that a noisy machine disturbs all of them alike.

    A first round is not counted: it compiles, fills caches and touches memory.
    """
    costs: dict[str, list[Cost]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, work in contenders.items():
            cost = cost_of(work)
            if number:
                costs[name].append(cost)
    return costs


def spread(values: Sequence[float], style: str) -> str:
    """Median, and least and most in brackets."""
    return f"{statistics.median(values):{style}} ({min(values):{style}} to {max(values):{style}})"


def ratio(values: Sequence[float], others: Sequence[float]) -> float:
    """Median of the rounds' ratios, for neighbours in time met the same noise."""
    return statistics.median(value / other for value, other in zip(values, others, strict=True))


def matmul_peak(product: Callable[[], object], clock: Callable[[], float]) -> float:
    """Operations per second of a product of two matrices of `PEAK_SIDE`, the best of eight."""
    best = 0.0
    for _ in range(8):
        started = clock()
        product()
        best = max(best, 2 * PEAK_SIDE**3 / (clock() - started))
    return best


def processor_name() -> str:
    """What the processor calls itself, as "AMD EPYC"."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file() and (found := re.search(r"model name\s*: (.+)", cpuinfo.read_text(encoding="utf-8"))):
        return found[1].strip()
    return platform.processor() or platform.machine()


def load_average() -> str:
    return ", ".join(f"{one:.1f}" for one in os.getloadavg())


def publish(text: str, page: Path | None) -> None:
    """Print a page, and write it where a file is given."""
    print(text)
    if page is not None:
        page.write_text(text, encoding="utf-8")
