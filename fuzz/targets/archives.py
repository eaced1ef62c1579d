"""Archives of pictures in class folders, and lists: as data sets are read, and as a batch lists and opens them."""

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable

import numpy as np

from dataset_files import fer_tree, png, random_faces
from ferkit.data.pictures import Shaper
from ferkit.data.readers import read_source
from ferkit.sources import list_references
from fuzz.judge import (
    Choices,
    Finding,
    changed,
    check_message,
    listed,
    refusals_allowed,
    scratch,
    sized,
    tabled,
    zipped,
)

WORDS = (b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07", b"\x01\0\x20\0", b"ustar\x0000", b"ustar  \0",
         b"../", b"/etc/passwd", b"C:\\", b"\\..\\", b"happy/a.png", b"train/", b"path=", b"size=", b"linkpath=",
         b"GNU.sparse.map=", b"GNU.sparse.major=1", b"GNU.sparse.minor=0", b"GNU.sparse.realsize=", b"hdrcharset=BINARY",
         b"././@LongLink", b"././@PaxHeader", b"\xff\xff\xff\xff", b".DS_Store", b"__MACOSX/", b"\n")  # fmt: skip
LONGEST = 16384

FACE = png(random_faces(1, side=4)[0])
CONTENTS = (FACE, b"", b"no picture", FACE[:40])
NAMES = ("happy/1.png", "sad/2.png", "train/happy/3.png", "test/sad/4.png", "../5.png", "/6.png", "a\\..\\7.png", "8.png",
         "x/fer.csv", "C:9.png", "happy/./10.png", "happy//11.png", ".hidden/12.png", "a\n/13.png", "\x1b[2J/14.png")  # fmt: skip
TYPES = (tarfile.REGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE,
         tarfile.FIFOTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE,
         tarfile.XGLTYPE, b"?")  # fmt: skip


def seeds() -> dict[str, bytes]:
    files = {"happy/1.png": FACE, "sad/2.png": FACE}
    tar = _tar(files)
    sparse = _tar({"happy/1.png": FACE}, pax={"GNU.sparse.map": "0,4", "GNU.sparse.size": "9", "comment": "x"})
    return {
        "zip": b"\0" + zipped(files),
        "zip stored": b"\0" + zipped(files, zipfile.ZIP_STORED),
        "zip bzip2": b"\0" + zipped(files, zipfile.ZIP_BZIP2),
        "zip lzma": b"\0" + zipped(files, zipfile.ZIP_LZMA),
        "zip with splits": b"\0" + zipped(dict(list(fer_tree(1).items())[:4])),
        "zip with a list": b"\0" + zipped({"1.png": FACE, "2.png": FACE, "labels.csv": b"filename,label\n1.png,sad\n2.png,happy\n"}),
        "zip of RAF-DB": b"\0" + zipped({"train_1_aligned.png": FACE, "list_patition_label.txt": b"train_1.png 4\n"}),
        "zip of AffectNet": b"\0" + zipped({"images/1.jpg": FACE, "annotations/1_exp.npy": _npy(3)}),
        "zip of FER+": b"\0" + zipped({"FER2013Test/1.png": FACE, "FER2013Test/label.csv": b'1.png,"(0, 0, 4, 4)",9,0,0,0,0,0,0,0,1,0\n'}),
        "zip of CK+": b"\0" + zipped({"S005_001_00000001.png": FACE, "S005_001_00000001_emotion.txt": b" 3.0e+00\n"}),
        "tar": b"\1" + tar,
        "tar repaired": b"\2" + tar,
        "tar long name": b"\2" + _tar({"happy/" + "a" * 120 + ".png": FACE}, form=tarfile.GNU_FORMAT),
        "tar pax": b"\2" + sparse,
        "tar global pax": b"\2" + _tar(files, pax={"path": "sad/7.png"}),
        "tgz": b"\3" + tar,
        "tgz as packed": b"\4" + gzip.compress(tar),
        "made zip": b"\5" + b"\2" + b"".join(bytes([name, 0, 0, 0]) for name in (0, 1, 4)),
        "made tar": b"\6" + b"\3" + b"".join(bytes([name, 0, kind, 0]) + sized(b"") for name, kind in ((0, 0), (1, 2), (2, 1))),
        "list": b"\7" + b"a.jpg\n/b/c.png\r\n../d.webp\nfaces.zip\nno.parquet\n",
    }  # fmt: skip


