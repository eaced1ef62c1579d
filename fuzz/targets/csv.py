"""CSV of pixels (plain, packed, damaged where packed) and of votes, through `load_table` and `join_votes`."""

import bz2
import functools
import gzip
import lzma
from collections.abc import Callable

from dataset_files import HEADER, random_faces, row
from ferkit.data.loading import load_table
from ferkit.data.pictures import Shaper
from ferkit.data.readers import read_source
from ferkit.data.records import FaceTable
from ferkit.data.votes import join_votes
from fuzz.judge import Choices, Finding, refusals_allowed, scratch, tabled

WORDS = (b"emotion,pixels,Usage\n", b"emotion", b"pixels", b"Usage", b"Training", b"PublicTest", b"PrivateTest",
         b"\xef\xbb\xbf", b"255", b"256", b",", b"\n", b"\r\n", b'"', b" 0 0 0", b"-1", b"1e3", b"angry",
         b"neutral,happiness,surprise,sadness,anger,disgust,fear", b"nan", b"inf", b"\x1f\x8b\x08")  # fmt: skip
LONGEST = 6000

PACKED: tuple[Callable[[bytes], bytes], ...] = (bytes, gzip.compress, bz2.compress, lzma.compress)
VOTES = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"


def seeds() -> dict[str, bytes]:
    faces = random_faces(3, side=3)
    rows = [row(face, label, "Training" if label else "PublicTest") for label, face in enumerate(faces)]
    text = "\n".join([HEADER, *rows, ""]).encode()
    found = {f"packing {number}": bytes([number]) + text for number in range(len(PACKED))}
    found |= {
        "as it is packed": bytes([4]) + gzip.compress(text),
        "two members": bytes([4]) + gzip.compress(text[:50]) + gzip.compress(text[50:]),
        "other columns": bytes([0]) + b"Usage,pixels,emotion,x\r\nTraining,1 2 3 4,sad,?\r\n",
        "no usage": bytes([0]) + b"\xef\xbb\xbfemotion,pixels\n6,1 2 3 4\n0,4 3 2 1",
        "size asked for": bytes([5]) + text,
        "votes": bytes([6]) + f"{VOTES}\n".encode() + b"Training,a,1,2,3,0,0,0,1,0,0,0\n" * 2,
        "no votes": bytes([6]) + f"{VOTES}\n".encode() + b"Training,a,0,0,0,0,0,0,0,0,0,9\n" * 2,
    }
    return found


def look(data: bytes) -> None:
    choices = Choices(data)
    kind, content = choices.number(7), choices.bytes()
    if kind == 6:
        _votes(content)
        return
    packed = PACKED[kind](content) if kind < len(PACKED) else content
    path = scratch("faces.csv.gz" if kind in (1, 4) else "faces.csv", packed)
    with refusals_allowed():
        shaper = Shaper.of((2, 3), 3) if kind == 5 else Shaper.of(None, None)
        faces = tabled(read_source(path, shaper))
        if kind == 5 and faces and (faces != {(2, 3, 3)}):
            raise Finding(f"faces of {faces}, asked for 2x3 in colour")


def _votes(content: bytes) -> None:
    with refusals_allowed():
        votes, _ = join_votes(_table(), scratch("votes.csv", content), "faces.csv")
        sums = votes.targets.sum(axis=1)
        if votes.targets.shape != (2, 7) or not (abs(sums - 1) < 1e-5).all():
            raise Finding(f"targets {votes.targets.shape} of sums {sums}")


@functools.cache
def _table() -> FaceTable:
    return load_table(scratch("of_votes.csv", f"{HEADER}\n0,1 2 3 4,Training\n1,4 3 2 1,Training\n".encode()))
