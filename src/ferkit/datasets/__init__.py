"""Data sets of faces: readers for every form they come in, splits, duplicates."""

from pathlib import Path

from ferkit.datasets import csv_reader
from ferkit.datasets.cache import cached_table
from ferkit.datasets.records import Broken, Dataset, FaceSet, Findings, concatenate
from ferkit.datasets.sources import checksum, missing, open_stream
from ferkit.datasets.splits import SPLITS, make_dataset
from ferkit.datasets.table import Progress, Reading
from ferkit.errors import DatasetError, UsageError
from ferkit.labels import EMOTIONS

__all__ = ["SPLITS", "Broken", "Dataset", "FaceSet", "Findings", "concatenate", "load_dataset"]


def load_dataset(
    source: str | Path,
    *,
    split: str = "official",
    drop_duplicates: bool = False,
    votes: str | Path | None = None,
    skip_broken: bool = False,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    seed: int = 42,
    progress: Progress | None = None,
) -> Dataset:
    """Load labelled faces; the second load of a source comes from the cache.

    >>> dataset = ferkit.load_dataset("fer2013.csv")  # doctest: +SKIP
    """
    path = Path(source).expanduser()
    if not path.exists():
        raise missing(path)
    if split not in SPLITS:
        raise UsageError(f"Unknown split {split!r}. Choices: {', '.join(SPLITS)}.")

    def read() -> Reading:
        return Reading(EMOTIONS, _csv(path), path.stat().st_size)

    table = cached_table(f"csv:{checksum(path)}", read, progress)
    if table.broken and not skip_broken:
        first = table.broken[0]
        raise DatasetError(
            f"{path}, {first.where}: {first.reason}. To leave such rows out, use --skip-broken (skip_broken=True)."
        )
    return make_dataset(table, str(source), split=split, drop_duplicates=drop_duplicates, seed=seed)


def _csv(path):  # type: ignore
    from dataclasses import replace

    with open_stream(path) as (stream, position):
        columns = csv_reader.parse_header(stream.readline())
        if columns is None:
            raise DatasetError(f"{path}: the header was not recognised. Expected 'emotion,pixels,Usage'.")
        for batch in csv_reader.read_batches(stream, columns):
            yield replace(batch, done=position())
