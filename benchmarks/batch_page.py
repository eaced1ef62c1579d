"""What `benchmarks/batch.py` measured, as a page."""

import statistics
from collections.abc import Sequence
from typing import Any

_HEAD = """# Speed of batch jobs

`{command}`

{processor}, {cores} logical cores. Pictures come from the page cache. Medians over the rounds, least and most in brackets;
ratios are medians of the rounds' ratios, for neighbours in time met the same noise. *Working*: from the moment when all
workers are at work; *whole*: with listing, planning and the start of the workers, which weighs the less the longer a job is.
"""
_TITLES = {"scenes": "Whole pictures", "faces": "Small faces"}
_NAMES = {
    "one thread": "plain loop over `EmotionRecognizer`, one thread",
    "all threads": "plain loop over `EmotionRecognizer`, its own default",
    "one by one": "one picture per call, one face at a time, networks on all threads",
    "two at once": "two plain loops at once, one thread each",
}


def page(found: dict[str, Any]) -> str:
    parts = [_HEAD.format(**found["about"])]
    parts += [_set(name, one) for name, one in found["sets"].items()]
    if found["listing"]:
        parts.append(_listing(found["listing"]))
    return "\n".join(parts)


def _set(name: str, one: dict[str, Any]) -> str:
    speeds, whole = one["speeds"], one["whole"]
    base = speeds["one thread"]
    lines = [
        f"## {_TITLES[name]}\n",
        f"{one['pictures']:,} pictures of {one['bytes_read'] / 1000:.3g} kB with {one['faces']:,} faces, detector "
        f"`{one['detector']}`, parts of {one['part_size']}.\n",
        "| | pictures/s | times the plain loop | whole, pictures/s |",
        "|---|---|---|---|",
    ]
    for contender, values in speeds.items():
        after = f"{statistics.median(whole[contender]):.1f}" if contender in whole else ""
        lines.append(f"| {_title(contender)} | {_range(values)} | {ratio(values, base):.2f} | {after} |")
    rows = "the same rows, to the last bit" if one["same_rows"] else "DIFFERENT rows"
    lines += [
        f"\nAll jobs wrote {rows}: {one['bytes_written']:.0f} bytes per picture, all in one file.\n",
        "| two workers reach | of twice the plain loop | of twice one worker | of two plain loops at once |",
        "|---|---|---|---|",
    ]
    limit = speeds["two at once"]
    for contender in whole:
        engine, workers = contender.split()
        if workers == "2":
            two = speeds[contender]
            shares = (ratio(two, base) / 2, ratio(two, speeds[f"{engine} 1"]) / 2, ratio(two, limit))
            lines.append(f"| engine `{engine}` | {' | '.join(f'{share:.0%}' for share in shares)} |")
    lines.append(f"| two plain loops at once | {ratio(limit, base) / 2:.0%} | | 100% |\n")
    return "\n".join(lines)


def ratio(values: Sequence[float], others: Sequence[float]) -> float:
    return statistics.median(value / other for value, other in zip(values, others, strict=True))


def _title(contender: str) -> str:
    if contender in _NAMES:
        return _NAMES[contender]
    engine, workers = contender.split()
    return f"`ferkit batch --engine {engine} --workers {workers}`, working"


def _range(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def _listing(one: dict[str, Any]) -> str:
    return (
        "## Planning\n\n"
        f"{one['pictures']:,} files in folders of a thousand: {one['seconds']:.1f} s, "
        f"{1e6 * one['seconds'] / one['pictures']:.1f} µs and {one['bytes'] / one['pictures']:.1f} bytes per picture, "
        f"{one['parts']:,} parts.\n"
    )