def _npy(value: int) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array(str(value)))
    return stream.getvalue()


def look(data: bytes) -> None:
    choices = Choices(data)
    kind = choices.number(8)
    if kind == 7:
        _list(choices.bytes())
        return
    make: tuple[tuple[str, Callable[[Choices], bytes]], ...] = (
        (".zip", Choices.bytes),
        (".tar", Choices.bytes),
        (".tar", lambda rest: with_checksums(rest.bytes())),
        (".tar.gz", lambda rest: gzip.compress(with_checksums(rest.bytes()), 1)),
        (".tar.gz", Choices.bytes),
        (".zip", made_zip),
        (".tar", made_tar),
    )
    suffix, build = make[kind]
    path = scratch(f"faces{suffix}", build(choices))
    with refusals_allowed():
        tabled(read_source(path, Shaper.of((4, 4), None)))
    with refusals_allowed():
        for name, picture in listed(path):
            if picture.problem is None and (picture.source is None or isinstance(picture.source, str)):
                raise Finding(f"the member {name!r} became the path {picture.source!r}")


def _list(content: bytes) -> None:
    # An address would be asked for over a network.
    path = scratch("list.txt", content.replace(b"://", b":/"))
    with refusals_allowed():
        for reference in list_references(str(path)):
            if reference.problem is not None:
                check_message(reference.problem)


def made_zip(choices: Choices) -> bytes:
    """A zip of up to six members whose names, modes and headers are chosen, and a few bytes changed."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for _ in range(choices.number(6)):
            member = zipfile.ZipInfo(choices.one_of(NAMES))
            member.external_attr = choices.one_of((0o100644, 0o120777, 0o040755, 0o020666)) << 16
            member.compress_type = choices.one_of((zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_BZIP2))
            archive.writestr(member, choices.one_of(CONTENTS))
    return changed(file.getvalue(), choices)


def made_tar(choices: Choices) -> bytes:
    """A tar of up to six members: types, links and extended headers are chosen, checksums are right."""
    blocks = b""
    for _ in range(choices.number(6)):
        member = tarfile.TarInfo(choices.one_of(NAMES))
        content = choices.one_of(CONTENTS)
        member.type, member.size = choices.one_of(TYPES), len(content)
        member.linkname = choices.one_of(("", "happy/1.png", "/etc/passwd", "../../x"))
        member.pax_headers = dict(part.split("=", 1) for part in choices.text(300).split("\n") if "=" in part)
        try:
            blocks += member.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape")
        except (ValueError, UnicodeError):
            continue
        blocks += content + bytes(-len(content) % 512)
    return blocks + bytes(1024)


def with_checksums(data: bytes) -> bytes:
    """A tar in which every block that looks like a header has the checksum that it should."""
    fixed = bytearray(data)
    for at in range(0, len(fixed) - 511, 512):
        if fixed[at + 257 : at + 262] == b"ustar":
            fixed[at + 148 : at + 156] = b" " * 8
            total = sum(struct.unpack_from("512B", fixed, at))
            fixed[at + 148 : at + 156] = b"%06o\0 " % total
    return bytes(fixed)


def _tar(files: dict[str, bytes], pax: dict[str, str] | None = None, form: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.pax_headers = len(content), pax or {}
            archive.addfile(member, io.BytesIO(content))
    data = file.getvalue()
    return data[: len(data.rstrip(b"\0")) // 512 * 512 + 1536]
