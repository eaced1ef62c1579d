"""The commands that are disturbed: how they are started, how they are gone on with, and what must come out."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from whole import is_draft

from ferkit.models.classifier import EmotionClassifier
from ferkit.models.export_formats import stored_faces

_PATIENCE_S = 300


@dataclass(frozen=True)
class Place:
    """Where one trial works: `out` and `cache` must stay whole, `tmp` the system may throw away."""

    root: Path
    material: Path

    def make(self) -> "Place":
        for name in ("out", "cache", "tmp"):
            (self.root / name).mkdir(parents=True)
        return self

    @property
    def kept(self) -> tuple[Path, Path]:
        return self.root / "out", self.root / "cache"

    def environment(self) -> dict[str, str]:
        found = {name: value for name, value in os.environ.items() if not name.startswith(("FERKIT_", "STRESS_"))}
        own = {"FERKIT_CACHE": str(self.root / "cache"), "TMPDIR": str(self.root / "tmp"), "FERKIT_OFFLINE": "1"}
        return found | own


@dataclass(frozen=True)
class Job:
    """A command.

    words: after `ferkit`, with {material} and {out} to fill in. resumed: words that a next start adds. expected: its exit
    code. outcome: by name, what an undisturbed run leaves; compared with what a disturbed one does.
    """

    name: str
    words: str
    outcome: Callable[[Path], dict[str, Any]]
    resumed: str = ""
    expected: int = 0

    def command(self, place: Place, *, again: bool = False) -> list[str]:
        words = f"{self.words} {self.resumed if again else ''}".split()
        filled = [word.format(material=place.material, out=place.root / "out") for word in words]
        return [sys.executable, "-m", "ferkit", *filled]

    def start(
        self, place: Place, *, again: bool = False, more: Mapping[str, str] | None = None
    ) -> "subprocess.Popen[str]":
        """In a session of its own, which can be killed as a whole."""
        return subprocess.Popen(
            self.command(place, again=again),
            env=place.environment() | dict(more or {}),
            cwd=place.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def next_start(self, place: Place) -> tuple[int, str, str]:
        """What a person does after a crash: exit code, how it was started, what it said.

        Where there was nothing to go on with, the command says so, and what to do.
        """
        process = self.start(place, again=True)
        errors = process.communicate(timeout=_PATIENCE_S)[1]
        how = "resumed" if self.resumed else "same command"
        if process.returncode == 1 and "Start it without --resume" in errors:
            process = self.start(place)
            errors = process.communicate(timeout=_PATIENCE_S)[1]
            how = "begun anew"
        return process.returncode, how, errors


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not is_draft(path))


def _arrays(path: Path) -> str:
    with np.load(path, allow_pickle=False) as stored:
        return digest(b"".join(stored[name].tobytes() for name in sorted(stored.files) if name != "meta"))


def _answers(model: Path) -> str:
    """To the bit, on one thread, for so sums are always formed in the same order."""
    classifier = EmotionClassifier.load(model, threads=1)
    return digest(classifier.predict_proba(stored_faces(classifier.face_input, 64)).tobytes())


def _trained(out: Path) -> dict[str, Any]:
    folder = out / "run"
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    header, *rows = (folder / "history.csv").read_text(encoding="utf-8").splitlines()
    timed = [number for number, name in enumerate(header.split(",")) if name in ("seconds", "faces_per_second")]
    history = [[cell for number, cell in enumerate(row.split(",")) if number not in timed] for row in rows]
    return {
        "last.npz": _arrays(folder / "checkpoints" / "last.npz"),
        "best.npz": _arrays(folder / "checkpoints" / "best.npz"),
        "history": history,
        "metrics": card["metrics"],
        "answers": _answers(folder),  # names of nodes in model.onnx depend on what was made before it
        "files": _names(folder),
    }


def _evaluated(out: Path) -> dict[str, Any]:
    page = (out / "report" / "index.html").read_text(encoding="utf-8")
    figures = out / "report" / "figures"
    found = {name: digest((figures / name).read_bytes()) for name in _names(figures)}
    report = json.loads((out / "report" / "report.json").read_text(encoding="utf-8"))
    return found | {
        "report.json": report | {"faces_per_second": None},
        "index.html": digest(re.sub(r"[\d,]+ faces per second", "", page).encode()),
    }


def _rows(out: Path) -> dict[str, Any]:
    parts = sorted((out / "table").glob("part-*.parquet"))
    # As JSON, for NaN equals NaN there.
    return {path.name: json.dumps(pq.read_table(path).to_pylist()) for path in parts} | {
        "left behind": sorted(path.name for path in (out / "table" / "_job" / "begun").iterdir())
    }


def _exported(name: str) -> Callable[[Path], dict[str, Any]]:
    def outcome(out: Path) -> dict[str, Any]:
        return {"answers": _answers(out / name), "files": _names(out)}

    return outcome


_EXPORT = "export default {{out}}/{file} --format {format}"
_FILES = {"onnx": "a.onnx", "onnx-int8": "b.onnx", "litert": "c.tflite", "keras": "d.keras", "h5": "e.h5"}

# By command; where there are several, they take turns.
JOBS: dict[str, list[Job]] = {
    "train": [
        Job(
            "train",
            "train {material}/faces.csv --epochs 3 --batch-size 64 --out {out}/run",
            _trained,
            resumed="--resume",
        )
    ],
    "evaluate": [
        Job("evaluate", "evaluate default {material}/faces.csv --split PublicTest --report {out}/report", _evaluated)
    ],
    "batch": [
        Job(
            "batch",
            "batch {material}/pictures {out}/table --detector haar --part-size 4 --workers 2",
            _rows,
            expected=1,  # a few of its pictures cannot be read
        )
    ],
    "export": [
        Job(f"export {name}", _EXPORT.format(file=file, format=name), _exported(file)) for name, file in _FILES.items()
    ],
}
