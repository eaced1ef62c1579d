"""Is every file that bears its final name whole? What is still being written bears the name of a draft."""

import csv
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import PIL.Image
import pyarrow.parquet as pq

from ferkit.models.model_folder import sha256

# `.name.0123abcd.suffix` of `ferkit._support.files`, and `.name.suffix.4711` of the markers of a batch job.
_DRAFT = re.compile(r"^\..+(\.[0-9a-f]{8}(\.[^.]*)?|\.\d+)$")


def is_draft(path: Path) -> bool:
    return bool(_DRAFT.match(path.name))


def files_of(place: Path) -> list[Path]:
    return sorted(path for path in place.rglob("*") if path.is_file())


def drafts_of(place: Path) -> list[Path]:
    return [path for path in files_of(place) if is_draft(path)]


def problems_of(*places: Path) -> list[str]:
    """One line per file that is not what its name says, and per checksum of a card that does not hold."""
    return [line for place in places for path in files_of(place) if not is_draft(path) for line in _problems(path)]


def _problems(path: Path) -> Iterator[str]:
    if path.name in _EMPTY or path.name.startswith("events.out.tfevents"):
        return  # the latter is a log that only grows: its readers stop at what is cut short
    if path.suffix not in _CHECKS:
        yield f"{path.name}: nobody knows what it is"
        return
    try:
        _CHECKS[path.suffix](path)
    except Exception as problem:  # whatever a reader has against it
        yield f"{path.name}: {type(problem).__name__}: {str(problem)[:200]}"


def _json(path: Path) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    for name, expected in document["sha256"].items() if path.name == "card.json" else ():
        if sha256(path.parent / name) != expected:
            raise ValueError(f"{name} is not the file of this card")


def _csv(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    widths = {len(row) for row in csv.reader(text.splitlines())}
    if len(widths) != 1 or not text.endswith("\n"):
        raise ValueError(f"rows of {sorted(widths)} cells, or a last row that is cut short")


def _arrays(path: Path) -> None:
    with np.load(path, allow_pickle=False) as stored:
        for name in stored.files:
            stored[name]


def _picture(path: Path) -> None:
    with PIL.Image.open(path) as picture:
        picture.load()


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        bad = archive.testzip()
    if bad:
        raise ValueError(f"{bad} in it is damaged")


def _litert(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(8)[4:] != b"TFL3":
            raise ValueError("no LiteRT file")
    _zip(path)  # its card lies behind the network, as an archive


def _hdf5(path: Path) -> None:
    import h5py

    with h5py.File(path) as file:
        file.visititems(lambda _, item: item[...] if isinstance(item, h5py.Dataset) else None)


def _text(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if not text.endswith(("</html>", "</html>\n") if path.suffix == ".html" else "\n"):
        raise ValueError("the text is cut short")


_CHECKS: dict[str, Callable[[Path], object]] = {
    ".json": _json,
    ".jsonl": lambda path: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()],
    ".csv": _csv,
    ".npz": _arrays,
    ".npy": lambda path: np.load(path, allow_pickle=False),
    ".parquet": pq.read_table,
    ".onnx": lambda path: onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]),
    ".keras": _zip,
    ".tflite": _litert,
    ".h5": _hdf5,
    ".png": _picture,
    ".jpg": _picture,
    ".html": _text,
    ".md": _text,
}
_EMPTY = (".lock", "lock")  # held by the system
