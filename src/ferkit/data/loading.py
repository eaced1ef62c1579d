"""Where faces stand in their source, in words that lead a person to them.

`load_dataset`: any source of labelled faces, in one call.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ferkit.data.cache import cached_table, load_cached
from ferkit.data.folders import place
from ferkit.data.pictures import Shaper
from ferkit.data.readers import READERS, CsvReader, open_source, read_source
from ferkit.data.records import Broken, Dataset, FaceTable, Progress
from ferkit.data.splits import SPLITS, make_dataset
from ferkit.data.votes import join_votes, relabelled
from ferkit.errors import DatasetError, UsageError, count
from ferkit.sources import checksum, is_address, is_folder, is_there, missing


def places(source: str | Path, rows: npt.NDArray[np.int64]) -> list[str]:
    """The path of each picture in its folder or archive; of tables "row 17": of a CSV as an editor numbers lines.

    rows: int64 (N,), as `FaceSet.rows` has them. Raises `DatasetError` if the source changed since.
    """
    found = open_source(_located(source))
    form = next((name for name, reader in READERS.items() if reader.recognise(found)), "")
    if form != "folders":
        reader = READERS[form]
        first = reader.first_line(found) if isinstance(reader, CsvReader) else 1  # counted from 1
        return [f"row {row + first}" for row in rows]
    names: Sequence[str] = [one.name for one in place(found, []).placed]
    if len(rows) and int(rows.max()) >= len(names):
        raise DatasetError(f"{source} has fewer pictures than when it was read. Run again.")
    return [names[row] for row in rows]


def load_dataset(
    source: str | Path,
    *,
    split: str = "official",
    drop_duplicates: bool = False,
    votes: str | Path | None = None,
    truth: str = "labels",
    skip_broken: bool = False,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    seed: int = 42,
    progress: Progress | None = None,
) -> Dataset:
    """Load labelled faces; a second load of the same source comes from the cache, memory-mapped.

    Args:
        source: A path or an address such as `s3://bucket/faces.zip`: a FER-2013 CSV (plain or compressed), a folder of
            class folders with or without train, val and test above, Parquet with encoded pictures, or a .zip or
            .tar(.gz) of one of them, read without unpacking to disk.
        split: "official" keeps the published splits (a set without any is split at random); "random" is 80 % train and
            20 % val over all faces, in each class.
        drop_duplicates: Leave out training faces whose pixels also stand in a held-out split, and all but the first of
            identical training faces.
        votes: FER+ votes CSV, one row per row of a FER-2013 CSV in the same order; fills `FaceSet.votes`.
        truth: "labels" of the source, or "ferplus": the majority of `votes` among FER+'s eight classes, contempt the
            last, without faces that have none.
        skip_broken: Leave out rows or pictures that cannot be read (`Dataset.broken` lists them) instead of raising.
        size: (height, width) in pixels. Without it a CSV keeps its own; pictures keep the size that they share if it is
            at most 224, else become 48x48.
        channels: 1 for grayscale (the default) or 3 for RGB.
        seed: For random splits.
        progress: Called now and then with what is being done, how much is done and how much there is.

    Returns:
        The faces by split.

    Raises:
        DatasetError: It cannot be read; the message names the file, the row or picture, what came and what was
            expected.

    Example:
        >>> dataset = ferkit.load_dataset("fer2013.csv")  # doctest: +SKIP
        >>> dataset.train.images.shape, dataset.train.classes[3]  # doctest: +SKIP
        ((28709, 48, 48, 1), 'happy')
    """
    if split not in SPLITS:
        raise UsageError(f"Unknown split {split!r}. Choices: {', '.join(SPLITS)}.")
    if channels not in (None, 1, 3):
        raise UsageError(f"channels must be 1 (gray) or 3 (RGB). Received: {channels}.")
    if size is not None and not (len(size) == 2 and all(1 <= side <= 2048 for side in size)):
        raise UsageError(f"size must be (height, width), each from 1 to 2048 pixels. Received: {size}.")
    if truth not in ("labels", "ferplus"):
        raise UsageError(f"truth of loaded faces must be labels or ferplus. Received: {truth!r}.")
    if truth == "ferplus" and votes is None:
        raise UsageError("truth ferplus is made of the votes: add --votes FILE (votes=).")
    path = _located(source)
    table = load_table(path, size=size, channels=channels, progress=progress)
    if table.broken and not skip_broken:
        raise broken_error(path, table.broken)
    soft, notes = None, []
    if votes is not None and truth == "ferplus":
        table, soft, note = relabelled(table, Path(votes).expanduser(), str(source))
        notes.append(note)
    elif votes is not None:
        soft, note = join_votes(table, Path(votes).expanduser(), str(source))
        notes.append(note)
    if table.broken:
        n = len(table.broken)
        notes.append(f"{count(n, f'invalid {table.broken[0].kind}')} {'was' if n == 1 else 'were'} left out.")
    return make_dataset(
        table,
        str(source),
        split=split,
        drop_duplicates=drop_duplicates,
        votes=soft,
        notes=notes,
        seed=seed,
        truth=truth,
    )


def _located(source: str | Path) -> str:
    text = os.fsdecode(source).removeprefix("file://")
    return text if is_address(text) else str(Path(text).expanduser())


def load_table(
    path: str | Path,
    *,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    progress: Progress | None = None,
) -> FaceTable:
    """All faces of a source before splitting, from the cache if it was read before."""
    path = _located(path)
    if not is_there(path):
        raise missing(path)
    versions = ",".join(f"{name}{reader.version}" for name, reader in READERS.items())
    # A folder is known by its listing only, so the same listing elsewhere may hold other pictures.
    where = os.path.realpath(path) if is_folder(path) and not is_address(path) else ""
    key = f"{checksum(path)}:{where}:{versions}:{channels or 1}"
    if size is not None:
        # A model asks for its own size, which mostly is the one that the source has anyway.
        native = load_cached(key)
        if native is not None and native.images.shape[1:3] == tuple(size):
            return native
        key += f":{size[0]}x{size[1]}"
    return cached_table(key, lambda: read_source(path, Shaper.of(size, channels)), progress)


def broken_error(path: str | Path, broken: Sequence[Broken]) -> DatasetError:
    """The error for a source with invalid rows or images: names the first, counts the others."""
    first = broken[0]
    more = f" ({len(broken) - 1:,} more invalid)" if len(broken) > 1 else ""
    return DatasetError(
        f"{path}, {first.where}: {first.reason}{more}. Repair it, or leave it out with --skip-broken "
        "(skip_broken=True)."
    )
