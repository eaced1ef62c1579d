"""How long `ferkit summarize` takes, and how much memory, over tables of a million rows and of a hundred million.

    python benchmarks/summarize.py                            # prints
    python benchmarks/summarize.py --write                    # and writes benchmarks/SUMMARIZE.md
    python benchmarks/summarize.py --rows 100000 1000000      # a quick try

Tables look like those of a batch: parts of a thousand pictures, most with one face or two, in folders of ten thousand,
taken over ten years. Labels are drawn at random; only the columns that a summary reads differ from row to row.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb

from ferkit.labels import EMOTIONS

_PICTURES = 1000  # of a part
_SAME = 100  # parts are written once and copied under so many names: writing is not what is measured
_BY = ("label", "folder", "day")

_PAGE = """# Summaries of large tables

`{command}`, on {cores} cores. Seconds and peak memory of the whole command, its start included.

| rows | pictures | files | by | seconds | rows/s | peak memory |
|---|---|---|---|---|---|---|
"""


def write_part(connection: duckdb.DuckDBPyConnection, path: Path, first: int) -> int:
    """A part of a thousand pictures; returns its rows."""
    classes = ", ".join(f"(0.1)::FLOAT AS {label}" for label in EMOTIONS)
    labels = ", ".join(f"'{label}'" for label in EMOTIONS)
    # Of five pictures one has no face, two have one, one has two, one has three; one in a thousand is broken.
    connection.execute(f"""
        COPY (
            SELECT printf('s3://archive/%03d/%02d/%09d.jpg', picture // 1000000, picture // 10000 % 100, picture) AS source,
                40 AS x1, 40 AS y1, 90 AS x2, 90 AS y2, 0.9::FLOAT AS detection_score,
                CASE WHEN faces = 0 THEN '' ELSE [{labels}][1 + (hash(picture, face) % {len(EMOTIONS)})::INT] END AS label,
                CASE WHEN faces > 0 THEN (0.3 + hash(face, picture) % 7000 / 10000)::FLOAT END AS confidence, {classes},
                CASE WHEN picture % 1000 = 0 THEN 'Cannot read it: it is empty.' END AS error,
                TIMESTAMP_MS '2015-01-01' + to_minutes((picture * 7919 % 5256000)::INT) AS taken
            FROM (SELECT picture, [0, 1, 1, 2, 3][1 + picture % 5] AS faces, unnest(range(greatest(faces, 1))) AS face
                FROM range({first}, {first + _PICTURES}) AS t(picture)))
        TO '{path}' (FORMAT parquet, COMPRESSION zstd)""")  # noqa: S608 - made of numbers and our own names
    counted = connection.execute("SELECT count(*) FROM read_parquet(?)", [str(path)]).fetchone()
    return int(counted[0]) if counted else 0


def make_table(folder: Path, rows: int) -> tuple[int, int]:
    """So many rows at least, in parts; returns how many there are, and in how many parts."""
    drawn: list[tuple[Path, int]] = []
    done = parts = 0
    with duckdb.connect() as connection:
        while done < rows:
            path = folder / f"part-{parts:06}.parquet"
            if parts < _SAME or parts % _SAME == 0:
                drawn.append((path, write_part(connection, path, parts * _PICTURES)))
                done += drawn[-1][1]
            else:
                source, count = drawn[parts % len(drawn)]
                try:
                    os.link(source, path)
                except OSError:  # as many names as a file may have
                    shutil.copyfile(source, path)
                done += count
            parts += 1
    return done, parts


def summarized(folder: Path, by: str) -> tuple[float, float, int]:
    """Seconds, peak memory in bytes, and the pictures that were counted."""
    command = [sys.executable, "-m", "ferkit", "summarize", str(folder), "--by", by, "--json"]
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output, subprocess.Popen(command, stdout=output) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        output.seek(0)
        if process.returncode:
            sys.exit(f"ferkit summarize ended with {process.returncode}.")
        return seconds, usage.ru_maxrss * 1024, int(json.load(output)["pictures"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000, 100_000_000])
    parser.add_argument("--write", action="store_true", help="write benchmarks/SUMMARIZE.md")
    options = parser.parse_args()
    command = f"python benchmarks/summarize.py --rows {' '.join(map(str, options.rows))}"
    text = _PAGE.format(command=command, cores=os.cpu_count())
    print(text, end="")
    for rows in options.rows:
        with tempfile.TemporaryDirectory() as place:
            count, parts = make_table(Path(place), rows)
            for by in _BY:
                seconds, peak, pictures = summarized(Path(place), by)
                if pictures != parts * _PICTURES:
                    sys.exit(f"{pictures:,} pictures were counted. There are {parts * _PICTURES:,}.")
                line = (
                    f"| {count:,} | {pictures:,} | {parts:,} | `{by}` | {seconds:.1f} | {count / seconds:,.0f} "
                    f"| {peak / 1e6:.0f} MB |\n"
                )
                print(line, end="", flush=True)
                text += line
    if options.write:
        Path(__file__).with_name("SUMMARIZE.md").write_text(text)


if __name__ == "__main__":
    main()
