"""What a batch job costs on any number of machines: a model on paper, made of what was measured.

    python benchmarks/scale_model.py            # prints
    python benchmarks/scale_model.py --write    # and puts the tables into docs/batch.md, where they belong

Reads batch.json (`benchmarks/batch.py --write`) and batch_requests.json (`benchmarks/batch_requests.py --write`). Every
figure is computed from these and from the assumptions, which the tables name: cores of a node, and how long an object
store takes to answer.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferkit._support.files import write_atomically
from ferkit.batch.plan import _MOST as PART
from ferkit.batch.running import _THREADS as FOOTERS_AT_ONCE
from ferkit.batch.summary_scan import _REMOTE_READERS as SUMMARIZED_AT_ONCE
from ferkit.sources.streaming import _THREADS as FETCHED_AT_ONCE

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "batch.md"
BEGIN, END = "<!-- tables: python benchmarks/scale_model.py --write -->", "<!-- end of the tables -->"
PICTURES = (10**6, 10**8)
NODES = (1, 10, 100)
CORES = 16  # of a node
LATENCY_S = 0.05  # of an object store, from request to answer

_LISTED = 1000  # names in one answer of S3 to LIST
_SETS = {"scenes": "whole pictures", "faces": "small faces, cut out before"}


@dataclass(frozen=True)
class Costs:
    """What was measured of one kind of picture. seconds: of a core, per picture. shared: how much of one worker's speed
    each of two has on this machine, where two cores may be two threads of one.
    """

    seconds: float
    shared: float
    engine: str
    read: float
    written: float

    @classmethod
    def of(cls, one: dict[str, Any]) -> "Costs":
        """Of the engine that was slower with two workers: a model had better not promise too much."""
        speeds = one["speeds"]
        engine = min(
            (name.split()[0] for name in one["whole"]), key=lambda name: statistics.median(speeds[f"{name} 2"])
        )
        single = statistics.median(speeds[f"{engine} 1"])
        pairs = zip(speeds[f"{engine} 2"], speeds[f"{engine} 1"], strict=True)
        shared = statistics.median(two / one / 2 for two, one in pairs)
        return cls(1 / single, shared, engine, one["bytes_read"], one["bytes_written"])

    @property
    def busy(self) -> float:
        """Seconds of a logical core per picture when all are at work."""
        return self.seconds / self.shared


def tables(batch: dict[str, Any], requests: dict[str, dict[str, float]]) -> str:
    """All of it as Markdown."""
    kinds = {name: Costs.of(one) for name, one in batch["sets"].items()}
    parts = [_assumptions(batch)]
    parts += [_prices(name, costs) for name, costs in kinds.items()]
    parts.append(_bends(batch["listing"], requests))
    return "\n".join(parts)


def _assumptions(batch: dict[str, Any]) -> str:
    about = batch["about"]
    return (
        f"Measured on {about['processor']} with {about['cores']} logical cores. Assumed: nodes of {CORES} such cores, an "
        f"object store that answers after {1000 * LATENCY_S:.0f} ms, parts of {PART:,} pictures.\n"
    )


def _prices(name: str, costs: Costs) -> str:
    lines = [
        f"**{_SETS[name].capitalize()}** ({_bytes(costs.read)} each, engine `{costs.engine}`): "
        f"{1000 * costs.seconds:.3g} ms of a core that has its machine to itself, {1000 * costs.busy:.3g} ms where all cores "
        "are at work.\n",
        "| pictures | core hours | " + " | ".join(f"{nodes} node{'s' * (nodes > 1)}" for nodes in NODES)
        + " | read | written | network per node |",
        "|---|---|" + "---|" * len(NODES) + "---|---|---|",
    ]  # fmt: skip
    for pictures in PICTURES:
        seconds = pictures * costs.busy
        times = " | ".join(_time(seconds / CORES / nodes) for nodes in NODES)
        network = 8 * costs.read * CORES / costs.busy
        lines.append(
            f"| {_count(pictures)} | {_number(seconds / 3600)} | {times} | {_bytes(pictures * costs.read)} "
            f"| {_bytes(pictures * costs.written)} | {_bytes(network)[:-1]}bit/s |"
        )
    return "\n".join([*lines, ""])


def _bends(listing: dict[str, Any], requests: dict[str, dict[str, float]]) -> str:
    per_picture, per_part, shard = (sum(requests[name].values()) for name in ("per_picture", "per_part", "per_shard"))
    resumed, summarized = (sum(requests[f"per_part_{name}"].values()) for name in ("resumed", "summarized"))
    listed, plan = (listing[name] / listing["pictures"] for name in ("seconds", "bytes"))
    in_turn = per_picture / FETCHED_AT_ONCE

    # What grows, per how many pictures, and how it is told.
    rows: Sequence[tuple[str, Callable[[int], str]]] = (
        ("listing and planning, local folders", lambda n: _time(n * listed)),
        ("listing, flat folders of an object store", lambda n: _time(n / _LISTED * LATENCY_S)),
        ("the plan", lambda n: _bytes(n * plan)),
        ("files of OUT", lambda n: f"{n / PART:,.0f}"),
        ("requests, an object per picture", lambda n: _count(n * per_picture + n / PART * per_part)),
        (f"requests, shards of {PART:,}", lambda n: _count(n / PART * (shard + per_part))),
        (f"waiting for them, {FETCHED_AT_ONCE} asked for at once", lambda n: _hours(n * in_turn * LATENCY_S)),
        ("waiting for what a part needs", lambda n: _hours(n / PART * per_part * LATENCY_S)),
        ("finding out on resuming what is done", lambda n: _time(n / PART * resumed * LATENCY_S / FOOTERS_AT_ONCE)),
        (
            "`ferkit summarize` from an object store",
            lambda n: _time(n / PART * summarized * LATENCY_S / SUMMARIZED_AT_ONCE),
        ),
    )
    lines = ["| what grows | " + " | ".join(map(_count, PICTURES)) + " |", "|---|" + "---|" * len(PICTURES)]
    lines += [f"| {what} | " + " | ".join(tell(pictures) for pictures in PICTURES) + " |" for what, tell in rows]
    return "\n".join(lines) + "\n"


def _count(n: float) -> str:
    """Large counts in millions.

    >>> _count(10**6), _count(1.013e8), _count(1200)
    ('1 million', '101 million', '1,200')
    """
    return f"{_number(n / 1e6)} million" if n >= 1e6 else f"{n:,.0f}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _hours(seconds: float) -> str:
    return f"{_number(seconds / 3600)} core hours"


def _time(seconds: float) -> str:
    """In the unit that people would take.

    >>> _time(30), _time(5400), _time(10**6)
    ('30 s', '1.5 h', '11.6 days')
    """
    for unit, name in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * unit:
            return f"{_number(seconds / unit)} {name}"
    return f"{_number(seconds)} s"


def _bytes(count: float) -> str:
    for unit, name in ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{_number(count / unit)} {name}"
    return f"{count:.0f} bytes"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/batch.md")
    options = parser.parse_args()
    text = tables(*(json.loads((HERE / name).read_text()) for name in ("batch.json", "batch_requests.json")))
    print(text)
    if options.write:
        page = PAGE.read_text(encoding="utf-8")
        head, _, rest = page.partition(BEGIN)
        _, _, tail = rest.partition(END)
        with write_atomically(PAGE) as draft:
            draft.write_text(f"{head}{BEGIN}\n\n{text}\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
