"""Small data sets on disk, in every form that ferkit reads."""

import gzip
import io
import tarfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

HEADER = "emotion,pixels,Usage"


def random_faces(count: int, side: int = 48, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 1), dtype=np.uint8)


def row(face: np.ndarray, label: object = 0, usage: str = "Training") -> str:
    return f"{label},{' '.join(map(str, face.ravel().tolist()))},{usage}"


def rows_of(count: int, side: int = 48, seed: int = 0, heldout_from: int | None = None) -> list[str]:
    """`count` rows with labels 0..6 in turn; the last third is PublicTest."""
    heldout_from = count * 2 // 3 if heldout_from is None else heldout_from
    faces = random_faces(count, side, seed)
    return [row(face, i % 7, "Training" if i < heldout_from else "PublicTest") for i, face in enumerate(faces)]


def write_csv(path: Path, rows: Sequence[str], header: str = HEADER, end: str = "\n") -> Path:
    data = (end.join([header, *rows]) + end).encode()
    path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)
    return path


def png(face: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(face[..., 0] if face.shape[2] == 1 else face).save(file, "png")
    return file.getvalue()


def pictures(counts: Mapping[str, int], side: int = 48, prefix: str = "") -> dict[str, bytes]:
    """folder -> how many different pictures; gives name -> content."""
    faces = iter(random_faces(sum(counts.values()), side))
    return {f"{folder}/{prefix}{i}.png": png(next(faces)) for folder, n in counts.items() for i in range(n)}


def write_tree(root: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def write_zip(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_tar(path: Path, files: Mapping[str, bytes], links: Iterable[str] = ()) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(member)
    return path


EMOTION_FOLDERS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


def fer_tree(per_class: int = 3, splits: Sequence[str] = ("train", "test")) -> dict[str, bytes]:
    return pictures({f"{split}/{name}": per_class for split in splits for name in EMOTION_FOLDERS}, side=12)
