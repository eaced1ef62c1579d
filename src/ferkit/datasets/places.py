"""Where faces stand in their source, in words that lead a person to them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ferkit.datasets.folders import place
from ferkit.datasets.readers import READERS, open_source
from ferkit.errors import DatasetError


def places(source: str | Path, rows: npt.NDArray[np.int64]) -> list[str]:
    """The path of each picture in its folder or archive; of tables "row 17": of a CSV as an editor numbers lines.

    rows: int64 (N,), as `FaceSet.rows` has them. Raises `DatasetError` if the source changed since.
    """
    found = open_source(Path(source).expanduser())
    form = next((name for name, reader in READERS.items() if reader.recognise(found)), "")
    if form != "folders":
        first = 2 if form == "csv" else 1  # behind the header, counted from 1
        return [f"row {row + first}" for row in rows]
    names: Sequence[str] = [one.name for one in place(found, [])]
    if len(rows) and int(rows.max()) >= len(names):
        raise DatasetError(f"{source} has fewer pictures than when it was read. Run again.")
    return [names[row] for row in rows]
