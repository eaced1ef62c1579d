"""What model files hold, looked up without opening a network: sizes before memory is taken, and operators of LiteRT."""

import io
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ferkit.errors import ModelError

# The largest networks of Keras take 0.5 GB. Loading takes about twice the size in memory.
MAX_MODEL_BYTES = 1 << 30
# What Keras compresses hardly shrinks. A ratio beyond this above a size is a bomb, or a network of zeros.
_FREE_BYTES, _MAX_RATIO = 1 << 26, 20
MAX_CARD_BYTES = 1 << 22


def check_file_size(path: Path, limit: int = MAX_MODEL_BYTES) -> None:
    """Reject a file by its size; a file that is not there passes.

    Raises:
        ModelError: It is larger than `limit`.
    """
    size = path.stat().st_size if path.is_file() else 0
    if size > limit:
        raise ModelError(f"{path} has {size:,} bytes. Expected at most {limit:,}.")


def check_unpacked_size(path: Path) -> None:
    """Reject a `.keras` or `.h5` file by the size of what is packed in it; damaged files pass, for their readers.

    Raises:
        ModelError: Unpacked, it is larger than `MAX_MODEL_BYTES`, or far larger than the file; or it keeps weights in
            other files.
    """
    check_file_size(path)
    most = min(MAX_MODEL_BYTES, max(_FREE_BYTES, _MAX_RATIO * path.stat().st_size)) if path.is_file() else 0
    try:
        for what, size in _unpacked(path, most):
            if size > most:
                raise ModelError(f"{path}: {what} would take {size:,} bytes in memory. Expected at most {most:,}.")
    except (ModelError, AttributeError):  # the latter: an h5py that is too old to look
        raise
    except Exception:  # zipfile and HDF5 meet damaged data with nearly any exception; whoever opens it says so
        return


def _unpacked(path: Path, most: int) -> Iterator[tuple[str, int]]:
    if path.suffix.lower() != ".keras":
        yield "its weights", _stored(path)
        return
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        yield "what is packed in it", sum(one.file_size for one in members)
        for one in members:
            if one.filename.lower().endswith((".h5", ".hdf5")):
                # HDF5 packs once more. What was just counted is safe to hold.
                yield "its weights", _stored(io.BytesIO(archive.read(one)))


_OTHER_FILES = "The model keeps weights in other files, which ferkit does not open. Save it again with Keras."


def _stored(file: Any) -> int:
    """Bytes of all arrays of an HDF5 file, which may be compressed, or stated and absent.

    HDF5 can also refer to other files, by links and for the bytes of an array: these raise `ModelError`.
    """
    import h5py  # comes with Keras

    total = 0

    # A visit ends at the first result; h5py lets no exception through.
    def add(_: str, item: Any) -> bool | None:
        nonlocal total
        if isinstance(item, h5py.Dataset):
            total += int(item.size or 0) * item.dtype.itemsize
            return True if item.external or item.is_virtual else None
        return None

    def look(_: str, link: Any) -> bool | None:
        return True if isinstance(link, h5py.ExternalLink) else None

    with h5py.File(file, "r") as opened:
        if opened.visititems_links(look) or opened.visititems(add):
            raise ModelError(_OTHER_FILES)
    return total


# Tables of LiteRT's schema: https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs
_OPERATOR_CODES, _KNOWN_FIELDS = 1, 8  # behind the known ones: weights in other files
_OLD_CODE, _CUSTOM_NAME, _CODE = 0, 1, 3
_CUSTOM = 32


def refuse_operators(path: Path, data: bytes) -> None:
    """Reject a `.tflite` file whose operators are not LiteRT's own, or with weights in other files.

    Flex operators run TensorFlow's, which read and write files. What they are called does not matter: the interpreter
    inside TensorFlow links them to any model, before it is run.

    Raises:
        ModelError: It has such an operator, or is not a LiteRT file.
    """
    try:
        (root,) = struct.unpack_from("<I", data)
        fields = _table(data, root)
        outside = any(fields[_KNOWN_FIELDS:])
        name = next(_custom(data, fields[_OPERATOR_CODES]), None) if len(fields) > _OPERATOR_CODES else None
    except struct.error as problem:
        raise ModelError(f"{path} is not a network that LiteRT can run.") from problem
    if outside:
        raise ModelError(f"{path} keeps weights in other files, which ferkit does not open. Convert it to one file.")
    if name is not None:
        raise ModelError(
            f"{path} has an operator that is not LiteRT's own ({name}), which may open files. Convert it again with "
            "built-in operators only."
        )


def _custom(data: bytes, vector: int) -> Iterator[str]:
    """Names of the operators that are not built in. vector: where that of the operator codes is referred to."""
    if not vector:
        return
    vector += struct.unpack_from("<I", data, vector)[0]
    (count,) = struct.unpack_from("<I", data, vector)
    for place in range(vector + 4, vector + 4 + 4 * count, 4):
        fields = [*_table(data, place + struct.unpack_from("<I", data, place)[0]), 0, 0, 0, 0]
        old = struct.unpack_from("<b", data, fields[_OLD_CODE])[0] if fields[_OLD_CODE] else 0
        code = struct.unpack_from("<i", data, fields[_CODE])[0] if fields[_CODE] else 0
        if fields[_CUSTOM_NAME] or _CUSTOM in (old, code):
            yield _text(data, fields[_CUSTOM_NAME]) if fields[_CUSTOM_NAME] else "without a name"


def _table(data: bytes, at: int) -> list[int]:
    """Where the fields of a table are, by number; 0 for those that it lacks."""
    fields = at - struct.unpack_from("<i", data, at)[0]
    if fields < 0:
        raise struct.error("a table before the file")
    size = struct.unpack_from("<H", data, fields)[0] // 2 - 2
    return [at + offset if offset else 0 for offset in struct.unpack_from(f"<{max(size, 0)}H", data, fields + 4)]


def _text(data: bytes, at: int) -> str:
    at += struct.unpack_from("<I", data, at)[0]
    (length,) = struct.unpack_from("<I", data, at)
    return repr(data[at + 4 : at + 4 + min(length, 40)].decode("utf-8", "replace"))
